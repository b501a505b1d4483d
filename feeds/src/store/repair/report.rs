//! What a repair found, kept and lost.

use std::fmt;
use std::ops::Range;

use crate::crypto::FeedKey;
use crate::store::error::{OpenError, Place, StoreError};
use crate::store::state::Role;

/// A piece of the log that is missing or does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    /// Where it begins.
    pub place: Place,
    /// Its bytes, as far as the file has them.
    pub bytes: u64,
    /// Records that stood there, when a later one tells.
    pub records: Option<u64>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes do not hold", self.place, self.bytes)?;
        match self.records {
            Some(records) => write!(f, ", {records} records are gone"),
            None => Ok(()),
        }
    }
}

/// What became of a feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RepairedFeed {
    /// The feed.
    pub key: FeedKey,
    /// Why it is here.
    pub role: Role,
    /// Length of the newest head of which all roots are there.
    pub length: u64,
    /// Length of the newest head that any record that holds speaks of.
    pub length_seen: u64,
    /// Blocks held now.
    pub blocks_held: u64,
    /// Blocks that were held, or are ours, and are not held now, ascending.
    pub lost: Vec<Range<u64>>,
    /// A head newer than `length` was seen, or may have stood in what is gone. Always so of an own
    /// feed, as the end of a log can be lost without a trace: it must not be signed further with the
    /// same key before others were asked for it.
    pub is_unconfirmed: bool,
}

impl RepairedFeed {
    /// Returns how many blocks were lost.
    pub fn blocks_lost(&self) -> u64 {
        self.lost.iter().map(|range| range.end - range.start).sum()
    }
}

/// What a repair did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RepairReport {
    /// The feeds kept, in the order in which they were added.
    pub feeds: Vec<RepairedFeed>,
    /// What does not hold of the old log.
    pub gaps: Vec<Gap>,
    /// Records copied, whole or in part.
    pub records_kept: u64,
    /// Records of kinds that cannot be carried over without what stood around them.
    pub records_left: u64,
    /// Feeds of which records were found, and not the one that says whose they are.
    pub feeds_without_name: u64,
}

impl RepairReport {
    /// Returns whether something that was stored is gone.
    pub fn is_loss(&self) -> bool {
        !self.gaps.is_empty()
            || self.records_left > 0
            || self.feeds.iter().any(|feed| !feed.lost.is_empty())
    }
}

/// Why nothing was repaired. The old store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Not one segment has a header that holds.
    #[error("no segment with a header that holds: nothing can be told from noise")]
    NoStore,
    /// The old store is in use, or the new one does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}
