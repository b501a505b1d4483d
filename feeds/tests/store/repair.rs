//! Repair: whatever is damaged, what holds is kept, nothing else is, and what is gone is named.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{
    Feed, FileDisk, Kind, MemoryDisk, OpenError, Options, RepairError, RepairReport, Role, Store,
    repair, repair_folder, survey,
};
use kinlog_feeds::{FeedKey, KeyPair};
use testkit::process::Folder;

use crate::support::{
    AsDisk, block, block_item, blocks, follower, open, own_feed, small, upgrade_item, writer,
};

type Files = BTreeMap<String, Vec<u8>>;

/// What the store of these tests holds.
struct Stored {
    files: Files,
    own: FeedKey,
    own_length: u64,
    followed: FeedKey,
    followed_blocks: Vec<u64>,
    cleared: std::ops::Range<u64>,
}

/// A store of several segments: an own feed with a cleared range, a followed one held in part, one
/// that was dropped.
fn stored() -> Stored {
    let elsewhere = open(&MemoryDisk::new());
    let author = KeyPair::from_seed(&[2; 32]);
    let source = own_feed(&elsewhere, &author);
    source.append_batch(&author, &blocks(0..30)).unwrap();

    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    let following = follower(&store, &source);
    following.apply(&[upgrade_item(&source, 0)]).unwrap();
    let third = KeyPair::from_seed(&[3; 32]);
    let dropped = own_feed(&store, &third);
    dropped.append_batch(&third, &blocks(0..4)).unwrap();
    let mut followed_blocks = Vec::new();
    for step in 0..18 {
        let length = feed.head().length;
        feed.append_batch(&writer(), &blocks(length..length + 1 + step % 3))
            .unwrap();
        let fill = step * 3 % 30;
        if step % 2 == 0 && !following.has(fill) {
            following.apply(&[block_item(&source, fill)]).unwrap();
            followed_blocks.push(fill);
        }
    }
    store.drop_feed(&dropped.key()).unwrap();
    feed.clear(4..7).unwrap();
    let length = feed.head().length;
    feed.append_batch(&writer(), &blocks(length..length + 2))
        .unwrap();
    let (own, own_length, followed) = (feed.key(), feed.head().length, following.key());
    store.close().unwrap();
    Stored {
        files: disk.to_files(),
        own,
        own_length,
        followed,
        followed_blocks,
        cleared: 4..7,
    }
}

/// Repairs a store of these files; returns what is said and what is left.
fn repaired(files: &Files) -> Result<(RepairReport, Store), RepairError> {
    let (old, new) = (MemoryDisk::from_files(files.clone()), MemoryDisk::new());
    let options = || Options::new([9; 16]).segments(16 * 1024, 4 * 1024);
    let report = repair(old.as_disk(), new.as_disk(), options())?;
    assert_eq!(
        old.to_files()
            .iter()
            .filter(|(name, _)| *name != "lock")
            .collect::<Vec<_>>(),
        files
            .iter()
            .filter(|(name, _)| *name != "lock")
            .collect::<Vec<_>>()
    );
    let store = Store::open(new.as_disk(), options()).unwrap();
    Ok((report, store))
}

/// Asserts that what a repaired store holds is right, and that the report tells what it does not.
fn assert_honest(stored: &Stored, report: &RepairReport, store: &Store, case: &str) {
    for feed in store.feeds() {
        assert_eq!(feed.verify().unwrap().problems, vec![], "{case}");
        for index in 0..feed.head().length {
            if let Some(value) = feed.get(index).unwrap() {
                assert_eq!(value, block(index), "{case}: block {index}");
                // Held means that it can be served.
                let levels = crate::support::levels_to_root(&feed, index);
                feed.prove(&crate::support::block_request(index, levels))
                    .unwrap_or_else(|error| panic!("{case}: block {index}: {error}"));
            }
        }
    }
    let told = |key: FeedKey| report.feeds.iter().find(|feed| feed.key == key);
    let Some(own) = told(stored.own) else {
        assert!(
            report.feeds_without_name > 0 || !report.gaps.is_empty(),
            "{case}"
        );
        return;
    };
    let feed = store.feed(&stored.own).unwrap();
    assert_eq!(
        (own.role, own.length),
        (Role::Own, feed.head().length),
        "{case}"
    );
    assert!(
        own.length == stored.own_length || own.is_unconfirmed,
        "{case}: an own feed that lost its newest head has to say so"
    );
    for index in 0..own.length_seen {
        let lost = own.lost.iter().any(|range| range.contains(&index));
        let cleared = stored.cleared.contains(&index);
        assert!(
            feed.has(index) || lost || cleared,
            "{case}: block {index} is gone and nobody says so"
        );
        assert!(
            !(feed.has(index) && lost),
            "{case}: block {index} is not lost"
        );
    }
}

