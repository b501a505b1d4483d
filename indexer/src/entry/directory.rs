//! What a directory says: paths and the feeds behind them, public or private alike.

use std::ops::Range;

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash};
use kinlog_feeds::limits::UINT_MAX;

use crate::Text;
use crate::entry::body::{fixed, text};
use crate::entry::{BodyError, ClaimScope, Cut, FeedClaim, FeedClaimError};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{CLEARED_RANGES_MAX, DIRECTORY_HEADS_MAX, KIND_BYTES_MAX, LABEL_BYTES_MAX};

/// What the blocks of a feed are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Content {
    /// Entries: indexed.
    Entries,
    /// Raw bytes: kept and served, not indexed.
    Bytes,
}

impl Content {
    /// Returns the word that `index.db` and people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Content::Entries => "entries",
            Content::Bytes => "bytes",
        }
    }
}

/// What a path is, fixed when it is made.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PathKind {
    /// One device writes it; another may go on with it in a feed of its own.
    Log,
    /// Each device has a feed of it, and it is read as their union.
    Shared,
}

impl PathKind {
    /// Returns the word that lines, `index.db` and people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            PathKind::Log => "log",
            PathKind::Shared => "shared",
        }
    }

    /// Reads the word of a line; what this build does not know is read as a log.
    pub fn of(word: &str) -> Self {
        match word {
            "shared" => PathKind::Shared,
            _ => PathKind::Log,
        }
    }
}

/// One feed of a device's directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryLine {
    /// Path without the leading slash missing: `/notes`.
    pub label: Text<LABEL_BYTES_MAX>,
    /// Kind of path, fixed at creation: `log`, `shared`.
    pub kind: Text<KIND_BYTES_MAX>,
    /// What its blocks are.
    pub content: Content,
    /// The feed: what readers use.
    pub feed: FeedKey,
    /// The id the owner derived the feed's key from.
    pub feed_id: [u8; 16],
    /// The feed's own word that it is this device's.
    pub claim: FeedClaim,
    /// The feed that this one goes on after, and how much of that is the path's.
    pub continues: Option<Cut>,
}

impl DirectoryLine {
    /// Verifies that the feed says it is `device`'s of `agent`: nobody lists the feed of another.
    pub fn verify(&self, agent: &AgentId, device: &DeviceKey) -> Result<(), FeedClaimError> {
        let scope = ClaimScope::Agent(*agent);
        self.claim.verify(&self.feed, &scope, agent, device)
    }
}

/// Another label for a feed of the directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryRename {
    /// The feed.
    pub feed: FeedKey,
    /// Its label from now on.
    pub label: Text<LABEL_BYTES_MAX>,
}

/// Where the readers of an old label go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryRedirect {
    /// The old label.
    pub from: Text<LABEL_BYTES_MAX>,
    /// The new one.
    pub to: Text<LABEL_BYTES_MAX>,
}

/// A signed head, as a directory commits to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The feed.
    pub feed: FeedKey,
    /// Its length in blocks.
    pub length: u64,
    /// Its tree hash at that length.
    pub tree_hash: Hash,
}

/// The heads of those of the device's feeds that moved since the last commitment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DirectoryHeads {
    heads: Vec<Head>,
}

impl DirectoryHeads {
    /// Takes at most [`DIRECTORY_HEADS_MAX`] heads.
    pub fn new(heads: Vec<Head>) -> Result<Self, BodyError> {
        if heads.len() > DIRECTORY_HEADS_MAX {
            return Err(BodyError::Value {
                field: "heads",
                actual: heads.len() as u64,
            });
        }
        Ok(DirectoryHeads { heads })
    }

    /// Returns the heads.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }
}

/// A feed is listed no more; its label is free, and what others hold of it stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirectoryRetire {
    /// The feed.
    pub feed: FeedKey,
}

/// All blocks of a feed whose content its agent asks everyone to drop; their hashes stay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cleared {
    feed: FeedKey,
    ranges: Vec<Range<u64>>,
}

impl Cleared {
    /// Takes at most [`CLEARED_RANGES_MAX`] ranges, ascending and apart, none of them empty.
    pub fn new(feed: FeedKey, ranges: Vec<Range<u64>>) -> Result<Self, BodyError> {
        if ranges.len() > CLEARED_RANGES_MAX {
            let (field, actual) = ("ranges", ranges.len() as u64);
            return Err(BodyError::Value { field, actual });
        }
        for range in &ranges {
            if range.is_empty() || range.end > UINT_MAX {
                let (field, actual) = ("ranges.end", range.end);
                return Err(BodyError::Value { field, actual });
            }
        }
        if !ranges.is_sorted_by(|one, next| one.end < next.start) {
            return Err(BodyError::Order { field: "ranges" });
        }
        Ok(Cleared { feed, ranges })
    }

    /// Returns the feed.
    pub fn feed(&self) -> FeedKey {
        self.feed
    }

    /// Returns the blocks.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }
}

impl TryFrom<wire::DirectoryLine> for DirectoryLine {
    type Error = BodyError;

