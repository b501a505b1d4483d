//! What the store's tests share.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{
    Disk, Feed, Incoming, Kind, MemoryDisk, OpenError, Options, Role, Store,
};
use kinlog_feeds::tree::{BlockRequest, Proof, ProofRequest, UpgradeRequest};

/// Options with segments of 16 KiB, so that small tests cross them.
pub(crate) fn small() -> Options {
    Options::new([7; 16])
        .segments(16 * 1024, 4 * 1024)
        .without_keeper()
}

pub(crate) fn open(disk: &impl AsDisk) -> Store {
    try_open(disk).unwrap()
}

pub(crate) fn try_open(disk: &impl AsDisk) -> Result<Store, OpenError> {
    Store::open(disk.as_disk(), small())
}

/// Disks whose clones are the same disk.
pub(crate) trait AsDisk {
    fn as_disk(&self) -> Arc<dyn Disk>;
}

impl<D: Disk + Clone> AsDisk for D {
    fn as_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}

pub(crate) fn disk_of(files: &BTreeMap<String, Vec<u8>>) -> MemoryDisk {
    MemoryDisk::from_files(files.clone())
}

pub(crate) fn writer() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

pub(crate) fn own_feed(store: &Store, writer: &KeyPair) -> Feed {
    store
        .create_feed(
            &Manifest::single(writer.public_key()),
            Role::Own,
            Kind::Kinlog,
        )
        .unwrap()
}

/// Returns a follower's feed for `source`, of which only the key is known.
pub(crate) fn follower(store: &Store, source: &Feed) -> Feed {
    store
        .create_unknown(source.key(), Role::Followed, source.kind())
        .unwrap()
}

/// Returns block `index` of the tests' feeds: sizes from 0 up, some above 4 KiB.
pub(crate) fn block(index: u64) -> Bytes {
    let size = match index % 7 {
        0 => 0,
        3 => 4100,
        other => 20 * other,
    };
    (0..size)
        .map(|at| (at * 31 + index * 7 + 1) as u8)
        .collect::<Vec<u8>>()
        .into()
}

pub(crate) fn blocks(range: std::ops::Range<u64>) -> Vec<Bytes> {
    range.map(block).collect()
}

pub(crate) fn upgrade_request(start: u64, length: u64) -> ProofRequest {
    let upgrade = UpgradeRequest {
        start,
        length: length - start,
    };
    ProofRequest {
        upgrade: Some(upgrade),
        ..ProofRequest::default()
    }
}

pub(crate) fn block_request(index: u64, nodes: u64) -> ProofRequest {
    ProofRequest {
        block: Some(BlockRequest { index, nodes }),
        ..ProofRequest::default()
    }
}

/// Returns the levels from a block to the root above it.
pub(crate) fn levels_to_root(feed: &Feed, block: u64) -> u64 {
    let roots = feed.head().roots;
    let above = |root: u64| {
        let depth = u64::from((root + 1).trailing_zeros());
        (root + 1 - (1 << depth)..root + (1 << depth)).contains(&(2 * block))
    };
    let root = roots.iter().find(|root| above(root.index)).unwrap();
    u64::from((root.index + 1).trailing_zeros())
}

pub(crate) fn upgrade_item(source: &Feed, from: u64) -> Incoming {
    let proof = source
        .prove(&upgrade_request(from, source.head().length))
        .unwrap();
    let manifest = source
        .manifest()
        .map(|manifest| Bytes::from(manifest.encode()));
    Incoming { proof, manifest }
}

pub(crate) fn block_proof(source: &Feed, index: u64) -> Proof {
    source
        .prove(&block_request(index, levels_to_root(source, index)))
        .unwrap()
}

pub(crate) fn block_item(source: &Feed, index: u64) -> Incoming {
    Incoming {
        proof: block_proof(source, index),
        manifest: None,
    }
}

/// Asserts that every block of the feed is held as it was written, and that all of it verifies.
pub(crate) fn assert_holds(feed: &Feed, length: u64) {
    assert_eq!(feed.head().length, length);
    for index in 0..length {
        assert_eq!(
            feed.get(index).unwrap(),
            Some(block(index)),
            "block {index}"
        );
    }
    assert_eq!(feed.get(length).unwrap(), None);
    assert_eq!(feed.verify().unwrap().problems, vec![]);
}
