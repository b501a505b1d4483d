//! A layer: what became known of a feed's places in some time, newest said last.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::store::index::cells::Cells;
use crate::store::index::run::{InRun, Run, Runs};
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

/// Runs and cells, and perhaps a length behind which older layers count no more.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Layer {
    runs: Runs,
    cells: BTreeMap<u64, Cells>,
    truncated_at: Option<u64>,
}

impl Layer {
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.cells.is_empty() && self.truncated_at.is_none()
    }

    /// Returns where a block stands.
    pub(in crate::store) fn block(&self, block: u64) -> Said<FoundBlock> {
        let cell = self.cells.get(&(block / PAGE_BLOCKS));
        if let Some(extent) = cell.and_then(|cells| cells.block(block)) {
            let at = InRun::At(extent);
            return Said::Found(FoundBlock { at, leaf: None });
        }
        match self.runs.find(block) {
            Some(run) => Said::Found(FoundBlock {
                at: run.block(block),
                leaf: Some(run.leaf(block)),
            }),
            None => self.unsaid(block),
        }
    }

    /// Returns where a node stands.
    pub(in crate::store) fn node(&self, index: u64) -> Said<NodeRef> {
        let block = completed_by(index);
        let cell = self.cells.get(&(block / PAGE_BLOCKS));
        if let Some(node) = cell.and_then(|cells| cells.node(index)) {
            return Said::Found(node);
        }
        match self.runs.find(block) {
            Some(run) => Said::Found(run.node(index)),
            None => self.unsaid(block),
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