    fn try_from(body: wire::DirectoryLine) -> Result<Self, BodyError> {
        let content = match body.content {
            0 => Content::Entries,
            1 => Content::Bytes,
            other => {
                return Err(BodyError::Value {
                    field: "content",
                    actual: u64::from(other),
                });
            }
        };
        Ok(DirectoryLine {
            label: text("label", body.label)?,
            kind: text("kind", body.kind)?,
            content,
            feed: FeedKey(fixed("feed_key", &body.feed_key)?),
            feed_id: fixed("feed_id", &body.feed_id)?,
            claim: body
                .claim
                .ok_or(BodyError::Missing { field: "claim" })?
                .try_into()?,
            continues: body.continues.map(Cut::try_from).transpose()?,
        })
    }
}

impl From<&DirectoryLine> for wire::DirectoryLine {
    fn from(body: &DirectoryLine) -> Self {
        wire::DirectoryLine {
            label: body.label.to_string(),
            kind: body.kind.to_string(),
            content: match body.content {
                Content::Entries => 0,
                Content::Bytes => 1,
            },
            feed_key: body.feed.0.to_vec().into(),
            feed_id: body.feed_id.to_vec().into(),
            claim: Some((&body.claim).into()),
            continues: body.continues.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::DirectoryRename> for DirectoryRename {
    type Error = BodyError;

    fn try_from(body: wire::DirectoryRename) -> Result<Self, BodyError> {
        let feed = FeedKey(fixed("feed_key", &body.feed_key)?);
        Ok(DirectoryRename {
            feed,
            label: text("label", body.label)?,
        })
    }
}

impl From<&DirectoryRename> for wire::DirectoryRename {
    fn from(body: &DirectoryRename) -> Self {
        let feed_key = body.feed.0.to_vec().into();
        wire::DirectoryRename {
            feed_key,
            label: body.label.to_string(),
        }
    }
}

impl TryFrom<wire::DirectoryRedirect> for DirectoryRedirect {
    type Error = BodyError;

    fn try_from(body: wire::DirectoryRedirect) -> Result<Self, BodyError> {
        let from = text("from_label", body.from_label)?;
        Ok(DirectoryRedirect {
            from,
            to: text("to_label", body.to_label)?,
        })
    }
}

impl From<&DirectoryRedirect> for wire::DirectoryRedirect {
    fn from(body: &DirectoryRedirect) -> Self {
        wire::DirectoryRedirect {
            from_label: body.from.to_string(),
            to_label: body.to.to_string(),
        }
    }
}

impl TryFrom<wire::directory_heads::Head> for Head {
    type Error = BodyError;

    fn try_from(head: wire::directory_heads::Head) -> Result<Self, BodyError> {
        if head.length > UINT_MAX {
            let (field, actual) = ("length", head.length);
            return Err(BodyError::Value { field, actual });
        }
        Ok(Head {
            feed: FeedKey(fixed("feed_key", &head.feed_key)?),
            length: head.length,
            tree_hash: Hash(fixed("tree_hash", &head.tree_hash)?),
        })
    }
}

impl From<&Head> for wire::directory_heads::Head {
    fn from(head: &Head) -> Self {
        wire::directory_heads::Head {
            feed_key: head.feed.0.to_vec().into(),
            length: head.length,
            tree_hash: head.tree_hash.0.to_vec().into(),
        }
    }
}

impl TryFrom<wire::DirectoryHeads> for DirectoryHeads {
    type Error = BodyError;

    fn try_from(body: wire::DirectoryHeads) -> Result<Self, BodyError> {
        let heads = body.heads.into_iter().map(Head::try_from);
        DirectoryHeads::new(heads.collect::<Result<_, _>>()?)
    }
}

impl From<&DirectoryHeads> for wire::DirectoryHeads {
    fn from(body: &DirectoryHeads) -> Self {
        wire::DirectoryHeads {
            heads: body.heads.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::DirectoryRetire> for DirectoryRetire {
    type Error = BodyError;

    fn try_from(body: wire::DirectoryRetire) -> Result<Self, BodyError> {
        Ok(DirectoryRetire {
            feed: FeedKey(fixed("feed_key", &body.feed_key)?),
        })
    }
}

impl From<&DirectoryRetire> for wire::DirectoryRetire {
    fn from(body: &DirectoryRetire) -> Self {
        wire::DirectoryRetire {
            feed_key: body.feed.0.to_vec().into(),
        }
    }
}

impl TryFrom<wire::Cleared> for Cleared {
    type Error = BodyError;

    fn try_from(body: wire::Cleared) -> Result<Self, BodyError> {
        let ranges = body.ranges.iter().map(|range| range.start..range.end);
        Cleared::new(
            FeedKey(fixed("feed_key", &body.feed_key)?),
            ranges.collect(),
        )
    }
}

impl From<&Cleared> for wire::Cleared {
    fn from(body: &Cleared) -> Self {
        let range = |range: &Range<u64>| wire::cleared::Range {
            start: range.start,
            end: range.end,
        };
        wire::Cleared {
            feed_key: body.feed.0.to_vec().into(),
            ranges: body.ranges.iter().map(range).collect(),
        }
    }
}
