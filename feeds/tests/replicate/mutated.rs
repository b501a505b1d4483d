//! 100,000 messages with something changed, both ways between a reader and a writer that replicate for
//! real: nothing unverified is on the reader's disk, nobody panics, what is kept for a peer is bounded.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::limits::{
    APPLY_BYTES_MAX, IN_FLIGHT_BYTES_MAX, PARKED_PROOFS_MAX, REQUESTS_QUEUED_MAX,
    UNAPPLIED_BYTES_MAX, URGENT_BYTES_MAX,
};
use kinlog_feeds::replicate::Want;
use kinlog_feeds::store::{Kind, Mistake};
use kinlog_feeds::wire::kinlog::{FeedMessage, Message as Framed};
use testkit::random::{Random, usual_seed};
use testkit::soak;

use crate::world::{World, content};

/// Lengths that feeds have. What was said about a longer one is true of a shorter one, too.
const LENGTHS: [u64; 4] = [7, 40, 100, 250];

/// Seeds of the feeds' keys.
const KEYS: u64 = 2;

const WRITER: usize = 0;
const READER: usize = 1;

/// Changed messages of an ordinary run.
const MESSAGES: u64 = 100_000;

/// What is put over the bytes of messages, and must never be on a disk.
const NEEDLE: [u8; 12] = *b"\xf1unverified\xf1";

/// Whole messages kept for later, to be put in the place of others and into them.
const RECORDED_MAX: usize = 4096;

/// Type of the answer to a set; of the request for one it is one less.
const SET: u64 = 3;

/// A message as it is on the wire: its type and its body.
type Encoded = (u64, Vec<u8>);

/// Changes messages on their way.
struct Mutator {
    random: Random,
    recorded: Vec<Encoded>,
    /// Of so many messages about one is changed.
    one_in: u64,
    /// How many were changed, by their type.
    changed: BTreeMap<u64, u64>,
    /// Of those, how many were no message any more.
    undecodable: u64,
}

impl Mutator {
    fn new(seed: u64) -> Mutator {
        Mutator {
            random: Random::new(seed),
            recorded: Vec::new(),
            one_in: 2,
            changed: BTreeMap::new(),
            undecodable: 0,
        }
    }

    fn pass(&mut self, message: FeedMessage) -> Vec<FeedMessage> {
        let framed = Framed::Feed(0, message);
        let mut whole = (framed.message_type(), Vec::new());
        framed.encode(&mut whole.1);
        // Sets carry most and are few.
        let one_in = if whole.0 <= SET { 2 } else { self.one_in };
        let is_changed = self.random.below(one_in) == 0;
        let Framed::Feed(_, message) = framed else {
            return Vec::new();
        };
        let mut sent = Vec::new();
        if is_changed {
            let changed = self.change(&whole);
            *self.changed.entry(whole.0).or_default() += 1;
            match Framed::decode(changed.0, &Bytes::from(changed.1)) {
                Ok(Some(Framed::Feed(_, changed))) => sent.push(changed),
                _ => self.undecodable += 1,
            }
            // Now and then what was meant follows, and finds what the other one left.
            if self.random.below(8) == 0 {
                sent.push(message);
            }
        } else {
            sent.push(message);
        }
        let at = self.random.index(RECORDED_MAX);
        match self.recorded.get_mut(at) {
            Some(place) => *place = whole,
            None => self.recorded.push(whole),
        }
        sent
    }

