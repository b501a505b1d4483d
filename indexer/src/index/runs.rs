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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
