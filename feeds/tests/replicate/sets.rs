//! Kinlog peers ask for blocks in sets: what arrives is the same, with fewer bytes; what was not asked
//! for, or is not what was written, is not stored.
#![allow(clippy::single_range_in_vec_init)] // interests of one run

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::limits::WINDOW_BYTES_FIRST;
use kinlog_feeds::replicate::{FeedEvent, PeerId, ProtocolViolation, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::tree::{BlockSet, Group};
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::wire::kinlog::{FeedMessage, SetAnswer, SetRequest};

use crate::timed::Timed;
use crate::world::{World, assert_holds};

fn world(nodes: usize) -> World {
    let mut world = World::new(7, nodes);
    world.speaks_kinlog = true;
    world
}

#[test]
fn a_whole_feed_comes_in_sets_and_in_fewer_bytes_than_one_by_one() {
    let mut bytes = [0; 2];
    for speaks_kinlog in [false, true] {
        let mut world = world(2);
        world.speaks_kinlog = speaks_kinlog;
        let key = world.create(0, 1, Kind::Kinlog, 2000);
        world.follow(1, key, Kind::Kinlog, Want::All, true);
        world.connect(0, 1);
        world.settle();
        assert_holds(&world, 1, &key, 0..2000);
        assert!(world.nodes[1].violations.is_empty());
        let blocks: usize = world
            .set_requests
            .get(&1)
            .map_or(0, |sets| sets.iter().sum());
        assert_eq!(
            blocks > 1500,
            speaks_kinlog,
            "{blocks} blocks were asked for in sets"
        );
        bytes[usize::from(speaks_kinlog)] = world.bytes_received[&1];
        world.append(0, 1, 40);
        world.settle();
        assert_holds(&world, 1, &key, 0..2040);
    }
    let [one_by_one, in_sets] = bytes;
    println!("{one_by_one} bytes one by one, {in_sets} in sets");
    assert!(
        in_sets + 40 * 2000 < one_by_one,
        "a node less for each block"
    );
}

/// A feed of which the reader knows nothing but the key, a second's half away.
fn unknown(blocks: u64, bytes: usize) -> (Timed, kinlog_feeds::FeedKey) {
    let mut world = world(2);
    let key = world.create_of(
        0,
        1,
        Kind::Kinlog,
        &vec![Bytes::from(vec![7; bytes]); blocks as usize],
    );
    world.follow(1, key, Kind::Kinlog, Want::All, true);
    let mut timed = Timed::new(world);
    timed.connect(0, 1, 100_000_000, Duration::from_millis(500));
    (timed, key)
}

#[test]
fn a_thousand_small_entries_are_asked_for_with_the_head() {
    let (mut timed, key) = unknown(1000, 200);
    let took = timed.run_until(Duration::from_secs(10), |world| {
        world.nodes[1].feed(&key).info().blocks_held == 1000
    });
    // What is there is told once, asked for once and brought once.
    assert!(took < Duration::from_millis(1_600), "{took:?}");
}

#[test]
fn of_an_unknown_feed_no_more_answers_are_asked_for_than_the_first_window_holds() {
    for bytes in [1, 200, 20_000] {
        let (mut timed, _) = unknown(5_000, bytes);
        timed.run_until(Duration::from_millis(900), |_| false);
        let asked = &timed.world.set_requests[&1];
        assert!((4..=5).contains(&asked.len()), "{asked:?}");
        timed.run_until(Duration::from_millis(650), |_| false);
        let most = WINDOW_BYTES_FIRST + 4 * 20_000;
        assert!(
            timed.carried(0, 1) <= most as u64,
            "{}",
            timed.carried(0, 1)
        );
    }
}

#[test]
fn scattered_blocks_come_with_the_nodes_that_they_need_once() {
    let wanted: Vec<_> = (0..300)
        .map(|at| at * 7 % 2000)
        .map(|at| at..at + 1)
        .collect();
    let mut world = world(2);
    let key = world.create(0, 1, Kind::Kinlog, 2000);
    world.follow(1, key, Kind::Kinlog, Want::Ranges(wanted.clone()), false);
    world.connect(0, 1);
    world.settle();
    let mut blocks: Vec<u64> = wanted.into_iter().flatten().collect();
    blocks.sort_unstable();
    blocks.dedup();
    assert_holds(&world, 1, &key, blocks.into_iter());
    let events = &world.nodes[1].events;
    assert!(events.contains(&(key, FeedEvent::Complete)), "{events:?}");
}

#[test]
fn readers_of_each_other_come_together_in_any_order() {
    for round in 0..8 {
        let mut world = world(4);
        world.reorder = round % 2 == 1;
        let key = world.create(0, 1, Kind::Kinlog, 700);
        for node in 1..4 {
            world.follow(node, key, Kind::Kinlog, Want::All, true);
        }
        for (one, other) in [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)] {
            world.connect(one, other);
        }
        for _ in 0..5 {
            for _ in 0..200 {
                world.step();
            }
            world.disconnect(0, 2);
            world.append(0, 1, 11);
            world.connect(0, 2);
        }
        world.pass(Duration::from_secs(200));
        for node in 1..4 {
            assert_holds(&world, node, &key, 0..755);
            assert_eq!(world.nodes[node].violations, []);
        }
    }
}

