//! One process: a disk, a store on it, a replicator, and what it was told to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use kinlog_feeds::bitfield::Bitfield;
use kinlog_feeds::replicate::{Config, HeadState, Interest, PeerId, Replicator};
use kinlog_feeds::store::{Feed, Kind, Options, Role, Store};
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::{FeedKey, Time};
use kinlog_indexer::Index;
use kinlog_indexer::index::{Block, StoreTrees};
use testkit::disk::{CrashDisk, CrashPolicy, Cuts, FaultDisk};
use testkit::work::{Work, feed_state};

use crate::mistakes::Injected;
use crate::network::Encoded;
use crate::plan::Plan;
use crate::rooms;

/// A node, running or not.
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) disk: CrashDisk,
    pub(crate) running: Option<Running>,
    /// Counts the starts: what was meant for an earlier one does not reach a later one.
    pub(crate) life: u64,
    pub(crate) interests: BTreeMap<FeedKey, Interest>,
    /// Which feeds which peers may not have.
    pub(crate) refused: BTreeMap<usize, BTreeSet<FeedKey>>,
    pub(crate) bans: BTreeMap<usize, Time>,
    /// Its drive lied before the power went.
    pub(crate) was_lied_to: bool,
    /// Milliseconds by which its wall clock is wrong.
    pub(crate) skew_ms: i64,
    /// Heads that a hostile node showed once.
    pub(crate) stale: BTreeMap<FeedKey, Vec<Message>>,
    /// Where its index is a file.
    pub(crate) index_path: Option<PathBuf>,
    injected: Option<Injected>,
}

/// What lives as long as the process.
pub(crate) struct Running {
    pub(crate) faults: FaultDisk,
    pub(crate) store: Store,
    pub(crate) feeds: BTreeMap<FeedKey, Feed>,
    pub(crate) replicator: Replicator,
    pub(crate) work: VecDeque<Work>,
    pub(crate) is_working: bool,
    pub(crate) ticks_at: Option<Time>,
    /// Messages that arrived while the store was behind.
    pub(crate) held_back: VecDeque<(usize, FeedKey, Encoded)>,
    pub(crate) index: Option<Index>,
    /// The store refused something: the process is about to be restarted.
    pub(crate) has_failed: bool,
}

/// What a node holds of a feed and says to be durable.
pub(crate) struct Held {
    key: FeedKey,
    head: HeadState,
    have: Bitfield,
    is_stopped: bool,
}

impl Held {
    /// Expects no longer that these blocks are there.
    pub(crate) fn forget(&mut self, key: &FeedKey, blocks: &std::ops::Range<u64>) {
        if self.key == *key {
            self.have.clear_range(blocks.clone());
        }
    }
}

