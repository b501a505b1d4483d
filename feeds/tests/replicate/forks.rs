//! A writer that signs two histories: whoever sees both stops, tells the others, bans nobody and
//! loses nothing.

use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::conflict::{ConflictProof, Contradiction};
use kinlog_feeds::replicate::{FeedEvent, PeerId, ProtocolViolation, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::{FeedKey, KeyPair};

use crate::world::{World, assert_holds, content};

const ONE: usize = 0;
const READER: usize = 1;
const OTHER: usize = 2;

/// What a proof may take.
const PROOF_BYTES_MAX: usize = 4 * 1024;

/// Two peers with histories of `one` and `other` blocks that differ from block `fork_at` on; the
/// reader meets them in turn.
fn meet_both(
    seed: u64,
    one: u64,
    other: u64,
    fork_at: u64,
    first: usize,
    want: Want,
) -> (World, FeedKey) {
    let mut world = World::new(seed, 3);
    let key = world.create(ONE, 1, Kind::Kinlog, one);
    world.create_forked(OTHER, 1, Kind::Kinlog, other, fork_at);
    world.follow(READER, key, Kind::Kinlog, want, true);
    world.connect(first, READER);
    world.settle();
    world.connect(ONE + OTHER - first, READER);
    world.settle();
    (world, key)
}

fn stopped(world: &World, node: usize, key: &FeedKey) -> Option<ConflictProof> {
    world.nodes[node].feed(key).conflict().unwrap()
}

/// Asserts that everybody has stopped with one and the same proof, and nobody was banned or cut off.
fn assert_all_stopped(world: &World, key: &FeedKey, what: &str) -> ConflictProof {
    let proof = stopped(world, READER, key).unwrap_or_else(|| panic!("{what}: not found"));
    for node in [ONE, READER, OTHER] {
        assert_eq!(
            stopped(world, node, key).as_ref(),
            Some(&proof),
            "{what}: node {node}"
        );
        let stops = world.nodes[node]
            .events
            .iter()
            .filter(|(_, event)| *event == FeedEvent::Conflict);
        assert_eq!(stops.count(), 1, "{what}: node {node} is told once");
        assert_eq!(world.nodes[node].violations, [], "{what}");
    }
    assert!(world.is_connected(ONE, READER) && world.is_connected(OTHER, READER));
    let bytes = proof.encode();
    assert!(
        bytes.len() < PROOF_BYTES_MAX,
        "{what}: {} bytes",
        bytes.len()
    );
    assert_eq!(ConflictProof::decode(&bytes).as_ref(), Ok(&proof), "{what}");
    proof
}

/// Every fork point of up to 64 blocks; the other history is as long, one longer, and as short as a
/// fork can be.
fn every_fork(first: usize) {
    let mut found = 0;
    for length in 1..=64 {
        for fork_at in 0..length {
            let other = [length, length + 1, fork_at + 1][(length + fork_at) as usize % 3];
            let what = format!("{length} and {other}, apart from {fork_at}, {first} first");
            let seed = length * 64 + fork_at;
            let (world, key) = meet_both(seed, length, other, fork_at, first, Want::None);
            let proof = assert_all_stopped(&world, &key, &what);
            assert!(proof.blocks().contains(&fork_at), "{what}: {proof}");
            found += 1;
        }
    }
    assert_eq!(found, 64 * 65 / 2);
}

#[test]
fn every_fork_of_up_to_64_blocks_is_found_and_stops_all_three_at_once() {
    every_fork(ONE);
}

#[test]
fn every_fork_is_found_in_the_other_order_too() {
    every_fork(OTHER);
}

#[test]
fn what_was_held_stays_and_is_served_when_the_feed_stops() {
    for (one, other, first) in [(40, 40, ONE), (40, 61, ONE), (40, 25, OTHER), (61, 40, ONE)] {
        let what = format!("{one} and {other}, {first} first");
        let (mut world, key) = meet_both(7, one, other, 20, first, Want::All);
        assert_all_stopped(&world, &key, &what);
        assert_holds(&world, ONE, &key, 0..one);
        let held = world.nodes[READER].feed(&key).info();
        let expected = if first == ONE { one } else { other };
        assert_eq!(
            (held.length, held.blocks_held),
            (expected, expected),
            "{what}"
        );

        // A newcomer learns of the conflict from whoever it meets, and nothing is lost by that.
        world.follow_new(3, key, Kind::Kinlog, Want::All, true);
        world.connect(READER, 3);
        world.settle();
        assert!(stopped(&world, 3, &key).is_some(), "{what}");
        assert_eq!(world.nodes[3].violations, []);
    }
}

#[test]
fn neither_side_has_to_follow_the_other_for_a_fork_to_be_found() {
    for (one, other) in [(9, 9), (9, 12), (12, 9)] {
        let mut world = World::new(3, 3);
        let key = world.create(ONE, 1, Kind::Kinlog, one);
        world.create_forked(OTHER, 1, Kind::Kinlog, other, 4);
        world.connect(ONE, OTHER);
        world.settle();
        for node in [ONE, OTHER] {
            assert!(stopped(&world, node, &key).is_some(), "{one} and {other}");
            assert_eq!(world.nodes[node].violations, []);
        }
    }
}

#[test]
fn own_appends_are_refused_once_the_proof_arrives() {
    let (world, key) = meet_both(1, 12, 14, 5, ONE, Want::All);
    let pair = KeyPair::from_seed(&[1; 32]);
    let own = world.nodes[ONE].feed(&key);
    let refused = own.append_batch(&pair, &content(12..13)).unwrap_err();
    assert!(
        matches!(refused, kinlog_feeds::store::AppendError::Conflict { .. }),
        "{refused}"
    );
    assert_holds(&world, ONE, &key, 0..12);
}

#[test]
fn peers_that_agree_are_not_asked_for_anything_more() {
    let mut world = World::new(2, 3);
    let key = world.create(ONE, 1, Kind::Kinlog, 50);
    world.follow(READER, key, Kind::Kinlog, Want::All, true);
    world.follow(OTHER, key, Kind::Kinlog, Want::All, true);
    world.connect(ONE, READER);
    world.settle();
    let mut requests = 0;
    let mut hints = 0;
    let counted = std::rc::Rc::new(std::cell::Cell::new((0, 0)));
    let count = counted.clone();
    world.tamper = Some(Box::new(move |_, _, message| {
        match &message {
            Message::Request(request) if request.proof.upgrade.is_some() => requests += 1,
            Message::Extension { name, .. } if &name[..] == b"kinlog/head" => hints += 1,
            _ => {}
        }
        count.set((requests, hints));
        vec![message]
    }));
    world.connect(ONE, OTHER);
    world.connect(READER, OTHER);
    world.settle();
    world.append(ONE, 1, 1);
    world.settle();
    for node in [READER, OTHER] {
        assert_holds(&world, node, &key, 0..51);
        assert!(stopped(&world, node, &key).is_none());
    }
    let (upgrades, hints) = counted.get();
    assert!(upgrades <= 4, "{upgrades} upgrades asked for");
    assert!(hints <= 8, "{hints} heads told");
}

#[test]
fn a_head_on_another_fork_stops_a_kinlog_feed() {
    for follows_first in [true, false] {
        let mut world = World::new(5, 3);
        let key = world.create(ONE, 1, Kind::Kinlog, 9);
        world.create_on_fork(OTHER, 1, 6, 1);
        world.follow(READER, key, Kind::Kinlog, Want::All, true);
        if follows_first {
            world.connect(ONE, READER);
            world.settle();
        }
        world.connect(OTHER, READER);
        world.settle();
        let proof = stopped(&world, READER, &key).unwrap();
        assert_eq!(proof.contradiction(), Contradiction::Fork);
        assert_eq!(
            proof.heads()[0].head.length,
            if follows_first { 9 } else { 0 }
        );
        assert_eq!(world.nodes[READER].violations, []);
        world.connect(ONE, READER);
        world.settle();
        assert!(stopped(&world, ONE, &key).is_some());
    }
}

#[test]
fn a_proof_that_does_not_hold_is_a_lie() {
    let (found, key) = meet_both(1, 12, 14, 5, ONE, Want::None);
    let bytes = stopped(&found, READER, &key).unwrap().encode();
    let (other_feed, _) = {
        let mut world = World::new(9, 3);
        let key = world.create(ONE, 2, Kind::Kinlog, 5);
        world.create_forked(OTHER, 2, Kind::Kinlog, 5, 2);
        world.connect(ONE, OTHER);
        world.settle();
        (stopped(&world, ONE, &key).unwrap().encode(), key)
    };
    let mut changed = bytes.clone();
    changed[200] ^= 1;
    for lie in [
        changed,
        bytes[..100].to_vec(),
        vec![],
        other_feed,
        vec![0; 70_000],
    ] {
        let mut world = World::new(4, 2);
        world.create(0, 1, Kind::Kinlog, 12);
        world.follow(1, key, Kind::Kinlog, Want::All, true);
        world.connect(0, 1);
        let message = Message::Extension {
            name: Bytes::from_static(b"kinlog/conflict"),
            payload: lie.into(),
        };
        world.inject(0, 1, key, message);
        world.pass(Duration::from_secs(1));
        assert!(stopped(&world, 1, &key).is_none());
        let expected = (PeerId(0), ProtocolViolation::BadConflict { key }, true);
        assert_eq!(world.nodes[1].violations, [expected]);
    }
}

#[test]
fn whoever_gives_bad_blocks_and_no_answer_to_that_is_cut() {
    for silent in [false, true] {
        let mut world = World::new(6, 3);
        let key = world.create(ONE, 1, Kind::Kinlog, 30);
        world.create(OTHER, 1, Kind::Kinlog, 30);
        world.follow(READER, key, Kind::Kinlog, Want::All, true);
        world.tamper = Some(Box::new(move |from, _, mut message| {
            if from != ONE {
                return vec![message];
            }
            if let Message::Data(data) = &mut message {
                if let Some(block) = &mut data.proof.block {
                    block.value = Bytes::from_static(b"not what was written");
                } else if data
                    .proof
                    .upgrade
                    .as_ref()
                    .is_some_and(|_| data.request != 1)
                {
                    if silent {
                        return Vec::new();
                    }
                    return vec![Message::NoData(kinlog_feeds::wire::hypercore::NoData {
                        request: data.request,
                        reason: None,
                    })];
                }
            }
            vec![message]
        }));
        world.connect(ONE, READER);
        world.pass(Duration::from_secs(90));
        let [(peer, reason, ban)] = &world.nodes[READER].violations[..] else {
            panic!("{:?}", world.nodes[READER].violations);
        };
        assert_eq!(*peer, PeerId(ONE as u64));
        assert!(*ban && reason.is_proven_lie(), "{reason}");
        world.connect(OTHER, READER);
        world.pass(Duration::from_secs(30));
        assert_holds(&world, READER, &key, 0..30);
        assert!(stopped(&world, READER, &key).is_none());
    }
}
