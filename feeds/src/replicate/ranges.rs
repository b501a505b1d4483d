//! Which blocks an interest comes to, once the length of a feed is known.

use std::ops::Range;

use crate::bitfield::Bitfield;
use crate::replicate::{Interest, Want};

/// Wanted runs of blocks, in order and apart from each other; an open end is `u64::MAX`.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    runs: Vec<Range<u64>>,
    /// `Want::Last` waits for the head.
    last: Option<u64>,
}

impl Wanted {
    pub(super) fn new(interest: &Interest) -> Self {
        let mut last = None;
        let mut runs = match &interest.want {
            Want::None => Vec::new(),
            Want::All => std::iter::once(0..u64::MAX).collect(),
            Want::Range(range) => vec![range.clone()],
            Want::Ranges(ranges) => ranges.clone(),
            Want::Last(count) => {
                last = Some(*count);
                Vec::new()
            }
        };
        runs.retain(|run| !run.is_empty());
        runs.sort_by_key(|run| run.start);
        let mut joined: Vec<Range<u64>> = Vec::with_capacity(runs.len());
        for run in runs {
            match joined.last_mut() {
                Some(before) if before.end >= run.start => before.end = before.end.max(run.end),
                _ => joined.push(run),
            }
        }
        Wanted { runs: joined, last }
    }

    /// Settles "the last blocks" once the head to count from is known.
    pub(super) fn settle(&mut self, length: u64) {
        if let Some(count) = self.last.take() {
            self.runs = std::iter::once(length.saturating_sub(count)..u64::MAX).collect();
        }
    }

    /// Returns whether all wanted runs are known.
    pub(super) fn is_settled(&self) -> bool {
        self.last.is_none()
    }

    /// Returns the wanted runs below `length`.
    pub(super) fn below(&self, length: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs
            .iter()
            .map(move |run| run.start..run.end.min(length))
            .take_while(|run| !run.is_empty())
    }

    /// Returns the wanted run with this number, cut at `length`.
    pub(super) fn run(&self, number: usize, length: u64) -> Option<Range<u64>> {
        let run = self.runs.get(number)?;
        (run.start < length).then(|| run.start..run.end.min(length))
    }

    /// Returns the first wanted block below `length` that `have` lacks.
    pub(super) fn first_missing(&self, have: &Bitfield, length: u64) -> Option<u64> {
        self.below(length).find_map(|run| {
            let first = have.first_unset_from(run.start);
            (first < run.end).then_some(first)
        })
    }

    /// Returns how many blocks below `length` are wanted.
    pub(super) fn count(&self, length: u64) -> u64 {
        self.below(length).map(|run| run.end - run.start).sum()
    }

    /// Returns how many of them `have` lacks.
    pub(super) fn count_missing(&self, have: &Bitfield, length: u64) -> u64 {
        self.below(length)
            .map(|run| run.end - run.start - have.count_range(run))
            .sum()
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // runs compared with lists of one run
mod tests {
    use super::*;

    fn wanted(want: Want) -> Wanted {
        Wanted::new(&Interest { want, live: false })
    }

    #[test]
    fn ranges_are_ordered_and_joined() {
        let wanted = wanted(Want::Ranges(vec![8..9, 2..4, 3..6, 6..7, 20..20]));
        assert_eq!(wanted.below(100).collect::<Vec<_>>(), [2..7, 8..9]);
        assert_eq!(wanted.below(4).collect::<Vec<_>>(), [2..4]);
        assert_eq!((wanted.count(100), wanted.count(4)), (6, 2));
    }

    #[test]
    fn last_counts_from_the_head_and_goes_on() {
        let mut wanted = wanted(Want::Last(3));
        assert!(!wanted.is_settled());
        assert_eq!(wanted.count(10), 0);
        wanted.settle(10);
        assert_eq!(wanted.below(10).collect::<Vec<_>>(), [7..10]);
        assert_eq!(wanted.below(12).collect::<Vec<_>>(), [7..12]);
        wanted.settle(100);
        assert_eq!(wanted.count(12), 5);
    }

    #[test]
    fn missing_blocks_are_those_wanted_and_not_held() {
        let mut have = Bitfield::new();
        have.set_range(0..5);
        let wanted = wanted(Want::Ranges(vec![3..7, 9..10]));
        assert_eq!(wanted.first_missing(&have, 100), Some(5));
        assert_eq!(wanted.count_missing(&have, 100), 3);
        assert_eq!(wanted.first_missing(&have, 5), None);
    }
}
