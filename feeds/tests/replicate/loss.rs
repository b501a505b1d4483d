//! Peers that go, stay silent or decline: the work moves on.

use std::time::Duration;

use kinlog_feeds::replicate::{FeedEvent, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::wire::hypercore::{Message, NoData, NoDataReason};

use crate::world::{World, assert_holds};

/// A feed of 1500 blocks held by nodes 0 and 1, wanted by node 2.
fn two_sources(seed: u64) -> (World, kinlog_feeds::FeedKey) {
    let mut world = World::new(seed, 3);
    let key = world.create(0, 1, Kind::Kinlog, 1500);
    world.follow(1, key, Kind::Kinlog, Want::All, true);
    world.connect(0, 1);
    world.settle();
    world.follow(2, key, Kind::Kinlog, Want::All, true);
    (world, key)
}

#[test]
fn a_peer_lost_in_the_middle_costs_only_what_was_on_its_way() {
    for seed in 1..=10 {
        let (mut world, key) = two_sources(seed);
        world.reorder = seed % 2 == 0;
        world.connect(0, 2);
        world.connect(1, 2);
        let steps = 20 + world.random.index(200);
        for _ in 0..steps {
            world.step();
        }
        let before = world.nodes[2].feed(&key).info().blocks_held;
        world.disconnect(0, 2);
        world.pass(Duration::from_secs(1));
        assert!(before < 1500, "the peer was lost after {before} blocks");
        assert_holds(&world, 2, &key, 0..1500);
        assert_eq!(world.requested_twice, []);
    }
}

#[test]
fn a_transfer_goes_on_where_it_stopped() {
    let (mut world, key) = two_sources(3);
    world.connect(0, 2);
    for _ in 0..120 {
        world.step();
    }
    world.disconnect(0, 2);
    world.settle();
    let held = world.nodes[2].feed(&key).info().blocks_held;
    let asked = world.block_requests[&2].len();
    assert!(held > 0 && held < 1500);
    world.connect(0, 2);
    world.settle();
    assert_holds(&world, 2, &key, 0..1500);
    let again = world.block_requests[&2].len() - asked;
    assert_eq!(
        again as u64,
        1500 - held,
        "no stored block was asked for again"
    );
}

#[test]
fn a_silent_peer_is_passed_by_within_two_timeouts() {
    let (mut world, key) = two_sources(4);
    // Node 0 takes requests for blocks and never answers them.
    world.tamper = Some(Box::new(|from, _, message| match message {
        Message::Data(data) if from == 0 && data.proof.block.is_some() => Vec::new(),
        other => vec![other],
    }));
    world.connect(0, 2);
    world.settle();
    world.connect(1, 2);
    world.pass(Duration::from_secs(20));
    assert_holds(&world, 2, &key, 0..1500);
    assert_eq!(world.nodes[2].violations, []);
}

#[test]
fn a_silent_only_source_is_asked_again_later() {
    let mut world = World::new(5, 2);
    let key = world.create(0, 1, Kind::Kinlog, 40);
    world.follow(1, key, Kind::Kinlog, Want::All, true);
    let mut dropped = 0;
    world.tamper = Some(Box::new(move |from, _, message| match message {
        Message::Data(data) if from == 0 && data.proof.block.is_some() && dropped < 40 => {
            dropped += 1;
            Vec::new()
        }
        other => vec![other],
    }));
    world.connect(0, 1);
    world.pass(Duration::from_secs(60));
    assert_holds(&world, 1, &key, 0..40);
}

#[test]
fn a_peer_that_declines_is_not_asked_again() {
    for reason in [
        None,
        Some(NoDataReason::NotAvailable),
        Some(NoDataReason::InvalidRequest),
    ] {
        let (mut world, key) = two_sources(6);
        world.tamper = Some(Box::new(move |from, _, message| match message {
            Message::Data(data) if from == 0 && data.proof.block.is_some() => {
                vec![Message::NoData(NoData {
                    request: data.request,
                    reason,
                })]
            }
            other => vec![other],
        }));
        world.connect(0, 2);
        world.settle();
        let nobody = FeedEvent::NobodyHas {
            blocks: 1500,
            first: Some(0),
        };
        world.pass(Duration::from_secs(2));
        assert!(world.nodes[2].events.contains(&(key, nobody)));
        world.connect(1, 2);
        world.settle();
        assert_holds(&world, 2, &key, 0..1500);
        let of_liar = world.block_requests[&2]
            .iter()
            .filter(|(to, _)| *to == 0)
            .count();
        // Once, and once more where its answer to a want claimed them again.
        assert!(of_liar <= 2 * 1500, "asked {of_liar} times");
    }
}

#[test]
fn nobody_connected_is_said_once() {
    let mut world = World::new(7, 2);
    let key = world.create(0, 1, Kind::Kinlog, 10);
    world.follow(1, key, Kind::Kinlog, Want::All, true);
    world.pass(Duration::from_secs(10));
    let nobody = |event: &FeedEvent| matches!(event, FeedEvent::NobodyHas { .. });
    assert_eq!(
        world.nodes[1]
            .events
            .iter()
            .filter(|(_, event)| nobody(event))
            .count(),
        1
    );
    world.connect(0, 1);
    world.settle();
    assert_holds(&world, 1, &key, 0..10);
}

#[test]
fn a_head_that_a_silent_peer_did_not_bring_is_asked_for_again_without_any_news() {
    let mut world = World::new(1, 2);
    let key = world.create(0, 1, Kind::Kinlog, 5);
    world.follow(1, key, Kind::Kinlog, Want::All, true);
    world.connect(0, 1);
    world.settle();
    let mut is_lost = false;
    world.tamper = Some(Box::new(move |_, _, message| match message {
        Message::Data(_) if !is_lost => {
            is_lost = true;
            Vec::new()
        }
        message => vec![message],
    }));
    world.append(0, 1, 3);
    world.settle();
    assert_eq!(world.nodes[1].feed(&key).head().length, 5);
    world.pass(Duration::from_secs(30));
    assert_holds(&world, 1, &key, 0..8);
}

#[test]
fn a_head_that_a_peer_could_not_prove_is_asked_for_again_once_it_holds_the_blocks() {
    let mut world = World::new(1, 3);
    let key = world.create(0, 1, Kind::Kinlog, 66);
    world.follow(1, key, Kind::Kinlog, Want::None, true);
    world.follow(2, key, Kind::Kinlog, Want::All, true);
    world.connect(0, 2);
    world.settle();
    world.disconnect(0, 2);
    world.append(0, 1, 34);
    world.connect(0, 1);
    world.settle();
    world.connect(1, 2);
    world.settle();
    assert_eq!(world.nodes[1].feed(&key).head().length, 100);
    assert_eq!(world.nodes[2].feed(&key).head().length, 66);
    world.set_interest(1, &key, Want::All, true);
    world.settle();
    assert_holds(&world, 2, &key, 0..100);
}
