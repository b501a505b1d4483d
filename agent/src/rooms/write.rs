//! Writing in a room: the epoch that fits, a new one where none does, acts under act keys.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::DeviceKey;
use kinlog_feeds::store::Appended;
use kinlog_indexer::entry::{Act, Body, Deed, History, Parents};
use kinlog_indexer::seal::{ContentKey, EpochId, EpochSecret};

use crate::api::Error;
use crate::core::{Core, Place};
use crate::failure::chain;
use crate::keys::random;
use crate::knowledge::{KnownRoom, Standing};
use crate::limits::{EPOCH_AGE_MAX, EPOCH_AGE_MAX_DAYS};
use crate::rooms::RoomId;
use crate::rooms::epoch::{Choice, announce, choose, joined, keys_before};
use crate::state::{KeySort, OwnFeed, StoredEpoch};
use crate::wall_ms;

/// Devices with the key to seal to.
pub(super) type Readers = BTreeMap<DeviceKey, [u8; 32]>;

/// Entries on their way to a feed, each with the key that seals it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bodies: Vec<Body>,
    keys: Vec<ContentKey>,
    /// Secrets made for it, to be kept before anything is written.
    minted: Vec<EpochSecret>,
}

impl Batch {
    pub(super) fn push(&mut self, body: Body, key: ContentKey) {
        self.bodies.push(body);
        self.keys.push(key);
    }
}

/// Returns an act; what was seen before it is filled in when it is written.
pub(crate) fn act(deed: Deed) -> Body {
    let parents = Parents::default();
    let seq = 0;
    Body::Act(Box::new(Act { parents, seq, deed }))
}

/// Returns the devices of the members.
pub(super) fn readers(standing: &Standing) -> Readers {
    let devices = standing.devices();
    devices
        .map(|(_, key, device)| (*key, device.x25519))
        .collect()
}

impl Core {
    /// Writes entries to this device's feed in a room, for the devices of its members.
    pub(crate) fn write_in_room(
        &self,
        room: &KnownRoom,
        bodies: Vec<Body>,
    ) -> Result<(OwnFeed, Appended), Error> {
        let readers = readers(&room.standing);
        let mut batch = Batch::default();
        let epoch = self.epoch_for(room, &readers, &mut batch)?;
        let says = bodies.iter().any(|body| matches!(body, Body::Message(_)));
        if says && self.is_unnamed(room, &epoch.epoch_id()) {
            batch.push(Body::Profile(self.profile()?), epoch.content_key());
        }
        for body in bodies {
            let key = match body {
                Body::Act(_) => epoch.act_key(),
                _ => epoch.content_key(),
            };
            batch.push(body, key);
        }
        self.write_batch(room, batch)
    }

    /// Returns whether those who read from this epoch on do not know this agent's name yet: where
    /// newcomers do not read what was before, it is said again in each.
    fn is_unnamed(&self, room: &KnownRoom, epoch: &EpochId) -> bool {
        self.knowledge(|knowledge| {
            let keeps = room.standing.history == Some(History::Full);
            !keeps && knowledge.named_in.insert(room.id, *epoch) != Some(*epoch)
        })
    }

    /// Returns the epoch in which `readers` read; puts a new one into the batch where none fits.
    pub(super) fn epoch_for(
        &self,
        room: &KnownRoom,
        readers: &Readers,
        batch: &mut Batch,
    ) -> Result<EpochSecret, Error> {
        let devices: BTreeSet<DeviceKey> = readers.keys().copied().collect();
        let age_max = match room.standing.history {
            Some(History::Days(_)) => Some(EPOCH_AGE_MAX_DAYS),
            _ if room.direct.is_some() => Some(EPOCH_AGE_MAX),
            _ => None,
        };
        let age_ms_max = age_max.map(|age| age.as_millis() as u64);
        let how = (wall_ms(), age_ms_max);
        match choose(&room.standing, &room.keys, &devices, how) {
            Choice::Use(id) => room
                .keys
                .secret(&id)
                .cloned()
                .ok_or_else(|| Error::general(format!("no secret of epoch {id}"))),
            Choice::Mint(parents) => self.mint(room, parents, readers, batch),
        }
    }

    /// Puts a new epoch for `readers` into the batch.
    pub(super) fn mint(
        &self,
        room: &KnownRoom,
        parents: Vec<EpochId>,
        readers: &Readers,
        batch: &mut Batch,
    ) -> Result<EpochSecret, Error> {
        // Everybody who is to read the announcement has the act keys of the epochs before.
        let announced_in = self.act_key(room)?;
        let parents = joined(&room.standing, parents, &room.keys);
        let secret = EpochSecret::new(random()?);
        let devices: Vec<_> = readers
            .iter()
            .map(|(key, x25519)| (*key, *x25519))
            .collect();
        let history = room.standing.history.unwrap_or(History::FromJoin);
        let before = keys_before(history, &parents, &room.standing, &room.keys)
            .map_err(|error| Error::general(format!("epoch keys: {}", chain(&error))))?;
        let deed = announce::<MintError>(&room.id, &secret, parents, &devices, || {
            random().map_err(MintError::Random)
        })
        .map_err(Error::from)?;
        batch.push(act(deed), announced_in);
        batch.push(Body::EpochKeys(before), secret.content_key());
        batch.minted.push(secret.clone());
        Ok(secret)
    }