#[test]
fn a_peer_with_gaps_gives_what_it_has_and_the_rest_comes_from_elsewhere() {
    let mut world = world(3);
    let key = world.create(0, 1, Kind::Kinlog, 900);
    world.follow(
        1,
        key,
        Kind::Kinlog,
        Want::Ranges(vec![0..100, 130..500]),
        true,
    );
    world.connect(0, 1);
    world.settle();
    world.follow(2, key, Kind::Kinlog, Want::All, true);
    world.connect(1, 2);
    world.pass(Duration::from_secs(3));
    assert_holds(&world, 2, &key, (0..100).chain(130..500));
    let events = &world.nodes[2].events;
    let nobody = events
        .iter()
        .find(|(_, event)| matches!(event, FeedEvent::NobodyHas { .. }));
    assert!(nobody.is_some(), "{events:?}");
    world.connect(0, 2);
    world.pass(Duration::from_secs(30));
    assert_holds(&world, 2, &key, 0..900);
}

/// The tamperer changes the first answer that a node sends.
fn alter(
    world: &mut World,
    change: impl Fn(SetAnswer) -> SetAnswer + 'static,
) -> Rc<RefCell<bool>> {
    let done = Rc::new(RefCell::new(false));
    let seen = Rc::clone(&done);
    world.tamper_kinlog = Some(Box::new(move |_, _, message| match message {
        FeedMessage::Set(answer) if !seen.replace(true) => vec![FeedMessage::Set(change(answer))],
        message => vec![message],
    }));
    done
}

#[test]
fn an_answer_that_was_changed_bans_its_sender_and_stores_nothing() {
    let changes: [fn(SetAnswer) -> SetAnswer; 3] = [
        |mut answer| {
            let mut value = answer.values[0].to_vec();
            value[0] ^= 1;
            answer.values[0] = value.into();
            answer
        },
        |mut answer| {
            answer.values.swap(0, 1);
            answer
        },
        |mut answer| {
            answer.values.push(Bytes::from_static(b"one more"));
            answer
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut world = world(2);
        let key = world.create(0, 1, Kind::Kinlog, 300);
        world.follow(1, key, Kind::Kinlog, Want::All, true);
        let done = alter(&mut world, change);
        world.connect(0, 1);
        world.pass(Duration::from_secs(30));
        assert!(*done.borrow());
        let banned = world.nodes[1].violations.iter().any(|(_, reason, ban)| {
            *ban && matches!(
                reason,
                ProtocolViolation::BadData { .. } | ProtocolViolation::WrongAnswer { .. }
            )
        });
        assert!(banned, "change {number}: {:?}", world.nodes[1].violations);
        let report = world.nodes[1].feed(&key).verify().unwrap();
        assert!(report.problems.is_empty());
    }
}

#[test]
fn fewer_blocks_than_were_asked_for_are_taken_and_the_others_asked_for_again() {
    let mut world = world(2);
    let key = world.create(0, 1, Kind::Kinlog, 700);
    world.follow(1, key, Kind::Kinlog, Want::All, true);
    // No answer at all to one set: "the first is not to be had".
    let done = alter(&mut world, |answer| {
        SetAnswer::nothing(answer.id, answer.fork)
    });
    world.connect(0, 1);
    world.pass(Duration::from_secs(60));
    assert!(*done.borrow());
    assert!(world.nodes[1].violations.is_empty());
    let held = world.nodes[1].feed(&key).info().blocks_held;
    assert!(
        held >= 699,
        "{held}: all but perhaps the one that the peer says it lacks"
    );
}

#[test]
fn sets_that_nobody_asked_for_are_counted_and_cost_the_sender_its_session() {
    let mut world = world(2);
    let key = world.create(0, 1, Kind::Kinlog, 10);
    world.follow(1, key, Kind::Kinlog, Want::Range(0..2), true);
    world.connect(0, 1);
    world.settle();
    let group = Group::new(1, vec![4..6]).unwrap();
    let set = BlockSet::new(vec![group]).unwrap();
    let proof = world.nodes[0].feed(&key).prove_blocks(&set).unwrap();
    let pushed = SetAnswer::new(1_000_000, 0, *proof.blocks.unwrap());
    for number in 1..100 {
        let (now, reader) = (world.now, &mut world.nodes[1].replicator);
        let message = FeedMessage::Set(pushed.clone());
        let taken = reader.handle_kinlog_message(now, PeerId(0), &key, message);
        world.work();
        if let Err(reason) = taken {
            assert!(
                matches!(reason, ProtocolViolation::UnsolicitedData { .. }),
                "{reason}"
            );
            assert!(number > 60, "after {number}");
            assert_holds(&world, 1, &key, 0..2);
            return;
        }
    }
    panic!("it was taken");
}

#[test]
fn a_peer_is_given_no_block_of_a_set_that_it_is_not_shown() {
    let mut world = world(2);
    let key = world.create(0, 1, Kind::Kinlog, 64);
    world.follow(1, key, Kind::Kinlog, Want::None, true);
    let limits = std::collections::BTreeMap::from([(key, vec![0..10])]);
    let now = world.now;
    world.nodes[0].replicator.limit(now, PeerId(1), limits);
    world.connect(0, 1);
    world.settle();
    let asked = |start: u64| {
        let group = Group::new(6, vec![start..start + 20]).unwrap();
        FeedMessage::AskSet(SetRequest {
            id: 1 + start,
            fork: 0,
            is_urgent: false,
            set: BlockSet::new(vec![group]).unwrap(),
        })
    };
    let answers = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&answers);
    world.tamper_kinlog = Some(Box::new(move |_, _, message| {
        if let FeedMessage::Set(answer) = message {
            seen.borrow_mut().push((answer.id, answer.values.len()));
        }
        Vec::new()
    }));
    for start in [0, 8, 20] {
        let server = &mut world.nodes[0].replicator;
        server
            .handle_kinlog_message(now, PeerId(1), &key, asked(start))
            .unwrap();
    }
    world.settle();
    let mut answers = answers.borrow().clone();
    answers.sort_unstable();
    assert_eq!(answers, [(1, 10), (9, 2), (21, 0)]);
}

