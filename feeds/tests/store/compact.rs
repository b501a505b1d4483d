//! Space that nothing needs is given back, and nothing else is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{DamageKind, Feed, Kind, MemoryDisk, OpenError, Role, Store, StoreError};

use crate::support::*;

fn segments(disk: &MemoryDisk) -> Vec<String> {
    let mut names: Vec<String> = disk.to_files().into_keys().collect();
    names.retain(|name| name.starts_with("log-"));
    names
}

fn log_bytes(disk: &MemoryDisk) -> usize {
    let files = disk.to_files().into_iter();
    files
        .filter(|(name, _)| name.starts_with("log-"))
        .map(|(_, bytes)| bytes.len())
        .sum()
}

/// A store of several segments: an own feed, and a follower's with every third block.
fn filled(disk: &MemoryDisk) -> (Store, Feed, Feed) {
    let store = open(disk);
    let feed = own_feed(&store, &writer());
    for start in (0..200).step_by(5) {
        feed.append_batch(&writer(), &blocks(start..start + 5))
            .unwrap();
    }
    let elsewhere = open(&MemoryDisk::new());
    let other = kinlog_feeds::KeyPair::from_seed(&[5; 32]);
    let source = own_feed(&elsewhere, &other);
    source.append_batch(&other, &blocks(0..120)).unwrap();
    let following = follower(&store, &source);
    assert!(following.apply(&[upgrade_item(&source, 0)]).unwrap()[0].is_ok());
    for index in (0..120).step_by(3) {
        let item = block_item(&source, index);
        assert!(following.apply(&[item]).unwrap()[0].is_ok());
    }
    assert!(segments(disk).len() > 8, "{:?}", segments(disk));
    (store, feed, following)
}

/// Asserts what [`filled`] and a clear of all but every tenth own block leave.
fn assert_left(store: &Store, own: &Feed, following: &Feed) {
    for index in 0..200 {
        let expected = (index % 10 == 9).then(|| block(index));
        assert_eq!(own.get(index).unwrap(), expected, "block {index}");
    }
    for index in 0..120 {
        let expected = (index % 3 == 0).then(|| block(index));
        assert_eq!(following.get(index).unwrap(), expected, "block {index}");
    }
    for feed in store.feeds() {
        assert_eq!(feed.verify().unwrap().problems, vec![]);
        for index in feed.have().runs(0..200).flatten() {
            block_proof(&feed, index);
        }
    }
}

fn clear_most(own: &Feed) {
    for start in (0..200).step_by(10) {
        own.clear(start..start + 9).unwrap();
    }
}

#[test]
fn what_was_cleared_is_given_back_and_the_rest_stays() {
    let disk = MemoryDisk::new();
    let (store, own, following) = filled(&disk);
    clear_most(&own);
    let before = log_bytes(&disk);
    let report = store.compact().unwrap();
    assert!(report.segments > 0 && report.kept == 0, "{report:?}");
    assert!(report.bytes_moved < report.bytes_before, "{report:?}");
    assert!(log_bytes(&disk) < before * 3 / 4, "{before} bytes before");
    let stat = store.stat().unwrap();
    assert_eq!(stat.segments as usize, segments(&disk).len());
    assert!(stat.log_bytes as usize <= log_bytes(&disk), "{stat:?}");
    assert!(stat.dead_bytes * 8 < stat.log_bytes, "{stat:?}");
    assert_left(&store, &own, &following);
    assert_eq!(
        store.compact().unwrap().segments,
        0,
        "nothing is left to do"
    );
    own.append_batch(&writer(), &blocks(200..205)).unwrap();
    assert_eq!(own.get(203).unwrap(), Some(block(203)));
}

#[test]
fn a_compacted_store_opens_with_its_index_and_without() {
    for (clean, keep_index) in [(true, true), (true, false), (false, true), (false, false)] {
        let disk = MemoryDisk::new();
        let (store, own, following) = filled(&disk);
        clear_most(&own);
        store.compact().unwrap();
        let heads = [own.signed_head(), following.signed_head()];
        let keys = [own.key(), following.key()];
        if clean {
            store.close().unwrap();
        }
        let mut files = disk.to_files();
        if !keep_index {
            files.remove("index");
        }
        let store = open(&disk_of(&files));
        assert_eq!(store.open_report().tail_dropped, None);
        assert_eq!(store.open_report().index_rebuilt, !keep_index);
        let [own, following] = keys.map(|key| store.feed(&key).unwrap());
        assert_eq!([own.signed_head(), following.signed_head()], heads);
        assert_left(&store, &own, &following);
        let appended = own.append_batch(&writer(), &blocks(200..201)).unwrap();
        assert_eq!(appended.start, 200);
    }
}

#[test]
fn a_dropped_feed_gives_its_space_back_and_never_comes_again() {
    let disk = MemoryDisk::new();
    let (store, own, following) = filled(&disk);
    let key = own.key();
    assert!(store.drop_feed(&key).unwrap());
    let before = log_bytes(&disk);
    assert!(store.compact().unwrap().segments > 0);
    assert!(log_bytes(&disk) < before / 2);
    let length = following.head().length;
    drop((own, following));
    store.close().unwrap();
    let mut files = disk.to_files();
    files.remove("index");
    let store = open(&disk_of(&files));
    assert!(store.feed(&key).is_none());
    assert_eq!(store.feeds().len(), 1);
    assert_eq!(store.feeds()[0].head().length, length);
    assert_eq!(store.feeds()[0].verify().unwrap().problems, vec![]);
    let again = own_feed(&store, &writer());
    assert_eq!(again.head().length, 0, "the same key begins anew");
    again.append_batch(&writer(), &blocks(0..3)).unwrap();
    assert_holds(&again, 3);
}