impl Node {
    /// Segments of 1 MiB that grow by 64 KiB, a checkpoint every 64 KiB; no thread of the store's own, so
    /// that the same seed does the same.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new([self.number as u8; 16])
            .segments(1 << 20, 64 << 10)
            .without_keeper()
            .checkpoint_every(64 << 10)
            .index_cache(1 << 20);
        options.grow_ahead = false;
        match self.injected {
            Some(Injected::Store(mistake)) => options.mistaken(mistake),
            _ => options,
        }
    }

    pub(crate) fn new(number: usize, injected: Option<Injected>) -> Node {
        Node {
            number,
            disk: CrashDisk::new(),
            running: None,
            life: 0,
            interests: BTreeMap::new(),
            refused: BTreeMap::new(),
            bans: BTreeMap::new(),
            was_lied_to: false,
            skew_ms: 0,
            stale: BTreeMap::new(),
            index_path: None,
            injected,
        }
    }

    fn open(&mut self) -> (FaultDisk, Store) {
        let faults = FaultDisk::new(Arc::new(self.disk.clone()));
        match Store::open(Arc::new(faults.clone()), self.options()) {
            Ok(store) => (faults, store),
            // What a lying drive threw away may be told of: somebody begins anew.
            Err(_) if std::mem::take(&mut self.was_lied_to) => {
                self.disk = CrashDisk::new();
                self.open()
            }
            Err(error) => panic!(
                "lost: the store of node {} does not open: {error}",
                self.number
            ),
        }
    }

    /// Opens the store and tells a new replicator what it holds.
    pub(crate) fn start(&mut self, now: Time, room: Option<&rooms::World>) {
        let (faults, store) = self.open();
        let mut running = Running {
            faults,
            feeds: BTreeMap::new(),
            replicator: Replicator::new(Config {
                seed: self.number as u64,
                group_feeds_min: 1,
                ..Config::default()
            }),
            work: VecDeque::new(),
            is_working: false,
            ticks_at: None,
            held_back: VecDeque::new(),
            index: None,
            has_failed: false,
            store,
        };
        for feed in running.store.feeds() {
            running.know(feed);
        }
        for (key, interest) in &self.interests {
            if !running.feeds.contains_key(key) {
                let unknown = running
                    .store
                    .create_unknown(*key, Role::Followed, Kind::Kinlog);
                running.know(unknown.unwrap());
            }
            running.replicator.set_interest(now, key, interest.clone());
        }
        self.was_lied_to = false;
        running.index = room.map(|room| {
            let mut index = match &self.index_path {
                None => Index::open_in_memory().unwrap(),
                Some(path) => Index::open(path).unwrap(),
            };
            room.tell(&mut index);
            index.set_tree_hashes(Box::new(StoreTrees::of(running.store.clone())));
            index
        });
        self.life += 1;
        self.running = Some(running);
    }

    /// Makes the node know a feed, as its writer or as one who follows it.
    pub(crate) fn take_up(
        &mut self,
        now: Time,
        key: FeedKey,
        own: Option<usize>,
        interest: Interest,
    ) {
        let running = self.running.as_mut().unwrap();
        let feed = match own {
            Some(writer) => {
                let pair = crate::truth::pair_of(writer);
                let manifest = kinlog_feeds::manifest::Manifest::single(pair.public_key());
                running
                    .store
                    .create_feed(&manifest, Role::Own, Kind::Kinlog)
            }
            None => running
                .store
                .create_unknown(key, Role::Followed, Kind::Kinlog),
        };
        running.know(feed.unwrap());
        running.replicator.set_interest(now, &key, interest.clone());
        self.interests.insert(key, interest);
    }

    /// Ends the process; the disk is as a power cut under `policy` leaves it.
    pub(crate) fn crash(&mut self, policy: CrashPolicy, seed: u64) {
        let mut cuts = Cuts::new(&self.disk);
        while cuts.advance() {}
        let image = cuts.image(policy, seed);
        self.running = None;
        self.disk = image;
        self.was_lied_to = policy == CrashPolicy::LyingSync;
    }

    /// Returns what the node holds.
    pub(crate) fn held(&self) -> Vec<Held> {
        let running = self.running.as_ref();
        let feeds = running
            .into_iter()
            .flat_map(|running| running.feeds.values());
        feeds
            .map(|feed| {
                let info = feed.info();
                Held {
                    key: feed.key(),
                    head: HeadState::from(&info),
                    have: feed.have(),
                    is_stopped: info.is_stopped,
                }
            })
            .collect()
    }

    /// Asserts that nothing of what was held is missing now.
    pub(crate) fn check_held(&self, before: &[Held]) {
        let (running, number) = (self.running.as_ref().unwrap(), self.number);
        for held in before {
            let feed = running.feeds.get(&held.key);
            let feed = feed.unwrap_or_else(|| panic!("lost: node {number} knows no {}", held.key));
            let info = feed.info();
            assert!(
                info.length >= held.head.length,
                "lost: node {number} was at {} of {} and is at {}",
                held.head.length,
                held.key,
                info.length
            );
            let missing = held.have.without(&feed.have(), 0..held.head.length);
            assert!(
                missing.is_empty(),
                "lost: node {number} held {missing:?} of {}",
                held.key
            );
            assert!(
                info.is_stopped || !held.is_stopped,
                "forgotten: node {number} knew that {} is forked",
                held.key
            );
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn is_banned(&self, now: Time, peer: usize) -> bool {
        self.bans.get(&peer).is_some_and(|until| now < *until)
    }
}

impl Running {
    fn know(&mut self, feed: Feed) {
        self.replicator.add_feed(feed.key(), feed_state(&feed));
        self.feeds.insert(feed.key(), feed);
    }

    /// Opens the channels of a new connection.
    pub(crate) fn meet(
        &mut self,
        now: Time,
        peer: usize,
        shared: &[FeedKey],
        refused: Option<&BTreeSet<FeedKey>>,
        plan: &Plan,
    ) {
        let peer = PeerId(peer as u64);
        if let Some(refused) = refused {
            let limits = refused.iter().map(|key| (*key, Vec::new())).collect();
            self.replicator.limit(now, peer, limits);
        }
        if plan.groups {
            self.replicator.handle_groups_open(now, peer);
        }
        for key in shared {
            if plan.speaks_kinlog {
                self.replicator.handle_kinlog_open(now, peer, *key);
            }
            self.replicator.handle_channel_open(now, peer, *key);
        }
    }

    /// Gives the index what it has not read yet.
    pub(crate) fn catch_up(&mut self) {
        let blocks = self.faults.paused(|| self.unread());
        if let Some(index) = &mut self.index
            && !blocks.is_empty()
        {
            index.ingest(&blocks).unwrap();
        }
    }

    /// Returns the blocks that the index has not read.
    pub(crate) fn unread(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let Some(index) = &self.index else {
            return blocks;
        };
        for (key, feed) in &self.feeds {
            let mut read = Bitfield::new();
            for run in index.indexed(key).unwrap() {
                read.set_range(run);
            }
            let length = feed.head().length;
            for block in feed.have().without(&read, 0..length).into_iter().flatten() {
                if let Some(bytes) = feed.get(block).unwrap() {
                    blocks.push(Block {
                        feed: *key,
                        index: block,
                        bytes,
                    });
                }
            }
        }
        blocks
    }
}
