//! What `status` shows. Field names are what `--json` prints, so they are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use serde::{Deserialize, Serialize};

use crate::api::{FeedInfo, RoomInfo, Text};

/// Everything `status` shows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Status {
    pub agent: Text<AgentId>,
    pub device: Text<DeviceKey>,
    pub name: String,
    pub home: PathBuf,
    /// Process that holds the home.
    pub pid: u32,
    /// Whether the network is on.
    pub network: bool,
    /// Meeting points: signal servers, the own one, those of the local network and remembered ones.
    pub signals: Vec<SignalStatus>,
    /// Sessions that opened since the network was started, by how the peer was found: `signal`, `own`
    /// (it came to us), `lan`, `route`, `coordinator`, `peer` (another peer introduced us).
    #[serde(default)]
    pub found: BTreeMap<String, u64>,
    /// What came of each step of looking for peers since the network was started, in the order in which they are
    /// used.
    #[serde(default)]
    pub ladder: Vec<LadderInfo>,
    /// Connections that are kept with peers that were met.
    #[serde(default)]
    pub pool: PoolInfo,
    /// How far it is with each topic: what every step found.
    #[serde(default)]
    pub searches: Vec<SearchInfo>,
    /// The own meeting point and the local network, where they are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan: Option<LanStatus>,
    /// Meeting points that are remembered of others, the best first.
    #[serde(default)]
    pub routes: Vec<RouteStatus>,
    pub sessions: Vec<SessionStatus>,
    pub feeds: Vec<FeedStatus>,
    pub rooms: Vec<RoomInfo>,
    pub store: StoreStatus,
    /// Whether every feed is in sync.
    pub in_sync: bool,
    /// Bytes received over all links since the network was started.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// Joins that wait for a member, one sentence each.
    pub open_joins: Vec<String>,
    /// Why this device may not write any more; `kinlog device renew` helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_renew: Option<String>,
}

/// How many connections there are with peers that were met, and how many are kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PoolInfo {
    /// Those that are used most, or carry something.
    pub active: usize,
    /// Those that are kept alive.
    pub standby: usize,
    /// Peers whose connection was one too many, and who are dialled again when they are needed.
    pub remembered: usize,
    /// Connections closed as too many since the network was started.
    pub closed: u64,
    /// The limits of the first three.
    pub active_max: usize,
    pub standby_max: usize,
    pub remembered_max: usize,
}

/// What came of one step of looking for peers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LadderInfo {
    /// `peers`, `lan`, `routes`, `coordinators`, `signal`.
    pub step: String,
    /// Attempts to connect to somebody whom it showed.
    pub tries: u64,
    /// Those that led to a connection.
    pub successes: u64,
    /// Milliseconds from attempt to connection, on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_ms: Option<u64>,
    /// The same, of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ms: Option<u64>,
}

/// How far it is with one topic.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SearchInfo {
    /// `agent`, `feed`, `room`, `invite`, `code`.
    pub met_by: String,
    /// Path, room or key behind the topic.
    pub topic: String,
    /// `connected`, `relayed`, `connecting`, `signalling`, `discovering`, or `store-forward`: nobody is reached, and
    /// what is written waits.
    pub state: String,
    /// Why nobody is reached, where it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Every step, in the order in which they are used.
    pub steps: Vec<SearchStep>,
}

/// What one step found for one topic.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SearchStep {
    /// `session`, `peers`, `lan`, `routes`, `coordinators`, `signal`, `store_forward`.
    pub step: String,
    /// `nobody` to ask, `asking`, `nothing` found, `held` for earlier steps, `trying`, `known` by another
    /// step, `failed`, `connected`.
    pub state: String,
    /// Peers that it shows.
    pub shown: usize,
    /// Milliseconds from the beginning of the search until it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_ms: Option<u64>,
    /// Milliseconds from then until it had answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Milliseconds from the beginning until it had led to a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_ms: Option<u64>,
    pub tries: u64,
    pub successes: u64,
}

/// The own meeting point and what is seen on the local network.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LanStatus {
    /// Port of the own meeting point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What others reach it by.
    pub urls: Vec<String>,
    /// Other nodes seen on the local network now.
    pub neighbours: usize,
    /// Why nobody is seen there, where nobody can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A meeting point remembered of a device.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RouteStatus {
    pub agent: Text<AgentId>,
    pub device: Text<DeviceKey>,
    pub url: String,
    /// When the device was met there last, or told of it: seconds since 1970.
    pub seen_s: u64,
    /// How often it was met there of late when it was looked for, from 0 to 1.
    pub success_rate: f64,
    /// How the route is known: `signal`, `route`, `told`.
    pub path: String,
}

/// A meeting point.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SignalStatus {
    pub url: String,
    /// `signal` for a configured server, `own`, `lan`, `route`, `coordinator`.
    #[serde(default)]
    pub found_by: String,
    pub connected: bool,
    /// Why not, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A session with another agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SessionStatus {
    /// Number of the session in this process.
    pub id: u64,
    /// `agent`, `feed`, `room`, `invite`: the topic they met by.
    pub met_by: String,
    /// Path, room or key behind the topic.
    pub topic: String,
    /// How the peer was found: `signal`, `own` (it came to us), `lan`, `route`, `coordinator`, `peer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<String>,
    /// URL of the meeting point at which it was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met_at: Option<String>,
    /// `webrtc`, `tcp`, `memory`.
    pub transport: String,
    /// The candidate pair that ICE chose, for WebRTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice: Option<IceInfo>,
    /// The far device, when it showed a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Text<DeviceKey>>,
    /// The far agent, when its device is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Text<AgentId>>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// WebRTC associations with that peer: one, or up to four while much is carried over a long way.
    #[serde(default)]
    pub associations: usize,
    /// Shortest round trip measured, where the peer says numbers back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<u64>,
    /// `connecting`, `handshake`, `open` or `plain`.
    pub state: String,
    /// `active`: among those that are used most; `standby`: kept alive until it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// Seconds since the link opened.
    pub seconds: u64,
    /// Keys of the feeds whose channel is open.
    pub feeds: Vec<String>,
}

/// The path between two WebRTC peers as ICE reports it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct IceInfo {
    pub local: String,
    pub remote: String,
    /// `host`, `srflx`, `prflx`, `relay`.
    pub local_kind: String,
    pub remote_kind: String,
}

/// A feed, what is held of it and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FeedStatus {
    #[serde(flatten)]
    pub feed: FeedInfo,
    /// Blocks wanted that are stored.
    pub have: u64,
    /// Blocks wanted.
    pub want: u64,
    /// Blocks that connected peers sent as they wrote them, before they were asked for.
    #[serde(default)]
    pub pushed: u64,
    pub in_sync: bool,
    /// Why it is not in sync, or that it is.
    pub sync: String,
    /// Why it is stored: own, a pin, a room, the directory of a pinned path.
    pub why: Vec<String>,
}

/// The store on disk.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StoreStatus {
    pub bytes: u64,
    pub segments: u64,
    pub feeds: u64,
    pub blocks: u64,
}
