//! A peer that may have some blocks of a feed alone, or nothing of it.

use std::collections::BTreeMap;
use std::ops::Range;

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{PeerId, Want};
use kinlog_feeds::store::Kind;

use crate::world::{World, assert_holds};

const WRITER: usize = 0;
const READER: usize = 1;

fn limit(world: &mut World, key: FeedKey, ranges: Option<&[Range<u64>]>) {
    let limits: BTreeMap<_, _> = ranges
        .map(|ranges| (key, ranges.to_vec()))
        .into_iter()
        .collect();
    let (now, peer) = (world.now, PeerId(READER as u64));
    world.nodes[WRITER].replicator.limit(now, peer, limits);
}

#[test]
fn whoever_asks_for_everything_gets_what_it_may_have() {
    for seed in 0..10 {
        let mut world = World::new(seed, 2);
        let key = world.create(WRITER, 1, Kind::Kinlog, 40);
        world.follow(READER, key, Kind::Kinlog, Want::All, true);
        limit(&mut world, key, Some(&[20..22, 3..9, 50..52]));
        world.connect(WRITER, READER);
        world.settle();
        assert_holds(&world, READER, &key, (3..9).chain(20..22));
        world.append(WRITER, 1, 20);
        world.settle();
        assert_holds(&world, READER, &key, (3..9).chain(20..22).chain(50..52));
        assert_eq!(world.nodes[READER].feed(&key).head().length, 60);
        assert_eq!(world.nodes[WRITER].violations, []);
    }
}

#[test]
fn of_a_feed_that_a_peer_may_not_have_it_learns_nothing_until_it_may() {
    for seed in 0..10 {
        let mut world = World::new(seed, 2);
        let key = world.create(WRITER, 1, Kind::Kinlog, 5);
        world.follow(READER, key, Kind::Kinlog, Want::All, true);
        limit(&mut world, key, Some(&[]));
        world.connect(WRITER, READER);
        world.settle();
        world.append(WRITER, 1, 2);
        world.settle();
        assert_eq!(world.nodes[READER].feed(&key).head().length, 0);
        let status = world.nodes[READER].replicator.status(&key).unwrap();
        let told: Vec<_> = status.peers.iter().map(|peer| peer.remote_length).collect();
        assert_eq!(told, [0], "the channel is open and says nothing");

        limit(&mut world, key, None);
        world.settle();
        assert_holds(&world, READER, &key, 0..7);
        world.append(WRITER, 1, 1);
        world.settle();
        assert_holds(&world, READER, &key, 0..8);

        limit(&mut world, key, Some(&[]));
        world.append(WRITER, 1, 3);
        world.settle();
        assert_holds(&world, READER, &key, 0..8);
        assert_eq!(world.nodes[READER].feed(&key).head().length, 8);
    }
}

#[test]
fn a_peer_that_may_have_nothing_still_gives() {
    let mut world = World::new(1, 2);
    let key = world.create(READER, 1, Kind::Kinlog, 5);
    world.follow(WRITER, key, Kind::Kinlog, Want::All, true);
    limit(&mut world, key, Some(&[]));
    world.connect(WRITER, READER);
    world.settle();
    assert_holds(&world, WRITER, &key, 0..5);
}
