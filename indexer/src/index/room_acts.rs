//! The acts of rooms: rows of a table, and in memory what is evaluated of them.

use std::collections::hash_map::Entry as MapEntry;
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey, Hash};
use rusqlite::{Connection, params};

use crate::authority::{ActHeads, ActPlace, Authority, HeldAct, RoomActs};
use crate::entry::{Act, ActHash, Body, Role};
use crate::index::state::{State, parse_option};
use crate::index::writer::{Placed, Writer};
use crate::index::{DisputeRow, Hidden, IndexError, Reader, Scope};
use crate::seal::EpochId;
use crate::{BODY_FORMAT, Index, RoomId};

/// An act's plain entry, from its version byte on, and the id of the key that opened it.
#[derive(Clone, Debug)]
pub(super) struct ActBytes {
    pub(super) entry: Bytes,
    pub(super) sealed_by: Option<EpochId>,
}

impl Index {
    /// Returns what the acts of a room come to.
    pub fn authority(&self, room: &RoomId) -> Result<Authority, IndexError> {
        self.with_acts(room, |acts| acts.authority())
    }

    /// Returns what the next act in `own` goes after in a room.
    pub fn act_heads(&self, room: &RoomId, own: &FeedKey) -> Result<ActHeads, IndexError> {
        self.with_acts(room, |acts| acts.heads(own))
    }

    /// Returns the role of an agent in a room; `None` while it is no member.
    pub fn member_role(&self, room: &RoomId, agent: &AgentId) -> Result<Option<Role>, IndexError> {
        self.with_acts(room, |acts| acts.role(agent))
    }

    fn with_acts<T>(
        &self,
        room: &RoomId,
        work: impl FnOnce(&mut RoomActs) -> T,
    ) -> Result<T, IndexError> {
        Ok(self.state.with_acts(&self.connection, room, work)?)
    }
}

impl Reader {
    /// Returns what became of the act at a place in a room, in words; `None` where no act stands.
    pub fn why_act(&self, feed: &FeedKey, index: u64) -> Result<Option<String>, IndexError> {
        let found = self.all(
            "SELECT why FROM acts WHERE feed = ?1 AND idx = ?2",
            params![feed.0, index],
            |row| row.get(0),
        );
        Ok(found?.pop())
    }

    /// Returns why an entry of a room, or a block of a member's files, is hidden, wherever in its feed it
    /// would be; `None` where it is shown, or the feed is not known.
    pub fn why_hidden(&self, feed: &FeedKey, index: u64) -> Result<Option<Hidden>, IndexError> {
        // A feed that nothing cuts is shown below the greatest number that a row holds.
        let index = index.min(i64::MAX as u64 - 1);
        let found = self.all(
            "SELECT m.void, c.sort, c.user_id, c.length FROM member_feeds m
             LEFT JOIN cuts c ON c.room_id = m.room_id AND c.feed = ?1
             WHERE (m.feed = ?1 AND m.shown_below <= ?2)
                OR (m.blobs_feed = ?1
                    AND (m.void IS NOT NULL OR coalesce(c.length, m.shown_below) <= ?2))",
            params![feed.0, index],
            |row| {
                if let Some(void) = row.get(0)? {
                    return Ok(Hidden::Void(void));
                }
                let (how, by) = (row.get(1)?, parse_option(row, 2)?);
                Ok(match (how, by, row.get(3)?) {
                    (Some(how), Some(by), Some(accepted)) => Hidden::Ended { how, by, accepted },
                    _ => Hidden::NoMember,
                })
            },
        );
        Ok(found?.pop())
    }

    /// Returns the feeds of a room whose held tree is not the one that a cut names.
    pub fn disputed(&self, room: &RoomId) -> Result<Vec<DisputeRow>, IndexError> {
        self.all(
            "SELECT feed, idx, stated, held FROM disputes WHERE room_id = ?1 ORDER BY feed",
            params![room.to_string()],
            |row| {
                Ok(DisputeRow {
                    feed: FeedKey(row.get(0)?),
                    index: row.get(1)?,
                    stated: Hash(row.get(2)?),
                    held: Hash(row.get(3)?),
                })
            },
        )
    }
}

