//! Making durable records visible to a feed's readers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::store::body::{Body, Filled, StoredBlock};
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::heads::Heads;
use crate::store::index::run::{Run, Sizes};
use crate::store::index::{Extent, NodeRef};
use crate::store::state::{FeedEntry, FeedState};
use crate::tree::SignedHead;

/// What an append makes visible: one run, however many blocks it has.
#[derive(Debug)]
pub(super) struct NewRun {
    start: u64,
    count: u32,
    payload_at: u32,
    sizes: Sizes,
    bytes: u64,
}

impl NewRun {
    /// Describes an append whose payload starts `payload_at` bytes behind its record's start.
    pub(super) fn of(filled: &Filled, payload_at: u32) -> NewRun {
        let sizes = || filled.blocks.iter().map(|block| block.size);
        NewRun {
            start: filled.blocks.first().map_or(0, |block| block.index),
            count: filled.blocks.len() as u32,
            payload_at,
            sizes: Sizes::of(sizes()),
            bytes: sizes().map(u64::from).sum(),
        }
    }
}

/// Bytes of a record's payload that stand in one piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) segment: u32,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// What clearing ranges of blocks frees.
#[derive(Debug, Default)]
pub(super) struct Freed {
    pub(super) bytes: u64,
    pub(super) spans: Vec<Span>,
}

impl Freed {
    fn add(&mut self, extent: Extent) {
        let offset = u64::from(extent.record.offset) + u64::from(extent.at);
        let bytes = u64::from(extent.size);
        self.bytes += bytes;
        match self.spans.last_mut() {
            Some(last)
                if last.segment == extent.record.segment && last.offset + last.bytes == offset =>
            {
                last.bytes += bytes;
            }
            _ => self.spans.push(Span {
                segment: extent.record.segment,
                offset,
                bytes,
            }),
        }
    }
}

/// Bytes of a block's leaf and parent in the head part of an append.
const APPEND_HEAD_BYTES: u64 = 72;

/// Bytes of a block's leaf and parent in the head part of a fill, about.
const FILL_HEAD_BYTES: u64 = 96;

impl FeedState {
    /// Counts blocks as held that were not.
    fn hold(&mut self, blocks: &[StoredBlock]) {
        for block in blocks {
            if self.have.set(block.index, true) {
                let changed = block.index..block.index + 1;
                self.places.delta.have_changes(&changed);
                self.blocks_held += 1;
                self.bytes_held += u64::from(block.size);
            }
        }
    }
}

impl FeedEntry {
    /// Makes an append visible.
    pub(super) fn publish_append(
        &self,
        record: Place,
        new: &NewRun,
        signed: Option<Arc<SignedHead>>,
    ) {
        let mut state = self.write();
        let (start, count) = (new.start, new.count);
        let run = Run::whole(start, count, record, new.payload_at, new.sizes);
        state.places.delta.add_run(run);
        let blocks = start..start + u64::from(count);
        state.places.delta.have_changes(&blocks);
        state.have.set_range(blocks);
        state.blocks_held += u64::from(count);
        state.bytes_held += new.bytes;
        state.set_head(signed, record);
    }

    /// Makes a fill visible whose payload starts `payload_at` bytes behind its record's start.
    pub(super) fn publish_fill(
        &self,
        record: Place,
        payload_at: u32,
        filled: &Filled,
        signed: Option<Arc<SignedHead>>,
    ) {
        self.add_places(filled.nodes.len() + filled.blocks.len());
        let mut state = self.write();
        for (ordinal, node) in (0..).zip(&filled.nodes) {
            let at = NodeRef::new(record, true, ordinal);
            state.places.delta.set_node(node.index, at);
        }
        for block in &filled.blocks {
            let (at, size) = (payload_at + block.at, block.size);
            let extent = Extent { record, at, size };
            state.places.delta.set_block(block.index, extent);
        }
        state.hold(&filled.blocks);
        state.set_head(signed, record);
    }

    /// Looks for what compaction moved at its new place from here on; what is not held yet, because
    /// its old place is gone, is held now.
    pub(super) fn publish_moved(&self, record: Place, payload_at: u32, moved: &Body) {
        let filled = match moved {
            Body::Append(filled) => {
                let new = NewRun::of(filled, payload_at);
                let mut state = self.write();
                let run = Run::whole(new.start, new.count, record, payload_at, new.sizes);
                state.places.delta.add_run(run);
                state.hold(&filled.blocks);
                filled
            }
            Body::Fill(filled) => {
                self.publish_fill(record, payload_at, filled, None);
                filled
            }
            _ => return,
        };
        let Some(head) = &filled.head else { return };
        let mut state = self.write();
        let is_ours = state.signed.as_ref().is_some_and(|signed| {
            (signed.head.fork, signed.head.length) == (head.fork, head.length)
                && signed.tree_hash == head.tree_hash
        });
        if is_ours {
            state.head_record = Some(record);
        }
    }

