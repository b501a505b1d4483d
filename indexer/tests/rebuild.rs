//! Acceptance 8: the index follows from entries, feeds and keys, whatever order they come in.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::world::{Random, World, busy_world, message, path_feed, room_feed};
use kinlog_feeds::crypto::{DeviceKey, FeedKey, Hash};
use kinlog_indexer::Index;
use kinlog_indexer::RoomId;
use kinlog_indexer::entry::{LinkScope, Ref};
use kinlog_indexer::index::{Block, FeedContext, IndexError, MessageRow, OpenError, Scope};
use kinlog_indexer::mistake::{Mistake, make};
use testkit::process::Folder;
use testkit::random::usual_seed;
use testkit::soak::{self, Deadline};

const ORDERS: u64 = 20;
const STEPS: usize = 220;

/// Reads everything of `world` in an order drawn from `random`, with reads in between.
fn read_in_random_order(
    world: &World,
    blocks: &[Block],
    mut random: Random,
    key_last: bool,
) -> Index {
    let mut index = Index::open_in_memory().unwrap();
    index.set_tree_hashes(Box::new(world.trees.clone()));
    let mut blocks = blocks.to_vec();
    random.shuffle(&mut blocks);
    let mut told = BTreeSet::new();
    let key_at = if key_last {
        blocks.len()
    } else {
        random.below(blocks.len())
    };
    let mut at = 0;
    while at < blocks.len() {
        let end = (at + 1 + random.below(12)).min(blocks.len());
        for block in &blocks[at..end] {
            let context = world.feeds[&block.feed].context;
            let first = told.insert(block.feed);
            // Some feeds are followed by their key at first, and get their author later.
            if first && context.scope.author().is_some() && random.chance(50) {
                index
                    .put_feed(FeedContext {
                        scope: Scope::Unknown,
                        ..context
                    })
                    .unwrap();
            } else if first || random.chance(30) {
                index.put_feed(context).unwrap();
            }
        }
        if (at..end).contains(&key_at) {
            index.put_epoch_key(world.room, world.key.clone()).unwrap();
        }
        index.ingest(&blocks[at..end]).unwrap();
        at = end;
        if random.chance(30) {
            look_round(&index, world);
        }
    }
    for feed in world.feeds.values() {
        index.put_feed(feed.context).unwrap();
    }
    index.put_epoch_key(world.room, world.key.clone()).unwrap();
    index
}

/// Reads what people read.
fn look_round(index: &Index, world: &World) {
    for room in index.rooms().unwrap() {
        index.room_members(&room.id).unwrap();
        index.messages(&room.id, 50).unwrap();
        index.files(&room.id, 50).unwrap();
    }
    index.search("soup", 20).unwrap();
    index
        .frontier(LinkScope::Room(world.room), &room_feed(0))
        .unwrap();
    index.directory(&world.agents[0].id).unwrap();
    index.dump_hash().unwrap();
}

/// What people see, in their order: says where two indexes differ.
fn seen(index: &Index, world: &World) -> BTreeMap<&'static str, String> {
    let mut out = BTreeMap::new();
    let room = &world.room;
    out.insert("counts", format!("{:#?}", index.counts().unwrap()));
    out.insert("rooms", format!("{:#?}", index.rooms().unwrap()));
    out.insert(
        "members",
        format!("{:#?}", index.room_members(room).unwrap()),
    );
    out.insert(
        "member feeds",
        format!("{:#?}", index.member_feeds(room).unwrap()),
    );
    out.insert(
        "messages",
        format!("{:#?}", index.messages(room, 1000).unwrap()),
    );
    let messages = index.messages(room, 1000).unwrap();
    let of = |look: &dyn Fn(&MessageRow) -> String| messages.iter().map(look).collect::<String>();
    let reactions = of(&|row| format!("{:?}\n", index.reactions(row).unwrap()));
    let edits = of(&|row| format!("{:?}\n", index.edits(row).unwrap()));
    out.insert("reactions", reactions);
    out.insert("edits", edits);
    out.insert("files", format!("{:#?}", index.files(room, 1000).unwrap()));
    out.insert(
        "conflicts",
        format!("{:#?}", index.conflicts(1000).unwrap()),
    );
    let (mut open, mut frontiers) = (String::new(), String::new());
    for (number, agent) in world.agents.iter().enumerate() {
        open += &format!("{:#?}\n", index.directory(&agent.id).unwrap());
        open += &format!("{:#?}\n", index.profile(&agent.id).unwrap());
        open += &format!(
            "{:#?}\n",
            index.documents(&path_feed(number), 1000).unwrap()
        );
        for scope in [LinkScope::Room(*room), LinkScope::Author(agent.id)] {
            let own = room_feed(number);
            frontiers += &format!("{:#?}\n", index.frontier(scope, &own).unwrap());
        }
    }
    out.insert("in the open", open);
    out.insert("frontiers", frontiers);
    out
}

