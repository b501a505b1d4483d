//! Devices of members: a sibling lets another in, and one that its agent revoked goes.

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_indexer::entry::{Body, Deed, DeviceRevoke, Role};
use kinlog_swarm::{Label, SessionInfo};

use crate::api::Error;
use crate::core::{Core, Steps};
use crate::knowledge::KnownRoom;
use crate::rooms::admit::refused;
use crate::rooms::write::{Batch, act, readers, stored_keys};
use crate::rooms::{JoinAnswer, JoinRequest, RoomId};

impl Core {
    /// Returns this device's request to be let into a room that another device of its agent is in.
    pub(crate) fn sibling_request(&self, session: &SessionInfo) -> Result<Option<Bytes>, Error> {
        let Some(room) = self.room_met_by(&session.key) else {
            return Ok(None);
        };
        // Of a room that a sibling told of nothing is here yet but its keys.
        let is_new = room.standing.history.is_none();
        let is_waiting = (is_new || room.standing.role(&self.agent).is_some())
            && !room.standing.has_device(&self.agent, &self.keys.device());
        if !is_waiting || self.guard.doubt().is_some() {
            return Ok(None);
        }
        let Some(stored) = self.state.room(&room.id)? else {
            return Ok(None);
        };
        self.guard.sign(&self.store)?;
        let membership = self.membership(&room.id, &stored.entries_id, &stored.blobs_id)?;
        Ok(Some(JoinRequest::as_sibling(room.id, membership).encode()))
    }

    /// Asks in every session of a room that this device is not let into yet: whoever could not answer
    /// may be able to now.
    pub(crate) fn ask_siblings_again(&self) -> Result<(), Error> {
        let Some(network) = self.network() else {
            return Ok(());
        };
        let rooms = self.knowledge(|knowledge| {
            let rooms = knowledge.rooms.values();
            let waiting = rooms.filter(|room| {
                !room.standing.has_device(&self.agent, &self.keys.device())
                    && !room.standing.gone.contains_key(&self.agent)
            });
            waiting.cloned().collect::<Vec<_>>()
        });
        let mut steps = Steps::default();
        for meet_key in rooms.iter().flat_map(KnownRoom::meet_keys) {
            for session in network.sessions_about(Label::Room, &meet_key) {
                steps.take("session", self.greet(&session));
            }
        }
        steps.end()
    }

    /// Takes the answer to [`sibling_request`](Self::sibling_request). The room is known: only keys of
    /// epochs that count are taken.
    pub(super) fn sibling_answered(
        &self,
        session: &SessionInfo,
        answer: &[u8],
    ) -> Result<(), Error> {
        let Some(room) = self.room_met_by(&session.key) else {
            return Ok(());
        };
        let is_in = self.knowledge(|knowledge| knowledge.own.contains_key(&room.entries));
        let shown = session.remote_certificate.map(|shown| shown.device);
        let is_member = shown.is_some_and(|device| room.devices().contains(&device));
        let siblings = self.knowledge(|knowledge| knowledge.own_devices());
        // Of a room that is not known yet only a device of this agent is believed.
        let is_sibling = shown.is_some_and(|device| siblings.contains_key(&device));
        let is_new = room.standing.history.is_none();
        if is_in || !(is_member || (is_new && is_sibling)) {
            return Ok(());
        }
        let answer = JoinAnswer::decode(answer).map_err(refused)?;
        let JoinAnswer::Welcome {
            wrap, keys, feeds, ..
        } = answer
        else {
            return Ok(());
        };
        let Some(stored) = self.state.room(&room.id)? else {
            return Ok(());
        };
        let own = (self.keys.dh(), &room.entries);
        let keys = JoinAnswer::open_keys(&room.id, &wrap, &keys, own).map_err(refused)?;
        let epochs = match is_new {
            true => stored_keys(&room.id, &keys.secrets, &keys.act_keys),
            false => room.new_keys(&keys.secrets, &keys.act_keys),
        };
        let entries = self.feed_with_id(stored.entries_id, None, true, false)?;
        let blobs = self.feed_with_id(stored.blobs_id, None, false, false)?;
        let own = [entries.key, blobs.key];
        let feeds = feeds.into_iter().filter(|_| is_new);
        let feeds = feeds
            .filter(|feed| !own.contains(&feed.key) && self.may_join_room(&room.id, &feed.key))
            .collect();
        self.begin_room(&stored, &entries, &blobs, &epochs, feeds)?;
        self.introduce_device(&room.id)?;
        Ok(())
    }

    /// Says in a room what this agent is called, once the acts that let this device in are here.
    pub(crate) fn introduce_device(&self, room: &RoomId) -> Result<(), Error> {
        let Some(room) = self.room_with(room) else {
            return Ok(());
        };
        let is_in = room.standing.has_device(&self.agent, &self.keys.device());
        let own = self.store.feed(&room.entries);
        if is_in && own.is_some_and(|own| own.head().length == 0) && self.guard.doubt().is_none() {
            self.write_in_room(&room, vec![Body::Profile(self.profile()?)])?;
        }
        Ok(())
    }

