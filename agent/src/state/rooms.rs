//! Rooms: epoch secrets, own feed ids, the feeds of members, invites, joins that wait.

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, PublicKey, Secret};

use crate::links::Invite;
use crate::rooms::{RoomFeed, RoomId};
use crate::state::own_feeds::content_text;
use crate::state::{State, StateError, fixed};
use crate::vault::SecretPlace;

/// A room this device is a member of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StoredRoom {
    pub(crate) id: RoomId,
    /// As the genesis says; empty until that entry is here.
    pub(crate) name: String,
    /// Ids of this device's two feeds in the room.
    pub(crate) entries_id: [u8; 16],
    pub(crate) blobs_id: [u8; 16],
    /// The only other agent that is meant to be in it.
    pub(crate) direct: Option<AgentId>,
}

/// What is held of an epoch: its secret, or its act key alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeySort {
    /// The secret, from which all keys follow; stored under the epoch's id.
    Secret,
    /// The act key; stored under the act id.
    ActKey,
}

/// A key of an epoch of a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StoredEpoch {
    pub(crate) id: [u8; 16],
    pub(crate) room: RoomId,
    pub(crate) sort: KeySort,
    pub(crate) secret: Secret,
}

/// A request to join that nobody answered yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OpenJoin {
    pub(crate) invite: Invite,
    pub(crate) entries_id: [u8; 16],
    pub(crate) blobs_id: [u8; 16],
}

/// Places of what is sealed.
fn epoch_secret(id: &[u8; 16]) -> SecretPlace<'_> {
    SecretPlace::new("epochs", "secret", id)
}

fn invite_seed(public_key: &PublicKey) -> SecretPlace<'_> {
    SecretPlace::new("invites", "seed", public_key.as_bytes())
}

fn join_invite(room: &[u8; 32]) -> SecretPlace<'_> {
    SecretPlace::new("joins", "invite", room)
}

fn room_name(room: &RoomId) -> SecretPlace<'_> {
    SecretPlace::new("rooms", "name", &room.0)
}

