//! Questions with bounded answers.

use bytes::Bytes;
use kinlog_feeds::crypto::{FeedKey, PublicKey};
use rusqlite::{OptionalExtension, Row, params};

use crate::entry::{Body, Role, tag};
use crate::index::kept::read_kept;
use crate::index::state::{parse, parse_option};
use crate::index::{
    Counts, DocumentRow, FileRow, IndexError, LinkConflict, MemberFeedRow, MemberRow, Reader,
    RoomRow,
};
use crate::limits::QUERY_ROWS_MAX;
use crate::{Clock, Index, RoomId};

const ROOM: &str = "SELECT id, room_code, name, created_by, created_at FROM rooms";

pub(super) const DOCUMENT: &str = "SELECT d.feed, d.idx, d.author,
    (SELECT label FROM directory l WHERE l.feed = d.feed AND l.user_id = d.author),
    d.title, d.text, d.mime, d.language, d.created_at FROM documents d";

impl Index {
    /// Returns the last `last` files of a room, oldest first.
    pub fn files(&self, room: &RoomId, last: usize) -> Result<Vec<FileRow>, IndexError> {
        let rows = self.all(
            "SELECT files.id, room_id, uploader_id, filename, mime_type, size_bytes, blake3,
             blobs_feed, first_block, blocks, created_at, files.feed, files.idx,
             (SELECT body FROM facts f WHERE f.feed = files.feed AND f.idx = files.idx)
             FROM files WHERE room_id = ?1
             AND EXISTS (SELECT 1 FROM member_feeds s WHERE s.room_id = files.room_id
                 AND s.feed = files.feed AND files.idx < s.shown_below)
             ORDER BY depth DESC, created_at DESC, counter DESC, feed DESC, idx DESC LIMIT ?2",
            params![room.to_string(), last.min(QUERY_ROWS_MAX) as i64],
            |row| {
                let place = (FeedKey(row.get(11)?), row.get(12)?);
                let kept = Bytes::from(row.get::<_, Vec<u8>>(13)?);
                let entry = read_kept(&self.state, &self.keys, place, tag::FILE, kept);
                let Some(Body::File(entry)) = entry else {
                    return Ok(None);
                };
                Ok(Some(FileRow {
                    id: row.get(0)?,
                    room: parse(row, 1)?,
                    uploader: parse(row, 2)?,
                    filename: row.get(3)?,
                    mime_type: row.get(4)?,
                    size_bytes: row.get(5)?,
                    blake3: row.get(6)?,
                    blobs_feed: FeedKey(row.get(7)?),
                    first_block: row.get(8)?,
                    blocks: row.get(9)?,
                    key: entry.key,
                    created_at: row.get(10)?,
                }))
            },
        )?;
        let mut files: Vec<FileRow> = rows.into_iter().flatten().collect();
        files.reverse();
        Ok(files)
    }
}

impl Reader {
    /// Returns up to [`QUERY_ROWS_MAX`] rooms, by name.
    pub fn rooms(&self) -> Result<Vec<RoomRow>, IndexError> {
        let sql = format!("{ROOM} ORDER BY name, id LIMIT ?1");
        self.all(&sql, params![QUERY_ROWS_MAX as i64], room_row)
    }

    /// Returns a room.
    pub fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, IndexError> {
        let found = self.all(
            &format!("{ROOM} WHERE id = ?1"),
            params![room.to_string()],
            room_row,
        );
        Ok(found?.pop())
    }

    /// Returns the rooms with this code or this name: people use both, and neither is unique.
    pub fn rooms_called(&self, text: &str) -> Result<Vec<RoomRow>, IndexError> {
        let sql = format!("{ROOM} WHERE room_code = ?1 OR name = ?1 ORDER BY id LIMIT ?2");
        self.all(&sql, params![text, QUERY_ROWS_MAX as i64], room_row)
    }

    /// Returns the members of a room, in the order they joined.
    pub fn room_members(&self, room: &RoomId) -> Result<Vec<MemberRow>, IndexError> {
        self.all(
            "SELECT user_id, display_name, joined_at, left_at, last_seen_at FROM room_members
             WHERE room_id = ?1 ORDER BY joined_at, user_id LIMIT ?2",
            params![room.to_string(), QUERY_ROWS_MAX as i64],
            |row| {
                Ok(MemberRow {
                    agent: parse(row, 0)?,
                    display_name: row.get(1)?,
                    joined_at: row.get(2)?,
                    left_at: row.get(3)?,
                    last_seen_at: row.get(4)?,
                })
            },
        )
    }

