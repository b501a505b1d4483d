//! Feeds carried by hand: export, verify and import of bundles; giving space back.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::sync::Arc;

use crate::support;
use crate::support::{Home, noise};
use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::bundle::BundleWriter;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Kind, MemoryDisk, Options, Role, Store};

/// Returns a bundle of all of a feed with these blocks, by the author whose seed is `seed`.
fn foreign_bundle(seed: u8, blocks: &[&str]) -> Vec<u8> {
    let writer = KeyPair::from_seed(&[seed; 32]);
    let store = Store::open(Arc::new(MemoryDisk::new()), Options::new([1; 16])).unwrap();
    let manifest = Manifest::single(writer.public_key());
    let feed = store
        .create_feed(&manifest, Role::Own, Kind::Plain)
        .unwrap();
    let blocks: Vec<Bytes> = blocks
        .iter()
        .map(|block| Bytes::copy_from_slice(block.as_bytes()))
        .collect();
    feed.append_batch(&writer, &blocks).unwrap();
    let all = 0..feed.head().length;
    let header = feed.bundle_header(Vec::from([all])).unwrap();
    let mut bundle = BundleWriter::new::<()>(Vec::new(), &header).unwrap();
    while bundle.write_run(&feed).unwrap().is_some() {}
    bundle.finish::<()>().unwrap()
}

#[test]
fn a_feed_travels_as_one_file_and_is_checked_without_a_home() {
    let author = Home::init("author");
    let content = noise(5, 900_000);
    let file = author.write("film.bin", &content);
    author.import("/films/one", &file);
    let bundle = author.beside("film.bundle");
    let shown = bundle.to_str().unwrap();
    let exported = author.json(["feed", "export", "/films/one", "--bundle", shown]);
    let exported = exported.last().unwrap();
    assert_eq!(exported["reply"], "bundle_exported");
    assert_eq!(
        exported["bytes"].as_u64().unwrap(),
        std::fs::metadata(&bundle).unwrap().len()
    );

    // Whoever checks it has neither a home nor a network.
    let nobody = Home::empty("nobody");
    let verified = nobody.json_one(["feed", "verify", shown]);
    assert_eq!(verified["key"], exported["key"]);
    assert_eq!(verified["length"], 14);
    assert_eq!(verified["ranges"], serde_json::json!(["0..14"]));
    assert!(!nobody.path().exists());
    let verified = nobody.run(["feed", "verify", shown]).ok();
    let text = verified.text();
    for word in [exported["key"].as_str().unwrap(), "14 blocks", "0..14"] {
        assert!(text.contains(word), "no {word} in {text}");
    }

    let reader = Home::init("reader");
    let imported = reader.json(["feed", "import", "--bundle", shown]);
    let imported = imported.last().unwrap();
    assert_eq!(imported["blocks_new"], 14);
    assert_eq!(imported["created"], true);
    let key = exported["key"].as_str().unwrap();
    let copy = reader.beside("copy.bin");
    reader
        .run(["feed", "export", key, copy.to_str().unwrap()])
        .ok();
    assert!(std::fs::read(&copy).unwrap() == content, "the copy differs");
    reader.run(["feed", "verify", key]).ok();
    let again = reader.json(["feed", "import", "--bundle", shown]);
    assert_eq!(again.last().unwrap()["blocks_held_before"], 14);
}