impl State {
    /// Remembers a room with its first epoch and feeds, and ends a join that waited for it.
    pub(crate) fn add_room(
        &self,
        room: &StoredRoom,
        epochs: &[StoredEpoch],
        feeds: &[RoomFeed],
    ) -> Result<(), StateError> {
        let name = self.seal_text(room_name(&room.id), &room.name)?;
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute(
            // Joined again by a device that took the place of another: its feeds, the name as it is.
            "INSERT INTO rooms (id, name, entries_id, blobs_id, direct) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET entries_id = excluded.entries_id,
                 blobs_id = excluded.blobs_id, direct = excluded.direct",
            (
                room.id.0,
                &name,
                room.entries_id,
                room.blobs_id,
                room.direct.map(|agent| agent.0),
            ),
        )?;
        for epoch in epochs {
            self.insert_epoch(&transaction, epoch)?;
        }
        for feed in feeds {
            insert_feed(&transaction, &room.id, feed)?;
        }
        transaction.execute("DELETE FROM left_rooms WHERE room = ?1", [room.id.0])?;
        for table in ["join_answers", "joins"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE room = ?1"), [room.id.0])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Remembers keys of epochs, before anything is written in them.
    pub(crate) fn add_epochs(&self, epochs: &[StoredEpoch]) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for epoch in epochs {
            self.insert_epoch(&transaction, epoch)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Puts the act key of an epoch in the place of its secret, which is gone for good.
    pub(crate) fn destroy_secret(
        &self,
        id: &[u8; 16],
        act_key: &StoredEpoch,
    ) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        self.insert_epoch(&transaction, act_key)?;
        transaction.execute("DELETE FROM epochs WHERE id = ?1 AND sort = 0", [id])?;
        transaction.commit()?;
        Ok(())
    }

    /// Forgets everything of a room but that this device's feeds in it are its own.
    pub(crate) fn forget_room(&self, room: &RoomId) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for table in ["epochs", "room_feeds", "invites", "join_answers", "joins"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE room = ?1"), [room.0])?;
        }
        transaction.execute("DELETE FROM rooms WHERE id = ?1", [room.0])?;
        // Other devices of this agent may still tell of it.
        transaction.execute("INSERT OR IGNORE INTO left_rooms VALUES (?1)", [room.0])?;
        transaction.commit()?;
        Ok(())
    }

    /// Returns whether a room was forgotten, and not joined again.
    pub(crate) fn has_left(&self, room: &RoomId) -> Result<bool, StateError> {
        let known = "SELECT EXISTS (SELECT 1 FROM left_rooms WHERE room = ?1)";
        Ok(self.lock().query_row(known, [room.0], |row| row.get(0))?)
    }

    fn insert_epoch(
        &self,
        connection: &rusqlite::Connection,
        epoch: &StoredEpoch,
    ) -> Result<(), StateError> {
        let sort = match epoch.sort {
            KeySort::Secret => 0,
            KeySort::ActKey => 1,
        };
        let secret = self.seal(epoch_secret(&epoch.id), epoch.secret.expose())?;
        connection.execute(
            "INSERT OR IGNORE INTO epochs (id, room, secret, sort) VALUES (?1, ?2, ?3, ?4)",
            (epoch.id, epoch.room.0, secret, sort),
        )?;
        Ok(())
    }

    /// Keeps the name of a room.
    pub(crate) fn set_room_name(&self, room: &RoomId, name: &str) -> Result<(), StateError> {
        let name = self.seal_text(room_name(room), name)?;
        self.lock()
            .execute("UPDATE rooms SET name = ?2 WHERE id = ?1", (room.0, name))?;
        Ok(())
    }

    /// Remembers a feed of a room; returns whether it is new.
    pub(crate) fn add_room_feed(&self, room: &RoomId, feed: &RoomFeed) -> Result<bool, StateError> {
        insert_feed(&self.lock(), room, feed)
    }

    /// Returns all rooms, by id.
    pub(crate) fn rooms(&self) -> Result<Vec<StoredRoom>, StateError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT id, name, entries_id, blobs_id, direct FROM rooms ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            Ok(StoredRoom {
                id: RoomId(fixed(row, 0)?),
                name: row.get(1)?,
                entries_id: fixed(row, 2)?,
                blobs_id: fixed(row, 3)?,
                direct: match row.get_ref(4)? {
                    rusqlite::types::ValueRef::Null => None,
                    _ => Some(AgentId(fixed(row, 4)?)),
                },
            })
        })?;
        rows.map(|room| {
            let room = room?;
            let name = self.unseal_text(room_name(&room.id), &room.name)?;
            Ok(StoredRoom {
                name: name.as_str().to_owned(),
                ..room
            })
        })
        .collect()
    }

    /// Returns one room.
    pub(crate) fn room(&self, id: &RoomId) -> Result<Option<StoredRoom>, StateError> {
        Ok(self.rooms()?.into_iter().find(|room| room.id == *id))
    }

    /// Returns the epochs of all rooms.
    pub(crate) fn epochs(&self) -> Result<Vec<StoredEpoch>, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT id, room, secret, sort FROM epochs ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            let sort = match row.get(3)? {
                0 => KeySort::Secret,
                _ => KeySort::ActKey,
            };
            Ok((fixed(row, 0)?, RoomId(fixed(row, 1)?), row.get(2)?, sort))
        })?;
        rows.map(|row| {
            let (id, room, sealed, sort): (_, _, Vec<u8>, _) = row?;
            let secret = self.unseal_secret(epoch_secret(&id), &sealed)?;
            Ok(StoredEpoch {
                id,
                room,
                sort,
                secret,
            })
        })
        .collect()
    }

    /// Returns the feeds of a room, by key.
    pub(crate) fn room_feeds(&self, room: &RoomId) -> Result<Vec<RoomFeed>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT feed_key, agent, device, content FROM room_feeds
             WHERE room = ?1 ORDER BY feed_key",
        )?;
        let rows = statement.query_map([room.0], |row| {
            let content: String = row.get(3)?;
            Ok(RoomFeed {
                key: FeedKey(fixed(row, 0)?),
                agent: AgentId(fixed(row, 1)?),
                device: DeviceKey(fixed(row, 2)?),
                is_entries: content == content_text(true),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Remembers an invite to a room.
    pub(crate) fn add_invite(&self, room: &RoomId, invite: &Invite) -> Result<(), StateError> {
        let public_key = invite.public_key();
        let seed = self.seal(invite_seed(&public_key), invite.seed.expose())?;
        self.lock().execute(
            "INSERT OR IGNORE INTO invites (public_key, room, seed) VALUES (?1, ?2, ?3)",
            (public_key.as_bytes(), room.0, seed),
        )?;
        Ok(())
    }

    /// Returns the open invites with their rooms.
    pub(crate) fn invites(&self) -> Result<Vec<(RoomId, PublicKey, Secret)>, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT room, public_key, seed FROM invites ORDER BY public_key")?;
        let rows = statement.query_map([], |row| {
            Ok((
                RoomId(fixed(row, 0)?),
                PublicKey(fixed(row, 1)?),
                row.get(2)?,
            ))
        })?;
        rows.map(|row| {
            let (room, public_key, sealed): (_, _, Vec<u8>) = row?;
            let seed = self.unseal_secret(invite_seed(&public_key), &sealed)?;
            Ok((room, public_key, seed))
        })
        .collect()
    }

    /// Forgets the seed of an invite that admits nobody any more.
    pub(crate) fn forget_invite(&self, public_key: &PublicKey) -> Result<(), StateError> {
        self.lock().execute(
            "DELETE FROM invites WHERE public_key = ?1",
            [public_key.as_bytes()],
        )?;
        Ok(())
    }

    /// Remembers a join to ask for until somebody answers; one that waits already is kept.
    pub(crate) fn add_join(&self, join: &OpenJoin) -> Result<(), StateError> {
        let room = join.invite.room.0;
        let invite = self.seal_text(join_invite(&room), &join.invite.encode())?;
        self.lock().execute(
            "INSERT OR IGNORE INTO joins (room, invite, entries_id, blobs_id)
             VALUES (?1, ?2, ?3, ?4)",
            (room, invite, join.entries_id, join.blobs_id),
        )?;
        Ok(())
    }

    /// Returns the joins that wait.
    pub(crate) fn joins(&self) -> Result<Vec<OpenJoin>, StateError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT invite, entries_id, blobs_id, room FROM joins ORDER BY room")?;
        let rows = statement.query_map([], |row| {
            let invite: String = row.get(0)?;
            Ok((invite, fixed(row, 1)?, fixed(row, 2)?, fixed(row, 3)?))
        })?;
        rows.map(|row| {
            let (invite, entries_id, blobs_id, room) = row?;
            let invite = self.unseal_text(join_invite(&room), &invite)?;
            let invite = Invite::decode(&invite).map_err(|_| StateError::Damaged {
                what: "invite of a join",
            })?;
            Ok(OpenJoin {
                invite,
                entries_id,
                blobs_id,
            })
        })
        .collect()
    }
}

fn insert_feed(
    connection: &rusqlite::Connection,
    room: &RoomId,
    feed: &RoomFeed,
) -> Result<bool, StateError> {
    let added = connection.execute(
        "INSERT OR IGNORE INTO room_feeds (room, feed_key, agent, device, content)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            room.0,
            feed.key.as_bytes(),
            feed.agent.as_bytes(),
            feed.device.as_bytes(),
            content_text(feed.is_entries),
        ),
    )?;
    Ok(added > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn a_joined_room_ends_the_join_and_keeps_its_secrets() {
        let folder = TestFolder::new();
        let path = folder.path().join("state.db");
        let state = State::open(&path).expect("opened");
        let id = RoomId([1; 32]);
        let invite = Invite {
            room: id,
            seed: Secret::new([2; 32]),
            signal_urls: vec![],
        };
        let join = OpenJoin {
            invite,
            entries_id: [3; 16],
            blobs_id: [4; 16],
        };
        state.add_join(&join).expect("written");
        assert_eq!(state.joins().expect("read"), [join]);

        let room = StoredRoom {
            id,
            name: String::new(),
            entries_id: [3; 16],
            blobs_id: [4; 16],
            direct: Some(AgentId([10; 32])),
        };
        let epoch = StoredEpoch {
            id: [5; 16],
            room: id,
            sort: KeySort::Secret,
            secret: Secret::new([6; 32]),
        };
        let feed = RoomFeed {
            key: FeedKey([7; 32]),
            agent: AgentId([8; 32]),
            device: DeviceKey([9; 32]),
            is_entries: true,
        };
        state
            .add_room(
                &room,
                std::slice::from_ref(&epoch),
                std::slice::from_ref(&feed),
            )
            .expect("written");
        state.set_room_name(&id, "family").expect("written");
        drop(state);

        let state = State::open(&path).expect("reopened");
        assert_eq!(state.joins().expect("read"), []);
        assert_eq!(
            state.rooms().expect("read"),
            [StoredRoom {
                name: "family".into(),
                ..room
            }]
        );
        assert_eq!(state.epochs().expect("read"), [epoch]);
        assert_eq!(
            state.room_feeds(&id).expect("read"),
            std::slice::from_ref(&feed)
        );
        assert!(!state.add_room_feed(&id, &feed).expect("written"));
    }

    #[test]
    fn a_destroyed_secret_leaves_the_act_key_and_a_forgotten_room_nothing() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).expect("opened");
        let id = RoomId([1; 32]);
        let room = StoredRoom {
            id,
            name: "family".into(),
            entries_id: [3; 16],
            blobs_id: [4; 16],
            direct: None,
        };
        let key = |id_byte, sort, byte| StoredEpoch {
            id: [id_byte; 16],
            room: id,
            sort,
            secret: Secret::new([byte; 32]),
        };
        let secret = key(5, KeySort::Secret, 6);
        state.add_room(&room, &[secret], &[]).expect("written");
        let act_key = key(7, KeySort::ActKey, 8);
        state.destroy_secret(&[5; 16], &act_key).expect("written");
        assert_eq!(state.epochs().expect("read"), [act_key]);
        state.forget_room(&id).expect("written");
        assert_eq!(state.rooms().expect("read"), []);
        assert_eq!(state.epochs().expect("read"), []);
    }
}
