//! The signal server: WebSocket and HTTP around the [rules](crate::rules).
//!
//! One port: `/v1` is the WebSocket, `/api/health` says in JSON that the server lives. Nothing is
//! written to disk and topics appear in no log above debug level.

mod connection;
mod health;
mod hub;
mod listen;
mod record;
mod settings;

pub use listen::serve;
pub use record::{Direction, Record};
pub use settings::Settings;
