//! Where the feeds of a room are.

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};

/// A feed of a member's device in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomFeed {
    /// The feed.
    pub key: FeedKey,
    /// The member.
    pub agent: AgentId,
    /// The member's device, which signs it.
    pub device: DeviceKey,
    /// Holds entries, not files.
    pub is_entries: bool,
}
