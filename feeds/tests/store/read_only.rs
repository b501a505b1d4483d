//! A store opened to be read: it changes nothing, keeps writers out, and lets readers in.

use std::sync::Arc;

use kinlog_feeds::store::{
    AppendError, FileDisk, MemoryDisk, OpenError, Options, Store, StoreError,
};
use testkit::disk::{CrashDisk, TraceDisk};
use testkit::process::Folder;

use crate::support::*;

fn open_read_only(disk: &impl AsDisk) -> Result<Store, OpenError> {
    Store::open(disk.as_disk(), small().read_only())
}

#[test]
fn every_write_to_a_store_open_for_reading_is_refused() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..40)).unwrap();
    let key = feed.key();
    drop((feed, store));
    let before = disk.to_files();

    let store = open_read_only(&disk).unwrap();
    let feed = store.feed(&key).unwrap();
    assert_holds(&feed, 40);
    assert_eq!(block_proof(&feed, 4).block.unwrap().value, block(4));
    let refused = feed.append_batch(&writer(), &blocks(40..41)).unwrap_err();
    assert!(
        matches!(refused, AppendError::Store(StoreError::ReadOnly)),
        "{refused:?}"
    );
    assert!(matches!(feed.clear(0..1), Err(StoreError::ReadOnly)));
    assert!(matches!(store.drop_feed(&key), Err(StoreError::ReadOnly)));
    assert_holds(&feed, 40);
    store.close().unwrap();
    drop((feed, store));
    assert_eq!(disk.to_files(), before);
}

#[test]
fn nothing_is_written_to_a_store_with_a_torn_tail_and_no_index() {
    let disk = CrashDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..30)).unwrap();
    feed.append_batch(&writer(), &blocks(30..33)).unwrap();
    let key = feed.key();
    drop((feed, store));
    let mut files = disk.to_files();
    let log = files
        .iter_mut()
        .rfind(|(name, _)| name.starts_with("log-"))
        .unwrap();
    let end = log.1.iter().rposition(|byte| *byte != 0).unwrap();
    log.1[end] ^= 1;
    let disk = CrashDisk::from_files(&files);
    let traced = TraceDisk::new(disk.as_disk());
    let store = Store::open(Arc::new(traced.clone()), small().read_only()).unwrap();
    assert!(store.open_report().tail_dropped.is_some());
    assert_holds(&store.feed(&key).unwrap(), 30);
    store.close().unwrap();
    drop(store);
    let changes = traced.operations();
    let changes: Vec<_> = changes.iter().filter(|o| o.kind.is_change()).collect();
    assert_eq!(changes, Vec::<&testkit::disk::Operation>::new());
    assert_eq!(disk.to_files(), files);
}

#[test]
fn readers_share_a_store_and_keep_writers_out() {
    let folder = Folder::new("readers");
    let path = folder.join("store");
    let options = || Options::new([3; 16]);
    let disk = || Arc::new(FileDisk::existing(&path).unwrap());
    assert!(FileDisk::existing(&path).is_err());
    let store = Store::open(Arc::new(FileDisk::new(&path).unwrap()), options()).unwrap();
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..20)).unwrap();
    let key = feed.key();
    let refused = Store::open(disk(), options().read_only());
    let pid = std::process::id();
    assert!(matches!(refused, Err(OpenError::Locked { pid: held }) if held == pid));
    drop((feed, store));

    let readers = [0, 1].map(|_| Store::open(disk(), options().read_only()).unwrap());
    for reader in &readers {
        assert_holds(&reader.feed(&key).unwrap(), 20);
    }
    let refused = Store::open(disk(), options());
    assert!(matches!(refused, Err(OpenError::Locked { .. })));
    drop(readers);
    Store::open(disk(), options()).unwrap();

    let memory = MemoryDisk::new();
    drop(open(&memory));
    let readers = [0, 1].map(|_| open_read_only(&memory).unwrap());
    assert!(matches!(try_open(&memory), Err(OpenError::Locked { .. })));
    drop(readers);
    drop(open(&memory));
}