impl State {
    /// Gives `work` the acts of a room, read from the tables at first.
    pub(super) fn with_acts<T>(
        &self,
        db: &Connection,
        room: &RoomId,
        work: impl FnOnce(&mut RoomActs) -> T,
    ) -> rusqlite::Result<T> {
        let mut rooms = self.acts.borrow_mut();
        let acts = match rooms.entry(*room) {
            MapEntry::Occupied(entry) => entry.into_mut(),
            MapEntry::Vacant(entry) => entry.insert(read_acts(db, room)?),
        };
        Ok(work(acts))
    }
}

impl Writer<'_> {
    /// Takes an act of a room.
    pub(super) fn add_act(
        &mut self,
        placed: &Placed,
        act: &Act,
        bytes: &ActBytes,
    ) -> Result<(), IndexError> {
        let feed = self.state.feeds.get(&placed.feed);
        let Some(Scope::Room(room)) = feed.map(|feed| feed.scope) else {
            return Ok(());
        };
        let place = ActPlace {
            feed: placed.feed,
            index: placed.index,
            dated_ms: placed.clock.ms,
            sealed_by: bytes.sealed_by,
        };
        let held = HeldAct::verify(&room, place, &bytes.entry, act);
        let sealed_by = bytes.sealed_by.map(|id| id.0);
        let (hash, verifies) = (held.hash(), held.verifies());
        // Before its row is there: what is read at first is all but this one.
        self.state
            .with_acts(self.db, &room, |acts| acts.add(held))?;
        self.db
            .prepare_cached(
                "INSERT INTO acts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, NULL, '', '', NULL)",
            )?
            .execute(params![
                room.to_string(),
                hash.0,
                placed.feed.0,
                placed.index,
                act.deed.tag(),
                sealed_by,
                verifies
            ])?;
        self.stale_rooms.insert(room);
        Ok(())
    }

    /// Writes what became of a room's acts where that is another than `before`.
    pub(super) fn write_verdicts(
        &mut self,
        room: &str,
        authority: &Authority,
        before: Option<&Authority>,
    ) -> Result<(), IndexError> {
        let mut update = self.db.prepare_cached(
            "UPDATE acts SET depth = ?3, user_id = ?4, verdict = ?5, why = ?6, voided_by = ?7
             WHERE room_id = ?1 AND hash = ?2",
        )?;
        for (hash, row) in &authority.acts {
            if before.is_some_and(|before| before.acts.get(hash) == Some(row)) {
                continue;
            }
            update.execute(params![
                room,
                hash.0,
                row.depth,
                row.agent.map(|agent| agent.to_string()),
                row.verdict.as_str(),
                row.verdict.to_string(),
                row.verdict.voided_by().map(|by| by.0)
            ])?;
        }
        Ok(())
    }
}

/// Reads the acts of a room; what they carry was verified when they came.
fn read_acts(db: &Connection, room: &RoomId) -> rusqlite::Result<RoomActs> {
    let mut acts = RoomActs::default();
    let mut statement = db.prepare_cached(
        "SELECT a.hash, a.feed, a.idx, f.ms, a.sealed_by, a.verifies, a.tag, f.body FROM acts a
         JOIN facts f ON f.feed = a.feed AND f.idx = a.idx
         WHERE a.room_id = ?1 ORDER BY a.depth, a.hash",
    )?;
    let mut rows = statement.query([room.to_string()])?;
    while let Some(row) = rows.next()? {
        let body = Bytes::from(row.get::<_, Vec<u8>>(7)?);
        let body = Body::decode(row.get(6)?, u64::from(BODY_FORMAT), &body);
        let Ok(Body::Act(act)) = body else {
            continue;
        };
        let place = ActPlace {
            feed: FeedKey(row.get(1)?),
            index: row.get(2)?,
            dated_ms: row.get(3)?,
            sealed_by: row.get::<_, Option<[u8; 16]>>(4)?.map(EpochId),
        };
        let hash = ActHash(row.get(0)?);
        acts.add(HeldAct::verified(hash, place, &act, row.get(5)?));
    }
    Ok(acts)
}

/// What a room's tables were last written from.
pub(super) type Written = Arc<Authority>;