/// A world in which somebody deletes a message that nobody could read.
const SEED: u64 = 1_795_331_741_332_411_714;

#[test]
fn twenty_random_orders_give_one_hash_and_one_entry_less_gives_another() {
    let first = usual_seed(SEED);
    let deadline = Deadline::new();
    for seed in first.. {
        println!("KINLOG_SEED={seed}");
        twenty_random_orders(seed);
        if !soak::is_on() || deadline.is_past() {
            break;
        }
    }
}

fn twenty_random_orders(seed: u64) {
    let world = busy_world(seed, STEPS);
    let blocks = world.blocks();
    let straight = world.indexed();
    let (expected, expected_seen) = (straight.dump_hash().unwrap(), seen(&straight, &world));
    let counts = straight.counts().unwrap();
    assert!(
        counts.newer > 0 && counts.malformed > 0 && counts.not_entries > 0,
        "{counts:?}"
    );
    assert!(
        counts.unopened > 0 && counts.pending > 0 && counts.conflicts == 0,
        "{counts:?}"
    );
    assert_eq!(straight.room_members(&world.room).unwrap().len(), 3);
    for order in 0..ORDERS {
        let random = Random::new(seed ^ (order + 1));
        let index = read_in_random_order(&world, &blocks, random, order % 4 == 0);
        for (what, expected) in &expected_seen {
            assert_eq!(
                &seen(&index, &world)[what],
                expected,
                "{what} of order {order}"
            );
        }
        assert_eq!(index.dump_hash().unwrap(), expected, "order {order}");
    }
    // Who never had what was deleted has the same tables: any other block makes a difference.
    let deleted = world.index().ingest(&blocks).unwrap().deleted;
    let is_kept = |(_, block): &(usize, &Block)| {
        let (feed, index) = (block.feed, block.index);
        !deleted.contains_key(&Ref { feed, index })
    };
    let kept: Vec<usize> = blocks
        .iter()
        .enumerate()
        .filter(is_kept)
        .map(|(at, _)| at)
        .collect();
    let mut hashes = BTreeSet::from([expected]);
    let mut random = Random::new(seed);
    for _ in 0..5 {
        let mut fewer = blocks.clone();
        let gone = fewer.remove(kept[random.below(kept.len())]);
        let mut index = world.index();
        index.ingest(&fewer).unwrap();
        let hash = index.dump_hash().unwrap();
        assert_ne!(
            hash, expected,
            "without block {} of {}",
            gone.index, gone.feed
        );
        hashes.insert(hash);
    }
    assert!(hashes.len() > 1);
}

#[test]
fn blocks_of_paths_that_are_forgotten_were_never_read() {
    let (mut forgotten, mut documents) = (0, 0);
    for seed in 0..3 {
        let world = busy_world(seed, STEPS);
        let (mut random, mut index) = (Random::new(seed), world.indexed());
        let mut fewer = world.blocks();
        for number in 0..world.agents.len() {
            let feed = path_feed(number);
            let length = world.feeds[&feed].blocks.len();
            if length == 0 {
                continue;
            }
            let start = random.below(length);
            let ranges = [0..start as u64 / 2, start as u64..length as u64 + 3];
            let before = fewer.len();
            fewer.retain(|block| {
                block.feed != feed || !ranges.iter().any(|range| range.contains(&block.index))
            });
            forgotten += before - fewer.len();
            documents += index.documents(&feed, 1000).unwrap().len();
            index.forget_blocks(&feed, &ranges).unwrap();
            documents -= index.documents(&feed, 1000).unwrap().len();
        }
        // Of rooms and directories nothing goes.
        let all = std::slice::from_ref(&(0..u64::MAX));
        for other in [room_feed(0), world.agents[0].directory] {
            index.forget_blocks(&other, all).unwrap();
        }
        let mut never = world.index();
        never.put_epoch_key(world.room, world.key.clone()).unwrap();
        never.ingest(&fewer).unwrap();
        for (what, expected) in &seen(&never, &world) {
            assert_eq!(&seen(&index, &world)[what], expected, "{what} of {seed}");
        }
        assert_eq!(index.dump_hash().unwrap(), never.dump_hash().unwrap());
        assert_eq!(index.check().unwrap(), Vec::<String>::new());
        // What was forgotten can be read again.
        index.ingest(&world.blocks()).unwrap();
        let expected = world.indexed().dump_hash().unwrap();
        assert_eq!(index.dump_hash().unwrap(), expected, "seed {seed}");
    }
    assert!(
        forgotten > 10 && documents > 3,
        "{forgotten}, {documents}: nothing is tried"
    );
}

