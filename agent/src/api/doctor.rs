//! What `kinlog doctor` asks an agent. Field names are what `--json` prints, so they are kept.

use serde::{Deserialize, Serialize};

/// What an agent knows of its network and process.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DoctorInfo {
    /// Version of the build that answers.
    pub version: String,
    /// Process that holds the home.
    pub pid: u32,
    /// Whether the network is on.
    pub network: bool,
    /// Signal servers that are remembered.
    pub signal_urls: Vec<String>,
    /// STUN servers of the settings, and those that signal servers told.
    pub stun_urls: Vec<String>,
    /// TURN servers that signal servers told.
    #[serde(default)]
    pub turn_urls: Vec<String>,
    /// Port of the own meeting point on the local network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan_port: Option<u16>,
    /// Other agents seen on the local network, on this machine too.
    pub lan_neighbours: u64,
    /// Other machines that they are on.
    #[serde(default)]
    pub lan_machines: u64,
    /// Why the local network shows nobody, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan_trouble: Option<String>,
    /// Whether the local network is looked at.
    pub lan: bool,
    /// Sessions that are open.
    pub sessions: u64,
    /// Bytes that the store takes.
    pub store_bytes: u64,
}

/// A host that was contacted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EgressInfo {
    /// URL of a server, address of a peer.
    pub host: String,
    /// Why, in words.
    pub why: String,
    /// When it was contacted first, ms.
    pub first_ms: u64,
    /// When it was contacted last, ms.
    pub last_ms: u64,
}
