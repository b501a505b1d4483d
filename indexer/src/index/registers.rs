//! Registers as entries arrive: which of their writes are heads, and the rows that follow from these.
//!
//! What [`crate::register`] says of all writes of a register at once, one write at a time and in any
//! order.

use std::collections::BTreeSet;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_feeds::text::encode_hex;
use rusqlite::{CachedStatement, Connection, params};

use crate::BODY_FORMAT;
use crate::clock::Clock;
use crate::entry::{Body, PinSetting, Ref};
use crate::index::IndexError;
use crate::index::state::Place;
use crate::index::writer::{Placed, Writer};
use crate::register::{Register, ValueName, Write, value_of};

/// A register as tables name it: sort, agent, room (empty outside of rooms), name.
pub(super) type Columns = (&'static str, String, String, String);

/// Returns how tables name a register.
pub(super) fn columns(register: &Register) -> Columns {
    let Register { agent, room, value } = register;
    let room = room.map(|room| room.to_string()).unwrap_or_default();
    (value.sort(), agent.to_string(), room, value.name())
}

/// A write that no other replaces, with what it says.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) at: Ref,
    pub(super) clock: Clock,
    pub(super) body: Body,
}

impl Writer<'_> {
    /// Takes a write of a register, unless it was taken before; its views are made anew in any case.
    pub(super) fn add_register_write(
        &mut self,
        placed: &Placed,
        register: Register,
        replaces: &[Ref],
    ) -> Result<(), IndexError> {
        let at = Ref {
            feed: placed.feed,
            index: placed.index,
        };
        let depth = self
            .stated_depth(&(at.feed, at.index))?
            .unwrap_or(placed.depth);
        let write = Write {
            at,
            depth,
            clock: placed.clock,
            replaces: replaces.to_vec(),
        };
        let (sort, agent, room, name) = columns(&register);
        let is_new = self
            .db
            .prepare_cached(
                "INSERT OR IGNORE INTO register_writes
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0)",
            )?
            .execute(params![
                sort,
                agent,
                room,
                name,
                at.feed.0,
                at.index,
                depth,
                write.clock.ms,
                write.clock.counter
            ])?
            > 0;
        if is_new {
            for named in &write.replaces {
                self.db
                    .prepare_cached(
                        "INSERT OR IGNORE INTO register_replaced
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    )?
                    .execute(params![
                        sort,
                        agent,
                        room,
                        name,
                        named.feed.0,
                        named.index,
                        at.feed.0,
                        at.index
                    ])?;
            }
            self.settle(&register, &write)?;
        }
        self.stale_registers.insert(register);
        Ok(())
    }

    /// Ends the heads that a new write replaces; it is one itself, unless it is replaced already.
    fn settle(&mut self, register: &Register, write: &Write) -> Result<(), IndexError> {
        let (sort, agent, room, name) = columns(register);
        let key = params![sort, agent, room, name];
        let replaced: Vec<Ref> = writes(
            self.db.prepare_cached(
                "SELECT feed, idx, depth, ms, counter FROM register_writes
                 WHERE sort = ?1 AND user_id = ?2 AND room_id = ?3 AND name = ?4 AND is_head = 1",
            )?,
            key,
        )?
        .into_iter()
        .filter(|head| write.replaced(head))
        .map(|head| head.at)
        .collect();
        for at in replaced {
            self.set_head(register, at, false)?;
        }
        // Whoever names it, or was written after it in its feed, and comes after it.
        let is_replaced: bool = self
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM register_replaced r JOIN register_writes w
                     ON (w.sort, w.user_id, w.room_id, w.name, w.feed, w.idx)
                         = (r.sort, r.user_id, r.room_id, r.name, r.by_feed, r.by_idx)
                     WHERE r.sort = ?1 AND r.user_id = ?2 AND r.room_id = ?3 AND r.name = ?4
                     AND r.feed = ?5 AND r.idx = ?6
                     AND (w.depth, w.ms, w.counter, w.feed, w.idx) > (?7, ?8, ?9, ?5, ?6))
                 OR EXISTS (SELECT 1 FROM register_writes w
                     WHERE w.sort = ?1 AND w.user_id = ?2 AND w.room_id = ?3 AND w.name = ?4
                     AND w.feed = ?5 AND w.idx > ?6
                     AND (w.depth, w.ms, w.counter, w.feed, w.idx) > (?7, ?8, ?9, ?5, ?6))",
            )?
            .query_row(
                params![
                    sort,
                    agent,
                    room,
                    name,
                    write.at.feed.0,
                    write.at.index,
                    write.depth,
                    write.clock.ms,
                    write.clock.counter
                ],
                |row| row.get(0),
            )?;
        self.set_head(register, write.at, !is_replaced)
    }

    fn set_head(&self, register: &Register, at: Ref, is_head: bool) -> Result<(), IndexError> {
        let (sort, agent, room, name) = columns(register);
        self.db
            .prepare_cached(
                "UPDATE register_writes SET is_head = ?7 WHERE sort = ?1 AND user_id = ?2
                 AND room_id = ?3 AND name = ?4 AND feed = ?5 AND idx = ?6",
            )?
            .execute(params![
                sort, agent, room, name, at.feed.0, at.index, is_head
            ])?;
        Ok(())
    }

    /// Forgets every write of a register, to take some of them again.
    pub(super) fn forget_register(&mut self, register: &Register) -> Result<(), IndexError> {
        let (sort, agent, room, name) = columns(register);
        for table in ["register_writes", "register_replaced"] {
            self.db
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE sort = ?1 AND user_id = ?2 AND room_id = ?3
                     AND name = ?4"
                ))?
                .execute(params![sort, agent, room, name])?;
        }
        self.stale_registers.insert(register.clone());
        Ok(())
    }

    /// Writes what follows from the registers that changed.
    pub(super) fn finish_registers(&mut self) -> Result<(), IndexError> {
        for register in std::mem::take(&mut self.stale_registers) {
            let heads = standing(self.db, &register)?;
            self.write_conflict(&register, &heads)?;
            self.write_value(&register, heads.last())?;
        }
        Ok(())
    }

    /// Heads that say the same are no conflict.
    fn write_conflict(&self, register: &Register, heads: &[Standing]) -> Result<(), IndexError> {
        let (sort, agent, room, name) = columns(register);
        self.db
            .prepare_cached(
                "DELETE FROM conflicts WHERE sort = ?1 AND user_id = ?2 AND room_id = ?3
                 AND name = ?4",
            )?
            .execute(params![sort, agent, room, name])?;
        let values: BTreeSet<Bytes> = heads
            .iter()
            .map(|head| value_of(&head.body).encode())
            .collect();
        if values.len() < 2 {
            return Ok(());
        }
        for (number, head) in heads.iter().enumerate() {
            self.db
                .prepare_cached(
                    "INSERT INTO conflicts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    sort,
                    agent,
                    room,
                    name,
                    head.at.feed.0,
                    head.at.index,
                    head.clock.ms,
                    head.clock.counter,
                    number + 1 == heads.len(),
                    shown_value(&head.body)
                ])?;
        }
        Ok(())
    }
}

