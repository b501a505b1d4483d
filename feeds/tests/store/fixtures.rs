//! Stores that earlier builds wrote, whole and damaged: every later build opens them and finds in
//! them what their `expected.json` lists.
//!
//! `fixtures/<version>/` is never changed. A format that changes gets a folder of its own:
//! `KINLOG_FIXTURES=<version> cargo nextest run -p kinlog-feeds --run-ignored only writes_fixtures`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kinlog_feeds::crypto::blake2b_256;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Feed, Kind, MemoryDisk, OpenError, Options, ReadError, Role, Store};
use kinlog_feeds::{FeedKey, KeyPair};
use serde_json::{Value, json};

use crate::support::*;

type Files = BTreeMap<String, Vec<u8>>;

/// Where the name and what is expected of each store of a version stand.
const EXPECTED: &str = "expected.json";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/fixtures")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_folder(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Says what a feed holds, in the words of `expected.json`.
fn told(feed: &Feed) -> Value {
    let signed = feed.signed_head();
    let mut held = serde_json::Map::new();
    let mut damaged = Vec::new();
    for index in feed.have().runs(0..feed.head().length).flatten() {
        match feed.get(index) {
            Ok(Some(value)) => {
                held.insert(index.to_string(), hex(&blake2b_256(&[&value])).into());
            }
            Ok(None) => panic!("block {index} is said to be held"),
            Err(ReadError::Damaged { block, .. }) => damaged.push(block),
            Err(error) => panic!("{error:?}"),
        }
    }
    let mut told = json!({
        "key": hex(&feed.key().0),
        "role": format!("{:?}", feed.role()),
        "kind": format!("{:?}", feed.kind()),
        "manifest": feed.manifest().map(|manifest| hex(&manifest.encode())),
        "fork": feed.head().fork,
        "length": feed.head().length,
        "byte_length": feed.head().byte_length,
        "tree_hash": signed.as_ref().map(|signed| hex(&signed.tree_hash.0)),
        "signature": signed.as_ref().map(|signed| hex(&signed.signature)),
        "blocks": held,
        "damaged": damaged,
    });
    // Versions before there were conflicts say nothing of them.
    if let Some(conflict) = feed.conflict().unwrap() {
        told["conflict"] = hex(&conflict.encode()).into();
    }
    told
}

