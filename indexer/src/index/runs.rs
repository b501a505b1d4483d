//! Which blocks of a feed are indexed: maximal runs, whatever order they came in.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Runs of indexed blocks, and which of them changed since they were last written.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    runs: BTreeMap<u64, u64>,
    touched: BTreeSet<u64>,
}

impl Runs {
    /// Takes a run as it was stored.
    pub(super) fn load(&mut self, start: u64, end: u64) {
        self.runs.insert(start, end);
    }

    /// Adds a block; returns whether it was new.
    pub(super) fn insert(&mut self, index: u64) -> bool {
        let before = self
            .runs
            .range(..=index)
            .next_back()
            .map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| index < end) {
            return false;
        }
        let start = match before {
            Some((start, end)) if end == index => start,
            _ => index,
        };
        let end = match self.runs.remove(&(index + 1)) {
            Some(end) => {
                self.touched.insert(index + 1);
                end
            }
            None => index + 1,
        };
        self.runs.insert(start, end);
        self.touched.insert(start);
        true
    }

    /// Takes a block out again.
    pub(super) fn remove(&mut self, index: u64) {
        let found = self.runs.range(..=index).next_back();
        let Some((start, end)) = found.map(|(start, end)| (*start, *end)) else {
            return;
        };
        if index >= end {
            return;
        }
        self.touched.insert(start);
        if start == index {
            self.runs.remove(&start);
        } else {
            self.runs.insert(start, index);
        }
        if index + 1 < end {
            self.runs.insert(index + 1, end);
            self.touched.insert(index + 1);
        }
    }

    /// Takes blocks out again; returns whether there was any.
    pub(super) fn remove_range(&mut self, range: &Range<u64>) -> bool {
        if range.is_empty() {
            return false;
        }
        let before = self.runs.range(..range.start).next_back();
        let before = before.filter(|(_, end)| **end > range.start);
        let within = self.runs.range(range.clone());
        let cut: Vec<(u64, u64)> = before
            .into_iter()
            .chain(within)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in &cut {
            self.touched.insert(*start);
            self.runs.remove(start);
            if *start < range.start {
                self.runs.insert(*start, range.start);
            }
            if range.end < *end {
                self.runs.insert(range.end, *end);
                self.touched.insert(range.end);
            }
        }
        !cut.is_empty()
    }

    /// Returns whether a block is indexed.
    pub(super) fn contains(&self, index: u64) -> bool {
        self.runs
            .range(..=index)
            .next_back()
            .is_some_and(|(_, end)| index < *end)
    }

    /// Returns the runs in order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.runs.iter().map(|(start, end)| *start..*end)
    }

    /// Returns the starts of runs that changed, each with its end or `None` where it is gone.
    pub(super) fn take_changes(&mut self) -> Vec<(u64, Option<u64>)> {
        std::mem::take(&mut self.touched)
            .into_iter()
            .map(|start| (start, self.runs.get(&start).copied()))
            .collect()
    }
}

/// Returns runs with more blocks, both in order; a block may be in a run.
pub(super) fn with_blocks(
    runs: Vec<Range<u64>>,
    blocks: impl Iterator<Item = u64>,
) -> Vec<Range<u64>> {
    let mut blocks = blocks.peekable();
    if blocks.peek().is_none() {
        return runs;
    }
    let mut all: Vec<Range<u64>> = runs
        .into_iter()
        .chain(blocks.map(|block| block..block + 1))
        .collect();
    all.sort_unstable_by_key(|run| run.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(all.len());
    for run in all {
        match joined.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => joined.push(run),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_beside_runs_make_them_longer() {
        let of = |runs: &[(u64, u64)], blocks: &[u64]| {
            let runs = runs.iter().map(|(start, end)| *start..*end).collect();
            with_blocks(runs, blocks.iter().copied())
        };
        assert_eq!(of(&[(0, 2), (3, 5)], &[]), [0..2, 3..5]);
        assert_eq!(of(&[(0, 2), (3, 5)], &[2, 7]), [0..5, 7..8]);
        assert_eq!(of(&[(1, 3)], &[0, 2, 5]), [0..3, 5..6]);
    }

    proptest! {
        #[test]
        fn any_order_gives_maximal_runs_and_changes_that_replay_them(
            blocks in proptest::collection::vec(0u64..40, 0..60),
            cut in 0usize..60,
        ) {
            let mut runs = Runs::default();
            let mut stored = BTreeMap::new();
            let mut model = BTreeSet::new();
            for (number, block) in blocks.iter().enumerate() {
                prop_assert_eq!(runs.insert(*block), model.insert(*block));
                if number == cut || number + 1 == blocks.len() {
                    for (start, end) in runs.take_changes() {
                        match end {
                            Some(end) => stored.insert(start, end),
                            None => stored.remove(&start),
                        };
                    }
                }
            }
            for block in 0..42 {
                prop_assert_eq!(runs.contains(block), model.contains(&block));
            }
            let ranges: Vec<_> = runs.ranges().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            let replayed: Vec<_> = stored.into_iter().map(|(start, end)| start..end).collect();
            prop_assert_eq!(ranges, replayed);
        }
    }
}
