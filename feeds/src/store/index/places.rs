//! All that is known of where a feed's blocks and nodes stand.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::store::error::StoreError;
use crate::store::index::NodeRef;
use crate::store::index::base::Base;
use crate::store::index::layer::{FoundBlock, Layer, Said};

/// Layers, newest first: what changed since the last checkpoint, what that one is writing out, and
/// what is on the disk.
#[derive(Debug, Default)]
pub(in crate::store) struct Places {
    pub(in crate::store) delta: Layer,
    frozen: Option<Arc<Layer>>,
    base: Option<Arc<Base>>,
}

/// What the layers in memory say.
#[derive(Debug)]
pub(in crate::store) enum Looked<T> {
    Known(Option<T>),
    /// Only the disk knows; it is asked when nothing is locked.
    Ask(Arc<Base>),
}

impl Places {
    pub(in crate::store) fn on(base: Option<Arc<Base>>) -> Self {
        Places {
            base,
            ..Places::default()
        }
    }

    /// Returns where a block stands, held or not.
    pub(in crate::store) fn block(&self, block: u64) -> Looked<FoundBlock> {
        self.look(|layer| layer.block(block))
    }

    /// Returns where a node stands.
    pub(in crate::store) fn node(&self, index: u64) -> Looked<NodeRef> {
        self.look(|layer| layer.node(index))
    }

    /// Puts what changed aside for a checkpoint to write, with what an earlier one could not.
    pub(in crate::store) fn freeze(&mut self) -> Arc<Layer> {
        let mut newest = std::mem::take(&mut self.delta);
        if let Some(waiting) = &self.frozen {
            let mut all = Layer::clone(waiting);
            all.absorb(&newest);
            newest = all;
        }
        let frozen = Arc::new(newest);
        self.frozen = Some(frozen.clone());
        frozen
    }

    /// Reads through new tables, which hold what was put aside.
    pub(in crate::store) fn written(&mut self, base: Option<Arc<Base>>) {
        self.base = base;
        self.frozen = None;
    }

    /// Reads through the same tables in another file.
    pub(in crate::store) fn moved(&mut self, base: Option<Arc<Base>>) {
        self.base = base;
    }

    pub(in crate::store) fn base(&self) -> Option<Arc<Base>> {
        self.base.clone()
    }

    /// Returns the pages of which the layers in memory say something.
    pub(in crate::store) fn pages(&self) -> BTreeSet<u64> {
        self.layers().flat_map(Layer::pages).collect()
    }

    /// Returns the nodes of a page of which the layers in memory say something.
    pub(in crate::store) fn nodes_of(&self, page: u64) -> BTreeSet<u64> {
        self.layers()
            .flat_map(|layer| layer.nodes_of(page))
            .collect()
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.delta).chain(self.frozen.as_deref())
    }

    fn look<T>(&self, ask: impl Fn(&Layer) -> Said<T>) -> Looked<T> {
        for layer in self.layers() {
            match ask(layer) {
                Said::Found(found) => return Looked::Known(Some(found)),
                Said::Gone => return Looked::Known(None),
                Said::Nothing => {}
            }
        }
        match &self.base {
            Some(base) => Looked::Ask(base.clone()),
            None => Looked::Known(None),
        }
    }
}

impl<T> Looked<T> {
    /// Asks the disk where memory did not know.
    pub(in crate::store) fn or_ask(
        self,
        ask: impl FnOnce(&Base) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self {
            Looked::Known(known) => Ok(known),
            Looked::Ask(base) => ask(&base),
        }
    }
}
