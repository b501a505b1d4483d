//! Messages between agents on the `kinlog/peer/1` channel.

use bytes::Bytes;
use kinlog_feeds::Hash;

/// A message that the node carries and its host understands.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PeerMessage {
    /// "My identity set has this hash."
    IdentityOffer {
        /// Hash of the whole set.
        hash: Hash,
    },
    /// "Send me your identity set."
    IdentityGet,
    /// A whole identity set, at most [`IDENTITY_SET_BYTES_MAX`](crate::limits::IDENTITY_SET_BYTES_MAX).
    IdentitySet {
        /// The set's bytes.
        bytes: Bytes,
    },
    /// A request to join a room, at most [`JOIN_BYTES_MAX`](crate::limits::JOIN_BYTES_MAX).
    JoinRequest {
        /// The request's bytes.
        bytes: Bytes,
    },
    /// The answer to a join request, at most [`JOIN_BYTES_MAX`](crate::limits::JOIN_BYTES_MAX).
    JoinResponse {
        /// The answer's bytes.
        bytes: Bytes,
    },
}
