//! Whoever reads the index waits for nobody who writes it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::world::{Trees, World, message, room_feed};
use kinlog_feeds::crypto::{FeedKey, Hash};
use kinlog_indexer::entry::{Link, LinkScope, Links};
use kinlog_indexer::index::{Block, Reader, TreeHashes};
use kinlog_indexer::{Index, RoomId};
use testkit::process::Folder;

/// Tree hashes that look at what is committed whenever the index asks for one, amid its transaction.
struct Looking {
    trees: Trees,
    path: PathBuf,
    room: RoomId,
    seen: Arc<Mutex<Vec<usize>>>,
}

impl TreeHashes for Looking {
    fn tree_hash(&self, feed: &FeedKey, length: u64) -> Option<Hash> {
        let reader = Reader::open(&self.path).unwrap();
        let messages = reader.messages(&self.room, 1_000).unwrap();
        self.seen.lock().unwrap().push(messages.len());
        self.trees.tree_hash(feed, length)
    }
}

/// Messages of the owner, each with a link to the one before.
fn talk(world: &mut World, count: u64) -> Vec<Block> {
    let scope = LinkScope::Room(world.room);
    let feed = room_feed(0);
    let mut blocks = Vec::new();
    for number in 0..count {
        let before = world.feeds[&feed].blocks.len() as u64 - 1;
        let tree = world.trees.tree_hash(&feed, before + 1).unwrap();
        let links = Links::new(vec![Link::new(&scope, &feed, before, &tree)], false).unwrap();
        let text = message(&format!("soup {number}"));
        blocks.push(world.write(feed, before + 1, 2_000 + before, links, text));
    }
    blocks
}

#[test]
fn a_reader_answers_amid_a_transaction_and_sees_what_was_before_it() {
    let folder = Folder::new("readers");
    let path = folder.join("index.db");
    let mut world = World::new(1, 1);
    let mut index = Index::open(&path).unwrap();
    world.tell(&mut index);
    index.ingest(&world.blocks()).unwrap();
    index.ingest(&talk(&mut world, 7)).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    index.set_tree_hashes(Box::new(Looking {
        trees: world.trees.clone(),
        path: path.clone(),
        room: world.room,
        seen: seen.clone(),
    }));
    index.ingest(&talk(&mut world, 40)).unwrap();
    assert_eq!(*seen.lock().unwrap(), [7; 40]);
    let after = Reader::open(&path).unwrap();
    assert_eq!(after.messages(&world.room, 1_000).unwrap().len(), 47);
    assert_eq!(after.dump_hash().unwrap(), index.dump_hash().unwrap());
}

#[test]
fn several_questions_at_once_see_one_state() {
    let folder = Folder::new("readers");
    let path = folder.join("index.db");
    let mut world = World::new(1, 1);
    let mut index = Index::open(&path).unwrap();
    world.tell(&mut index);
    index.ingest(&world.blocks()).unwrap();
    index.ingest(&talk(&mut world, 3)).unwrap();
    let room = world.room;
    let mut reader = Reader::open(&path).unwrap();
    let counts = |reader: &Reader| reader.messages(&room, 1_000).map(|rows| rows.len());
    let seen = reader
        .at_once(|reader| {
            let before = counts(reader)?;
            index.ingest(&talk(&mut world, 5))?;
            Ok((before, counts(reader)?))
        })
        .unwrap();
    assert_eq!(seen, (3, 3));
    assert_eq!(counts(&reader).unwrap(), 8);
}

#[test]
fn a_reader_changes_nothing() {
    let folder = Folder::new("readers");
    let path = folder.join("index.db");
    assert!(Reader::open(&path).is_err(), "nobody made the index");
    let world = World::new(1, 1);
    let mut index = Index::open(&path).unwrap();
    world.tell(&mut index);
    index.ingest(&world.blocks()).unwrap();
    let hash = index.dump_hash().unwrap();
    let reader = Reader::open(&path).unwrap();
    reader.search("soup", 20).unwrap();
    assert_eq!(reader.rooms().unwrap().len(), 1);
    drop(reader);
    drop(index);
    assert!(!folder.join("index.db-wal").exists(), "closed for good");
    assert_eq!(Index::open(&path).unwrap().dump_hash().unwrap(), hash);
}
