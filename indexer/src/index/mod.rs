//! The SQLite index over entries: cattle, not a pet.
//!
//! Two stages. *Facts*: each verified entry that a held key opens is inserted once, keyed by feed
//! and block index; sealed ones without a key wait, unknown ones are counted. *Views*: a pure
//! function of the set of facts and feeds, kept up to date as facts arrive in any order. So the
//! same entries and keys give the same tables, byte for byte ([`Index::dump_hash`]), and a lost or
//! damaged file is deleted and rebuilt ([`Index::rebuild`]).
//!
//! One [`Index`] writes; it belongs to one thread at a time. Keys live in memory only.

mod acts;
mod clearing;
mod deletions;
mod depths;
mod directory;
mod dump;
mod error;
mod fate;
mod feed;
mod kept;
mod key_map;
mod links;
mod marks;
mod members;
mod message_words;
mod opening;
mod people_sql;
mod query;
mod query_messages;
mod query_paths;
mod query_registers;
mod reader;
mod reading;
mod rebuild;
mod register_views;
mod registers;
mod report;
mod room_acts;
mod rowid;
mod runs;
mod schema;
mod search;
mod snapshots;
mod state;
mod sum;
mod trees;
mod views;
mod words;
mod writer;

use std::fmt;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use kinlog_feeds::crypto::FeedKey;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

pub use error::{IndexError, OpenError};
pub use fate::Fate;
pub use feed::{Block, BlockSource, FeedContext, Scope, SourceError, TreeHashes};
pub use people_sql::{SqlAnswer, SqlError, SqlValue, answer as answer_sql};
pub use query_registers::{
    ClaimRow, ClaimSubject, ContactRow, PreferenceRow, ProfileRow, RegisterHead, RegisterRow,
    VouchRow,
};
pub use reader::Reader;
pub use reading::split_newest;
pub use report::{
    AgentChange, Counts, DirectoryRow, DisputeRow, DocumentRow, EditRow, Ended, FileRow, HeadHash,
    HeadRow, Hidden, IngestReport, LinkConflict, MemberFeedRow, MemberRow, MessageRow, ReactionRow,
    RebuildReport, RoomRow, SearchHit,
};
pub use snapshots::SnapshotState;

pub use trees::StoreTrees;

use crate::RoomId;
use crate::clock::{Frontier, FrontierEntry};
use crate::entry::LinkScope;
use crate::index::links::frontier_of;
use crate::index::runs::with_blocks;
use crate::index::state::State;
use crate::index::sum::SumAtClose;
use crate::index::writer::{Keys, Writer, write_checkpoint};
use crate::mistake::{Mistake, makes};
use crate::seal::ContentKey;

/// The index of one agent.
///
/// What it answers is as of the last call that wrote; after a failed call it is as if that had not
/// been made.
pub struct Index {
    reader: Reader,
    keys: Arc<Keys>,
    state: State,
    trees: Option<Arc<dyn TreeHashes>>,
    /// Behind the reader with its connection: it is dropped later.
    _sum: SumAtClose,
}

