//! What a client tells the program around it.

use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::PublicKey;

use crate::ice::IceServers;
use crate::{Refusal, SignalKind, Topic};

/// Something that happened on a signal server's connection.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The server greeted; every topic is being joined.
    Connected,
    /// The connection is down; it is dialled again after `retry_in`.
    Disconnected { reason: String, retry_in: Duration },
    /// A topic was entered, also again after a reconnect. `peers` replaces what was known of it.
    Joined { topic: Topic, peers: Vec<PublicKey> },
    /// A peer entered a topic of ours, or came back under the same key.
    PeerJoined { topic: Topic, peer: PublicKey },
    /// A peer left a topic of ours, or was lost.
    PeerLeft { topic: Topic, peer: PublicKey },
    /// A peer of a topic of ours sent a signal.
    Signal {
        topic: Topic,
        from: PublicKey,
        kind: SignalKind,
        body: Bytes,
    },
    /// The server told STUN and TURN servers to use, before the first topic is entered and again before
    /// credentials end. It replaces what this server told before.
    IceServers(IceServers),
    /// The server refused a join or a signal. A topic that was full or joined too often is tried
    /// again by the client itself.
    Refused(Refusal),
}

/// What a client is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientState {
    /// No topic was joined yet, so nothing was dialled.
    Idle,
    /// The server is being dialled, or has not greeted yet.
    Connecting,
    /// The server greeted.
    Connected,
    /// The last connection failed or ended; the next attempt is due after a wait.
    Waiting,
    /// Stopped for good.
    Stopped,
}

/// Why a client is up or down.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientStatus {
    /// What it is doing.
    pub state: ClientState,
    /// Why the last connection failed or ended, if one did.
    pub last_error: Option<String>,
    /// Time until the next attempt, while waiting.
    pub retry_in: Option<Duration>,
    /// Attempts since the server was last up.
    pub attempts: u32,
    /// Topics wanted.
    pub topics: usize,
    /// Topics the server confirmed.
    pub topics_joined: usize,
}

/// A signal that was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The topic is not joined now; its peers are told anew when it is.
    #[error("signal not sent: topic {topic:?} is not joined on this server now")]
    NotJoined { topic: Topic },
    /// A body beyond the limit.
    #[error("signal of {actual} bytes not sent, the limit is {limit}")]
    TooLong { limit: usize, actual: usize },
    /// The server reads too slowly.
    #[error("signal not sent: {limit} messages or bytes already wait for the server")]
    QueueFull { limit: usize },
}
