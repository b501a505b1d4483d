//! What people see follows from what was written, and from nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::world;
use crate::world::{World, admit, document, file, message, path_feed, profile, room_feed};
use bytes::Bytes;
use kinlog_feeds::crypto::{FeedKey, Hash};
use kinlog_indexer::entry::{
    Body, DirectoryHeads, DirectoryLine, DirectoryRedirect, DirectoryRename, Envelope, FeedClaim,
    Head, Link, LinkScope, Links, Role,
};
use kinlog_indexer::index::{Block, FeedContext, Scope, SearchHit};
use kinlog_indexer::{Index, Text};

const MINUTE: u64 = 60_000;

fn texts(index: &Index, world: &World) -> Vec<String> {
    let messages = index.messages(&world.room, 100).unwrap();
    messages.into_iter().map(|message| message.text).collect()
}

fn found(index: &Index, query: &str) -> Vec<String> {
    let hits = index.search(query, 10).unwrap();
    hits.into_iter()
        .map(|hit| match hit {
            SearchHit::Message(message) => message.text,
            SearchHit::Document(document) => document.title,
        })
        .collect()
}

/// A room of three: 0 admits 1, 1 admits 2.
fn room_of_three() -> World {
    let mut world = World::new(1, 4);
    let admit = world.admit_body(1);
    world.write(room_feed(0), 1, 2_000, Links::default(), admit);
    let admit = world.admit_body(2);
    world.write(room_feed(1), 2, 3_000, Links::default(), admit);
    world
}

#[test]
fn members_are_those_whom_members_admitted() {
    let mut world = room_of_three();
    // A stranger who has the key writes, admits itself and a friend: nobody sees any of it.
    let admit = world.admit_body(3);
    world.write(room_feed(3), 0, 5_000, Links::default(), admit);
    world.write(
        room_feed(3),
        1,
        5_001,
        Links::default(),
        message("let me in"),
    );
    world.write(room_feed(2), 3, 6_000, Links::default(), message("hello"));
    world.write(room_feed(2), 4, 7_000, Links::default(), profile("Cleo"));
    world.write(path_feed(1), 0, 100, Links::default(), profile("Bob"));
    let index = world.indexed();
    let members = index.room_members(&world.room).unwrap();
    let rows: Vec<_> = members
        .iter()
        .map(|row| {
            (
                row.agent,
                row.display_name.as_deref(),
                row.joined_at,
                row.last_seen_at,
            )
        })
        .collect();
    let id = |agent: usize| world.agents[agent].id;
    assert_eq!(
        rows,
        [
            (id(0), None, 1_000, Some(2_000)),
            (id(1), Some("Bob"), 2_000, Some(3_000)),
            (id(2), Some("Cleo"), 3_000, Some(7_000)),
        ]
    );
    assert_eq!(texts(&index, &world), ["hello"]);
    assert_eq!(index.search("let", 5).unwrap(), []);
    let feeds = index.member_feeds(&world.room).unwrap();
    assert_eq!(
        feeds.iter().map(|row| row.role).collect::<Vec<_>>(),
        [Role::Owner, Role::Admin, Role::Admin].map(Some)
    );
    let rooms = index.rooms().unwrap();
    assert_eq!(
        (rooms[0].name.as_str(), rooms[0].created_by),
        ("kitchen", id(0))
    );
    assert_eq!(rooms[0].code, world.room.to_string()[..8]);
    assert_eq!(index.rooms_called(&rooms[0].code).unwrap(), rooms);
    assert_eq!(index.room(&world.room).unwrap().as_ref(), rooms.first());
}

#[test]
fn an_admit_that_the_device_did_not_sign_for_counts_for_nothing() {
    let mut world = World::new(1, 4);
    // The owner lies: agent 1's device never claimed this feed, or not in this room.
    let mut stolen = world.agents[1].membership(&world.room, 1);
    stolen.entries_feed = room_feed(3);
    let other_room = world.agents[2].membership(&kinlog_indexer::RoomId([3; 32]), 2);
    let mut no_device = world.agents[1].membership(&world.room, 1);
    no_device.identity_set = world.agents[2].set.clone();
    for (depth, member) in (1..).zip([stolen, other_room, no_device]) {
        let admit = admit(member);
        world.write(room_feed(0), depth, 2_000, Links::default(), admit);
    }
    world.write(
        room_feed(3),
        9,
        9_000,
        Links::default(),
        message("as agent 1"),
    );
    let index = world.indexed();
    assert_eq!(index.room_members(&world.room).unwrap().len(), 1);
    assert_eq!(texts(&index, &world), Vec::<String>::new());
}

