//! What was said in rooms: messages with what became of them.

use kinlog_feeds::crypto::{AgentId, FeedKey};
use rusqlite::{OptionalExtension, Row, params};

use crate::entry::{Body, Ref, tag};
use crate::index::state::{parse, parse_option};
use crate::index::{EditRow, IndexError, MessageRow, ReactionRow, Reader};
use crate::limits::{CLOCK_DRIFT_MS_MAX, QUERY_ROWS_MAX};
use crate::{BODY_FORMAT, Clock, RoomId};

pub(super) const MESSAGE: &str = "SELECT m.room_id, m.feed, m.idx, m.user_id, r.display_name,
    m.depth, m.ms, m.counter, m.text, m.reply_feed, m.reply_idx, m.edited_at, m.deleted_at,
    m.deleted_by, EXISTS (SELECT 1 FROM reactions t WHERE t.target_feed = m.feed
        AND t.target_idx = m.idx AND t.room_id = m.room_id) FROM messages m
    JOIN member_feeds s ON s.room_id = m.room_id AND s.feed = m.feed AND m.idx < s.shown_below
    LEFT JOIN room_members r ON r.room_id = m.room_id AND r.user_id = m.user_id";

const NEWEST_FIRST: &str =
    "ORDER BY m.depth DESC, m.ms DESC, m.counter DESC, m.feed DESC, m.idx DESC";

impl Reader {
    /// Returns the last `last` messages of a room, oldest first.
    ///
    /// A date is marked when it lies more than 10 minutes before that of the message in front of
    /// it, or after that of the message behind it.
    pub fn messages(&self, room: &RoomId, last: usize) -> Result<Vec<MessageRow>, IndexError> {
        let last = last.min(QUERY_ROWS_MAX);
        let sql = format!("{MESSAGE} WHERE m.room_id = ?1 {NEWEST_FIRST} LIMIT ?2");
        // One more, so that the oldest has a neighbour.
        let limit = last as i64 + 1;
        let mut messages = self.all(&sql, params![room.to_string(), limit], message_row)?;
        messages.reverse();
        for number in 1..messages.len() {
            let (before, here) = (messages[number - 1].clock.ms, messages[number].clock.ms);
            if before > here.saturating_add(CLOCK_DRIFT_MS_MAX) {
                messages[number - 1].clock_marked = true;
                messages[number].clock_marked = true;
            }
        }
        if messages.len() > last {
            messages.remove(0);
        }
        Ok(messages)
    }

