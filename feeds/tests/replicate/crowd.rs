//! Fifty hostile peers beside an honest one, in simulated time: it keeps nine tenths of its rate, and
//! what waits for each of them is bounded. Store work takes time as well, so that work done for them is
//! work not done for it.

use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::limits::{
    READ_BYTES_PER_PEER_MAX, REQUEST_TIMEOUT, SEND_QUEUE_BYTES, URGENT_BYTES_MAX,
};
use kinlog_feeds::replicate::{PeerId, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::tree::{BlockProof, BlockRequest, Proof, ProofRequest};
use kinlog_feeds::wire::hypercore::{self, Data, Message, Request, Synchronize};
use kinlog_feeds::{FeedKey, Hash};

use crate::timed::{Path, Timed};
use crate::world::World;

const SERVER: usize = 0;
const HONEST: usize = 1;
const HOSTILE: std::ops::Range<usize> = 2..52;

const BLOCKS: u64 = 1500;
const BLOCK_BYTES: usize = 16 * 1024;

/// What a node gets done for its store in a millisecond: 50 us for a block of 16 KiB.
const WORK_PER_MS: usize = 20;

/// How often a hostile peer says something.
const TURN: Duration = Duration::from_millis(10);

const GOOD: Path = Path {
    rate: 10_000_000,
    delay: Duration::from_millis(10),
};

/// Somebody who takes nothing off the wire.
const UNREAD: Path = Path { rate: 1, ..GOOD };

const SLOW: Path = Path {
    rate: 20_000,
    ..GOOD
};

fn blocks() -> Vec<Bytes> {
    let block = |at: u64| {
        let mut block = vec![at as u8; BLOCK_BYTES];
        block[..8].copy_from_slice(&at.to_le_bytes());
        Bytes::from(block)
    };
    (0..BLOCKS).map(block).collect()
}

fn ask(id: u64, index: u64) -> Message {
    let block = Some(BlockRequest { index, nodes: 0 });
    Message::Request(Request {
        id,
        proof: ProofRequest {
            block,
            ..ProofRequest::default()
        },
        ..Request::default()
    })
}

fn want(number: u64) -> Message {
    let region = hypercore::Want {
        start: 0,
        length: 1 << 21,
        any: false,
    };
    match number % 2 {
        0 => Message::Want(region),
        _ => Message::Unwant(region),
    }
}

fn unasked(request: u64) -> Message {
    let nodes = vec![kinlog_feeds::tree::Node {
        index: 2,
        size: 9,
        hash: Hash([3; 32]),
    }];
    let block = Some(BlockProof {
        index: request % BLOCKS,
        value: Bytes::from_static(&[0; 1000]),
        nodes,
    });
    Message::Data(Data {
        request,
        proof: Proof {
            block,
            ..Proof::default()
        },
        manifest: None,
    })
}

/// Claims a longer head and all its blocks.
fn claim(length: u64) -> [Message; 2] {
    let head = Synchronize {
        length,
        can_upgrade: true,
        uploading: true,
        has_manifest: true,
        ..Synchronize::default()
    };
    let all = hypercore::Range {
        drop: false,
        start: 0,
        length,
    };
    [Message::Synchronize(head), Message::Range(all)]
}

/// What a peer does, ten times in a tenth of a second.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Asks for blocks and reads none.
    NeverReads,
    /// Asks for blocks and reads 20 KB/s.
    ReadsSlowly,
    /// Asks for what there is not, and reads no refusal.
    FloodsWithNonsense,
    /// Wants to know what is held, and not any more, and reads none of it.
    WantsAndUnwants,
    /// Sends what nobody asked for.
    SendsUnasked,
    /// Opens the channel and says nothing.
    SaysNothing,
}

impl Habit {
    fn of(node: usize) -> Habit {
        [
            Habit::NeverReads,
            Habit::ReadsSlowly,
            Habit::FloodsWithNonsense,
            Habit::WantsAndUnwants,
            Habit::SendsUnasked,
            Habit::SaysNothing,
        ][node % 6]
    }

    /// How it takes what it is sent.
    fn path(self) -> Path {
        match self {
            Habit::ReadsSlowly => SLOW,
            _ => UNREAD,
        }
    }

    fn says(self, turn: u64) -> Vec<Message> {
        let many = |each: u64, of: fn(u64) -> Message| {
            let numbers = turn * each..(turn + 1) * each;
            numbers.map(of).collect()
        };
        match self {
            Habit::NeverReads => many(20, |id| ask(id, id % BLOCKS)),
            Habit::ReadsSlowly => many(1, |id| ask(id, id % BLOCKS)),
            Habit::FloodsWithNonsense => many(50, |id| ask(id, BLOCKS + id)),
            Habit::WantsAndUnwants => many(50, want),
            Habit::SendsUnasked => many(5, |id| unasked(100_000 + id)),
            Habit::SaysNothing => Vec::new(),
        }
    }
}

