//! The index beside the log: what it says whenever it is written, lost, stale or damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::store::{
    DamageKind, FileDisk, MemoryDisk, Options, Place, ReadError, Store, StoreError,
};

use crate::support::*;

/// Checkpoints after every few records.
fn often() -> Options {
    small().checkpoint_every(4 * 1024)
}

fn open_with(disk: &MemoryDisk, options: Options) -> Store {
    Store::open(disk.as_disk(), options).unwrap()
}

/// Returns `count` blocks of eight bytes, from number `first` on.
fn tiny(first: u64, count: u64) -> Vec<Bytes> {
    (first..first + count)
        .map(|index| Bytes::copy_from_slice(&index.to_le_bytes()))
        .collect()
}

/// Asserts that the feed holds tiny blocks, at its ends and at the borders of pages and chunks.
fn assert_tiny(store: &Store, length: u64) {
    let feed = store.feeds().pop().unwrap();
    assert_eq!(feed.head().length, length);
    assert_eq!(feed.have().contiguous_length(), length);
    let borders = [512, 8192, 32_768, 262_144, 1 << 21];
    let near = borders.iter().flat_map(|border| border - 2..border + 2);
    for index in near
        .chain([0, length / 3, length - 1])
        .filter(|index| *index < length)
    {
        let expected = Bytes::copy_from_slice(&index.to_le_bytes());
        assert_eq!(feed.get(index).unwrap(), Some(expected), "block {index}");
        assert!(feed.node(2 * index).unwrap().is_some());
    }
    assert_eq!(feed.get(length).unwrap(), None);
}

#[test]
fn feeds_of_two_million_blocks_reopen_from_index_and_from_log() {
    const AROUND: u64 = 1 << 21;
    let disk = MemoryDisk::new();
    let options = Options::new([7; 16]).without_keeper();
    let store = open_with(&disk, options.clone());
    let feed = own_feed(&store, &writer());
    let mut length = 0;
    for next in [AROUND - 1, AROUND, AROUND + 1] {
        while length < next {
            let count = (next - length).min(1 << 19);
            feed.append_batch(&writer(), &tiny(length, count)).unwrap();
            length += count;
        }
        if next == AROUND {
            continue;
        }
        // As after a kill, and after a clean stop.
        let mut files = disk.to_files();
        let killed = open_with(&disk_of(&files), options.clone());
        assert_tiny(&killed, length);
        killed.close().unwrap();
        files.remove("index");
        let rebuilt = open_with(&disk_of(&files), options.clone().rebuild_every(20 << 20));
        assert!(rebuilt.open_report().index_rebuilt);
        assert_tiny(&rebuilt, length);
    }
    store.close().unwrap();
    let store = open_with(&disk, options);
    assert_eq!(store.open_report().records_scanned, 0);
    assert_tiny(&store, length);
}

#[test]
fn an_index_made_anew_says_what_the_lost_one_said() {
    let other = open(&MemoryDisk::new());
    let source = own_feed(&other, &writer());
    source.append_batch(&writer(), &blocks(0..3000)).unwrap();
    let disk = MemoryDisk::new();
    let store = open_with(&disk, often());
    let feed = follower(&store, &source);
    feed.apply(&[upgrade_item(&source, 0)]).unwrap();
    let items: Vec<_> = (0..3000)
        .step_by(7)
        .chain(1000..1400)
        .map(|index| block_item(&source, index))
        .collect();
    for items in items.chunks(50) {
        assert!(feed.apply(items).unwrap().iter().all(Result::is_ok));
    }
    feed.clear(1100..1200).unwrap();
    let told = |store: &Store| {
        let feed = store.feeds().pop().unwrap();
        let nodes: Vec<_> = (0..6000).map(|index| feed.node(index).unwrap()).collect();
        let blocks: Vec<_> = (0..3000).map(|index| feed.get(index).unwrap()).collect();
        (feed.info(), feed.have(), nodes, blocks)
    };
    let expected = told(&store);
    store.close().unwrap();
    let mut files = disk.to_files();
    let with = open_with(&disk_of(&files), often());
    assert!(!with.open_report().index_rebuilt);
    assert_eq!(told(&with), expected);
    files.remove("index");
    for rebuild_bytes in [u64::MAX, 10 * 1024] {
        let disk = disk_of(&files);
        let without = open_with(&disk, often().rebuild_every(rebuild_bytes));
        assert!(without.open_report().index_rebuilt);
        assert_eq!(told(&without), expected);
        without.close().unwrap();
        assert_eq!(told(&open_with(&disk, often())), expected);
    }
}