#[test]
fn a_copied_genesis_makes_nobody_owner() {
    let mut world = World::new(1, 2);
    let genesis = world.blocks().remove(0);
    let entry = kinlog_indexer::seal::open_entry(&world.key, &genesis.feed, 0, &genesis.bytes);
    world.write_bytes(room_feed(1), &entry.unwrap());
    world.write(
        room_feed(1),
        1,
        2_000,
        Links::default(),
        message("mine now"),
    );
    let index = world.indexed();
    assert_eq!(index.rooms().unwrap()[0].created_by, world.agents[0].id);
    assert_eq!(index.member_feeds(&world.room).unwrap().len(), 1);
    assert_eq!(texts(&index, &world), Vec::<String>::new());
}

#[test]
fn a_feed_that_is_in_the_room_comes_in_for_nobody_else_in_either_order() {
    let mut world = room_of_three();
    world.write(room_feed(1), 9, 9_000, Links::default(), message("whose?"));
    world.write(room_feed(1), 10, 9_001, Links::default(), file("whose.png"));
    // Agent 2's device and agent 1's feed vouch for each other too, and agent 0 lets them in again.
    let member = world.agents[2].membership(&world.room, 1);
    let admit = admit(member);
    let late = world.write(room_feed(0), 0, 1_500, Links::default(), admit);
    let straight = world.indexed();
    let mut index = world.index();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for block in world.blocks() {
        if block == late {
            last.push(block)
        } else {
            first.push(block)
        }
    }
    index.ingest(&first).unwrap();
    let author = |index: &Index| index.messages(&world.room, 5).unwrap()[0].agent;
    assert_eq!(author(&index), world.agents[1].id);
    index.ingest(&last).unwrap();
    assert_eq!(author(&index), world.agents[1].id);
    assert_eq!(
        index.files(&world.room, 5).unwrap()[0].uploader,
        world.agents[1].id
    );
    assert_eq!(found(&index, "whose"), ["whose?"]);
    // Nobody becomes owner by an admit.
    let feeds = index.member_feeds(&world.room).unwrap();
    let owners: Vec<FeedKey> = feeds
        .iter()
        .filter(|row| row.role == Some(Role::Owner))
        .map(|row| row.feed)
        .collect();
    assert_eq!(owners, [room_feed(0)]);
    assert_eq!(index.dump_hash().unwrap(), straight.dump_hash().unwrap());
}

#[test]
fn messages_stand_after_those_they_link_to_whatever_they_state() {
    let mut world = room_of_three();
    let scope = LinkScope::Room(world.room);
    let question = world.write(
        room_feed(1),
        3,
        50 * MINUTE,
        Links::default(),
        message("question"),
    );
    let tree = |world: &World, block: &Block| {
        use kinlog_indexer::index::TreeHashes;
        world.trees.tree_hash(&block.feed, block.index + 1).unwrap()
    };
    let hash = tree(&world, &question);
    let link = Link::new(&scope, &question.feed, question.index, &hash);
    // Too shallow and long before: it still answers.
    let links = Links::new(vec![link], false).unwrap();
    world.write(room_feed(2), 0, 5_000, links, message("answer"));
    let index = world.indexed();
    assert_eq!(texts(&index, &world), ["question", "answer"]);
    let messages = index.messages(&world.room, 10).unwrap();
    assert_eq!(messages[1].depth, 4);
    assert!(messages[0].clock_marked && messages[1].clock_marked);
    assert_eq!(index.counts().unwrap().conflicts, 0);
    // The frontier is the answer and the owner's last entry.
    let frontier = index.frontier(scope, &room_feed(0)).unwrap();
    let feeds: Vec<FeedKey> = frontier.entries.iter().map(|entry| entry.feed).collect();
    assert_eq!(feeds, [room_feed(0), room_feed(2)]);
    assert_eq!(frontier.own_depth, Some(1));
}

