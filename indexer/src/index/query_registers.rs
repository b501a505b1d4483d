//! Questions about registers, and about what agents say of each other.

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use rusqlite::{Row, params};

use crate::entry::{Body, Ref};
use crate::index::IndexError;
use crate::index::feed::Scope;
use crate::index::registers::{Standing, standing};
use crate::index::state::{damaged, parse};
use crate::limits::{QUERY_ROWS_MAX, REGISTERS_ROWS_MAX};
use crate::register::{Register, ValueName};
use crate::{Clock, Index, RoomId};

/// A register with the writes that no other replaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegisterRow {
    /// Which.
    pub register: Register,
    /// Its heads, the one that is shown last.
    pub heads: Vec<RegisterHead>,
}

/// A write that no other replaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegisterHead {
    /// The entry.
    pub at: Ref,
    /// Its date.
    pub clock: Clock,
    /// The device that wrote it, where its feed alone says so.
    pub device: Option<DeviceKey>,
    /// What it says.
    pub body: Body,
}

/// What an agent calls itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProfileRow {
    /// Name as shown; not unique, not verified.
    pub name: String,
    /// A few words about itself; may be empty.
    pub about: String,
    /// Clock of the entry, ms.
    pub updated_at: u64,
}

/// What an agent calls another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContactRow {
    /// Who is called so.
    pub agent: AgentId,
    /// The name.
    pub petname: String,
    /// A few words for oneself; may be empty.
    pub note: String,
    /// Clock of the entry, ms.
    pub updated_at: u64,
}

/// What an agent likes some part of Kinlog to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PreferenceRow {
    /// Name of the preference.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Clock of the entry, ms.
    pub updated_at: u64,
}

/// Whether an agent trusts another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VouchRow {
    /// Who says so.
    pub by: AgentId,
    /// About whom.
    pub about: AgentId,
    /// Whether; `false` takes an earlier vouch back.
    pub trusted: bool,
    /// Why; may be empty.
    pub reason: String,
    /// Clock of the entry, ms.
    pub updated_at: u64,
}

/// What an agent claims: about an agent, or about an entry that it saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimRow {
    /// The entry that says so.
    pub at: Ref,
    /// Who says so.
    pub by: AgentId,
    /// What it is about.
    pub about: ClaimSubject,
    /// What is claimed.
    pub text: String,
    /// Clock of the entry, ms.
    pub created_at: u64,
}

/// What a claim is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimSubject {
    /// An agent.
    Agent(AgentId),
    /// What an entry says.
    Entry(Ref),
}

impl Index {
    /// Returns what an agent calls itself in the open.
    pub fn profile(&self, agent: &AgentId) -> Result<Option<ProfileRow>, IndexError> {
        let found = self.all(
            "SELECT name, about, ms FROM profiles WHERE user_id = ?1 AND room_id = ''",
            [agent.to_string()],
            |row| {
                Ok(ProfileRow {
                    name: row.get(0)?,
                    about: row.get(1)?,
                    updated_at: row.get(2)?,
                })
            },
        );
        Ok(found?.pop())
    }

    /// Returns whom an agent calls what, by petname.
    pub fn contacts(&self, owner: &AgentId) -> Result<Vec<ContactRow>, IndexError> {
        self.all(
            "SELECT user_id, petname, note, updated_at FROM contacts WHERE owner_id = ?1
             ORDER BY petname, user_id LIMIT ?2",
            params![owner.to_string(), REGISTERS_ROWS_MAX as i64],
            |row| {
                Ok(ContactRow {
                    agent: parse(row, 0)?,
                    petname: row.get(1)?,
                    note: row.get(2)?,
                    updated_at: row.get(3)?,
                })
            },
        )
    }

    /// Returns the preferences of an agent, by name.
    pub fn preferences(&self, agent: &AgentId) -> Result<Vec<PreferenceRow>, IndexError> {
        self.all(
            "SELECT name, value, updated_at FROM preferences WHERE user_id = ?1
             ORDER BY name LIMIT ?2",
            params![agent.to_string(), REGISTERS_ROWS_MAX as i64],
            |row| {
                Ok(PreferenceRow {
                    name: row.get(0)?,
                    value: row.get(1)?,
                    updated_at: row.get(2)?,
                })
            },
        )
    }

    /// Returns who trusts whom, as far as `by` and `about` say so where they are given.
    pub fn vouches(
        &self,
        by: Option<&AgentId>,
        about: Option<&AgentId>,
    ) -> Result<Vec<VouchRow>, IndexError> {
        self.all(
            "SELECT user_id, about_id, trusted, reason, updated_at FROM vouches
             WHERE (?1 IS NULL OR user_id = ?1) AND (?2 IS NULL OR about_id = ?2)
             ORDER BY about_id, user_id LIMIT ?3",
            params![text_of(by), text_of(about), QUERY_ROWS_MAX as i64],
            |row| {
                Ok(VouchRow {
                    by: parse(row, 0)?,
                    about: parse(row, 1)?,
                    trusted: row.get(2)?,
                    reason: row.get(3)?,
                    updated_at: row.get(4)?,
                })
            },
        )
    }

