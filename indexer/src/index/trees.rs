//! Tree hashes of the feeds of a store, at any length whose roots are held: what links are made and
//! checked by.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kinlog_feeds::crypto::{FeedKey, Hash};
use kinlog_feeds::store::Store;
use kinlog_feeds::tree::{Node, root_indexes};

use crate::index::TreeHashes;
use crate::limits::TREES_REMEMBERED_MAX;

/// The tree hashes of a store.
///
/// A length has all roots of the one before but one or more that became a larger one, so those
/// asked for last are kept: following a feed costs one node an entry.
#[derive(Debug)]
pub struct StoreTrees {
    store: Store,
    last: Mutex<HashMap<FeedKey, Roots>>,
}

#[derive(Debug, Default)]
struct Roots {
    /// A feed that was truncated has other nodes at the same indexes.
    fork: u64,
    nodes: Vec<Node>,
}

impl StoreTrees {
    /// Asks `store`.
    pub fn of(store: Store) -> Self {
        StoreTrees {
            store,
            last: Mutex::default(),
        }
    }
}

impl TreeHashes for StoreTrees {
    fn tree_hash(&self, key: &FeedKey, length: u64) -> Option<Hash> {
        let feed = self.store.feed(key)?;
        let head = feed.head();
        if length > head.length {
            return None;
        }
        // Whoever broke off left roots of one length or none.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= TREES_REMEMBERED_MAX && !last.contains_key(key) {
            last.clear();
        }
        let known = last.entry(*key).or_default();
        if known.fork != head.fork {
            *known = Roots {
                fork: head.fork,
                nodes: Vec::new(),
            };
        }
        let root = |index| {
            let kept = known.nodes.iter().find(|node| node.index == index);
            kept.cloned().or_else(|| feed.node(index).ok().flatten())
        };
        let roots: Option<Vec<Node>> = root_indexes(length).into_iter().map(root).collect();
        known.nodes = roots?;
        Some(Node::tree_hash(&known.nodes))
    }

    fn contested_from(&self, feed: &FeedKey) -> Option<u64> {
        let proof = self.store.feed(feed)?.conflict().ok()??;
        Some(proof.blocks().start)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use kinlog_feeds::KeyPair;
    use kinlog_feeds::manifest::Manifest;
    use kinlog_feeds::store::{Kind, MemoryDisk, Options, Role};

    use super::*;

    #[test]
    fn every_length_has_its_hash_in_whatever_order_it_is_asked_for() {
        let disk = Arc::new(MemoryDisk::new());
        let store = Store::open(disk, Options::new([1; 16])).unwrap();
        let signer = KeyPair::from_seed(&[1; 32]);
        let manifest = Manifest::single(signer.public_key());
        let feed = store
            .create_feed(&manifest, Role::Own, Kind::Kinlog)
            .unwrap();
        let mut hashes = vec![feed.head().tree_hash()];
        for number in 0..70u8 {
            let block = Bytes::from(vec![number]);
            feed.append_batch(&signer, &[block]).unwrap();
            hashes.push(feed.head().tree_hash());
        }
        let trees = StoreTrees::of(store);
        let ask = |length: u64| trees.tree_hash(&manifest.key(), length);
        for length in (0..=70).chain((0..=70).rev()).chain([64, 3, 63, 0, 70]) {
            assert_eq!(ask(length), Some(hashes[length as usize]), "{length}");
        }
        assert_eq!(ask(71), None);
        assert_eq!(trees.tree_hash(&FeedKey([9; 32]), 1), None);
    }
}