#[test]
fn a_deleted_index_is_rebuilt_to_the_same_hash() {
    let folder = Folder::new("rebuild");
    let mut world = busy_world(7, STEPS);
    let path = folder.join("index.db");
    let expected = {
        let mut index = Index::open(&path).unwrap();
        world.tell(&mut index);
        index.ingest(&world.blocks()).unwrap();
        index.dump_hash().unwrap()
    };
    assert_eq!(Index::open(&path).unwrap().dump_hash().unwrap(), expected);
    std::fs::remove_file(&path).unwrap();
    let mut index = Index::open(&path).unwrap();
    assert_ne!(index.dump_hash().unwrap(), expected);
    let report = index.rebuild(&mut world).unwrap();
    assert_eq!(report.blocks, world.blocks().len() as u64);
    assert_eq!(index.dump_hash().unwrap(), expected);
    // And over one that is full.
    index.rebuild(&mut world).unwrap();
    assert_eq!(index.dump_hash().unwrap(), expected);
    let again = index.catch_up(&mut world).unwrap();
    assert_eq!((again.blocks, again.entries), (0, 0));
}

#[test]
fn an_index_closed_in_the_middle_goes_on_from_its_checkpoint() {
    let folder = Folder::new("middle");
    let path = folder.join("index.db");
    let mut world = busy_world(8, STEPS);
    let blocks = world.blocks();
    let expected = world.indexed().dump_hash().unwrap();
    for chunk in blocks.chunks(61) {
        let mut index = Index::open(&path).unwrap();
        world.tell(&mut index);
        index.ingest(chunk).unwrap();
    }
    let mut index = Index::open(&path).unwrap();
    assert_eq!(index.catch_up(&mut world).unwrap().blocks, 0);
    assert_eq!(index.dump_hash().unwrap(), expected);
    for (key, feed) in &world.feeds {
        assert_eq!(index.checkpoint(key).unwrap(), feed.blocks.len() as u64);
    }
}

#[test]
fn a_new_column_changes_the_hash_and_a_checkpoint_does_not() {
    let folder = Folder::new("column");
    let path = folder.join("index.db");
    let world = busy_world(9, 40);
    let hash = |path: &Path| Index::open(path).unwrap().dump_hash().unwrap();
    {
        let mut index = Index::open(&path).unwrap();
        world.tell(&mut index);
        index.ingest(&world.blocks()).unwrap();
    }
    let alter = |sql: &str| {
        // What a clean stop left to tell an altered file by.
        std::fs::remove_file(folder.join("index.db-sum")).unwrap();
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    };
    let mut seen: BTreeSet<Hash> = BTreeSet::from([hash(&path)]);
    alter("UPDATE meta SET checkpoint = checkpoint + 1 WHERE start = 0");
    assert!(!seen.insert(hash(&path)), "the checkpoint is left out");
    for change in [
        "ALTER TABLE rooms ADD COLUMN colour TEXT",
        "CREATE TABLE extra (a)",
        "UPDATE room_members SET last_seen_at = last_seen_at + 1",
        "UPDATE messages SET text = text || ' ' WHERE rowid = (SELECT min(rowid) FROM messages)",
        "DELETE FROM frontier",
    ] {
        alter(change);
        assert!(seen.insert(hash(&path)), "{change}");
    }
}

#[test]
fn rows_and_checkpoint_are_one_transaction() {
    rows_and_checkpoint_go_together(None);
}

