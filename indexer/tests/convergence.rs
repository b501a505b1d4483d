//! Eight replicas of one room in which people fight: whatever each reads first, again, late or
//! after a restart, their tables are the same, and the same as after a rebuild.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod world;

use std::time::{Duration, Instant};

use kinlog_feeds::crypto::Hash;
use kinlog_indexer::entry::{
    Act, Body, Cut, Deed, Entry, Epoch, Invite, Leave, LinkScope, Remove, Role, RoleChange,
};
use kinlog_indexer::index::{Block, FeedContext, Scope, TreeHashes};
use kinlog_indexer::seal::EpochId;
use kinlog_indexer::{Clock, Index, Text};
use testkit::process::Folder;
use world::{Random, World, admit_as, message, profile, room_feed};

const AGENTS: usize = 5;
const STEPS: usize = 40;
const REPLICAS: usize = 8;
/// Milliseconds of 50 years.
const FIFTY_YEARS: u64 = 50 * 365 * 24 * 3_600_000;

fn seed() -> u64 {
    let given = std::env::var("KINLOG_SEED").ok();
    given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64
    })
}

/// A room whose members talk, admit, promote, demote and remove each other, each knowing part of
/// what the others did, with clocks at 0 and 50 years ahead.
fn fight(seed: u64) -> World {
    let mut random = Random::new(seed);
    let mut world = World::new(seed, AGENTS as u8);
    for agent in 1..AGENTS - 1 {
        let role = [Role::Member, Role::Admin, Role::Owner][random.below(3)];
        let admit = admit_as(world.agents[agent].membership(&world.room, agent), role);
        world.write(room_feed(0), agent as u64, 2_000, Default::default(), admit);
    }
    let views: Vec<_> = (0..AGENTS)
        .map(|_| {
            let mut view = world.index();
            view.ingest(&world.blocks()).unwrap();
            std::cell::RefCell::new(view)
        })
        .collect();
    let trees = world.trees.clone();
    for step in 0..STEPS as u64 {
        let (who, target) = (random.below(AGENTS), random.below(AGENTS));
        let mut view = views[who].borrow_mut();
        if random.chance(45) {
            let heard = room_feed(random.below(AGENTS));
            let news = world
                .blocks()
                .into_iter()
                .filter(|block| block.feed == heard);
            view.ingest(&news.collect::<Vec<_>>()).unwrap();
        }
        let agent = world.agents[target].id;
        let role = Role::ALL[random.below(4)];
        let length = random.next() % 12;
        let tree_hash = trees
            .tree_hash(&room_feed(target), length)
            .unwrap_or(Hash([7; 32]));
        let cut = Cut {
            feed: room_feed(target),
            length,
            tree_hash,
        };
        let deed = match random.below(12) {
            0 => Some(Deed::Role(RoleChange { agent, role })),
            1 | 2 => Some(Deed::Remove(Remove {
                agent,
                cuts: vec![cut],
                reason: Text::new("enough").unwrap(),
            })),
            3 if random.chance(30) => Some(Deed::Leave(Leave { cuts: vec![cut] })),
            4 => {
                let member = world.agents[target].membership(&world.room, target);
                match admit_as(member, role) {
                    Body::Act(act) => Some(act.deed),
                    _ => None,
                }
            }
            5 => Some(Deed::Invite(Invite {
                public_key: kinlog_feeds::crypto::PublicKey([random.below(3) as u8; 32]),
                role: Role::Guest,
                expires_at_ms: None,
                uses: Some(1),
            })),
            6 => Some(Deed::Epoch(Epoch {
                id: EpochId([random.below(4) as u8; 16]),
                act_id: EpochId([100 + random.below(4) as u8; 16]),
                parents: Vec::new(),
                copies: Vec::new(),
            })),
            _ => None,
        };
        let own = room_feed(who);
        let body = match deed {
            Some(deed) => {
                let parents = view.act_heads(&world.room, &own).unwrap().parents();
                Body::Act(Box::new(Act { parents, deed }))
            }
            None if random.chance(20) => profile(&format!("name {step}")),
            None => message(&format!("message {step} of {who} about soup")),
        };
        let frontier = view.frontier(LinkScope::Room(world.room), &own).unwrap();
        let (links, depth) = frontier.next(&own, |feed, length| trees.tree_hash(feed, length));
        let ms = [0, FIFTY_YEARS + step, 10_000 + step, 10_000 + step][random.below(4)];
        let clock = Clock { ms, counter: 0 };
        let entry = Entry {
            links,
            depth,
            clock,
            body,
        };
        let block = world.write_bytes(own, &entry.encode().unwrap());
        view.ingest(&[block]).unwrap();
    }
    world
}