    fn change(&mut self, whole: &Encoded) -> Encoded {
        let random = &mut self.random;
        let (mut kind, mut bytes) = whole.clone();
        let other = match self.recorded.is_empty() {
            true => whole,
            false => &self.recorded[random.index(self.recorded.len())],
        };
        let at = random.index(bytes.len());
        match random.below(9) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = [0, 1, 0xfc, 0xfd, 0xfe, 0xff][random.index(6)],
            3 => bytes.truncate(at),
            4 => {
                let end = (at + 1 + random.index(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 | 6 => {
                for (byte, needle) in bytes[at..].iter_mut().zip(NEEDLE) {
                    *byte = needle;
                }
            }
            // The beginning of one and the end of another; or another one altogether.
            7 => {
                let from = random.index(other.1.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other.1[from..]);
            }
            _ => (kind, bytes) = other.clone(),
        }
        (kind, bytes)
    }
}

/// A writer, a reader without anything, and what they say to each other passing `mutator`.
fn meeting(
    seed: u64,
    mutator: &Rc<RefCell<Mutator>>,
    mistake: Option<Mistake>,
) -> (World, FeedKey, u64) {
    let mut world = World::with_mistake(seed, 2, mistake);
    world.speaks_kinlog = !seed.is_multiple_of(3);
    world.reorder = seed.is_multiple_of(4);
    let blocks = LENGTHS[world.random.index(4)];
    // Few keys and many lengths: what is recorded in one meeting is true in another, or nearly.
    let key = world.create(WRITER, (seed % KEYS) as u8, Kind::Kinlog, blocks);
    let want = match world.random.index(4) {
        0 => Want::Ranges(vec![1..3, 5..6]),
        1 => Want::Last(5),
        _ => Want::All,
    };
    world.follow(READER, key, Kind::Kinlog, want, true);
    let (one, other) = (Rc::clone(mutator), Rc::clone(mutator));
    world.tamper = Some(Box::new(move |_, _, message| {
        let passed = one.borrow_mut().pass(FeedMessage::Hypercore(message));
        let of_hypercore = |message| match message {
            FeedMessage::Hypercore(message) => Some(message),
            _ => None,
        };
        passed.into_iter().filter_map(of_hypercore).collect()
    }));
    world.tamper_kinlog = Some(Box::new(move |_, _, message| {
        other.borrow_mut().pass(message)
    }));
    (world, key, blocks)
}

/// Returns a world in which the longest history of each feed is written.
fn truth() -> World {
    let mut truth = World::new(0, 1);
    for key in 0..KEYS {
        truth.create(WRITER, key as u8, Kind::Kinlog, LENGTHS[3]);
    }
    truth
}

/// Asserts that what a reader has is what the writer of the longest history wrote.
fn check(world: &World, truth: &World, key: &FeedKey, seed: u64) {
    for node in [WRITER, READER] {
        let load = world.nodes[node].replicator.load();
        let is_bounded = load.in_flight_bytes <= IN_FLIGHT_BYTES_MAX + URGENT_BYTES_MAX
            && load.unapplied_bytes <= 2 * UNAPPLIED_BYTES_MAX + APPLY_BYTES_MAX
            && load.parked <= PARKED_PROOFS_MAX
            && load.requests_of_one_peer <= REQUESTS_QUEUED_MAX;
        assert!(is_bounded, "seed {seed}: node {node} keeps {load:?}");
    }
    let reader = world.nodes[READER].feed(key);
    let length = reader.head().length;
    for root in &reader.head().roots {
        let written = truth.nodes[WRITER].feed(key).node(root.index).unwrap();
        assert_eq!(written.as_ref(), Some(root), "seed {seed}: head {length}");
    }
    for (block, value) in (0..length).zip(content(0..length)) {
        if let Some(held) = reader.get(block).unwrap() {
            assert_eq!(held, value, "seed {seed}: block {block}");
        }
    }
    let report = reader.verify().unwrap();
    assert!(
        report.problems.is_empty(),
        "seed {seed}: {:?}",
        report.problems
    );
    for (name, bytes) in world.nodes[READER].disk.to_files() {
        // Twelve bytes put near the end of a message are cut off: eight of them are enough.
        let found = bytes.windows(8).position(|bytes| bytes == &NEEDLE[..8]);
        assert_eq!(found, None, "seed {seed}: {name} has what was not verified");
    }
}

#[test]
fn nothing_of_a_hundred_thousand_changed_messages_is_stored() {
    let first = usual_seed(1);
    println!("seed {first}");
    let truth = truth();
    let mutator = Rc::new(RefCell::new(Mutator::new(first)));
    let changed = || mutator.borrow().changed.values().sum::<u64>();
    let (mut meetings, mut cuts, mut whole) = (0, 0, 0);
    while changed() < soak::choose(MESSAGES, 100 * MESSAGES) {
        let seed = first.wrapping_add(meetings);
        let (mut world, key, blocks) = meeting(seed, &mutator, None);
        mutator.borrow_mut().one_in = [1, 2, 4, 8, 16][world.random.index(5)];
        meetings += 1;
        for _ in 0..8 {
            if !world.is_connected(WRITER, READER) {
                world.connect(WRITER, READER);
            }
            world.settle();
        }
        check(&world, &truth, &key, seed);
        cuts += world.nodes[READER].violations.len() + world.nodes[WRITER].violations.len();
        whole += u64::from(world.nodes[READER].feed(&key).info().blocks_held == blocks);
    }
    let Mutator {
        changed,
        undecodable,
        ..
    } = &*mutator.borrow();
    println!(
        "{meetings} meetings, {whole} brought all, {cuts} connections cut; {undecodable} undecodable; changed by type: {changed:?}"
    );
    assert!(cuts > 100, "{cuts} connections were cut");
    // Synchronize, request, data, range of Hypercore, and sets with their requests.
    for kind in [SET - 1, SET, 16, 17, 19, 24] {
        let count = changed.get(&kind).copied().unwrap_or_default();
        assert!(count > 100, "messages of type {kind}: {count}");
    }
}

#[test]
#[should_panic(expected = "seed")]
fn a_store_that_verifies_nothing_is_noticed() {
    let (truth, mutator) = (truth(), Rc::new(RefCell::new(Mutator::new(1))));
    for seed in 1..200 {
        let (mut world, key, _) = meeting(seed, &mutator, Some(Mistake::SkipVerification));
        world.connect(WRITER, READER);
        world.settle();
        check(&world, &truth, &key, seed);
    }
}
