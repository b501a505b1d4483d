//! What of a feed one peer is shown: all, some ranges, or nothing at all.

use std::ops::Range;

/// Blocks of a feed that a peer may know of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Shown {
    /// Every block.
    #[default]
    All,
    /// These, ascending and apart; without any, neither length nor head.
    Only(Vec<Range<u64>>),
}

impl Shown {
    /// Takes ranges in any order.
    pub(super) fn only(mut ranges: Vec<Range<u64>>) -> Self {
        ranges.retain(|range| !range.is_empty());
        ranges.sort_unstable_by_key(|range| range.start);
        let mut apart: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match apart.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        Shown::Only(apart)
    }

    /// Returns whether the peer is not even told that there is a feed.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Shown::Only(ranges) if ranges.is_empty())
    }

    /// Returns whether the peer may have a block.
    pub(super) fn has(&self, block: u64) -> bool {
        self.within(block..block + 1).next().is_some()
    }

    /// Returns the parts of a run that the peer may know of.
    pub(super) fn within(&self, run: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let (all, only) = match self {
            Shown::All => (Some(run.clone()).filter(|run| !run.is_empty()), &[][..]),
            Shown::Only(ranges) => (None, &ranges[..]),
        };
        let first = only.partition_point(|range| range.end <= run.start);
        let cut = only[first..].iter().map_while(move |range| {
            let part = range.start.max(run.start)..range.end.min(run.end);
            (!part.is_empty()).then_some(part)
        });
        all.into_iter().chain(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cut_to_what_is_shown() {
        let shown = Shown::only(vec![20..30, 5..10, 8..12, 3..3]);
        assert_eq!(shown, Shown::Only(vec![5..12, 20..30]));
        let within = |run| shown.within(run).collect::<Vec<_>>();
        assert_eq!(within(0..100), [5..12, 20..30]);
        assert_eq!(within(11..21), [11..12, 20..21]);
        assert_eq!(within(12..20), [0..0; 0]);
        let has: Vec<u64> = (0..40).filter(|block| shown.has(*block)).collect();
        assert_eq!(has, (5..12).chain(20..30).collect::<Vec<_>>());
        assert!(Shown::All.within(3..9).eq(std::iter::once(3..9)));
        assert_eq!(Shown::All.within(3..3).count(), 0);
        assert!(!shown.is_nothing() && !Shown::All.is_nothing());
        assert!(Shown::only(vec![4..4, 3..3]).is_nothing());
    }
}