#[test]
fn a_sound_store_is_copied_whole() {
    let stored = stored();
    let (report, store) = repaired(&stored.files).unwrap();
    assert!(!report.is_loss(), "{report:?}");
    assert_eq!(report.feeds.len(), 2);
    // Whether the end of the log is its end, the log itself does not know.
    let unconfirmed = report.feeds.iter().filter(|feed| feed.is_unconfirmed);
    assert_eq!(
        unconfirmed.map(|feed| feed.key).collect::<Vec<_>>(),
        [stored.own]
    );
    let before = open(&MemoryDisk::from_files(stored.files.clone()));
    for key in [stored.own, stored.followed] {
        let (old, new) = (before.feed(&key).unwrap(), store.feed(&key).unwrap());
        assert_eq!(old.info(), new.info());
        assert_eq!(old.signed_head(), new.signed_head());
        assert_eq!(old.have(), new.have());
    }
    assert_honest(&stored, &report, &store, "sound");
    let followed = store.feed(&stored.followed).unwrap();
    for index in &stored.followed_blocks {
        assert_eq!(followed.get(*index).unwrap(), Some(block(*index)));
    }
    // It goes on.
    let feed = store.feed(&stored.own).unwrap();
    feed.append_batch(&writer(), &blocks(stored.own_length..stored.own_length + 3))
        .unwrap();
    assert_eq!(feed.verify().unwrap().problems, vec![]);
}

/// Damages a store in one way after the other; returns how many were repaired, and how many of
/// those kept the own feed's full length.
fn sweep(stored: &Stored, damage: impl Iterator<Item = (String, Files)>) -> (u32, u32) {
    let (mut cases, mut full) = (0, 0);
    for (case, files) in damage {
        match repaired(&files) {
            Ok((report, store)) => {
                assert_honest(stored, &report, &store, &case);
                cases += 1;
                let own = report.feeds.iter().find(|feed| feed.key == stored.own);
                full += u32::from(own.is_some_and(|own| own.length == stored.own_length));
            }
            Err(RepairError::NoStore) => {}
            Err(error) => panic!("{case}: {error}"),
        }
    }
    (cases, full)
}

fn logs(files: &Files) -> impl Iterator<Item = (&String, &Vec<u8>)> {
    files.iter().filter(|(name, _)| name.starts_with("log-"))
}

#[test]
fn a_flipped_bit_anywhere_costs_no_more_than_its_record() {
    let stored = stored();
    let flips = logs(&stored.files).flat_map(|(name, bytes)| {
        let stored = &stored;
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        (0..written).step_by(61).map(move |at| {
            let mut files = stored.files.clone();
            files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
            (format!("{name} byte {at}"), files)
        })
    });
    let (cases, full) = sweep(&stored, flips);
    assert!(cases > 300, "{cases}");
    // Nearly every flip leaves the newest head reachable.
    assert!(full * 10 > cases * 8, "{full} of {cases}");
}

#[test]
fn a_lost_sector_or_segment_or_end_is_survived() {
    let stored = stored();
    let sectors = logs(&stored.files).flat_map(|(name, bytes)| {
        let stored = &stored;
        (0..bytes.len()).step_by(4096).map(move |at| {
            let mut files = stored.files.clone();
            let bytes = files.get_mut(name).unwrap();
            let end = bytes.len().min(at + 4096);
            bytes[at..end].fill(0);
            (format!("{name} sector at {at}"), files)
        })
    });
    let (cases, _) = sweep(&stored, sectors);
    assert!(cases > 8, "{cases}");
    let missing = logs(&stored.files).map(|(name, _)| {
        let mut files = stored.files.clone();
        files.remove(name);
        (format!("without {name}"), files)
    });
    sweep(&stored, missing);
    let cut = logs(&stored.files).flat_map(|(name, bytes)| {
        let stored = &stored;
        (0..bytes.len()).step_by(997).map(move |length| {
            let mut files = stored.files.clone();
            files.get_mut(name).unwrap().truncate(length);
            (format!("{name} cut to {length}"), files)
        })
    });
    sweep(&stored, cut);
}

