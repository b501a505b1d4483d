//! Runs: whole append records, each one entry.

use std::ops::Range;

use crate::store::error::Place;
use crate::store::index::{Extent, NodeRef, completed_by};
use crate::tree::completed_parents;

/// An append record, or a part of its blocks, with the nodes they complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct Run {
    /// First block of the record.
    pub(in crate::store) start: u64,
    /// Blocks of the record.
    pub(in crate::store) count: u32,
    /// Blocks at its start that other entries stand for.
    pub(in crate::store) skip: u32,
    /// Blocks that this entry stands for.
    pub(in crate::store) blocks: u32,
    pub(in crate::store) record: Place,
    /// Bytes from the record's start to its payload part.
    pub(in crate::store) payload_at: u32,
    pub(in crate::store) sizes: Sizes,
}

/// The sizes of a run's blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) enum Sizes {
    /// All of this many bytes.
    Uniform(u32),
    /// As the record says.
    Varied,
}

impl Sizes {
    /// Returns what all of `sizes` have in common.
    pub(in crate::store) fn of(mut sizes: impl Iterator<Item = u32>) -> Sizes {
        let first = sizes.next().unwrap_or(0);
        match sizes.all(|size| size == first) {
            true => Sizes::Uniform(first),
            false => Sizes::Varied,
        }
    }
}

/// Where a block of a run stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) enum InRun {
    At(Extent),
    /// Number of the block in its record, whose payload part starts `payload_at` bytes from it.
    Listed {
        record: Place,
        payload_at: u32,
        ordinal: u32,
    },
}

impl Run {
    /// Returns the run of a whole record.
    pub(in crate::store) fn whole(
        start: u64,
        count: u32,
        record: Place,
        payload_at: u32,
        sizes: Sizes,
    ) -> Run {
        Run {
            start,
            count,
            skip: 0,
            blocks: count,
            record,
            payload_at,
            sizes,
        }
    }

    /// Returns the blocks that this entry stands for.
    pub(in crate::store) fn range(&self) -> Range<u64> {
        let first = self.start + u64::from(self.skip);
        first..first + u64::from(self.blocks)
    }

    /// Returns this run without the blocks outside `range`, `None` when none is left.
    pub(in crate::store) fn clipped(&self, range: &Range<u64>) -> Option<Run> {
        let own = self.range();
        let (first, end) = (own.start.max(range.start), own.end.min(range.end));
        if first >= end {
            return None;
        }
        // Both differences are within the record, which counts in 32 bits.
        Some(Run {
            skip: (first - self.start) as u32,
            blocks: (end - first) as u32,
            ..*self
        })
    }

    /// Returns the nodes that the blocks of `range` complete for which it stands.
    pub(in crate::store) fn nodes(&self, range: &Range<u64>) -> impl Iterator<Item = u64> {
        let own = self.range();
        let blocks = own.start.max(range.start)..own.end.min(range.end);
        let parents = completed_parents(blocks.start, blocks.end);
        blocks.map(|block| 2 * block).chain(parents)
    }

    /// Returns where a block that it stands for is.
    pub(in crate::store) fn block(&self, block: u64) -> InRun {
        let ordinal = (block - self.start) as u32;
        let (record, payload_at) = (self.record, self.payload_at);
        match self.sizes {
            // A payload part has at most 32 MiB.
            Sizes::Uniform(size) => InRun::At(Extent {
                record,
                at: payload_at + ordinal * size,
                size,
            }),
            Sizes::Varied => InRun::Listed {
                record,
                payload_at,
                ordinal,
            },
        }
    }

    /// Returns where the leaf of a block that it stands for is.
    pub(in crate::store) fn leaf(&self, block: u64) -> NodeRef {
        NodeRef::new(self.record, false, (block - self.start) as u32)
    }

    /// Returns where a node is that a block completes for which it stands.
    ///
    /// The record lists its leaves, then for each block the parents it completes, lowest first;
    /// all blocks before block `n` complete `n - popcount(n)` parents.
    pub(in crate::store) fn node(&self, index: u64) -> NodeRef {
        let parents_before = |block: u64| block - u64::from(block.count_ones());
        let block = completed_by(index);
        let ordinal = match flat_tree::depth(index) {
            0 => block - self.start,
            depth => {
                u64::from(self.count) + parents_before(block) - parents_before(self.start) + depth
                    - 1
            }
        };
        NodeRef::new(self.record, false, ordinal as u32)
    }
}

