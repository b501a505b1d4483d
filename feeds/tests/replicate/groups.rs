//! Heads of many feeds told by one digest.

use std::collections::BTreeSet;

use kinlog_feeds::replicate::{FeedEvent, Output, PeerId, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::wire::hypercore::{Message, Synchronize};
use kinlog_feeds::wire::kinlog::{GroupHeads, GroupMessage, heads_digest};
use kinlog_feeds::{FeedKey, Hash};

use crate::world::{World, assert_holds};

const WRITER: usize = 0;
const READER: usize = 1;

fn world(seed: u64) -> World {
    let mut world = World::new(seed, 2);
    (world.speaks_kinlog, world.speaks_in_groups) = (true, true);
    world
}

/// Makes feeds of one to three blocks that both hold, and the reader follows.
fn held_by_both(world: &mut World, count: u8) -> Vec<FeedKey> {
    let held = |world: &mut World, seed| {
        let key = world.create(WRITER, seed, Kind::Kinlog, 1 + u64::from(seed % 3));
        world.follow(READER, key, Kind::Kinlog, Want::All, true);
        world.carry(WRITER, READER, &key);
        key
    };
    (1..=count).map(|seed| held(world, seed)).collect()
}

fn said_to_differ(world: &World) -> usize {
    let said = world.groups_said.iter();
    said.filter(|(_, _, message)| *message == GroupMessage::Differ)
        .count()
}

#[test]
fn two_that_hold_the_same_say_so_in_two_messages_each() {
    let mut world = world(1);
    let keys = held_by_both(&mut world, 100);
    world.connect(WRITER, READER);
    world.settle();
    assert_eq!(
        world.groups_said.len(),
        4,
        "64 and 36 feeds, there and back"
    );
    assert!(
        world.messages_received.is_empty(),
        "{:?}",
        world.messages_received
    );
    let known = world.nodes[WRITER].replicator.holders(&keys[5], &(0..1));
    assert!(
        known.iter().any(|holder| !holder.held.is_empty()),
        "{known:?}"
    );

    world.append(WRITER, 6, 2);
    world.settle();
    assert_holds(&world, READER, &keys[5], 0..3);
}

#[test]
fn few_are_told_one_by_one() {
    let mut world = world(1);
    held_by_both(&mut world, 15);
    world.connect(WRITER, READER);
    world.settle();
    assert!(world.groups_said.is_empty());
    assert!(
        world.messages_received[&READER] >= 30,
        "state and blocks of each"
    );
}

#[test]
fn a_group_with_news_is_told_one_by_one_and_the_others_are_not() {
    let mut world = world(2);
    let keys = held_by_both(&mut world, 128);
    world.append(WRITER, 9, 1);
    world.connect(WRITER, READER);
    world.settle();
    assert_eq!(world.groups_said.len(), 4 + 2);
    assert_eq!(
        said_to_differ(&world),
        2,
        "each side about the group of the other"
    );
    let key = keys[8];
    assert_holds(&world, READER, &key, 0..2);
    assert_eq!(world.nodes[READER].feed(&key).head().length, 2);
    let most = 64 * 4 + 8;
    assert!(
        world.messages_received[&READER] <= most,
        "{:?}",
        world.messages_received
    );
}

#[test]
fn another_history_that_is_as_long_is_found() {
    let mut world = world(3);
    held_by_both(&mut world, 40);
    let key = world.create(WRITER, 200, Kind::Kinlog, 3);
    world.create_forked(READER, 200, Kind::Kinlog, 3, 1);
    world.connect(WRITER, READER);
    world.settle();
    for node in [WRITER, READER] {
        let events = &world.nodes[node].events;
        assert!(events.contains(&(key, FeedEvent::Conflict)), "node {node}");
        let stopped: BTreeSet<_> = events
            .iter()
            .filter(|(_, event)| *event == FeedEvent::Conflict)
            .map(|(key, _)| *key)
            .collect();
        assert_eq!(stopped.len(), 1, "no other feed");
    }
}

/// A digest that can be guessed tells nothing of a feed that is withheld.
#[test]
fn what_is_withheld_is_neither_told_in_a_group_nor_confirmed() {
    let mut world = world(4);
    let keys = held_by_both(&mut world, 20);
    for key in &keys {
        world.nodes[READER].replicator.withhold(key);
    }
    world.connect(WRITER, READER);
    world.settle();
    let of_reader = |(from, _, message): &&(usize, usize, GroupMessage)| {
        *from == READER && *message != GroupMessage::Differ
    };
    assert_eq!(world.groups_said.iter().find(of_reader), None);
    assert_eq!(said_to_differ(&world), 1);
    let known = |world: &World| {
        let holders = world.nodes[WRITER].replicator.holders(&keys[0], &(0..1));
        holders.iter().any(|holder| !holder.held.is_empty())
    };
    assert!(!known(&world));

    let before = world.messages_received.get(&WRITER).copied().unwrap_or(0);
    let now = world.now;
    for key in &keys {
        world.nodes[READER].replicator.publish(now, key);
    }
    world.settle();
    assert!(
        world.messages_received[&WRITER] >= before + 20,
        "each head is told now"
    );
}

#[test]
fn whoever_says_again_and_again_that_heads_differ_is_told_once_more_and_answered_once() {
    let mut world = world(5);
    let keys = held_by_both(&mut world, 32);
    world.connect(WRITER, READER);
    world.settle();
    let before = world.messages_received.get(&READER).copied().unwrap_or(0);
    let wrong = GroupMessage::Heads(GroupHeads {
        downloading: true,
        has_manifest: true,
        allows_pushes: false,
        digest: Hash([7; 32]),
    });
    for message in [wrong, GroupMessage::Differ].repeat(50) {
        let (now, peer) = (world.now, PeerId(READER as u64));
        let replicator = &mut world.nodes[WRITER].replicator;
        replicator.handle_group_message(now, peer, &keys, &message);
    }
    world.settle();
    assert_eq!(said_to_differ(&world), 1);
    let told = world.messages_received[&READER] - before;
    assert!((32..=32 * 4).contains(&told), "{told} messages");
}

/// The answer to what was said of feeds before their channels opened anew may come before they are told of.
#[test]
fn feeds_that_differ_before_they_were_told_of_are_told_one_by_one() {
    let mut world = world(6);
    let keys = held_by_both(&mut world, 32);
    let (now, peer) = (world.now, PeerId(READER as u64));
    let replicator = &mut world.nodes[WRITER].replicator;
    replicator.handle_groups_open(now, peer);
    for key in &keys {
        replicator.handle_kinlog_open(now, peer, *key);
        replicator.handle_channel_open(now, peer, *key);
    }
    replicator.handle_group_message(now, peer, &keys, &GroupMessage::Differ);
    let mut told = BTreeSet::new();
    while let Some(output) = replicator.poll_output() {
        match output {
            Output::Send { key, .. } => told.insert(key),
            Output::SendGroup { message, .. } => panic!("{message:?}"),
            _ => false,
        };
    }
    assert_eq!(told.len(), 32);
}

/// What a peer said of itself before it was met anew is no reason to leave out what it says now.
#[test]
fn heads_that_are_alike_take_the_place_of_what_was_said_before() {
    let mut world = world(7);
    let keys = held_by_both(&mut world, 1);
    let (now, peer) = (world.now, PeerId(READER as u64));
    let head = world.nodes[WRITER].feed(&keys[0]).head();
    let replicator = &mut world.nodes[WRITER].replicator;
    replicator.handle_groups_open(now, peer);
    replicator.handle_kinlog_open(now, peer, keys[0]);
    replicator.handle_channel_open(now, peer, keys[0]);
    let before = Message::Synchronize(Synchronize {
        length: 1,
        ..Synchronize::default()
    });
    replicator
        .handle_message(now, peer, &keys[0], before)
        .unwrap();
    let heads = GroupMessage::Heads(GroupHeads {
        downloading: true,
        has_manifest: true,
        allows_pushes: true,
        digest: heads_digest([(head.fork, head.length, head.tree_hash())]),
    });
    replicator.handle_group_message(now, peer, &keys, &heads);
    let reach = replicator.reach(&keys[0]);
    assert_eq!((reach.takers, reach.length), (1, head.length));
    let holders = replicator.holders(&keys[0], &(0..head.length));
    let held = holders[0].held.iter().cloned();
    assert!(held.eq(std::iter::once(0..head.length)), "{holders:?}");
}

/// Whatever differs, and whichever side has more: in the end the reader has what the writer has.
#[test]
fn groups_come_to_what_telling_one_by_one_comes_to() {
    for seed in 0..30 {
        println!("seed {seed}");
        let mut world = world(seed);
        let mut keys = Vec::new();
        for number in 1..=50u8 {
            let blocks = 1 + world.random.index(4) as u64;
            let key = world.create(WRITER, number, Kind::Kinlog, blocks);
            let live = world.random.index(2) == 0;
            world.follow(READER, key, Kind::Kinlog, Want::All, live);
            match world.random.index(8) {
                0 => {}
                1 => {
                    world.carry(WRITER, READER, &key);
                    world.append(WRITER, number, 1);
                }
                _ => world.carry(WRITER, READER, &key),
            }
            let length = world.nodes[WRITER].feed(&key).head().length;
            keys.push((key, live, length));
        }
        world.connect(WRITER, READER);
        // Something happens while they tell each other.
        for _ in 0..world.random.index(6) {
            world.step();
        }
        let number = 1 + world.random.index(50);
        world.append(WRITER, number as u8, 1);
        world.settle();
        assert!(!world.groups_said.is_empty());
        for (key, live, before) in &keys {
            let length = world.nodes[READER].feed(key).head().length;
            let written = world.nodes[WRITER].feed(key).head().length;
            let least = if *live { written } else { *before };
            assert!(length >= least, "{length} of {written}, live: {live}");
            assert_holds(&world, READER, key, 0..length);
        }
        assert!(world.nodes.iter().all(|node| node.violations.is_empty()));
    }
}