/// Returns the heads of a register, the one that is shown last.
pub(super) fn standing(db: &Connection, register: &Register) -> Result<Vec<Standing>, IndexError> {
    let (sort, agent, room, name) = columns(register);
    let mut statement = db.prepare_cached(
        "SELECT w.feed, w.idx, w.ms, w.counter, f.tag, f.body FROM register_writes w
         JOIN facts f ON f.feed = w.feed AND f.idx = w.idx
         WHERE w.sort = ?1 AND w.user_id = ?2 AND w.room_id = ?3 AND w.name = ?4
             AND w.is_head = 1
         ORDER BY w.ms, w.counter, w.feed, w.idx",
    )?;
    let mut rows = statement.query(params![sort, agent, room, name])?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next()? {
        let place: Place = (FeedKey(row.get(0)?), row.get(1)?);
        let clock = Clock {
            ms: row.get(2)?,
            counter: row.get(3)?,
        };
        let bytes = Bytes::from(row.get::<_, Vec<u8>>(5)?);
        // What stands here was read once; damage is found by the check of the file.
        if let Ok(body) = Body::decode(row.get(4)?, u64::from(BODY_FORMAT), &bytes) {
            let (feed, index) = place;
            let at = Ref { feed, index };
            heads.push(Standing { at, clock, body });
        }
    }
    Ok(heads)
}

fn writes(
    mut statement: CachedStatement<'_>,
    key: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Write>> {
    let rows = statement.query_map(key, |row| {
        Ok(Write {
            at: Ref {
                feed: FeedKey(row.get(0)?),
                index: row.get(1)?,
            },
            depth: row.get(2)?,
            clock: Clock {
                ms: row.get(3)?,
                counter: row.get(4)?,
            },
            replaces: Vec::new(),
        })
    })?;
    rows.collect()
}

/// Returns what people are shown of a value; `None` for one that was taken away.
fn shown_value(body: &Body) -> Option<String> {
    Some(match body {
        Body::Profile(profile) if profile.about.is_empty() => profile.name.to_string(),
        Body::Profile(profile) => format!("{}: {}", profile.name, profile.about),
        Body::Contact(contact) => contact.petname.as_ref()?.to_string(),
        Body::Preference(preference) => preference.value.as_ref()?.to_string(),
        Body::Vouch(vouch) if vouch.reason.is_empty() => trust(vouch.trusted).to_owned(),
        Body::Vouch(vouch) => format!("{}: {}", trust(vouch.trusted), vouch.reason),
        Body::Setting(setting) => {
            let value = setting.value()?;
            match PinSetting::decode(value) {
                Ok(pin) if setting.name.starts_with("pin ") => {
                    format!("{}, for {}", pin.reason, pin.tier)
                }
                _ => encode_hex(value),
            }
        }
        _ => return None,
    })
}

const fn trust(trusted: bool) -> &'static str {
    match trusted {
        true => "trusted",
        false => "not trusted",
    }
}

/// Returns the register that an entry of an agent writes outside of rooms.
pub(super) fn written_by(agent: AgentId, body: &Body) -> Option<(Register, &[Ref])> {
    let (value, replaces) = ValueName::of(body)?;
    let room = None;
    Some((Register { agent, room, value }, replaces))
}
