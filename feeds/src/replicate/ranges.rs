//! Which blocks an interest comes to, once the length of a feed is known.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::bitfield::Bitfield;
use crate::limits::{NEWEST_PART_BLOCKS, NEWEST_PARTS_MAX};
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::{Interest, Want};

/// Wanted runs of blocks, in the order in which they are asked for and apart from each other; an open
/// end is `u64::MAX`. The last blocks are a window that moves with the head, newest first.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// All of them.
    runs: Vec<Range<u64>>,
    /// Those of the interest.
    lasting: Vec<Range<u64>>,
    /// Blocks wanted beside it.
    single: BTreeSet<u64>,
    window: Option<Window>,
}

/// The last blocks of a feed.
#[derive(Clone, Copy, Debug)]
struct Window {
    blocks: u64,
    /// Length from which they are counted; `None` waits for the head.
    from: Option<u64>,
}

impl Window {
    /// Returns the blocks in parts, the newest first: within a part blocks share most of their nodes.
    fn runs(self) -> Vec<Range<u64>> {
        let Some(length) = self.from else {
            return Vec::new();
        };
        let (start, mut end) = (length.saturating_sub(self.blocks), u64::MAX);
        let part = (self.blocks.min(length) / NEWEST_PARTS_MAX)
            .max(NEWEST_PART_BLOCKS)
            .next_power_of_two();
        let mut runs = Vec::new();
        while end > start {
            let first = (length.min(end) - u64::from(end <= length)) / part * part;
            let first = first.max(start);
            runs.push(first..end);
            end = first;
        }
        runs
    }
}

impl Wanted {
    pub(super) fn new(interest: &Interest) -> Self {
        let mut window = None;
        let mut runs = match &interest.want {
            Want::None => Vec::new(),
            Want::All => std::iter::once(0..u64::MAX).collect(),
            Want::Range(range) => {
                let end = range.end + u64::from(makes(Mistake::RangeOffByOne));
                std::iter::once(range.start..end).collect()
            }
            Want::Ranges(ranges) => ranges.clone(),
            Want::Last(count) => {
                window = Some(Window {
                    blocks: *count,
                    from: None,
                });
                Vec::new()
            }
        };
        runs = join(runs);
        Wanted {
            lasting: runs.clone(),
            runs,
            single: BTreeSet::new(),
            window,
        }
    }

    /// Says which blocks are wanted beside the interest.
    pub(super) fn set_single(&mut self, blocks: BTreeSet<u64>) {
        if self.single != blocks {
            self.single = blocks;
            self.put_together();
        }
    }

    fn put_together(&mut self) {
        let lasting = &self.lasting;
        let beside = |block: &&u64| !lasting.iter().any(|run| run.contains(block));
        let single = self.single.iter().filter(beside);
        let single = single.map(|block| *block..*block + 1);
        self.runs = match self.window {
            Some(_) => single.chain(lasting.iter().cloned()).collect(),
            None => join(single.chain(lasting.iter().cloned()).collect()),
        };
    }

    /// Counts "the last blocks" from this length: once the head is known, and again when it moves.
    pub(super) fn settle(&mut self, length: u64) {
        if let Some(window) = self
            .window
            .as_mut()
            .filter(|window| window.from != Some(length))
        {
            window.from = Some(length);
            self.lasting = window.runs();
            self.put_together();
        }
    }

    /// Returns whether later runs lie before earlier ones.
    pub(super) fn is_newest_first(&self) -> bool {
        self.window.is_some()
    }

    /// Returns whether all wanted runs are known.
    pub(super) fn is_settled(&self) -> bool {
        self.window.is_none_or(|window| window.from.is_some())
    }

    /// Returns the wanted runs below `length`.
    pub(super) fn below(&self, length: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs
            .iter()
            .map(move |run| run.start..run.end.min(length))
            .filter(|run| !run.is_empty())
    }

    /// Returns whether a block is wanted.
    pub(super) fn contains(&self, block: u64) -> bool {
        self.runs.iter().any(|run| run.contains(&block))
    }

    /// Returns the wanted run with this number, cut at `length`.
    pub(super) fn run(&self, number: usize, length: u64) -> Option<Range<u64>> {
        let run = self.runs.get(number)?;
        Some(run.start.min(length)..run.end.min(length))
    }

    /// Returns the first wanted block below `length` that `have` lacks.
    pub(super) fn first_missing(&self, have: &Bitfield, length: u64) -> Option<u64> {
        let missing = self.below(length).filter_map(|run| {
            let first = have.first_unset_from(run.start);
            (first < run.end).then_some(first)
        });
        match self.window {
            // The parts of a window come newest first.
            Some(_) => missing.min(),
            None => { missing }.next(),
        }
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

/// Returns the runs in ascending order and apart.
fn join(mut runs: Vec<Range<u64>>) -> Vec<Range<u64>> {
    runs.retain(|run| !run.is_empty());
    runs.sort_by_key(|run| run.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(runs.len());
    for run in runs {
        match joined.last_mut() {
            Some(before) if before.end >= run.start => before.end = before.end.max(run.end),
            _ => joined.push(run),
        }
    }
    joined
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
    fn last_counts_from_the_head_and_moves_with_it() {
        let mut wanted = wanted(Want::Last(3));
        assert!(!wanted.is_settled());
        assert_eq!(wanted.count(10), 0);
        wanted.settle(10);
        assert!(wanted.is_settled());
        assert_eq!(wanted.below(10).collect::<Vec<_>>(), [7..10]);
        assert_eq!(wanted.below(12).collect::<Vec<_>>(), [7..12]);
        wanted.settle(100);
        assert_eq!(wanted.below(100).collect::<Vec<_>>(), [97..100]);
        wanted.settle(2);
        assert_eq!(wanted.below(2).collect::<Vec<_>>(), [0..2]);
    }

    #[test]
    fn the_newest_part_of_a_window_comes_first() {
        let mut wanted = wanted(Want::Last(600));
        wanted.settle(1000);
        let parts: Vec<Range<u64>> = (0..).map_while(|number| wanted.run(number, 1000)).collect();
        assert_eq!(parts, [768..1000, 512..768, 400..512]);
        assert_eq!((wanted.count(1000), wanted.count(1010)), (600, 610));
        let mut have = Bitfield::new();
        have.set_range(500..1000);
        assert_eq!(wanted.first_missing(&have, 1000), Some(400));
        wanted.settle(1024);
        let newest = wanted.run(0, 1024).unwrap();
        assert_eq!((newest, wanted.run(1, 1024)), (1024..1024, Some(768..1024)));
        wanted.settle(1 << 40);
        assert_eq!(wanted.count(1 << 40), 600);
    }

    #[test]
    fn a_huge_window_has_few_parts() {
        let mut wanted = wanted(Want::Last(u64::MAX));
        wanted.settle(1 << 50);
        let parts = (0..)
            .map_while(|number| wanted.run(number, 1 << 50))
            .count();
        assert!(parts <= 2 + NEWEST_PARTS_MAX as usize, "{parts}");
        assert_eq!(wanted.count(1 << 50), 1 << 50);
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
