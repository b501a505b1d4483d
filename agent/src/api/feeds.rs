//! What an agent answers about feeds, pins and the store. Field names are what `--json` prints, so they are kept.

use std::path::PathBuf;

use kinlog_feeds::crypto::{AgentId, DiscoveryKey, FeedKey};
use serde::{Deserialize, Serialize};

use crate::api::{Selection, StepInfo, Text};

/// A feed as its holder sees it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FeedInfo {
    pub key: Text<FeedKey>,
    pub discovery_key: Text<DiscoveryKey>,
    /// Path under its author, when a directory we hold lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its author, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Text<AgentId>>,
    /// Link by which others follow it, when it is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// `own`, `device` (another of this agent's), `followed`, `pinned`, `seeded`, `directory`,
    /// `private directory`, `room` or `plain`.
    pub role: String,
    /// It is sealed, for the own devices alone.
    #[serde(default)]
    pub private: bool,
    /// `entries` (indexed) or `bytes`.
    pub content: String,
    pub fork: u64,
    /// Blocks of the newest signed head that is held.
    pub length: u64,
    pub byte_length: u64,
    pub blocks_held: u64,
    pub bytes_held: u64,
    /// Blocks from the start without a gap.
    pub contiguous: u64,
    /// In what way its author signed two histories: the feed stops where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
}

/// A feed that is stopped, and the proof of why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ConflictInfo {
    pub key: Text<FeedKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its author, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Text<AgentId>>,
    /// Blocks of the signed head that is held.
    pub length: u64,
    /// What the two heads are, in words.
    pub what: String,
    /// The block from which on the histories may differ; none for heads of two forks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_block: Option<u64>,
    /// Both heads.
    pub heads: Vec<ConflictHead>,
    /// The encoded proof in hex: anybody can check it.
    pub proof: String,
}

/// One of two heads that contradict each other.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ConflictHead {
    pub fork: u64,
    pub length: u64,
    /// In hex.
    pub tree_hash: String,
}

/// How far a transfer is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TransferProgress {
    /// `import`, `export`, `pull`.
    pub what: String,
    pub blocks: u64,
    pub blocks_total: u64,
    pub bytes: u64,
    /// Zero while unknown.
    pub bytes_total: u64,
}

/// A block or node that is not what was signed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct BlockProblem {
    pub key: Text<FeedKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    pub problem: String,
}

/// A document that was published.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DocumentInfo {
    pub title: String,
    pub index: u64,
    pub bytes: u64,
}

/// The steps of finding and fetching what a link names, in order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowStep {
    /// Reach a signal server.
    Signal,
    /// Meet somebody under the agent's (or feed's) topic.
    Peers,
    /// Get and verify the agent's identity set.
    Identity,
    /// Get the agent's public directories, find the path in them.
    Directory,
    /// Get the feed's newest signed head.
    Head,
    /// Get the blocks.
    Blocks,
    /// All that was asked for is stored.
    Complete,
}

/// How far a follow is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FollowProgress {
    pub link: String,
    pub step: FollowStep,
    /// One sentence for people: the step, or who was not found in it.
    pub message: String,
    /// Nobody was found in this step for 10 s.
    #[serde(default)]
    pub nobody: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<FeedKey>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Blocks of the newest known head.
    pub length: u64,
    /// Blocks asked for that are stored.
    pub have: u64,
    /// Blocks asked for.
    pub want: u64,
    /// Bytes of the blocks stored.
    pub bytes: u64,
    /// Sessions open now.
    pub peers: u64,
    pub complete: bool,
    /// When nobody was found: what was tried, step by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepInfo>,
}

/// What is to be kept, and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PinInfo {
    pub link: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Text<AgentId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<FeedKey>>,
    pub range: Text<Selection>,
    pub live: bool,
    /// `sovereign`, `reciprocal`, `invested` or `gift`.
    pub tier: String,
    /// `follow`, `seed`, `directory of a pinned path`, ...
    pub reason: String,
    /// How many times links in documents are followed.
    #[serde(default)]
    pub depth: u8,
    /// For this device alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub here: bool,
    /// Who is kept for what: `device`, `followed`, `pinned` or `seeded`.
    #[serde(default)]
    pub role: String,
    pub length: u64,
    pub have: u64,
    pub want: u64,
}

/// What a repair kept and lost of a feed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RepairedFeedInfo {
    pub key: Text<FeedKey>,
    pub length: u64,
    /// Length of the newest head of which anything is left.
    pub length_seen: u64,
    pub blocks_held: u64,
    pub blocks_lost: u64,
    pub lost: Vec<Text<Selection>>,
    /// A newer head may have been lost.
    pub unconfirmed: bool,
}

/// The store on disk, in detail.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StoreInfo {
    pub folder: PathBuf,
    pub feeds: u64,
    /// Blocks held, of all feeds.
    pub blocks: u64,
    pub block_bytes: u64,
    pub segments: u64,
    /// Bytes of log written.
    pub log_bytes: u64,
    /// Bytes of log that compaction could give back, about.
    pub dead_bytes: u64,
    /// Bytes of the index when it was last written out.
    pub index_bytes: u64,
    /// Bytes the disk can still take.
    pub free_bytes: u64,
}

/// An own feed with blocks that no peer was shown.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct UnpublishedFeed {
    pub key: Text<FeedKey>,
    /// Its path, or the room it is of.
    pub name: String,
    pub blocks: u64,
}