#[test]
fn a_link_that_disagrees_with_a_held_feed_is_noted_in_either_order() {
    let mut world = room_of_three();
    let scope = LinkScope::Room(world.room);
    let link = Link::new(&scope, &room_feed(1), 0, &Hash([0xee; 32]));
    let links = Links::new(vec![link], false).unwrap();
    let linker = world.write(room_feed(2), 3, 4_000, links, message("I saw another tree"));
    let straight = world.indexed();
    let conflicts = straight.conflicts(10).unwrap();
    assert_eq!(conflicts.len(), 1);
    let conflict = &conflicts[0];
    assert_eq!((conflict.feed, conflict.index), (linker.feed, linker.index));
    assert_eq!((conflict.target, conflict.target_index), (room_feed(1), 0));
    assert_eq!(conflict.stated, vec![0xee; 12]);
    assert_ne!(conflict.held, conflict.stated);
    let mut blocks = world.blocks();
    blocks.reverse();
    let mut backwards = world.index();
    for block in blocks {
        backwards.ingest(&[block]).unwrap();
    }
    assert_eq!(backwards.conflicts(10).unwrap(), conflicts);
    assert_eq!(backwards.counts().unwrap().conflicts, 1);
    assert_eq!(
        backwards.dump_hash().unwrap(),
        straight.dump_hash().unwrap()
    );
}

#[test]
fn a_date_ten_minutes_off_its_neighbours_is_marked_and_one_closer_is_not() {
    let mut world = World::new(1, 1);
    let base = 1_000_000;
    let dates = [0, 9, 0, 60, 61, 40, 62].map(|minutes| base + minutes * MINUTE);
    for (depth, ms) in (1..).zip(dates) {
        world.write(room_feed(0), depth, ms, Links::default(), message("x"));
    }
    let index = world.indexed();
    let marks = |last: usize| {
        let messages = index.messages(&world.room, last).unwrap();
        messages
            .iter()
            .map(|message| message.clock_marked)
            .collect::<Vec<_>>()
    };
    // 61 and 40 contradict each other; a gap of an hour contradicts nothing.
    assert_eq!(marks(10), [false, false, false, false, true, true, false]);
    // The oldest of a page is judged by the one before it, too.
    assert_eq!(marks(2), [true, false]);
    assert_eq!(marks(0), Vec::<bool>::new());
}

#[test]
fn what_this_build_does_not_know_is_a_counted_fact() {
    let mut world = World::new(1, 1);
    let feed = path_feed(0);
    let entry = |tag: u64, format: u64, body: &'static [u8]| Envelope {
        flags: 1 << 20,
        links: Links::default(),
        depth: 3,
        clock: Default::default(),
        tag,
        format,
        body: Bytes::from_static(body),
    };
    let good = u64::from(kinlog_indexer::BODY_FORMAT);
    world.write_bytes(feed, &entry(7_777, good, b"?").encode().unwrap());
    world.write_bytes(feed, &entry(18, good + 1, b"?").encode().unwrap());
    world.write_bytes(feed, &entry(18, good, &[0xff, 0xff]).encode().unwrap());
    world.write_bytes(feed, &[2, 1, 2, 3]);
    world.write_bytes(feed, &[1]);
    world.write_block(feed, Bytes::from_static(b"\x02raw"));
    world.write_block(feed, Bytes::new());
    let mut index = world.index();
    let report = index.ingest(&world.blocks()).unwrap();
    assert_eq!((report.entries, report.newer, report.skipped), (4, 3, 3));
    let counts = index.counts().unwrap();
    assert_eq!(
        (
            counts.entries,
            counts.newer,
            counts.malformed,
            counts.not_entries
        ),
        (4, 3, 2, 2)
    );
    assert_eq!(index.checkpoint(&feed).unwrap(), 7);
    // The next entry goes below what it does not understand.
    let author = LinkScope::Author(world.agents[0].id);
    assert_eq!(index.frontier(author, &feed).unwrap().own_depth, Some(3));
}

