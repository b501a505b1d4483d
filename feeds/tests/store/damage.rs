//! Damage of each kind is told from the others, and named. All alterations: `tests/damage`.

use std::collections::BTreeMap;

use kinlog_feeds::store::{DamageKind, MemoryDisk, OpenError, Options, Store, StoreError};

use crate::support::*;

const LENGTH: u64 = 9;

fn options() -> Options {
    Options::new([7; 16]).segments(2 * 1024, 1024)
}

/// A small store with an own and a followed feed; several segments.
fn files() -> BTreeMap<String, Vec<u8>> {
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
    store.close().unwrap();
    drop((feed, following, store));
    disk.to_files()
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
    let whole = files();
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
    let mut files = files();
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