#[test]
fn a_checkpoint_in_a_transaction_of_its_own_is_noticed() {
    let mistake = Some(Mistake::CheckpointApart);
    let noticed = std::panic::catch_unwind(|| rows_and_checkpoint_go_together(mistake));
    assert!(noticed.is_err(), "nobody noticed");
}

fn rows_and_checkpoint_go_together(mistake: Option<Mistake>) {
    let folder = Folder::new("transaction");
    let path = folder.join("index.db");
    let mut world = World::new(1, 1);
    let mut index = Index::open(&path).unwrap();
    world.tell(&mut index);
    index.ingest(&world.blocks()).unwrap();
    let (before, checkpoint) = (
        index.dump_hash().unwrap(),
        index.checkpoint(&room_feed(0)).unwrap(),
    );
    let block = world.write(room_feed(0), 1, 2_000, Default::default(), message("soup"));
    make(mistake);
    // The checkpoint cannot be written: the rows, written before it, must go too.
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON meta BEGIN SELECT RAISE (ABORT, 'full'); END",
        )
        .unwrap();
    assert!(index.ingest(std::slice::from_ref(&block)).is_err());
    assert_eq!(index.dump_hash().unwrap(), before);
    assert_eq!(index.checkpoint(&room_feed(0)).unwrap(), checkpoint);
    assert_eq!(index.search("soup", 5).unwrap().len(), 0);
    other.execute_batch("DROP TRIGGER broken").unwrap();
    // The index stays usable, and the same block goes in now.
    assert_eq!(index.ingest(&[block]).unwrap().entries, 1);
    assert_eq!(index.checkpoint(&room_feed(0)).unwrap(), checkpoint + 1);
    assert_eq!(index.search("soup", 5).unwrap().len(), 1);
}

#[test]
fn a_damaged_file_is_told_from_everything_else() {
    let folder = Folder::new("damage");
    let path = folder.join("index.db");
    let world = busy_world(3, 60);
    {
        let mut index = Index::open(&path).unwrap();
        world.tell(&mut index);
        index.ingest(&world.blocks()).unwrap();
    }
    let good = std::fs::read(&path).unwrap();
    let mut damaged = good.clone();
    // The b-tree header of every second page.
    for page in (4096..damaged.len()).step_by(8192) {
        damaged[page] ^= 0x0f;
    }
    std::fs::write(&path, &damaged).unwrap();
    assert!(Index::open(&path).unwrap_err().needs_rebuild());
    std::fs::write(
        &path,
        b"no database at all, but long enough to have a header ............",
    )
    .unwrap();
    assert!(Index::open(&path).unwrap_err().needs_rebuild());
    std::fs::write(&path, &good).unwrap();
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = Index::open(&path).unwrap_err();
    assert!(error.needs_rebuild(), "{error}");
    let missing = folder.join("no/such/folder/index.db");
    assert!(!Index::open(&missing).unwrap_err().needs_rebuild());
}

/// What each schema that there was added to the one before it, and rows of its time.
const EARLIER_SCHEMAS: &str = include_str!("fixtures/index.sql");

/// Nothing is carried over from the tables of an earlier build: what new columns hold is in the feeds.
#[test]
fn an_index_of_every_earlier_schema_is_made_anew_and_is_the_same_as_a_new_one() {
    let mut world = busy_world(4, 40);
    let mut fresh = Index::open_in_memory().unwrap();
    fresh.rebuild(&mut world).unwrap();
    let (steps, rows) = EARLIER_SCHEMAS.split_once("\n-- rows\n").unwrap();
    let steps: Vec<(u32, &str)> = steps
        .split("\n-- version ")
        .skip(1)
        .map(|step| step.split_once('\n').unwrap())
        .map(|(version, sql)| (version.parse().unwrap(), sql))
        .collect();
    let folder = Folder::new("earlier-schemas");
    let path = folder.join("newest.db");
    drop(Index::open(&path).unwrap());
    let newest: u32 = rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    let versions: Vec<u32> = steps.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..newest).collect::<Vec<_>>());
    for version in versions {
        let path = folder.join(format!("index-{version}.db"));
        let earlier = rusqlite::Connection::open(&path).unwrap();
        for (_, sql) in steps.iter().filter(|(step, _)| *step <= version) {
            earlier.execute_batch(sql).unwrap();
        }
        earlier.execute_batch(rows).unwrap();
        earlier
            .pragma_update(None, "user_version", version)
            .unwrap();
        drop(earlier);
        let error = Index::open(&path).unwrap_err();
        assert!(
            matches!(error, OpenError::OtherSchema { actual, .. } if actual == version),
            "{error}"
        );
        assert!(error.needs_rebuild());
        std::fs::remove_file(&path).unwrap();
        let mut index = Index::open(&path).unwrap();
        index.rebuild(&mut world).unwrap();
        assert_eq!(index.dump_hash().unwrap(), fresh.dump_hash().unwrap());
    }
}