#[test]
fn sealed_entries_wait_for_their_key_and_for_no_other_rooms() {
    let mut world = room_of_three();
    world.write(
        room_feed(0),
        3,
        4_000,
        Links::default(),
        message("soup at eight"),
    );
    let mut index = Index::open_in_memory().unwrap();
    for feed in world.feeds.values() {
        index.put_feed(feed.context).unwrap();
    }
    index
        .put_epoch_key(kinlog_indexer::RoomId([1; 32]), world.key.clone())
        .unwrap();
    let report = index.ingest(&world.blocks()).unwrap();
    assert_eq!((report.entries, report.pending), (0, 4));
    assert_eq!(
        (
            index.counts().unwrap().pending,
            index.rooms().unwrap().len()
        ),
        (4, 0)
    );
    let report = index.put_epoch_key(world.room, world.key.clone()).unwrap();
    assert_eq!((report.entries, report.pending), (4, 0));
    assert!(report.rooms.contains(&world.room));
    assert_eq!(index.counts().unwrap().pending, 0);
    assert_eq!(texts(&index, &world), ["soup at eight"]);
}

#[test]
fn search_finds_words_of_many_scripts_and_survives_any_query() {
    let mut world = World::new(1, 1);
    let room = room_feed(0);
    let said = [
        "Die Grüße kommen morgen",
        "съешь ещё этих мягких булок",
        "学习默克尔证明的一课",
        "ひらがなで書いた手紙",
        "สวัสดีชาวโลก",
        "שלום עולם",
        "नमस्ते दुनिया",
    ];
    for (depth, text) in (1..).zip(said) {
        world.write(room, depth, 2_000 + depth, Links::default(), message(text));
    }
    world.write(
        path_feed(0),
        0,
        1,
        Links::default(),
        document("Merkle proofs", "Äpfel и 证明"),
    );
    let index = world.indexed();
    for (query, text) in [
        ("grusse", None),
        ("gruße", Some(said[0])),
        ("MORGEN grüße", Some(said[0])),
        ("булок", Some(said[1])),
        ("默克尔", Some(said[2])),
        ("手紙", Some(said[3])),
        ("ชาวโลก", Some(said[4])),
        ("שלום", Some(said[5])),
        ("दुनिया", Some(said[6])),
        ("нет", None),
    ] {
        let expected: Vec<String> = text.map(str::to_owned).into_iter().collect();
        assert_eq!(found(&index, query), expected, "{query}");
    }
    assert_eq!(found(&index, "证明"), ["Merkle proofs", said[2]]);
    assert_eq!(found(&index, "apfel"), ["Merkle proofs"]);
    assert_eq!(found(&index, "merkle -proofs"), ["Merkle proofs"]);
    for query in [
        "\"", "a\"b", "NEAR(", "*", "text:x", "a AND", "(((", "\0", "-", "^x", "{a b}:c",
    ] {
        index.search(query, 10).unwrap();
    }
    assert_eq!(index.search("soup", 0).unwrap(), []);
}

#[test]
fn files_show_where_their_chunks_are() {
    let mut world = World::new(1, 1);
    let block = world.write(room_feed(0), 1, 2_000, Links::default(), file("cat.png"));
    let index = world.indexed();
    let files = index.files(&world.room, 10).unwrap();
    assert_eq!(files.len(), 1);
    let row = &files[0];
    assert_eq!(row.id, format!("{}/{}", block.feed, block.index));
    assert_eq!(
        (row.filename.as_str(), row.size_bytes, row.blocks),
        ("cat.png", 100_000, 2)
    );
    assert_eq!((row.uploader, row.created_at), (world.agents[0].id, 2_000));
}

