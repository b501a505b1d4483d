//! What a node tells whoever watches it: numbers alone, of nobody in particular.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a node does. Counts are since the network was started.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Metrics {
    /// Whether the network is on.
    pub network: bool,
    /// Connections by how they are and over what they go: every combination, zeros too.
    pub connections: Vec<ConnectionCount>,
    /// Peers that were tried to connect to, each counted when its first try had ended.
    pub connect_searches: u64,
    /// How long it took with those that were connected to.
    pub connect: Timings,
    /// Attempts that led to no connection, by reason, zeros too.
    pub connect_failures: BTreeMap<String, u64>,
    /// How long it took until what was written here had reached the first connected peer that wants it.
    pub delivery: Timings,
    /// What had reached none of them after a minute.
    pub deliveries_missed: u64,
    /// Blocks of others that were stored.
    pub blocks_in: u64,
    /// Blocks sent to others.
    pub blocks_out: u64,
    /// Messages with blocks that nobody had asked for, and that were not taken.
    pub blocks_unsolicited: u64,
    /// Bytes of the store on disk.
    pub store_bytes: u64,
    /// Blocks that are stored and not in the index yet.
    pub index_behind: u64,
}

/// How many connections are of one kind.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ConnectionCount {
    /// `active`, `standby` or `opening`.
    pub state: String,
    /// `lan`: nobody translates addresses between; `direct`: straight to the other side all the same; `turn`:
    /// through a TURN server; `peer`: through another peer.
    pub path: String,
    pub count: u64,
}

/// How long something took, by buckets.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Timings {
    /// Upper bound in milliseconds, and how many took at most so long; ascending.
    pub buckets: Vec<(u64, u64)>,
    /// How many were measured.
    pub count: u64,
    /// Microseconds of all together.
    pub sum_us: u64,
}

impl Metrics {
    /// Returns how many open connections go over one of these paths, of all that are open.
    pub fn open_over(&self, paths: &[&str]) -> u64 {
        let is_open = |one: &&ConnectionCount| one.state != "opening";
        let open = self.connections.iter().filter(is_open);
        open.filter(|one| paths.contains(&one.path.as_str()))
            .map(|one| one.count)
            .sum()
    }
}
