//! Honest peers: everything wanted arrives, nothing else, nothing twice.

use std::time::Duration;

use kinlog_feeds::limits::{
    BLOCKS_PER_HEDGE, REQUESTS_PER_PEER_MAX, REQUESTS_PER_PLAIN_PEER_MAX, URGENT_REQUESTS_MAX,
};
use kinlog_feeds::replicate::{FeedEvent, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::wire::hypercore::Message;

use crate::world::{World, assert_holds};

fn has_event(world: &World, node: usize, wanted: impl Fn(&FeedEvent) -> bool) -> bool {
    world.nodes[node]
        .events
        .iter()
        .any(|(_, event)| wanted(event))
}

#[test]
fn a_reader_fetches_a_whole_feed_knowing_only_its_key() {
    for seed in 1..=5 {
        let mut world = World::new(seed, 2);
        let key = world.create(0, 1, Kind::Kinlog, 700);
        world.follow(1, key, Kind::Kinlog, Want::All, false);
        world.connect(0, 1);
        world.settle();
        assert_holds(&world, 1, &key, 0..700);
        assert!(has_event(&world, 1, |event| *event == FeedEvent::Complete));
        assert!(has_event(&world, 1, |event| *event
            == FeedEvent::Upgraded { length: 700 }));
        assert_eq!(world.requested_twice, []);
        assert_eq!(world.block_requests[&1].len(), 700);
        assert!(
            world.nodes[1].seen.iter().all(Result::is_ok),
            "nothing was parked or refused"
        );
    }
}

#[test]
fn what_a_bundle_brings_is_passed_on_and_what_is_cleared_is_not() {
    let mut world = World::new(1, 4);
    let key = world.create(0, 1, Kind::Kinlog, 300);
    for reader in 1..4 {
        world.follow(reader, key, Kind::Kinlog, Want::All, true);
    }
    world.connect(1, 2);
    world.settle();
    assert_holds(&world, 2, &key, 0..0);
    world.carry(0, 1, &key);
    world.settle();
    assert_holds(&world, 2, &key, 0..300);

    // One more block ties what follows to what was carried.
    world.append(0, 1, 1);
    world.set_interest(1, &key, Want::None, false);
    world.carry(0, 1, &key);
    world.disconnect(1, 2);
    world.nodes[1].feed(&key).clear(50..100).unwrap();
    world.stored(1, &key);
    world.connect(1, 3);
    world.settle();
    assert_holds(&world, 3, &key, (0..50).chain(100..301));
}

#[test]
fn answers_out_of_order_are_parked_and_all_arrive() {
    let mut parked = 0;
    for seed in 1..=10 {
        let mut world = World::new(seed, 2);
        world.reorder = true;
        let key = world.create(0, 1, Kind::Plain, 600);
        world.follow(1, key, Kind::Plain, Want::All, true);
        world.connect(0, 1);
        world.settle();
        assert_holds(&world, 1, &key, 0..600);
        assert_eq!(world.requested_twice, []);
        assert_eq!(world.nodes[1].violations, []);
        parked += world.nodes[1]
            .seen
            .iter()
            .filter(|result| result.is_err())
            .count();
    }
    assert!(parked > 0, "the world did reorder answers");
}

#[test]
fn sparse_ranges_fetch_exactly_those_blocks() {
    let mut world = World::new(7, 2);
    let key = world.create(0, 1, Kind::Kinlog, 1000);
    let ranges = vec![3..4, 100..110, 511..513, 999..1000];
    world.follow(1, key, Kind::Kinlog, Want::Ranges(ranges.clone()), false);
    world.connect(0, 1);
    world.settle();
    assert_holds(&world, 1, &key, ranges.into_iter().flatten());
    assert_eq!(world.block_requests[&1].len(), 14);
    assert!(has_event(&world, 1, |event| *event == FeedEvent::Complete));
}

#[test]
fn the_last_blocks_are_those_before_the_head_and_live_goes_on() {
    for live in [false, true] {
        let mut world = World::new(8, 2);
        let key = world.create(0, 1, Kind::Kinlog, 100);
        world.follow(1, key, Kind::Kinlog, Want::Last(10), live);
        world.connect(0, 1);
        world.settle();
        assert_holds(&world, 1, &key, 90..100);
        world.append(0, 1, 5);
        world.settle();
        assert_holds(&world, 1, &key, if live { 90..105 } else { 90..100 });
    }
}

#[test]
fn a_window_moves_past_what_came_while_nobody_was_there() {
    let mut world = World::new(8, 2);
    let key = world.create(0, 1, Kind::Kinlog, 100);
    world.follow(1, key, Kind::Kinlog, Want::Last(10), true);
    world.connect(0, 1);
    world.settle();
    world.disconnect(0, 1);
    world.append(0, 1, 500);
    world.connect(0, 1);
    world.settle();
    assert_holds(&world, 1, &key, (90..100).chain(590..600));
    world.append(0, 1, 3);
    world.settle();
    assert_holds(&world, 1, &key, (90..100).chain(590..603));
}

#[test]
fn the_newest_blocks_are_asked_for_first() {
    let mut world = World::new(8, 2);
    let key = world.create(0, 1, Kind::Kinlog, 1000);
    world.follow(1, key, Kind::Kinlog, Want::Last(900), false);
    world.connect(0, 1);
    world.settle();
    assert_holds(&world, 1, &key, 100..1000);
    let asked: Vec<u64> = world.block_requests[&1]
        .iter()
        .map(|(_, block)| *block)
        .collect();
    assert_eq!(asked[0], 768);
    let part = |at: usize| asked[at] / 256;
    assert!(
        (1..asked.len()).all(|at| part(at) <= part(at - 1)),
        "{asked:?}"
    );
}

#[test]
fn two_sources_share_the_work() {
    for seed in 1..=5 {
        let mut world = World::new(seed, 3);
        let key = world.create(0, 1, Kind::Kinlog, 2000);
        world.follow(1, key, Kind::Kinlog, Want::All, true);
        world.connect(0, 1);
        world.settle();
        world.follow(2, key, Kind::Kinlog, Want::All, true);
        world.connect(0, 2);
        world.connect(1, 2);
        world.settle();
        assert_holds(&world, 2, &key, 0..2000);
        let requests = &world.block_requests[&2];
        let twice = world.requested_twice.len();
        assert!(
            twice as u64 <= 2000 / BLOCKS_PER_HEDGE,
            "{twice} asked of both"
        );
        assert_eq!(
            requests.len(),
            2000 + twice,
            "the others were asked for once"
        );
        for source in [0, 1] {
            let share = requests.iter().filter(|(to, _)| *to == source).count();
            assert!(share > 400, "node {source} was asked for {share} of 2000");
        }
    }
}

#[test]
fn a_live_writer_is_followed_through_others() {
    let mut world = World::new(3, 3);
    let key = world.create(0, 1, Kind::Kinlog, 0);
    world.follow(1, key, Kind::Kinlog, Want::All, true);
    world.follow(2, key, Kind::Kinlog, Want::All, true);
    world.connect(0, 1);
    world.connect(1, 2);
    for count in [1, 1, 5, 300, 1, 40] {
        world.append(0, 1, count);
        world.settle();
    }
    assert_holds(&world, 1, &key, 0..348);
    assert_holds(&world, 2, &key, 0..348);
    assert_eq!(world.requested_twice, []);
}

#[test]
fn blocks_held_with_gaps_are_found_by_wants() {
    let mut world = World::new(4, 3);
    let key = world.create(0, 1, Kind::Kinlog, 500);
    let odd: Vec<_> = (0..250).map(|pair| 2 * pair + 1..2 * pair + 2).collect();
    world.follow(1, key, Kind::Kinlog, Want::Ranges(odd.clone()), true);
    world.connect(0, 1);
    world.settle();
    world.disconnect(0, 1);
    world.follow(2, key, Kind::Kinlog, Want::All, true);
    world.connect(1, 2);
    world.pass(Duration::from_secs(3));
    assert_holds(&world, 2, &key, odd.into_iter().flatten());
    let nobody = FeedEvent::NobodyHas {
        blocks: 250,
        first: Some(0),
    };
    assert!(has_event(&world, 2, |event| *event == nobody));
    world.connect(0, 2);
    world.settle();
    assert_holds(&world, 2, &key, 0..500);
}

#[test]
fn nothing_is_announced_before_it_is_durable() {
    let mut world = World::new(5, 3);
    let key = world.create(0, 1, Kind::Kinlog, 300);
    for node in [1, 2] {
        world.follow(node, key, Kind::Kinlog, Want::All, true);
    }
    world.connect(0, 1);
    world.connect(1, 2);
    let store = world.nodes[1].feed(&key).clone();
    world.tamper = Some(Box::new(move |from, _, message| {
        if from == 1 {
            match &message {
                Message::Range(range) if !range.drop => {
                    let run = range.start..range.start + range.length;
                    assert!(
                        store.have().all_in(run),
                        "announced {range:?} before it was stored"
                    );
                }
                Message::Synchronize(sync) => assert!(sync.length <= store.info().length),
                _ => {}
            }
        }
        vec![message]
    }));
    world.settle();
    assert_holds(&world, 2, &key, 0..300);
}

#[test]
fn what_one_drain_brought_is_applied_together() {
    let mut world = World::new(6, 2);
    let key = world.create(0, 1, Kind::Kinlog, 2000);
    world.follow(1, key, Kind::Kinlog, Want::All, false);
    world.connect(0, 1);
    world.settle();
    let applies = world.nodes[1].applies;
    assert!(applies < 2000 / 7, "{applies} applies for 2000 blocks");
}

#[test]
fn a_process_that_wants_nothing_asks_for_nothing() {
    let mut world = World::new(9, 2);
    let key = world.create(0, 1, Kind::Kinlog, 50);
    world.follow(1, key, Kind::Kinlog, Want::None, false);
    world.connect(0, 1);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.nodes[1].feed(&key).info().length, 0);
    world.set_interest(1, &key, Want::None, true);
    world.settle();
    assert_eq!(
        world.nodes[1].feed(&key).info().length,
        50,
        "live follows the head alone"
    );
    assert_holds(&world, 1, &key, 0..0);
}