/// Lets hostile peers have their turns until the reader holds so many blocks; returns how long that took.
fn until_holds(
    timed: &mut Timed,
    key: FeedKey,
    blocks: u64,
    of: fn(usize, u64) -> Vec<Message>,
) -> Duration {
    let begun = timed.world.now;
    for turn in 0..20_000 {
        let holds = |world: &World| world.nodes[HONEST].feed(&key).info().blocks_held >= blocks;
        timed.run_until(TURN, holds);
        if holds(&timed.world) {
            return timed.world.now.since(begun);
        }
        for node in HOSTILE.start..timed.world.nodes.len() {
            let victim = if timed.world.is_connected(node, SERVER) {
                SERVER
            } else {
                HONEST
            };
            for message in of(node, turn) {
                timed.world.inject(node, victim, key, message);
            }
        }
    }
    panic!("it does not come to an end");
}

/// A server of a feed, an honest reader, and so many others that know the feed.
fn world(nodes: usize) -> (World, FeedKey) {
    let mut world = World::new(1, nodes);
    let key = world.create_of(SERVER, 1, Kind::Kinlog, &blocks());
    for node in 1..nodes {
        let want = if node == HONEST {
            Want::All
        } else {
            Want::None
        };
        world.follow(node, key, Kind::Kinlog, want, node == HONEST);
    }
    (world, key)
}

fn alone() -> Duration {
    let (world, key) = world(2);
    let mut timed = Timed::new(world).working(WORK_PER_MS);
    timed.connect(SERVER, HONEST, GOOD.rate, GOOD.delay);
    until_holds(&mut timed, key, BLOCKS, |_, _| Vec::new())
}

#[test]
fn a_reader_keeps_its_rate_beside_fifty_that_burden_its_source() {
    let alone = alone();
    let (world, key) = world(HOSTILE.end);
    let mut timed = Timed::new(world).working(WORK_PER_MS);
    for node in HOSTILE {
        timed.connect_by(SERVER, node, Habit::of(node).path(), GOOD);
    }
    timed.connect(SERVER, HONEST, GOOD.rate, GOOD.delay);
    let beside = until_holds(&mut timed, key, BLOCKS, |node, turn| {
        Habit::of(node).says(turn)
    });
    println!("alone {alone:?}, beside fifty {beside:?}");
    assert!(beside * 9 <= alone * 10, "{beside:?} instead of {alone:?}");
    // What waits when a connection fills, what was being read then, and what is urgent.
    let most = SEND_QUEUE_BYTES + READ_BYTES_PER_PEER_MAX + BLOCK_BYTES + 4 * URGENT_BYTES_MAX;
    assert!(most <= 4 * 1024 * 1024);
    for node in HOSTILE {
        let queued = timed.most_queued(SERVER, node);
        assert!(queued <= most, "{queued} for {:?}", Habit::of(node));
    }
    let cut = &timed.world.nodes[SERVER].violations;
    let honest = cut.iter().find(|(peer, ..)| *peer == PeerId(HONEST as u64));
    assert_eq!(honest, None);
}

/// A reader of a source and of fifty that say to have everything: once they decline what they are asked
/// for, once they are silent. While they are waited for it goes on with the others.
#[test]
fn a_reader_keeps_its_rate_beside_fifty_that_promise_and_bring_nothing() {
    let alone = alone();
    for is_silent in [false, true] {
        let (mut world, key) = world(HOSTILE.end);
        if is_silent {
            // What a hostile node's own replicator says; what it claims below is no part of that.
            world.tamper = Some(Box::new(|from, _, message| match HOSTILE.contains(&from) {
                true => Vec::new(),
                false => vec![message],
            }));
        }
        let mut timed = Timed::new(world).working(WORK_PER_MS);
        for node in HOSTILE {
            timed.connect(node, HONEST, GOOD.rate, GOOD.delay);
        }
        timed.connect(SERVER, HONEST, GOOD.rate, GOOD.delay);
        let beside = until_holds(&mut timed, key, BLOCKS * 9 / 10, |node, turn| {
            match (turn, node % 2) {
                (0, 0) => claim(BLOCKS).to_vec(),
                // A head that nobody has: only the feed's writer could prove it.
                (0, _) => claim(BLOCKS + 1000).to_vec(),
                _ => Vec::new(),
            }
        });
        println!("all alone {alone:?}, nine tenths beside fifty {beside:?}; silent: {is_silent}");
        assert!(beside <= alone, "{beside:?} instead of {alone:?}");
        let whole = until_holds(&mut timed, key, BLOCKS, |_, _| Vec::new());
        println!("the rest after {whole:?}");
        assert!(
            whole <= 2 * REQUEST_TIMEOUT,
            "what they were asked for comes, too: {whole:?}"
        );
    }
}