/// Reads everything in some order, some of it twice, in parts, the key at any time; looks at what
/// it has in between, and begins anew from its file now and then.
fn replica(world: &World, mut random: Random, folder: &Folder, number: usize) -> Index {
    let path = folder.join(format!("{number}-{}.db", random.next()));
    let open = |world: &World| {
        let mut index = if number == 0 {
            Index::open(&path).unwrap()
        } else {
            Index::open_in_memory().unwrap()
        };
        index.set_tree_hashes(Box::new(world.trees.clone()));
        index
    };
    let mut index = open(world);
    let mut blocks: Vec<Block> = world.blocks();
    random.shuffle(&mut blocks);
    let key_at = random.below(blocks.len() + 1);
    let mut has_key = false;
    let mut at = 0;
    while at < blocks.len() {
        let end = (at + 1 + random.below(9)).min(blocks.len());
        for block in &blocks[at..end] {
            let scope = world.feeds[&block.feed].context.scope;
            let key = block.feed;
            index.put_feed(FeedContext { key, scope }).unwrap();
        }
        if (at..end).contains(&key_at) {
            index.put_epoch_key(world.room, world.key.clone()).unwrap();
            has_key = true;
        }
        index.ingest(&blocks[at..end]).unwrap();
        if random.chance(20) {
            let again = random.below(end);
            assert_eq!(index.ingest(&blocks[again..=again]).unwrap().entries, 0);
            index.messages(&world.room, 20).unwrap();
            index.authority(&world.room).unwrap();
            index.dump_hash().unwrap();
        }
        if number == 0 && random.chance(20) {
            drop(index);
            index = open(world);
            if has_key {
                index.put_epoch_key(world.room, world.key.clone()).unwrap();
            }
        }
        at = end;
    }
    for feed in world.feeds.values() {
        index.put_feed(feed.context).unwrap();
    }
    index.put_epoch_key(world.room, world.key.clone()).unwrap();
    index
}

#[test]
fn eight_replicas_of_a_fight_agree_with_each_other_and_with_a_rebuild() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let folder = Folder::new("convergence");
    let end = Instant::now() + Duration::from_secs(15);
    let (mut cases, mut void, mut hidden, mut gone) = (0u64, 0, 0, 0);
    while Instant::now() < end || cases < 3 {
        let case = seed.wrapping_add(cases);
        let mut world = fight(case);
        let mut straight = world.indexed();
        let expected = straight.dump_hash().unwrap();
        let authority = straight.authority(&world.room).unwrap();
        for number in 0..REPLICAS {
            let random = Random::new(case ^ (number as u64 + 1));
            let index = replica(&world, random, &folder, number);
            assert_eq!(
                index.authority(&world.room).unwrap(),
                authority,
                "case {case}"
            );
            assert_eq!(
                index.messages(&world.room, 100).unwrap(),
                straight.messages(&world.room, 100).unwrap(),
                "case {case}, replica {number}"
            );
            assert_eq!(
                index.dump_hash().unwrap(),
                expected,
                "case {case}, replica {number}"
            );
        }
        straight.rebuild(&mut world).unwrap();
        assert_eq!(
            straight.dump_hash().unwrap(),
            expected,
            "case {case}, rebuilt"
        );
        let rows = authority.acts.values();
        void += rows.filter(|row| row.verdict.voided_by().is_some()).count();
        hidden += authority
            .feeds
            .values()
            .filter(|feed| !feed.is_live())
            .count();
        gone += authority
            .members
            .values()
            .filter(|member| member.role.is_none())
            .count();
        cases += 1;
    }
    println!("{cases} rooms: {void} acts void, {hidden} feeds cut, {gone} members gone");
    assert!(hidden > 0 && gone > 0, "nobody fought");
}

