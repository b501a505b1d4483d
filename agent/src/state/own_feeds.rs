//! Feeds of this device: the random id each key derives from, and the path it is found under.

use kinlog_feeds::crypto::FeedKey;
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
}

impl State {
    /// Remembers an own feed before anything is signed with its key; again changes nothing.
    pub(crate) fn add_own_feed(&self, feed: &OwnFeed) -> Result<(), StateError> {
        Ok(insert(&self.lock(), feed)?)
    }

    /// Returns all own feeds, by key.
    pub(crate) fn own_feeds(&self) -> Result<Vec<OwnFeed>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT feed_key, feed_id, path, content, plain FROM own_feeds ORDER BY feed_key",
        )?;
        let rows = statement.query_map([], |row| {
            let path: Option<String> = row.get(2)?;
            let content: String = row.get(3)?;
            Ok((fixed(row, 0)?, fixed(row, 1)?, path, content, row.get(4)?))
        })?;
        rows.map(|row| {
            let (key, id, path, content, is_plain) = row?;
            let path =
                path.map(|text| text.parse())
                    .transpose()
                    .map_err(|_| StateError::Damaged {
                        what: "path of an own feed",
                    })?;
            let is_entries = content == content_text(true);
            Ok(OwnFeed {
                key: FeedKey(key),
                id,
                path,
                is_entries,
                is_plain,
            })
        })
        .collect()
    }
}

pub(super) fn insert(connection: &Connection, feed: &OwnFeed) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR IGNORE INTO own_feeds (feed_key, feed_id, path, content, plain)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            feed.key.as_bytes(),
            feed.id,
            feed.path.as_ref().map(FeedPath::as_str),
            content_text(feed.is_entries),
            feed.is_plain,
        ),
    )?;
    Ok(())
}

pub(super) fn content_text(is_entries: bool) -> &'static str {
    if is_entries { "entries" } else { "bytes" }
}
