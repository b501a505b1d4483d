//! Attacks by name on what a room holds: each states what the attacker gets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;

use crate::world;
use crate::world::{Agent, World, admit, message, path_feed, room_feed};
use bytes::Bytes;
use kinlog_feeds::crypto::FeedKey;
use kinlog_indexer::Index;
use kinlog_indexer::authority::{Refusal, Verdict};
use kinlog_indexer::entry::{
    Act, Body, Deed, Epoch, Links, Membership, MembershipError, OPEN_BLOCK, Parents,
};
use kinlog_indexer::identity::Powers;
use kinlog_indexer::index::Fate;
use kinlog_indexer::seal::EpochSecret;

/// Ada's room with Bob in it, and one message by each.
fn room() -> World {
    let mut world = World::new(1, 3);
    let member = world.agents[1].membership(&world.room, 1);
    world.write(room_feed(0), 1, 2_000, Links::default(), admit(member));
    world.write(
        room_feed(0),
        2,
        3_000,
        Links::default(),
        message("I owe you nothing"),
    );
    world.write(room_feed(1), 3, 4_000, Links::default(), message("agreed"));
    world
}

fn texts(index: &Index, world: &World) -> Vec<String> {
    let messages = index.messages(&world.room, 20).unwrap();
    messages.into_iter().map(|row| row.text).collect()
}

fn sealed(world: &World, feed: FeedKey, index: usize) -> Bytes {
    world.feeds[&feed].blocks[index].clone()
}

#[test]
fn a_sealed_block_re_attributed_to_another_member_does_not_open() {
    let mut world = room();
    // Bob puts Ada's sealed words into his own feed, at the index where they stood in hers.
    let hers = sealed(&world, room_feed(0), 2);
    world.write(room_feed(1), 4, 4_500, Links::default(), message("wait"));
    let copied = world.write_block(room_feed(1), hers);
    assert_eq!(copied.index, 2);
    let index = world.indexed();
    assert_eq!(
        texts(&index, &world),
        ["I owe you nothing", "agreed", "wait"]
    );
    let place = kinlog_indexer::entry::Ref {
        feed: copied.feed,
        index: copied.index,
    };
    assert_eq!(
        index.fate(&place).unwrap(),
        Fate::Skipped("unopened".into())
    );
}

#[test]
fn a_sealed_block_replayed_at_another_place_of_its_own_feed_does_not_open() {
    let mut world = room();
    let words = sealed(&world, room_feed(1), 0);
    let replayed = world.write_block(room_feed(1), words);
    let index = world.indexed();
    assert_eq!(texts(&index, &world), ["I owe you nothing", "agreed"]);
    assert_eq!(index.counts().unwrap().unopened, 1);
    assert!(index.is_indexed(&replayed.feed, replayed.index));
}

#[test]
fn an_act_replayed_in_another_feed_has_another_name_and_another_author() {
    let mut world = room();
    // Whoever has the room's key can open Ada's admission and seal it again in a feed of their own.
    let hers = sealed(&world, room_feed(0), 1);
    let entry = kinlog_indexer::seal::open_entry(&world.key, &room_feed(0), 1, &hers).unwrap();
    let again = world.write_bytes(room_feed(2), &entry);
    let index = world.indexed();
    let acts = index.authority(&world.room).unwrap().acts;
    let replayed = acts.values().find(|row| row.feed == again.feed).unwrap();
    assert!(matches!(replayed.verdict, Verdict::Refused(_)));
    assert_eq!(index.member_feeds(&world.room).unwrap().len(), 2);
}

#[test]
fn an_open_block_in_a_room_lets_nobody_in() {
    let mut world = room();
    // Without the key anybody who may write a feed can still write open entries.
    let member = world.agents[2].membership(&world.room, 2);
    let entry = kinlog_indexer::Entry {
        links: Links::default(),
        depth: 9,
        clock: kinlog_indexer::Clock {
            ms: 5_000,
            counter: 0,
        },
        body: admit(member),
    };
    let block = [&[OPEN_BLOCK][..], &entry.encode().unwrap()].concat();
    world.write_block(room_feed(2), block.into());
    let index = world.indexed();
    assert_eq!(index.member_feeds(&world.room).unwrap().len(), 2);
}

#[test]
fn an_open_act_of_a_member_does_not_count_in_a_sealed_room() {
    let mut world = room();
    // Who has the feed's key and no key of the room, or wants others to read along, leaves it open.
    let feeds_before = world.indexed().member_feeds(&world.room).unwrap();
    let member = world.agents[2].membership(&world.room, 2);
    let sealed = world.write(room_feed(0), 4, 5_000, Links::default(), admit(member));
    let plain =
        kinlog_indexer::seal::open_entry(&world.key, &sealed.feed, sealed.index, &sealed.bytes);
    let open = [&[OPEN_BLOCK][..], &plain.unwrap()].concat();
    let feed = world.feeds.get_mut(&sealed.feed).unwrap();
    feed.blocks[sealed.index as usize] = open.into();
    let index = world.indexed();
    let acts = index.authority(&world.room).unwrap().acts;
    let mut last = acts.values().filter(|row| row.feed == sealed.feed);
    let last = last.find(|row| row.index == sealed.index).unwrap();
    assert_eq!(last.verdict, Verdict::Refused(Refusal::Sealed));
    assert_eq!(index.member_feeds(&world.room).unwrap(), feeds_before);
}

