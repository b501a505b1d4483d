//! Feeds whose author signed two histories, and plain feeds that are cut.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::sync::Arc;

use crate::support::Home;
use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::bundle::BundleWriter;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Kind, MemoryDisk, Options, Role, Store};

/// Returns a bundle of a feed of the same author each time, with these blocks.
fn bundle_of(blocks: &[&'static str]) -> Vec<u8> {
    let writer = KeyPair::from_seed(&[77; 32]);
    let store = Store::open(Arc::new(MemoryDisk::new()), Options::new([1; 16])).unwrap();
    let manifest = Manifest::single(writer.public_key());
    let feed = store
        .create_feed(&manifest, Role::Own, Kind::Plain)
        .unwrap();
    let blocks: Vec<Bytes> = blocks
        .iter()
        .map(|block| Bytes::from_static(block.as_bytes()))
        .collect();
    feed.append_batch(&writer, &blocks).unwrap();
    let all = 0..feed.head().length;
    let header = feed.bundle_header(Vec::from([all])).unwrap();
    let mut bundle = BundleWriter::new::<()>(Vec::new(), &header).unwrap();
    while bundle.write_run(&feed).unwrap().is_some() {}
    bundle.finish::<()>().unwrap()
}

#[test]
fn a_second_history_stops_the_feed_and_its_proof_convinces_a_third_person() {
    let home = Home::init("reader");
    home.run(["feed", "conflicts"]).ok();
    let one = home.write("one.bundle", &bundle_of(&["a", "b", "c"]));
    let other = home.write("other.bundle", &bundle_of(&["a", "x", "c", "d"]));
    home.run(["feed", "import", "--bundle", one.to_str().unwrap()])
        .ok();
    let refused = home.run(["feed", "import", "--bundle", other.to_str().unwrap()]);
    refused.exits(9);

    let shown = home.run(["feed", "conflicts"]);
    let shown = shown.exits(9);
    let said = shown.text();
    for word in ["differ in blocks", "3 blocks", "4 blocks", "signed head"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let feeds = home.json(["feed", "list"]);
    // The own directory is listed too, in the order of the keys.
    let listed = feeds[0]["feeds"].as_array().unwrap().iter();
    let infos = listed.map(|feed| home.json_one(["feed", "info", feed["key"].as_str().unwrap()]));
    let info = infos
        .into_iter()
        .find(|info| info["conflict"].is_string())
        .unwrap();
    let key = info["key"].as_str().unwrap().to_owned();
    assert!(info["conflict"].as_str().unwrap().contains("differ"));
    assert_eq!(info["length"], 3, "what was held stays");
    assert_eq!(home.run(["feed", "read", &key]).ok().text(), "a\nb\nc\n");
    assert_eq!(home.json_one(["feed", "verify", &key])["blocks_checked"], 3);
    let status = home.json_one(["status"]);
    let mut feeds = status["feeds"].as_array().unwrap().iter();
    assert!(
        feeds.any(|feed| feed["sync"]
            .as_str()
            .unwrap_or_default()
            .contains("two histories")),
        "{status}"
    );

    // The proof convinces somebody who has neither a home nor the feed.
    let file = home.beside("fork.proof");
    let proof = file.to_str().unwrap();
    home.run(["feed", "conflicts", &key, "--export", proof])
        .exits(9);
    let nobody = Home::empty("nobody");
    let checked = nobody.json_one(["feed", "conflicts", "--check", proof]);
    assert_eq!(checked["key"], key.as_str());
    assert_eq!(checked["heads"][0]["length"], 3);
    assert_eq!(checked["heads"][1]["length"], 4);
    assert!(!nobody.path().exists());
    let mut bytes = std::fs::read(&file).unwrap();
    assert!(bytes.len() < 4096);
    bytes[150] ^= 1;
    let changed = home.write("changed.proof", &bytes);
    nobody
        .run(["feed", "conflicts", "--check", changed.to_str().unwrap()])
        .exits(5);
}

#[test]
fn an_own_plain_feed_is_cut_and_others_are_not() {
    let home = Home::init("cutter");
    let created = home.json_one(["feed", "create", "--plain"]);
    let key = created["key"].as_str().unwrap();
    home.run_with(["feed", "append", key], b"one\ntwo\nthree\nfour\n")
        .ok();
    let cut = home.json_one(["feed", "truncate", key, "--length", "2"]);
    assert_eq!(
        (cut["length"].as_u64(), cut["fork"].as_u64()),
        (Some(2), Some(1))
    );
    home.run_with(["feed", "append", key], b"other\n").ok();
    assert_eq!(
        home.run(["feed", "read", key]).ok().text(),
        "one\ntwo\nother\n"
    );
    home.run(["feed", "truncate", key, "--length", "9"])
        .exits(2);

    home.append("/notes", "one\ntwo\n");
    let refused = home.run(["feed", "truncate", "/notes", "--length", "1"]);
    let refused = refused.exits(2);
    let said = &refused.stderr;
    assert!(said.contains("plain"), "{said}");
    assert_eq!(
        home.run(["feed", "read", "/notes"]).ok().text(),
        "one\ntwo\n"
    );
}