#[test]
fn a_directory_is_its_lines_and_what_later_became_of_them() {
    let mut world = World::new(1, 2);
    let directory = world.agents[0].directory;
    let (author, other) = (world.agents[0].clone(), world.agents[1].clone());
    let line = |label: &str, feed, kind: &str| {
        Body::DirectoryLine(DirectoryLine {
            kind: Text::new(kind).unwrap(),
            ..world::line(label, feed, &author)
        })
    };
    let label = |label: &str| Text::new(label).unwrap();
    let bodies = [
        line("/notes", 0, "log"),
        line("/trees", 1, "log"),
        Body::DirectoryRename(DirectoryRename {
            feed: path_feed(0),
            label: label("/old-notes"),
        }),
        Body::DirectoryRedirect(DirectoryRedirect {
            from: label("/notes"),
            to: label("/old-notes"),
        }),
        // The kind stays as it was created.
        line("/forest", 1, "shared"),
        Body::DirectoryHeads(
            DirectoryHeads::new(vec![
                Head {
                    feed: path_feed(0),
                    length: 5,
                    tree_hash: Hash([5; 32]),
                },
                Head {
                    feed: path_feed(0),
                    length: 9,
                    tree_hash: Hash([9; 32]),
                },
                Head {
                    feed: path_feed(0),
                    length: 7,
                    tree_hash: Hash([7; 32]),
                },
            ])
            .unwrap(),
        ),
    ];
    for (depth, body) in (0..).zip(bodies) {
        world.write(directory, depth, 1_000 + depth, Links::default(), body);
    }
    // Lines outside a directory are none, and another agent's say nothing about this one.
    world.write(
        path_feed(0),
        0,
        1,
        Links::default(),
        line("/fake", 0, "log"),
    );
    // Nor can it list what is not its own: not by a claim of its own making, not by this one's.
    let stolen = world::line("/theirs", 0, &author);
    let forged = DirectoryLine {
        claim: FeedClaim {
            public_key: stolen.claim.public_key,
            ..world::line("/x", 1, &other).claim
        },
        ..stolen.clone()
    };
    for (depth, line) in (0..).zip([stolen, forged]) {
        let body = Body::DirectoryLine(line);
        world.write(other.directory, depth, 1, Links::default(), body);
    }
    world.write(path_feed(0), 1, 2, Links::default(), document("a", "b"));
    let index = world.indexed();
    let agent = world.agents[0].id;
    let rows = index.directory(&agent).unwrap();
    let labels: Vec<_> = rows
        .iter()
        .map(|row| (row.label.as_str(), row.kind.as_str(), row.feed))
        .collect();
    assert_eq!(
        labels,
        [
            ("/forest", "log", path_feed(1)),
            ("/old-notes", "log", path_feed(0))
        ]
    );
    assert_eq!(
        index.redirect(&agent, "/notes").unwrap().as_deref(),
        Some("/old-notes")
    );
    assert_eq!(index.redirect(&agent, "/trees").unwrap(), None);
    let head = index.vouched_head(&agent, &path_feed(0)).unwrap().unwrap();
    assert_eq!((head.length, head.tree_hash), (9, Hash([9; 32])));
    assert_eq!(index.authors_of(&path_feed(0)).unwrap(), [agent]);
    assert!(index.directory(&other.id).unwrap().is_empty());
    let documents = index.documents(&path_feed(0), 10).unwrap();
    assert_eq!(documents[0].label.as_deref(), Some("/old-notes"));
    assert_eq!(documents[0].author, Some(agent));
}

#[test]
fn a_feed_followed_by_its_key_has_no_author_until_one_is_named() {
    let mut world = World::new(1, 1);
    let feed = path_feed(0);
    let named = world.feeds[&feed].context;
    world.write(feed, 0, 1, Links::default(), document("lesson", "soup"));
    world.write(feed, 1, 2, Links::default(), profile("Ada"));
    let blocks: Vec<Block> = world
        .blocks()
        .into_iter()
        .filter(|block| block.feed == feed)
        .collect();
    let mut index = Index::open_in_memory().unwrap();
    index
        .put_feed(FeedContext {
            key: feed,
            scope: Scope::Unknown,
        })
        .unwrap();
    index.ingest(&blocks).unwrap();
    assert_eq!(index.documents(&feed, 5).unwrap()[0].author, None);
    assert_eq!(found(&index, "soup"), ["lesson"]);
    let report = index.put_feed(named).unwrap();
    let agent = world.agents[0].id;
    assert!(report.agents.contains_key(&agent));
    assert_eq!(index.documents(&feed, 5).unwrap()[0].author, Some(agent));
    assert_eq!(index.profile(&agent).unwrap().unwrap().name, "Ada");
    assert_eq!(found(&index, "soup"), ["lesson"]);
    let author = LinkScope::Author(agent);
    assert_eq!(index.frontier(author, &feed).unwrap().entries.len(), 1);
}

#[test]
fn a_block_again_changes_nothing() {
    let mut world = room_of_three();
    world.write(room_feed(2), 3, 4_000, Links::default(), message("once"));
    let mut index = world.indexed();
    let before = index.dump_hash().unwrap();
    let report = index.ingest(&world.blocks()).unwrap();
    assert_eq!(
        (report.entries, report.known),
        (0, world.blocks().len() as u64)
    );
    assert_eq!(index.dump_hash().unwrap(), before);
    assert_eq!(texts(&index, &world), ["once"]);
}
