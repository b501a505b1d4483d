//! Finding and reaching peers, and replicating with them.
//!
//! The rooms of this crate, from the wire up:
//!
//! - [`link`]: message-oriented transports behind one trait: WebRTC, TCP, in memory.
//! - [`session`]: what two peers say to each other over a link, sans-IO: hello, capability,
//!   certificate, which feeds; and the driver that moves bytes between it and a link.
//! - [`replication`]: the one replicator of the process and the store work it asks for.
//! - `lan`: a meeting point of each node's own, found by mDNS on one network.
//! - [`node`]: topics, introductions, the pool of sessions, and the interface of an agent.
//!
//! Policy stays outside: the node asks its [`Host`] which feeds a session may have.

mod clock;
mod generated;
mod histogram;
mod lan;
pub mod limits;
pub mod link;
mod message_log;
pub mod node;
mod replication;
pub mod session;

pub use histogram::HistogramStatus;
pub use lan::{LanConfig, LanInterfaces, MeetingPointConfig};
pub use link::{IcePath, Transport};
pub use node::{
    ConnectFailure, ConnectStatus, Credentials, FeedStatus, FoundBy, Host, LadderStatus,
    LadderStep, LanStatus, Node, NodeConfig, NodeError, NodeEvent, NodeMetrics, NodeStatus,
    PeerState, PeerStatus, PoolConfig, PoolStatus, RelayStatus, ReplicationStatus, SessionStatus,
    SignalStatus, Standing, Step, StepState, StepStatus, TopicStatus, ViaStatus,
};
pub use session::{
    Certificate, Doing, Label, PeerMessage, Presence, SeedClearing, SessionId, SessionInfo,
    SessionRole,
};