    /// Returns the last `last` messages of a room that name `agent` and were not deleted, oldest
    /// first.
    pub fn mentions(
        &self,
        room: &RoomId,
        agent: &AgentId,
        last: usize,
    ) -> Result<Vec<MessageRow>, IndexError> {
        let sql = format!(
            "{MESSAGE} JOIN (SELECT n.feed, n.idx, f.order_depth FROM mentions n
                 JOIN facts f ON f.feed = n.feed AND f.idx = n.idx
                 WHERE n.user_id = ?2 AND n.room_id = ?1) n
             ON m.depth = n.order_depth AND m.feed = n.feed AND m.idx = n.idx
             WHERE m.room_id = ?1 {NEWEST_FIRST} LIMIT ?3"
        );
        let last = last.min(QUERY_ROWS_MAX) as i64;
        let values = params![room.to_string(), agent.to_string(), last];
        let mut messages = self.all(&sql, values, message_row)?;
        messages.reverse();
        Ok(messages)
    }

    /// Returns a message that is shown, by its entry.
    pub fn message(&self, entry: &Ref) -> Result<Option<MessageRow>, IndexError> {
        let sql = format!(
            "{MESSAGE} WHERE m.room_id = (SELECT room_id FROM feeds WHERE feed = ?1)
             AND m.depth = (SELECT order_depth FROM facts WHERE feed = ?1 AND idx = ?2)
             AND m.feed = ?1 AND m.idx = ?2"
        );
        let values = params![entry.feed.0, entry.index];
        Ok(self.all(&sql, values, message_row)?.pop())
    }

    /// Returns the reactions to a message in its room, in the order of their dates.
    pub fn reactions(&self, message: &MessageRow) -> Result<Vec<ReactionRow>, IndexError> {
        self.all(
            "SELECT t.feed, t.idx, t.user_id, r.display_name, t.emoji FROM reactions t
             JOIN member_feeds s ON s.room_id = t.room_id AND s.feed = t.feed
                 AND t.idx < s.shown_below
             LEFT JOIN room_members r ON r.room_id = t.room_id AND r.user_id = t.user_id
             WHERE t.target_feed = ?1 AND t.target_idx = ?2 AND t.room_id = ?3
             ORDER BY t.ms, t.feed, t.idx LIMIT ?4",
            params![
                message.feed.0,
                message.index,
                message.room.to_string(),
                QUERY_ROWS_MAX as i64
            ],
            |row| {
                Ok(ReactionRow {
                    entry: entry_at(row, 0)?,
                    agent: parse(row, 2)?,
                    display_name: row.get(3)?,
                    emoji: row.get(4)?,
                })
            },
        )
    }

    /// Returns what a message said at first and after each edit by its author, oldest first;
    /// nothing for one that was deleted.
    pub fn edits(&self, message: &MessageRow) -> Result<Vec<EditRow>, IndexError> {
        if message.deleted.is_some() {
            return Ok(Vec::new());
        }
        let first: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT body FROM facts WHERE feed = ?1 AND idx = ?2")?
            .query_row(params![message.feed.0, message.index], |row| row.get(0))
            .optional()?;
        let first = first.and_then(|body| {
            match Body::decode(tag::MESSAGE, u64::from(BODY_FORMAT), &body.into()) {
                Ok(Body::Message(said)) => Some(EditRow {
                    entry: message.entry(),
                    edited_at: message.clock.ms,
                    text: said.text.into_string(),
                }),
                _ => None,
            }
        });
        let edits = self.all(
            "SELECT e.feed, e.idx, e.ms, e.text FROM edits e
             JOIN member_feeds s ON s.room_id = e.room_id AND s.feed = e.feed
                 AND e.idx < s.shown_below
             WHERE e.target_feed = ?1 AND e.target_idx = ?2 AND e.room_id = ?3 AND e.user_id = ?4
             ORDER BY e.depth, e.ms, e.counter, e.feed, e.idx LIMIT ?5",
            params![
                message.feed.0,
                message.index,
                message.room.to_string(),
                message.agent.to_string(),
                QUERY_ROWS_MAX as i64
            ],
            |row| {
                Ok(EditRow {
                    entry: entry_at(row, 0)?,
                    edited_at: row.get(2)?,
                    text: row.get(3)?,
                })
            },
        )?;
        Ok(first.into_iter().chain(edits).collect())
    }
}

impl MessageRow {
    /// Returns the entry that the message is.
    pub fn entry(&self) -> Ref {
        Ref {
            feed: self.feed,
            index: self.index,
        }
    }
}

pub(super) fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    let reply = match row.get::<_, Option<[u8; 32]>>(9)? {
        Some(_) => Some(entry_at(row, 9)?),
        None => None,
    };
    let deleted_by = parse_option::<AgentId>(row, 13)?;
    let deleted_at: Option<u64> = row.get(12)?;
    Ok(MessageRow {
        room: parse(row, 0)?,
        feed: FeedKey(row.get(1)?),
        index: row.get(2)?,
        agent: parse(row, 3)?,
        display_name: row.get(4)?,
        depth: row.get(5)?,
        clock: Clock {
            ms: row.get(6)?,
            counter: row.get(7)?,
        },
        clock_marked: false,
        text: row.get(8)?,
        reply,
        edited_at: row.get(11)?,
        deleted: deleted_by.zip(deleted_at),
        has_reactions: row.get(14)?,
    })
}

fn entry_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Ref> {
    Ok(Ref {
        feed: FeedKey(row.get(column)?),
        index: row.get(column + 1)?,
    })
}
