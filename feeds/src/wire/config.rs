//! What a connection is told when it is made.

use std::fmt;
use std::time::Duration;

use crate::crypto::Secret;
use crate::limits::{
    IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL, SEND_BATCH_BYTES, UNAUTHENTICATED_FRAME_BYTES_MAX,
};

/// The side of a connection: the initiator speaks first in the handshake.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Sends the first handshake message (`replicate(true)` in JavaScript).
    Initiator,
    /// Answers it.
    Responder,
}

impl Role {
    /// Returns the other side.
    pub const fn other(self) -> Role {
        match self {
            Role::Initiator => Role::Responder,
            Role::Responder => Role::Initiator,
        }
    }
}

/// Configuration of one [`Connection`](crate::wire::Connection).
///
/// Randomness comes in as the three seed fields: each must be fresh, and the ephemeral seed and
/// the stream header must never be used for a second connection.
#[derive(Clone)]
pub struct Config {
    /// Which side this is.
    pub role: Role,
    /// Seed of the static Noise key, 32 random bytes.
    pub static_seed: Secret,
    /// Seed of the ephemeral Noise key, 32 random bytes, of this connection only.
    pub ephemeral_seed: Secret,
    /// Header of the outgoing secret stream, 24 random bytes, of this connection only.
    pub stream_header: [u8; 24],
    /// Largest frame accepted, in bytes of its payload. Default
    /// [`UNAUTHENTICATED_FRAME_BYTES_MAX`]; raise it with
    /// [`set_receive_frame_max`](crate::wire::Connection::set_receive_frame_max) once the remote has shown
    /// what it is.
    pub receive_frame_max: usize,
    /// Largest frame sent, in bytes of its payload. Default [`UNAUTHENTICATED_FRAME_BYTES_MAX`]
    /// until the remote has announced more.
    pub send_frame_max: usize,
    /// Size at which an outgoing batch is closed and encrypted. Default [`SEND_BATCH_BYTES`].
    pub send_batch_bytes: usize,
    /// Silence after which an empty frame is sent. Default [`KEEP_ALIVE_INTERVAL`]; `None` never.
    pub keep_alive: Option<Duration>,
    /// Silence of the remote after which the connection fails. Default [`IDLE_TIMEOUT`]; `None` never.
    pub idle_timeout: Option<Duration>,
}

impl Config {
    /// Returns the defaults with these seeds.
    pub fn new(
        role: Role,
        static_seed: [u8; 32],
        ephemeral_seed: [u8; 32],
        stream_header: [u8; 24],
    ) -> Self {
        Config {
            role,
            static_seed: Secret::new(static_seed),
            ephemeral_seed: Secret::new(ephemeral_seed),
            stream_header,
            receive_frame_max: UNAUTHENTICATED_FRAME_BYTES_MAX,
            send_frame_max: UNAUTHENTICATED_FRAME_BYTES_MAX,
            send_batch_bytes: SEND_BATCH_BYTES,
            keep_alive: Some(KEEP_ALIVE_INTERVAL),
            idle_timeout: Some(IDLE_TIMEOUT),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("role", &self.role)
            .field("receive_frame_max", &self.receive_frame_max)
            .field("send_frame_max", &self.send_frame_max)
            .field("send_batch_bytes", &self.send_batch_bytes)
            .field("keep_alive", &self.keep_alive)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}
