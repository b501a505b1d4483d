//! How a store is opened.

use std::sync::Arc;

use crate::store::SignGuard;
use crate::store::limits::{
    CHECKPOINT_BYTES, CHECKPOINT_PLACES, GROW_BYTES, HEAD_CACHE_BYTES, INDEX_CACHE_BYTES,
    SEGMENT_BYTES,
};
use crate::store::mistake::Mistake;

/// How a store is opened; [`Options::new`] gives what a real disk wants.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Random id for a store that does not exist yet; ignored for one that does.
    pub store_id_if_new: [u8; 16],
    /// Size in bytes at which a new segment begins, at most 256 MiB; default 128 MiB.
    pub segment_bytes: u64,
    /// Largest step in bytes by which a segment grows by zeros; default 4 MiB. The first steps of
    /// a new store are smaller.
    pub grow_bytes: u64,
    /// Whether a thread grows segments ahead of need while records come fast; default true.
    pub grow_ahead: bool,
    /// Bytes of log after which the index is written out; default 64 MiB.
    pub checkpoint_bytes: u64,
    /// Blocks and nodes that came piece by piece after which the index is written out; default 131,072.
    pub checkpoint_places: u64,
    /// Bytes of log whose places are in memory at most while the index is made anew; default 64 MiB.
    pub rebuild_bytes: u64,
    /// Bytes of pages and tables of the index kept in memory; default 32 MiB.
    pub index_cache_bytes: usize,
    /// Bytes of verified head parts kept in memory for proofs; default 32 MiB.
    pub head_cache_bytes: usize,
    /// Asked before each signature; without one every append is signed.
    pub sign_guard: Option<Arc<dyn SignGuard>>,
    /// Nothing is written, to no file; writes are [`StoreError::ReadOnly`]. Default false.
    ///
    /// [`StoreError::ReadOnly`]: crate::store::StoreError::ReadOnly
    pub read_only: bool,
    /// Checkpoints are made by a thread of the store's own; else by whoever writes when one is due.
    /// Default true.
    pub keeper: bool,
    /// Made on purpose, so that a test can show that it would notice.
    #[cfg(feature = "test-switches")]
    pub mistake: Option<Mistake>,
}

impl Options {
    /// Returns the defaults; `store_id_if_new` is 16 random bytes.
    pub fn new(store_id_if_new: [u8; 16]) -> Self {
        Options {
            store_id_if_new,
            segment_bytes: SEGMENT_BYTES,
            grow_bytes: GROW_BYTES,
            grow_ahead: true,
            checkpoint_bytes: CHECKPOINT_BYTES,
            checkpoint_places: CHECKPOINT_PLACES,
            rebuild_bytes: CHECKPOINT_BYTES,
            index_cache_bytes: INDEX_CACHE_BYTES,
            head_cache_bytes: HEAD_CACHE_BYTES,
            sign_guard: None,
            read_only: false,
            keeper: true,
            #[cfg(feature = "test-switches")]
            mistake: None,
        }
    }

    /// Opens a store that is there to be read, beside others that only read it: not a byte of it is
    /// changed, not even what a crash left. A new index, where one has to be made, stays in memory.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Sets the size in bytes at which a new segment begins, and the steps by which it grows.
    pub fn segments(mut self, segment_bytes: u64, grow_bytes: u64) -> Self {
        self.segment_bytes = segment_bytes;
        self.grow_bytes = grow_bytes;
        self
    }

    /// Asks `guard` before each signature.
    pub fn guarded(mut self, guard: Arc<dyn SignGuard>) -> Self {
        self.sign_guard = Some(guard);
        self
    }

    /// Sets the bytes of log after which the index is written out.
    pub fn checkpoint_every(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = bytes;
        self
    }

    /// Sets the number of blocks and nodes that came piece by piece after which the index is written
    /// out.
    pub fn checkpoint_after_places(mut self, places: u64) -> Self {
        self.checkpoint_places = places;
        self
    }

    /// Sets the bytes of log whose places are in memory at most while the index is made anew.
    pub fn rebuild_every(mut self, bytes: u64) -> Self {
        self.rebuild_bytes = bytes;
        self
    }

    /// Sets the bytes of pages and tables of the index that are kept in memory.
    pub fn index_cache(mut self, bytes: usize) -> Self {
        self.index_cache_bytes = bytes;
        self
    }

    /// Makes checkpoints in the thread that writes, so that the operations of one thread are always
    /// the same.
    pub fn without_keeper(mut self) -> Self {
        self.keeper = false;
        self
    }

    /// Makes a mistake.
    #[cfg(feature = "test-switches")]
    pub fn mistaken(mut self, mistake: Mistake) -> Self {
        self.mistake = Some(mistake);
        self
    }

    /// Returns whether a mistake is to be made.
    #[cfg(feature = "test-switches")]
    pub(super) fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Returns whether a mistake is to be made: never.
    #[cfg(not(feature = "test-switches"))]
    pub(super) fn makes(&self, _mistake: Mistake) -> bool {
        false
    }

    pub(super) fn verifies(&self) -> bool {
        !self.makes(Mistake::SkipVerification)
    }
}
