//! A layer: what became known of a feed's places in some time, newest said last.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::store::index::cells::Cells;
use crate::store::index::run::{InRun, Run, Runs};
use crate::store::index::table::HAVE_CHUNK_BLOCKS;
use crate::store::index::{Extent, NodeRef, PAGE_BLOCKS, completed_by};

/// Where a block stands, and its leaf if that follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct FoundBlock {
    pub(in crate::store) at: InRun,
    /// Where its leaf is; `None` for a cell, whose leaf has a place of its own.
    pub(in crate::store) leaf: Option<NodeRef>,
}

/// What a layer says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) enum Said<T> {
    Found(T),
    /// Not there, whatever older layers say.
    Gone,
    /// Nothing: older layers know.
    Nothing,
}

/// Looks a block up in cells, which are newer, then in runs.
pub(in crate::store) fn block_in(
    cells: Option<&Cells>,
    runs: &Runs,
    block: u64,
) -> Said<FoundBlock> {
    if let Some(extent) = cells.and_then(|cells| cells.block(block)) {
        let at = InRun::At(extent);
        return Said::Found(FoundBlock { at, leaf: None });
    }
    match runs.find(block) {
        Some(run) => Said::Found(FoundBlock {
            at: run.block(block),
            leaf: Some(run.leaf(block)),
        }),
        None => Said::Nothing,
    }
}

/// Looks a node up in cells, which are newer, then in runs.
pub(in crate::store) fn node_in(cells: Option<&Cells>, runs: &Runs, index: u64) -> Said<NodeRef> {
    if let Some(node) = cells.and_then(|cells| cells.node(index)) {
        return Said::Found(node);
    }
    match runs.find(completed_by(index)) {
        Some(run) => Said::Found(run.node(index)),
        None => Said::Nothing,
    }
}

/// Runs and cells, and perhaps a length behind which older layers count no more.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Layer {
    runs: Runs,
    cells: BTreeMap<u64, Cells>,
    truncated_at: Option<u64>,
    /// Chunks of the have-bitfield in which something changed.
    have_changed: BTreeSet<u64>,
}

impl Layer {
    /// Returns where a block stands.
    pub(in crate::store) fn block(&self, block: u64) -> Said<FoundBlock> {
        match block_in(self.cells.get(&(block / PAGE_BLOCKS)), &self.runs, block) {
            Said::Nothing => self.unsaid(block),
            said => said,
        }
    }

    /// Returns where a node stands.
    pub(in crate::store) fn node(&self, index: u64) -> Said<NodeRef> {
        let block = completed_by(index);
        match node_in(self.cells.get(&(block / PAGE_BLOCKS)), &self.runs, index) {
            Said::Nothing => self.unsaid(block),
            said => said,
        }
    }

    fn unsaid<T>(&self, block: u64) -> Said<T> {
        match self.truncated_at.is_some_and(|length| block >= length) {
            true => Said::Gone,
            false => Said::Nothing,
        }
    }

    /// Adds an append record.
    pub(in crate::store) fn add_run(&mut self, run: Run) {
        let range = run.range();
        self.cut_cells(&range);
        self.runs.add(run);
    }

    pub(in crate::store) fn set_block(&mut self, block: u64, extent: Extent) {
        let cells = self.cells.entry(block / PAGE_BLOCKS).or_default();
        cells.set_block(block, extent);
    }

    pub(in crate::store) fn set_node(&mut self, index: u64, node: NodeRef) {
        let page = completed_by(index) / PAGE_BLOCKS;
        self.cells.entry(page).or_default().set_node(index, node);
    }

    /// Notes that which blocks of a range are held has changed.
    pub(in crate::store) fn have_changes(&mut self, blocks: &Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        let chunks = blocks.start / HAVE_CHUNK_BLOCKS..=(blocks.end - 1) / HAVE_CHUNK_BLOCKS;
        self.have_changed.extend(chunks);
    }

    /// Returns the chunks of the have-bitfield in which something changed.
    pub(in crate::store) fn have_changed(&self) -> &BTreeSet<u64> {
        &self.have_changed
    }

    /// Forgets blocks from `length` on, and the nodes they complete, here and in older layers.
    pub(in crate::store) fn truncate(&mut self, length: u64) {
        let behind = length..u64::MAX;
        self.cut_cells(&behind);
        self.runs.cut(&behind);
        let before = self.truncated_at.unwrap_or(u64::MAX);
        self.truncated_at = Some(before.min(length));
    }

    /// Adds a newer layer over this one.
    pub(in crate::store) fn absorb(&mut self, newer: &Layer) {
        if let Some(length) = newer.truncated_at {
            self.truncate(length);
        }
        for run in newer.runs.iter() {
            self.add_run(*run);
        }
        self.have_changed.extend(&newer.have_changed);
        for (page, cells) in &newer.cells {
            self.cells.entry(*page).or_default().absorb(cells);
        }
    }

    /// Returns the length behind which older layers count no more.
    pub(in crate::store) fn truncated_at(&self) -> Option<u64> {
        self.truncated_at
    }

    /// Returns the pages of which it says something, pages behind a truncation apart.
    pub(in crate::store) fn pages(&self) -> BTreeSet<u64> {
        let mut pages: BTreeSet<u64> = self.cells.keys().copied().collect();
        for run in self.runs.iter() {
            let range = run.range();
            pages.extend(range.start / PAGE_BLOCKS..=(range.end - 1) / PAGE_BLOCKS);
        }
        pages
    }

    /// Returns the runs that stand for a block of `range`.
    pub(in crate::store) fn runs(&self, range: &Range<u64>) -> &[Run] {
        self.runs.within(range)
    }

    /// Returns the cells of a page.
    pub(in crate::store) fn cells(&self, page: u64) -> Option<&Cells> {
        self.cells.get(&page)
    }

    /// Returns the nodes of a page that it says something of, in no order.
    pub(in crate::store) fn nodes_of(&self, page: u64) -> Vec<u64> {
        let blocks = page * PAGE_BLOCKS..(page + 1) * PAGE_BLOCKS;
        let cells = self.cells.get(&page).map_or(&[][..], |cells| &cells.nodes);
        let mut nodes: Vec<u64> = cells.iter().map(|(index, _)| *index).collect();
        for run in self.runs.within(&blocks) {
            nodes.extend(run.nodes(&blocks));
        }
        nodes
    }

    fn cut_cells(&mut self, blocks: &Range<u64>) {
        if self.cells.is_empty() || blocks.is_empty() {
            return;
        }
        let pages = blocks.start / PAGE_BLOCKS..=(blocks.end - 1) / PAGE_BLOCKS;
        self.cells
            .range_mut(pages.clone())
            .for_each(|(_, cells)| cells.cut(blocks));
        let empty: Vec<u64> = self
            .cells
            .range(pages)
            .filter(|(_, cells)| cells.is_empty())
            .map(|(page, _)| *page)
            .collect();
        for page in empty {
            self.cells.remove(&page);
        }
    }
}
