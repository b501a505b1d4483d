//! The signal server: WebSocket and HTTP around the [rules](crate::rules).
//!
//! One port: `/v1` is the WebSocket, `/api/health` and `/api/ready` say in JSON that the server lives
//! and takes clients, `/network/...` and `/coordinator/...` are the registry. `/metrics` has a port of its own. Nothing is written to disk and topics appear
//! in no log above debug level.

mod accept;
mod connection;
mod forwarded;
mod handshake;
mod health;
mod hub;
mod listen;
mod metrics;
mod outbox;
mod problem;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod registry;
mod settings;
mod tls;
mod unfinished;
mod upgrade;
mod websocket;

pub use axum::http::HeaderName;
pub use listen::{Listeners, serve};
pub use metrics::{Page, serve_metrics};
pub use record::{Direction, Record};
pub use settings::Settings;
#[cfg(feature = "redis")]
pub use settings::{Cluster, ClusterError};
pub use tls::{TlsError, tls_from_files};
