//! Who is in which topic.

use std::collections::BTreeMap;
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use crate::Topic;
use crate::limits::Rate;
use crate::rules::bucket::Bucket;
use crate::rules::core::ConnectionId;

#[derive(Debug)]
struct Room {
    members: BTreeMap<PublicKey, ConnectionId>,
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
            random: seed,
        }
    }

    /// Puts a member in and returns the connection that had the same key there before.
    pub(super) fn enter(
        &mut self,
        now: Time,
        topic: Topic,
        key: PublicKey,
        connection: ConnectionId,
    ) -> Result<Option<ConnectionId>, EnterError> {
        let fresh = || Room {
            members: BTreeMap::new(),
            joins: Bucket::new(self.join_rate, now),
        };
        let known = self
            .rooms
            .get(&topic)
            .is_some_and(|room| room.members.contains_key(&key));
        if !known && self.memberships >= self.memberships_max {
            return Err(EnterError::ServerFull);
        }
        let room = self.rooms.entry(topic).or_insert_with(fresh);
        if !known && room.members.len() >= self.peers_max {
            return Err(EnterError::Full);
        }
        room.joins.take_one(now).map_err(EnterError::TooFast)?;
        let before = room.members.insert(key, connection);
        if before.is_none() {
            self.memberships += 1;
        }
        Ok(before)
    }

    /// Takes a member out; whether it was in.
    pub(super) fn exit(&mut self, topic: &Topic, key: &PublicKey) -> bool {
        let Some(room) = self.rooms.get_mut(topic) else {
            return false;
        };
        let was_in = room.members.remove(key).is_some();
        if was_in {
            self.memberships -= 1;
        }
        if room.members.is_empty() {
            self.rooms.remove(topic);
        }
        was_in
    }

    /// Returns the connection of a member.
    pub(super) fn member(&self, topic: &Topic, key: &PublicKey) -> Option<ConnectionId> {
        self.rooms.get(topic)?.members.get(key).copied()
    }

    /// Returns the connections of all members but `key`.
    pub(super) fn others(&self, topic: &Topic, key: &PublicKey) -> Vec<ConnectionId> {
        let members = self
            .rooms
            .get(topic)
            .into_iter()
            .flat_map(|room| &room.members);
        members
            .filter(|(other, _)| *other != key)
            .map(|(_, connection)| *connection)
            .collect()
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