/// What becomes of the admission of a member by the owner, and how many feeds the room has then.
fn admission(member: Membership) -> (Verdict, usize) {
    let mut world = World::new(1, 1);
    let admitted = world.write(room_feed(0), 1, 2_000, Links::default(), admit(member));
    let index = world.indexed();
    let acts = index.authority(&world.room).unwrap().acts;
    let mut acts = acts.into_values();
    let row = acts.find(|row| (row.feed, row.index) == (admitted.feed, admitted.index));
    let feeds = index.member_feeds(&world.room).unwrap().len();
    (row.unwrap().verdict, feeds)
}

#[test]
fn a_membership_with_another_set_of_its_agent_in_it_lets_nobody_in() {
    let room = World::new(1, 1).room;
    let (one, other) = (
        Agent::with(77, Powers::ALL, "laptop"),
        Agent::with(77, Powers::ALL, "phone"),
    );
    let member = one.membership(&room, 1);
    assert_eq!(admission(member.clone()), (Verdict::Counts, 2));
    // Both sets are the agent's own; the device signed for one of them.
    let mut swapped = member;
    swapped.identity_set = other.set;
    let error = swapped.verify(&room).unwrap_err();
    assert!(matches!(error, MembershipError::Claim { .. }), "{error}");
    let refused = Verdict::Refused(Refusal::Carried);
    assert_eq!(admission(swapped), (refused, 1));
}

#[test]
fn a_device_that_may_not_write_comes_into_no_room() {
    let room = World::new(1, 1).room;
    let adder = Agent::with(77, Powers::ADD, "sign-in");
    let member = adder.membership(&room, 1);
    let error = member.verify(&room).unwrap_err();
    assert!(matches!(error, MembershipError::NoWriter { .. }), "{error}");
    let refused = Verdict::Refused(Refusal::Carried);
    assert_eq!(admission(member), (refused, 1));
}

#[test]
fn two_keys_for_one_epoch_cannot_be_and_its_second_announcement_does_not_count() {
    let (one, other) = (EpochSecret::new([51; 32]), EpochSecret::new([52; 32]));
    // An epoch is the hash of its key: another key is another epoch.
    assert_ne!(one.epoch_id(), other.epoch_id());
    let mut world = room();
    let announce = |secret: &EpochSecret| {
        Body::Act(Box::new(Act {
            parents: Parents::default(),
            seq: 0,
            deed: Deed::Epoch(Epoch {
                id: one.epoch_id(),
                act_id: secret.act_key().epoch_id(),
                commitment: secret.commitment(),
                parents: Vec::new(),
                copies: Vec::new(),
            }),
        }))
    };
    world.write(room_feed(0), 4, 5_000, Links::default(), announce(&one));
    world.write(room_feed(1), 5, 6_000, Links::default(), announce(&other));
    let epochs = world.indexed().authority(&world.room).unwrap().epochs;
    let said = epochs.iter();
    let said = said.flat_map(|(id, row)| row.announced.iter().map(|said| (*id, said.act_id)));
    let said: Vec<_> = said.collect();
    assert_eq!(said, [(one.epoch_id(), one.act_key().epoch_id())]);
}

#[test]
fn a_feed_made_anew_under_the_same_path_takes_nothing_of_the_old_one() {
    let mut world = World::new(1, 2);
    let directory = world.agents[0].directory;
    for feed in [0, 1] {
        let line = Body::DirectoryLine(world::line("/notes", feed, &world.agents[0]));
        let at = 1 + feed as u64;
        world.write(directory, at, 1_000 * at, Links::default(), line);
    }
    let index = world.indexed();
    let rows = index.directory(&world.agents[0].id).unwrap();
    let feeds: BTreeSet<FeedKey> = rows.iter().map(|row| row.feed).collect();
    // Both are there, each under its own key; neither stands in the other's place.
    assert_eq!(feeds, BTreeSet::from([path_feed(0), path_feed(1)]));
}

/// Every test that `docs/cryptography.md` names against an attack exists.
#[test]
fn the_tests_that_the_page_of_attacks_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/cryptography.md")).unwrap();
    let (_, table) = page.split_once("## Attacks, each with its test").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut named = 0;
    for line in table.lines().filter(|line| line.starts_with("| **")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        for test in cells[2].split("; ") {
            let (file, name) = test.trim_matches('`').split_once("::").unwrap();
            let source = std::fs::read_to_string(root.join(file)).unwrap();
            assert!(
                source.contains(&format!("fn {name}(")),
                "{file} has no {name}"
            );
            named += 1;
        }
    }
    assert!(named >= 20, "{named} tests are named");
}
