//! A follower gets what it pinned and nothing else: blocks, nodes, channels, names.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::collections::BTreeSet;

use crate::support::frames::{bytes_received, decrypted_frames, start_with_frames};
use crate::support::{Home, MEETING, Signal, noise};
use kinlog_feeds::FeedKey;
use serde_json::Value;
use testkit::needles::Needles;
use testkit::process::Running;

const BLOCK: usize = 65_536;
const PATH_BYTES: usize = 16 * 1024 * 1024;
const ROOM: &str = "the room of nobody else";
const MESSAGE: &str = "a message for the members";

/// What a follower may receive beside the blocks it asked for.
const OVERHEAD_BYTES_MAX: u64 = 256 * 1024;

/// An author with two public paths and a room.
struct Author {
    home: Home,
    link_a: String,
    a: Vec<u8>,
    b: Vec<u8>,
    key_b: FeedKey,
    /// Feeds of the room, as `feed list` shows them.
    room_feeds: Vec<FeedKey>,
    /// Its id and its epoch's id and secret, each with its name.
    room_secrets: Vec<(&'static str, Vec<u8>)>,
    up: Running,
}

impl Author {
    fn start(signal: &Signal) -> Author {
        let home = Home::init("author");
        let (a, b) = (noise(0xa, PATH_BYTES), noise(0xb, PATH_BYTES));
        let link_a = home.import("/paths/a", &home.write("a.bin", &a));
        home.import("/paths/b", &home.write("b.bin", &b));
        let directory = directory_length(&home);
        home.run(["room", "create", ROOM]).ok();
        home.run(["send", ROOM, MESSAGE]).ok();
        let unchanged = directory_length(&home);
        assert_eq!(
            directory, unchanged,
            "the public directory tells that there is a room"
        );
        let feeds = home.json_one(["feed", "list"])["feeds"]
            .as_array()
            .unwrap()
            .clone();
        let key = |feed: &Value| feed["key"].as_str().unwrap().parse::<FeedKey>().unwrap();
        let key_b = key(feeds
            .iter()
            .find(|feed| feed["path"] == "/paths/b")
            .unwrap());
        let room_feeds = feeds.iter().filter(|feed| feed["role"] == "room").map(key);
        let room_feeds = room_feeds.collect::<Vec<_>>();
        assert!(!room_feeds.is_empty(), "{feeds:#?}");
        let room_secrets = room_secrets(&home);
        let mut command = home.command(["up", "--json", "--signal", &signal.url]);
        let up = start_with_frames(&mut command);
        Author {
            home,
            link_a,
            a,
            b,
            key_b,
            room_feeds,
            room_secrets,
            up,
        }
    }
}

/// Returns how many blocks the public directory has.
fn directory_length(home: &Home) -> u64 {
    let list = home.json_one(["feed", "list"]);
    let feeds = list["feeds"].as_array().unwrap();
    let directory = feeds.iter().find(|feed| feed["role"] == "directory");
    directory.unwrap()["length"].as_u64().unwrap()
}

fn room_secrets(home: &Home) -> Vec<(&'static str, Vec<u8>)> {
    let state = home.state_db();
    let of = |name, query| (name, state.query_row(query, [], |row| row.get(0)).unwrap());
    vec![
        of("room id", "SELECT id FROM rooms"),
        of("epoch id", "SELECT id FROM epochs"),
        (
            "epoch secret",
            home.sealed("epochs", "secret", "id").remove(0),
        ),
    ]
}

/// Returns which blocks of `content` stand in the files of a home.
fn blocks_on_disk(home: &Home, content: &[u8]) -> BTreeSet<u64> {
    let mut needles = Needles::new();
    for (index, block) in content.chunks(BLOCK).enumerate() {
        // The middle of a block: no header, no neighbour.
        needles.add_spelled(
            &index.to_string(),
            "raw",
            block[BLOCK / 2..BLOCK / 2 + 32].to_vec(),
        );
    }
    let mut found = BTreeSet::new();
    for file in home.files().into_iter().filter(|file| file.is_file()) {
        found.extend(needles.found_in(&std::fs::read(&file).unwrap()));
    }
    found
        .iter()
        .map(|name| name.split(' ').next().unwrap().parse::<u64>().unwrap())
        .collect()
}

#[test]
fn a_range_is_stored_and_no_other_block() {
    let signal = Signal::start();
    let author = Author::start(&signal);
    let blocks = (PATH_BYTES / BLOCK) as u64;
    for (range, expected) in [("100..140", 100..140), ("last:10", blocks - 10..blocks)] {
        let reader = Home::init("reader");
        let log = reader.beside("messages.log");
        let up = reader.up_with(&signal, &["--message-log", log.to_str().unwrap()]);
        reader.follow(&author.link_a, &["--range", range, "--once"]);
        let feed = reader.feed_at("/paths/a");
        assert_eq!(
            feed["blocks_held"],
            expected.end - expected.start,
            "{feed:#}"
        );
        assert_eq!(feed["in_sync"], true, "{feed:#}");
        up.stop().ok();
        let asked = (expected.end - expected.start) * BLOCK as u64;
        let received = bytes_received(&log);
        let allowed = asked * 102 / 100 + OVERHEAD_BYTES_MAX;
        println!("{range}: {received} bytes received, {allowed} allowed");
        assert!(
            (asked..=allowed).contains(&received),
            "{received} bytes received, {allowed} allowed"
        );
        assert_eq!(
            blocks_on_disk(&reader, &author.a),
            expected.clone().collect()
        );
        assert_eq!(blocks_on_disk(&reader, &author.b), BTreeSet::new());
        let wanted = format!("{}..{}", expected.start, expected.end);
        let out = reader.beside("part.bin");
        let out_shown = out.to_str().unwrap();
        reader
            .run([
                "feed",
                "export",
                &author.link_a,
                out_shown,
                "--range",
                &wanted,
            ])
            .ok();
        let part = &author.a[expected.start as usize * BLOCK..expected.end as usize * BLOCK];
        assert!(std::fs::read(&out).unwrap() == part, "the part differs");
        reader
            .run(["feed", "read", &author.link_a, "0..1"])
            .exits(3);
        reader.run(["feed", "verify", &author.link_a]).ok();
    }
}

/// Follows path a and returns everything that should not have come, in words.
fn follow_and_look(author: &Author, signal: &Signal, switches: &[&str]) -> Vec<String> {
    let reader = Home::init("follower");
    let log = reader.beside("messages.log");
    let mut command = reader.command(["up", "--json", "--signal", &signal.url]);
    command.arg("--message-log").arg(&log).args(switches);
    let up = start_with_frames(&mut command);
    let mut following = reader.start(["follow", &author.link_a]);
    following.wait_json("a whole copy", MEETING, |value| {
        (value["complete"] == true).then_some(())
    });
    // One more block travels after everything was there: what should not come had its time.
    author.home.append("/paths/a", "the last block\n");
    let blocks = (PATH_BYTES / BLOCK) as u64;
    let whole = |value: &Value| (value["have"].as_u64() > Some(blocks)).then_some(());
    following.wait_json("the last block", MEETING, whole);
    following.kill();
    let stderr = up.stop().ok().stderr;
    let frames = decrypted_frames(&stderr);
    assert!(frames.len() > 100, "only {} frames were seen", frames.len());
    // What the follower says is as telling as what it hears.
    let asked = decrypted_frames(&author.up.stderr());
    assert!(asked.len() > 10, "only {} frames were seen", asked.len());

    let mut wrong = Vec::new();
    let received = bytes_received(&log);
    let allowed = PATH_BYTES as u64 * 102 / 100 + OVERHEAD_BYTES_MAX;
    println!("{received} bytes received, {allowed} allowed");
    assert!(
        received >= PATH_BYTES as u64,
        "the log misses messages: {received} bytes"
    );
    if received > allowed {
        wrong.push(format!("{received} bytes received, {allowed} allowed"));
    }

    let feeds = reader.json_one(["feed", "list"]);
    if feeds.to_string().contains(&author.key_b.to_string()) {
        wrong.push("path b is in the store".to_owned());
    }
    if !blocks_on_disk(&reader, &author.b).is_empty() {
        wrong.push("blocks of path b are on disk".to_owned());
    }
    let mut unseen = Needles::new();
    unseen.add(
        "discovery key of path b",
        author.key_b.discovery_key().as_bytes(),
    );
    let mut private = Needles::new();
    for key in &author.room_feeds {
        private.add("key of a room feed", key.as_bytes());
        private.add(
            "discovery key of a room feed",
            key.discovery_key().as_bytes(),
        );
    }
    for (name, value) in &author.room_secrets {
        private.add(name, value);
    }
    private.add("name of the room", ROOM.as_bytes());
    private.add("message of the room", MESSAGE.as_bytes());
    for frame in frames.iter().chain(&asked) {
        wrong.extend(
            unseen
                .found_in(frame)
                .into_iter()
                .map(|what| format!("frame with {what}")),
        );
        wrong.extend(
            private
                .found_in(frame)
                .into_iter()
                .map(|what| format!("frame with {what}")),
        );
    }
    for file in reader.files().into_iter().filter(|file| file.is_file()) {
        let content = std::fs::read(&file).unwrap();
        let found = private.found_in(&content).into_iter();
        wrong.extend(found.map(|what| format!("{} with {what}", file.display())));
    }
    // The one thing it does know of path b: its line in the public directory.
    let mut line = Needles::new();
    line.add_spelled("line", "raw", b"/paths/b".to_vec());
    assert!(
        frames.iter().any(|frame| !line.found_in(frame).is_empty()),
        "no directory was seen"
    );
    wrong
}

#[test]
fn a_follower_of_one_path_learns_nothing_of_the_rest() {
    let signal = Signal::start();
    let author = Author::start(&signal);
    let wrong = follow_and_look(&author, &signal, &[]);
    assert_eq!(wrong, Vec::<String>::new());
    // The same check notices when no pin decides.
    let wrong = follow_and_look(&author, &signal, &["--test-without-pin-filter"]);
    println!("without the filter: {wrong:#?}");
    assert!(
        wrong.iter().any(|what| what.contains("path b")),
        "{wrong:?}"
    );
}
