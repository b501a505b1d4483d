//! Questions to the index over a connection of their own, which waits for nobody who writes.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use kinlog_feeds::crypto::{FeedKey, Hash};
use rusqlite::{Connection, OpenFlags};

use crate::index::dump::dump_hash;
use crate::index::runs::with_blocks;
use crate::index::{IndexError, OpenError};
use crate::limits::{PREPARED_STATEMENTS_MAX, READER_CACHE_KIB};

/// A look at the index that never changes it.
///
/// [`Index`](crate::Index) is one, too: it sees what it wrote. One opened beside it sees what was
/// committed when a question was asked, for as long as the question lasts, while the other goes on
/// writing. It belongs to one thread at a time, and has to be gone before the file is deleted or
/// the `Index` is closed for good.
pub struct Reader {
    pub(super) connection: Connection,
}

impl Reader {
    /// Opens a look at the index at `path`, which an [`Index`](crate::Index) has open.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let fault = |source| OpenError::of(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
        connection
            .execute_batch(&format!(
                "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY;
                 PRAGMA cache_size = -{READER_CACHE_KIB};"
            ))
            .map_err(fault)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS_MAX);
        Ok(Reader { connection })
    }

    /// Answers several questions from one state of the index, whatever is written meanwhile.
    pub fn at_once<T>(
        &mut self,
        look: impl FnOnce(&Reader) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        // Deferred: it takes no lock that a writer waits for.
        self.connection.execute_batch("BEGIN DEFERRED")?;
        let seen = look(self);
        self.connection.execute_batch("ROLLBACK")?;
        seen
    }

    /// Returns the blocks of `feed` that are indexed, in order.
    pub fn indexed_runs(&self, feed: &FeedKey) -> Result<Vec<Range<u64>>, IndexError> {
        let runs = self.all(
            "SELECT start, checkpoint FROM meta WHERE feed = ?1 ORDER BY start",
            [feed.0],
            |row| Ok(row.get(0)?..row.get(1)?),
        )?;
        let deleted: Vec<u64> = self.all(
            "SELECT idx FROM facts WHERE feed = ?1 AND state = 3 ORDER BY idx",
            [feed.0],
            |row| row.get(0),
        )?;
        Ok(with_blocks(runs, deleted.into_iter()))
    }

    /// Returns the hash over every table that is the same for the same entries, feeds and keys.
    pub fn dump_hash(&self) -> Result<Hash, IndexError> {
        Ok(dump_hash(&self.connection)?)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.connection.path();
        f.debug_struct("Reader")
            .field("path", &path)
            .finish_non_exhaustive()
    }
}
