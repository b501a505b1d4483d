//! Making a room, inviting to it, writing in it.

use kinlog_feeds::crypto::Secret;
use kinlog_feeds::store::Appended;
use kinlog_indexer::entry::{
    Act, Body, Deed, Genesis, History, Invite as RoomInvite, Parents, Profile, Role,
};
use kinlog_indexer::seal::EpochSecret;

use crate::api::Error;
use crate::core::{Core, Place};
use crate::keys::random;
use crate::knowledge::KnownRoom;
use crate::links::{Invite, Link};
use crate::rooms::RoomId;
use crate::state::{OwnFeed, RoomFeed, StoredEpoch, StoredRoom};

impl Core {
    /// Makes a room with this device as its first member.
    ///
    /// The room begins when `state.db` knows it; feeds that a crash leaves before are never used.
    pub(crate) fn create_room(&self, name: &str) -> Result<KnownRoom, Error> {
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
        let (genesis, id) = Genesis::sign(
            title,
            History::Full,
            random()?,
            self.agent,
            set,
            device,
            &self.keys.feed(&entries.id),
            &self.keys.feed(&blobs.id),
        );
        let epoch = EpochSecret::new(random()?);
        let genesis = act(Deed::Genesis(genesis));
        let bodies = vec![genesis, Body::Profile(self.profile()?)];
        self.write_entries(&entries, Place::Room(&id, &epoch), bodies)?;
        self.begin_room(&id, name, &entries, &blobs, &epoch, Vec::new())
    }

    /// Remembers a room this device is a member of, with the feeds of others that are known.
    pub(super) fn begin_room(
        &self,
        id: &RoomId,
        name: &str,
        entries: &OwnFeed,
        blobs: &OwnFeed,
        epoch: &EpochSecret,
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
        let room = StoredRoom {
            id: *id,
            name: name.to_owned(),
            entries_id: entries.id,
            blobs_id: blobs.id,
        };
        let secret = Secret::new(*epoch.expose());
        let epoch = StoredEpoch {
            id: epoch.epoch_id().0,
            room: *id,
            secret,
        };
        self.state.add_room(&room, &[epoch], &feeds)?;
        self.relearn()?;
        self.catch_up()?;
        self.replan()?;
        self.room(&id.to_string())
    }

    /// Returns a link by which others join a room; the same one until it is revoked.
    pub(crate) fn invite(&self, room: &KnownRoom) -> Result<String, Error> {
        let held = self
            .state
            .invites()?
            .into_iter()
            .find(|(id, _, _)| *id == room.id);
        let seed = match &held {
            Some((_, _, seed)) => seed.clone(),
            None => Secret::new(random()?),
        };
        let invite = Invite {
            room: room.id,
            seed,
            signal_urls: self.state.signals()?,
        };
        if held.is_none() {
            self.state.add_invite(&room.id, &invite)?;
            // The entry lets every member admit, also when we are away.
            let public_key = invite.public_key();
            let invite = RoomInvite {
                public_key,
                role: Role::Member,
                expires_at_ms: None,
                uses: None,
            };
            self.write_in_room(room, vec![act(Deed::Invite(invite))])?;
            self.relearn()?;
            self.replan()?;
        }
        Ok(Link::Join(invite).to_string())
    }

    /// Writes entries to this device's feed in a room.
    pub(super) fn write_in_room(
        &self,
        room: &KnownRoom,
        bodies: Vec<Body>,
    ) -> Result<(OwnFeed, Appended), Error> {
        let own = self.knowledge(|knowledge| knowledge.own.get(&room.entries).cloned());
        let own = own.ok_or_else(|| {
            Error::permission(format!(
                "this device is no member of room {} yet: the one before it was",
                room.label()
            ))
            .hint("ask a member for an invite: `kinlog room join LINK`")
        })?;
        let epoch = room
            .epoch()
            .ok_or_else(|| Error::general(format!("no epoch of room {} is known", room.label())))?;
        let appended = self.write_entries(&own, Place::Room(&room.id, epoch), bodies)?;
        Ok((own, appended))
    }

    /// Returns what this agent calls itself, as an entry.
    pub(crate) fn profile(&self) -> Result<Profile, Error> {
        let name = self.name.as_str().try_into();
        Ok(Profile::named(
            name.map_err(|error| Error::usage(format!("name: {error}")))?,
        ))
    }

    /// Returns this agent's identity set as it travels.
    pub(super) fn own_identity_set(&self) -> Result<bytes::Bytes, Error> {
        self.knowledge(|knowledge| knowledge.agents.get(&self.agent).map(|own| own.set.clone()))
            .ok_or_else(|| Error::general("state.db holds no identity set of this agent"))
    }
}

/// Returns an act that names none before it.
pub(super) fn act(deed: Deed) -> Body {
    let parents = Parents::default();
    Body::Act(Box::new(Act { parents, deed }))
}