#[test]
fn parts_make_a_whole() {
    let author = Home::init("parts");
    author.append("/log", &"line\n".repeat(1000));
    let (one, other) = (author.beside("one"), author.beside("other"));
    let (one, other) = (one.to_str().unwrap(), other.to_str().unwrap());
    author
        .run([
            "feed",
            "export",
            "/log",
            "--bundle",
            one,
            "--range",
            "0..300",
            "--range",
            "900..1000",
        ])
        .ok()
        .says("400 blocks of 1000")
        .says("0..300, 900..1000");
    author
        .run([
            "feed", "export", "/log", "--bundle", other, "--range", "250..950",
        ])
        .ok();
    let reader = Home::init("parts-reader");
    reader.run(["feed", "import", "--bundle", one]).ok();
    let key = reader.json_one(["feed", "list"])["feeds"]
        .as_array()
        .unwrap()
        .iter()
        .find(|feed| feed["role"] == "plain")
        .unwrap()
        .clone();
    assert_eq!(key["blocks_held"], 400);
    reader
        .run(["feed", "import", "--bundle", other])
        .ok()
        .says("600 blocks new, 100 held before");
    let key = key["key"].as_str().unwrap();
    assert_eq!(
        reader.run(["feed", "read", key]).ok().text(),
        "line\n".repeat(1000)
    );
    // What is not held cannot be exported; without a range what is held is.
    author
        .run([
            "feed",
            "export",
            "/log",
            "--bundle",
            one,
            "--range",
            "999..1001",
        ])
        .exits(3);
    author
        .run([
            "feed", "export", "/log", one, "--range", "0..1", "--range", "2..3",
        ])
        .exits(2);
}

#[test]
fn a_bundle_that_was_touched_is_refused_and_nothing_of_it_kept() {
    let home = Home::init("touched");
    let good = foreign_bundle(9, &["the first", "the second", "the third"]);
    let at = good.windows(10).position(|text| text == b"the second");
    let mut altered = good.clone();
    altered[at.unwrap() + 4] ^= 1;
    let altered = home.write("altered", &altered);
    let cut = home.write("cut", &good[..good.len() - 1]);
    let other = home.write("other", b"no bundle at all");
    for (file, word) in [
        (&altered, "block 1 "),
        (&cut, "ends before its check"),
        (&other, "no bundle"),
    ] {
        let file = file.to_str().unwrap();
        home.run(["feed", "verify", file]).exits(5).says(word);
        home.run(["feed", "import", "--bundle", file])
            .exits(5)
            .says(word);
    }
    let feeds = home.json_one(["feed", "list"])["feeds"].clone();
    assert!(
        feeds
            .as_array()
            .unwrap()
            .iter()
            .all(|feed| feed["role"] != "plain"),
        "{feeds}"
    );
    let missing = home.beside("missing");
    home.run(["feed", "import", "--bundle", missing.to_str().unwrap()])
        .exits(3);
}

#[test]
fn two_histories_are_a_conflict() {
    let home = Home::init("conflict");
    let one = home.write("one", &foreign_bundle(7, &["a", "b", "c"]));
    let other = home.write("other", &foreign_bundle(7, &["a", "X", "c", "d"]));
    home.run(["feed", "import", "--bundle", one.to_str().unwrap()])
        .ok();
    home.run(["feed", "import", "--bundle", other.to_str().unwrap()])
        .exits(9);
    let feeds = home.json_one(["feed", "list"])["feeds"].clone();
    let feed = feeds
        .as_array()
        .unwrap()
        .iter()
        .find(|feed| feed["role"] == "plain")
        .unwrap()
        .clone();
    let key = feed["key"].as_str().unwrap();
    assert_eq!(home.run(["feed", "read", key]).ok().text(), "a\nb\nc\n");
}

#[test]
fn clearing_gives_up_blocks_and_keeps_their_proofs() {
    let home = Home::init("clear");
    home.append("/log", "one\ntwo\nthree\n");
    home.run(["feed", "clear", "/log", "0..2"])
        .exits(6)
        .says("--own");
    let bundle = home.beside("before.bundle");
    let bundle = bundle.to_str().unwrap();
    home.run(["feed", "export", "/log", "--bundle", bundle])
        .ok();
    let cleared = home.json_one(["feed", "clear", "/log", "0..2", "--own"]);
    assert_eq!(
        (&cleared["blocks"], &cleared["bytes"]),
        (&2.into(), &6.into())
    );
    assert_eq!(cleared["wanted"], false);
    let info = home.json_one(["feed", "info", "/log"]);
    assert_eq!(
        (&info["length"], &info["blocks_held"]),
        (&3.into(), &1.into())
    );
    assert_eq!(home.run(["feed", "read", "/log"]).ok().text(), "three\n");
    home.run(["feed", "clear", "/log", "2..9", "--own"])
        .exits(3);
    // The bundle brings them back, and the author goes on.
    home.run(["feed", "import", "--bundle", bundle]).ok();
    home.append("/log", "four\n");
    assert_eq!(
        home.run(["feed", "read", "/log"]).ok().text(),
        "one\ntwo\nthree\nfour\n"
    );
}