/// Runs in the order of their blocks; each block is in one at most.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct Runs(Vec<Run>);

impl Runs {
    pub(in crate::store) fn iter(&self) -> impl Iterator<Item = &Run> {
        self.0.iter()
    }

    pub(in crate::store) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::store) fn memory_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Run>()
    }

    /// Returns the run that stands for `block`.
    pub(in crate::store) fn find(&self, block: u64) -> Option<&Run> {
        let at = self.0.partition_point(|run| run.range().end <= block);
        self.0.get(at).filter(|run| run.range().start <= block)
    }

    /// Returns the runs that stand for a block of `range`.
    pub(in crate::store) fn within(&self, range: &Range<u64>) -> &[Run] {
        let first = self.0.partition_point(|run| run.range().end <= range.start);
        let rest = &self.0[first..];
        &rest[..rest.partition_point(|run| run.range().start < range.end)]
    }

    /// Adds a run, which takes over what other runs said of its blocks.
    pub(in crate::store) fn add(&mut self, run: Run) {
        let range = run.range();
        if range.is_empty() {
            return;
        }
        if self
            .0
            .last()
            .is_none_or(|last| last.range().end <= range.start)
        {
            self.0.push(run);
            return;
        }
        let at = self.cut(&range);
        self.0.insert(at, run);
    }

    /// Takes blocks out of all runs; returns where a run of them would go.
    pub(in crate::store) fn cut(&mut self, range: &Range<u64>) -> usize {
        let first = self.0.partition_point(|run| run.range().end <= range.start);
        let count = self.within(range).len();
        let mut left = Vec::with_capacity(2);
        let mut at = first;
        for run in &self.0[first..first + count] {
            if let Some(before) = run.clipped(&(0..range.start)) {
                left.push(before);
                at += 1;
            }
            left.extend(run.clipped(&(range.end..u64::MAX)));
        }
        self.0.splice(first..first + count, left);
        at
    }
}

impl FromIterator<Run> for Runs {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> Runs {
        let mut all = Runs::default();
        runs.into_iter().for_each(|run| all.add(run));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u32) -> Place {
        Place { segment: 3, offset }
    }

    #[test]
    fn every_node_of_a_record_has_the_number_at_which_it_is_listed() {
        for (start, count) in [
            (0, 1),
            (0, 8),
            (1, 7),
            (5, 3),
            (1000, 1000),
            (4095, 2),
            (7, 0),
        ] {
            let run = Run::whole(start, count, place(1), 90, Sizes::Uniform(4));
            let end = start + u64::from(count);
            let listed = (start..end).map(|block| 2 * block);
            let listed = listed.chain(completed_parents(start, end));
            for (ordinal, index) in (0..).zip(listed) {
                assert!(run.range().contains(&completed_by(index)));
                assert_eq!(run.node(index), NodeRef::new(place(1), false, ordinal));
            }
        }
    }

    #[test]
    fn a_newer_run_takes_over_the_blocks_it_covers() {
        let run =
            |start, count, offset| Run::whole(start, count, place(offset), 10, Sizes::Uniform(1));
        let ranges = |runs: &Runs| -> Vec<_> {
            runs.iter()
                .map(|run| (run.range(), run.record.offset))
                .collect()
        };
        let mut runs: Runs = [run(0, 10, 1), run(10, 10, 2), run(30, 5, 3)]
            .into_iter()
            .collect();
        runs.add(run(4, 3, 4));
        assert_eq!(
            ranges(&runs),
            [(0..4, 1), (4..7, 4), (7..10, 1), (10..20, 2), (30..35, 3)]
        );
        runs.add(run(2, 40, 5));
        assert_eq!(ranges(&runs), [(0..2, 1), (2..42, 5)]);
        runs.cut(&(20..u64::MAX));
        assert_eq!(ranges(&runs), [(0..2, 1), (2..20, 5)]);
        assert_eq!(runs.find(20), None);
        let InRun::At(extent) = runs.find(19).unwrap().block(19) else {
            panic!("the sizes are uniform");
        };
        assert_eq!((extent.at, extent.record.offset), (27, 5));
    }
}
