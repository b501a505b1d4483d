//! Messages of rooms, as they are answered. Field names are what `--json` prints, so they are kept.

use kinlog_feeds::crypto::FeedKey;
use serde::{Deserialize, Serialize};

use crate::api::Text;

/// A message of a room, as it stands now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MessageInfo {
    /// Names the message in its room: the start of its feed's key, and its index there.
    pub id: String,
    pub room: String,
    /// z-base-32 of the author's agent id.
    pub author: String,
    pub author_name: String,
    /// Markdown as it was written; empty when the message was deleted.
    pub text: String,
    /// Milliseconds since 1970 as the author's clock said.
    pub sent_at_ms: u64,
    /// That date contradicts the messages before or after by more than ten minutes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_marked: bool,
    pub key: Text<FeedKey>,
    pub index: u64,
    /// The message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DeletedInfo>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<ReactionInfo>,
    /// It was shown before and changed since (`--watch` only).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// The message that another answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ReplyInfo {
    pub id: String,
    /// Empty while the message is not here.
    pub author_name: String,
    /// The start of its text; empty while it is not here, and when it was deleted.
    pub text: String,
}

/// Who deleted a message.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DeletedInfo {
    pub by: String,
    pub at_ms: u64,
}

/// A reaction, and all who have it on a message.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ReactionInfo {
    pub emoji: String,
    pub names: Vec<String>,
}
