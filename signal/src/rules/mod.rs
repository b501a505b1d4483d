//! The server's rules, sans-IO: who is in which topic, what each message costs, who is told what.
//!
//! A driver owns one [`Rules`], tells it of connections, frames and time, and obeys the drain rule:
//! after every `handle_*`, call `poll_output` until `None`. Everything lives in memory and is keyed
//! by (topic, client key). Time and nonces come in from outside, so the rules are deterministic.
//!
//! Floods: each frame costs tokens of its connection and of its address. Nobody's frame is refused
//! for that: [`Rules::handle_frame`] returns how long the driver must not read from this connection,
//! so the sender is slowed down through TCP and loses nothing, and nobody else notices.

mod addresses;
mod bucket;
mod calls;
mod cluster;
mod core;
mod counters;
mod entries;
mod registry;
mod settings;
#[cfg(test)]
mod tests;
mod topics;

pub(crate) use addresses::AddressKey;
pub(crate) use bucket::Bucket;
pub use calls::{ActivePeers, Signed};
pub use cluster::{BusOutput, PassOn};
pub use core::{CloseReason, ConnectError, ConnectionId, Counts, Output, Rules};
pub use counters::{ByName, Counters};
pub use registry::{CallError, PeerEntry};
pub use settings::RuleSettings;