    /// Returns the bytes that what is held takes in each segment, head parts counted by the block.
    pub(super) fn footprint(&self, heads: &Heads) -> Result<BTreeMap<u32, u64>, StoreError> {
        let mut footprint = BTreeMap::new();
        let held: Vec<_> = self.read().have.runs(0..u64::MAX).collect();
        for block in held.into_iter().flatten() {
            match self.find_block(heads, block) {
                Ok(Some((extent, leaf))) => {
                    let head = match leaf.is_fill() {
                        true => FILL_HEAD_BYTES,
                        false => APPEND_HEAD_BYTES,
                    };
                    *footprint.entry(extent.record.segment).or_default() +=
                        head + u64::from(extent.size);
                }
                Ok(None) | Err(StoreError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(footprint)
    }

    /// Returns what clearing `ranges` would free. Nothing of the feed may change until then.
    pub(super) fn freed(&self, heads: &Heads, ranges: &[(u64, u64)]) -> Result<Freed, StoreError> {
        self.ensure_known()?;
        let mut freed = Freed::default();
        for (start, length) in ranges {
            let range = *start..start.saturating_add(*length);
            let held: Vec<_> = self.read().have.runs(range).collect();
            for block in held.into_iter().flatten() {
                match self.find_block(heads, block) {
                    Ok(Some((extent, _))) => freed.add(extent),
                    // What is damaged can be given up too; how much that frees is not known.
                    Ok(None) | Err(StoreError::Damaged(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(freed)
    }

    /// Takes blocks away; their places are forgotten with the next record over them.
    pub(super) fn publish_cleared(&self, ranges: &[(u64, u64)], bytes: u64) {
        let mut state = self.write();
        for (start, length) in ranges {
            state.forget_held(*start..start.saturating_add(*length));
        }
        state.bytes_held = state.bytes_held.saturating_sub(bytes);
    }

    /// Returns where a block that is held stands, and its leaf.
    pub(super) fn find_block(
        &self,
        heads: &Heads,
        block: u64,
    ) -> Result<Option<(Extent, NodeRef)>, StoreError> {
        self.ensure_known()?;
        let state = self.read();
        if !state.have.get(block) {
            return Ok(None);
        }
        let looked = state.places.block(block);
        drop(state);
        let found = looked.or_ask(|base| base.block(block))?;
        // It is held: the index must know where.
        let nowhere = || Damage {
            place: Place {
                segment: 0,
                offset: 0,
            },
            what: DamageKind::Index,
        };
        let found = found.ok_or_else(nowhere)?;
        let leaf = match found.leaf {
            Some(leaf) => leaf,
            None => self.find_node(2 * block)?.ok_or_else(nowhere)?,
        };
        Ok(Some((heads.extent(found.at)?, leaf)))
    }

    /// Returns where a node stands.
    pub(super) fn find_node(&self, index: u64) -> Result<Option<NodeRef>, StoreError> {
        self.ensure_known()?;
        let state = self.read();
        let looked = state.places.node(index);
        drop(state);
        looked.or_ask(|base| base.node(index))
    }

    /// Returns the pages of the index of which anything is known.
    pub(super) fn pages(&self) -> Result<BTreeSet<u64>, StoreError> {
        let state = self.read();
        let (mut pages, base) = (state.places.pages(), state.places.base());
        drop(state);
        if let Some(base) = base {
            pages.extend(base.pages()?);
        }
        Ok(pages)
    }

    /// Returns the nodes of a page that are stored, in order.
    pub(super) fn nodes_of(&self, page: u64) -> Result<BTreeSet<u64>, StoreError> {
        let state = self.read();
        let (mut nodes, base) = (state.places.nodes_of(page), state.places.base());
        drop(state);
        if let Some(base) = base {
            nodes.extend(base.nodes_of(page)?);
        }
        let mut stored = BTreeSet::new();
        for index in nodes {
            if self.find_node(index)?.is_some() {
                stored.insert(index);
            }
        }
        Ok(stored)
    }
}