/// Flips a bit in the head part of record number `nth` of this kind; returns its place.
fn damage_record(files: &mut Files, kind: u8, nth: usize) -> (u32, u32) {
    let start = [b'K', b'L', b'R', b'C', 1, kind];
    let mut places = Vec::new();
    for (segment, (name, bytes)) in logs(files).enumerate() {
        let found = bytes.windows(6).enumerate();
        let found = found.filter(|(_, bytes)| **bytes == start);
        places.extend(found.map(|(at, _)| (segment as u32, name.clone(), at)));
    }
    let (segment, name, at) = places[nth].clone();
    files.get_mut(&name).unwrap()[at + 24] ^= 1;
    (segment, at as u32)
}

#[test]
fn blocks_whose_bytes_were_given_back_stay_so_when_the_record_of_it_is_lost() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    let large = |number: u8| Bytes::from(vec![number; 9000]);
    let all: Vec<Bytes> = (0..6).map(large).collect();
    feed.append_batch(&writer(), &all).unwrap();
    feed.clear(3..4).unwrap();
    feed.append_batch(&writer(), &[large(6)]).unwrap();
    drop(store);
    let mut files = disk.to_files();
    damage_record(&mut files, 4, 0);
    assert!(Store::open(MemoryDisk::from_files(files.clone()).as_disk(), small()).is_err());
    let (report, store) = repaired(&files).unwrap();
    let feed = store.feed(&feed.key()).unwrap();
    assert!(feed.get(3).unwrap().is_none());
    assert!(feed.get(2).unwrap() == Some(large(2)));
    assert_eq!(feed.verify().unwrap().problems, vec![]);
    let lost = &report.feeds[0].lost;
    assert_eq!((lost.len(), &lost[0]), (1, &(3..4)));
    assert_eq!(report.gaps.len(), 1);
    assert_eq!(report.gaps[0].records, Some(1));
}

#[test]
fn a_survey_names_the_gaps_and_writes_nothing() {
    let stored = stored();
    assert_eq!(
        survey(MemoryDisk::from_files(stored.files.clone()).as_disk()).unwrap(),
        []
    );
    let mut files = stored.files.clone();
    let (segment, offset) = damage_record(&mut files, 2, 3);
    let disk = MemoryDisk::from_files(files.clone());
    let gaps = survey(disk.as_disk()).unwrap();
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        (gaps[0].place.segment, gaps[0].place.offset),
        (segment, offset)
    );
    assert_eq!(gaps[0].records, Some(1));
    assert_eq!(disk.to_files()["log-00000000"], files["log-00000000"]);
}

#[test]
fn a_store_in_use_is_not_repaired() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let into = MemoryDisk::new();
    let refused = repair(disk.as_disk(), into.as_disk(), small());
    assert!(matches!(
        refused,
        Err(RepairError::Open(OpenError::Locked { .. }))
    ));
    assert!(into.to_files().is_empty());
    drop(store);
}

#[test]
fn a_feed_that_was_truncated_comes_through() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let manifest = Manifest::single(writer().public_key());
    let feed = store
        .create_feed(&manifest, Role::Own, Kind::Plain)
        .unwrap();
    for start in 0..12 {
        feed.append_batch(&writer(), &blocks(2 * start..2 * start + 2))
            .unwrap();
    }
    feed.truncate(&writer(), 13).unwrap();
    let other: Vec<Bytes> = (0..4).map(|at| vec![at; 30].into()).collect();
    feed.append_batch(&writer(), &other).unwrap();
    let (key, info, signed) = (feed.key(), feed.info(), feed.signed_head());
    store.close().unwrap();
    let files = disk.to_files();
    let (report, store) = repaired(&files).unwrap();
    assert!(!report.is_loss(), "{report:?}");
    let copy = store.feed(&key).unwrap();
    assert_eq!((copy.info(), copy.signed_head()), (info, signed));
    assert_eq!(copy.verify().unwrap().problems, []);
    assert_eq!(copy.get(13).unwrap(), Some(other[0].clone()));

    for (name, bytes) in logs(&files) {
        for at in (0..bytes.len()).step_by(53) {
            let mut files = files.clone();
            files.get_mut(name).unwrap()[at] ^= 1;
            let Ok((_, store)) = repaired(&files) else {
                continue;
            };
            for feed in store.feeds() {
                assert_eq!(feed.verify().unwrap().problems, [], "{name} byte {at}");
            }
        }
    }
}

