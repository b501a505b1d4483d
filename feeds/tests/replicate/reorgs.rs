//! Plain feeds whose writer cuts them: readers follow, keep what stayed, and take others along.

use std::time::Duration;

use kinlog_feeds::replicate::{FeedEvent, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::tree::HashRequest;
use kinlog_feeds::tree::ProofRequest;
use kinlog_feeds::wire::hypercore::{Message, Request};

use crate::world::{World, assert_holds};

const WRITER: usize = 0;
const READER: usize = 1;
const THIRD: usize = 2;

#[test]
fn readers_follow_a_writer_that_cuts_its_feed() {
    for (seed, cut, more) in [(1, 40, 0), (2, 40, 7), (3, 0, 5), (4, 99, 60), (5, 64, 300)] {
        let mut world = World::new(seed, 3);
        // What is cut off is written anew with another content.
        let key = world.create_forked(WRITER, 1, Kind::Plain, 100, cut);
        world.follow(READER, key, Kind::Plain, Want::All, true);
        world.follow(THIRD, key, Kind::Plain, Want::All, true);
        world.connect(WRITER, READER);
        world.connect(READER, THIRD);
        world.settle();
        assert_eq!(world.nodes[THIRD].feed(&key).info().blocks_held, 100);

        let before = world.block_requests.clone();
        world.truncate(WRITER, 1, cut);
        if more > 0 {
            world.append(WRITER, 1, more);
        }
        world.pass(Duration::from_secs(30));
        for node in [READER, THIRD] {
            let what = format!("cut to {cut}, then {more} more, node {node}");
            let info = world.nodes[node].feed(&key).info();
            assert_eq!((info.fork, info.length), (1, cut + more), "{what}");
            assert_holds(&world, node, &key, 0..cut + more);
            assert_eq!(world.nodes[node].violations, [], "{what}");
            let cut_event = (key, FeedEvent::Truncated { length: cut });
            assert!(world.nodes[node].events.contains(&cut_event), "{what}");
            let requests = world.block_requests[&node].len() - before[&node].len();
            assert_eq!(requests as u64, more, "{what}: only what is new is fetched");
        }
        // And they go on.
        world.append(WRITER, 1, 3);
        world.pass(Duration::from_secs(30));
        assert_holds(&world, THIRD, &key, 0..cut + more + 3);
    }
}

#[test]
fn a_reader_that_was_away_follows_over_several_forks() {
    let mut world = World::new(6, 3);
    let key = world.create(WRITER, 1, Kind::Plain, 50);
    world.follow(READER, key, Kind::Plain, Want::All, true);
    world.connect(WRITER, READER);
    world.settle();
    world.disconnect(WRITER, READER);
    for (cut, more) in [(30, 10), (35, 20), (20, 40)] {
        world.truncate(WRITER, 1, cut);
        world.append(WRITER, 1, more);
    }
    world.connect(WRITER, READER);
    world.settle();
    let info = world.nodes[READER].feed(&key).info();
    assert_eq!((info.fork, info.length), (3, 60));
    assert_holds(&world, READER, &key, 0..60);
    // A newcomer takes the fork as it is.
    world.follow(THIRD, key, Kind::Plain, Want::All, false);
    world.connect(READER, THIRD);
    world.settle();
    assert_holds(&world, THIRD, &key, 0..60);
}

#[test]
fn a_feed_that_is_not_followed_stays_on_its_fork() {
    let mut world = World::new(7, 2);
    let key = world.create(WRITER, 1, Kind::Plain, 20);
    world.follow(READER, key, Kind::Plain, Want::All, false);
    world.connect(WRITER, READER);
    world.settle();
    world.truncate(WRITER, 1, 5);
    world.pass(Duration::from_secs(30));
    assert_holds(&world, READER, &key, 0..20);
    assert_eq!(world.nodes[READER].feed(&key).info().fork, 0);
    world.set_interest(READER, &key, Want::All, false);
    world.pass(Duration::from_secs(30));
    assert_holds(&world, READER, &key, 0..5);
}

#[test]
fn cuts_while_blocks_are_on_their_way_end_with_the_right_blocks() {
    for seed in 10..40 {
        let mut world = World::new(seed, 3);
        let key = world.create(WRITER, 1, Kind::Plain, 300);
        world.follow(READER, key, Kind::Plain, Want::All, true);
        world.follow(THIRD, key, Kind::Plain, Want::All, true);
        world.connect(WRITER, READER);
        world.connect(WRITER, THIRD);
        world.connect(READER, THIRD);
        for (cut, more) in [(250, 20), (100, 50), (149, 0)] {
            for _ in 0..world.random.index(60) {
                world.step();
            }
            world.truncate(WRITER, 1, cut);
            if more > 0 {
                world.append(WRITER, 1, more);
            }
        }
        world.pass(Duration::from_secs(200));
        for node in [READER, THIRD] {
            let info = world.nodes[node].feed(&key).info();
            assert_eq!(
                (info.fork, info.length),
                (3, 149),
                "seed {seed} node {node}"
            );
            assert_holds(&world, node, &key, 0..149);
            assert_eq!(world.nodes[node].violations, [], "seed {seed} node {node}");
        }
    }
}

#[test]
fn tree_nodes_alone_are_given_out_to_who_is_shown_all() {
    for kind in [Kind::Plain, Kind::Kinlog] {
        let mut world = World::new(8, 2);
        let key = world.create(WRITER, 1, kind, 20);
        world.follow(READER, key, kind, Want::None, false);
        world.connect(WRITER, READER);
        world.settle();
        let answered = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = answered.clone();
        world.tamper = Some(Box::new(move |from, _, message| {
            if let (WRITER, Message::Data(data)) = (from, &message) {
                seen.set(data.proof.hash.is_some());
            }
            vec![message]
        }));
        let hash = Some(HashRequest { index: 8, nodes: 2 });
        let request = Request {
            id: 9,
            proof: ProofRequest {
                hash,
                ..ProofRequest::default()
            },
            ..Request::default()
        };
        world.inject(READER, WRITER, key, Message::Request(request));
        world.settle();
        assert!(answered.get());
    }
}
