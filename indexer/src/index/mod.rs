//! The SQLite index over entries: cattle, not a pet.
//!
//! Two stages. *Facts*: each verified entry that a held key opens is inserted once, keyed by feed
//! and block index; sealed ones without a key wait, unknown ones are counted. *Views*: a pure
//! function of the set of facts and feeds, kept up to date as facts arrive in any order. So the
//! same entries and keys give the same tables, byte for byte ([`Index::dump_hash`]), and a lost or
//! damaged file is deleted and rebuilt ([`Index::rebuild`]).
//!
//! One [`Index`] writes; it belongs to one thread at a time. Keys live in memory only.

mod error;
mod feed;
mod report;

pub use error::{IndexError, OpenError};
pub use feed::{Block, BlockSource, FeedContext, Scope, SourceError, TreeHashes};
pub use report::{
    Counts, DirectoryRow, DocumentRow, FileRow, HeadRow, IngestReport, LinkConflict, MemberFeedRow,
    MemberRow, MessageRow, RebuildReport, RoomRow, SearchHit,
};

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use kinlog_feeds::crypto::{AgentId, FeedKey, Hash};
use rusqlite::Connection;

use crate::RoomId;
use crate::clock::Frontier;
use crate::entry::LinkScope;
use crate::seal::{ContentKey, EpochId};

/// The index of one agent.
#[derive(Debug)]
pub struct Index {
    connection: Connection,
    keys: BTreeMap<(RoomId, EpochId), ContentKey>,
    trees: Option<Box<dyn TreeHashes>>,
}

impl Index {
    /// Opens the index at `path`, or creates it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite {
            path: path.into(),
            source,
        };
        let connection = Connection::open(path).map_err(sqlite)?;
        Ok(Index {
            connection,
            keys: BTreeMap::new(),
            trees: None,
        })
    }

    /// Creates an index in memory.
    pub fn open_in_memory() -> Result<Self, OpenError> {
        Index::open(Path::new(":memory:"))
    }

    /// Takes the tree hashes by which links are checked from now on.
    pub fn set_tree_hashes(&mut self, trees: Box<dyn TreeHashes>) {
        self.trees = Some(trees);
    }

    /// Tells of a feed; again with the same scope changes nothing, and an unknown author may become
    /// known.
    pub fn put_feed(&mut self, feed: FeedContext) -> Result<IngestReport, IndexError> {
        let _ = feed;
        Ok(IngestReport::default())
    }

    /// Takes an epoch's key and reads what waited for it. Keys are not stored: give them after
    /// each start.
    pub fn put_epoch_key(
        &mut self,
        room: RoomId,
        key: ContentKey,
    ) -> Result<IngestReport, IndexError> {
        self.keys.insert((room, key.epoch_id()), key);
        Ok(IngestReport::default())
    }

    /// Indexes verified blocks, in any order, in one transaction with their checkpoint. Blocks
    /// indexed before change nothing.
    pub fn ingest(&mut self, blocks: &[Block]) -> Result<IngestReport, IndexError> {
        let _ = (blocks, &self.trees);
        Ok(IngestReport::default())
    }

    /// Forgets everything and reads it again from `source`.
    pub fn rebuild(&mut self, source: &mut dyn BlockSource) -> Result<RebuildReport, IndexError> {
        let _ = source.feeds().map_err(IndexError::Source)?;
        Ok(RebuildReport::default())
    }

    /// Returns the first block of `feed` from which on something is not indexed.
    pub fn checkpoint(&self, feed: &FeedKey) -> Result<u64, IndexError> {
        let _ = (feed, &self.connection);
        Ok(0)
    }

    /// Returns the blocks of `feed` that are indexed.
    pub fn indexed(&self, feed: &FeedKey) -> Result<Vec<Range<u64>>, IndexError> {
        let _ = feed;
        Ok(Vec::new())
    }

    /// Returns the hash over every table that is the same for the same entries and keys.
    pub fn dump_hash(&self) -> Result<Hash, IndexError> {
        Ok(Hash::default())
    }

    /// Returns what the next entry that `own` gets in `scope` goes after.
    pub fn frontier(&self, scope: LinkScope, own: &FeedKey) -> Result<Frontier, IndexError> {
        let _ = own;
        Ok(Frontier {
            scope,
            entries: Vec::new(),
            more: false,
            own_depth: None,
        })
    }

    /// Returns all rooms, by name.
    pub fn rooms(&self) -> Result<Vec<RoomRow>, IndexError> {
        Ok(Vec::new())
    }

    /// Returns a room.
    pub fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, IndexError> {
        let _ = room;
        Ok(None)
    }

    /// Returns the members of a room, in the order they joined.
    pub fn room_members(&self, room: &RoomId) -> Result<Vec<MemberRow>, IndexError> {
        let _ = room;
        Ok(Vec::new())
    }

    /// Returns the devices of a room with their feeds: what a member follows.
    pub fn member_feeds(&self, room: &RoomId) -> Result<Vec<MemberFeedRow>, IndexError> {
        let _ = room;
        Ok(Vec::new())
    }

    /// Returns the last `last` messages of a room, oldest first.
    pub fn messages(&self, room: &RoomId, last: usize) -> Result<Vec<MessageRow>, IndexError> {
        let _ = (room, last);
        Ok(Vec::new())
    }

    /// Returns the newest `last` files of a room, oldest first.
    pub fn files(&self, room: &RoomId, last: usize) -> Result<Vec<FileRow>, IndexError> {
        let _ = (room, last);
        Ok(Vec::new())
    }

    /// Returns up to `limit` messages and documents that contain every word of `query`.
    pub fn search(&self, query: &str, limit: usize) -> Result<Vec<SearchHit>, IndexError> {
        let _ = (query, limit);
        Ok(Vec::new())
    }

    /// Returns up to `limit` documents of a feed, in order.
    pub fn documents(&self, feed: &FeedKey, limit: usize) -> Result<Vec<DocumentRow>, IndexError> {
        let _ = (feed, limit);
        Ok(Vec::new())
    }

    /// Returns the public paths of an agent, by label.
    pub fn directory(&self, agent: &AgentId) -> Result<Vec<DirectoryRow>, IndexError> {
        let _ = agent;
        Ok(Vec::new())
    }

    /// Returns the label that an old label of an agent leads to.
    pub fn redirect(&self, agent: &AgentId, label: &str) -> Result<Option<String>, IndexError> {
        let _ = (agent, label);
        Ok(None)
    }

    /// Returns the newest head of `feed` that its device's directory vouches for.
    pub fn vouched_head(&self, feed: &FeedKey) -> Result<Option<HeadRow>, IndexError> {
        let _ = feed;
        Ok(None)
    }

    /// Returns what an agent calls itself in the open.
    pub fn profile(&self, agent: &AgentId) -> Result<Option<String>, IndexError> {
        let _ = agent;
        Ok(None)
    }

    /// Returns up to `limit` links that disagree with a held feed.
    pub fn conflicts(&self, limit: usize) -> Result<Vec<LinkConflict>, IndexError> {
        let _ = limit;
        Ok(Vec::new())
    }

    /// Returns how many blocks of each sort were seen.
    pub fn counts(&self) -> Result<Counts, IndexError> {
        Ok(Counts::default())
    }
}
