//! Blocks of paths that their agent cleared: what directories say of them, and an index that never read
//! them.
//!
//! Of each directory the newest `cleared` of a feed counts; it says all that is cleared of it. Whose
//! feeds these are, and what becomes of the blocks, is the host's affair: it does not give them to the
//! index, and takes back those that it gave ([`Index::forget_blocks`]). So who had a block, and who never saw
//! it, have the same rows.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use kinlog_feeds::limits::UINT_MAX;
use rusqlite::params;

use crate::clock::Clock;
use crate::entry::{Body, Cleared, tag};
use crate::index::directory::directories;
use crate::index::registers::{columns, written_by};
use crate::index::words::segment;
use crate::index::writer::{Placed, Writer};
use crate::index::{IndexError, IngestReport, Scope};
use crate::limits::{CLEARED_FEEDS_MAX, CLEARED_READ_MAX};
use crate::register::Register;
use crate::{BODY_FORMAT, Index};

impl Index {
    /// Returns what the devices of an agent say of blocks that were cleared, in their public directories
    /// or in the private ones: of each device at most [`CLEARED_FEEDS_MAX`] feeds, the newest. The feeds
    /// need not be the agent's.
    pub fn cleared(
        &self,
        agent: &AgentId,
        is_private: bool,
    ) -> Result<Vec<(DeviceKey, Cleared)>, IndexError> {
        let mut all = Vec::new();
        for (directory, device) in directories(&self.state, agent, is_private) {
            let said = newest_cleared(&self.connection, &directory)?.into_iter();
            all.extend(said.map(|(_, cleared)| (device, cleared)));
        }
        Ok(all)
    }

    /// Forgets what was read of blocks of a path's feed, as if it never was. Of directories, rooms and
    /// feeds of unknown authors nothing is forgotten.
    pub fn forget_blocks(
        &mut self,
        feed: &FeedKey,
        ranges: &[Range<u64>],
    ) -> Result<IngestReport, IndexError> {
        self.write(|writer| {
            let mut ranges = ranges.iter();
            ranges.try_for_each(|range| writer.forget_blocks(feed, range))
        })
    }
}

/// Returns the newest `cleared` of each feed that a directory says, the newest first, each with its block.
pub(super) fn newest_cleared(
    db: &rusqlite::Connection,
    directory: &FeedKey,
) -> rusqlite::Result<Vec<(u64, Cleared)>> {
    // The last word on the tag names the partial index.
    let mut statement = db.prepare_cached(
        "SELECT idx, body FROM facts WHERE feed = ?1 AND tag = ?2 AND tag <> 18 AND state = 0
         ORDER BY idx DESC LIMIT ?3",
    )?;
    let mut rows = statement.query(params![directory.0, tag::CLEARED, CLEARED_READ_MAX as i64])?;
    let (mut newest, mut feeds) = (Vec::new(), BTreeSet::new());
    while let Some(row) = rows.next()? {
        let body = Bytes::from(row.get::<_, Vec<u8>>(1)?);
        let body = Body::decode(tag::CLEARED, u64::from(BODY_FORMAT), &body);
        if let Ok(Body::Cleared(cleared)) = body
            && feeds.insert(cleared.feed())
        {
            newest.push((row.get(0)?, cleared));
        }
        if newest.len() == CLEARED_FEEDS_MAX {
            break;
        }
    }
    Ok(newest)
}

