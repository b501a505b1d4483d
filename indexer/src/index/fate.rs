//! What became of one block, for people who ask why they see it, or do not.

use kinlog_feeds::crypto::AgentId;
use rusqlite::{OptionalExtension, params};

use crate::entry::Ref;
use crate::index::deletions::DELETED;
use crate::index::state::parse;
use crate::index::{IndexError, Scope};
use crate::seal::EpochId;
use crate::{Index, RoomId};

/// What the index made of a block.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Its feed is not indexed, or the block was not there.
    NotRead,
    /// Sealed in an epoch whose key is not here.
    Waits(EpochId),
    /// No entry that is shown, and why: `not_entries`, `unopened`, `malformed`, `newer`.
    Skipped(String),
    /// An entry of a room's feed that no member's admission makes count.
    NotAMembers(RoomId),
    /// An entry; of a message, all deletions of it by members.
    Entry {
        /// Body tag.
        tag: u64,
        /// Whether this build reads the body.
        is_read: bool,
        /// Who deleted it, when (clock, ms) and why, whether that counts or not.
        deletions: Vec<(AgentId, u64, String)>,
    },
}

impl Index {
    /// Returns what became of a block.
    pub fn fate(&self, entry: &Ref) -> Result<Fate, IndexError> {
        let place = params![entry.feed.0, entry.index];
        let waits: Option<[u8; 16]> = self
            .connection
            .prepare_cached("SELECT epoch FROM pending WHERE feed = ?1 AND idx = ?2")?
            .query_row(place, |row| row.get(0))
            .optional()?;
        if let Some(epoch) = waits {
            return Ok(Fate::Waits(EpochId(epoch)));
        }
        let skipped: Option<String> = self
            .connection
            .prepare_cached("SELECT reason FROM skipped WHERE feed = ?1 AND idx = ?2")?
            .query_row(place, |row| row.get(0))
            .optional()?;
        if let Some(reason) = skipped {
            return Ok(Fate::Skipped(reason));
        }
        let fact: Option<(u64, i64)> = self
            .connection
            .prepare_cached("SELECT tag, state FROM facts WHERE feed = ?1 AND idx = ?2")?
            .query_row(place, |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((tag, state)) = fact else {
            return Ok(Fate::NotRead);
        };
        let feed = self.state.feeds.get(&entry.feed);
        if let Some(feed) = feed
            && let Scope::Room(room) = feed.scope
            && feed.member.is_none()
        {
            return Ok(Fate::NotAMembers(room));
        }
        let deletions = self.all(
            "SELECT user_id, ms, reason FROM tombstones
             WHERE target_feed = ?1 AND target_idx = ?2 ORDER BY ms, feed, idx LIMIT 16",
            place,
            |row| Ok((parse(row, 0)?, row.get(1)?, row.get(2)?)),
        )?;
        Ok(Fate::Entry {
            tag,
            is_read: state == 0 || state == DELETED,
            deletions,
        })
    }

    /// Looks whether the file holds together, and returns what does not; nothing when all does.
    pub fn check(&self) -> Result<Vec<String>, IndexError> {
        let mut statement = self.connection.prepare("PRAGMA integrity_check(20)")?;
        let lines = statement
            .query_map([], |row| row.get::<_, String>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let mut problems: Vec<String> = lines.into_iter().filter(|line| line != "ok").collect();
        for table in ["messages_search", "documents_search"] {
            let sql = format!("INSERT INTO {table} ({table}) VALUES ('integrity-check')");
            if let Err(error) = self.connection.execute(&sql, []) {
                problems.push(format!("{table}: {error}"));
            }
        }
        Ok(problems)
    }
}