    /// Takes devices that their agents revoked out of the rooms where this agent may: its own devices
    /// everywhere, those of others where it is admin and ranks above them. What is written after it is sealed in an epoch that
    /// they have no copy of.
    pub(crate) fn drop_revoked_devices(&self) -> Result<(), Error> {
        let rooms =
            self.knowledge(|knowledge| knowledge.rooms.values().cloned().collect::<Vec<_>>());
        let mut steps = Steps::default();
        for room in rooms {
            let Some(own) = room.standing.role(&self.agent) else {
                continue;
            };
            let is_here = room.standing.has_device(&self.agent, &self.keys.device());
            if !is_here || self.guard.doubt().is_some() {
                continue;
            }
            let revoked = self.revoked_in(&room);
            let mine = revoked.into_iter().filter(|(agent, ..)| {
                let above = || room.standing.ranks_above(&self.agent, agent);
                *agent == self.agent || own >= Role::Admin && above()
            });
            for (agent, device, identity_set) in mine {
                let dropped = self.drop_device(&room, agent, device, identity_set);
                steps.take("device of a room", dropped);
            }
        }
        steps.end()
    }

    fn drop_device(
        &self,
        room: &KnownRoom,
        agent: AgentId,
        device: DeviceKey,
        identity_set: Bytes,
    ) -> Result<(), Error> {
        let room = self.room_with(&room.id).unwrap_or_else(|| room.clone());
        let member = room.standing.members.get(&agent);
        if !member.is_some_and(|member| member.devices.contains_key(&device)) {
            return Ok(());
        }
        let mut batch = Batch::default();
        let revoke = DeviceRevoke {
            agent,
            device,
            identity_set,
            cuts: self.room_cuts(&room, |feed| (feed.agent, feed.device) == (agent, device)),
        };
        batch.push(act(Deed::DeviceRevoke(revoke)), self.act_key(&room)?);
        let mut readers = readers(&room.standing);
        readers.remove(&device);
        self.mint(&room, room.standing.heads(), &readers, &mut batch)?;
        self.write_batch(&room, batch)?;
        self.replan()
    }

    /// Returns the devices in a room that their agents revoked, each with the set that says so.
    fn revoked_in(&self, room: &KnownRoom) -> Vec<(AgentId, DeviceKey, Bytes)> {
        self.knowledge(|knowledge| {
            let devices = room.standing.devices();
            let revoked = devices.filter_map(|(agent, device, _)| {
                let known = knowledge.agents.get(agent)?;
                known.identity.revoked(device)?;
                Some((*agent, *device, known.set.clone()))
            });
            revoked.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::Hash;
    use kinlog_indexer::entry::History;
    use kinlog_indexer::seal::{EpochCommitment, EpochSecret, device_dh_public};
    use kinlog_swarm::{Certificate, SessionId, SessionRole, Transport};

    use super::*;
    use crate::knowledge::Announced;
    use crate::rooms::{RoomKeys, RoomTerms};
    use crate::test_folder::TestFolder;

    #[test]
    fn a_device_that_is_let_in_takes_a_secret_only_as_its_announcement_commits_to_it() {
        let folder = TestFolder::new();
        let ada = folder.core("ada");
        let terms = RoomTerms {
            name: "family",
            history: History::Full,
            direct: None,
        };
        let room = ada.create_room(&terms).unwrap();
        let secret = EpochSecret::new([9; 32]);
        let id = secret.epoch_id();
        let session = SessionInfo {
            id: SessionId(1),
            label: Label::Room,
            key: room.meet_keys()[0],
            role: SessionRole::Initiator,
            remote_certificate: Some(Certificate {
                device: ada.keys.device(),
                identity_hash: Hash::default(),
            }),
            transport: Transport::Memory,
            path: None,
            plain: false,
        };
        let x25519 = device_dh_public(ada.keys.dh());
        let keys = RoomKeys {
            secrets: vec![secret.clone()],
            act_keys: Vec::new(),
        };
        let random = ([1; 32], [2; 32], &[3; 24]);
        let to = (&x25519, &room.entries);
        let answer = JoinAnswer::welcome(room.id, to, random, &keys, Vec::new());
        let answer = answer.unwrap().encode();
        let is_taken = |commitment: EpochCommitment| {
            let announced = Announced {
                act_id: Some(secret.act_key().epoch_id()),
                commitment: Some(commitment),
                ..Announced::default()
            };
            ada.knowledge(|knowledge| {
                // As of a device that was not let in yet.
                knowledge.own.remove(&room.entries);
                let room = knowledge.rooms.get_mut(&room.id).unwrap();
                room.standing.epochs.insert(id, announced);
            });
            ada.sibling_answered(&session, &answer).unwrap();
            ada.room_with(&room.id).unwrap().keys.secret(&id).is_some()
        };
        assert!(!is_taken(EpochCommitment([1; 32])));
        assert!(is_taken(secret.commitment()));
    }
}
