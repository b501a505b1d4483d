//! Tree hashes of held feeds at any length whose roots are held: what links are made and checked by.

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::Hash;
use kinlog_feeds::store::Store;
use kinlog_feeds::tree::{Node, root_indexes};
use kinlog_indexer::index::TreeHashes;

use crate::core::{Core, lock};

/// The tree hashes of a store.
pub(super) struct StoreTrees(pub(super) Store);

impl TreeHashes for StoreTrees {
    fn tree_hash(&self, feed: &FeedKey, length: u64) -> Option<Hash> {
        let feed = self.0.feed(feed)?;
        if length > feed.head().length {
            return None;
        }
        let roots: Option<Vec<Node>> = root_indexes(length)
            .into_iter()
            .map(|index| feed.node(index).ok().flatten())
            .collect();
        Some(Node::tree_hash(&roots?))
    }
}

impl Core {
    /// Gives the index the tree hashes by which it checks links.
    pub(super) fn set_tree_hashes(&self) {
        let trees = StoreTrees(self.store.clone());
        lock(&self.index).set_tree_hashes(Box::new(trees));
    }
}