    /// Returns the key that seals an act for everybody in the room: of the newest epoch that is held.
    pub(super) fn act_key(&self, room: &KnownRoom) -> Result<ContentKey, Error> {
        let key = |id: &EpochId| {
            let announced = room.standing.epochs.get(id)?;
            room.keys.act_key(&announced.act_id?)
        };
        let newest = room.standing.newest_epochs(1, |id| key(id).is_some());
        newest.first().and_then(key).cloned().ok_or_else(|| {
            Error::general(format!("no epoch of room {} is known", room.label()))
                .hint("it comes with the entries of the other members")
        })
    }

    /// Writes a batch: its new secrets first, so that nothing is ever sealed in a lost one.
    pub(super) fn write_batch(
        &self,
        room: &KnownRoom,
        batch: Batch,
    ) -> Result<(OwnFeed, Appended), Error> {
        let own = self.own_in_room(room)?;
        for body in &batch.bodies {
            check_readable(body)?;
        }
        if !batch.minted.is_empty() {
            let epochs: Vec<_> = batch
                .minted
                .iter()
                .map(|secret| stored_secret(&room.id, secret))
                .collect();
            self.state.add_epochs(&epochs)?;
            self.relearn()?;
        }
        let place = Place::Room(&room.id, &batch.keys);
        let appended = self.write_entries(&own, place, batch.bodies)?;
        if !batch.minted.is_empty() {
            self.catch_up()?;
            self.replan()?;
        }
        Ok((own, appended))
    }

    /// Returns this device's entries feed in a room, if the device is in it.
    pub(crate) fn own_in_room(&self, room: &KnownRoom) -> Result<OwnFeed, Error> {
        self.has_known_rules(room)?;
        let own = self.knowledge(|knowledge| knowledge.own.get(&room.entries).cloned());
        let own = own.ok_or_else(|| {
            Error::permission(format!(
                "this device is no member of room {} yet: the one before it was",
                room.label()
            ))
            .hint(
                "another device of yours lets it in when they meet; or ask a member for an invite",
            )
        })?;
        // What is written after a removal counts nowhere.
        if let Some(gone) = room.standing.gone.get(&self.agent) {
            return Err(self.gone_error(room, gone));
        }
        Ok(own)
    }
}

/// Refuses to write what nobody would read: an act above a limit would stand in the feed for ever.
fn check_readable(body: &Body) -> Result<(), Error> {
    let format = u64::from(kinlog_indexer::BODY_FORMAT);
    Body::decode(body.tag(), format, &body.encode())
        .map(drop)
        .map_err(|error| Error::general(format!("not written: {}", chain(&error))))
}

/// Returns a secret as `state.db` keeps it.
pub(crate) fn stored_secret(room: &RoomId, secret: &EpochSecret) -> StoredEpoch {
    StoredEpoch {
        id: secret.epoch_id().0,
        room: *room,
        sort: KeySort::Secret,
        secret: kinlog_feeds::crypto::Secret::new(*secret.expose()),
    }
}

/// Returns keys of epochs as `state.db` keeps them.
pub(crate) fn stored_keys<'a>(
    room: &RoomId,
    secrets: impl IntoIterator<Item = &'a EpochSecret>,
    act_keys: impl IntoIterator<Item = &'a ContentKey>,
) -> Vec<StoredEpoch> {
    let secrets = secrets.into_iter();
    let secrets = secrets.map(|secret| stored_secret(room, secret));
    let act_keys = act_keys.into_iter();
    let act_keys = act_keys.map(|key| stored_act_key(room, key));
    secrets.chain(act_keys).collect()
}

/// Returns an act key as `state.db` keeps it.
pub(crate) fn stored_act_key(room: &RoomId, key: &ContentKey) -> StoredEpoch {
    StoredEpoch {
        id: key.epoch_id().0,
        room: *room,
        sort: KeySort::ActKey,
        secret: kinlog_feeds::crypto::Secret::new(*key.expose()),
    }
}

/// Why an epoch could not be made.
#[derive(Debug)]
enum MintError {
    Random(Error),
    Seal(kinlog_indexer::seal::SealedSecretError),
}

impl From<kinlog_indexer::seal::SealedSecretError> for MintError {
    fn from(error: kinlog_indexer::seal::SealedSecretError) -> Self {
        MintError::Seal(error)
    }
}

