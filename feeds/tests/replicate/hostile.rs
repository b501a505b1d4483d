//! Hostile peers: what they send is noticed, costs them the connection, and is never stored; who
//! only passes on what a writer did wrong is not blamed.

use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::replicate::{FeedEvent, PeerId, ProtocolViolation, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::tree::{BlockRequest, Node, Proof, ProofRequest, UpgradeRequest};
use kinlog_feeds::wire::hypercore::{self, Data, Message, Request, Synchronize};
use kinlog_feeds::{FeedKey, Hash};

use testkit::random::Random;

use crate::world::{World, assert_holds, seeded};

const LIAR: usize = 0;
const READER: usize = 1;
const HONEST: usize = 2;

fn flip(bytes: &mut Bytes, at: u64) {
    let mut changed = bytes.to_vec();
    let at = (at % changed.len() as u64) as usize;
    changed[at] ^= 1;
    *bytes = changed.into();
}

/// Changes one field of an answer; returns whether it had that field.
fn change(data: &mut Data, kind: usize, at: u64) -> bool {
    let first = |nodes: &mut Vec<Node>, edit: fn(&mut Node)| nodes.first_mut().map(edit).is_some();
    let proof = &mut data.proof;
    match (kind, &mut proof.block, &mut proof.upgrade) {
        (0, Some(block), _) if !block.value.is_empty() => flip(&mut block.value, at),
        (1, Some(block), _) => return first(&mut block.nodes, |node| node.hash.0[5] ^= 1),
        (2, Some(block), _) => return first(&mut block.nodes, |node| node.size += 1),
        (3, Some(block), _) => return first(&mut block.nodes, |node| node.index ^= 2),
        (4, _, Some(upgrade)) => flip(&mut upgrade.signature, at),
        (5, _, Some(upgrade)) => return first(&mut upgrade.nodes, |node| node.hash.0[9] ^= 1),
        (6, _, Some(upgrade)) => upgrade.length -= 1,
        (7, _, _) => match &mut data.manifest {
            Some(manifest) => flip(manifest, at),
            None => return false,
        },
        (8, Some(block), _) => block.index ^= 1,
        _ => return false,
    }
    true
}

#[test]
fn whatever_a_liar_changes_it_is_banned_and_the_honest_peer_completes_the_feed() {
    let mut banned = 0;
    for seed in 1..=45 {
        let kind = seed as usize % 9;
        let mut world = World::new(seed, 3);
        let key = world.create(LIAR, 1, Kind::Kinlog, 120);
        world.follow(HONEST, key, Kind::Kinlog, Want::All, true);
        world.connect(LIAR, HONEST);
        world.settle();
        world.disconnect(LIAR, HONEST);

        let mut random = seeded(seed);
        world.tamper = Some(Box::new(move |from, _, mut message| {
            if let (LIAR, Message::Data(data)) = (from, &mut message)
                && random.index(3) == 0
            {
                change(data, kind, random.next_u64());
            }
            vec![message]
        }));
        world.follow(READER, key, Kind::Kinlog, Want::All, true);
        world.connect(LIAR, READER);
        world.settle();
        world.connect(READER, HONEST);
        world.pass(Duration::from_secs(120));
        assert_holds(&world, READER, &key, 0..120);
        for (peer, reason, ban) in &world.nodes[READER].violations {
            assert_eq!(*peer, PeerId(LIAR as u64), "kind {kind}: {reason}");
            assert_eq!(*ban, reason.is_proven_lie());
            banned += usize::from(*ban);
        }
    }
    assert!(banned > 20, "{banned} of 45 liars were caught at it");
}

#[test]
fn a_second_history_stops_the_feed_and_nobody_is_banned() {
    for seed in 1..=5 {
        let mut world = World::new(seed, 3);
        let key = world.create(0, 1, Kind::Kinlog, 8);
        world.create_forked(2, 1, Kind::Kinlog, 11, 6);
        world.follow(READER, key, Kind::Kinlog, Want::All, true);
        world.connect(0, READER);
        world.settle();
        assert_holds(&world, READER, &key, 0..8);
        world.connect(2, READER);
        world.pass(Duration::from_secs(60));
        let conflict = (key, FeedEvent::Conflict);
        assert!(
            world.nodes[READER].events.contains(&conflict),
            "seed {seed}"
        );
        assert_eq!(world.nodes[READER].violations, []);
        assert!(world.is_connected(READER, 2));
        assert_holds(&world, READER, &key, 0..8);
    }
}

fn block_request(id: u64) -> Message {
    let block = Some(BlockRequest { index: 0, nodes: 0 });
    Message::Request(Request {
        id,
        proof: ProofRequest {
            block,
            ..ProofRequest::default()
        },
        ..Request::default()
    })
}

#[test]
fn a_flood_of_requests_ends_with_the_connection() {
    let mut world = World::new(1, 2);
    let key = world.create(READER, 1, Kind::Kinlog, 5);
    world.follow(LIAR, key, Kind::Kinlog, Want::None, false);
    world.connect(LIAR, READER);
    world.settle();
    let now = world.now;
    let mut cut = None;
    for id in 0..100_000 {
        let replicator = &mut world.nodes[READER].replicator;
        let peer = PeerId(LIAR as u64);
        if let Err(reason) = replicator.handle_message(now, peer, &key, block_request(id)) {
            cut = Some((id, reason));
            break;
        }
    }
    let (count, reason) = cut.unwrap();
    assert!(
        matches!(reason, ProtocolViolation::TooManyRequests { .. }),
        "{reason:?}"
    );
    assert!(count < 20_000, "{count} requests were queued");
}

#[test]
fn data_that_nobody_asked_for_ends_with_the_connection() {
    let mut world = World::new(1, 2);
    let key = world.create(LIAR, 1, Kind::Kinlog, 50);
    world.follow(READER, key, Kind::Kinlog, Want::Range(0..1), false);
    world.connect(LIAR, READER);
    world.settle();
    let request = ProofRequest {
        block: Some(BlockRequest { index: 9, nodes: 5 }),
        ..ProofRequest::default()
    };
    let proof = world.nodes[LIAR].feed(&key).prove(&request).unwrap();
    for id in 0..200 {
        let data = Data {
            request: 1_000 + id,
            proof: proof.clone(),
            manifest: None,
        };
        world.inject(LIAR, READER, key, Message::Data(data));
    }
    world.settle();
    assert_holds(&world, READER, &key, 0..1);
    let violations = &world.nodes[READER].violations;
    let unsolicited =
        |reason: &ProtocolViolation| matches!(reason, ProtocolViolation::UnsolicitedData { .. });
    assert!(
        violations.iter().any(|(_, reason, _)| unsolicited(reason)),
        "{violations:?}"
    );
    assert!(!world.is_connected(LIAR, READER));
}

/// Small numbers, numbers near every power of two, and the largest the wire can carry.
fn number(random: &mut Random) -> u64 {
    let most = (1 << 53) - 1;
    match random.index(3) {
        0 => random.next_u64() % 40,
        1 => ((1u64 << random.index(53)) + random.next_u64() % 3).min(most),
        _ => most - random.next_u64() % 3,
    }
}

fn nonsense(random: &mut Random) -> Message {
    let (start, length) = (number(random), number(random));
    match random.index(9) {
        0 => Message::Synchronize(Synchronize {
            fork: random.next_u64() % 2,
            length,
            remote_length: start,
            can_upgrade: random.index(2) == 0,
            uploading: random.index(2) == 0,
            downloading: random.index(2) == 0,
            has_manifest: random.index(2) == 0,
            allow_push: random.index(2) == 0,
        }),
        1 => Message::Range(hypercore::Range {
            drop: random.index(3) == 0,
            start,
            length,
        }),
        2 => Message::Want(hypercore::Want {
            start,
            length,
            any: random.index(2) == 0,
        }),
        3 => Message::Bitfield {
            start: start / 32 * 32,
            words: (0..random.index(70))
                .map(|_| random.next_u64() as u32)
                .collect(),
        },
        4 => Message::Request(Request {
            id: random.next_u64() % 9,
            proof: ProofRequest {
                block: Some(BlockRequest {
                    index: start,
                    nodes: length,
                }),
                upgrade: (random.index(2) == 0).then_some(UpgradeRequest { start, length }),
                ..ProofRequest::default()
            },
            ..Request::default()
        }),
        5 => Message::Cancel(random.next_u64() % 9),
        6 => Message::Unwant(hypercore::Want {
            start,
            length,
            any: false,
        }),
        7 => Message::NoData(hypercore::NoData {
            request: random.next_u64() % 9,
            reason: None,
        }),
        _ => {
            let nodes = vec![Node {
                index: start,
                size: length,
                hash: Hash([1; 32]),
            }];
            let block = kinlog_feeds::tree::BlockProof {
                index: start,
                value: Bytes::new(),
                nodes,
            };
            Message::Data(Data {
                request: random.next_u64() % 9,
                proof: Proof {
                    block: Some(block),
                    ..Proof::default()
                },
                manifest: None,
            })
        }
    }
}

fn talk_nonsense(world: &mut World, random: &mut Random, key: FeedKey) {
    for _ in 0..40 {
        let message = nonsense(random);
        world.inject(LIAR, READER, key, message);
        if random.index(4) == 0 {
            world.pass(Duration::from_secs(1));
        }
    }
}

#[test]
fn nonsense_harms_nobody_else() {
    for seed in 1..=60 {
        let mut world = World::new(seed, 3);
        let key = world.create(HONEST, 1, Kind::Kinlog, 60);
        for node in [LIAR, READER] {
            world.follow(node, key, Kind::Kinlog, Want::All, true);
        }
        world.connect(LIAR, READER);
        let mut random = seeded(seed);
        talk_nonsense(&mut world, &mut random, key);
        world.connect(READER, HONEST);
        talk_nonsense(&mut world, &mut random, key);
        world.pass(Duration::from_secs(300));
        assert_holds(&world, READER, &key, 0..60);
        let violations = &world.nodes[READER].violations;
        let of_honest = violations.iter().find(|(peer, ..)| peer.0 == HONEST as u64);
        assert_eq!(of_honest, None);
    }
}
