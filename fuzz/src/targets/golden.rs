//! The feed that every target of feeds is about: what it holds is known, so that nothing else may
//! come out.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::bundle::BundleWriter;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Feed, Kind, MemoryDisk, Options, Role, Store};

/// Blocks of the feed.
pub(crate) const LENGTH: u64 = 21;

pub(crate) fn writer() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

pub(crate) fn options() -> Options {
    Options::new([7; 16]).segments(1 << 20, 64)
}

pub(crate) fn block(index: u64) -> Bytes {
    Bytes::from(format!("block {index}, ").repeat(index as usize % 5))
}

/// A store with the feed, in two appends, one block of it cleared.
#[derive(Debug)]
pub(crate) struct Golden {
    pub(crate) disk: MemoryDisk,
    pub(crate) feed: Feed,
}

pub(crate) fn golden() -> &'static Golden {
    static GOLDEN: OnceLock<Golden> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        let disk = MemoryDisk::new();
        let store = Store::open(Arc::new(disk.clone()), options()).unwrap();
        let manifest = Manifest::single(writer().public_key());
        let feed = store
            .create_feed(&manifest, Role::Own, Kind::Kinlog)
            .unwrap();
        let blocks: Vec<Bytes> = (0..LENGTH).map(block).collect();
        feed.append_batch(&writer(), &blocks[..9]).unwrap();
        feed.append_batch(&writer(), &blocks[9..]).unwrap();
        Golden { disk, feed }
    })
}

/// Whole and in parts.
pub(crate) fn bundles() -> Vec<Vec<u8>> {
    let feed = &golden().feed;
    let ranges = [vec![(0, LENGTH)], vec![(2, 5), (7, 8), (20, 21)], vec![]];
    let bundles = ranges.into_iter().map(|ranges| {
        let ranges = ranges.into_iter().map(|(start, end)| start..end).collect();
        let header = feed.bundle_header(ranges).unwrap();
        let mut bundle = BundleWriter::new::<()>(Vec::new(), &header).unwrap();
        while bundle.write_run(feed).unwrap().is_some() {}
        bundle.finish::<()>().unwrap()
    });
    bundles.collect()
}

/// Asserts that a feed that came out of noise is a part of the golden one, or another feed.
pub(crate) fn assert_part(feed: &Feed) {
    assert_eq!(feed.verify().unwrap().problems, []);
    if feed.key() != golden().feed.key() {
        return;
    }
    let length = feed.head().length;
    assert!(length <= LENGTH, "nobody signed {length} blocks");
    for index in 0..length {
        if let Some(value) = feed.get(index).unwrap() {
            assert_eq!(value, block(index));
        }
    }
}
