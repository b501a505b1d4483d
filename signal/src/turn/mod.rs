//! TURN (RFC 8656): passes on what two peers cannot send each other, over UDP.
//!
//! Only clients with a credential that this signal server signed ([`TurnSecrets`]) are served, for
//! an hour at most, within quotas ([`TurnLimits`]); nobody reaches addresses through it that are not
//! of the public internet ([`is_public`]). What is relayed is encrypted from peer to peer and kept
//! nowhere. Messages are decoded, and authenticated, by the crate that our clients do it with.
//!
//! - [`Relay`]: sans-IO, who may send what to whom; datagrams and time in, datagrams out.
//! - [`TurnServer`]: its sockets.
//!
//! Participants: *clients* ask for an *allocation*, which has a *relayed address*; *peers* send to
//! that. Non-goals: TCP to peers (RFC 6062), TLS, reserved and even ports, mobility.
//!
//! [`TurnSecrets`]: crate::ice::TurnSecrets

mod allocation;
mod auth;
mod counters;
mod limits;
mod message;
mod peers;
mod queue;
mod relay;
mod server;
#[cfg(test)]
mod socket_tests;
mod stream;
#[cfg(test)]
mod tests;

pub use counters::TurnCounts;
pub use limits::TurnLimits;
pub use peers::is_public;
pub use relay::{Client, Output, Relay, RelayId};
pub use server::{TurnServer, TurnSettings};
