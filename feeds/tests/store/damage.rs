//! Bytes that change on the disk: an error that says so, or the same content. Never other bytes.

use std::collections::BTreeMap;

use kinlog_feeds::store::{
    DamageKind, MemoryDisk, OpenError, Options, ReadError, Store, StoreError,
};
use testkit::random::Random;

use crate::support::*;

const LENGTH: u64 = 9;

fn options() -> Options {
    Options::new([7; 16]).segments(2 * 1024, 1024)
}

/// A small store with an own and a followed feed; several segments.
fn files(clean: bool) -> BTreeMap<String, Vec<u8>> {
    let other = open(&MemoryDisk::new());
    let source_writer = kinlog_feeds::KeyPair::from_seed(&[2; 32]);
    let source = own_feed(&other, &source_writer);
    source.append_batch(&source_writer, &blocks(0..8)).unwrap();
    let disk = MemoryDisk::new();
    let store = Store::open(disk.as_disk(), options()).unwrap();
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..5)).unwrap();
    feed.append_batch(&writer(), &blocks(5..LENGTH)).unwrap();
    let following = follower(&store, &source);
    following
        .apply(&[upgrade_item(&source, 0), block_item(&source, 2)])
        .unwrap();
    following
        .apply(&[block_item(&source, 4), block_item(&source, 5)])
        .unwrap();
    if clean {
        store.close().unwrap();
    }
    drop((feed, following, store));
    disk.to_files()
}

/// Opens a store of altered files and asserts that it errs, or holds what it says and says so.
fn assert_never_wrong(files: &BTreeMap<String, Vec<u8>>, what: &str) {
    let store = match Store::open(disk_of(files).as_disk(), options()) {
        Ok(store) => store,
        Err(error) => {
            assert!(
                !matches!(error, OpenError::Locked { .. }),
                "{what}: {error:?}"
            );
            return;
        }
    };
    let dropped = store.open_report().tail_dropped.is_some();
    let feeds = store.feeds();
    assert!(feeds.len() == 2 || dropped, "{what}: {} feeds", feeds.len());
    for feed in feeds {
        let own = feed
            .manifest()
            .is_some_and(|manifest| manifest.signers[0].public_key == writer().public_key());
        let expected: Vec<u64> = if own {
            (0..LENGTH).collect()
        } else {
            vec![2, 4, 5]
        };
        for index in expected {
            match feed.get(index) {
                Ok(Some(value)) => assert_eq!(value, block(index), "{what}"),
                Ok(None) => assert!(dropped, "{what}: block {index} is gone and nothing said so"),
                Err(ReadError::Damaged {
                    feed: key, block, ..
                }) => {
                    assert_eq!((key, block), (feed.key(), index), "{what}");
                    let report = feed.verify().unwrap();
                    assert!(report.problem_count > 0, "{what}: verify is silent");
                }
                Err(error) => panic!("{what}: {error:?}"),
            }
        }
    }
}

#[test]
fn a_flip_of_any_byte_is_an_error_or_the_same_content() {
    for clean in [true, false] {
        let files = files(clean);
        let mut random = Random::new(11);
        let mut flips = 0;
        for (name, content) in &files {
            for at in 0..content.len() {
                let mut altered = files.clone();
                altered.get_mut(name).unwrap()[at] ^= 1 << random.below(8);
                assert_never_wrong(&altered, &format!("clean {clean}, {name} byte {at}"));
                flips += 1;
            }
        }
        assert!(flips > 5_000, "{flips}");
    }
}

#[test]
fn a_cut_at_any_length_is_an_error_or_the_same_content() {
    for clean in [true, false] {
        let files = files(clean);
        for (name, content) in &files {
            for length in 0..content.len() {
                let mut altered = files.clone();
                altered.get_mut(name).unwrap().truncate(length);
                assert_never_wrong_or_shorter(&altered, &format!("clean {clean}, {name} {length}"));
            }
        }
    }
}

/// A log cut exactly between two records is a shorter log: nothing can tell, but for the index.
fn assert_never_wrong_or_shorter(files: &BTreeMap<String, Vec<u8>>, what: &str) {
    let Ok(store) = Store::open(disk_of(files).as_disk(), options()) else {
        return;
    };
    for feed in store.feeds() {
        for index in feed.have().runs(0..LENGTH).flatten() {
            match feed.get(index) {
                Ok(Some(value)) => assert_eq!(value, block(index), "{what}"),
                Ok(None) => panic!("{what}: said to be held"),
                Err(ReadError::Damaged { .. }) => {}
                Err(error) => panic!("{what}: {error:?}"),
            }
        }
        let length = feed.head().length;
        assert!([0, 5, 8, LENGTH].contains(&length), "{what}: {length}");
    }
}

