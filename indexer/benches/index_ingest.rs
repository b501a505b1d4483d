//! Row `index_ingest`: chat messages with full-text search, sealed, in a room of two devices that
//! answer each other (one link an entry), 8 words each, batches of 1,000, a file with WAL.
//!
//! Beside it the raw inserts: the rows that this ingest left in `facts`, `messages` and
//! `messages_search`, put into the same schema by prepared statements in the same batches.
//! `cargo bench -p kinlog-indexer` prints one JSON line; an argument names the number of messages.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

#[path = "../tests/world/mod.rs"]
mod world;

use std::time::Instant;

use kinlog_indexer::Index;
use kinlog_indexer::entry::{Link, LinkScope, Links};
use kinlog_indexer::index::{Block, TreeHashes};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use testkit::process::Folder;
use world::{Random, World, message, room_feed};

const BATCH: usize = 1000;
const RUNS: usize = 5;

fn main() {
    let count = std::env::args()
        .filter_map(|text| text.parse().ok())
        .next()
        .unwrap_or(100_000);
    let (world, blocks) = chat(count);
    let folder = Folder::new("index-ingest");
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let path = folder.join(format!("{run}.db"));
        let mut index = Index::open(&path).unwrap();
        world.tell(&mut index);
        let start = Instant::now();
        for batch in blocks.chunks(BATCH) {
            index.ingest(batch).unwrap();
        }
        ours.push(blocks.len() as f64 / start.elapsed().as_secs_f64());
        assert_eq!(index.messages(&world.room, 10).unwrap().len(), 10);
        if run == 0 {
            queries(&index, &world);
        }
        drop(index);
        raw.push(raw_inserts(&path, &folder.join(format!("{run}-raw.db"))));
    }
    let (ours, raw) = (median(ours), median(raw));
    println!(
        "{{\"bench\":\"index_ingest\",\"ours\":{ours:.0},\"unit\":\"entries/s\",\
         \"peer\":\"raw prepared inserts\",\"theirs\":{raw:.0},\"ratio\":{:.2}}}",
        ours / raw
    );
}

/// Two devices in one room, each answering the other.
fn chat(count: usize) -> (World, Vec<Block>) {
    let words = "tree proof soup relay frame block kitchen signed window garden letter river stone \
                 paper music harbour winter lantern copper meadow";
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut random = Random::new(1);
    let mut world = World::new(1, 2);
    let admit = world.admit_body(1);
    let mut blocks = world.blocks();
    blocks.push(world.write(room_feed(0), 1, 2_000, Links::default(), admit));
    let scope = LinkScope::Room(world.room);
    for number in 0..count {
        let before = blocks.last().unwrap();
        let tree = world
            .trees
            .tree_hash(&before.feed, before.index + 1)
            .unwrap();
        let link = Link::new(&scope, &before.feed, before.index, &tree);
        let text: Vec<String> = (0..8)
            .map(|_| format!("{}{}", words[random.below(words.len())], random.below(200)))
            .collect();
        let (depth, ms) = (number as u64 + 2, 3_000 + number as u64 * 700);
        let links = Links::new(vec![link], false).unwrap();
        let feed = room_feed((number + 1) % 2);
        blocks.push(world.write(feed, depth, ms, links, message(&text.join(" "))));
    }
    (world, blocks)
}

fn queries(index: &Index, world: &World) {
    let timed = |what: &str, work: &dyn Fn() -> usize| {
        let mut times: Vec<f64> = (0..200)
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(work());
                start.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        times.sort_by(f64::total_cmp);
        eprintln!("{what}: p50 {:.3} ms, p99 {:.3} ms", times[100], times[198]);
    };
    timed("last 50 messages", &|| {
        index.messages(&world.room, 50).unwrap().len()
    });
    timed("search, one word", &|| {
        index.search("soup7", 20).unwrap().len()
    });
    timed("search, two words", &|| {
        index.search("soup7 river11", 20).unwrap().len()
    });
}

/// Puts the rows of one index into another by prepared statements; returns entries a second.
fn raw_inserts(from: &std::path::Path, to: &std::path::Path) -> f64 {
    drop(Index::open(to).unwrap());
    let source = Connection::open(from).unwrap();
    let rows = |sql: &str| -> Vec<Vec<Value>> {
        let mut statement = source.prepare(sql).unwrap();
        let columns = statement.column_count();
        statement
            .query_map([], |row| {
                (0..columns).map(|column| row.get(column)).collect()
            })
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap()
    };
    // In the order in which they came.
    let facts = rows("SELECT * FROM facts ORDER BY depth");
    let messages = rows("SELECT rowid, * FROM messages ORDER BY depth");
    let mut target = Connection::open(to).unwrap();
    target
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 8192;",
        )
        .unwrap();
    let start = Instant::now();
    for (facts, messages) in facts.chunks(BATCH).zip(messages.chunks(BATCH)) {
        let transaction = target.transaction().unwrap();
        {
            let mut fact = transaction
                .prepare_cached(
                    "INSERT INTO facts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                )
                .unwrap();
            for row in facts {
                fact.execute(params_from_iter(row)).unwrap();
            }
            let mut message = transaction
                .prepare_cached(
                    "INSERT INTO messages (rowid, room_id, depth, ms, counter, feed, idx, user_id,
                     text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )
                .unwrap();
            let mut words = transaction
                .prepare_cached("INSERT INTO messages_search (rowid, text) VALUES (?1, ?2)")
                .unwrap();
            for row in messages {
                message.execute(params_from_iter(row)).unwrap();
                words.execute(rusqlite::params![row[0], row[8]]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    facts.len() as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