impl Writer<'_> {
    fn forget_blocks(&mut self, key: &FeedKey, range: &Range<u64>) -> Result<(), IndexError> {
        let range = range.start.min(UINT_MAX)..range.end.min(UINT_MAX);
        let Some(feed) = self.state.feeds.get_mut(key) else {
            return Ok(());
        };
        let (Scope::Author { author, .. } | Scope::Private { author, .. }) = feed.scope else {
            return Ok(());
        };
        let link = feed.scope.link_scope();
        if !feed.runs.remove_range(&range) {
            return Ok(());
        }
        self.touched_feeds.insert(*key);
        self.state.depths.forget(key);
        let registers = self.registers_in(&author, key, &range)?;
        self.forget_documents(key, &range)?;
        for (state, count) in self.counted(
            "SELECT state, count(*) FROM facts WHERE feed = ?1 AND idx >= ?2 AND idx < ?3
             GROUP BY state",
            key,
            &range,
        )? {
            self.tally("entries", -count);
            self.tally_unread(state, count);
        }
        for (number, count) in self.counted(
            "SELECT CASE reason WHEN 'not_entries' THEN 0 WHEN 'unopened' THEN 1
                 WHEN 'newer' THEN 2 ELSE 3 END AS sort, count(*)
             FROM skipped WHERE feed = ?1 AND idx >= ?2 AND idx < ?3 GROUP BY sort",
            key,
            &range,
        )? {
            let sort = ["not_entries", "unopened", "newer", "malformed"];
            self.tally(sort[number.clamp(0, 3) as usize], -count);
        }
        for table in ["facts", "skipped", "pending", "attests", "witnesses"] {
            let gone = self
                .db
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE feed = ?1 AND idx >= ?2 AND idx < ?3"
                ))?
                .execute(params![key.0, range.start, range.end])?;
            if table == "pending" {
                self.tally("pending", -(gone as i64));
            }
        }
        for register in registers {
            self.write_register_again(register)?;
        }
        self.stale_links.extend(link);
        let change = self.report.change(author);
        (change.values, change.paths) = (true, true);
        Ok(())
    }

    /// Takes documents and their words out.
    fn forget_documents(&mut self, key: &FeedKey, range: &Range<u64>) -> Result<(), IndexError> {
        let mut statement = self.db.prepare_cached(
            "SELECT rowid, title, text FROM documents WHERE feed = ?1 AND idx >= ?2 AND idx < ?3",
        )?;
        let mut rows = statement.query(params![key.0, range.start, range.end])?;
        while let Some(row) = rows.next()? {
            let (title, text): (String, String) = (row.get(1)?, row.get(2)?);
            self.db
                .prepare_cached(
                    "INSERT INTO documents_search (documents_search, rowid, title, text)
                     VALUES ('delete', ?1, ?2, ?3)",
                )?
                .execute(params![
                    row.get::<_, i64>(0)?,
                    segment(&title),
                    segment(&text)
                ])?;
        }
        self.db
            .prepare_cached("DELETE FROM documents WHERE feed = ?1 AND idx >= ?2 AND idx < ?3")?
            .execute(params![key.0, range.start, range.end])?;
        Ok(())
    }

    /// Returns the registers that entries in a range write.
    fn registers_in(
        &self,
        author: &AgentId,
        key: &FeedKey,
        range: &Range<u64>,
    ) -> Result<BTreeSet<Register>, IndexError> {
        let mut statement = self.db.prepare_cached(
            "SELECT tag, body FROM facts WHERE feed = ?1 AND tag IN (1, 13, 14, 36, 37)
             AND tag <> 18 AND idx >= ?2 AND idx < ?3 AND state = 0",
        )?;
        let mut rows = statement.query(params![key.0, range.start, range.end])?;
        let mut registers = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let body = Bytes::from(row.get::<_, Vec<u8>>(1)?);
            let body = Body::decode(row.get(0)?, u64::from(BODY_FORMAT), &body);
            let written = body
                .as_ref()
                .ok()
                .and_then(|body| written_by(*author, body));
            registers.extend(written.map(|(register, _)| register));
        }
        Ok(registers)
    }

    /// Makes a register of the writes of it that are still there.
    fn write_register_again(&mut self, register: Register) -> Result<(), IndexError> {
        let (sort, agent, room, name) = columns(&register);
        let left: Vec<(Placed, u64, Vec<u8>)> = self
            .db
            .prepare_cached(
                "SELECT w.feed, w.idx, f.order_depth, f.ms, f.counter, f.tag, f.body
                 FROM register_writes w JOIN facts f ON f.feed = w.feed AND f.idx = w.idx
                 WHERE w.sort = ?1 AND w.user_id = ?2 AND w.room_id = ?3 AND w.name = ?4",
            )?
            .query_map(params![sort, agent, room, name], |row| {
                let clock = Clock {
                    ms: row.get(3)?,
                    counter: row.get(4)?,
                };
                let placed = Placed {
                    feed: FeedKey(row.get(0)?),
                    index: row.get(1)?,
                    depth: row.get(2)?,
                    clock,
                };
                Ok((placed, row.get(5)?, row.get(6)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        self.forget_register(&register)?;
        for (placed, tag, body) in left {
            let body = Body::decode(tag, u64::from(BODY_FORMAT), &body.into());
            let written = body.as_ref().ok();
            let written = written.and_then(|body| written_by(register.agent, body));
            if let Some((_, replaces)) = written {
                self.add_register_write(&placed, register.clone(), replaces)?;
            }
        }
        Ok(())
    }

    fn counted(
        &self,
        sql: &str,
        key: &FeedKey,
        range: &Range<u64>,
    ) -> Result<Vec<(i64, i64)>, IndexError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params![key.0, range.start, range.end], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
