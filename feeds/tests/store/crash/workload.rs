//! What the crash tests do before the power goes, and what is acknowledged when.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Feed, Incoming, Kind, MemoryDisk, Options, Role, Store};
use kinlog_feeds::{FeedKey, Hash, KeyPair};
use testkit::disk::CrashDisk;
use testkit::random::Random;

use crate::support::*;

/// Operations of the disk that a workload has at least.
pub(crate) const OPERATIONS_MIN: usize = 1_200;

/// Blocks of the feed that is followed.
const SOURCE_LENGTH: u64 = 160;

/// Segments of 192 KiB that grow by 16 KiB, and a checkpoint every 96 KiB: the workload crosses
/// all of these many times.
pub(crate) fn options() -> Options {
    Options::new([7; 16])
        .segments(192 * 1024, 16 * 1024)
        .without_keeper()
        .checkpoint_every(96 * 1024)
}

/// What a feed holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FeedState {
    pub(crate) fork: u64,
    pub(crate) length: u64,
    pub(crate) tree_hash: Option<Hash>,
    pub(crate) is_stopped: bool,
    pub(crate) blocks: Vec<Option<Bytes>>,
}

/// What a store holds.
pub(crate) type State = BTreeMap<FeedKey, FeedState>;

/// A run of the workload: the recorded disk, and what was acknowledged at each mark.
pub(crate) struct Workload {
    pub(crate) disk: CrashDisk,
    /// By mark; while an operation runs, the next one may hold already.
    pub(crate) states: Vec<State>,
    /// The blocks of each feed's newest fork.
    pub(crate) written: HashMap<FeedKey, Vec<Bytes>>,
    /// Every block that was ever appended or received at a place.
    pub(crate) ever: HashMap<(FeedKey, u64), Vec<Bytes>>,
    /// How the store is opened.
    pub(crate) options: Options,
    /// Tree hash of every head that was ever signed.
    pub(crate) signed: HashMap<(FeedKey, u64, u64), Hash>,
    /// The feed that goes on after a crash, and who signs it.
    pub(crate) own: FeedKey,
}

/// The writer of the workload's feed number `feed`.
pub(crate) fn writer_of(feed: u8) -> KeyPair {
    KeyPair::from_seed(&[feed + 1; 32])
}

/// Returns a size from 1 B to 64 KiB, each power of two as likely as the others.
fn size(random: &mut Random) -> usize {
    let bits = random.below(17);
    ((1 << bits) + random.below(1 << bits) as usize).min(64 * 1024)
}

struct Run {
    random: Random,
    workload: Workload,
    store: Store,
    source: Feed,
}

impl Workload {
    /// Runs the workload of a seed.
    pub(crate) fn new(seed: u64) -> Workload {
        Workload::with(seed, options())
    }

    /// Runs the workload of a seed on a store that is opened like this.
    pub(crate) fn with(seed: u64, options: Options) -> Workload {
        let mut run = Run::new(seed, options);
        run.all();
        run.workload
    }

    /// Runs some operations in some order, all drawn from a seed.
    pub(crate) fn random(seed: u64) -> Workload {
        let mut run = Run::new(seed, options());
        run.any();
        run.workload
    }
}

impl Run {
    fn new(seed: u64, options: Options) -> Self {
        let mut random = Random::new(seed);
        let other = open(&MemoryDisk::new());
        let source = own_feed(&other, &writer_of(9));
        let source_blocks: Vec<Bytes> = (0..SOURCE_LENGTH)
            .map(|_| random.bytes(50).into())
            .collect();
        source.append_batch(&writer_of(9), &source_blocks).unwrap();
        let disk = CrashDisk::new();
        let store = Store::open(disk.as_disk(), options.clone()).unwrap();
        let places = (0..).zip(&source_blocks);
        let ever = places.map(|(index, block)| ((source.key(), index), vec![block.clone()]));
        let workload = Workload {
            disk,
            states: vec![State::new()],
            ever: ever.collect(),
            written: HashMap::from([(source.key(), source_blocks)]),
            options,
            signed: HashMap::new(),
            own: source.key(),
        };
        let mut run = Run {
            random,
            workload,
            store,
            source,
        };
        let source_head = run.source.head();
        let key = (run.source.key(), 0, source_head.length);
        run.workload.signed.insert(key, source_head.tree_hash());
        run
    }

