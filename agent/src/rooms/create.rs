//! Making a room, writing in it.

use std::sync::PoisonError;

use kinlog_feeds::store::Appended;
use kinlog_indexer::entry::{Body, Deed, Genesis, History, Message, Profile};
use kinlog_indexer::register::ValueName;
use kinlog_indexer::seal::EpochSecret;

use crate::api::{Error, ErrorKind};
use crate::core::{Core, Place};
use crate::keys::random;
use crate::knowledge::KnownRoom;
use crate::limits::MESSAGES_AT_ONCE;
use crate::rooms::write::{act, stored_secret};
use crate::rooms::{Rate, RoomFeed, RoomId};
use crate::state::{OwnFeed, StoredEpoch, StoredRoom};
use crate::wall_ms;

/// What a room is made as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomTerms<'a> {
    pub(crate) name: &'a str,
    pub(crate) history: History,
    /// The only other agent that is meant to be in it.
    pub(crate) direct: Option<kinlog_feeds::AgentId>,
}

#[cfg(test)]
impl RoomTerms<'static> {
    /// The room of most tests.
    pub(crate) const FAMILY: Self = RoomTerms {
        name: "family",
        history: History::Full,
        direct: None,
    };
}

impl Core {
    /// Makes a room with this device as its first member.
    ///
    /// The room begins when `state.db` knows it; feeds that a crash leaves before are never used.
    pub(crate) fn create_room(&self, terms: &RoomTerms<'_>) -> Result<KnownRoom, Error> {
        let name = terms.name;
        let title = name
            .try_into()
            .map_err(|error| Error::usage(format!("room name: {error}")))?;
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            return Err(Error::usage(format!("{name:?} is no name for a room"))
                .hint("give one that can be read, without control characters"));
        }
        self.guard.sign(&self.store)?;
        let entries = self.new_feed(None, true, false)?;
        let blobs = self.new_feed(None, false, false)?;
        let set = self.own_identity_set()?;
        let device = self.keys.signing();
        let epoch = EpochSecret::new(random()?);
        let (genesis, id) = Genesis::sign(
            title,
            terms.history,
            random()?,
            &epoch,
            self.agent,
            set,
            device,
            &self.keys.feed(&entries.id),
            &self.keys.feed(&blobs.id),
        );
        let keys = [epoch.act_key(), epoch.content_key()];
        let bodies = vec![act(Deed::Genesis(genesis)), Body::Profile(self.profile()?)];
        self.write_entries(&entries, Place::Room(&id, &keys), bodies)?;
        let room = StoredRoom {
            id,
            name: name.to_owned(),
            entries_id: entries.id,
            blobs_id: blobs.id,
            direct: terms.direct,
        };
        let epoch = stored_secret(&id, &epoch);
        self.begin_room(&room, &entries, &blobs, &[epoch], Vec::new())
    }

    /// Remembers a room this device is a member of, with the feeds of others that are known.
    pub(super) fn begin_room(
        &self,
        room: &StoredRoom,
        entries: &OwnFeed,
        blobs: &OwnFeed,
        epochs: &[StoredEpoch],
        mut feeds: Vec<RoomFeed>,
    ) -> Result<KnownRoom, Error> {
        for own in [entries, blobs] {
            feeds.push(RoomFeed {
                key: own.key,
                agent: self.agent,
                device: self.keys.device(),
                is_entries: own.is_entries,
            });
        }
        self.state.add_room(room, epochs, &feeds)?;
        self.relearn()?;
        self.catch_up()?;
        self.replan()?;
        self.share_rooms()?;
        self.room(&room.id.to_string())
    }

    /// Writes a message to a room; durable on return.
    pub(crate) fn send(&self, room: &KnownRoom, text: &str) -> Result<(OwnFeed, Appended), Error> {
        let text = text.try_into().map_err(|error| {
            Error::usage(format!("message to room {}: {error}", room.label()))
                .hint("shorten it, or send it in parts")
        })?;
        self.say(room, Body::Message(Message::new(text)))
    }

    /// Counts a message; refuses it where there were too many at once.
    pub(super) fn in_time(&self, room: &KnownRoom) -> Result<(), Error> {
        let now = wall_ms();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = rates.entry(room.id).or_insert(Rate::new(now));
        rate.take(now).map_err(|wait_ms| {
            let many = format!(
                "more than {MESSAGES_AT_ONCE} messages at once in room {}",
                room.label()
            );
            Error::new(ErrorKind::Quota, many).hint(format!("the next one in {wait_ms} ms"))
        })
    }

    /// Returns what this agent calls itself, as an entry.
    pub(crate) fn profile(&self) -> Result<Profile, Error> {
        let register = self.own_register(ValueName::Profile);
        let heads = self.index(|index| index.register(&register))?;
        if let Some(Body::Profile(said)) = heads.into_iter().last().map(|head| head.body) {
            let profile = said.replacing(Vec::new());
            return profile.map_err(|error| Error::usage(format!("profile: {error}")));
        }
        let name = self.name.as_str().try_into();
        Ok(Profile::named(
            name.map_err(|error| Error::usage(format!("name: {error}")))?,
        ))
    }

    /// Says what this agent calls itself now in every room that it is in. A room where that cannot be
    /// said hears of it with the next epoch.
    pub(crate) fn say_profile_in_rooms(&self, profile: &Profile) {
        let rooms = self.knowledge(|knowledge| {
            let rooms = knowledge.rooms.values();
            let here = (self.agent, self.keys.device());
            let joined = rooms.filter(|room| room.standing.has_device(&here.0, &here.1));
            joined.cloned().collect::<Vec<_>>()
        });
        for room in rooms {
            let said = self.write_in_room(&room, vec![Body::Profile(profile.clone())]);
            if let Err(error) = said {
                tracing::warn!(room = room.label(), %error, "the profile is not said in a room");
            }
        }
    }

    /// Returns this agent's identity set as it travels.
    pub(crate) fn own_identity_set(&self) -> Result<bytes::Bytes, Error> {
        self.knowledge(|knowledge| knowledge.agents.get(&self.agent).map(|own| own.set.clone()))
            .ok_or_else(|| Error::general("state.db holds no identity set of this agent"))
    }

    /// Returns the room of an id.
    pub(crate) fn room_with(&self, id: &RoomId) -> Option<KnownRoom> {
        self.knowledge(|knowledge| knowledge.rooms.get(id).cloned())
    }
}
