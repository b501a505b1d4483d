//! A diagnostic that sees every frame.

use std::fmt;

use crate::rules::ConnectionId;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From a client.
    In,
    /// To a client.
    Out,
}

/// Gets every WebSocket message in and out, as it is on the wire.
///
/// Called while the server's state is locked, so it must be quick and must not block.
pub trait Record: fmt::Debug + Send + Sync + 'static {
    /// Takes one frame.
    fn record(&self, direction: Direction, connection: ConnectionId, frame: &[u8]);
}
