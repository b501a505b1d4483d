//! Blocks that come before they are asked for: taken where they may come, refused and counted elsewhere.

use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{PeerId, ProtocolViolation, Pushes, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::tree::ProofRequest;
use kinlog_feeds::wire::hypercore::{Data, Message};

use crate::world::{World, assert_holds};

const WRITER: usize = 0;
const READER: usize = 1;

/// A writer of 10 blocks and a reader that has them.
fn pair(want: Want, pushes: Pushes) -> (World, FeedKey) {
    let mut world = World::new(1, 2);
    let key = world.create(WRITER, 1, Kind::Kinlog, 10);
    world.follow(READER, key, Kind::Kinlog, want, true);
    world.connect(WRITER, READER);
    world.settle();
    set_pushes(&mut world, key, pushes);
    (world, key)
}

fn set_pushes(world: &mut World, key: FeedKey, pushes: Pushes) {
    let now = world.now;
    world.nodes[READER].replicator.set_pushes(now, &key, pushes);
    world.work();
    world.settle();
}

fn requests(world: &World) -> usize {
    world.block_requests.get(&READER).map_or(0, Vec::len)
}

fn peer_of(world: &World, node: usize, key: &FeedKey) -> kinlog_feeds::replicate::PeerStatus {
    world.nodes[node].replicator.status(key).unwrap().peers[0]
}

#[test]
fn what_is_appended_comes_at_once_where_it_may() {
    for (want, counts) in [
        (Want::All, [1, 1, 3, 16, 1]),
        (Want::Last(5), [1, 1, 3, 4, 1]),
    ] {
        let (mut world, key) = pair(want, Pushes::Taken);
        let before = requests(&world);
        let mut length = 10;
        for count in counts {
            world.append(WRITER, 1, count);
            world.settle();
            let feed = world.nodes[READER].feed(&key);
            assert!((length..length + count).all(|block| feed.has(block)));
            length += count;
        }
        assert_eq!(requests(&world), before, "nothing was asked for");
        assert_eq!(peer_of(&world, READER, &key).pushed, length - 10);
        assert_eq!(peer_of(&world, READER, &key).unsolicited, 0);
        assert_eq!(peer_of(&world, WRITER, &key).remote_length, length);
        let reach = world.nodes[WRITER].replicator.reach(&key);
        assert_eq!((reach.takers, reach.length), (1, length));
    }
}

#[test]
fn appends_in_one_go_come_in_their_order() {
    let (mut world, key) = pair(Want::All, Pushes::Taken);
    let before = requests(&world);
    for _ in 0..10 {
        world.append(WRITER, 1, 1);
    }
    world.settle();
    assert_holds(&world, READER, &key, 0..20);
    assert_eq!(requests(&world), before);
}

#[test]
fn who_has_only_what_is_pushed_asks_for_nothing() {
    let mut world = World::new(1, 2);
    let key = world.create(WRITER, 1, Kind::Plain, 0);
    world.follow(READER, key, Kind::Plain, Want::All, true);
    let now = world.now;
    world.nodes[READER]
        .replicator
        .set_pushes(now, &key, Pushes::Only);
    world.connect(WRITER, READER);
    world.settle();
    world.append(WRITER, 1, 4);
    world.settle();
    assert_holds(&world, READER, &key, 0..4);
    assert_eq!(requests(&world), 0);
    // More than is pushed at once is told alone.
    world.append(WRITER, 1, 100);
    world.settle();
    assert_eq!(world.nodes[READER].feed(&key).info().length, 4);
    set_pushes(&mut world, key, Pushes::Taken);
    assert_holds(&world, READER, &key, 0..104);
}

#[test]
fn nothing_is_pushed_to_who_wants_a_part_or_is_asked_for_it() {
    for (want, pushes) in [
        (Want::All, Pushes::Refused),
        (Want::Range(0..50), Pushes::Taken),
        (Want::None, Pushes::Taken),
    ] {
        let (mut world, key) = pair(want, pushes);
        world.append(WRITER, 1, 1);
        world.settle();
        assert_eq!(peer_of(&world, READER, &key).pushed, 0);
        assert_eq!(peer_of(&world, READER, &key).unsolicited, 0);
    }
}

#[test]
fn who_may_see_a_part_is_pushed_nothing_beyond() {
    let (mut world, key) = pair(Want::All, Pushes::Taken);
    let now = world.now;
    let only = [(key, Vec::from([0..5, 6..11]))].into();
    world.nodes[WRITER]
        .replicator
        .limit(now, PeerId(READER as u64), only);
    world.settle();
    world.append(WRITER, 1, 1);
    world.settle();
    assert_holds(&world, READER, &key, 0..11);
    let pushed = peer_of(&world, READER, &key).pushed;
    world.append(WRITER, 1, 1);
    world.settle();
    assert_eq!(peer_of(&world, READER, &key).pushed, pushed);
    assert!(!world.nodes[READER].feed(&key).has(11));
}

#[test]
fn one_that_missed_a_push_asks_for_it() {
    let (mut world, key) = pair(Want::All, Pushes::Taken);
    let mut dropped = false;
    world.tamper = Some(Box::new(move |_, _, message| match &message {
        Message::Data(data) if data.request == 0 && !std::mem::replace(&mut dropped, true) => {
            Vec::new()
        }
        _ => vec![message],
    }));
    for _ in 0..3 {
        world.append(WRITER, 1, 1);
    }
    world.pass(Duration::from_secs(30));
    assert_holds(&world, READER, &key, 0..13);
    assert_eq!(world.nodes[READER].violations, []);
}

/// Says data of a block that nobody asked for until that costs the connection.
fn slip_in(world: &mut World, key: &FeedKey, index: u64) -> Option<ProtocolViolation> {
    let request = ProofRequest {
        block: Some(kinlog_feeds::tree::BlockRequest { index, nodes: 0 }),
        ..ProofRequest::default()
    };
    let proof = world.nodes[WRITER].feed(key).prove(&request).unwrap();
    let data = Message::Data(Data {
        request: 0,
        proof,
        manifest: None,
    });
    let now = world.now;
    let reader = &mut world.nodes[READER].replicator;
    (0..200).find_map(|_| {
        let said = reader.handle_message(now, PeerId(WRITER as u64), key, data.clone());
        said.err()
    })
}

#[test]
fn a_push_that_nobody_allowed_is_counted_and_costs_the_connection() {
    for (want, pushes) in [
        (Want::Range(0..5), Pushes::Taken),
        (Want::Range(0..5), Pushes::Refused),
        (Want::None, Pushes::Taken),
    ] {
        let (mut world, key) = pair(want, pushes);
        let held = world.nodes[READER].feed(&key).info().blocks_held;
        let cut = slip_in(&mut world, &key, 7);
        assert!(
            matches!(cut, Some(ProtocolViolation::UnsolicitedData { .. })),
            "{cut:?}"
        );
        let reader = &world.nodes[READER].replicator;
        assert!(
            reader.unsolicited() > 64,
            "counted, though the peer is gone"
        );
        world.settle();
        assert_eq!(world.nodes[READER].feed(&key).info().blocks_held, held);
    }
}

#[test]
fn a_push_of_what_is_held_costs_nothing() {
    let (mut world, key) = pair(Want::All, Pushes::Taken);
    assert_eq!(slip_in(&mut world, &key, 7), None);
    assert_eq!(peer_of(&world, READER, &key).pushed, 0);
}

#[test]
fn a_push_that_does_not_verify_bans() {
    let (mut world, key) = pair(Want::All, Pushes::Taken);
    world.tamper = Some(Box::new(|_, _, mut message| {
        if let Message::Data(data) = &mut message
            && let Some(block) = &mut data.proof.block
        {
            block.value = Bytes::from_static(b"something else");
        }
        vec![message]
    }));
    world.append(WRITER, 1, 1);
    world.pass(Duration::from_secs(5));
    let violations = &world.nodes[READER].violations;
    assert!(violations.iter().all(|(_, _, ban)| *ban) && !violations.is_empty());
    assert!(!world.nodes[READER].feed(&key).has(10));
}

#[test]
fn appends_at_any_time_come_whole_with_and_without_pushes() {
    for seed in 1..=30 {
        let mut world = World::new(seed, 4);
        let key = world.create(WRITER, 1, Kind::Kinlog, 3);
        let mut length = 3;
        for node in 1..4 {
            world.follow(node, key, Kind::Kinlog, Want::All, true);
            let now = world.now;
            let pushes = [Pushes::Refused, Pushes::Taken][usize::from(node < 3)];
            world.nodes[node].replicator.set_pushes(now, &key, pushes);
            world.connect(WRITER, node);
        }
        world.connect(1, 2);
        for _ in 0..30 {
            let count = 1 + world.random.below(20);
            world.append(WRITER, 1, count);
            length += count;
            for _ in 0..world.random.below(40) {
                world.step();
            }
        }
        world.pass(Duration::from_secs(20));
        for node in 1..4 {
            assert_holds(&world, node, &key, 0..length);
            assert_eq!(world.nodes[node].violations, [], "seed {seed}");
        }
        let pushed = peer_of(&world, 1, &key).pushed;
        println!("seed {seed}: {pushed} of {length} pushed");
    }
}