#[test]
fn an_older_copy_of_the_index_is_as_good_as_the_newest() {
    let disk = MemoryDisk::new();
    let store = open_with(&disk, often());
    let feed = own_feed(&store, &writer());
    let mut copies: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for start in (0..120).step_by(3) {
        feed.append_batch(&writer(), &blocks(start..start + 3))
            .unwrap();
        if let Some(index) = disk.to_files().remove("index") {
            copies.entry(index).or_insert(start);
        }
    }
    feed.clear(5..9).unwrap();
    store.close().unwrap();
    let files = disk.to_files();
    assert!(copies.len() > 4, "{} checkpoints", copies.len());
    for (index, start) in copies {
        let mut stale = files.clone();
        stale.insert("index".to_owned(), index);
        let store = open_with(&disk_of(&stale), often());
        assert!(!store.open_report().index_rebuilt, "as of {start}");
        assert!(store.open_report().records_scanned > 0);
        let feed = store.feeds().pop().unwrap();
        assert_eq!(feed.info().blocks_held, 116);
        for index in 0..120 {
            let expected = (!(5..9).contains(&index)).then(|| block(index));
            assert_eq!(feed.get(index).unwrap(), expected, "as of {start}");
        }
        assert_eq!(feed.verify().unwrap().problems, vec![]);
    }
}

#[test]
fn a_page_damaged_later_is_told_with_its_place_and_the_next_opening_makes_a_new_index() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..600)).unwrap();
    let key = feed.key();
    store.close().unwrap();
    let (mut rebuilt, mut told) = (0, 0);
    let files = disk.to_files();
    for at in 8192..files["index"].len() {
        let mut files = files.clone();
        files.get_mut("index").unwrap()[at] ^= 1;
        let disk = disk_of(&files);
        let store = open(&disk);
        if store.open_report().index_rebuilt {
            rebuilt += 1;
            continue;
        }
        let feed = store.feed(&key).unwrap();
        match feed.get(599).and_then(|_| feed.get(0)) {
            Ok(value) => assert_eq!(value, Some(block(0)), "byte {at}"),
            Err(
                ReadError::Damaged { damage, .. } | ReadError::Store(StoreError::Damaged(damage)),
            ) => {
                told += 1;
                assert_eq!(damage.what, DamageKind::IndexPage);
                assert_eq!(damage.place.segment, Place::INDEX);
                assert!(damage.place.offset as usize <= at, "byte {at}");
                let report = feed.verify().unwrap();
                assert!(report.problem_count > 0, "byte {at}: verify is silent");
                drop((feed, store));
                assert!(!disk.to_files().contains_key("index"));
                let store = open(&disk);
                assert!(store.open_report().index_rebuilt);
                assert_holds(&store.feed(&key).unwrap(), 600);
            }
            Err(error) => panic!("byte {at}: {error:?}"),
        }
    }
    assert!(rebuilt > 0 && told > 0, "{rebuilt} rebuilt, {told} told");
}

#[test]
fn a_store_with_a_damaged_index_goes_on_and_loses_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..600)).unwrap();
    let key = feed.key();
    store.close().unwrap();
    let mut files = disk.to_files();
    // The first blob is the first page.
    files.get_mut("index").unwrap()[8192] ^= 1;
    let disk = disk_of(&files);
    let store = open_with(&disk, often());
    let feed = store.feed(&key).unwrap();
    assert!(feed.get(0).is_err());
    for start in (600..700).step_by(10) {
        feed.append_batch(&writer(), &blocks(start..start + 10))
            .unwrap();
        assert_eq!(feed.get(start).unwrap(), Some(block(start)));
    }
    store.close().unwrap();
    let store = open(&disk);
    assert!(store.open_report().index_rebuilt);
    assert_holds(&store.feed(&key).unwrap(), 700);
}

