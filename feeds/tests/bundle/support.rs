//! What the bundle tests share.

use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::bundle::{BundleError, BundleReader, BundleSummary, BundleWriter};
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Feed, ImportError, Imported, Kind, MemoryDisk, Options, Role, Store};

pub(crate) fn writer() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

pub(crate) fn store() -> Store {
    let options = Options::new([7; 16]).segments(1 << 20, 1 << 16);
    Store::open(Arc::new(MemoryDisk::new()), options).unwrap()
}

/// Returns block `index`: sizes from 0 up, some above 4 KiB.
pub(crate) fn block(index: u64) -> Bytes {
    let size = match index % 7 {
        0 => 0,
        3 => 4100,
        other => 20 * other,
    };
    let bytes = (0..size).map(|at| (at * 31 + index * 7 + 1) as u8);
    bytes.collect::<Vec<u8>>().into()
}

/// Adds an own feed of `length` blocks to a store.
pub(crate) fn author(store: &Store, kind: Kind, length: u64) -> Feed {
    let manifest = Manifest::single(writer().public_key());
    let feed = store.create_feed(&manifest, Role::Own, kind).unwrap();
    append(&feed, length);
    feed
}

pub(crate) fn append(feed: &Feed, length: u64) {
    let blocks: Vec<Bytes> = (feed.head().length..length).map(block).collect();
    feed.append_batch(&writer(), &blocks).unwrap();
}

pub(crate) fn bundle(feed: &Feed, ranges: &[Range<u64>]) -> Vec<u8> {
    let header = feed.bundle_header(ranges.to_vec()).unwrap();
    let mut writer = BundleWriter::new::<()>(Vec::new(), &header).unwrap();
    while writer.write_run(feed).unwrap().is_some() {}
    writer.finish::<()>().unwrap()
}

pub(crate) fn whole(feed: &Feed) -> Vec<u8> {
    bundle(feed, &[0..feed.head().length])
}

pub(crate) fn verify(bundle: &[u8]) -> Result<BundleSummary, BundleError> {
    BundleReader::new(bundle)?.verify()
}

pub(crate) fn import(store: &Store, bundle: &[u8]) -> Result<Imported, ImportError> {
    store
        .import_bundle(&mut Cursor::new(bundle), Kind::Plain, &mut |_| true)
        .map(|(_, imported)| imported)
}

/// Asserts that exactly these blocks are held, as they were written, and that all of it verifies.
pub(crate) fn assert_holds(feed: &Feed, ranges: &[Range<u64>]) {
    for index in 0..feed.head().length {
        let held = ranges.iter().any(|range| range.contains(&index));
        let expected = held.then(|| block(index));
        assert_eq!(feed.get(index).unwrap(), expected, "block {index}");
    }
    assert_eq!(feed.verify().unwrap().problems, vec![]);
}