#[test]
fn what_is_cleared_everywhere_is_said_in_the_directory_and_told() {
    let home = Home::init("everywhere");
    let link = home.append("/log", "one\ntwo\nthree\nfour\n");
    let cleared = home.json_one(["feed", "clear", "/log", "1..2", "--everywhere"]);
    assert_eq!(
        (&cleared["blocks"], &cleared["everywhere"]),
        (&1.into(), &true.into())
    );
    home.run(["feed", "clear", "/log", "2..3", "--everywhere"])
        .ok()
        .says("whoever follows the feed hears of it");
    assert_eq!(
        home.run(["feed", "read", "/log"]).ok().text(),
        "one\nfour\n"
    );
    let why = home.run(["why", &link]).ok();
    assert!(
        why.text().contains("blocks 2..3: cleared"),
        "{}",
        why.text()
    );
    // Nobody heeds what no directory lists, and a room has its own way.
    home.run(["feed", "clear", "/log", "8..9", "--everywhere"])
        .exits(3);
    home.run(["room", "create", "garden"]).ok();
    home.run(["send", "garden", "hello"]).ok();
    let said = home.json_one(["read", "garden"]);
    home.run([
        "feed",
        "clear",
        said["key"].as_str().unwrap(),
        "0..1",
        "--everywhere",
    ])
    .exits(2)
    .says("kinlog delete");
}

#[test]
fn feeds_of_others_can_be_dropped_and_own_ones_cannot() {
    let home = Home::init("drop");
    home.append("/log", "one\n");
    home.run(["feed", "drop", "/log"])
        .exits(6)
        .says("feed clear");
    let file = home.write("foreign", &foreign_bundle(3, &["a", "bc"]));
    let imported = home.json(["feed", "import", "--bundle", file.to_str().unwrap()]);
    let feed = &imported.last().unwrap()["feed"];
    let key = feed["key"].as_str().unwrap();
    let stat = home.json_one(["store", "stat"]);
    let dropped = home.json_one(["feed", "drop", key]);
    assert_eq!(
        (&dropped["blocks"], &dropped["bytes"]),
        (&2.into(), &3.into())
    );
    home.run(["feed", "info", key]).exits(3);
    home.run(["feed", "drop", key]).exits(3);
    let after = home.json_one(["store", "stat"]);
    let feeds = |stat: &serde_json::Value| stat["feeds"].as_u64().unwrap();
    assert_eq!(feeds(&stat), feeds(&after) + 1);
    let checked = home.json(["store", "check"]);
    assert_eq!(checked.last().unwrap()["problem_count"], 0);
    assert!(checked.last().unwrap()["blocks_checked"].as_u64() > Some(0));
}

#[test]
fn what_was_cleared_is_given_back_when_asked() {
    let home = Home::init("compact");
    home.run(["store", "compact"])
        .ok()
        .says("nothing to give back");
    let lines: String = (0..20_000).map(|line| format!("{line:0200}\n")).collect();
    home.append("/log", &lines);
    home.run(["feed", "clear", "/log", "0..19990", "--own"])
        .ok();
    let before = home.json_one(["store", "stat"]);
    assert!(before["dead_bytes"].as_u64() > Some(100_000), "{before}");
    let compacted = home.json_one(["store", "compact"]);
    assert_eq!(
        (&compacted["segments"], &compacted["kept"]),
        (&1.into(), &0.into())
    );
    let after = home.json_one(["store", "stat"]);
    assert!(
        after["log_bytes"].as_u64() < before["log_bytes"].as_u64(),
        "{after}"
    );
    assert_eq!(after["dead_bytes"], 0);
    let last: String = (19_990..20_000)
        .map(|line| format!("{line:0200}\n"))
        .collect();
    assert_eq!(home.run(["feed", "read", "/log"]).ok().text(), last);
    home.append("/log", "and on\n");
    assert_eq!(home.json_one(["feed", "info", "/log"])["length"], 20_001);
    home.run(["store", "check"]).ok();
}