impl From<MintError> for Error {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Random(error) => error,
            MintError::Seal(error) => Error::verification(chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::PublicKey;
    use kinlog_indexer::authority::feed_acts_max;
    use kinlog_indexer::entry::{ActHash, Invite, InviteRevoke, Role};

    use super::*;
    use crate::api::ErrorKind;
    use crate::limits::ACTS_LEFT_TOLD_MAX;
    use crate::rooms::admit::tests::{invited, pair, request, session};
    use crate::rooms::{InviteTerms, RoomTerms};
    use crate::test_folder::TestFolder;

    /// Ada's room, with Bob in it.
    fn room_with_bob(ada: &Core, bob: &Core, role: Role) -> KnownRoom {
        let room = ada.create_room(&RoomTerms::FAMILY).unwrap();
        let invite = invited(ada, &room, role);
        let asked = request(bob, &invite, pair(7), pair(8));
        ada.admit(&session(&invite, bob.keys.device()), &asked)
            .unwrap();
        let room = ada.room_with(&room.id).unwrap();
        assert_eq!(room.standing.role(&bob.agent), Some(role));
        room
    }

    fn invite_of(number: u16) -> Body {
        let mut key = [5; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        act(Deed::Invite(Invite {
            public_key: PublicKey(key),
            role: Role::Member,
            expires_at_ms: None,
            uses: None,
        }))
    }

    fn length(core: &Core, room: &KnownRoom) -> u64 {
        core.feed(&room.entries).unwrap().head().length
    }

    /// Each act of a batch names the one before it. One that the room refuses would take with it all that
    /// name it.
    #[test]
    fn a_refused_act_at_the_head_of_a_batch_takes_nothing_with_it() {
        let folder = TestFolder::new();
        let ada = folder.core("ada");
        let room = ada.create_room(&RoomTerms::FAMILY).unwrap();
        let key = ada.act_key(&room).unwrap();
        let mut batch = Batch::default();
        let revoke = InviteRevoke {
            public_key: PublicKey([4; 32]),
            act: ActHash([4; 32]),
        };
        batch.push(act(Deed::InviteRevoke(revoke)), key.clone());
        batch.push(invite_of(1), key.clone());
        batch.push(invite_of(2), key);
        ada.write_batch(&room, batch).unwrap();
        let room = ada.room_with(&room.id).unwrap();
        assert_eq!(room.standing.invites.len(), 2);
    }

    #[test]
    fn what_the_room_refuses_is_told_and_not_written() {
        let folder = TestFolder::new();
        let (ada, bob) = (folder.core("ada"), folder.core("bob"));
        let before = room_with_bob(&ada, &bob, Role::Member);
        ada.remove_member(&before, &bob.agent, "spam").unwrap();
        let written = length(&ada, &before);
        // As if Ada had not seen yet that Bob is gone.
        let refused = ada.remove_member(&before, &bob.agent, "spam").unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Permission);
        assert!(
            refused
                .message
                .starts_with("room family refuses this for ever, and nothing was written:")
                && refused.message.ends_with("was no member"),
            "{refused}"
        );
        assert!(refused.hint.unwrap().contains("kinlog room members family"));
        assert_eq!(length(&ada, &before), written);
        // What comes after it counts.
        let room = ada.room_with(&before.id).unwrap();
        ada.invite(&room, &InviteTerms::OPEN).unwrap();
        let room = ada.room_with(&before.id).unwrap();
        assert_eq!(room.standing.invites.len(), 1);
        let (own, said) = ada.send(&room, "still here").unwrap();
        let entry = kinlog_indexer::entry::Ref {
            feed: own.key,
            index: said.length - 1,
        };
        let message = ada.look(|index| index.message(&entry)).unwrap();
        assert_eq!(message.unwrap().text, "still here");
    }

    #[test]
    fn a_device_is_told_before_its_acts_are_used_up_and_when_they_are() {
        let folder = TestFolder::new();
        let (ada, bob) = (folder.core("ada"), folder.core("bob"));
        let room = room_with_bob(&ada, &bob, Role::Owner);
        ada.change_role(&room, &ada.agent, Role::Member).unwrap();
        let room = ada.room_with(&room.id).unwrap();
        let max = feed_acts_max(Role::Member);
        let (done, of) = ada.own_acts(&room).unwrap();
        assert_eq!(of, max);
        let invite = |from: u64, until: u64| {
            let key = ada.act_key(&room).unwrap();
            let mut batch = Batch::default();
            for number in from..until {
                batch.push(invite_of(number as u16), key.clone());
            }
            ada.write_batch(&room, batch)
        };
        let is_told = || {
            let told = ada.acts_left(&room);
            told.map(|left| (left, ada.own_acts(&room).unwrap()))
        };
        let soon = max - ACTS_LEFT_TOLD_MAX;
        invite(done, soon - 1).unwrap();
        assert_eq!(is_told(), None);
        invite(soon - 1, soon).unwrap();
        assert_eq!(is_told(), Some((ACTS_LEFT_TOLD_MAX, (soon, max))));
        // All of them fit, and not one more.
        let written = length(&ada, &room);
        let refused = invite(soon, max + 1).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Quota);
        assert_eq!(
            length(&ada, &room),
            written,
            "a batch is written whole or not"
        );
        assert!(refused.message.contains("room family") && refused.message.contains("512 acts"));
        assert!(refused.hint.unwrap().contains("another device of yours"));
        invite(soon, max).unwrap();
        assert_eq!(is_told(), Some((0, (max, max))));
        let room = ada.room_with(&room.id).unwrap();
        assert_eq!(room.standing.invites.len() as u64, max - done + 1);
        // Messages are no acts.
        ada.send(&room, "still here").unwrap();
    }
}
