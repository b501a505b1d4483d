//! Reading `state.db` and the index into what is known.

use std::collections::BTreeMap;

use kinlog_feeds::crypto::AgentId;
use kinlog_indexer::RoomId;
use kinlog_indexer::entry::Content;
use kinlog_indexer::seal::EpochSecret;

use crate::api::Error;
use crate::core::Core;
use crate::failure::chain;
use crate::keys::DeviceKeys;
use crate::knowledge::{Knowledge, KnownAgent, KnownRoom, Line};
use crate::state::{RoomFeed, State};

/// Reads everything that `state.db` holds.
pub(super) fn from_state(
    state: &State,
    keys: &DeviceKeys,
    agent: AgentId,
) -> Result<Knowledge, Error> {
    let mut knowledge = Knowledge::new(agent);
    knowledge.own = state
        .own_feeds()?
        .into_iter()
        .map(|feed| (feed.key, feed))
        .collect();
    for (agent, set) in state.identities()? {
        match KnownAgent::verify(&agent, set.into()) {
            Ok(known) => {
                knowledge.agents.insert(agent, known);
            }
            Err(error) => tracing::warn!(%agent, error = chain(&error), "identity set is not used"),
        }
    }
    knowledge.pins = state.pins()?;
    knowledge.rooms = rooms(state, keys)?;
    for (room, public_key, _) in state.invites()? {
        knowledge.invites.insert(public_key, room);
    }
    knowledge.joins = state.joins()?;
    Ok(knowledge)
}

fn rooms(state: &State, keys: &DeviceKeys) -> Result<BTreeMap<RoomId, KnownRoom>, Error> {
    let mut rooms = BTreeMap::new();
    for stored in state.rooms()? {
        let feeds = state.room_feeds(&stored.id)?;
        let room = KnownRoom {
            id: stored.id,
            name: stored.name,
            entries: keys.feed_key(&stored.entries_id),
            epochs: BTreeMap::new(),
            feeds: feeds.into_iter().map(|feed| (feed.key, feed)).collect(),
        };
        rooms.insert(stored.id, room);
    }
    for stored in state.epochs()? {
        if let Some(room) = rooms.get_mut(&stored.room) {
            let secret = EpochSecret::new(*stored.secret.expose());
            room.epochs.insert(secret.epoch_id(), secret);
        }
    }
    Ok(rooms)
}

impl Core {
    /// Reads pins, rooms, invites and joins again after they were changed in `state.db`.
    pub(crate) fn relearn(&self) -> Result<(), Error> {
        let fresh = from_state(&self.state, &self.keys, self.agent)?;
        self.knowledge(|knowledge| {
            knowledge.own = fresh.own;
            knowledge.pins = fresh.pins;
            knowledge.rooms = fresh.rooms;
            // Those that other members wrote are in the index, not in `state.db`.
            knowledge.invites.extend(fresh.invites);
            knowledge.joins = fresh.joins;
            for (agent, known) in fresh.agents {
                knowledge.agents.entry(agent).or_insert(known);
            }
        });
        Ok(())
    }

    /// Takes what the index says of an agent into what is known.
    pub(super) fn learn_agent(&self, agent: &AgentId) -> Result<(), Error> {
        // The index is held until all is taken in, so that nobody takes in older rows after it.
        self.index(|index| {
            let (rows, name) = (index.directory(agent)?, index.profile(agent)?);
            let lines = rows.into_iter().filter_map(|row| {
                Some(Line {
                    path: row.label.parse().ok()?,
                    key: row.feed,
                    device: row.device,
                    is_entries: row.content == Content::Entries,
                })
            });
            let lines: Vec<Line> = lines.collect();
            self.knowledge(|knowledge| {
                if let Some(known) = knowledge.agents.get_mut(agent) {
                    known.lines = lines;
                    known.name = name;
                }
            });
            Ok(())
        })
    }

    /// Takes what the index says of a room into what is known, and new members' feeds into
    /// `state.db`.
    pub(super) fn learn_room(&self, room: &RoomId) -> Result<(), Error> {
        let (row, members, invites) = self.index(|index| {
            let members = index.member_feeds(room)?;
            Ok((index.room(room)?, members, index.invites(room)?))
        })?;
        self.knowledge(|knowledge| {
            if knowledge.rooms.contains_key(room) {
                knowledge
                    .invites
                    .extend(invites.into_iter().map(|key| (key, *room)));
            }
        });
        let known = self.knowledge(|knowledge| knowledge.rooms.get(room).cloned());
        let Some(known) = known else { return Ok(()) };
        if let Some(row) = row.filter(|row| row.name != known.name) {
            self.state.set_room_name(room, &row.name)?;
            self.knowledge(|knowledge| {
                if let Some(known) = knowledge.rooms.get_mut(room) {
                    known.name = row.name;
                }
            });
        }
        for member in members {
            for (key, is_entries) in [(member.feed, true), (member.blobs_feed, false)] {
                if known.feeds.contains_key(&key) {
                    continue;
                }
                let feed = RoomFeed {
                    key,
                    agent: member.agent,
                    device: member.device,
                    is_entries,
                };
                self.state.add_room_feed(room, &feed)?;
                self.knowledge(|knowledge| {
                    if let Some(known) = knowledge.rooms.get_mut(room) {
                        known.feeds.insert(key, feed);
                    }
                });
            }
        }
        Ok(())
    }

    /// Takes a received identity set in; returns whether it said anything new.
    pub(crate) fn learn_identity(
        &self,
        agent: &AgentId,
        set: &bytes::Bytes,
    ) -> Result<bool, Error> {
        let held = self.knowledge(|knowledge| knowledge.agents.get(agent).cloned());
        let refused = |error: kinlog_indexer::identity::IdentityError| {
            Error::verification(format!("identity set of {agent}: {}", chain(&error)))
        };
        let known = match held {
            Some(mut known) => {
                if !known.merge(set).map_err(refused)? {
                    return Ok(false);
                }
                known
            }
            None => KnownAgent::verify(agent, set.clone()).map_err(refused)?,
        };
        self.state.put_identity(agent, &known.set)?;
        self.knowledge(|knowledge| knowledge.agents.insert(*agent, known));
        self.catch_up()?;
        self.replan()?;
        Ok(true)
    }
}