/// Opens a store and says what is in it, in the words of `expected.json`.
fn found(files: &Files) -> Value {
    match Store::open(disk_of(files).as_disk(), Options::new([0; 16])) {
        Ok(store) => json!({
            "tail_dropped": store.open_report().tail_dropped.is_some(),
            "feeds": store.feeds().iter().map(told).collect::<Vec<_>>(),
        }),
        Err(OpenError::Store(error)) => {
            let source = std::error::Error::source(&error).unwrap();
            json!({ "error": format!("{error}: {source}") })
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn load(folder: &Path) -> Files {
    read_folder(folder)
        .iter()
        .map(|path| (name(path), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn stores_of_every_earlier_version_hold_what_they_held() {
    let mut stores = 0;
    for version in read_folder(&folder()) {
        let expected = fs::read_to_string(version.join(EXPECTED)).unwrap();
        let expected: BTreeMap<String, Value> = serde_json::from_str(&expected).unwrap();
        let names: Vec<_> = read_folder(&version)
            .iter()
            .map(|path| name(path))
            .collect();
        let stored = names.iter().filter(|name| *name != EXPECTED);
        assert!(
            stored.eq(expected.keys()),
            "{version:?}: {names:?} are listed"
        );
        for (name, expected) in expected {
            let files = load(&version.join(&name));
            assert_eq!(found(&files), expected, "{version:?} {name}");
            stores += 1;
        }
    }
    assert!(stores >= 6, "{stores} stores");
}

#[test]
fn feeds_of_every_earlier_version_go_on() {
    for version in read_folder(&folder()) {
        for name in ["whole", "unclean", "torn-tail"] {
            let disk = disk_of(&load(&version.join(name)));
            let store = Store::open(disk.as_disk(), Options::new([0; 16])).unwrap();
            let own = |store: &Store| {
                let mut feeds = store.feeds().into_iter();
                feeds.find(|feed| feed.role() == Role::Own).unwrap()
            };
            let length = own(&store).head().length;
            own(&store)
                .append_batch(&writer(), &blocks(length..length + 3))
                .unwrap();
            let before: Vec<_> = store.feeds().iter().map(told).collect();
            store.close().unwrap();
            let store = Store::open(disk.as_disk(), Options::new([0; 16])).unwrap();
            let after: Vec<_> = store.feeds().iter().map(told).collect();
            assert_eq!(before, after, "{version:?} {name}");
            assert_eq!(own(&store).head().length, length + 3);
            assert_eq!(
                own(&store).get(length + 1).unwrap(),
                Some(block(length + 1))
            );
        }
    }
}

/// Makes the stores of this build's version.
fn stores() -> BTreeMap<&'static str, Files> {
    let whole = written(20 * 1024, true);
    let unclean = written(20 * 1024, false);
    let mut without_index = whole.clone();
    without_index.remove("index").unwrap();
    let mut torn_tail = unclean.clone();
    let last = torn_tail
        .iter_mut()
        .rfind(|(name, _)| name.starts_with("log-"))
        .unwrap();
    let end = last.1.iter().rposition(|byte| *byte != 0).unwrap();
    last.1.truncate(end - 40);
    let mut flipped_payload = whole.clone();
    let (log, at) = flipped_payload
        .values_mut()
        .find_map(|log| {
            let payload = block(10);
            let at = log.windows(payload.len()).position(|part| part == payload);
            at.map(|at| (log, at))
        })
        .unwrap();
    log[at + 50] ^= 4;
    let mut flipped_head = written(u64::MAX, false);
    // Compaction makes a checkpoint, from which on nothing would be read of what is flipped.
    flipped_head.remove("index");
    let (_, log) = flipped_head
        .iter_mut()
        .find(|(name, _)| name.starts_with("log-"))
        .unwrap();
    let records: Vec<_> = (0..log.len())
        .filter(|at| log[*at..].starts_with(b"KLRC"))
        .collect();
    log[records[2] + 60] ^= 4;
    BTreeMap::from([
        ("whole", whole),
        ("unclean", unclean),
        ("without-index", without_index),
        ("torn-tail", torn_tail),
        ("flipped-payload", flipped_payload),
        ("flipped-head", flipped_head),
    ])
}

/// Writes a store with feeds of every role and kind, fills, a clear, a dropped feed.
fn written(checkpoint_bytes: u64, clean: bool) -> Files {
    let other = open(&MemoryDisk::new());
    let source_writer = KeyPair::from_seed(&[2; 32]);
    let source = own_feed(&other, &source_writer);
    source.append_batch(&source_writer, &blocks(0..16)).unwrap();
    let disk = MemoryDisk::new();
    let options = Options::new([7; 16])
        .segments(8 * 1024, 512)
        .without_keeper()
        .checkpoint_every(checkpoint_bytes);
    let store = Store::open(disk.as_disk(), options).unwrap();
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..7)).unwrap();
    let following = follower(&store, &source);
    following
        .apply(&[upgrade_item(&source, 0), block_item(&source, 2)])
        .unwrap();
    let plain_writer = KeyPair::from_seed(&[3; 32]);
    let plain = store
        .create_with_key(
            FeedKey(plain_writer.public_key().0),
            &Manifest::compat(plain_writer.public_key()),
            Role::Own,
            Kind::Plain,
        )
        .unwrap();
    plain.append_batch(&plain_writer, &blocks(10..13)).unwrap();
    let dropped = store
        .create_feed(
            &Manifest::single(KeyPair::from_seed(&[4; 32]).public_key()),
            Role::Own,
            Kind::Kinlog,
        )
        .unwrap();
    store.drop_feed(&dropped.key()).unwrap();
    plain.truncate(&plain_writer, 2).unwrap();
    plain.append_batch(&plain_writer, &blocks(20..22)).unwrap();
    stop(&store, &KeyPair::from_seed(&[5; 32]));
    store
        .create_unknown(FeedKey([9; 32]), Role::Seeded, Kind::Kinlog)
        .unwrap();
    following
        .apply(&[block_item(&source, 3), block_item(&source, 10)])
        .unwrap();
    feed.append_batch(&writer(), &blocks(7..14)).unwrap();
    feed.clear(2..4).unwrap();
    feed.append_batch(&writer(), &blocks(14..20)).unwrap();
    let short_lived = KeyPair::from_seed(&[6; 32]);
    let dead = own_feed(&store, &short_lived);
    for _ in 0..5 {
        dead.append_batch(&short_lived, &[block(3)]).unwrap();
    }
    store.drop_feed(&dead.key()).unwrap();
    assert!(store.compact().unwrap().segments > 0, "records are moved");
    feed.append_batch(&writer(), &blocks(20..22)).unwrap();
    if clean {
        store.close().unwrap();
    }
    drop((feed, following, plain, dropped, dead, store));
    disk.to_files()
}

/// Adds a feed whose writer shows two histories.
fn stop(store: &Store, writer: &KeyPair) {
    let feed = own_feed(store, writer);
    feed.append_batch(writer, &blocks(0..2)).unwrap();
    let other = open(&MemoryDisk::new());
    let other = own_feed(&other, writer);
    other.append_batch(writer, &blocks(1..3)).unwrap();
    feed.apply(&[upgrade_item(&other, 0)]).unwrap();
    assert!(feed.is_stopped());
}

#[test]
#[ignore = "writes a new version's folder, named by KINLOG_FIXTURES"]
fn writes_fixtures() {
    let version = std::env::var("KINLOG_FIXTURES").unwrap();
    let folder = folder().join(version);
    assert!(!folder.exists(), "{folder:?} is there: give another name");
    let mut expected = BTreeMap::new();
    for (name, files) in stores() {
        fs::create_dir_all(folder.join(name)).unwrap();
        for (file, content) in &files {
            fs::write(folder.join(name).join(file), content).unwrap();
        }
        expected.insert(name, found(&files));
    }
    let text = serde_json::to_string_pretty(&expected).unwrap();
    fs::write(folder.join(EXPECTED), text + "\n").unwrap();
}
