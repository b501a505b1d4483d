//! Feeds of this device: the random id each key derives from, and the path it is found under.

use kinlog_feeds::crypto::FeedKey;
use kinlog_indexer::entry::PathKind;
use rusqlite::Connection;

use crate::links::FeedPath;
use crate::state::{State, StateError, fixed};

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
        Ok(insert(&self.lock(), feed)?)
    }

    /// Gives an own feed another path, or with `None` none any more.
    pub(crate) fn set_path(
        &self,
        key: &FeedKey,
        path: Option<&FeedPath>,
    ) -> Result<(), StateError> {
        self.lock().execute(
            "UPDATE own_feeds SET path = ?2 WHERE feed_key = ?1",
            (key.as_bytes(), path.map(FeedPath::as_str)),
        )?;
        Ok(())
    }

    /// Returns all own feeds, by key.
    pub(crate) fn own_feeds(&self) -> Result<Vec<OwnFeed>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT feed_key, feed_id, path, content, plain, private, kind FROM own_feeds
             ORDER BY feed_key",
        )?;
        let rows = statement.query_map([], |row| {
            let path: Option<String> = row.get(2)?;
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
            let path =
                path.map(|text| text.parse())
                    .transpose()
                    .map_err(|_| StateError::Damaged {
                        what: "path of an own feed",
                    })?;
            Ok(OwnFeed { path, ..feed })
        })
        .collect()
    }
}

pub(super) fn insert(connection: &Connection, feed: &OwnFeed) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR IGNORE INTO own_feeds (feed_key, feed_id, path, content, plain, private, kind)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            feed.key.as_bytes(),
            feed.id,
            feed.path.as_ref().map(FeedPath::as_str),
            content_text(feed.is_entries),
            feed.is_plain,
            feed.is_private,
            feed.kind.as_str(),
        ),
    )?;
    Ok(())
}

pub(super) fn content_text(is_entries: bool) -> &'static str {
    if is_entries { "entries" } else { "bytes" }
}
