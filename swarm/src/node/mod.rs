//! The node: topics, introductions, sessions, and the interface of an agent.

mod config;
mod event;
mod host;
mod status;

pub use config::NodeConfig;
pub use event::{NodeError, NodeEvent, Step};
pub use host::{Credentials, Host};
pub use status::{FeedStatus, NodeStatus, SessionStatus, SignalStatus, TopicStatus};

/// A running node; dropping it stops it, [`shutdown`](Node::shutdown) stops it cleanly.
#[derive(Debug)]
pub struct Node {
    events: tokio::sync::broadcast::Sender<NodeEvent>,
}

impl Node {
    /// Returns every event from now on; a subscriber that lags by more than
    /// [`EVENTS_QUEUED_MAX`](crate::limits::EVENTS_QUEUED_MAX) loses the oldest.
    pub fn subscribe(&self) -> tokio::sync::broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }
}
