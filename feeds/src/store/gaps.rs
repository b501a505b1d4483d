//! Opening a log that compaction has taken segments out of, when no index says what was where.
//!
//! What a removed segment said comes again at the end of the log: which feed a number stands for,
//! nodes and blocks, heads. So feeds are looked up before anything else is replayed, and each
//! feed's newest head is put together when all nodes are known. That nothing but what compaction
//! took is missing follows from the newest record that lists the gaps.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::body::{Body, Gap, StoredHead};
use crate::store::error::{Place, StoreError};
use crate::store::record::{Checker, Header};
use crate::store::scan::{FIRST_RECORD, Scanned, Scanner};
use crate::store::segment::{SegmentHeader, SegmentInfo, Segments};

/// What a log with gaps says further on, gathered before it is replayed.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    gaps: Vec<Gap>,
    /// The newest record that names each feed.
    feeds: BTreeMap<u32, (Place, Header, Body)>,
    dropped: BTreeSet<u32>,
    /// The newest head of each feed so far, by fork, then length; and its record.
    heads: BTreeMap<u32, ((u64, u64), Place)>,
}

impl Ahead {
    /// Reads through all segments; what follows a record that does not hold is left out.
    pub(super) fn gather(
        segments: &Segments,
        checker: &Checker,
        found: &[SegmentHeader],
    ) -> Result<Ahead, StoreError> {
        let mut ahead = Ahead::default();
        for segment in found {
            let file = segments.file(segment.number)?;
            let mut scanner = Scanner::new(file, checker, segment.number)?;
            let mut place = Place {
                segment: segment.number,
                offset: FIRST_RECORD as u32,
            };
            let mut sequence = segment.first_sequence;
            while let Scanned::Record { header, body } =
                scanner.record(u64::from(place.offset), sequence)?
            {
                ahead.note(place, header, body);
                sequence += 1;
                let next = u64::from(place.offset) + header.record_bytes();
                let Ok(next) = u32::try_from(next) else { break };
                place.offset = next;
            }
        }
        Ok(ahead)
    }

    fn note(&mut self, place: Place, header: Header, body: Option<Body>) {
        match body {
            Some(body @ Body::Feed { .. }) => {
                self.feeds.insert(header.feed, (place, header, body));
            }
            Some(Body::Dropped) => {
                self.dropped.insert(header.feed);
            }
            Some(Body::Emptied { gaps }) => self.gaps = gaps,
            _ => {}
        }
    }

    /// Returns the sequence at which the records of `segment` end because the segments behind it
    /// are gone; `None` when nothing says that they may be.
    pub(super) fn sequence_behind(&self, segment: u32, next: u32) -> Option<u64> {
        let gap = self.gaps.iter().find(|gap| gap.first == segment + 1)?;
        (gap.first + gap.count == next).then_some(gap.sequence)
    }

    /// Returns whether all segments before `first` were emptied.
    pub(super) fn may_start_at(&self, first: u32) -> bool {
        let gap = self.gaps.first();
        first == 0 || gap.is_some_and(|gap| gap.first == 0 && gap.count == first)
    }

    /// Returns the record that names a feed.
    pub(super) fn feed(&self, number: u32) -> Option<(Place, Header, Body)> {
        self.feeds.get(&number).cloned()
    }

    /// Returns whether a feed was dropped.
    pub(super) fn is_dropped(&self, number: u32) -> bool {
        self.dropped.contains(&number)
    }

    /// Notes the head that a record carries.
    pub(super) fn note_head(&mut self, feed: u32, record: Place, head: &StoredHead) {
        let age = (head.fork, head.length);
        let newest = self.heads.entry(feed).or_insert((age, record));
        if newest.0 <= age {
            *newest = (age, record);
        }
    }

    /// Returns the record of each feed's newest head.
    pub(super) fn into_heads(self) -> impl Iterator<Item = (u32, Place)> {
        self.heads
            .into_iter()
            .map(|(feed, (_, record))| (feed, record))
    }
}

/// Returns the gaps between the segments of a table.
pub(super) fn between(known: &BTreeMap<u32, SegmentInfo>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let (mut next, mut sequence) = (0, 1);
    for (number, info) in known {
        if *number > next {
            gaps.push(Gap {
                first: next,
                count: number - next,
                sequence,
            });
        }
        next = number + 1;
        sequence = info.end_sequence;
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_a_table_leaves_out() {
        let table = |numbers: &[u32]| -> BTreeMap<u32, SegmentInfo> {
            let info = |number: &u32| SegmentInfo {
                end_sequence: u64::from(*number) * 10 + 11,
                ..SegmentInfo::default()
            };
            numbers
                .iter()
                .map(|number| (*number, info(number)))
                .collect()
        };
        let gap = |first, count, sequence| Gap {
            first,
            count,
            sequence,
        };
        assert_eq!(between(&table(&[0, 1, 2])), []);
        assert_eq!(between(&table(&[3])), [gap(0, 3, 1)]);
        let gaps = between(&table(&[1, 4, 5, 9]));
        assert_eq!(gaps, [gap(0, 1, 1), gap(2, 2, 21), gap(6, 3, 61)]);
        let ahead = Ahead {
            gaps,
            ..Ahead::default()
        };
        assert_eq!(ahead.sequence_behind(1, 4), Some(21));
        assert_eq!(ahead.sequence_behind(1, 5), None, "4 is missing");
        assert_eq!(ahead.sequence_behind(4, 6), None);
        assert!(ahead.may_start_at(1));
        assert!(!ahead.may_start_at(2));
    }
}
