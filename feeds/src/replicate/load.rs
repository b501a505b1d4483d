//! How much a replicator holds for its peers.

/// What a replicator keeps at the moment; each number has a limit in [`limits`](crate::limits).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// Requests of the peer with the most of them that wait for a read.
    pub requests_of_one_peer: usize,
    /// Requests of all peers that wait for a read.
    pub requests: usize,
    /// Reads that the driver was asked for and has not answered.
    pub reads: usize,
    /// Requests to peers that are not answered.
    pub in_flight: usize,
    /// Bytes that they may bring, as estimated.
    pub in_flight_bytes: usize,
    /// Bytes received and not yet applied.
    pub unapplied_bytes: usize,
    /// Proofs that wait for a node they lead to.
    pub parked: usize,
}
