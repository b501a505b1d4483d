//! The seam by which whoever owns a store may refuse signatures: nothing is appended without it.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::crypto::FeedKey;

/// Says whether another signature may be made, and is told of signatures that others made.
///
/// A store that was opened with one ([`Options::guarded`](crate::store::Options::guarded)) makes no
/// signature without asking. Both calls may block for the disk; neither may use the store.
pub trait SignGuard: fmt::Debug + Send + Sync + 'static {
    /// Allows or refuses one signature over a longer head of `feed`.
    ///
    /// Called under the feed's writer lock, right before the signature is made. `synced` returns the
    /// sequence of the newest durable record of the store.
    fn before_signature(&self, feed: &FeedKey, synced: &dyn Fn() -> u64)
    -> Result<(), SignRefused>;

    /// Learns that a peer showed a valid head of a feed with [`Role::Own`](crate::store::Role::Own)
    /// that this store did not sign: one longer than ours, or one that contradicts it.
    ///
    /// Called under the feed's writer lock, before the head is written.
    fn handle_foreign_head(&self, feed: &FeedKey, length: u64);
}

/// Why a signature was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignRefused {
    /// Another holder of the secret may exist, or a newer state of this one.
    #[error("{reason}")]
    NotCertain {
        /// What makes it uncertain.
        reason: String,
    },
    /// The disk refused what has to be durable before a signature.
    #[error("signatures could not be reserved in {place}")]
    NotReserved {
        /// File or folder.
        place: String,
        /// What the disk said.
        #[source]
        source: Arc<io::Error>,
    },
}
