//! The client of one signal server: one connection, kept up, with all topics joined on it.
//!
//! [`Core`] knows which topics are wanted, what to send after each (re)connect, when to dial again
//! and why the connection is down; it is sans-IO and obeys the drain rule: after every `handle_*`,
//! `join`, `leave` or `send`, call `poll_output` until `None`. `Client` (feature `client`) is the
//! task that drives it over a WebSocket.

mod backoff;
mod core;
#[cfg(feature = "client")]
mod dial;
#[cfg(feature = "client")]
mod driver;
mod event;
#[cfg(test)]
mod tests;

pub use core::{Core, Output};
#[cfg(feature = "client")]
pub use dial::server_date;
#[cfg(feature = "client")]
pub use driver::{Client, ClientConfig};
pub use event::{ClientEvent, ClientState, ClientStatus, SendError};