#[test]
fn an_index_full_of_garbage_is_written_anew() {
    let disk = MemoryDisk::new();
    let options = Options::new([7; 16])
        .segments(16 << 20, 64 << 10)
        .checkpoint_every(256)
        .without_keeper();
    let store = open_with(&disk, options.clone());
    let feed = own_feed(&store, &writer());
    let (mut bytes, mut shrunk) = (0, 0);
    // Every checkpoint writes the last page again, which single appends make large.
    for index in 0..3000 {
        feed.append_batch(&writer(), &tiny(index, 1)).unwrap();
        let now = store.stat().unwrap().index_bytes;
        shrunk += u64::from(now < bytes / 2);
        bytes = now;
        assert!(bytes < 3 << 20, "{bytes} bytes");
    }
    assert!(shrunk > 1, "{shrunk} times");
    assert_tiny(&store, 3000);
    store.close().unwrap();
    let store = open_with(&disk, options);
    assert_eq!(store.open_report().records_scanned, 0);
    assert_tiny(&store, 3000);
    assert_eq!(store.feeds()[0].verify().unwrap().problems, vec![]);
}

#[test]
fn what_came_piece_by_piece_is_written_out_by_its_number_however_few_bytes_it_has() {
    let source_store = open(&MemoryDisk::new());
    let source = own_feed(&source_store, &writer());
    source.append_batch(&writer(), &tiny(0, 100)).unwrap();
    let options = Options::new([7; 16])
        .checkpoint_after_places(100)
        .without_keeper();
    let store = open_with(&MemoryDisk::new(), options);
    let feed = follower(&store, &source);
    feed.apply(&[upgrade_item(&source, 0)]).unwrap();
    let index_bytes = || store.stat().unwrap().index_bytes;
    // One place for itself, and one for each of at least one and at most seven nodes.
    let written: Vec<u64> = (0..100)
        .filter(|block| {
            let sooner = index_bytes();
            feed.apply(&[block_item(&source, *block)]).unwrap();
            index_bytes() > sooner
        })
        .collect();
    assert!(written.len() >= 2 && written[0] >= 10, "{written:?}");
    assert_tiny(&store, 100);
}

#[test]
fn a_feed_in_a_thousand_segments_is_read_with_few_files_open() {
    let folder = std::env::temp_dir().join(format!("kinlog-index-{}", std::process::id()));
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let options = Options::new([7; 16]).segments(512, 512).without_keeper();
    let disk = || Arc::new(FileDisk::new(&folder).unwrap());
    let store = Store::open(disk(), options.clone()).unwrap();
    let feed = own_feed(&store, &writer());
    for index in 0..300 {
        feed.append_batch(&writer(), &[Bytes::from(vec![index as u8; 400])])
            .unwrap();
    }
    assert!(store.stat().unwrap().segments >= 299);
    store.close().unwrap();
    drop((feed, store));
    let before = open_files();
    let store = Store::open(disk(), options).unwrap();
    let feed = store.feeds().pop().unwrap();
    for index in (0..300).chain((0..300).rev()) {
        assert_eq!(feed.get(index).unwrap().unwrap()[0], index as u8);
        let files = open_files().saturating_sub(before);
        assert!(files <= 64, "{files} files");
    }
    drop((feed, store));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_read_of_the_index_stays_below_its_limit_in_memory() {
    let disk = MemoryDisk::new();
    let options = Options::new([7; 16])
        .without_keeper()
        .index_cache(256 * 1024);
    let store = open_with(&disk, options.clone());
    let feed = own_feed(&store, &writer());
    for start in (0..200_000).step_by(100) {
        feed.append_batch(&writer(), &tiny(start, 100)).unwrap();
    }
    store.close().unwrap();
    let store = open_with(&disk, options);
    let feed = store.feeds().pop().unwrap();
    let mut most = 0;
    for index in (0..200_000).step_by(300).chain((0..200_000).step_by(700)) {
        assert!(feed.get(index).unwrap().is_some());
        most = most.max(store.stat().unwrap().index_cached_bytes);
    }
    // The limit, and a table of 16 KiB or more in each of the shards.
    assert!(most <= 256 * 1024 + 16 * 40 * 1024, "{most} bytes");
    assert!(most > 50 * 1024, "{most} bytes: the cache is used");
}
