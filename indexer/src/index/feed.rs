//! What the index is told: feeds, blocks, and where to read them again.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash};

use crate::RoomId;
use crate::entry::LinkScope;
use crate::seal::ContentKey;

/// Whose feed it is and where it belongs.
///
/// Directory and author are what a verified identity set and a directory say. In rooms nobody is
/// taken at their word: the author of a room feed follows from the room's own entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// The public directory of a device.
    Directory { author: AgentId, device: DeviceKey },
    /// A feed of one author's paths.
    Author { author: AgentId, device: DeviceKey },
    /// The private directory of a device of ours.
    PrivateDirectory { author: AgentId, device: DeviceKey },
    /// A feed of one of our private paths.
    Private { author: AgentId, device: DeviceKey },
    /// A feed followed by its key alone: the author is unknown until a directory names it.
    Unknown,
    /// An entries feed of a room.
    Room(RoomId),
}

impl Scope {
    /// Returns what keys the links of entries here; `None` while the author is unknown.
    pub fn link_scope(&self) -> Option<LinkScope> {
        match self {
            Scope::Directory { author, .. } | Scope::Author { author, .. } => {
                Some(LinkScope::Author(*author))
            }
            Scope::Unknown => None,
            Scope::Room(_) | Scope::PrivateDirectory { .. } | Scope::Private { .. } => {
                self.sealed_in().map(LinkScope::Room)
            }
        }
    }

    /// Returns the room whose epochs seal the entries; `None` in the open.
    pub fn sealed_in(&self) -> Option<RoomId> {
        match self {
            Scope::Room(room) => Some(*room),
            Scope::PrivateDirectory { author, .. } | Scope::Private { author, .. } => {
                Some(RoomId::own(author))
            }
            Scope::Directory { .. } | Scope::Author { .. } | Scope::Unknown => None,
        }
    }

    /// Returns which of two scopes a feed belongs to whose key was claimed for both: the smaller. Rooms go
    /// before private directories, directories, private paths and paths; of one sort the smaller
    /// room, agent and device.
    pub fn precedence(&self) -> (u8, [u8; 32], [u8; 32]) {
        match self {
            Scope::Room(room) => (0, room.0, [0; 32]),
            Scope::PrivateDirectory { author, device } => (1, author.0, device.0),
            Scope::Directory { author, device } => (2, author.0, device.0),
            Scope::Private { author, device } => (3, author.0, device.0),
            Scope::Author { author, device } => (4, author.0, device.0),
            Scope::Unknown => (5, [0; 32], [0; 32]),
        }
    }

    /// Returns the author, where the scope alone names one.
    pub fn author(&self) -> Option<AgentId> {
        match self {
            Scope::Directory { author, .. }
            | Scope::Author { author, .. }
            | Scope::PrivateDirectory { author, .. }
            | Scope::Private { author, .. } => Some(*author),
            Scope::Unknown | Scope::Room(_) => None,
        }
    }
}

/// A feed that the index is to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FeedContext {
    /// The feed.
    pub key: FeedKey,
    /// Whose it is and where it belongs.
    pub scope: Scope,
}

/// A verified block of a feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// The feed.
    pub feed: FeedKey,
    /// Block index.
    pub index: u64,
    /// Content.
    pub bytes: Bytes,
}

/// Tree hashes of held feeds, by which links are checked; several threads ask.
pub trait TreeHashes: Send + Sync {
    /// Returns the tree hash of `feed` at `length`, `None` while the roots are not held.
    fn tree_hash(&self, feed: &FeedKey, length: u64) -> Option<Hash>;

    /// Returns the first block on which two heads of `feed` may differ that its writer signed;
    /// `None` where no two are known that do.
    fn contested_from(&self, feed: &FeedKey) -> Option<u64> {
        let _ = feed;
        None
    }
}

/// An error of a [`BlockSource`].
pub type SourceError = Box<dyn Error + Send + Sync>;

/// Everything an index follows from: feeds, their held blocks, and keys.
///
/// It is read in a thread of its own, a block after another.
pub trait BlockSource: Send {
    /// Returns every feed that is to be indexed.
    fn feeds(&mut self) -> Result<Vec<FeedContext>, SourceError>;

    /// Returns every epoch key held.
    fn keys(&mut self) -> Result<Vec<(RoomId, ContentKey)>, SourceError>;

    /// Returns the blocks held of `feed`.
    fn held(&mut self, feed: &FeedKey) -> Result<Vec<Range<u64>>, SourceError>;

    /// Returns a block, `None` if it is not held any more.
    fn block(&mut self, feed: &FeedKey, index: u64) -> Result<Option<Bytes>, SourceError>;
}

impl fmt::Debug for dyn TreeHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TreeHashes")
    }
}
