//! A simulated network of replicators: messages wait in links, store work in queues, and a seeded
//! generator chooses what happens next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::bundle::BundleWriter;
use kinlog_feeds::manifest::{Manifest, Verifier};
use kinlog_feeds::replicate::{
    Applied, ApplyFailure, Config, FeedEvent, GetEnd, GetId, HeadState, Incoming, Interest, Output,
    PeerId, ProtocolViolation, Replicator, Want,
};
use kinlog_feeds::store::{Feed, Kind, MemoryDisk, Mistake, Options, Role, Store};
use kinlog_feeds::tree::{ProofRequest, UpgradeRequest};
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::wire::kinlog::{self, FeedMessage, GroupMessage};
use kinlog_feeds::{FeedKey, KeyPair, Time};
use testkit::random::Random;
use testkit::work::{Work, feed_state};

/// Starts the random numbers of a seed, which a failing test shows.
pub(crate) fn seeded(seed: u64) -> Random {
    println!("seed {seed}");
    Random::new(seed)
}

pub(crate) type Seen = Vec<Result<Applied, ApplyFailure>>;

/// One process.
pub(crate) struct Node {
    pub(crate) replicator: Replicator,
    pub(crate) feeds: BTreeMap<FeedKey, Feed>,
    pub(crate) events: Vec<(FeedKey, FeedEvent)>,
    /// Blocks that were waited for, and how that ended.
    pub(crate) got: Vec<(GetId, u64, GetEnd)>,
    pub(crate) violations: Vec<(PeerId, ProtocolViolation, bool)>,
    /// What the store said to each item, over all applies.
    pub(crate) seen: Seen,
    pub(crate) applies: usize,
    jobs: VecDeque<Work>,
    pub(crate) disk: MemoryDisk,
    store: Store,
}

impl Node {
    fn new(number: usize, mistake: Option<Mistake>) -> Self {
        let mut options = Options::new([number as u8; 16]).segments(1 << 20, 64 << 10);
        options.mistake = mistake;
        let disk = MemoryDisk::new();
        let store = Store::open(Arc::new(disk.clone()), options).unwrap();
        Node {
            replicator: Replicator::new(Config {
                seed: number as u64,
                ..Config::default()
            }),
            feeds: BTreeMap::new(),
            events: Vec::new(),
            got: Vec::new(),
            violations: Vec::new(),
            seen: Vec::new(),
            applies: 0,
            jobs: VecDeque::new(),
            disk,
            store,
        }
    }

    pub(crate) fn feed(&self, key: &FeedKey) -> &Feed {
        &self.feeds[key]
    }

    fn add(&mut self, feed: Feed) {
        self.replicator.add_feed(feed.key(), feed_state(&feed));
        self.feeds.insert(feed.key(), feed);
    }

    fn carry_out(&mut self, now: Time, work: Work) {
        let feed = &self.feeds[&work.feed()];
        let is_apply = matches!(work, Work::Apply { .. });
        let done = work.carry_out(feed);
        assert!(done.failed.is_none(), "{:?}", done.failed);
        self.applies += usize::from(is_apply);
        self.seen.extend(done.applied().iter().copied());
        done.tell(now, &mut self.replicator);
    }
}

/// Changes, holds back or adds to what a node sends; the arguments are sender, receiver, message.
pub(crate) type Tamper = Box<dyn FnMut(usize, usize, Message) -> Vec<Message>>;

/// The same for what is said by `kinlog/feed/1`.
pub(crate) type TamperKinlog = Box<dyn FnMut(usize, usize, FeedMessage) -> Vec<FeedMessage>>;

/// A message of a feed, and whether it is urgent.
pub(crate) type Sent = (FeedKey, FeedMessage, bool);

/// What is said about several feeds.
pub(crate) type SaidOfMany = (Vec<FeedKey>, GroupMessage);

