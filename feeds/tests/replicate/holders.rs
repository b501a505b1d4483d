//! Who holds what: peers tell those who ask, for as long as they ask.
#![allow(clippy::single_range_in_vec_init)] // runs compared with lists of one run

use std::ops::Range;
use std::time::Duration;

use kinlog_feeds::FeedKey;
use kinlog_feeds::limits::{WATCH_TIME, WATCHES_MAX};
use kinlog_feeds::replicate::{FeedEvent, PeerId, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::wire::kinlog::{FeedMessage, Watch};

use crate::world::World;

const WRITER: usize = 0;
const READER: usize = 1;

fn pair(want: Want) -> (World, FeedKey) {
    let mut world = World::new(1, 3);
    world.speaks_kinlog = true;
    let key = world.create(WRITER, 1, Kind::Kinlog, 100);
    world.follow(READER, key, Kind::Kinlog, want, true);
    world.connect(WRITER, READER);
    world.settle();
    (world, key)
}

fn watch(world: &mut World, key: &FeedKey, blocks: Option<Range<u64>>) {
    let now = world.now;
    world.nodes[WRITER].replicator.watch(now, key, blocks);
    world.work();
    world.settle();
}

/// What the writer knows of the reader.
fn held(world: &World, key: &FeedKey) -> Vec<Range<u64>> {
    let holders = world.nodes[WRITER].replicator.holders(key, &(0..1000));
    let of_reader =
        |holder: &&kinlog_feeds::replicate::Holder| holder.peer == PeerId(READER as u64);
    let found = holders.iter().find(of_reader);
    found.map_or_else(Vec::new, |holder| holder.held.clone())
}

fn changes(world: &mut World, key: &FeedKey) -> usize {
    let changed = (*key, FeedEvent::HoldersChanged);
    let events = &mut world.nodes[WRITER].events;
    let count = events.iter().filter(|event| **event == changed).count();
    events.clear();
    count
}

#[test]
fn a_writer_learns_who_holds_what_it_wrote() {
    let (mut world, key) = pair(Want::Ranges(vec![5..10, 50..u64::MAX]));
    assert!(held(&world, &key).is_empty(), "nobody asked");
    watch(&mut world, &key, Some(0..1000));
    assert_eq!(held(&world, &key), [5..10, 50..100]);
    assert!(changes(&mut world, &key) >= 1);
    world.append(WRITER, 1, 7);
    world.settle();
    assert_eq!(
        held(&world, &key),
        [5..10, 50..107],
        "it is told of what comes"
    );
    assert!(changes(&mut world, &key) >= 1);
    world.pass(Duration::from_secs(5));
    assert_eq!(changes(&mut world, &key), 0, "and of nothing else");
}

#[test]
fn of_too_many_feeds_the_one_watched_longest_is_watched_no_longer() {
    for (others, is_watched) in [(WATCHES_MAX - 1, true), (WATCHES_MAX, false)] {
        let (mut world, key) = pair(Want::All);
        watch(&mut world, &key, Some(0..1000));
        for number in 0..others {
            let mut other = [9; 32];
            other[..8].copy_from_slice(&(number as u64).to_le_bytes());
            let now = world.now;
            let replicator = &mut world.nodes[WRITER].replicator;
            replicator.watch(now, &FeedKey(other), Some(0..1000));
        }
        world.work();
        world.settle();
        world.append(WRITER, 1, 7);
        world.settle();
        let told = held(&world, &key);
        assert_eq!(told == [0..107], is_watched, "{told:?} beside {others}");
    }
}

#[test]
fn what_a_peer_gives_up_is_withdrawn() {
    let (mut world, key) = pair(Want::All);
    watch(&mut world, &key, Some(0..1000));
    assert_eq!(held(&world, &key), [0..100]);
    world.set_interest(READER, &key, Want::None, false);
    world.nodes[READER].feed(&key).clear(20..30).unwrap();
    let now = world.now;
    changes(&mut world, &key);
    world.nodes[READER]
        .replicator
        .handle_cleared(now, &key, 20..30);
    world.settle();
    assert_eq!(held(&world, &key), [0..20, 30..100]);
    assert_eq!(changes(&mut world, &key), 1);
    world.disconnect(WRITER, READER);
    assert!(held(&world, &key).is_empty());
}

#[test]
fn a_watch_goes_on_while_it_is_renewed_and_reaches_who_comes_later() {
    let (mut world, key) = pair(Want::All);
    watch(&mut world, &key, Some(0..1000));
    world.pass(3 * WATCH_TIME);
    world.append(WRITER, 1, 1);
    world.settle();
    assert_eq!(held(&world, &key), [0..101]);
    world.disconnect(WRITER, READER);
    world.connect(WRITER, READER);
    world.settle();
    assert_eq!(held(&world, &key), [0..101]);
}

#[test]
fn a_watch_that_is_dropped_or_not_renewed_ends() {
    for renewed_by_nobody in [false, true] {
        let (mut world, key) = pair(Want::All);
        watch(&mut world, &key, Some(0..1000));
        if renewed_by_nobody {
            world.tamper_kinlog = Some(Box::new(|from, _, message| match message {
                FeedMessage::Watch(_) if from == WRITER => Vec::new(),
                message => vec![message],
            }));
            world.pass(WATCH_TIME + Duration::from_secs(1));
        } else {
            watch(&mut world, &key, None);
        }
        let before = held(&world, &key);
        let sent = world.bytes_received[&WRITER];
        world.append(WRITER, 1, 1);
        world.settle();
        assert_eq!(world.nodes[READER].feed(&key).info().blocks_held, 101);
        // It tells its length as ever, and nothing of the block.
        assert_eq!(held(&world, &key), before);
        assert!(world.bytes_received[&WRITER] > sent);
    }
}

#[test]
fn who_may_see_a_part_is_told_of_that_part() {
    let (mut world, key) = pair(Want::All);
    let now = world.now;
    let only = [(key, Vec::from([0..5, 90..95]))].into();
    world.nodes[READER]
        .replicator
        .limit(now, PeerId(WRITER as u64), only);
    world.settle();
    watch(&mut world, &key, Some(0..1000));
    assert_eq!(held(&world, &key), [0..5, 90..95]);
}

#[test]
fn watching_again_and_again_is_answered_within_bounds() {
    let (mut world, key) = pair(Want::Range(0..50));
    let (now, peer) = (world.now, PeerId(WRITER as u64));
    let reader = &mut world.nodes[READER].replicator;
    let mut watched = 0..1_000_000;
    let ended = watched.find_map(|start| {
        let watch = Watch {
            blocks: start % 90..100,
            seconds: 60,
        };
        let said = FeedMessage::Watch(watch);
        reader.handle_kinlog_message(now, peer, &key, said).err()
    });
    assert!(ended.is_some(), "the connection ends");
    assert!(watched.start < 20_000, "{watched:?}");
}
