//! Who may be met and how each is reached. Field names are what `--json` prints, so they are kept.

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use serde::{Deserialize, Serialize};

use crate::api::Text;

/// How somebody is reached now.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PeerState {
    /// A connection without anybody between: green.
    Direct,
    /// A connection through a TURN server or another peer: yellow.
    Relayed,
    /// Online: a peer that is connected here says so, or holds its feeds: yellow.
    Near,
    /// Seen in its topic, and not connected yet: yellow.
    Seen,
    /// Nothing says that it is online: gray.
    Offline,
}

impl PeerState {
    /// Returns the colour of the dot: `green`, `yellow` or `gray`.
    pub const fn color(self) -> &'static str {
        match self {
            PeerState::Direct => "green",
            PeerState::Relayed | PeerState::Near | PeerState::Seen => "yellow",
            PeerState::Offline => "gray",
        }
    }
}

/// Over what a connection goes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WayKind {
    /// Inside one process.
    Process,
    /// Two processes of one machine.
    Machine,
    /// Addresses of one network, no router between that translates.
    Network,
    /// Through a router that translates addresses, straight to the other side.
    Nat,
    /// A TCP connection to an address.
    Tcp,
    /// WebRTC, of which the stack does not tell the addresses.
    Unknown,
    /// Through a TURN server.
    Turn,
    /// Through another peer.
    Peer,
}

/// How a connection goes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WayInfo {
    pub kind: WayKind,
    /// Address of the TURN server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Who passes it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

impl WayInfo {
    /// Returns whether nobody passes the bytes on.
    pub fn is_direct(&self) -> bool {
        !matches!(self.kind, WayKind::Turn | WayKind::Peer)
    }

    /// Returns it in a few words: `direct on this network (host to host)`.
    pub fn sentence(&self) -> String {
        match self.kind {
            WayKind::Process => "direct inside this process".to_owned(),
            WayKind::Machine => "direct on this machine".to_owned(),
            WayKind::Network => "direct on this network (host to host)".to_owned(),
            WayKind::Nat => "direct through NAT".to_owned(),
            WayKind::Tcp => "direct over TCP".to_owned(),
            WayKind::Unknown => "direct".to_owned(),
            WayKind::Turn => match &self.server {
                Some(server) => format!("through TURN server {server}"),
                None => "through a TURN server".to_owned(),
            },
            WayKind::Peer => match &self.via {
                Some(via) => format!("relayed via {via}"),
                None => "relayed via another peer".to_owned(),
            },
        }
    }

    /// Returns it as short as a table needs: `this network`.
    pub fn short(&self) -> String {
        match self.kind {
            WayKind::Process => "this process".to_owned(),
            WayKind::Machine => "this machine".to_owned(),
            WayKind::Network => "this network".to_owned(),
            WayKind::Nat => "through NAT".to_owned(),
            WayKind::Tcp => "TCP".to_owned(),
            WayKind::Unknown => "WebRTC".to_owned(),
            WayKind::Turn => match &self.server {
                Some(server) => format!("TURN {server}"),
                None => "TURN".to_owned(),
            },
            WayKind::Peer => match &self.via {
                Some(via) => format!("via {via}"),
                None => "via a peer".to_owned(),
            },
        }
    }
}

/// Somebody this home may meet.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PeerInfo {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Text<AgentId>>,
    /// Which device it is: of this agent's own, and of a connection whose agent is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Text<DeviceKey>>,
    /// What it is to this agent: `member`, `contact`, `followed`, `device`, `seeder`, `unnamed`.
    pub is: Vec<String>,
    pub state: PeerState,
    /// `green`, `yellow` or `gray`.
    pub color: String,
    /// How the connection goes, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<WayInfo>,
    /// What is known beside the way, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Shortest round trip measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<u64>,
    /// Seconds since the oldest of its connections opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Bytes a second, over the last seconds.
    pub rate_in: u64,
    pub rate_out: u64,
    /// `active`: a connection with it is among those that are used most; `standby`: kept alive until it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// When it was last heard of, ms, while it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<u64>,
    /// Rooms that both are in.
    pub rooms: Vec<String>,
    /// What connections with it were made by: `agent`, `room`, `feed`, `code`.
    pub met_by: Vec<String>,
    /// Who says all this: `session`, `peer`, `route`, `signal`, `index`.
    pub sources: Vec<String>,
}

/// One step on the way to somebody, as it was tried.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StepInfo {
    /// `session`, `peers`, `lan`, `routes`, `coordinators`, `signal`, `topic`, `connect`, `store_forward`.
    pub step: String,
    /// What was found, one sentence.
    pub found: String,
    /// It led on.
    pub ok: bool,
    /// Milliseconds from the beginning of the search until this was known, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Who is at the other end of a pairing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PairedInfo {
    pub agent: Text<AgentId>,
    pub device: Text<DeviceKey>,
    /// What it is called here.
    pub name: String,
    /// It is another device of this agent.
    pub own: bool,
    /// Paths of it are followed here: they are fetched over this connection.
    pub followed: bool,
    /// Rooms that both are in: their messages go over this connection.
    pub rooms: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<WayInfo>,
}

/// One ping that was answered.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PongInfo {
    /// Whose answer it is.
    pub name: String,
    /// Number of this ping, from 1.
    pub number: u32,
    /// Microseconds there and back.
    pub round_trip_us: u64,
    pub way: WayInfo,
    /// How it goes, in words.
    pub sentence: String,
    /// Who answered has shown that it is the one that was asked for; otherwise somebody who holds its
    /// feeds answered.
    pub certain: bool,
}