#[test]
fn a_peer_that_is_not_known_to_be_kinlog_is_asked_less_at_once() {
    for (kinlog, window) in [
        (false, REQUESTS_PER_PLAIN_PEER_MAX),
        (true, REQUESTS_PER_PEER_MAX),
    ] {
        let mut world = World::new(11, 2);
        let key = world.create(0, 1, Kind::Kinlog, 2000);
        world.follow(1, key, Kind::Kinlog, Want::All, false);
        world.tamper = Some(Box::new(move |_, _, message| match message {
            Message::Extension { .. } if !kinlog => Vec::new(),
            other => vec![other],
        }));
        world.connect(0, 1);
        let mut most = 0;
        while world.step() {
            let status = world.nodes[1].replicator.status(&key).unwrap();
            most = most.max(status.in_flight);
        }
        assert_holds(&world, 1, &key, 0..2000);
        let urgent = if kinlog { URGENT_REQUESTS_MAX } else { 0 };
        let windows = window as u64..=(window + urgent) as u64;
        assert!(windows.contains(&most), "{most} of {windows:?}");
    }
}

#[test]
fn a_shorter_peer_is_asked_only_for_what_its_tree_can_prove() {
    let mut world = World::new(12, 3);
    let key = world.create(0, 1, Kind::Kinlog, 80);
    world.follow(1, key, Kind::Kinlog, Want::All, false);
    world.connect(0, 1);
    world.settle();
    world.append(0, 1, 20);
    world.settle();
    assert_eq!(world.nodes[1].feed(&key).info().length, 80);

    // Node 2 has the head at 100 and nothing else, and meets the shorter peer only.
    world.follow(2, key, Kind::Kinlog, Want::None, true);
    world.connect(0, 2);
    world.settle();
    world.disconnect(0, 2);
    world.tamper = Some(Box::new(|_, _, message| {
        assert!(!matches!(message, Message::NoData(_)), "{message:?}");
        vec![message]
    }));
    world.connect(1, 2);
    world.set_interest(2, &key, Want::All, true);
    world.pass(Duration::from_secs(20));
    // In a tree of 100 blocks those from 64 on lead to a node over 64..96.
    assert_holds(&world, 2, &key, 0..64);
    world.connect(0, 2);
    world.settle();
    assert_holds(&world, 2, &key, 0..100);
}

/// The window of one peer is over all its feeds: a feed whose head finds no room in it comes later.
#[test]
fn of_many_feeds_none_is_forgotten_while_the_window_is_full() {
    for seed in 1..=5 {
        let mut world = World::new(seed, 2);
        world.tamper = Some(Box::new(|_, _, message| match message {
            Message::Extension { .. } => Vec::new(),
            other => vec![other],
        }));
        let feeds: Vec<_> = (1..=200)
            .map(|feed| world.create(0, feed, Kind::Plain, u64::from(feed) % 20 + 5))
            .collect();
        for key in &feeds {
            world.follow(1, *key, Kind::Plain, Want::All, false);
        }
        world.connect(0, 1);
        world.settle();
        for (feed, key) in (1u64..).zip(&feeds) {
            assert_holds(&world, 1, key, 0..feed % 20 + 5);
        }
        assert_eq!(world.requested_twice, []);
    }
}