#[test]
fn a_compacted_store_comes_through() {
    let elsewhere = open(&MemoryDisk::new());
    let author = KeyPair::from_seed(&[2; 32]);
    let source = own_feed(&elsewhere, &author);
    source.append_batch(&author, &blocks(0..3)).unwrap();
    let disk = MemoryDisk::new();
    let store = open(&disk);
    // Its head and nodes stand in the first segment, which goes.
    let early = follower(&store, &source);
    early.apply(&[upgrade_item(&source, 0)]).unwrap();
    early.apply(&[block_item(&source, 1)]).unwrap();
    let feed = own_feed(&store, &writer());
    for start in 0..40 {
        feed.append_batch(&writer(), &blocks(3 * start..3 * start + 3))
            .unwrap();
    }
    feed.clear(5..100).unwrap();
    let compacted = store.compact().unwrap();
    assert!(compacted.segments > 0, "{compacted:?}");
    feed.append_batch(&writer(), &blocks(120..121)).unwrap();
    let before: Vec<_> = store
        .feeds()
        .iter()
        .map(|feed| (feed.info(), feed.signed_head(), feed.have()))
        .collect();
    store.close().unwrap();
    let mut files = disk.to_files();
    files.remove("index");
    let (report, store) = repaired(&files).unwrap();
    assert!(!report.is_loss(), "{report:?}");
    let after: Vec<_> = store
        .feeds()
        .iter()
        .map(|feed| {
            assert_eq!(feed.verify().unwrap().problems, []);
            (feed.info(), feed.signed_head(), feed.have())
        })
        .collect();
    assert_eq!(before, after);
}

fn write_files(folder: &Path, files: &Files) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

fn open_folder(folder: &Path) -> Result<Store, OpenError> {
    Store::open(Arc::new(FileDisk::new(folder).unwrap()), small())
}

#[test]
fn a_folder_is_repaired_in_its_place_and_the_old_one_kept() {
    let stored = stored();
    let root = Folder::new("repair");
    let folder = root.join("store");
    let mut damaged = stored.files.clone();
    damage_record(&mut damaged, 2, 2);
    // With it, opening would not look at what is older than the last checkpoint.
    damaged.remove("index");
    write_files(&folder, &damaged);
    assert!(open_folder(&folder).is_err());

    // What a crash left of an earlier repair: once before the folders changed places, ...
    let beside = root.join("store.repairing");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("unfinished"), b"").unwrap();
    std::fs::write(beside.join("log-00000000"), b"half").unwrap();
    let done = repair_folder(&folder, small()).unwrap();
    assert_eq!(done.damaged, root.join("store.damaged-1"));
    assert!(!beside.exists());
    assert_eq!(
        std::fs::read(done.damaged.join("log-00000000")).unwrap(),
        damaged["log-00000000"]
    );
    let store = open_folder(&folder).unwrap();
    assert_honest(&stored, &done.report, &store, "folder");
    drop(store);

    // ... and once behind it: what stands there is an old store, and is kept.
    write_files(&beside, &damaged);
    let again = repair_folder(&folder, small()).unwrap();
    assert_eq!(again.damaged, root.join("store.damaged-3"));
    assert!(root.join("store.damaged-2").exists());
    assert!(!again.report.is_loss() || again.report.gaps.is_empty());
    let store = open_folder(&folder).unwrap();
    let feed: Feed = store.feed(&stored.own).unwrap();
    assert_eq!(feed.kind(), Kind::Kinlog);
}
