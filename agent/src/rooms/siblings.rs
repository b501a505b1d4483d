//! Rooms among the devices of one agent: each tells the others, in its private directory, of the rooms it
//! is in, with the keys that it holds. One that was not there takes a room up, meets its members by these
//! keys, and asks to be let in by whichever of its siblings it meets there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use kinlog_feeds::crypto::DeviceKey;
use kinlog_indexer::entry::{Body, RoomKeys as RoomKeysEntry};
use kinlog_indexer::seal::{ContentKey, EpochSecret};

use crate::api::Error;
use crate::core::{Core, Steps};
use crate::failure::chain;
use crate::keys::random;
use crate::knowledge::KnownRoom;
use crate::rooms::RoomId;
use crate::rooms::write::stored_keys;
use crate::state::StoredRoom;

/// What the private directories say of one room.
#[derive(Debug, Default)]
struct Told {
    name: String,
    secrets: BTreeSet<[u8; 32]>,
    act_keys: BTreeSet<[u8; 32]>,
    by_others: bool,
    /// Those that this device told of itself.
    by_this: BTreeSet<[u8; 32]>,
}

impl Told {
    fn secrets(&self) -> Vec<EpochSecret> {
        self.secrets.iter().copied().map(EpochSecret::new).collect()
    }

    fn act_keys(&self) -> Vec<ContentKey> {
        self.act_keys.iter().copied().map(ContentKey::new).collect()
    }
}

impl Core {
    /// Tells the other devices of this agent of the rooms this one is in, and takes up those that they
    /// tell of. One at a time: who takes a room up chooses its feeds there.
    pub(crate) fn share_rooms(&self) -> Result<(), Error> {
        let is_alone = self.knowledge(|knowledge| knowledge.own_devices().len() < 2);
        if is_alone || self.guard.doubt().is_some() {
            return Ok(());
        }
        let _turn = self.sharing.lock().unwrap_or_else(PoisonError::into_inner);
        let told = self.told_rooms()?;
        let (mut steps, mut news) = (Steps::default(), Vec::new());
        for stored in self.state.rooms()? {
            let Some(room) = self.room_with(&stored.id) else {
                continue;
            };
            let nothing = Told::default();
            let of_room = told.get(&room.id).unwrap_or(&nothing);
            steps.take("keys of a room", self.take_keys(&room, of_room));
            steps.take("device of a room", self.introduce_device(&room.id));
            if room.standing.has_device(&self.agent, &self.keys.device()) {
                let tell = steps.take("telling of a room", tell(&room, &stored, of_room));
                news.extend(tell.flatten());
            }
        }
        if !news.is_empty() {
            steps.take("private directory", self.write_private(news));
        }
        let mut is_new = false;
        for (id, of_room) in &told {
            let taken = self.take_up_if_new(id, of_room);
            is_new |= steps.take("room of a sibling", taken).unwrap_or_default();
        }
        if is_new {
            steps.take("rooms", self.relearn());
            steps.take("plan", self.replan());
        }
        steps.end()
    }

    /// Takes a room up that only siblings are in; returns whether it did.
    fn take_up_if_new(&self, id: &RoomId, told: &Told) -> Result<bool, Error> {
        if !told.by_others || self.room_with(id).is_some() || self.knows_or_left(id)? {
            return Ok(false);
        }
        self.take_up(*id, told)?;
        Ok(true)
    }

    fn told_rooms(&self) -> Result<BTreeMap<RoomId, Told>, Error> {
        let mut rooms: BTreeMap<RoomId, Told> = BTreeMap::new();
        let this: DeviceKey = self.keys.device();
        for (device, keys) in self.index(|index| index.room_keys(&self.agent))? {
            let told = rooms.entry(keys.room).or_default();
            told.name = keys.name.to_string();
            told.secrets.extend(keys.secrets());
            told.act_keys.extend(keys.act_keys());
            told.by_others |= device != this;
            if device == this {
                told.by_this.extend(keys.secrets().chain(keys.act_keys()));
            }
        }
        Ok(rooms)
    }

    /// Takes keys of a known room that a sibling holds: of one whose genesis is here those that its acts
    /// announce, as from anybody.
    fn take_keys(&self, room: &KnownRoom, told: &Told) -> Result<(), Error> {
        let (secrets, act_keys) = (told.secrets(), told.act_keys());
        let fresh = match room.standing.history {
            Some(_) => room.new_keys(&secrets, &act_keys),
            None => room.unheld_keys(&secrets, &act_keys),
        };
        if fresh.is_empty() {
            return Ok(());
        }
        self.state.add_epochs(&fresh)?;
        self.relearn()?;
        self.catch_up()?;
        self.replan()
    }

    /// Returns whether a room is being joined, or was left by this device.
    fn knows_or_left(&self, room: &RoomId) -> Result<bool, Error> {
        let joins = self.knowledge(|knowledge| {
            let mut joins = knowledge.joins.iter();
            joins.any(|join| join.invite.room == *room)
        });
        Ok(joins || self.state.has_left(room)?)
    }

    /// Remembers a room in which a sibling is, with fresh feeds for this device.
    fn take_up(&self, id: RoomId, told: &Told) -> Result<(), Error> {
        let room = StoredRoom {
            id,
            name: told.name.clone(),
            entries_id: random()?,
            blobs_id: random()?,
            direct: None,
        };
        let keys = stored_keys(&id, &told.secrets(), &told.act_keys());
        Ok(self.state.add_room(&room, &keys, &[])?)
    }
}

/// Returns the entry with what this device has not told of a room yet: each tells all that it holds, so
/// that a new device needs to meet no more than one, and believes no device that is revoked.
fn tell(room: &KnownRoom, stored: &StoredRoom, told: &Told) -> Result<Option<Body>, Error> {
    let secrets = room.keys.secrets().map(|(_, secret)| *secret.expose());
    let secrets: Vec<[u8; 32]> = secrets.filter(|one| !told.by_this.contains(one)).collect();
    let follows: BTreeSet<_> = room
        .keys
        .secrets()
        .map(|(_, secret)| secret.act_key().epoch_id())
        .collect();
    let act_keys = room.keys.act_keys().filter(|(id, _)| !follows.contains(id));
    let act_keys = act_keys.map(|(_, key)| *key.expose());
    let act_keys: Vec<[u8; 32]> = act_keys.filter(|one| !told.by_this.contains(one)).collect();
    if secrets.is_empty() && act_keys.is_empty() {
        return Ok(None);
    }
    let refused =
        |error: &dyn std::error::Error| Error::general(format!("room keys: {}", chain(error)));
    let name = room
        .name
        .as_str()
        .try_into()
        .map_err(|error| refused(&error))?;
    let feed_ids = [stored.entries_id, stored.blobs_id];
    let keys = RoomKeysEntry::new(room.id, name, feed_ids, secrets, act_keys);
    keys.map(|keys| Some(Body::RoomKeys(keys)))
        .map_err(|error| refused(&error))
}