    /// Returns the newest claims about agents, newest first, as far as `by` and `about` say so where
    /// they are given.
    pub fn attests(
        &self,
        by: Option<&AgentId>,
        about: Option<&AgentId>,
    ) -> Result<Vec<ClaimRow>, IndexError> {
        self.all(
            "SELECT feed, idx, user_id, text, created_at, about_id FROM attests
             WHERE (?1 IS NULL OR user_id = ?1) AND (?2 IS NULL OR about_id = ?2)
             ORDER BY created_at DESC, feed, idx LIMIT ?3",
            params![text_of(by), text_of(about), QUERY_ROWS_MAX as i64],
            |row| claim_row(row, ClaimSubject::Agent(parse(row, 5)?)),
        )
    }

    /// Returns the newest claims about entries, newest first, as far as `by` and `about` say so where
    /// they are given.
    pub fn witnesses(
        &self,
        by: Option<&AgentId>,
        about: Option<&Ref>,
    ) -> Result<Vec<ClaimRow>, IndexError> {
        self.all(
            "SELECT feed, idx, user_id, text, created_at, about_feed, about_idx FROM witnesses
             WHERE (?1 IS NULL OR user_id = ?1)
                 AND (?2 IS NULL OR (about_feed = ?2 AND about_idx = ?3))
             ORDER BY created_at DESC, feed, idx LIMIT ?4",
            params![
                text_of(by),
                about.map(|at| at.feed.0),
                about.map(|at| at.index),
                QUERY_ROWS_MAX as i64
            ],
            |row| {
                let feed = FeedKey(row.get(5)?);
                let index = row.get(6)?;
                claim_row(row, ClaimSubject::Entry(Ref { feed, index }))
            },
        )
    }

    /// Returns the heads of a register, the one that is shown last; none when nobody wrote it.
    pub fn register(&self, register: &Register) -> Result<Vec<RegisterHead>, IndexError> {
        let heads = standing(&self.connection, register)?;
        let head = |head: Standing| {
            let feed = self.state.feeds.get(&head.at.feed);
            let device = match feed.map(|feed| feed.scope) {
                Some(
                    Scope::Directory { device, .. }
                    | Scope::Author { device, .. }
                    | Scope::PrivateDirectory { device, .. }
                    | Scope::Private { device, .. },
                ) => Some(device),
                Some(Scope::Room(_) | Scope::Unknown) | None => None,
            };
            RegisterHead {
                at: head.at,
                clock: head.clock,
                device,
                body: head.body,
            }
        };
        Ok(heads.into_iter().map(head).collect())
    }

    /// Returns the settings of an agent, by name, those that were taken away too.
    pub fn settings(&self, agent: &AgentId) -> Result<Vec<RegisterRow>, IndexError> {
        let names = self.all(
            "SELECT DISTINCT name FROM register_writes
             WHERE sort = 'setting' AND user_id = ?1 AND room_id = '' ORDER BY name LIMIT ?2",
            params![agent.to_string(), REGISTERS_ROWS_MAX as i64],
            |row| row.get(0),
        )?;
        let setting = |name| Register {
            agent: *agent,
            room: None,
            value: ValueName::Setting(name),
        };
        self.rows(names.into_iter().map(setting).collect())
    }

    /// Returns the registers whose heads contradict each other, those of `agent` or everybody's.
    pub fn conflicting(&self, agent: Option<&AgentId>) -> Result<Vec<RegisterRow>, IndexError> {
        let registers = self.all(
            "SELECT DISTINCT sort, user_id, room_id, name FROM conflicts
             WHERE (?1 IS NULL OR user_id = ?1)
             ORDER BY sort, user_id, room_id, name LIMIT ?2",
            params![text_of(agent), QUERY_ROWS_MAX as i64],
            |row| {
                let (sort, name): (String, String) = (row.get(0)?, row.get(3)?);
                let room: String = row.get(2)?;
                let room: Option<RoomId> = match room.is_empty() {
                    true => None,
                    false => Some(room.parse().map_err(|_| damaged(2, "room"))?),
                };
                Ok(Register {
                    agent: parse(row, 1)?,
                    room,
                    value: ValueName::parse(&sort, &name).ok_or_else(|| damaged(3, "name"))?,
                })
            },
        )?;
        self.rows(registers)
    }

    /// Returns how many registers have heads that contradict each other.
    pub fn conflicting_count(&self, agent: &AgentId) -> Result<u64, IndexError> {
        let found = self.all(
            "SELECT count(*) FROM conflicts WHERE user_id = ?1 AND is_shown = 1",
            [agent.to_string()],
            |row| row.get(0),
        )?;
        Ok(found.first().copied().unwrap_or(0))
    }

    fn rows(&self, registers: Vec<Register>) -> Result<Vec<RegisterRow>, IndexError> {
        let row = |register: Register| {
            let heads = self.register(&register)?;
            Ok(RegisterRow { register, heads })
        };
        registers.into_iter().map(row).collect()
    }
}

fn text_of(agent: Option<&AgentId>) -> Option<String> {
    agent.map(ToString::to_string)
}

fn claim_row(row: &Row<'_>, about: ClaimSubject) -> rusqlite::Result<ClaimRow> {
    Ok(ClaimRow {
        at: Ref {
            feed: FeedKey(row.get(0)?),
            index: row.get(1)?,
        },
        by: parse(row, 2)?,
        about,
        text: row.get(3)?,
        created_at: row.get(4)?,
    })
}