    /// Returns the devices that are or were in a room, with their feeds: what a member follows.
    pub fn member_feeds(&self, room: &RoomId) -> Result<Vec<MemberFeedRow>, IndexError> {
        self.all(
            "SELECT m.feed, m.blobs_feed, m.user_id, m.device, m.role, m.joined_at, c.length
             FROM member_feeds m LEFT JOIN cuts c ON c.room_id = m.room_id AND c.feed = m.feed
             WHERE m.room_id = ?1 AND m.void IS NULL ORDER BY m.joined_at, m.feed LIMIT ?2",
            params![room.to_string(), QUERY_ROWS_MAX as i64],
            |row| {
                let role: String = row.get(4)?;
                Ok(MemberFeedRow {
                    feed: FeedKey(row.get(0)?),
                    blobs_feed: FeedKey(row.get(1)?),
                    agent: parse(row, 2)?,
                    device: parse(row, 3)?,
                    role: Role::ALL.into_iter().find(|known| known.as_str() == role),
                    joined_at: row.get(5)?,
                    cut: row.get(6)?,
                })
            },
        )
    }

    /// Returns the public keys of the invites that were not revoked.
    pub fn invites(&self, room: &RoomId) -> Result<Vec<PublicKey>, IndexError> {
        self.all(
            "SELECT DISTINCT public_key FROM invites WHERE room_id = ?1 AND revoked_by IS NULL
             ORDER BY public_key LIMIT ?2",
            params![room.to_string(), QUERY_ROWS_MAX as i64],
            |row| Ok(PublicKey(row.get(0)?)),
        )
    }

    /// Returns up to `limit` documents of a feed, in order.
    pub fn documents(&self, feed: &FeedKey, limit: usize) -> Result<Vec<DocumentRow>, IndexError> {
        let sql = format!("{DOCUMENT} WHERE d.feed = ?1 ORDER BY d.idx LIMIT ?2");
        self.all(
            &sql,
            params![feed.0, limit.min(QUERY_ROWS_MAX) as i64],
            document_row,
        )
    }

    /// Returns up to `limit` links that disagree with a held feed.
    pub fn conflicts(&self, limit: usize) -> Result<Vec<LinkConflict>, IndexError> {
        self.all(
            "SELECT feed, idx, target, target_idx, stated, held FROM link_conflicts
             ORDER BY feed, idx, target, target_idx LIMIT ?1",
            params![limit.min(QUERY_ROWS_MAX) as i64],
            |row| {
                Ok(LinkConflict {
                    feed: FeedKey(row.get(0)?),
                    index: row.get(1)?,
                    target: FeedKey(row.get(2)?),
                    target_index: row.get(3)?,
                    stated: row.get(4)?,
                    held: row.get(5)?,
                })
            },
        )
    }

    /// Returns how many blocks of each sort were seen.
    pub fn counts(&self) -> Result<Counts, IndexError> {
        let tallies: Vec<(String, u64)> =
            self.all("SELECT sort, count FROM tallies", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let of = |sort: &str| {
            tallies
                .iter()
                .find(|(name, _)| name == sort)
                .map_or(0, |(_, n)| *n)
        };
        Ok(Counts {
            entries: of("entries"),
            pending: of("pending"),
            newer: of("newer"),
            malformed: of("malformed"),
            not_entries: of("not_entries"),
            unopened: of("unopened"),
            conflicts: of("conflicts"),
        })
    }

    /// Returns whether blocks of `feed` wait for a key to be read.
    pub fn waits_for_keys(&self, feed: &FeedKey) -> Result<bool, IndexError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM pending WHERE feed = ?1)";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([feed.0], |row| row.get(0))?)
    }

    /// Returns the date of the newest entry held of `feed`: where its writer's clock goes on.
    pub fn last_clock(&self, feed: &FeedKey) -> Result<Option<Clock>, IndexError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT ms, counter FROM facts WHERE feed = ?1 ORDER BY idx DESC LIMIT 1",
            )?
            .query_row([feed.0], |row| {
                Ok(Clock {
                    ms: row.get(0)?,
                    counter: row.get(1)?,
                })
            })
            .optional()?;
        Ok(found)
    }

    pub(super) fn all<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, IndexError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement
            .query_map(values, read)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }
}

fn room_row(row: &Row<'_>) -> rusqlite::Result<RoomRow> {
    Ok(RoomRow {
        id: parse(row, 0)?,
        code: row.get(1)?,
        name: row.get(2)?,
        created_by: parse(row, 3)?,
        created_at: row.get(4)?,
    })
}

pub(super) fn document_row(row: &Row<'_>) -> rusqlite::Result<DocumentRow> {
    Ok(DocumentRow {
        feed: FeedKey(row.get(0)?),
        index: row.get(1)?,
        author: parse_option(row, 2)?,
        label: row.get(3)?,
        title: row.get(4)?,
        text: row.get(5)?,
        mime: row.get(6)?,
        language: row.get(7)?,
        created_at: row.get(8)?,
    })
}
