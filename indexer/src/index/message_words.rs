//! The words of messages, kept in their full-text table.
//!
//! FTS5 writes out what it holds whenever a rowid is smaller than the one before, so a transaction
//! gathers its changes and makes them in the order of the rowids.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::index::IndexError;
use crate::index::words::segment;
use crate::index::writer::Writer;
use crate::limits::WORD_CHANGES_BYTES_MAX;

/// What becomes of the words of one message.
#[derive(Debug, Default)]
struct Change {
    /// Text whose words are in the table.
    gone: Option<String>,
    /// Text whose words are to be.
    come: Option<String>,
}

/// Changes of one transaction, by rowid.
#[derive(Debug, Default)]
pub(super) struct WordChanges {
    changes: BTreeMap<i64, Change>,
    bytes: usize,
    /// Rowid up to which words went straight into the table.
    last: Option<i64>,
}

impl WordChanges {
    /// Returns whether the words of a message that comes to be shown may go straight into the table:
    /// it is newer than all before, as most are.
    pub(super) fn is_next(&mut self, row: i64) -> bool {
        let is_next = self.changes.is_empty() && self.last.is_none_or(|last| last < row);
        if is_next {
            self.last = Some(row);
        }
        is_next
    }

    /// Takes the text of a message that came to be shown.
    pub(super) fn come(&mut self, row: i64, text: &str) {
        let text = segment(text).into_owned();
        self.bytes += text.len();
        self.changes.entry(row).or_default().come = Some(text);
    }

    /// Takes the text of a message that is shown no longer; it has to be the one that came.
    pub(super) fn go(&mut self, row: i64, text: &str) {
        let change = self.changes.entry(row).or_default();
        if change.come.take().is_none() {
            self.bytes += text.len();
            change.gone = Some(segment(text).into_owned());
        }
    }

    /// Returns whether so much is gathered that it should be written before there is more.
    pub(super) fn is_large(&self) -> bool {
        self.bytes >= WORD_CHANGES_BYTES_MAX
    }

    /// Writes all changes.
    pub(super) fn write(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.bytes = 0;
        let mut remove = db.prepare_cached(
            "INSERT INTO messages_search (messages_search, rowid, text) VALUES ('delete', ?1, ?2)",
        )?;
        let mut insert =
            db.prepare_cached("INSERT INTO messages_search (rowid, text) VALUES (?1, ?2)")?;
        for (row, change) in std::mem::take(&mut self.changes) {
            if let Some(text) = change.gone {
                remove.execute(params![row, text])?;
            }
            if let Some(text) = change.come {
                insert.execute(params![row, text])?;
            }
        }
        Ok(())
    }
}

impl Writer<'_> {
    /// Takes the words of a room's messages out; their rows follow.
    pub(super) fn forget_words(&mut self, room: &str) -> Result<(), IndexError> {
        let db = self.db;
        let mut messages =
            db.prepare_cached("SELECT rowid, text FROM messages WHERE room_id = ?1")?;
        let mut rows = messages.query([room])?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(1)?;
            self.words.go(row.get(0)?, &text);
            if self.words.is_large() {
                self.words.write(db)?;
            }
        }
        Ok(())
    }
}
