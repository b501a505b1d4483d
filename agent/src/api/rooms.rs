//! What an agent answers about rooms. Field names are what `--json` prints, so they are kept.

use kinlog_feeds::crypto::{DeviceKey, FeedKey};
use serde::{Deserialize, Serialize};

use crate::api::{PresenceState, Text};

/// A member of a room.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MemberInfo {
    pub agent: String,
    pub name: String,
    /// `guest`, `member`, `admin`, `owner`; `removed` or `left` for who is no member any more.
    pub role: String,
    /// Clock of the act that let it in, ms.
    #[serde(default)]
    pub joined_at_ms: u64,
    /// Clock of its newest entry, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at_ms: Option<u64>,
    /// Its devices in the room.
    #[serde(default)]
    pub devices: Vec<MemberDeviceInfo>,
    /// What it does there now, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<PresenceState>,
    /// Who removed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_by: Option<String>,
    /// Why, in its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A device in a room.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MemberDeviceInfo {
    pub key: Text<DeviceKey>,
    pub entries: Text<FeedKey>,
    pub blobs: Text<FeedKey>,
    /// A session with it is open now.
    pub connected: bool,
}

/// Who else sees something of a room, and what.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ReaderInfo {
    /// `members`, `seeder`, `link holders`, `signal servers`.
    pub who: String,
    /// An agent id, or how many.
    pub name: String,
    /// In words.
    pub sees: String,
}

/// An invite of a room.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct InviteInfo {
    /// Public key of the invite, z-base-32.
    pub key: String,
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    pub used: u32,
    /// Who invites.
    pub by: String,
    /// It still admits somebody.
    pub open: bool,
}

/// What was changed in a room.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RoomChange {
    pub room: String,
    /// One sentence for people.
    pub message: String,
    /// Devices of members that are connected, and so hear of it now.
    pub told: u64,
}

/// What leaving a room did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RoomLeft {
    pub room: String,
    /// Devices of members that are connected, and so hear of it now.
    pub told: u64,
    pub purged: bool,
    /// Given back, when purged.
    pub feeds: u64,
    pub blocks: u64,
    pub bytes: u64,
}

/// What was written into a folder.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RoomExported {
    pub room: String,
    pub folder: std::path::PathBuf,
    pub messages: u64,
    pub files: u64,
    /// Files of which not all chunks are held here.
    pub files_left_out: u64,
    pub bytes: u64,
}

/// A room this agent is a member of.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RoomInfo {
    /// z-base-32 of the genesis hash.
    pub id: String,
    /// First 8 characters of the id.
    pub code: String,
    pub name: String,
    pub members: u64,
    pub messages: u64,
    /// How this agent went out of it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// Acts that this device may still do there (invite, admit, change of role, new epoch ...); said only
    /// when they are few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acts_left: Option<u64>,
    /// The other agent of a room of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
}