#[test]
fn zeroed_and_swapped_sectors_are_an_error_or_the_same_content() {
    let files = files(true);
    for (name, content) in &files {
        let sectors = content.len() / 512;
        for sector in 0..sectors {
            let mut altered = files.clone();
            altered.get_mut(name).unwrap()[sector * 512..(sector + 1) * 512].fill(0);
            assert_never_wrong(&altered, &format!("{name} sector {sector} zeroed"));
            for other in 0..sector {
                let mut altered = files.clone();
                let content = altered.get_mut(name).unwrap();
                let (low, high) = content.split_at_mut(sector * 512);
                low[other * 512..(other + 1) * 512].swap_with_slice(&mut high[..512]);
                assert_never_wrong(&altered, &format!("{name} sectors {other} and {sector}"));
            }
        }
    }
}

#[test]
fn damage_before_what_was_synced_is_told_from_a_torn_tail() {
    let disk = MemoryDisk::new();
    let store = Store::open(disk.as_disk(), Options::new([7; 16])).unwrap();
    let feed = own_feed(&store, &writer());
    let ends: Vec<u64> = (0..4)
        .map(|number| {
            feed.append_batch(&writer(), &blocks(number * 3..number * 3 + 3))
                .unwrap();
            store.stat().unwrap().log_bytes
        })
        .collect();
    let key = feed.key();
    drop((feed, store));
    let files = disk.to_files();
    let flipped = |at: u64| {
        let mut altered = files.clone();
        altered.get_mut("log-00000000").unwrap()[at as usize] ^= 1;
        Store::open(disk_of(&altered).as_disk(), Options::new([7; 16]))
    };
    // The third of four commits: the fourth says that it was synced.
    let error = flipped(ends[1] + 60).unwrap_err();
    let OpenError::Store(StoreError::Damaged(damage)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(damage.what, DamageKind::SyncedRecord);
    assert_eq!(u64::from(damage.place.offset), ends[1]);
    // The newest commit, head part or payload: cannot be told from a torn one.
    for at in [ends[2] + 60, ends[3] - 1] {
        let store = flipped(at).unwrap();
        let dropped = store.open_report().tail_dropped.unwrap();
        assert_eq!(u64::from(dropped.place.offset), ends[2]);
        assert_holds(&store.feed(&key).unwrap(), 9);
    }
}

#[test]
fn a_missing_segment_is_named() {
    let whole = files(true);
    for (segment, what) in [
        (0, DamageKind::SegmentMissing),
        (1, DamageKind::SyncedRecord),
    ] {
        let mut files = whole.clone();
        files.remove(&format!("log-{segment:08}")).unwrap();
        let error = Store::open(disk_of(&files).as_disk(), options()).unwrap_err();
        let OpenError::Store(StoreError::Damaged(damage)) = error else {
            panic!("{error:?}")
        };
        assert_eq!((damage.what, damage.place.segment), (what, segment));
    }
}

#[test]
fn an_index_without_a_log_is_not_taken_for_a_new_store() {
    let mut files = files(true);
    files.retain(|name, _| !name.starts_with("log-"));
    assert!(!files.is_empty());
    let error = Store::open(disk_of(&files).as_disk(), options()).unwrap_err();
    let OpenError::Store(StoreError::Damaged(damage)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(damage.what, DamageKind::SegmentMissing);
}

#[test]
fn a_store_has_these_bytes() {
    // Segment header, feed record, append record, zeros: the golden bytes of docs/storage.md.
    let disk = MemoryDisk::new();
    let store = Store::open(disk.as_disk(), Options::new([7; 16]).segments(4096, 512)).unwrap();
    own_feed(&store, &writer())
        .append_batch(&writer(), &[block(1), block(2)])
        .unwrap();
    drop(store);
    let files = disk.to_files();
    let log = &files["log-00000000"];
    let hex: String = log[..700]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        include_str!("golden.hex").replace(char::is_whitespace, "")
    );
}

#[test]
fn a_torn_block_whose_leaf_came_earlier_is_cut_off_and_not_held() {
    let source_store = open(&MemoryDisk::new());
    let source = own_feed(&source_store, &writer());
    source.append_batch(&writer(), &blocks(0..8)).unwrap();
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = follower(&store, &source);
    feed.apply(&[upgrade_item(&source, 0)]).unwrap();
    feed.apply(&[block_item(&source, 5)]).unwrap();
    // Its leaf came with block 5: the newest record carries nothing but the block.
    let proof = source.prove(&block_request(4, 0)).unwrap();
    assert_eq!(proof.block.as_ref().unwrap().nodes, []);
    let manifest = None;
    assert!(
        feed.apply(&[kinlog_feeds::store::Incoming { proof, manifest }])
            .unwrap()[0]
            .is_ok()
    );
    assert_eq!(feed.get(4).unwrap(), Some(block(4)));
    let (key, end) = (feed.key(), store.stat().unwrap().log_bytes);
    drop((feed, store));

    let mut files = disk.to_files();
    files.get_mut("log-00000000").unwrap()[end as usize - 1] ^= 1;
    let store = open(&disk_of(&files));
    assert!(store.open_report().tail_dropped.is_some());
    let feed = store.feed(&key).unwrap();
    assert_eq!((feed.has(4), feed.has(5)), (false, true));
    assert_eq!(feed.get(4).unwrap(), None);
    assert_eq!(feed.verify().unwrap().problems, []);
}
