//! All that is known of where a feed's blocks and nodes stand.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::store::index::NodeRef;
use crate::store::index::layer::{FoundBlock, Layer, Said};

/// Layers, newest first: what changed since the last checkpoint, what that one is writing out.
#[derive(Debug, Default)]
pub(in crate::store) struct Places {
    pub(in crate::store) delta: Layer,
    frozen: Option<Arc<Layer>>,
}

impl Places {
    /// Returns where a block stands, held or not.
    pub(in crate::store) fn block(&self, block: u64) -> Option<FoundBlock> {
        self.look(|layer| layer.block(block))
    }

    /// Returns where a node stands.
    pub(in crate::store) fn node(&self, index: u64) -> Option<NodeRef> {
        self.look(|layer| layer.node(index))
    }

    /// Returns the pages that say something.
    pub(in crate::store) fn pages(&self) -> BTreeSet<u64> {
        self.layers().flat_map(Layer::pages).collect()
    }

    /// Returns the nodes of a page, in order.
    pub(in crate::store) fn nodes_of(&self, page: u64) -> BTreeSet<u64> {
        self.layers()
            .flat_map(|layer| layer.nodes_of(page))
            .filter(|index| self.node(*index).is_some())
            .collect()
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.delta).chain(self.frozen.as_deref())
    }

    fn look<T>(&self, ask: impl Fn(&Layer) -> Said<T>) -> Option<T> {
        for layer in self.layers() {
            match ask(layer) {
                Said::Found(found) => return Some(found),
                Said::Gone => return None,
                Said::Nothing => {}
            }
        }
        None
    }
}