#[test]
fn a_set_beyond_the_feed_is_declined_and_counted() {
    let mut world = world(2);
    let key = world.create(0, 1, Kind::Kinlog, 5);
    world.follow(1, key, Kind::Kinlog, Want::None, true);
    world.connect(0, 1);
    world.settle();
    let group = Group::new(3, vec![0..4]).unwrap();
    let request = SetRequest {
        id: 1,
        fork: 0,
        is_urgent: false,
        set: BlockSet::new(vec![group]).unwrap(),
    };
    let now = world.now;
    let server = &mut world.nodes[0].replicator;
    let mut ended = None;
    for _ in 0..100 {
        let message = FeedMessage::AskSet(request.clone());
        let taken = server.handle_kinlog_message(now, PeerId(1), &key, message);
        if let Err(reason) = taken {
            ended = Some(reason);
            break;
        }
    }
    assert!(
        matches!(ended, Some(ProtocolViolation::InvalidRequests { .. })),
        "{ended:?}"
    );
}

#[test]
fn plain_peers_are_never_asked_for_sets() {
    let mut world = world(2);
    world.speaks_kinlog = false;
    let key = world.create(0, 1, Kind::Plain, 300);
    world.follow(1, key, Kind::Plain, Want::All, false);
    world.connect(0, 1);
    world.settle();
    assert_holds(&world, 1, &key, 0..300);
    assert!(world.set_requests.is_empty());
    assert!(!world.block_requests[&1].is_empty());
    let cancel = Message::Cancel(1);
    world.inject(1, 0, key, cancel);
    world.settle();
}

#[test]
fn an_answer_ends_where_a_message_does_or_at_the_first_block_that_is_not_held() {
    let mut world = world(1);
    let key = world.create(0, 1, Kind::Kinlog, 2048);
    let every_other = (0..1000).map(|at| 2 * at..2 * at + 1).collect();
    let set = BlockSet::new(vec![Group::new(11, every_other).unwrap()]).unwrap();
    let feed = world.nodes[0].feed(&key).clone();
    let proof = *feed.prove_blocks(&set).unwrap().blocks.unwrap();
    let count = proof.values.len();
    assert_eq!(Some(&proof.set), set.prefix(count).as_ref());
    let bytes = |proof| SetAnswer::new(1, 0, proof).encoded_len();
    let sent = bytes(proof);
    assert!(
        (50_000..66_000).contains(&sent),
        "{count} blocks in {sent} bytes"
    );
    feed.clear(40..50).unwrap();
    let proof = *feed.prove_blocks(&set).unwrap().blocks.unwrap();
    assert_eq!(proof.values.len(), 20);
    feed.clear(0..1).unwrap();
    assert!(feed.prove_blocks(&set).is_err());
}

/// As dense as 1,000 random blocks in a million.
#[test]
fn a_block_among_a_thousand_costs_four_hundred_bytes_in_both_directions() {
    const LENGTH: u64 = 1 << 17;
    let mut world = world(2);
    let key = world.create_alike(0, 1, LENGTH, 100);
    world.follow(1, key, Kind::Kinlog, Want::Range(0..1), true);
    world.connect(0, 1);
    world.settle();
    let sum = |world: &World| world.bytes_received.values().sum::<usize>();
    let before = sum(&world);
    let mut picked = std::collections::BTreeSet::new();
    while picked.len() < 125 {
        picked.insert(1 + world.random.next_u64() % (LENGTH - 1));
    }
    let wanted = picked.iter().map(|block| *block..*block + 1).collect();
    world.set_interest(1, &key, Want::Ranges(wanted), true);
    world.settle();
    let held = world.nodes[1].feed(&key).info().blocks_held;
    assert_eq!(held, 126);
    let each = (sum(&world) - before) / 125;
    println!("{each} bytes a block");
    assert!((380..425).contains(&each), "{each} bytes a block");
}
