//! `state.db`: the little that follows from no feed and no key, and is in the backup.
//!
//! SQLite with `synchronous=FULL`: what a call here wrote has survived when it returns. Calls block
//! for one disk flush; async code makes them on worker threads.

mod cleared;
mod copy;
#[cfg(test)]
mod crash;
mod deletions;
#[cfg(test)]
mod earlier_versions;
mod former_feeds;
mod given_clearings;
mod grants;
mod identities;
mod join_answers;
mod own_epochs;
mod own_feeds;
mod paths;
mod pins;
mod rooms;
mod routes;
mod schema;
mod sealed;
mod sign_ins;
mod signals;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::Connection;

pub(crate) use cleared::{ClearedBlocks, ClearedBy, ClearedFeed};
pub(crate) use deletions::{Deletion, Stage};
pub(crate) use former_feeds::{FormerFeed, Renewal};
pub(crate) use given_clearings::GivenClearings;
pub(crate) use grants::HeldGrant;
pub(crate) use join_answers::StoredAnswer;
pub(crate) use own_feeds::OwnFeed;
pub(crate) use pins::{Pin, PinTarget};
pub(crate) use rooms::{KeySort, OpenJoin, StoredEpoch, StoredRoom};
pub(crate) use routes::PeerRoute;

use crate::api::Error;
use crate::home::private_file;
use crate::vault::HomeKey;

/// The open database; cheap to clone.
///
/// What nobody but this agent may know stands in it sealed: see [`seal`](State::seal).
#[derive(Clone, Debug)]
pub(crate) struct State {
    connection: Arc<Mutex<Connection>>,
    key: HomeKey,
}

/// What went wrong with `state.db`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StateError {
    /// The file cannot be made.
    #[error("state.db: {0}")]
    Io(#[from] std::io::Error),
    /// SQLite's own error.
    #[error("state.db: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Written by a newer build.
    #[error("state.db has schema {actual}, this build knows up to {known}")]
    Newer { actual: u32, known: u32 },
    /// A secret that the home's key does not open.
    #[error("state.db: {column} of {table} does not open with the key of this home")]
    Sealed {
        table: &'static str,
        column: &'static str,
    },
    /// The system gave no random numbers to seal with.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// A row that this code never writes.
    #[error("state.db: {what} is damaged")]
    Damaged { what: &'static str },
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Sealed { .. } => Error::verification(error.to_string())
                .hint("it is damaged, or of another home: put a copy of it back"),
            other => Error::general(other.to_string()),
        }
    }
}

impl State {
    /// Opens or creates the database of the home with this key, and brings its schema up to date.
    pub(crate) fn open_with(path: &Path, key: &HomeKey) -> Result<State, StateError> {
        private_file(path)?;
        State::prepare(Connection::open(path)?, "WAL", key.clone())
    }

    /// Opens or creates the database of a test.
    #[cfg(test)]
    pub(crate) fn open(path: &Path) -> Result<State, StateError> {
        let key = kinlog_feeds::crypto::Secret::new([0x77; 32]);
        State::open_with(path, &HomeKey::new(key))
    }

    fn prepare(
        mut connection: Connection,
        journal: &str,
        key: HomeKey,
    ) -> Result<State, StateError> {
        connection.pragma_update(None, "journal_mode", journal)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        // What is deleted is overwritten: a revoked invite is not left in a free page.
        connection.pragma_update(None, "secure_delete", "ON")?;
        schema::migrate(&mut connection)?;
        let state = State {
            connection: Arc::new(Mutex::new(connection)),
            key,
        };
        state.seal_clear_paths()?;
        Ok(state)
    }

    /// Returns the key that the secrets of this home are sealed with.
    pub(crate) fn key(&self) -> &HomeKey {
        &self.key
    }

    /// Returns a value of the table of single values.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        use rusqlite::OptionalExtension;
        let connection = self.lock();
        let value = connection
            .query_row("SELECT value FROM single WHERE name = ?1", [name], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(value)
    }

    /// Keeps a single value.
    pub(crate) fn set_value(&self, name: &str, value: &[u8]) -> Result<(), StateError> {
        self.lock().execute(
            "INSERT INTO single (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held left SQLite's own transaction rolled back.
        self.connection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reads a column of exactly `N` bytes.
fn fixed<const N: usize>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<[u8; N]> {
    let bytes: Vec<u8> = row.get(column)?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Blob,
            format!("{length} bytes where {N} belong").into(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn values_survive_reopening() {
        let folder = TestFolder::new();
        let path = folder.path().join("state.db");
        let state = State::open(&path).expect("opened");
        assert_eq!(state.value("name").expect("read"), None);
        state.set_value("name", b"one").expect("written");
        state.set_value("name", b"two").expect("written");
        drop(state);
        let state = State::open(&path).expect("reopened");
        assert_eq!(
            state.value("name").expect("read").as_deref(),
            Some(&b"two"[..])
        );
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let folder = TestFolder::new();
        let path = folder.path().join("state.db");
        drop(State::open(&path).expect("opened"));
        Connection::open(&path)
            .and_then(|connection| connection.pragma_update(None, "user_version", 99))
            .expect("changed");
        assert!(matches!(
            State::open(&path),
            Err(StateError::Newer { actual: 99, .. })
        ));
    }
}
