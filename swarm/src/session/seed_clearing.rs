//! Blocks of a granted feed that are gone with the members.

use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::limits::UINT_MAX;

use super::message::PeerMessageError;
use crate::generated::kinlog_peer_v1 as wire;
use crate::limits::SEED_CLEARED_RANGES_MAX;

/// Some blocks of a feed, as at most [`SEED_CLEARED_RANGES_MAX`] ranges, ascending and apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeedClearing {
    feed: FeedKey,
    ranges: Vec<Range<u64>>,
}

impl SeedClearing {
    /// Returns as many of them as blocks of a feed take; `ranges` are ascending and apart.
    pub fn of(feed: FeedKey, ranges: &[Range<u64>]) -> Vec<SeedClearing> {
        let parts = ranges.chunks(SEED_CLEARED_RANGES_MAX);
        parts
            .map(|part| SeedClearing {
                feed,
                ranges: part.to_vec(),
            })
            .collect()
    }

    /// Returns the feed.
    pub fn feed(&self) -> FeedKey {
        self.feed
    }

    /// Returns the blocks.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }
}

impl From<SeedClearing> for wire::SeedCleared {
    fn from(clearing: SeedClearing) -> Self {
        let ends = clearing.ranges.iter();
        wire::SeedCleared {
            feed_key: Bytes::copy_from_slice(clearing.feed.as_bytes()),
            ranges: ends.flat_map(|range| [range.start, range.end]).collect(),
        }
    }
}

impl TryFrom<wire::SeedCleared> for SeedClearing {
    type Error = PeerMessageError;

    fn try_from(cleared: wire::SeedCleared) -> Result<Self, PeerMessageError> {
        let feed = cleared.feed_key.as_ref().try_into();
        let feed = feed.map(FeedKey).map_err(|_| PeerMessageError::Size {
            field: "key of a feed",
            bytes: cleared.feed_key.len(),
            limit: 32,
        })?;
        let (ends, rest) = cleared.ranges.as_chunks::<2>();
        if ends.len() > SEED_CLEARED_RANGES_MAX || !rest.is_empty() {
            return Err(PeerMessageError::Ranges {
                count: ends.len(),
                limit: SEED_CLEARED_RANGES_MAX,
            });
        }
        let ascends = cleared.ranges.is_sorted_by(|one, next| one < next);
        if !ascends || cleared.ranges.last().is_some_and(|end| *end > UINT_MAX) {
            return Err(PeerMessageError::RangesOrder);
        }
        let ranges = ends.iter().map(|[start, end]| *start..*end).collect();
        Ok(SeedClearing { feed, ranges })
    }
}