#[test]
fn what_came_back_after_a_clear_survives_the_record_of_the_clear() {
    let disk = MemoryDisk::new();
    let elsewhere = open(&MemoryDisk::new());
    let source = own_feed(&elsewhere, &writer());
    source.append_batch(&writer(), &blocks(0..60)).unwrap();
    let store = open(&disk);
    let feed = follower(&store, &source);
    assert!(feed.apply(&[upgrade_item(&source, 0)]).unwrap()[0].is_ok());
    let fetch = |index| {
        assert!(feed.apply(&[block_item(&source, index)]).unwrap()[0].is_ok());
    };
    (0..60).for_each(fetch);
    feed.clear(0..60).unwrap();
    (0..20).for_each(fetch);
    feed.clear(3..5).unwrap();
    while store.compact().unwrap().segments > 0 {
        feed.clear(59..60).unwrap();
    }
    drop(feed);
    store.close().unwrap();
    let mut files = disk.to_files();
    files.remove("index");
    let store = open(&disk_of(&files));
    let feed = store.feed(&source.key()).unwrap();
    for index in 0..60 {
        let held = index < 20 && !(3..5).contains(&index);
        assert_eq!(feed.get(index).unwrap(), held.then(|| block(index)));
    }
    assert_eq!(feed.verify().unwrap().problems, vec![]);
}

#[test]
fn what_was_cut_off_a_plain_feed_never_comes_again() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let manifest = Manifest::single(writer().public_key());
    let plain = store
        .create_feed(&manifest, Role::Own, Kind::Plain)
        .unwrap();
    let other = own_feed(&store, &kinlog_feeds::KeyPair::from_seed(&[5; 32]));
    let pad = |blocks_: std::ops::Range<u64>| {
        other
            .append_batch(
                &kinlog_feeds::KeyPair::from_seed(&[5; 32]),
                &blocks(blocks_),
            )
            .unwrap()
    };
    // What is cut off, the cut, and what follows it stand in segments of their own.
    plain.append_batch(&writer(), &blocks(0..60)).unwrap();
    pad(0..80);
    plain.truncate(&writer(), 20).unwrap();
    pad(80..160);
    plain.append_batch(&writer(), &blocks(100..110)).unwrap();
    pad(160..240);
    other.clear(0..240).unwrap();
    let mut removed = 0;
    loop {
        let report = store.compact().unwrap();
        removed += report.segments;
        if report.segments == 0 {
            break;
        }
    }
    assert!(removed > 0);
    let head = plain.signed_head();
    assert_eq!(plain.head().length, 30);
    let key = plain.key();
    drop((plain, other));
    store.close().unwrap();
    for keep_index in [true, false] {
        let mut files = disk.to_files();
        if !keep_index {
            files.remove("index");
        }
        let store = open(&disk_of(&files));
        let plain = store.feed(&key).unwrap();
        assert_eq!(plain.signed_head(), head, "index {keep_index}");
        for index in 0..30 {
            let written = if index < 20 { index } else { index + 80 };
            assert_eq!(plain.get(index).unwrap(), Some(block(written)), "{index}");
        }
        assert!((30..60).all(|index| !plain.has(index)));
        assert_eq!(plain.info().blocks_held, 30);
        assert_eq!(plain.verify().unwrap().problems, vec![]);
    }
}

#[test]
fn readers_and_writers_go_on_while_segments_are_emptied() {
    let disk = MemoryDisk::new();
    let (store, own, following) = filled(&disk);
    let done = AtomicBool::new(false);
    /// Ends the reader also when the test fails.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    thread::scope(|scope| {
        let ended = Done(&done);
        let reading = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Acquire) || rounds == 0 {
                for index in (9..200).step_by(10) {
                    assert_eq!(own.get(index).unwrap(), Some(block(index)));
                }
                for index in (0..120).step_by(3) {
                    assert_eq!(following.get(index).unwrap(), Some(block(index)));
                    block_proof(&following, index);
                }
                rounds += 1;
            }
        });
        let writing = scope.spawn(|| {
            for index in 200..260 {
                own.append_batch(&writer(), &blocks(index..index + 1))
                    .unwrap();
            }
        });
        clear_most(&own);
        assert!(store.compact().unwrap().segments > 0);
        writing.join().unwrap();
        store.compact().unwrap();
        drop(ended);
        reading.join().unwrap();
    });
    for index in 200..260 {
        assert_eq!(own.get(index).unwrap(), Some(block(index)));
    }
    assert_eq!(own.verify().unwrap().problems, vec![]);
}

#[test]
fn a_segment_that_compaction_did_not_take_is_missed() {
    let disk = MemoryDisk::new();
    let (store, own, _) = filled(&disk);
    clear_most(&own);
    store.compact().unwrap();
    drop(own);
    store.close().unwrap();
    let names = segments(&disk);
    for name in &names {
        for keep_index in [true, false] {
            let mut files = disk.to_files();
            files.remove(name);
            if !keep_index {
                files.remove("index");
            }
            let opened = try_open(&disk_of(&files));
            let Err(OpenError::Store(StoreError::Damaged(damage))) = opened else {
                panic!("{name} is not missed, index {keep_index}: {opened:?}");
            };
            assert!(
                matches!(
                    damage.what,
                    DamageKind::SegmentMissing | DamageKind::SyncedRecord
                ),
                "{name}: {damage}"
            );
        }
    }
}