impl Index {
    /// Opens the index at `path`, or creates it.
    ///
    /// Checks the whole file first: a damaged one gives [`OpenError::Damaged`], and the caller
    /// deletes it (with its `-wal`, `-shm` and `-sum`) and rebuilds. After a clean stop any bit that
    /// changed is noticed, after a crash what SQLite's own check sees. A file of another build's schema
    /// gives [`OpenError::OtherSchema`]: the same is done, and the newest of each feed is read first.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let holds = sum::holds(path).map_err(|source| OpenError::Io {
            path: path.into(),
            source,
        })?;
        if !holds {
            return Err(OpenError::Damaged {
                path: path.into(),
                reason: "it is not what its last user left".to_owned(),
            });
        }
        let opened = Connection::open(path);
        Index::prepare(opened, path, SumAtClose::of(path))
    }

    /// Creates an index in memory.
    pub fn open_in_memory() -> Result<Self, OpenError> {
        let opened = Connection::open_in_memory();
        Index::prepare(opened, Path::new(":memory:"), SumAtClose::none())
    }

    /// Takes the tree hashes by which links are checked from now on.
    pub fn set_tree_hashes(&mut self, trees: Box<dyn TreeHashes>) {
        self.trees = Some(trees.into());
    }

    /// Tells of a feed.
    ///
    /// Whoever holds a feed's key can claim it for several scopes; one of them counts, by
    /// [`Scope::precedence`], in whatever order they are told. One that gives way to a known scope is
    /// [`IndexError::OtherScope`]. A feed that was read already moves when the index is opened the
    /// next time, with everything read again: at most once a start. One of [`Scope::Unknown`] gets
    /// an author at once.
    pub fn put_feed(&mut self, feed: FeedContext) -> Result<IngestReport, IndexError> {
        self.write(|writer| writer.put_feed(feed))
    }

    /// Takes an epoch's key and reads what waited for it. Keys are not stored: give them after
    /// each start.
    pub fn put_epoch_key(
        &mut self,
        room: RoomId,
        key: ContentKey,
    ) -> Result<IngestReport, IndexError> {
        let epoch = key.epoch_id();
        Arc::make_mut(&mut self.keys).insert((room, epoch), key);
        self.write(|writer| writer.open_pending(room, epoch))
    }

    /// Indexes verified blocks, in any order, in one transaction with their checkpoint. Blocks
    /// indexed before change nothing.
    ///
    /// Nobody but the caller can know that a block was verified. Some thousand blocks at once are
    /// fastest; a writer's own block is to be indexed before its next one is made, so that the
    /// [`frontier`](Self::frontier) knows it.
    pub fn ingest(&mut self, blocks: &[Block]) -> Result<IngestReport, IndexError> {
        self.write(|writer| writer.add_blocks(blocks))
    }

    /// Returns the first block of `feed` from which on something is not indexed.
    pub fn checkpoint(&self, feed: &FeedKey) -> Result<u64, IndexError> {
        Ok(match self.indexed(feed)?.first() {
            Some(run) if run.start == 0 => run.end,
            _ => 0,
        })
    }

    /// Returns the blocks of `feed` that are indexed, in order: what a sparse feed's checkpoint is.
    /// Those that were read and found to be deleted are among them.
    pub fn indexed(&self, feed: &FeedKey) -> Result<Vec<Range<u64>>, IndexError> {
        let known = self.state.feeds.get(feed);
        let runs = known.map(|feed| feed.runs.ranges().collect());
        Ok(with_blocks(
            runs.unwrap_or_default(),
            self.state.deleted_of(feed),
        ))
    }

    /// Returns whether block `index` of `feed` is indexed.
    pub fn is_indexed(&self, feed: &FeedKey, index: u64) -> bool {
        self.state.indexed(&(*feed, index))
    }

    /// Returns what the next entry that `own` gets in `scope` goes after.
    pub fn frontier(&self, scope: LinkScope, own: &FeedKey) -> Result<Frontier, IndexError> {
        let (entries, more) = frontier_of(&self.connection, &self.state, scope)?;
        let own_depth = self
            .connection
            .prepare_cached("SELECT depth FROM facts WHERE feed = ?1 ORDER BY idx DESC LIMIT 1")?
            .query_row([own.0], |row| row.get(0))
            .optional()?;
        let entries = entries
            .into_iter()
            .map(|(depth, (feed, index))| FrontierEntry { depth, feed, index })
            .collect();
        Ok(Frontier {
            scope,
            entries,
            more,
            own_depth,
        })
    }

    fn prepare(
        opened: rusqlite::Result<Connection>,
        path: &Path,
        sum: SumAtClose,
    ) -> Result<Self, OpenError> {
        let fault = |source| OpenError::of(path, source);
        let mut connection = opened.map_err(fault)?;
        schema::prepare(&mut connection, path)?;
        let state = State::load(&connection).map_err(fault)?;
        Ok(Index {
            reader: Reader { connection },
            keys: Arc::default(),
            state,
            trees: None,
            _sum: sum,
        })
    }

    /// Runs `work` and everything that follows from it in one transaction; nothing of it stays if
    /// any part fails.
    fn write(
        &mut self,
        work: impl FnOnce(&mut Writer<'_>) -> Result<(), IndexError>,
    ) -> Result<IngestReport, IndexError> {
        let outcome = self.try_write(work);
        if outcome.is_err() {
            let gone = std::mem::take(&mut self.state.gone);
            self.state = State::load(&self.connection)?;
            self.state.gone = gone;
        }
        outcome
    }

    fn try_write(
        &mut self,
        work: impl FnOnce(&mut Writer<'_>) -> Result<(), IndexError>,
    ) -> Result<IngestReport, IndexError> {
        let transaction = self
            .reader
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let trees = self.trees.as_deref();
        let mut writer = Writer::new(&transaction, &mut self.state, &self.keys, trees)?;
        work(&mut writer)?;
        let (report, touched) = writer.finish()?;
        let mut transaction = transaction;
        if makes(Mistake::CheckpointApart) {
            transaction.commit()?;
            transaction = self.reader.connection.transaction()?;
        }
        write_checkpoint(&transaction, &mut self.state, &touched)?;
        transaction.commit()?;
        Ok(report)
    }
}

/// Whoever writes may ask everything that others may.
impl Deref for Index {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.connection.path();
        f.debug_struct("Index")
            .field("path", &path)
            .finish_non_exhaustive()
    }
}