    fn all(&mut self) {
        let own = self.create(0);
        self.workload.own = own;
        let plain = self.create_plain(1);
        let mut dropped = self.create(2);
        self.append(dropped, 2, 3, 100);
        let following = self.source.key();
        self.store
            .create_unknown(following, Role::Followed, Kind::Kinlog)
            .unwrap();
        self.done();
        self.fill(following, 0);
        let mut stopped = own;
        for step in 0..200 {
            let size = size(&mut self.random);
            self.append(own, 0, 1, size);
            match step % 10 {
                0 | 3 | 5 | 8 => self.fill(following, 1 + step % 3),
                1 => self.append(plain, 1, 1 + step % 4, 300),
                7 => self.clear(if step % 20 == 7 { own } else { following }),
                _ => {}
            }
            match step {
                40 => self.append(own, 0, 64, 700),
                80 => self.drop_feed(dropped),
                30 | 50 | 110 => self.truncate(plain, 1),
                100 => {
                    stopped = self.create(3);
                    self.append(stopped, 3, 4, 5000);
                }
                115 => self.stop(stopped, 3),
                90 => self.compact(),
                120 => self.reopen(true),
                140 => dropped = self.create(2),
                141 => self.append(dropped, 2, 5, 100),
                160 => self.reopen(false),
                180 => self.compact(),
                _ => {}
            }
        }
        while self.workload.disk.operations() < OPERATIONS_MIN {
            self.append(plain, 1, 1, 40);
            self.fill(following, 1);
        }
        self.store.close().unwrap();
        self.done();
    }

    fn any(&mut self) {
        let own = self.create(0);
        self.workload.own = own;
        self.append(own, 0, 1, 10);
        let plain = self.create_plain(1);
        self.append(plain, 1, 2, 30);
        let following = self.source.key();
        self.store
            .create_unknown(following, Role::Followed, Kind::Kinlog)
            .unwrap();
        self.done();
        self.fill(following, 0);
        for _ in 0..20 + self.random.below(60) {
            let size = size(&mut self.random);
            let count = 1 + self.random.index(9);
            match self.random.below(17) {
                0..=4 => self.append(own, 0, 1, size),
                5 => self.append(own, 0, 10 * count, 300),
                6..=8 => self.append(plain, 1, count, 100),
                9..=11 => self.fill(following, count),
                12 => self.clear(following),
                13 => self.clear(own),
                14 => self.truncate(plain, 1),
                15 => {
                    self.give_space_back();
                }
                _ => {
                    let clean = self.random.below(2) == 0;
                    self.reopen(clean);
                }
            }
        }
    }

    fn create(&mut self, writer: u8) -> FeedKey {
        let manifest = Manifest::single(writer_of(writer).public_key());
        let feed = self.store.create_feed(&manifest, Role::Own, Kind::Kinlog);
        self.done();
        feed.unwrap().key()
    }

    fn create_plain(&mut self, writer: u8) -> FeedKey {
        let public_key = writer_of(writer).public_key();
        let (key, manifest) = (FeedKey(public_key.0), Manifest::compat(public_key));
        self.store
            .create_with_key(key, &manifest, Role::Own, Kind::Plain)
            .unwrap();
        self.done();
        key
    }

    /// Appends what was appended at these places before, if it was, else something new.
    fn append(&mut self, key: FeedKey, writer: u8, count: usize, size: usize) {
        let feed = self.feed(key);
        let start = feed.head().length as usize;
        let written = self.workload.written.entry(key).or_default();
        while written.len() < start + count {
            let (place, block) = (written.len() as u64, Bytes::from(self.random.bytes(size)));
            let ever = self.workload.ever.entry((key, place)).or_default();
            ever.push(block.clone());
            written.push(block);
        }
        let blocks = &written[start..start + count];
        feed.append_batch(&writer_of(writer), blocks).unwrap();
        let head = feed.head();
        let tree_hash = head.tree_hash();
        let signed = (key, head.fork, head.length);
        self.workload.signed.insert(signed, tree_hash);
        self.done();
    }