#[test]
fn a_feed_that_a_pin_asks_for_is_not_dropped() {
    let home = Home::init("pinned");
    let file = home.write("foreign", &foreign_bundle(4, &["a"]));
    let imported = home.json(["feed", "import", "--bundle", file.to_str().unwrap()]);
    let feed = &imported.last().unwrap()["feed"];
    let (key, link) = (
        feed["key"].as_str().unwrap(),
        feed["link"].as_str().unwrap(),
    );
    // Nobody is there to meet, and the pin is remembered all the same.
    home.start(["follow", link])
        .wait_json("a first look", support::MEETING, |value| {
            value["v"].is_number().then_some(())
        });
    home.run(["feed", "drop", key]).exits(6).says("unfollow");
    let cleared = home.json_one(["feed", "clear", key, "0..1"]);
    assert_eq!(cleared["wanted"], true);
    home.run(["unfollow", link]).ok();
    home.run(["feed", "drop", key]).ok();
}

#[test]
fn a_pull_that_came_to_nothing_leaves_no_feed() {
    let home = Home::init("nothing");
    let key = kinlog_feeds::text::encode(&[5; 32]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let finished = home.run(["feed", "pull", &key, "--tcp", &address]);
    assert_ne!(finished.code, 0);
    home.run(["feed", "info", &key]).exits(3);
}

/// Flips a bit in the head part of the first append record of the home's log that is longer than
/// `bytes`.
fn damage(home: &Home) -> Vec<u8> {
    let log = home.path().join("store/log-00000000");
    let mut bytes = std::fs::read(&log).unwrap();
    let starts: Vec<usize> = bytes
        .windows(6)
        .enumerate()
        .filter(|(_, bytes)| *bytes == b"KLRC\x01\x02")
        .map(|(at, _)| at)
        .collect();
    let middle = starts[starts.len() / 2];
    bytes[middle + 40] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    // With it, opening would not look at what is older than the last checkpoint.
    std::fs::remove_file(home.path().join("store/index")).unwrap();
    bytes
}

#[test]
fn a_damaged_store_is_checked_and_repaired_and_what_is_lost_is_named() {
    let home = Home::init("damaged");
    home.run(["store", "repair"])
        .ok()
        .says("nothing was changed");
    let file = home.write("foreign", &foreign_bundle(8, &["kept"; 40]));
    home.run(["feed", "import", "--bundle", file.to_str().unwrap()])
        .ok();
    for line in ["one\n", "two\n", "three\n", "four\n"] {
        home.append("/log", line);
    }
    home.run(["store", "check"]).ok();
    let key = home.json_one(["feed", "info", "/log"])["key"].clone();
    let bytes = damage(&home);

    home.run(["feed", "list"]).exits(5).says("store repair");
    let checked = home.run(["store", "check", "--json"]).exits(5).json();
    assert_eq!(
        checked[0]["gaps"].as_array().unwrap().len(),
        1,
        "{checked:?}"
    );

    let repaired = home.json_one(["store", "repair"]);
    assert_eq!(repaired["sound"], false);
    assert_eq!(repaired["gaps"].as_array().unwrap().len(), 1);
    let feeds = repaired["feeds"].as_array().unwrap();
    let lost: u64 = feeds
        .iter()
        .map(|feed| feed["blocks_lost"].as_u64().unwrap())
        .sum();
    assert!(lost > 0, "{feeds:?}");
    assert!(feeds.iter().any(|feed| feed["key"] == key));
    let damaged = home.path().join("store.damaged-1");
    assert_eq!(std::fs::read(damaged.join("log-00000000")).unwrap(), bytes);

    home.run(["store", "check"]).ok();
    home.run(["store", "repair"])
        .ok()
        .says("nothing was changed");
    // What was lost could have been a newer head: the device signs nothing with this store.
    home.run_with(["feed", "append", "/log"], b"five\n")
        .exits(10);
}
