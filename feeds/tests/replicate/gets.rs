//! Blocks that somebody waits for: they come, or it is said in time that they will not.

use std::time::Duration;

use kinlog_feeds::replicate::{FeedEvent, GetEnd, GetId, GetRefused, Interest, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::{FeedKey, Time};

use crate::world::World;

const HOLDER: usize = 0;
const READER: usize = 1;

/// A holder of a feed and somebody who knows its key alone.
fn pair(blocks: u64) -> (World, FeedKey) {
    let mut world = World::new(1, 3);
    let key = world.create(HOLDER, 1, Kind::Kinlog, blocks);
    world.follow(READER, key, Kind::Kinlog, Want::None, false);
    world.connect(HOLDER, READER);
    world.settle();
    (world, key)
}

fn get(world: &mut World, key: &FeedKey, block: u64, wait: Option<Duration>) -> GetId {
    let now = world.now;
    let reader = &mut world.nodes[READER].replicator;
    let id = reader.get(now, key, block, wait.map(|wait| now + wait));
    world.work();
    id.unwrap()
}

fn ends(world: &World) -> Vec<(GetId, GetEnd)> {
    let of = |(id, _, end): &(GetId, u64, GetEnd)| (*id, *end);
    world.nodes[READER].got.iter().map(of).collect()
}

#[test]
fn a_block_that_somebody_has_comes_and_no_other() {
    let (mut world, key) = pair(100);
    let first = get(&mut world, &key, 42, None);
    let again = get(&mut world, &key, 42, Some(Duration::from_secs(5)));
    let other = get(&mut world, &key, 7, None);
    world.settle();
    let mut all = ends(&world);
    all.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(
        all,
        [first, again, other].map(|id| (id, GetEnd::Held)),
        "each is told once"
    );
    assert_eq!(world.nodes[READER].feed(&key).info().blocks_held, 2);
    let held = get(&mut world, &key, 42, None);
    world.settle();
    assert_eq!(ends(&world)[3], (held, GetEnd::Held));
}

#[test]
fn a_block_comes_beside_what_else_is_wanted() {
    for want in [Want::Last(3), Want::Range(90..95), Want::All] {
        let (mut world, key) = pair(100);
        world.set_interest(READER, &key, want, true);
        let id = get(&mut world, &key, 5, None);
        world.settle();
        assert_eq!(ends(&world), [(id, GetEnd::Held)]);
        world.append(HOLDER, 1, 1);
        world.settle();
        assert_eq!(world.nodes[READER].feed(&key).info().length, 101);
        assert!(world.nodes[READER].feed(&key).has(5));
    }
}

#[test]
fn where_nobody_connected_has_it_that_is_the_answer() {
    let (mut world, key) = pair(10);
    // Beyond the end, and one that was given up.
    world.nodes[HOLDER].feed(&key).clear(3..4).unwrap();
    let now = world.now;
    world.nodes[HOLDER]
        .replicator
        .handle_cleared(now, &key, 3..4);
    world.settle();
    let beyond = get(&mut world, &key, 1000, None);
    let cleared = get(&mut world, &key, 3, None);
    world.pass(Duration::from_secs(5));
    let mut all = ends(&world);
    all.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(all, [beyond, cleared].map(|id| (id, GetEnd::NobodyHas)));
    // Nobody at all.
    world.disconnect(HOLDER, READER);
    let alone = get(&mut world, &key, 5, None);
    world.pass(Duration::from_secs(5));
    assert_eq!(ends(&world)[2], (alone, GetEnd::NobodyHas));
}

#[test]
fn a_peer_that_does_not_answer_costs_no_more_than_the_deadline() {
    let (mut world, key) = pair(10);
    world.tamper = Some(Box::new(|_, _, message| match message {
        Message::Data(_) | Message::NoData(_) => Vec::new(),
        message => vec![message],
    }));
    let start = world.now;
    let id = get(&mut world, &key, 5, Some(Duration::from_secs(3)));
    while ends(&world).is_empty() {
        world.pass(Duration::from_millis(100));
        assert!(
            world.now.since(start) < Duration::from_secs(4),
            "it ends in time"
        );
    }
    assert_eq!(ends(&world), [(id, GetEnd::TimedOut)]);
    assert!(world.now.since(start) >= Duration::from_secs(3));
}

#[test]
fn what_was_cancelled_is_not_asked_for_and_not_told_of() {
    let (mut world, key) = pair(10);
    let now = world.now;
    let reader = &mut world.nodes[READER].replicator;
    let id = reader.get(now, &key, 5, None).unwrap();
    reader.cancel_get(now, id);
    world.pass(Duration::from_secs(5));
    assert_eq!(ends(&world), []);
    assert_eq!(world.nodes[READER].feed(&key).info().blocks_held, 0);
}

#[test]
fn too_many_are_refused_and_so_is_an_unknown_feed() {
    let (mut world, key) = pair(10);
    let now = world.now;
    let reader = &mut world.nodes[READER].replicator;
    let other = FeedKey([9; 32]);
    assert_eq!(
        reader.get(now, &other, 0, None),
        Err(GetRefused::UnknownFeed)
    );
    let limit = kinlog_feeds::limits::GETS_MAX;
    for block in 0..limit as u64 {
        reader.get(now, &key, 1000 + block, None).unwrap();
    }
    assert_eq!(
        reader.get(now, &key, 1, None),
        Err(GetRefused::TooMany { limit })
    );
    world.pass(Duration::from_secs(5));
    let id = get(&mut world, &key, 1, None);
    world.settle();
    assert_eq!(*ends(&world).last().unwrap(), (id, GetEnd::Held));
}

#[test]
fn an_interest_that_is_not_renewed_ends() {
    let (mut world, key) = pair(10);
    let want = |world: &mut World, until: Time| {
        let now = world.now;
        let interest = Interest {
            want: Want::All,
            live: true,
        };
        let reader = &mut world.nodes[READER].replicator;
        reader.set_interest_until(now, &key, interest, until);
        world.work();
    };
    let until = world.now + Duration::from_secs(10);
    want(&mut world, until);
    world.pass(Duration::from_secs(8));
    let until = world.now + Duration::from_secs(10);
    want(&mut world, until);
    world.pass(Duration::from_secs(8));
    world.append(HOLDER, 1, 1);
    world.settle();
    assert_eq!(
        world.nodes[READER].feed(&key).info().length,
        11,
        "it was renewed"
    );
    world.pass(Duration::from_secs(3));
    let ended = (key, FeedEvent::InterestEnded);
    assert!(world.nodes[READER].events.contains(&ended));
    world.append(HOLDER, 1, 1);
    world.pass(Duration::from_secs(3));
    assert_eq!(
        world.nodes[READER].feed(&key).info().length,
        11,
        "nobody wants it"
    );
    let status = world.nodes[HOLDER].replicator.status(&key).unwrap();
    assert_eq!(status.peers[0].remote_length, 11);
}
