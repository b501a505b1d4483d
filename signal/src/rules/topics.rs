//! Who is in which topic.

use std::collections::BTreeMap;
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use crate::Topic;
use crate::bus::InstanceId;
use crate::limits::{REMOTE_MEMBERSHIPS_MAX, Rate};
use crate::rules::bucket::Bucket;
use crate::rules::core::ConnectionId;

/// Where a member of a topic is connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Seat {
    /// With us, since so many milliseconds after 1970.
    Here(ConnectionId, u64),
    /// With another instance, likewise.
    There(InstanceId, u64),
}

#[derive(Debug)]
struct Room {
    members: BTreeMap<PublicKey, Seat>,
    joins: Bucket,
}

/// All topics with at least one member.
#[derive(Debug)]
pub(super) struct Topics {
    join_rate: Rate,
    peers_max: usize,
    memberships_max: usize,
    rooms: BTreeMap<Topic, Room>,
    memberships: usize,
    remote: usize,
    random: u64,
}

/// Why a topic was not entered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EnterError {
    /// Too many joins just now; one is possible again after this time.
    TooFast(Duration),
    /// As many peers as may be.
    Full,
    /// As many memberships on this server as may be.
    ServerFull,
}

impl Topics {
    pub(super) fn new(
        join_rate: Rate,
        peers_max: usize,
        memberships_max: usize,
        seed: u64,
    ) -> Self {
        let rooms = BTreeMap::new();
        Topics {
            join_rate,
            peers_max,
            memberships_max,
            rooms,
            memberships: 0,
            remote: 0,
            random: seed,
        }
    }

    /// Puts a member of ours in and returns who had the same key there before.
    pub(super) fn enter(
        &mut self,
        now: Time,
        topic: Topic,
        key: PublicKey,
        connection: ConnectionId,
        since_ms: u64,
    ) -> Result<Option<Seat>, EnterError> {
        let fresh = || Room {
            members: BTreeMap::new(),
            joins: Bucket::new(self.join_rate, now),
        };
        let held = self.member(&topic, &key);
        let known = held.is_some();
        let ours = matches!(held, Some(Seat::Here(..)));
        if !ours && self.memberships >= self.memberships_max {
            return Err(EnterError::ServerFull);
        }
        let room = self.rooms.entry(topic).or_insert_with(fresh);
        if !known && room.members.len() >= self.peers_max {
            return Err(EnterError::Full);
        }
        room.joins.take_one(now).map_err(EnterError::TooFast)?;
        let before = room.members.insert(key, Seat::Here(connection, since_ms));
        match before {
            None => self.memberships += 1,
            Some(Seat::Here(..)) => {}
            Some(Seat::There(..)) => {
                self.remote -= 1;
                self.memberships += 1;
            }
        }
        Ok(before)
    }

    /// Puts a member of another instance in, in the place of whoever had the same key there; whether
    /// there was room.
    pub(super) fn enter_there(
        &mut self,
        now: Time,
        topic: Topic,
        key: PublicKey,
        instance: InstanceId,
        since_ms: u64,
    ) -> bool {
        let held = self.member(&topic, &key);
        let full = self.remote >= REMOTE_MEMBERSHIPS_MAX || self.len(&topic) >= self.peers_max;
        if held.is_none() && full {
            return false;
        }
        let fresh = || Room {
            members: BTreeMap::new(),
            joins: Bucket::new(self.join_rate, now),
        };
        let room = self.rooms.entry(topic).or_insert_with(fresh);
        let seat = Seat::There(instance, since_ms);
        match room.members.insert(key, seat) {
            None => self.remote += 1,
            Some(Seat::Here(..)) => {
                self.memberships -= 1;
                self.remote += 1;
            }
            Some(Seat::There(..)) => {}
        }
        true
    }

    /// Takes a member out; whether it was in.
    pub(super) fn exit(&mut self, topic: &Topic, key: &PublicKey) -> bool {
        let Some(room) = self.rooms.get_mut(topic) else {
            return false;
        };
        let seat = room.members.remove(key);
        match seat {
            Some(Seat::Here(..)) => self.memberships -= 1,
            Some(Seat::There(..)) => self.remote -= 1,
            None => {}
        }
        if room.members.is_empty() {
            self.rooms.remove(topic);
        }
        seat.is_some()
    }

    /// Returns where a member is connected.
    pub(super) fn member(&self, topic: &Topic, key: &PublicKey) -> Option<Seat> {
        self.rooms.get(topic)?.members.get(key).copied()
    }

    /// Returns the connections of all members of ours but `key`.
    pub(super) fn others(&self, topic: &Topic, key: &PublicKey) -> Vec<ConnectionId> {
        let members = self
            .rooms
            .get(topic)
            .into_iter()
            .flat_map(|room| &room.members);
        members
            .filter(|(other, _)| *other != key)
            .filter_map(|(_, seat)| match seat {
                Seat::Here(connection, _) => Some(*connection),
                Seat::There(..) => None,
            })
            .collect()
    }

    /// Returns every membership of ours.
    pub(super) fn all_here(&self) -> impl Iterator<Item = (Topic, PublicKey, u64)> {
        self.rooms.iter().flat_map(|(topic, room)| {
            room.members.iter().filter_map(|(key, seat)| match seat {
                Seat::Here(_, since_ms) => Some((*topic, *key, *since_ms)),
                Seat::There(..) => None,
            })
        })
    }

    /// Returns how many memberships are with other instances.
    pub(super) fn remote(&self) -> usize {
        self.remote
    }

    /// Returns at most `count` members but `key`, drawn evenly: nobody who floods a large topic
    /// with members of his own decides whom a newcomer meets.
    pub(super) fn sample(
        &mut self,
        topic: &Topic,
        key: &PublicKey,
        count: usize,
    ) -> Vec<PublicKey> {
        let Some(room) = self.rooms.get(topic) else {
            return Vec::new();
        };
        let mut drawn: Vec<PublicKey> = Vec::new();
        for (seen, peer) in room.members.keys().filter(|peer| *peer != key).enumerate() {
            if drawn.len() < count {
                drawn.push(*peer);
                continue;
            }
            // Reservoir sampling over xorshift64 (Marsaglia 2003).
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let place = (self.random % (seen as u64 + 1)) as usize;
            if let Some(slot) = drawn.get_mut(place) {
                *slot = *peer;
            }
        }
        drawn
    }

    /// Returns who is in a topic.
    pub(super) fn members(&self, topic: &Topic) -> impl Iterator<Item = PublicKey> {
        let room = self.rooms.get(topic).into_iter();
        room.flat_map(|room| room.members.keys().copied())
    }

    /// Returns how many members a topic has.
    pub(super) fn len(&self, topic: &Topic) -> usize {
        self.rooms.get(topic).map_or(0, |room| room.members.len())
    }

    /// Returns topics and memberships in all.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.rooms.len(), self.memberships)
    }
}
