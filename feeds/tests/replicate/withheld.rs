//! A feed that is withheld: peers are asked and shown nothing.

use kinlog_feeds::replicate::{FeedEvent, Want};
use kinlog_feeds::store::Kind;

use crate::world::{World, assert_holds};

const WRITER: usize = 0;
const READER: usize = 1;

#[test]
fn what_is_withheld_is_shown_once_it_is_published() {
    for seed in 0..10 {
        let mut world = World::new(seed, 2);
        let key = world.create(WRITER, 1, Kind::Kinlog, 5);
        world.follow(READER, key, Kind::Kinlog, Want::All, true);
        world.nodes[WRITER].replicator.withhold(&key);
        world.connect(WRITER, READER);
        world.settle();
        world.append(WRITER, 1, 2);
        world.settle();
        assert_eq!(world.nodes[READER].feed(&key).head().length, 0);
        let now = world.now;
        world.nodes[WRITER].replicator.publish(now, &key);
        world.settle();
        assert_holds(&world, READER, &key, 0..7);
        world.append(WRITER, 1, 1);
        world.settle();
        assert_holds(&world, READER, &key, 0..8);
    }
}

#[test]
fn a_longer_head_is_taken_from_peers_and_a_shorter_one_of_the_same_history_changes_nothing() {
    let mut world = World::new(1, 2);
    let key = world.create(WRITER, 1, Kind::Kinlog, 5);
    world.create_forked(READER, 1, Kind::Kinlog, 9, 9);
    world.nodes[WRITER].replicator.withhold(&key);
    world.set_interest(WRITER, &key, Want::None, true);
    world.connect(WRITER, READER);
    world.settle();
    assert_eq!(world.nodes[WRITER].feed(&key).head().length, 9);

    let mut world = World::new(2, 2);
    let key = world.create(WRITER, 1, Kind::Kinlog, 5);
    world.create_forked(READER, 1, Kind::Kinlog, 3, 3);
    world.nodes[WRITER].replicator.withhold(&key);
    world.set_interest(WRITER, &key, Want::None, true);
    world.connect(WRITER, READER);
    world.settle();
    assert!(world.nodes[WRITER].feed(&key).conflict().unwrap().is_none());
    assert_eq!(world.nodes[READER].feed(&key).head().length, 3);
}

/// Of every length of the other history: shorter than ours, as long, longer.
#[test]
fn another_history_is_found_before_ours_is_shown() {
    for (seed, other) in (0..).zip(2..9) {
        let mut world = World::new(seed, 2);
        let key = world.create(WRITER, 1, Kind::Kinlog, 5);
        world.create_forked(READER, 1, Kind::Kinlog, other, 1);
        world.nodes[WRITER].replicator.withhold(&key);
        world.set_interest(WRITER, &key, Want::None, true);
        world.set_interest(READER, &key, Want::All, true);
        world.connect(WRITER, READER);
        world.settle();
        let found = world.nodes[WRITER].feed(&key).conflict().unwrap();
        assert!(found.is_some(), "{other} blocks");
        let told = &world.nodes[WRITER].events;
        assert!(told.contains(&(key, FeedEvent::Conflict)), "{other} blocks");
        // Neither the head nor the proof, which has it, is shown.
        let reader = world.nodes[READER].feed(&key);
        assert_eq!(reader.conflict().unwrap(), None, "{other} blocks");
        assert_eq!(world.nodes[READER].violations, []);
    }
}
