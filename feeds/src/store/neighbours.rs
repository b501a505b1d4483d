//! Small blocks that stand side by side in the log, read and checked together.

use std::ops::Range;

use bytes::Bytes;

use crate::store::error::{ReadError, StoreError};
use crate::store::feed::{Feed, hash_at};
use crate::store::index::{Extent, NodeRef};
use crate::store::limits::{CHECKSUM_FROM_BYTES, NEIGHBOURS_BYTES};
use crate::store::segment::Segments;
use crate::tree::hash_leaves;

const HASH_BYTES: usize = 32;

/// Blocks of one record, one behind the other, whose leaves are in one record too.
struct Neighbours {
    first: Extent,
    bytes: usize,
    sizes: Vec<usize>,
    leaves: NodeRef,
    /// Where the hash of each leaf stands in its record.
    hashes_at: Vec<u64>,
}

impl Neighbours {
    fn of(extent: Extent, leaf: NodeRef) -> Neighbours {
        Neighbours {
            first: extent,
            bytes: extent.size as usize,
            sizes: Vec::from([extent.size as usize]),
            leaves: leaf,
            hashes_at: Vec::from([hash_at(leaf)]),
        }
    }

    /// Takes a block in if it stands behind the others; returns whether it does.
    fn take(&mut self, extent: Extent, leaf: NodeRef) -> bool {
        let behind = u64::from(self.first.at) + self.bytes as u64;
        let stands_behind = extent.record == self.first.record
            && u64::from(extent.at) == behind
            && (extent.size as usize) < CHECKSUM_FROM_BYTES;
        let of_same_record = leaf.record() == self.leaves.record();
        let (first, last) = (self.hashes_at[0], hash_at(leaf));
        let near = (first..first + NEIGHBOURS_BYTES as u64).contains(&last);
        if !stands_behind || !of_same_record || !near {
            return false;
        }
        self.bytes += extent.size as usize;
        self.sizes.push(extent.size as usize);
        self.hashes_at.push(last);
        true
    }
}

impl Feed {
    /// Returns the first of `blocks` and as many behind it as stand beside it in the log, are small and
    /// have no more than about `most` bytes together; nothing if the first is not held.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    pub(super) fn get_neighbours(
        &self,
        blocks: Range<u64>,
        most: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        // Whatever is wrong with one of many, it is told of it alone.
        if let Ok(values) = self.read_neighbours(&blocks, most)
            && !values.is_empty()
        {
            return Ok(values);
        }
        Ok(self.get(blocks.start)?.into_iter().collect())
    }

    /// The same; nothing also if the blocks are better read alone.
    fn read_neighbours(&self, blocks: &Range<u64>, most: usize) -> Result<Vec<Bytes>, StoreError> {
        let heads = &self.inner.heads;
        let Some((extent, leaf)) = self.entry.find_block(heads, blocks.start)? else {
            return Ok(Vec::new());
        };
        if extent.size as usize >= CHECKSUM_FROM_BYTES || !heads.verifies() {
            return Ok(Vec::new());
        }
        let mut found = Neighbours::of(extent, leaf);
        for block in blocks.start + 1..blocks.end {
            let next = self.entry.find_block(heads, block)?;
            let taken = next.is_some_and(|(extent, leaf)| found.take(extent, leaf));
            if !taken || found.bytes >= most.min(NEIGHBOURS_BYTES) {
                break;
            }
        }
        if found.sizes.len() < 2 {
            return Ok(Vec::new());
        }
        self.read_and_check(blocks.start, &found)
    }

    fn read_and_check(&self, first: u64, found: &Neighbours) -> Result<Vec<Bytes>, StoreError> {
        let segments = self.inner.heads.segments();
        let place = found.first.record;
        let file = segments.file(place.segment)?;
        let mut payload = vec![0; found.bytes];
        Segments::read_in(&*file, place, u64::from(found.first.at), &mut payload)?;
        let mut payload = Bytes::from(payload);
        let values: Vec<Bytes> = found
            .sizes
            .iter()
            .map(|size| payload.split_to(*size))
            .collect();
        let (from, last) = (found.hashes_at[0], found.hashes_at.last().copied());
        let mut hashes = vec![0; (last.unwrap_or(from) - from) as usize + HASH_BYTES];
        segments.read(found.leaves.record(), from, &mut hashes)?;
        let leaves = hash_leaves(first, &values);
        let holds = leaves.iter().zip(&found.hashes_at).all(|(leaf, at)| {
            let at = (at - from) as usize;
            hashes.get(at..at + HASH_BYTES) == Some(&leaf.hash.0[..])
        });
        Ok(if holds { values } else { Vec::new() })
    }
}
