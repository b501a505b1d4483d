//! Named limits of links, sessions and the node, each with its reason and its worst case.

use std::time::Duration;

/// Identity set a peer may send, 64 KiB: what an identity of 256 statements takes.
pub const IDENTITY_SET_BYTES_MAX: usize = 64 * 1024;

/// Join request or response, 80 KiB: an identity set with keys and signatures round it.
pub const JOIN_BYTES_MAX: usize = IDENTITY_SET_BYTES_MAX + 16 * 1024;

/// Events a slow subscriber may lag behind before it loses the oldest.
pub const EVENTS_QUEUED_MAX: usize = 4096;

/// Peer messages of ours that wait for the node at once; each is at most [`JOIN_BYTES_MAX`].
pub const PEER_MESSAGES_QUEUED_MAX: usize = 64;

/// Longest wait of a clean shutdown for the sessions to say goodbye.
pub const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(2);
