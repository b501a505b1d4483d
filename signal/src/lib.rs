//! Topic signalling: how peers that know the same key find each other.
//!
//! A server keeps, in memory only, who is in which topic, and passes offers, answers and candidates
//! between two peers of one topic. It stores nothing, carries no data and sees blinded topics and
//! per-topic client keys (see [`topic`]).
//!
//! - [`topic`]: what topics and client keys derive from.
//! - [`ClientMessage`], [`ServerMessage`]: what travels, as valid values.
//! - [`rules`]: the server's rules, sans-IO.
//! - [`client`]: the client's core, sans-IO, and with feature `client` the task that drives it.
//! - [`ice`]: STUN and TURN servers that clients are told, and credentials for the latter.
//! - [`stun`]: tells who asks by UDP from which address it was asked.
//! - `turn` (feature `server`): a TURN relay for clients of the server.
//! - `server` (feature `server`): WebSocket and HTTP around the rules.

mod address;
#[cfg(feature = "server")]
mod base64;
pub mod bus;
pub mod client;
mod generated;
pub mod ice;
mod join;
pub mod limits;
mod message;
pub mod registry;
pub mod rules;
#[cfg(feature = "server")]
pub mod server;
pub mod stun;
pub mod topic;
#[cfg(feature = "server")]
pub mod turn;

pub use address::{DEFAULT_PATH, ServerName, SignalUrl, UrlError, is_local};
#[cfg(feature = "client")]
pub use client::{Client, ClientConfig, server_date};
pub use client::{ClientEvent, ClientStatus, SendError};
pub use join::{NONCE_BYTES, sign_join, verify_join};
pub use message::{
    AnnouncedLimits, ClientMessage, MessageError, Refusal, RefusalCode, ServerMessage, SignalKind,
};
#[cfg(feature = "server")]
pub use server::{Settings, serve};
pub use topic::{Label, Topic};