#[test]
fn one_act_less_is_another_room() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let world = fight(seed);
    let expected = world.indexed().dump_hash().unwrap();
    let blocks = world.blocks();
    for gone in 0..blocks.len() {
        let mut fewer = blocks.clone();
        fewer.remove(gone);
        let mut index = world.index();
        index.ingest(&fewer).unwrap();
        assert_ne!(index.dump_hash().unwrap(), expected, "without block {gone}");
    }
}

#[test]
fn a_removal_hides_what_is_behind_its_cut_and_moves_no_message() {
    let mut world = World::new(1, 3);
    for agent in 1..3 {
        let admit = admit_as(
            world.agents[agent].membership(&world.room, agent),
            Role::Member,
        );
        world.write(room_feed(0), agent as u64, 2_000, Default::default(), admit);
    }
    for number in 0..6 {
        let text = message(&format!("soup {number}"));
        world.write(
            room_feed(1),
            3 + number,
            3_000 + number,
            Default::default(),
            text,
        );
    }
    let name = profile("Ada");
    world.write(room_feed(1), 9, 4_000, Default::default(), name);
    let mut index = world.indexed();
    let texts = |index: &Index| {
        let messages = index.messages(&world.room, 10).unwrap();
        messages.into_iter().map(|row| row.text).collect::<Vec<_>>()
    };
    assert_eq!(texts(&index).len(), 6);
    let mut later = world.clone();
    let cut = |length, tree_hash| {
        Body::Act(Box::new(Act {
            parents: Default::default(),
            deed: Deed::Remove(Remove {
                agent: world.agents[1].id,
                cuts: vec![Cut {
                    feed: room_feed(1),
                    length,
                    tree_hash,
                }],
                reason: Text::new("enough").unwrap(),
            }),
        }))
    };
    let held = world.trees.tree_hash(&room_feed(1), 2).unwrap();
    let removal = later.write(room_feed(0), 10, 5_000, Default::default(), cut(2, held));
    index.ingest(&[removal]).unwrap();
    assert_eq!(texts(&index), ["soup 0", "soup 1"]);
    assert_eq!(index.search("soup", 10).unwrap().len(), 2);
    let members = index.room_members(&world.room).unwrap();
    let removed = |row: &&kinlog_indexer::index::MemberRow| row.agent == world.agents[1].id;
    let member = members.iter().find(removed).unwrap();
    assert_eq!(
        (member.left_at, member.display_name.as_deref()),
        (Some(5_000), None)
    );
    assert_eq!(
        index.dump_hash().unwrap(),
        later.indexed().dump_hash().unwrap()
    );
    assert_eq!(index.disputed(&world.room).unwrap().len(), 0);
    // What comes behind the cut is hidden too, and is not linked.
    let more = later.write(
        room_feed(1),
        11,
        6_000,
        Default::default(),
        message("soup 7"),
    );
    index.ingest(&[more]).unwrap();
    assert_eq!(texts(&index), ["soup 0", "soup 1"]);
    let frontier = index
        .frontier(LinkScope::Room(world.room), &room_feed(2))
        .unwrap();
    assert!(
        frontier
            .entries
            .iter()
            .all(|entry| entry.feed != room_feed(1))
    );
    // A cut that names another tree than the one that is held.
    let other = later.write(
        room_feed(0),
        12,
        7_000,
        Default::default(),
        cut(1, Hash([9; 32])),
    );
    index.ingest(&[other]).unwrap();
    assert_eq!(
        index.disputed(&world.room).unwrap().len(),
        0,
        "he is gone already"
    );
    let scope = Scope::Room(world.room);
    assert_eq!(later.feeds[&room_feed(1)].context.scope, scope);
}
