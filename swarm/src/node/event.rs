//! What a node tells while it runs.

use std::ops::Range;

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::GetRefused;

use super::PeerState;
use crate::session::{Label, SessionId, SessionInfo};

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A session's capability verified, or it is plain.
    SessionOpened {
        /// The session.
        session: SessionInfo,
    },
    /// A session ended.
    SessionClosed {
        /// The session, as it was.
        session: SessionInfo,
        /// Why.
        reason: String,
    },
    /// A feed's head moved and is durable.
    FeedUpgraded {
        /// The feed.
        key: FeedKey,
        /// Its fork.
        fork: u64,
        /// Its new length.
        length: u64,
    },
    /// A peer is about to be shown the signed head of a feed that this store writes.
    HeadShown {
        /// The feed.
        key: FeedKey,
        /// Its length, not shown before since the node was started.
        length: u64,
    },
    /// Blocks arrived, verified, and are durable.
    BlocksStored {
        /// The feed.
        key: FeedKey,
        /// The blocks.
        range: Range<u64>,
    },
    /// Everything that is wanted of a feed, at its length known now, is held.
    FeedComplete {
        /// The feed.
        key: FeedKey,
        /// Its length.
        length: u64,
    },
    /// Two valid heads of a feed exclude each other.
    FeedConflict {
        /// The feed.
        key: FeedKey,
    },
    /// Other peers hold blocks of a feed that is watched, or hold them no more.
    HoldersChanged {
        /// The feed.
        key: FeedKey,
    },
    /// A signal server greeted us.
    SignalConnected {
        /// Its URL.
        url: String,
    },
    /// It is further with a peer than before, or less far. A peer whom several introducers show is told of by each
    /// of them.
    PeerStateChanged {
        /// Label of what it is met by.
        label: Label,
        /// Key of that.
        key: [u8; 32],
        /// How the introducer names it: its Noise static, or its client key of a signal server.
        peer: [u8; 32],
        /// How far it is.
        state: PeerState,
    },
    /// A step on the way to a feed found nothing; the node goes on trying.
    StepFailed {
        /// Which step.
        step: Step,
    },
    /// A peer sent what no honest peer sends.
    PeerViolation {
        /// The session it came by.
        session: SessionId,
        /// What it was.
        reason: String,
    },
    /// The store refused work, and stores nothing more until it is opened again; or work panicked, which is a
    /// bug: the rest goes on.
    StoreFailed {
        /// The store's error.
        reason: String,
    },
}

/// A step on the way from a topic to a block.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// A signal server cannot be reached.
    SignalUnreachable {
        /// Its URL.
        url: String,
        /// Why.
        reason: String,
        /// Milliseconds to the next try.
        retry_in_ms: u64,
    },
    /// No other peer is in a topic.
    NobodyInTopic {
        /// Label of the topic.
        label: Label,
        /// Key of the topic.
        key: [u8; 32],
    },
    /// A peer in a topic could not be connected to.
    NotConnected {
        /// Label of the topic.
        label: Label,
        /// Key of the topic.
        key: [u8; 32],
        /// Why.
        reason: String,
    },
    /// Peers are connected and none has what is wanted of a feed.
    NobodyHas {
        /// The feed.
        key: FeedKey,
    },
}

/// A request to a node that could not be taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// A block is not waited for.
    #[error("block {block} of feed {key} is not waited for")]
    Get {
        key: FeedKey,
        block: u64,
        #[source]
        source: GetRefused,
    },
    /// A peer does not say a number back.
    #[error("session {session} did not answer a ping")]
    NoAnswer {
        /// The session.
        session: SessionId,
    },
    /// The queue of peer messages is full.
    #[error("{queued} peer messages already wait for the node")]
    Busy {
        /// Messages that wait.
        queued: usize,
    },
    /// A file of the configuration cannot be opened.
    #[error("message log {path}: {reason}")]
    MessageLog {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A signal URL of the configuration is none.
    #[error("signal URL {url}: {reason}")]
    SignalUrl {
        /// The text.
        url: String,
        /// Why.
        reason: String,
    },
    /// The system gives no random numbers.
    #[error("no random numbers: {reason}")]
    Random {
        /// Why.
        reason: String,
    },
    /// The store refused.
    #[error("store: {reason}")]
    Store {
        /// Why.
        reason: String,
    },
    /// A peer at an address could not be connected to.
    #[error("no connection to {address}: {reason}")]
    Connect {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// As many sessions as may run do run.
    #[error("{max} sessions already run")]
    TooManySessions {
        /// The limit.
        max: usize,
    },
    /// As many plain sessions as may run do run.
    #[error("{max} plain sessions already run")]
    TooManyPlainSessions {
        /// The limit.
        max: usize,
    },
}
