//! What a node does right now, in words and numbers for `kinlog status`.

use serde::Serialize;

use crate::link::{IcePath, Transport};
use crate::session::{Label, label_name};

/// What a node does right now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeStatus {
    /// Sessions, oldest first.
    pub sessions: Vec<SessionStatus>,
    /// Signal servers, as configured.
    pub signal: Vec<SignalStatus>,
    /// Topics joined.
    pub topics: Vec<TopicStatus>,
    /// Feeds the replicator knows.
    pub feeds: Vec<FeedStatus>,
}

/// One session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// Its number.
    pub id: u64,
    /// What the peers met by.
    #[serde(serialize_with = "label_name")]
    pub label: Label,
    /// The key they met by, z-base-32.
    pub key: String,
    /// The other side's device key, z-base-32, when it showed a certificate.
    pub device: Option<String>,
    /// Kind of link.
    pub transport: Transport,
    /// The candidate pair ICE selected.
    pub path: Option<IcePath>,
    /// `connecting`, `handshake`, `open` or `plain`.
    pub state: String,
    /// Associations with the peer: one, or on a long or lossy way several while much is carried.
    pub associations: usize,
    /// Shortest round trip measured, in milliseconds, where the peer says numbers back.
    pub round_trip_ms: Option<u64>,
    /// Feeds with an open channel, z-base-32.
    pub feeds: Vec<String>,
    /// Bytes received, counted at the link.
    pub bytes_in: u64,
    /// Bytes sent, counted at the link.
    pub bytes_out: u64,
    /// Messages received, counted at the link.
    pub messages_in: u64,
    /// Bytes received per second, over the last seconds.
    pub rate_in: u64,
    /// Bytes sent per second, over the last seconds.
    pub rate_out: u64,
    /// Seconds since the link opened.
    pub since_s: u64,
}

/// One signal server.
#[derive(Clone, Debug, Serialize)]
pub struct SignalStatus {
    /// Its URL.
    pub url: String,
    /// Connected and greeted.
    pub connected: bool,
    /// Why not, when not.
    pub reason: Option<String>,
    /// Milliseconds from the loss to the next try.
    pub retry_in_ms: Option<u64>,
}

/// One topic.
#[derive(Clone, Debug, Serialize)]
pub struct TopicStatus {
    /// Its label.
    #[serde(serialize_with = "label_name")]
    pub label: Label,
    /// Its key, z-base-32.
    pub key: String,
    /// Peers seen there now, over all servers and periods.
    pub peers_seen: usize,
    /// Sessions that came of it and are open.
    pub sessions: usize,
    /// Periods it is joined in: two round a roll, three while nobody was found.
    pub periods: usize,
}

/// One feed.
#[derive(Clone, Debug, Serialize)]
pub struct FeedStatus {
    /// Its key, z-base-32.
    pub key: String,
    /// Its length, signed and held.
    pub length: u64,
    /// The longest length a connected peer says it has.
    pub remote_length: u64,
    /// A connected peer is on a higher fork: its head is to be followed there first.
    pub fork_ahead: bool,
    /// Blocks wanted at that length.
    pub blocks_wanted: u64,
    /// Blocks held of those wanted.
    pub blocks_held: u64,
    /// Blocks asked for and not yet stored.
    pub blocks_in_flight: u64,
    /// Connected peers with this feed.
    pub peers: usize,
    /// Those of them that take what we append before they ask for it.
    pub peers_taking_pushes: usize,
    /// Blocks that connected peers sent before they were asked for, as they may.
    pub blocks_pushed: u64,
}
