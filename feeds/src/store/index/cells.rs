//! Cells: blocks and nodes of one page, each with a place of its own.

use std::ops::Range;

use crate::store::index::{Extent, NodeRef, completed_by};

/// The blocks and nodes of a page that came one by one, ascending.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct Cells {
    pub(in crate::store) blocks: Vec<(u64, Extent)>,
    pub(in crate::store) nodes: Vec<(u64, NodeRef)>,
}

impl Cells {
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.nodes.is_empty()
    }

    pub(in crate::store) fn memory_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<(u64, Extent)>()
            + self.nodes.capacity() * size_of::<(u64, NodeRef)>()
    }

    pub(in crate::store) fn block(&self, block: u64) -> Option<Extent> {
        get(&self.blocks, block)
    }

    pub(in crate::store) fn node(&self, index: u64) -> Option<NodeRef> {
        get(&self.nodes, index)
    }

    pub(in crate::store) fn set_block(&mut self, block: u64, extent: Extent) {
        set(&mut self.blocks, block, extent);
    }

    pub(in crate::store) fn set_node(&mut self, index: u64, node: NodeRef) {
        set(&mut self.nodes, index, node);
    }

    /// Removes blocks, and the nodes that they complete.
    pub(in crate::store) fn cut(&mut self, blocks: &Range<u64>) {
        self.blocks.retain(|(block, _)| !blocks.contains(block));
        self.nodes
            .retain(|(index, _)| !blocks.contains(&completed_by(*index)));
    }

    /// Adds newer cells over these.
    pub(in crate::store) fn absorb(&mut self, newer: &Cells) {
        for (block, extent) in &newer.blocks {
            self.set_block(*block, *extent);
        }
        for (index, node) in &newer.nodes {
            self.set_node(*index, *node);
        }
    }
}

fn get<T: Copy>(sorted: &[(u64, T)], key: u64) -> Option<T> {
    let at = sorted.binary_search_by_key(&key, |(key, _)| *key).ok()?;
    Some(sorted[at].1)
}

fn set<T>(sorted: &mut Vec<(u64, T)>, key: u64, value: T) {
    if sorted.last().is_none_or(|(last, _)| *last < key) {
        sorted.push((key, value));
        return;
    }
    match sorted.binary_search_by_key(&key, |(key, _)| *key) {
        Ok(at) => sorted[at].1 = value,
        Err(at) => sorted.insert(at, (key, value)),
    }
}