/// Nodes and what is on its way between them.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) random: Random,
    pub(crate) tamper: Option<Tamper>,
    pub(crate) tamper_kinlog: Option<TamperKinlog>,
    /// Whether nodes speak `kinlog/feed/1`.
    pub(crate) speaks_kinlog: bool,
    /// Whether they tell of feeds in groups: then nothing opens a channel before that is known.
    pub(crate) speaks_in_groups: bool,
    /// What was said about several feeds: it goes before what waits in the links.
    pub(crate) groups: BTreeMap<(usize, usize), VecDeque<SaidOfMany>>,
    /// All of that.
    pub(crate) groups_said: Vec<(usize, usize, GroupMessage)>,
    /// Sets asked for by each node: how many blocks each.
    pub(crate) set_requests: BTreeMap<usize, Vec<usize>>,
    /// Bytes of all messages that a node was sent.
    pub(crate) bytes_received: BTreeMap<usize, usize>,
    /// How many messages that was.
    pub(crate) messages_received: BTreeMap<usize, usize>,
    /// Whether messages of one link may overtake each other, as JavaScript peers' answers do.
    pub(crate) reorder: bool,
    /// Blocks on their way to a node, to find those that were asked for twice.
    pub(crate) requested_twice: Vec<(usize, u64)>,
    /// Block requests sent by each node.
    pub(crate) block_requests: BTreeMap<usize, Vec<(usize, u64)>>,
    /// Blocks that a node asked of another.
    pub(crate) asked_of: BTreeMap<(usize, usize, FeedKey), BTreeSet<u64>>,
    pub(crate) links: BTreeMap<(usize, usize), VecDeque<Sent>>,
    asked: BTreeMap<(usize, FeedKey, u64), (usize, u64)>,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        World::with_mistake(seed, nodes, None)
    }

    /// The same, of stores that make a mistake.
    pub(crate) fn with_mistake(seed: u64, nodes: usize, mistake: Option<Mistake>) -> Self {
        World {
            now: Time(1_000_000),
            nodes: (0..nodes).map(|node| Node::new(node, mistake)).collect(),
            random: seeded(seed),
            tamper: None,
            tamper_kinlog: None,
            speaks_kinlog: false,
            speaks_in_groups: false,
            groups: BTreeMap::new(),
            groups_said: Vec::new(),
            set_requests: BTreeMap::new(),
            bytes_received: BTreeMap::new(),
            messages_received: BTreeMap::new(),
            reorder: false,
            requested_twice: Vec::new(),
            block_requests: BTreeMap::new(),
            asked_of: BTreeMap::new(),
            links: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Makes a feed of `blocks` at `node`, owned by it.
    pub(crate) fn create(&mut self, node: usize, seed: u8, kind: Kind, blocks: u64) -> FeedKey {
        self.create_of(node, seed, kind, &content(0..blocks))
    }

    /// The same, of these blocks.
    pub(crate) fn create_of(
        &mut self,
        node: usize,
        seed: u8,
        kind: Kind,
        blocks: &[Bytes],
    ) -> FeedKey {
        let pair = KeyPair::from_seed(&[seed; 32]);
        let manifest = Manifest::single(pair.public_key());
        let feed = self.nodes[node]
            .store
            .create_feed(&manifest, Role::Own, kind)
            .unwrap();
        if !blocks.is_empty() {
            feed.append_batch(&pair, blocks).unwrap();
        }
        self.nodes[node].add(feed);
        manifest.key()
    }

    /// Makes a feed of `blocks` at `node`, all of the same size.
    pub(crate) fn create_alike(
        &mut self,
        node: usize,
        seed: u8,
        blocks: u64,
        bytes: usize,
    ) -> FeedKey {
        let pair = KeyPair::from_seed(&[seed; 32]);
        let manifest = Manifest::single(pair.public_key());
        let store = &self.nodes[node].store;
        let feed = store
            .create_feed(&manifest, Role::Own, Kind::Kinlog)
            .unwrap();
        let block = |number: u64| Bytes::from(vec![number as u8; bytes]);
        let all: Vec<Bytes> = (0..blocks).map(block).collect();
        for batch in all.chunks(4096) {
            feed.append_batch(&pair, batch).unwrap();
        }
        self.nodes[node].add(feed);
        manifest.key()
    }

    /// Makes a second history of the feed that [`create`](Self::create) makes of `seed`: it differs
    /// from block `from` on.
    pub(crate) fn create_forked(
        &mut self,
        node: usize,
        seed: u8,
        kind: Kind,
        blocks: u64,
        from: u64,
    ) -> FeedKey {
        let pair = KeyPair::from_seed(&[seed; 32]);
        let manifest = Manifest::single(pair.public_key());
        let store = &self.nodes[node].store;
        let feed = store.create_feed(&manifest, Role::Own, kind).unwrap();
        let mut history = content(0..blocks);
        for block in &mut history[from as usize..] {
            *block = Bytes::from([&b"other "[..], block].concat());
        }
        feed.append_batch(&pair, &history).unwrap();
        self.nodes[node].add(feed);
        manifest.key()
    }

    /// Makes the first `blocks` blocks of a feed on a fork above 0, as its writer must not.
    pub(crate) fn create_on_fork(&mut self, node: usize, seed: u8, blocks: u64, fork: u64) {
        let pair = KeyPair::from_seed(&[seed; 32]);
        let manifest = Manifest::single(pair.public_key());
        let source = Store::open(Arc::new(MemoryDisk::new()), Options::new([9; 16])).unwrap();
        let source = source
            .create_feed(&manifest, Role::Own, Kind::Plain)
            .unwrap();
        source.append_batch(&pair, &content(0..blocks)).unwrap();
        let head = source.head();
        let request = ProofRequest {
            upgrade: Some(UpgradeRequest {
                start: 0,
                length: blocks,
            }),
            ..ProofRequest::default()
        };
        let mut proof = source.prove(&request).unwrap();
        proof.fork = fork;
        let verifier = Verifier::new(manifest.key(), &manifest).unwrap();
        let tree_hash = head.tree_hash();
        if let Some(upgrade) = &mut proof.upgrade {
            upgrade.signature = verifier.sign(&pair, &tree_hash, blocks, fork).unwrap();
        }
        let manifest = Some(Bytes::from(manifest.encode()));
        let store = &self.nodes[node].store;
        let feed = store
            .create_unknown(source.key(), Role::Followed, Kind::Plain)
            .unwrap();
        let applied = feed.apply(&[Incoming { proof, manifest }]).unwrap();
        assert!(applied[0].is_ok(), "{applied:?}");
        self.nodes[node].add(feed);
    }

    pub(crate) fn append(&mut self, node: usize, seed: u8, count: u64) {
        let pair = KeyPair::from_seed(&[seed; 32]);
        let key = Manifest::single(pair.public_key()).key();
        let feed = self.nodes[node].feed(&key).clone();
        let start = feed.info().length;
        feed.append_batch(&pair, &content(start..start + count))
            .unwrap();
        let head = HeadState::from(&feed.info());
        let now = self.now;
        self.nodes[node]
            .replicator
            .handle_appended(now, &key, &head);
    }

    pub(crate) fn truncate(&mut self, node: usize, seed: u8, length: u64) {
        let pair = KeyPair::from_seed(&[seed; 32]);
        let key = Manifest::single(pair.public_key()).key();
        let feed = self.nodes[node].feed(&key).clone();
        feed.truncate(&pair, length).unwrap();
        let head = HeadState::from(&feed.info());
        let now = self.now;
        self.nodes[node]
            .replicator
            .handle_appended(now, &key, &head);
    }

    /// The same, by a node that joins.
    pub(crate) fn follow_new(
        &mut self,
        node: usize,
        key: FeedKey,
        kind: Kind,
        want: Want,
        live: bool,
    ) {
        assert_eq!(node, self.nodes.len());
        self.nodes.push(Node::new(node, None));
        self.follow(node, key, kind, want, live);
    }

    /// Carries all of a feed from one node to another by hand.
    pub(crate) fn carry(&mut self, from: usize, to: usize, key: &FeedKey) {
        let feed = self.nodes[from].feed(key);
        let all = 0..feed.head().length;
        let header = feed.bundle_header(Vec::from([all])).unwrap();
        let mut bundle = BundleWriter::new::<()>(Vec::new(), &header).unwrap();
        while bundle.write_run(feed).unwrap().is_some() {}
        let bundle = bundle.finish::<()>().unwrap();
        let store = self.nodes[to].store.clone();
        store
            .import_bundle(&mut Cursor::new(bundle), feed.kind(), &mut |_| true)
            .unwrap();
        self.stored(to, key);
    }

    /// Tells a node's replicator that its store changed by other ways.
    pub(crate) fn stored(&mut self, node: usize, key: &FeedKey) {
        let head = HeadState::from(&self.nodes[node].feed(key).info());
        let held = self.nodes[node].feed(key).have();
        self.nodes[node]
            .replicator
            .handle_stored(self.now, key, &head, &held);
    }

    /// Makes `node` follow a feed of which it knows the key.
    pub(crate) fn follow(&mut self, node: usize, key: FeedKey, kind: Kind, want: Want, live: bool) {
        let feed = self.nodes[node]
            .store
            .create_unknown(key, Role::Followed, kind)
            .unwrap();
        self.nodes[node].add(feed);
        self.set_interest(node, &key, want, live);
    }

    pub(crate) fn set_interest(&mut self, node: usize, key: &FeedKey, want: Want, live: bool) {
        self.nodes[node]
            .replicator
            .set_interest(self.now, key, Interest { want, live });
    }

    /// Connects two nodes; channels open for every feed that both know.
    pub(crate) fn connect(&mut self, one: usize, other: usize) {
        self.links.entry((one, other)).or_default();
        self.links.entry((other, one)).or_default();
        let shared: Vec<FeedKey> = self.nodes[one]
            .feeds
            .keys()
            .filter(|key| self.nodes[other].feeds.contains_key(key))
            .copied()
            .collect();
        if self.speaks_in_groups {
            for (node, peer) in [(one, other), (other, one)] {
                let replicator = &mut self.nodes[node].replicator;
                replicator.handle_groups_open(self.now, PeerId(peer as u64));
            }
        }
        for key in shared {
            for (node, peer) in [(one, other), (other, one)] {
                let peer = PeerId(peer as u64);
                let replicator = &mut self.nodes[node].replicator;
                // It may come before or after the channel.
                let first =
                    self.speaks_kinlog && (self.speaks_in_groups || self.random.index(2) == 0);
                if first {
                    replicator.handle_kinlog_open(self.now, peer, key);
                }
                replicator.handle_channel_open(self.now, peer, key);
                if self.speaks_kinlog && !first {
                    replicator.handle_kinlog_open(self.now, peer, key);
                }
            }
        }
    }

    pub(crate) fn disconnect(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.links.remove(&(from, to));
            self.groups.remove(&(from, to));
            self.nodes[from]
                .replicator
                .handle_peer_gone(self.now, PeerId(to as u64));
            self.asked
                .retain(|(node, _, _), (source, _)| *node != from || *source != to);
        }
    }

    pub(crate) fn is_connected(&self, one: usize, other: usize) -> bool {
        self.links.contains_key(&(one, other))
    }

    /// Puts a message on the wire that no replicator asked to send.
    pub(crate) fn inject(&mut self, from: usize, to: usize, key: FeedKey, message: Message) {
        if let Some(link) = self.links.get_mut(&(from, to)) {
            link.push_back((key, FeedMessage::Hypercore(message), true));
        }
    }

    /// Lets things happen until nothing is on its way; time passes only as far as deliveries take.
    pub(crate) fn settle(&mut self) {
        for _ in 0..2_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets `duration` pass with its timers.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.settle();
            let next = self
                .nodes
                .iter()
                .filter_map(|node| node.replicator.poll_timeout())
                .min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            for node in &mut self.nodes {
                node.replicator.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    /// Does one thing; returns whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        for node in 0..self.nodes.len() {
            self.drain(node);
        }
        let mut choices: Vec<Choice> = Vec::new();
        choices.extend(
            self.links
                .iter()
                .filter(|(ends, link)| !link.is_empty() || self.groups.contains_key(ends))
                .map(|(ends, _)| Choice::Link(*ends)),
        );
        choices.extend(
            (0..self.nodes.len())
                .filter(|node| !self.nodes[*node].jobs.is_empty())
                .map(Choice::Job),
        );
        if choices.is_empty() {
            return false;
        }
        let choice = choices[self.random.index(choices.len())];
        self.now = self.now + Duration::from_micros(10);
        match choice {
            Choice::Job(node) => {
                let jobs = self.random.index(8) + 1;
                for _ in 0..jobs {
                    let Some(job) = self.nodes[node].jobs.pop_front() else {
                        break;
                    };
                    self.nodes[node].carry_out(self.now, job);
                }
            }
            Choice::Link(ends) => self.deliver(ends),
        }
        true
    }

    fn deliver(&mut self, (from, to): (usize, usize)) {
        for (feeds, message) in self.groups.remove(&(from, to)).into_iter().flatten() {
            let (now, peer) = (self.now, PeerId(from as u64));
            let replicator = &mut self.nodes[to].replicator;
            replicator.handle_group_message(now, peer, &feeds, &message);
        }
        // Several messages make one read of the connection, which ends in one drain.
        let count = self.random.index(32) + 1;
        for _ in 0..count {
            let Some(link) = self.links.get_mut(&(from, to)) else {
                return;
            };
            let at = if self.reorder && link.len() > 1 {
                self.random.index(link.len().min(16))
            } else {
                0
            };
            let Some((key, message, _)) = link.remove(at) else {
                return;
            };
            let bytes = kinlog::Message::Feed(0, message.clone()).encoded_len();
            *self.bytes_received.entry(to).or_default() += bytes;
            *self.messages_received.entry(to).or_default() += 1;
            self.hand_over(from, to, &key, message);
        }
    }

    fn judge(&mut self, from: usize, to: usize, taken: Result<(), ProtocolViolation>) {
        if let Err(reason) = taken {
            let peer = PeerId(from as u64);
            self.nodes[to].violations.push((peer, reason, true));
            self.disconnect(from, to);
        }
    }

    /// A message arrives.
    pub(crate) fn hand_over(
        &mut self,
        from: usize,
        to: usize,
        key: &FeedKey,
        message: FeedMessage,
    ) {
        if let FeedMessage::Hypercore(message) = &message {
            self.note_answer(to, from, key, message);
        }
        let (now, peer) = (self.now, PeerId(from as u64));
        let replicator = &mut self.nodes[to].replicator;
        let taken = match message {
            FeedMessage::Hypercore(message) => replicator.handle_message(now, peer, key, message),
            message => replicator.handle_kinlog_message(now, peer, key, message),
        };
        self.judge(from, to, taken);
    }

    /// Carries out what all nodes want, store work at once, until only messages are left.
    pub(crate) fn work(&mut self) {
        self.work_at_most(usize::MAX);
    }

    /// The same with so much store work of each node at most; returns whether some is left.
    pub(crate) fn work_at_most(&mut self, most: usize) -> bool {
        let now = self.now;
        let mut is_left = false;
        for node in 0..self.nodes.len() {
            self.drain(node);
            for _ in 0..most {
                let Some(work) = self.nodes[node].jobs.pop_front() else {
                    break;
                };
                self.nodes[node].carry_out(now, work);
                self.drain(node);
            }
            is_left |= !self.nodes[node].jobs.is_empty();
        }
        is_left
    }

    fn drain(&mut self, number: usize) {
        let mut cut = BTreeSet::new();
        while let Some(output) = self.nodes[number].replicator.poll_output() {
            match output {
                Output::Send {
                    peer,
                    key,
                    message,
                    urgent,
                } => {
                    let to = peer.0 as usize;
                    self.note_request(number, to, &key, &message);
                    let messages = match &mut self.tamper {
                        Some(tamper) => tamper(number, to, message),
                        None => vec![message],
                    };
                    if let Some(link) = self.links.get_mut(&(number, to)) {
                        let messages = messages.into_iter().map(FeedMessage::Hypercore);
                        link.extend(messages.map(|message| (key, message, urgent)));
                    }
                }
                Output::SendKinlog {
                    peer,
                    key,
                    message,
                    urgent,
                } => {
                    let to = peer.0 as usize;
                    if let FeedMessage::AskSet(request) = &message {
                        let sets = self.set_requests.entry(number).or_default();
                        sets.push(request.set.count());
                        let asked = self.asked_of.entry((number, to, key)).or_default();
                        asked.extend(request.set.blocks());
                    }
                    let messages = match &mut self.tamper_kinlog {
                        Some(tamper) => tamper(number, to, message),
                        None => vec![message],
                    };
                    if let Some(link) = self.links.get_mut(&(number, to)) {
                        link.extend(messages.into_iter().map(|message| (key, message, urgent)));
                    }
                }
                Output::SendGroup {
                    peer,
                    feeds,
                    message,
                } => {
                    let ends = (number, peer.0 as usize);
                    self.groups_said.push((ends.0, ends.1, message));
                    if self.links.contains_key(&ends) {
                        let waiting = self.groups.entry(ends).or_default();
                        waiting.push_back((feeds, message));
                    }
                }
                Output::Violation { peer, reason, ban } => {
                    self.nodes[number].violations.push((peer, reason, ban));
                    cut.insert(peer.0 as usize);
                }
                Output::Got { id, block, end, .. } => {
                    self.nodes[number].got.push((id, block, end));
                }
                Output::Event { key, event } => self.nodes[number].events.push((key, event)),
                other => {
                    let work = Work::of(other).ok();
                    self.nodes[number].jobs.extend(work);
                }
            }
        }
        for other in cut {
            self.disconnect(number, other);
        }
    }

    fn note_request(&mut self, node: usize, to: usize, key: &FeedKey, message: &Message) {
        match message {
            Message::Request(request) => {
                if let Some(block) = request.proof.block {
                    let asked = self.asked_of.entry((node, to, *key)).or_default();
                    asked.insert(block.index);
                    let place = (node, *key, block.index);
                    if self.asked.insert(place, (to, request.id)).is_some() {
                        self.requested_twice.push((node, block.index));
                    }
                    self.block_requests
                        .entry(node)
                        .or_default()
                        .push((to, block.index));
                }
            }
            Message::Cancel(id) => {
                self.asked.retain(|(asker, feed, _), asked| {
                    *asker != node || feed != key || *asked != (to, *id)
                });
            }
            _ => {}
        }
    }

    fn note_answer(&mut self, node: usize, from: usize, key: &FeedKey, message: &Message) {
        let id = match message {
            Message::Data(data) => data.request,
            Message::NoData(no_data) => no_data.request,
            _ => return,
        };
        self.asked.retain(|(asker, feed, _), asked| {
            *asker != node || feed != key || *asked != (from, id)
        });
    }
}

#[derive(Clone, Copy)]
enum Choice {
    Link((usize, usize)),
    Job(usize),
}

/// The blocks that every feed of these tests has.
pub(crate) fn content(blocks: std::ops::Range<u64>) -> Vec<Bytes> {
    blocks
        .map(|block| Bytes::from(format!("block {block} ").repeat(1 + block as usize % 7)))
        .collect()
}

/// Asserts that `node` holds exactly `blocks` of the feed, each as it was written.
pub(crate) fn assert_holds(
    world: &World,
    node: usize,
    key: &FeedKey,
    blocks: impl Iterator<Item = u64>,
) {
    let feed = world.nodes[node].feed(key);
    let mut held = 0;
    for block in blocks {
        let value = feed.get(block).unwrap();
        assert_eq!(
            value.as_ref(),
            content(block..block + 1).first(),
            "block {block}"
        );
        held += 1;
    }
    assert_eq!(feed.info().blocks_held, held, "blocks held in all");
    let report = feed.verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
