//! The Hypercore wire: one encrypted, multiplexed stream between two peers, sans-IO.
//!
//! Layers, from the bytes up: frames with a 3-byte length (`frame`), the Noise XX handshake
//! (`noise`), the secret stream (`secret_stream`), protomux channels (`mux`) and on them the
//! messages of `hypercore/alpha` ([`hypercore`]) and `kinlog/feed/1` ([`kinlog`]). [`Connection`] holds the first four together and
//! knows no Hypercore semantics; the replicator speaks in [`hypercore::Message`] values.
//!
//! **Drain rule.** After each `handle_*` of a [`Connection`], call `poll_event` until it gives
//! `None`, then `poll_transmit` until it gives `None`: what one drain sent leaves as one batch.

mod config;
mod connection;
mod error;
mod frame;
pub mod hypercore;
pub mod kinlog;
mod mux;
mod noise;
mod outbox;
mod secret_stream;

pub use config::{Config, Role};
pub use connection::{ChannelId, Connection, Event};
pub use error::{SendError, WireError};