    /// Receives the head, or `count` blocks that are not held.
    fn fill(&mut self, key: FeedKey, count: usize) {
        let feed = self.feed(key);
        let items: Vec<Incoming> = if count == 0 {
            vec![upgrade_item(&self.source, 0)]
        } else {
            let first = self.random.below(SOURCE_LENGTH);
            let wanted = (first..SOURCE_LENGTH).chain(0..first);
            wanted
                .filter(|index| !feed.has(*index))
                .take(count)
                .map(|index| block_item(&self.source, index))
                .collect()
        };
        for result in feed.apply(&items).unwrap() {
            result.unwrap();
        }
        self.done();
    }

    fn clear(&mut self, key: FeedKey) {
        let feed = self.feed(key);
        let start = self.random.below(feed.head().length);
        feed.clear(start..start + 1 + self.random.below(4)).unwrap();
        self.done();
    }

    /// Takes the newer half of a plain feed back; what is appended next differs.
    fn truncate(&mut self, key: FeedKey, writer: u8) {
        let feed = self.feed(key);
        let length = feed.head().length / 2;
        let signed = feed.truncate(&writer_of(writer), length).unwrap();
        let written = self.workload.written.get_mut(&key).unwrap();
        written.truncate(length as usize);
        let head = (key, signed.head.fork, length);
        self.workload.signed.insert(head, signed.tree_hash);
        self.done();
    }

    /// Shows the feed a second history of its writer.
    fn stop(&mut self, key: FeedKey, writer: u8) {
        let [one, other] = [0, 1].map(|history: u8| {
            let store = open(&MemoryDisk::new());
            let feed = own_feed(&store, &writer_of(writer));
            feed.append_batch(&writer_of(writer), &[vec![history; 9].into()])
                .unwrap();
            feed
        });
        one.apply(&[upgrade_item(&other, 0)]).unwrap();
        let proof = one.conflict().unwrap().unwrap();
        assert!(self.feed(key).keep_conflict(&proof).unwrap());
        self.done();
    }

    /// Gives up most of what is old, and its space.
    fn compact(&mut self) {
        let feed = self.feed(self.workload.own);
        feed.clear(0..feed.head().length / 2).unwrap();
        self.done();
        assert!(self.give_space_back() > 0, "there is something to compact");
    }

    /// Compacts; returns how many segments were.
    fn give_space_back(&mut self) -> u64 {
        let segments = self.store.compact().unwrap().segments;
        self.done();
        segments.into()
    }

    fn drop_feed(&mut self, key: FeedKey) {
        assert!(self.store.drop_feed(&key).unwrap());
        self.done();
    }

    fn reopen(&mut self, clean: bool) {
        if clean {
            self.store.close().unwrap();
            self.done();
        }
        // Only one store at a time uses a disk.
        self.store = open(&MemoryDisk::new());
        let options = self.workload.options.clone();
        self.store = Store::open(self.workload.disk.as_disk(), options).unwrap();
        assert_eq!(self.store.open_report().tail_dropped, None);
        self.done();
    }

    fn feed(&self, key: FeedKey) -> Feed {
        self.store.feed(&key).unwrap()
    }

    /// Marks that everything up to here is acknowledged, and takes down what it is.
    fn done(&mut self) {
        let workload = &mut self.workload;
        let before = workload.states.last().unwrap();
        let now = self.store.feeds().into_iter().map(|feed| {
            let blocks = workload.written.get(&feed.key());
            let old = before.get(&feed.key());
            (feed.key(), state_of(&feed, blocks, old))
        });
        let now = now.collect();
        workload.states.push(now);
        workload.disk.mark(workload.states.len() as u64 - 1);
    }
}

/// Returns what a feed holds by its own word; the values are the writer's.
fn state_of(feed: &Feed, written: Option<&Vec<Bytes>>, old: Option<&FeedState>) -> FeedState {
    let head = feed.head();
    let tree_hash = match old {
        Some(old) if (old.fork, old.length) == (head.fork, head.length) => old.tree_hash,
        _ => (head.length > 0).then(|| head.tree_hash()),
    };
    let blocks = (0..head.length)
        .map(|index| {
            feed.has(index)
                .then(|| written.expect("was written")[index as usize].clone())
        })
        .collect();
    FeedState {
        fork: head.fork,
        length: head.length,
        tree_hash,
        is_stopped: feed.is_stopped(),
        blocks,
    }
}
