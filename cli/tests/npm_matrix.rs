//! What Hypercore peers do with each other, with JavaScript Hypercore 11 and 10 on either side: parts of
//! feeds, feeds that grow, bytes looked for, three peers, a hundred feeds on one stream. Whole feeds and
//! truncated ones are in `npm_interop.rs`.
//!
//! Needs Node and `npm ci` in `far-ends/npm`; `cargo xtask test` sees to both.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::support::Home;
use crate::support::blocks::{Kind, block, digest};
use kinlog_feeds::text;
use serde_json::{Value, json};
use testkit::npm::{Driver, TRANSFER};
use testkit::process::Running;
use testkit::random::{Random, seed};

fn blocks(seed: u32, count: u32) -> Vec<Vec<u8>> {
    (0..count)
        .map(|index| block(seed, index, Kind::Text))
        .collect()
}

fn lines(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut lines = blocks.join(&b'\n');
    lines.push(b'\n');
    lines
}

fn part(blocks: &[Vec<u8>], ranges: &[Range<u32>]) -> Vec<Vec<u8>> {
    let of = |range: &Range<u32>| blocks[range.start as usize..range.end as usize].to_vec();
    ranges.iter().flat_map(of).collect()
}

fn pairs(ranges: &[Range<u32>]) -> Vec<[u32; 2]> {
    ranges
        .iter()
        .map(|range| [range.start, range.end])
        .collect()
}

/// Random ranges of `0..length`, ascending and apart, and what lies between them.
fn torn(length: u32, pieces: u32) -> (Vec<Range<u32>>, Vec<Range<u32>>) {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    let width = length / pieces;
    let (mut held, mut gone, mut at) = (Vec::new(), Vec::new(), 0);
    for piece in 0..pieces {
        let start = piece * width + random.below(u64::from(width / 2)) as u32 + 1;
        let end = start + 1 + random.below(u64::from(width / 2 - 2)) as u32;
        gone.push(at..start);
        held.push(start..end);
        at = end;
    }
    gone.push(at..length);
    (held, gone)
}

/// A home of our own with a feed at `/blocks`, and its key.
fn writer(name: &str, blocks: &[Vec<u8>]) -> (Home, String) {
    let home = Home::init(name);
    home.run_with(["feed", "append", "/blocks"], &lines(blocks))
        .ok();
    let key = home.feed_at("/blocks")["key"].as_str().unwrap().to_owned();
    (home, key)
}

/// Serves feeds, and returns where.
#[track_caller]
fn serve(home: &Home, feeds: &[&str]) -> (Running, String) {
    let mut arguments = vec!["feed", "serve", "--tcp", "127.0.0.1:0"];
    arguments.extend(feeds);
    let mut serving = home.start(arguments);
    let address = serving.wait_json("the address", TRANSFER, |value| {
        value["address"].as_str().map(str::to_owned)
    });
    (serving, address)
}

