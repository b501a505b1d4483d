//! What an agent answers about people: what they say, and what it keeps of them. Field names are what `--json`
//! prints, so they are kept.

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use serde::{Deserialize, Serialize};

use crate::api::Text;

/// What an agent says of itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ProfileInfo {
    pub agent: Text<AgentId>,
    /// What it calls itself.
    pub name: String,
    pub about: String,
    /// What it is called here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub petname: Option<String>,
    /// Signal servers at which it says to be met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signal_urls: Vec<String>,
    /// Clock of the entry, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at_ms: Option<u64>,
}

/// What somebody is called here.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ContactInfo {
    pub agent: Text<AgentId>,
    pub petname: String,
    pub note: String,
    /// What it calls itself, as far as that is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub updated_at_ms: u64,
}

/// What a person likes some part of Kinlog to do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PreferenceInfo {
    pub name: String,
    pub value: String,
    pub updated_at_ms: u64,
}

/// Whether somebody trusts somebody.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct VouchInfo {
    pub by: Text<AgentId>,
    pub by_name: String,
    pub about: Text<AgentId>,
    pub about_name: String,
    /// `false` takes an earlier vouch back.
    pub trusted: bool,
    pub reason: String,
    pub updated_at_ms: u64,
}

/// A claim about somebody, or that somebody saw what an entry says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ClaimInfo {
    pub by: Text<AgentId>,
    pub by_name: String,
    /// The agent it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Text<AgentId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about_name: Option<String>,
    /// The feed of the entry it is about, and its index there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Text<FeedKey>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    pub text: String,
    pub created_at_ms: u64,
}

/// A value that several devices wrote without knowing of each other.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ValueConflictInfo {
    /// Names it: `profile`, `contact KEY`, `preference NAME`, `setting NAME`, `vouch KEY`.
    pub id: String,
    /// Whose value it is.
    pub agent: Text<AgentId>,
    pub agent_name: String,
    /// Where it was said, when that is a room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// What it is about, for people.
    pub what: String,
    /// Only the devices of its agent can resolve it.
    pub own: bool,
    /// The writes that stand, the one that is shown last.
    pub sides: Vec<ConflictSide>,
}

/// A write that stands beside others.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ConflictSide {
    /// Counted from 1.
    pub number: u64,
    /// What it says; nothing when it takes the value away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Text<DeviceKey>>,
    pub device_name: String,
    pub written_at_ms: u64,
    /// This one is shown.
    pub shown: bool,
    pub feed: Text<FeedKey>,
    pub index: u64,
}