#[test]
fn blocks_of_a_feed_nobody_named_are_refused_and_nothing_stays() {
    let world = World::new(1, 1);
    let mut index = Index::open_in_memory().unwrap();
    let before = index.dump_hash().unwrap();
    let blocks = world.blocks();
    assert!(index.ingest(&blocks).is_err());
    assert_eq!(index.dump_hash().unwrap(), before);
    world.tell(&mut index);
    assert_eq!(index.ingest(&blocks).unwrap().entries, 1);
    let elsewhere = FeedContext {
        key: room_feed(0),
        scope: Scope::Unknown,
    };
    index.put_feed(elsewhere).unwrap();
    let scope = Scope::Room(RoomId([255; 32]));
    let other = FeedContext {
        key: room_feed(0),
        scope,
    };
    assert!(index.put_feed(other).is_err());
}

/// Tells the index of a feed; a scope that gives way changes nothing.
fn claim(index: &mut Index, key: FeedKey, scope: Scope) -> bool {
    match index.put_feed(FeedContext { key, scope }) {
        Ok(_) => true,
        Err(IndexError::OtherScope { feed }) => {
            assert_eq!(feed, key);
            false
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_feed_claimed_for_several_scopes_belongs_to_one_in_whatever_order_they_are_told() {
    let world = World::new(1, 2);
    let key = room_feed(0);
    let of = |agent: usize| {
        let agent = &world.agents[agent];
        (agent.id, DeviceKey(agent.device.public_key().0))
    };
    let ((author, device), (other, its)) = (of(0), of(1));
    let (one, another) = match (author.0, device.0) < (other.0, its.0) {
        true => ((author, device), (other, its)),
        false => ((other, its), (author, device)),
    };
    let greater = RoomId([255; 32]);
    // The first first.
    let claims = [
        Scope::Room(world.room),
        Scope::Room(greater),
        Scope::PrivateDirectory { author, device },
        Scope::Directory {
            author: one.0,
            device: one.1,
        },
        Scope::Directory {
            author: another.0,
            device: another.1,
        },
        Scope::Private { author, device },
        Scope::Author { author, device },
        Scope::Unknown,
    ];
    let folder = Folder::new("scopes");
    let mut blocks = world.blocks();
    blocks.retain(|block| block.feed == key);
    assert!(!blocks.is_empty());
    let read = |path: &Path, first: Scope, second: Scope, read_between: bool| {
        let mut index = Index::open(path).unwrap();
        index.put_epoch_key(world.room, world.key.clone()).unwrap();
        assert!(claim(&mut index, key, first));
        if read_between {
            index.ingest(&blocks).unwrap();
        }
        claim(&mut index, key, second);
        // Whoever goes on tells of it again, in the same order, and it stays.
        claim(&mut index, key, first);
        for _ in 0..2 {
            drop(index);
            index = Index::open(path).unwrap();
            index.put_epoch_key(world.room, world.key.clone()).unwrap();
            claim(&mut index, key, first);
            index.ingest(&blocks).unwrap();
        }
        let hash = index.dump_hash().unwrap();
        drop(index);
        std::fs::remove_file(path).unwrap();
        hash
    };
    for (number, first) in claims.iter().enumerate() {
        for second in &claims[number + 1..] {
            let path = folder.join("index.db");
            let expected = read(&path, *first, *first, true);
            for (one, other) in [(*first, *second), (*second, *first)] {
                for read_between in [false, true] {
                    let hash = read(&path, one, other, read_between);
                    assert_eq!(hash, expected, "{one:?}, {other:?}, {read_between}");
                }
            }
        }
    }
}
