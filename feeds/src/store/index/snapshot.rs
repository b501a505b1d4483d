//! What a checkpoint writes: the feeds that changed, as they were at its record.

use std::sync::Arc;

use crate::bitfield::Bitfield;
use crate::store::index::directory::FeedRow;
use crate::store::index::layer::Layer;
use crate::store::state::FeedEntry;

/// The feeds that changed since the checkpoint before.
#[derive(Debug)]
pub(in crate::store) struct Snapshot {
    pub(in crate::store) feeds: Vec<FeedSnapshot>,
    /// Numbers of feeds that were dropped.
    pub(in crate::store) gone: Vec<u32>,
    pub(in crate::store) last_number: u32,
}

/// A feed as it was.
#[derive(Debug)]
pub(in crate::store) struct FeedSnapshot {
    pub(in crate::store) entry: Arc<FeedEntry>,
    /// Everything but the spine, which writing gives.
    pub(in crate::store) row: FeedRow,
    pub(in crate::store) layer: Arc<Layer>,
    pub(in crate::store) have: Bitfield,
    /// Its tables could not be read: the row does not say all that is held.
    pub(in crate::store) is_unknown: bool,
}
