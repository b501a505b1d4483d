//! What is said of seed grants, held and given.

use kinlog_feeds::Hash;
use kinlog_feeds::crypto::{AgentId, DeviceKey};
use serde::{Deserialize, Serialize};

use crate::api::Text;

/// A seed grant that this agent holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SeedingInfo {
    /// Hash of the grant; its first characters name it.
    pub grant: Text<Hash>,
    /// What the room is known by here.
    pub room_tag: String,
    /// Device of the member who gave it.
    pub given_by: Text<DeviceKey>,
    /// `live`, `expired`, or `ended` by the member who gave it.
    pub state: String,
    pub expires_at_ms: u64,
    pub quota_class: u8,
    /// Ranges of feeds that it names.
    pub feeds: u64,
    /// Blocks held of them.
    pub blocks: u64,
    pub bytes: u64,
}

/// A seed grant of a room.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct GrantInfo {
    /// Hash of the grant; its first characters name it.
    pub grant: Text<Hash>,
    pub seeder: Text<AgentId>,
    pub seeder_name: String,
    pub given_by: Text<AgentId>,
    pub given_by_name: String,
    /// `live` or `expired`.
    pub state: String,
    pub expires_at_ms: u64,
    pub quota_class: u8,
    /// A session in which it was proved is open now.
    pub connected: bool,
}
