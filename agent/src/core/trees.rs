//! Links of this home are checked by the trees of its store.

use kinlog_indexer::index::StoreTrees;

use crate::core::{Core, lock};

impl Core {
    /// Gives the index the tree hashes by which it checks links.
    pub(super) fn set_tree_hashes(&self) {
        let trees = StoreTrees::of(self.store.clone());
        lock(&self.index).set_tree_hashes(Box::new(trees));
    }
}
