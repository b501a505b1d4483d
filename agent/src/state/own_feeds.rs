//! Feeds of this device: the random id each key derives from, and the path it is found under.

use kinlog_feeds::crypto::FeedKey;
use kinlog_indexer::entry::PathKind;
use rusqlite::{Connection, OptionalExtension};

use crate::links::FeedPath;
use crate::state::{State, StateError, fixed};
use crate::vault::SecretPlace;

/// A feed this device signs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OwnFeed {
    pub(crate) key: FeedKey,
    /// Random, or the constant of a directory.
    pub(crate) id: [u8; 16],
    /// Where others find it; `None` for a directory, a plain feed, a room's feed.
    pub(crate) path: Option<FeedPath>,
    /// Whether its blocks are entries.
    pub(crate) is_entries: bool,
    /// In no directory and no room.
    pub(crate) is_plain: bool,
    /// Sealed, and listed in the private directory alone; or that directory itself.
    pub(crate) is_private: bool,
    /// What its path is.
    pub(crate) kind: PathKind,
}

impl OwnFeed {
    /// Returns a feed of entries that has no path.
    pub(crate) fn entries(key: FeedKey, id: [u8; 16]) -> Self {
        OwnFeed {
            key,
            id,
            path: None,
            is_entries: true,
            is_plain: false,
            is_private: false,
            kind: PathKind::Log,
        }
    }
}

impl State {
    /// Remembers an own feed before anything is signed with its key; again changes nothing.
    pub(crate) fn add_own_feed(&self, feed: &OwnFeed) -> Result<(), StateError> {
        self.insert_own_feed(&self.lock(), feed)
    }

    /// Gives an own feed another path, or with `None` none any more.
    pub(crate) fn set_path(
        &self,
        key: &FeedKey,
        path: Option<&FeedPath>,
    ) -> Result<(), StateError> {
        let connection = self.lock();
        let is_private = connection
            .query_row(
                "SELECT private FROM own_feeds WHERE feed_key = ?1",
                [key.as_bytes()],
                |row| row.get(0),
            )
            .optional()?;
        let (clear, sealed) = self.path_columns(own_path(key), path, is_private.unwrap_or(true))?;
        connection.execute(
            "UPDATE own_feeds SET path = ?2, private_path = ?3 WHERE feed_key = ?1",
            (key.as_bytes(), clear, sealed),
        )?;
        Ok(())
    }

    /// Returns all own feeds, by key.
    pub(crate) fn own_feeds(&self) -> Result<Vec<OwnFeed>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT feed_key, feed_id, path, content, plain, private, kind, private_path
             FROM own_feeds ORDER BY feed_key",
        )?;
        let rows = statement.query_map([], |row| {
            let path: (Option<String>, String) = (row.get(2)?, row.get(7)?);
            let content: String = row.get(3)?;
            let kind: String = row.get(6)?;
            let feed = OwnFeed {
                key: FeedKey(fixed(row, 0)?),
                id: fixed(row, 1)?,
                path: None,
                is_entries: content == content_text(true),
                is_plain: row.get(4)?,
                is_private: row.get(5)?,
                kind: PathKind::of(&kind),
            };
            Ok((feed, path))
        })?;
        rows.map(|row| {
            let (feed, path) = row?;
            let path = self.path_of(own_path(&feed.key), path)?;
            Ok(OwnFeed { path, ..feed })
        })
        .collect()
    }

    pub(super) fn insert_own_feed(
        &self,
        connection: &Connection,
        feed: &OwnFeed,
    ) -> Result<(), StateError> {
        let (clear, sealed) =
            self.path_columns(own_path(&feed.key), feed.path.as_ref(), feed.is_private)?;
        connection.execute(
            "INSERT OR IGNORE INTO own_feeds
             (feed_key, feed_id, path, content, plain, private, kind, private_path)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (
                feed.key.as_bytes(),
                feed.id,
                clear,
                content_text(feed.is_entries),
                feed.is_plain,
                feed.is_private,
                feed.kind.as_str(),
                sealed,
            ),
        )?;
        Ok(())
    }
}

fn own_path(feed: &FeedKey) -> SecretPlace<'_> {
    SecretPlace::new("own_feeds", "private_path", feed.as_bytes())
}

pub(super) fn content_text(is_entries: bool) -> &'static str {
    if is_entries { "entries" } else { "bytes" }
}
