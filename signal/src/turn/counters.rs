//! What the relay did and refused.

use crate::rules::ByName;

/// Counters since the start; for metrics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TurnCounts {
    /// Live allocations.
    pub allocations: usize,
    /// Allocations made.
    pub allocated: u64,
    /// Bytes relayed from clients to peers.
    pub bytes_to_peers: u64,
    /// Bytes relayed from peers to clients.
    pub bytes_to_clients: u64,
    /// Requests refused, by reason.
    pub refused: ByName,
    /// Datagrams not relayed, by reason.
    pub dropped: ByName,
}

impl Default for TurnCounts {
    fn default() -> Self {
        TurnCounts {
            allocations: 0,
            allocated: 0,
            bytes_to_peers: 0,
            bytes_to_clients: 0,
            refused: ByName::new(&[
                "address_quota",
                "bad_credential",
                "bad_request",
                "channel_quota",
                "family",
                "mismatch",
                "name_quota",
                "no_credential",
                "other_credential",
                "peer_forbidden",
                "permission_quota",
                "server_quota",
                "stale_nonce",
                "too_often",
                "transport",
                "unknown_attribute",
            ]),
            dropped: ByName::new(&[
                "allocation_rate",
                "malformed",
                "no_allocation",
                "no_permission",
                "peer_forbidden",
                "queue",
                "total_rate",
            ]),
        }
    }
}