#[track_caller]
fn read(home: &Home, key: &str, range: &Range<u32>) -> Vec<Vec<u8>> {
    let range = format!("{}..{}", range.start, range.end);
    let read = home.run(["feed", "read", key, &range]).ok();
    let lines = read.stdout.strip_suffix(b"\n").unwrap_or(&read.stdout);
    lines
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

/// npm holds torn parts of a feed; we fetch some of them, and no block beside.
#[track_caller]
fn we_read_parts(hypercore: &str) {
    const LENGTH: u32 = 2_000;
    let expected = blocks(21, LENGTH);
    let (held, gone) = torn(LENGTH, 12);
    let mut npm = Driver::start(hypercore);
    let key = npm.make("a", 21, LENGTH);
    npm.ask(&json!({"do": "clear", "name": "a", "ranges": pairs(&gone)}));
    let address = npm.listen(&["a"]);
    let home = Home::init("reader");
    let mut fetched = 0;
    for range in held.iter().step_by(2) {
        let text = format!("{}..{}", range.start, range.end);
        let pull = ["feed", "pull", &key, "--tcp", &address, "--range", &text];
        home.start(pull).finish(TRANSFER).ok();
        assert_eq!(
            read(&home, &key, range),
            part(&expected, std::slice::from_ref(range))
        );
        fetched += range.end - range.start;
    }
    let info = home.json_one(["feed", "info", &key]);
    assert_eq!(info["length"], LENGTH);
    assert_eq!(info["blocks_held"], fetched, "only what was asked for came");
    home.json_one(["feed", "verify", &key]);
}

/// We hold torn parts of a feed; npm fetches them, and does not get what nobody has.
#[track_caller]
fn npm_reads_parts(hypercore: &str) {
    const LENGTH: u32 = 2_000;
    let expected = blocks(22, LENGTH);
    let (home, key) = writer("holder", &expected);
    let (held, gone) = torn(LENGTH, 12);
    for range in &gone {
        home.run([
            "feed",
            "clear",
            "/blocks",
            &format!("{}..{}", range.start, range.end),
            "--own",
        ])
        .ok();
    }
    let (serving, address) = serve(&home, &["/blocks"]);
    let mut npm = Driver::start(hypercore);
    npm.open("a", &key);
    npm.connect(&["a"], &address);
    let got = npm.ask(&json!({"do": "download", "name": "a", "ranges": pairs(&held)}));
    assert_eq!(got["digest"], digest(&part(&expected, &held)));
    for range in gone.iter().take(2) {
        let get = npm.ask(&json!({"do": "get", "name": "a", "index": range.start, "ms": 300}));
        assert_eq!(get["held"], false, "block {}", range.start);
    }
    serving.stop();
}

/// npm appends while we stay.
#[track_caller]
fn we_follow(hypercore: &str) {
    let expected = blocks(23, 900);
    let mut npm = Driver::start(hypercore);
    let key = npm.make("a", 23, 300);
    let address = npm.listen(&["a"]);
    let home = Home::init("follower");
    let mut pull = home.start(["--json", "feed", "pull", &key, "--tcp", &address, "--live"]);
    for length in [300, 301, 500, 900] {
        if length > 300 {
            let more = length
                - npm.ask(&json!({"do": "wait", "name": "a", "length": 0}))["length"]
                    .as_u64()
                    .unwrap();
            npm.append("a", 23, more as u32);
        }
        pull.wait_json("all that there is", TRANSFER, |value| {
            (value["blocks"] == length && value["blocks_total"] == length).then_some(())
        });
    }
    pull.stop();
    assert_eq!(read(&home, &key, &(0..900)), expected);
}

/// We append while npm stays.
#[track_caller]
fn npm_follows(hypercore: &str) {
    let expected = blocks(24, 900);
    let (home, key) = writer("grower", &expected[..300]);
    let (serving, address) = serve(&home, &["/blocks"]);
    let mut npm = Driver::start(hypercore);
    npm.open("a", &key);
    npm.connect(&["a"], &address);
    let mut length = 300;
    for more in [0, 1, 199, 400] {
        if more > 0 {
            let new = &expected[length..length + more];
            home.run_with(["feed", "append", "/blocks"], &lines(new))
                .ok();
            length += more;
        }
        npm.ask(&json!({"do": "wait", "name": "a", "length": length}));
        let got = npm.ask(&json!({"do": "download", "name": "a", "ranges": [[0, length]]}));
        assert_eq!(got["digest"], digest(&expected[..length]));
    }
    serving.stop();
}

/// npm looks for bytes in a feed of ours of which it holds nothing.
#[track_caller]
fn npm_seeks(hypercore: &str) {
    const LENGTH: u32 = 1_000;
    let expected = blocks(25, LENGTH);
    let mut starts = BTreeMap::new();
    let mut at = 0u64;
    for (index, block) in expected.iter().enumerate() {
        if !block.is_empty() {
            starts.insert(at, index);
        }
        at += block.len() as u64;
    }
    let (home, key) = writer("sought", &expected);
    let (serving, address) = serve(&home, &["/blocks"]);
    let mut npm = Driver::start(hypercore);
    npm.open("a", &key);
    npm.connect(&["a"], &address);
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    for byte in (0..12).map(|_| random.below(at)).chain([1, at - 1]) {
        let (start, index) = starts.range(..=byte).next_back().unwrap();
        let found = npm.ask(&json!({"do": "seek", "name": "a", "bytes": byte}));
        assert_eq!(
            (&found["block"], &found["offset"]),
            (&json!(index), &json!(byte - start)),
            "byte {byte}"
        );
    }
    serving.stop();
}

/// We look for bytes in a feed of npm's of which we hold nothing, and take what holds them.
#[track_caller]
fn we_seek(hypercore: &str) {
    const LENGTH: u32 = 1_000;
    let expected = blocks(28, LENGTH).concat();
    let mut npm = Driver::start(hypercore);
    let key = npm.make("a", 28, LENGTH);
    let address = npm.listen(&["a"]);
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    for _ in 0..4 {
        let home = Home::init("seeker");
        let start = random.index(expected.len() - 1);
        let end = (start + 1 + random.index(100_000)).min(expected.len());
        let range = format!("{start}..{end}");
        let pull = ["feed", "pull", &key, "--tcp", &address, "--bytes", &range];
        home.start(pull).finish(TRANSFER).ok();
        let read = home.run(["feed", "read", &key, "--bytes", &range]).ok();
        assert!(read.stdout == expected[start..end], "bytes {range}");
        let held = home.json_one(["feed", "info", &key])["blocks_held"]
            .as_u64()
            .unwrap();
        assert!(held < 200, "{held} blocks came for {} bytes", end - start);
    }
    let home = Home::init("beyond");
    let range = format!("5..{}", expected.len() + 1);
    let pull = ["feed", "pull", &key, "--tcp", &address, "--bytes", &range];
    home.start(pull)
        .finish(TRANSFER)
        .exits(3)
        .says("were asked for");
}

/// A feed of which npm has one half and we have the other: a third peer gets all of it.
#[track_caller]
fn npm_reads_of_two(hypercore: &str) {
    const LENGTH: u32 = 1_200;
    let expected = blocks(26, LENGTH);
    let mut npm = Driver::start(hypercore);
    let key = npm.make("a", 26, LENGTH);
    let address = npm.listen(&["a"]);
    let home = Home::init("half");
    let pull = ["feed", "pull", &key, "--tcp", &address, "--range", "0..600"];
    home.start(pull).finish(TRANSFER).ok();
    npm.ask(&json!({"do": "clear", "name": "a", "ranges": [[0, 600]]}));
    let (serving, ours) = serve(&home, &[&key]);
    let mut third = Driver::start(hypercore);
    third.open("a", &key);
    third.connect(&["a"], &address);
    third.connect(&["a"], &ours);
    let got = third.ask(&json!({"do": "download", "name": "a", "ranges": [[0, LENGTH]]}));
    assert_eq!(got["digest"], digest(&expected));
    serving.stop();
}

/// A feed of which two npm peers have a half each: we get all of it.
#[track_caller]
fn we_read_of_two(hypercore: &str) {
    const LENGTH: u32 = 1_200;
    let mut first = Driver::start(hypercore);
    let key = first.make("a", 27, LENGTH);
    let mut second = Driver::start(hypercore);
    second.open("a", &key);
    let from_first = first.listen(&["a"]);
    second.connect(&["a"], &from_first);
    second.ask(&json!({"do": "download", "name": "a", "ranges": [[600, LENGTH]]}));
    second.ask(&json!({"do": "hangup"}));
    first.ask(&json!({"do": "clear", "name": "a", "ranges": [[600, LENGTH]]}));
    let from_second = second.listen(&["a"]);
    let home = Home::init("whole");
    let pull = [
        "feed",
        "pull",
        &key,
        "--tcp",
        &from_first,
        "--tcp",
        &from_second,
    ];
    home.start(pull).finish(TRANSFER).ok();
    assert_eq!(read(&home, &key, &(0..LENGTH)), blocks(27, LENGTH));
}

/// npm reads a feed of ours and says what only its own kind may know.
#[track_caller]
fn npm_extends(hypercore: &str) {
    let expected = blocks(32, 40);
    let (home, key) = writer("told", &expected);
    let (serving, address) = serve(&home, &["/blocks"]);
    let mut npm = Driver::start(hypercore);
    npm.open("a", &key);
    npm.connect(&["a"], &address);
    npm.wait_peers("a", 1);
    for length in [10, 40] {
        for text in ["", "something", "something else"] {
            npm.ask(&json!({"do": "extend", "name": "a", "text": text}));
        }
        let got = npm.ask(&json!({"do": "download", "name": "a", "ranges": [[0, length]]}));
        assert_eq!(got["digest"], digest(&expected[..length]));
    }
    npm.wait_peers("a", 1);
    serving.stop();
}

/// npm says it while we read what it writes.
#[track_caller]
fn we_hear_extensions(hypercore: &str) {
    let mut npm = Driver::start(hypercore);
    let key = npm.make("a", 33, 10);
    let address = npm.listen(&["a"]);
    let home = Home::init("listener");
    let mut pull = home.start(["--json", "feed", "pull", &key, "--tcp", &address, "--live"]);
    for length in [10, 20, 30] {
        if length > 10 {
            npm.ask(&json!({"do": "extend", "name": "a", "text": "x".repeat(length)}));
            npm.append("a", 33, 10);
        }
        pull.wait_json("all that there is", TRANSFER, |value| {
            (value["blocks"] == length && value["blocks_total"] == length).then_some(())
        });
    }
    pull.stop();
    assert_eq!(read(&home, &key, &(0..30)), blocks(33, 30));
}

const FEEDS: u32 = 100;

fn names() -> Vec<String> {
    (0..FEEDS).map(|number| format!("feed{number}")).collect()
}

#[track_caller]
fn we_read_a_hundred(hypercore: &str) {
    let mut npm = Driver::start(hypercore);
    let names = names();
    let keys: Vec<String> = (0..)
        .zip(&names)
        .map(|(number, name)| npm.make(name, 100 + number, 5 + number % 20))
        .collect();
    let address = npm.listen(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let home = Home::init("reader");
    let mut pull = vec!["feed", "pull", "--tcp", &address];
    pull.extend(keys.iter().map(String::as_str));
    home.start(pull).finish(TRANSFER).ok();
    for number in [0, 1, 50, FEEDS - 1] {
        let count = 5 + number % 20;
        let held = read(&home, &keys[number as usize], &(0..count));
        assert_eq!(held, blocks(100 + number, count), "feed {number}");
    }
    let listed = home.json_one(["feed", "list"])["feeds"]
        .as_array()
        .unwrap()
        .clone();
    let whole = |feed: &&Value| {
        let key = text::decode_key(feed["key"].as_str().unwrap()).unwrap();
        feed["blocks_held"] == feed["length"] && keys.contains(&text::encode_hex(&key))
    };
    assert_eq!(listed.iter().filter(whole).count(), FEEDS as usize);
}

#[track_caller]
fn npm_reads_a_hundred(hypercore: &str) {
    let home = Home::init("server");
    let mut keys = Vec::new();
    for number in 0..FEEDS {
        let key = home.json_one(["feed", "create", "--plain"])["key"]
            .as_str()
            .unwrap()
            .to_owned();
        let count = 5 + number % 20;
        home.run_with(
            ["feed", "append", &key],
            &lines(&blocks(300 + number, count)),
        )
        .ok();
        keys.push(key);
    }
    let (serving, address) = serve(&home, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    let mut npm = Driver::start(hypercore);
    let names = names();
    for (name, key) in names.iter().zip(&keys) {
        npm.open(name, key);
    }
    npm.connect(
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
        &address,
    );
    for (number, name) in (0..).zip(&names) {
        npm.say(&json!({"do": "wait", "name": name, "length": 1}));
        npm.say(&json!({"do": "download", "name": name, "ranges": [[0, 5 + number % 20]]}));
    }
    for number in 0..FEEDS {
        npm.hear();
        let got = npm.hear();
        assert_eq!(
            got["digest"],
            digest(&blocks(300 + number, 5 + number % 20)),
            "feed {number}"
        );
    }
    serving.stop();
}

macro_rules! with_both {
    ($($case:ident => $eleven:ident, $ten:ident;)*) => {
        $(
            #[test]
            fn $eleven() {
                $case("11");
            }

            #[test]
            fn $ten() {
                $case("10");
            }
        )*
    };
}

with_both! {
    we_read_parts => npm_hypercore_11_holds_parts_and_we_fetch_some, npm_hypercore_10_holds_parts_and_we_fetch_some;
    npm_reads_parts => npm_hypercore_11_fetches_the_parts_we_hold, npm_hypercore_10_fetches_the_parts_we_hold;
    we_follow => npm_hypercore_11_appends_and_we_follow, npm_hypercore_10_appends_and_we_follow;
    npm_follows => npm_hypercore_11_follows_what_we_append, npm_hypercore_10_follows_what_we_append;
    npm_seeks => npm_hypercore_11_finds_bytes_in_our_feed, npm_hypercore_10_finds_bytes_in_our_feed;
    we_seek => npm_hypercore_11_has_bytes_that_we_find, npm_hypercore_10_has_bytes_that_we_find;
    npm_reads_of_two => npm_hypercore_11_reads_of_npm_and_us, npm_hypercore_10_reads_of_npm_and_us;
    we_read_of_two => npm_hypercore_11_twice_has_a_half_each_and_we_get_all, npm_hypercore_10_twice_has_a_half_each_and_we_get_all;
    npm_extends => npm_hypercore_11_says_what_we_do_not_know_and_reads, npm_hypercore_10_says_what_we_do_not_know_and_reads;
    we_hear_extensions => npm_hypercore_11_says_what_we_do_not_know_and_is_read, npm_hypercore_10_says_what_we_do_not_know_and_is_read;
    we_read_a_hundred => npm_hypercore_11_serves_us_a_hundred_feeds_on_one_stream, npm_hypercore_10_serves_us_a_hundred_feeds_on_one_stream;
    npm_reads_a_hundred => npm_hypercore_11_reads_a_hundred_feeds_on_one_stream, npm_hypercore_10_reads_a_hundred_feeds_on_one_stream;
}
