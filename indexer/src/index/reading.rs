//! In which order everything held is read: the newest of each feed first, so that people see what
//! was said last at once; then what is left, oldest first.
//!
//! Feeds that link to each other are merged by depth, so that most links find their target held.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

use kinlog_feeds::crypto::FeedKey;

use crate::entry::LinkScope;
use crate::index::opening::{Belonging, Opened, Opening};
use crate::index::runs::Runs;
use crate::index::state::State;
use crate::index::{Block, BlockSource, SourceError};
use crate::limits::{
    REBUILD_FEEDS_MERGED_MAX, REBUILD_NEWEST_BLOCKS, REBUILD_PART_BLOCKS, REBUILD_PART_BYTES,
};

/// A block with what it turned out to be.
pub(super) type Read = (Block, Opened);

/// What is to be read of one feed, in order.
#[derive(Debug)]
struct FeedPart {
    feed: FeedKey,
    belonging: Belonging,
    ranges: Vec<Range<u64>>,
}

/// Everything that is to be read, in order: feeds that are merged, group by group.
#[derive(Debug, Default)]
pub(super) struct Plan {
    groups: Vec<Vec<FeedPart>>,
}

impl Plan {
    /// Plans to read what `source` holds and the index does not.
    pub(super) fn new(state: &State, source: &mut dyn BlockSource) -> Result<Self, SourceError> {
        let mut newest: BTreeMap<Option<LinkScope>, Vec<FeedPart>> = BTreeMap::new();
        let mut rest: BTreeMap<Option<LinkScope>, Vec<FeedPart>> = BTreeMap::new();
        let mut feeds: Vec<_> = state.feeds.iter().collect();
        feeds.sort_unstable_by_key(|(key, _)| **key);
        for (key, known) in feeds {
            let missing = missing(&known.runs, source.held(key)?);
            let (first, last) = split_newest(missing, REBUILD_NEWEST_BLOCKS);
            let scope = known.scope.link_scope();
            let belonging = Belonging::of(&known.scope);
            for (parts, ranges) in [(&mut newest, last), (&mut rest, first)] {
                if !ranges.is_empty() {
                    let feed = *key;
                    let part = FeedPart {
                        feed,
                        belonging,
                        ranges,
                    };
                    parts.entry(scope).or_default().push(part);
                }
            }
        }
        let mut plan = Plan::default();
        for mut group in newest.into_values().chain(rest.into_values()) {
            while group.len() > REBUILD_FEEDS_MERGED_MAX {
                let tail = group.split_off(REBUILD_FEEDS_MERGED_MAX);
                plan.groups.push(std::mem::replace(&mut group, tail));
            }
            plan.groups.push(group);
        }
        Ok(plan)
    }

    /// Reads everything, in parts; stops when `take` wants no more.
    pub(super) fn read(
        self,
        source: &mut dyn BlockSource,
        opening: Opening<'_>,
        mut take: impl FnMut(Vec<Read>) -> bool,
    ) -> Result<(), SourceError> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for group in self.groups {
            let mut merged = Merged::new(group, source, opening)?;
            while let Some(read) = merged.next(source, opening)? {
                bytes += read.0.bytes.len();
                part.push(read);
                if part.len() >= REBUILD_PART_BLOCKS || bytes >= REBUILD_PART_BYTES {
                    bytes = 0;
                    if !take(std::mem::take(&mut part)) {
                        return Ok(());
                    }
                }
            }
        }
        if !part.is_empty() {
            take(part);
        }
        Ok(())
    }
}

/// The blocks of several feeds, each feed in order, the least deep first.
struct Merged {
    parts: Vec<FeedPart>,
    next: Vec<Option<Read>>,
    order: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Merged {
    fn new(
        parts: Vec<FeedPart>,
        source: &mut dyn BlockSource,
        opening: Opening<'_>,
    ) -> Result<Self, SourceError> {
        let mut merged = Merged {
            next: parts.iter().map(|_| None).collect(),
            order: BinaryHeap::with_capacity(parts.len()),
            parts,
        };
        for number in 0..merged.parts.len() {
            merged.look(number, source, opening)?;
        }
        Ok(merged)
    }

    fn next(
        &mut self,
        source: &mut dyn BlockSource,
        opening: Opening<'_>,
    ) -> Result<Option<Read>, SourceError> {
        let Some(Reverse((_, number))) = self.order.pop() else {
            return Ok(None);
        };
        let read = self.next[number].take();
        self.look(number, source, opening)?;
        Ok(read)
    }

    /// Reads the next block of a feed that is still held.
    fn look(
        &mut self,
        number: usize,
        source: &mut dyn BlockSource,
        opening: Opening<'_>,
    ) -> Result<(), SourceError> {
        let FeedPart {
            feed,
            belonging,
            ranges,
        } = &mut self.parts[number];
        while let Some(range) = ranges.first_mut() {
            let Some(index) = range.next() else {
                ranges.remove(0);
                continue;
            };
            let Some(bytes) = source.block(feed, index)? else {
                continue;
            };
            let opened = opening.open(belonging, feed, index, &bytes);
            let depth = match &opened {
                Opened::Entry { envelope, .. } => envelope.depth,
                Opened::Waits(_) | Opened::Skipped(_) => 0,
            };
            let feed = *feed;
            self.next[number] = Some((Block { feed, index, bytes }, opened));
            self.order.push(Reverse((depth, number)));
            return Ok(());
        }
        Ok(())
    }
}

/// Returns what of `held` is not in `runs`.
fn missing(runs: &Runs, held: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut missing = Vec::new();
    for range in held {
        let mut at = range.start;
        for run in runs.ranges() {
            if run.end <= at || run.start >= range.end {
                continue;
            }
            if run.start > at {
                missing.push(at..run.start);
            }
            at = run.end;
        }
        if at < range.end {
            missing.push(at..range.end);
        }
    }
    missing
}

/// Splits off the last `count` blocks of ranges that are in order: what people look at first. Returns
/// the rest and them.
pub fn split_newest(mut ranges: Vec<Range<u64>>, count: u64) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let (mut last, mut left) = (Vec::new(), count);
    while left > 0
        && let Some(range) = ranges.pop()
    {
        let start = range.start.max(range.end.saturating_sub(left));
        left -= range.end - start;
        if start > range.start {
            ranges.push(range.start..start);
        }
        last.push(start..range.end);
    }
    last.reverse();
    (ranges, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_and_not_indexed_is_read_and_the_last_of_it_first() {
        let mut runs = Runs::default();
        runs.load(0, 3);
        runs.load(7, 9);
        let missing = missing(&runs, Vec::from([1..8, 8..20]));
        let pairs = |ranges: Vec<Range<u64>>| -> Vec<(u64, u64)> {
            ranges
                .into_iter()
                .map(|range| (range.start, range.end))
                .collect()
        };
        let parts = |count| {
            let (first, last) = split_newest(missing.clone(), count);
            (pairs(first), pairs(last))
        };
        assert_eq!(parts(0), (vec![(3, 7), (9, 20)], vec![]));
        assert_eq!(parts(4), (vec![(3, 7), (9, 16)], vec![(16, 20)]));
        assert_eq!(parts(13), (vec![(3, 5)], vec![(5, 7), (9, 20)]));
        assert_eq!(parts(99), (vec![], vec![(3, 7), (9, 20)]));
    }
}
