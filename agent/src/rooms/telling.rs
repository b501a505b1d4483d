//! What is said on sessions of a room beside its feeds: that somebody was removed, invites to rooms of
//! two, keys of epochs that did not come with their announcements.

use kinlog_feeds::crypto::{AgentId, DeviceKey, blake2b_256};
use kinlog_indexer::seal::EpochId;
use kinlog_swarm::{Label, PeerMessage, SessionInfo};

use crate::api::Error;
use crate::core::{Core, Steps};
use crate::failure::chain;
use crate::keys::random;
use crate::knowledge::{Announced, Gone, KnownRoom};
use crate::limits::EPOCHS_ASKED_MAX;
use crate::rooms::{EpochKeysGiven, KeysWanted, RemovedNotice, RoomMessage};

impl Core {
    /// Tells the devices of a removed member that are connected why they are not served any more.
    pub(crate) fn tell_removed(&self, room: &KnownRoom, agent: &AgentId, reason: &str) {
        let Some(network) = self.network() else {
            return;
        };
        let Some(member) = room.standing.members.get(agent) else {
            return;
        };
        for key in room.meet_keys() {
            for session in network.sessions_about(Label::Room, &key) {
                let device = session.remote_certificate.map(|shown| shown.device);
                if let Some(device) = device.filter(|one| member.devices.contains_key(one)) {
                    let bytes = self.notice(room, &self.agent, reason, &device).encode();
                    network.send(session.id, PeerMessage::Room { bytes });
                }
            }
        }
    }

    fn notice(
        &self,
        room: &KnownRoom,
        by: &AgentId,
        reason: &str,
        removed: &DeviceKey,
    ) -> RoomMessage {
        let signing = self.keys.signing();
        RoomMessage::Removed(RemovedNotice::sign(room.id, *by, reason, removed, signing))
    }

    /// Says on a session of a room what its other side has to know.
    pub(crate) fn greet_in_room(&self, session: &SessionInfo) -> Vec<RoomMessage> {
        let Some(device) = session.remote_certificate.map(|shown| shown.device) else {
            return Vec::new();
        };
        let Some(room) = self.room_met_by(&session.key) else {
            return Vec::new();
        };
        let standing = &room.standing;
        let mut messages = Vec::new();
        // Only who was in the room and is no more; a stranger is told nothing.
        let agent = room.feeds.values().find(|feed| feed.device == device);
        let agent = agent.map(|feed| feed.agent);
        if let Some(gone) = agent.and_then(|agent| standing.gone.get(&agent))
            && agent != Some(gone.by)
            && standing.has_device(&self.agent, &self.keys.device())
        {
            messages.push(self.notice(&room, &gone.by, &gone.reason, &device));
        }
        let lot = random().unwrap_or_default();
        messages.extend(wanted(&room, &lot).map(RoomMessage::KeysWanted));
        messages
    }

    /// Takes what the other side of a room's session says.
    pub(crate) fn hear_in_room(&self, session: &SessionInfo, bytes: &[u8]) -> Result<(), Error> {
        let Some(certificate) = session.remote_certificate else {
            return Err(Error::permission("message about a room by nobody"));
        };
        let message =
            RoomMessage::decode(bytes).map_err(|error| Error::verification(chain(&error)))?;
        match message {
            RoomMessage::Removed(notice) => self.hear_removed(&certificate.device, notice),
            RoomMessage::Direct(invite) => {
                self.asked_to_talk(session, &certificate.device, &invite)
            }
            RoomMessage::KeysWanted(wanted) => {
                self.give_keys(session, &certificate.device, &wanted);
                Ok(())
            }
            RoomMessage::Keys(given) => self.take_given(&certificate.device, &given),
        }
    }

    /// Asks in every session of a room for the keys of epochs that did not open here.
    ///
    /// Who announces an epoch seals its secret to each device, and may seal nonsense to some. What is then
    /// written in it, acts too, they could not read, and would never agree with the others.
    pub(crate) fn ask_for_keys(&self) {
        let Some(network) = self.network() else {
            return;
        };
        let rooms =
            self.knowledge(|knowledge| knowledge.rooms.values().cloned().collect::<Vec<_>>());
        for room in &rooms {
            let lot = random().unwrap_or_default();
            let Some(wanted) = wanted(room, &lot) else {
                continue;
            };
            let bytes = RoomMessage::KeysWanted(wanted).encode();
            for session in room
                .meet_keys()
                .iter()
                .flat_map(|key| network.sessions_about(Label::Room, key))
            {
                let bytes = bytes.clone();
                network.send(session.id, PeerMessage::Room { bytes });
            }
        }
    }

    /// Gives a device in the room the keys it asks for: the secret of an epoch that was announced to it,
    /// the act key of any other.
    fn give_keys(&self, session: &SessionInfo, device: &DeviceKey, wanted: &KeysWanted) {
        let Some(room) = self.room_with(&wanted.room) else {
            return;
        };
        if !room.devices().contains(device) {
            return;
        }
        let mut given = EpochKeysGiven {
            room: room.id,
            secrets: Vec::new(),
            act_keys: Vec::new(),
        };
        for id in &wanted.epochs {
            match room.keys.secret(id) {
                Some(secret) if room.standing.is_entitled(id, device) => {
                    given.secrets.push(secret.clone());
                }
                _ => {
                    let announced = room.standing.announcements(id);
                    let keys = announced.flat_map(Announced::act_ids);
                    let mut keys = keys.filter_map(|id| room.keys.act_key(&id));
                    given.act_keys.extend(keys.next().cloned());
                }
            }
        }
        if given.secrets.is_empty() && given.act_keys.is_empty() {
            return;
        }
        if let Some(network) = self.network() {
            let bytes = RoomMessage::Keys(given).encode();
            network.send(session.id, PeerMessage::Room { bytes });
        }
    }

    /// Takes keys of epochs that count, or did, as they were announced.
    fn take_given(&self, device: &DeviceKey, given: &EpochKeysGiven) -> Result<(), Error> {
        let Some(room) = self.room_with(&given.room) else {
            return Ok(());
        };
        if !room.devices().contains(device) {
            return Err(Error::permission(
                "keys of epochs from a device that is not in the room",
            ));
        }
        let new = room.new_keys(&given.secrets, &given.act_keys);
        if new.is_empty() {
            return Ok(());
        }
        self.state.add_epochs(&new)?;
        let mut steps = Steps::default();
        steps.take("rooms", self.relearn());
        steps.take("index", self.catch_up());
        steps.take("plan", self.replan());
        steps.end()
    }

    /// Notes that this agent was removed, as a member of the room says. What decides are the acts:
    /// the word of one member only says why nobody answers any more.
    fn hear_removed(&self, device: &DeviceKey, notice: RemovedNotice) -> Result<(), Error> {
        let own = self.keys.device();
        notice
            .verify(&own, device)
            .map_err(|error| Error::verification(format!("removal: {}", chain(&error))))?;
        self.knowledge(|knowledge| {
            let Some(room) = knowledge.rooms.get_mut(&notice.room) else {
                return;
            };
            let is_member = room.standing.devices().any(|(_, key, _)| key == device);
            if is_member && room.standing.role(&notice.by).is_some() {
                room.told_removed = Some(Gone {
                    by: notice.by,
                    reason: notice.reason,
                });
            }
        });
        self.changed();
        Ok(())
    }
}

/// Returns the epochs of a room this device is in, of which it has not even the act key, those that lapsed
/// too: somebody who did not know better may have sealed acts that count in one of these. Of more than may
/// be asked for at once some are drawn by `lot`: whoever announces many that nobody can open keeps no other
/// from being asked for in the end.
fn wanted(room: &KnownRoom, lot: &[u8; 16]) -> Option<KeysWanted> {
    let is_lacking = |(_, announced): &(&EpochId, &Announced)| {
        let mut act_ids = announced.act_ids();
        announced.act_id.is_some() && act_ids.all(|id| room.keys.act_key(&id).is_none())
    };
    let known = room.standing.epochs.iter().chain(&room.standing.lapsed);
    let mut epochs: Vec<EpochId> = known.filter(is_lacking).map(|(id, _)| *id).collect();
    if epochs.len() > EPOCHS_ASKED_MAX {
        epochs.sort_by_cached_key(|id| blake2b_256(&[lot, &id.0]));
        epochs.truncate(EPOCHS_ASKED_MAX);
    }
    let room = room.id;
    (!epochs.is_empty()).then_some(KeysWanted { room, epochs })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kinlog_feeds::crypto::PublicKey;
    use kinlog_indexer::entry::{Deed, Invite, Role};
    use kinlog_indexer::seal::{EpochCommitment, EpochSecret, SealedSecretError};

    use super::*;
    use crate::introduce;
    use crate::links::Link;
    use crate::rooms::epoch::announce;
    use crate::rooms::write::{Batch, act, readers};
    use crate::rooms::{InviteTerms, RoomId, RoomTerms};
    use crate::test_folder::TestFolder;

    /// Waits until what an agent knows is so, asking for keys whenever something changed.
    async fn until(core: &Core, is_so: impl Fn(&Core) -> bool) {
        let mut changes = core.changes();
        let asking = async {
            while !is_so(core) {
                core.ask_for_keys();
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asking)
            .await
            .expect("so in time");
    }

    fn is_in(core: &Core, room: &RoomId, count: usize) -> bool {
        let room = core.room_with(room);
        room.is_some_and(|room| room.devices().len() == count)
    }

    #[test]
    fn a_secret_is_taken_only_as_its_announcement_commits_to_it() {
        let folder = TestFolder::new();
        let ada = folder.core("ada");
        let room = ada.create_room(&RoomTerms::FAMILY).unwrap();
        let secret = EpochSecret::new([9; 32]);
        let id = secret.epoch_id();
        let announced = Announced {
            act_id: Some(secret.act_key().epoch_id()),
            commitment: Some(secret.commitment()),
            ..Announced::default()
        };
        let given = EpochKeysGiven {
            room: room.id,
            secrets: vec![secret],
            act_keys: Vec::new(),
        };
        let is_taken = |announced: Announced| {
            ada.knowledge(|knowledge| {
                let room = knowledge.rooms.get_mut(&room.id).unwrap();
                room.standing.epochs.insert(id, announced);
            });
            ada.take_given(&ada.keys.device(), &given).unwrap();
            ada.room_with(&room.id).unwrap().keys.secret(&id).is_some()
        };
        assert!(!is_taken(Announced {
            commitment: Some(EpochCommitment([1; 32])),
            ..announced.clone()
        }));
        assert!(!is_taken(Announced {
            act_id: Some(EpochId([1; 16])),
            ..announced.clone()
        }));
        assert!(is_taken(announced));
    }

    #[test]
    fn an_epoch_beside_many_that_nobody_can_open_is_asked_for_in_the_end() {
        let folder = TestFolder::new();
        let ada = folder.core("ada");
        let room = ada.create_room(&RoomTerms::FAMILY).unwrap();
        let mut room = ada.room_with(&room.id).unwrap();
        let announced = |number: u16| {
            let [high, low] = number.to_be_bytes();
            let mut id = [1; 16];
            (id[0], id[1]) = (high, low);
            let announced = Announced {
                act_id: Some(EpochId(id)),
                ..Announced::default()
            };
            (EpochId(id), announced)
        };
        let (lapsed, of_lapsed) = announced(999);
        room.standing.lapsed.insert(lapsed, of_lapsed);
        room.standing.epochs.extend((0..600).map(announced));
        let asked = |number: u8| wanted(&room, &[number; 16]).unwrap().epochs;
        let asked: Vec<_> = (0..32).map(asked).collect();
        assert!(asked.iter().all(|epochs| epochs.len() == EPOCHS_ASKED_MAX));
        let times = asked.iter().filter(|epochs| epochs.contains(&lapsed));
        assert!((4..28).contains(&times.count()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_epoch_that_only_some_can_open_parts_nobody() {
        let folder = TestFolder::new();
        let (ada, bob) = (folder.agent("ada").await, folder.agent("bob").await);
        let mia = folder.agent("mia").await;
        let (of_ada, of_bob, of_mia) = (
            &ada.running().core,
            &bob.running().core,
            &mia.running().core,
        );
        let room = of_ada.create_room(&RoomTerms::FAMILY).unwrap();
        let Ok(Link::Join(invite)) = of_ada.invite(&room, &InviteTerms::OPEN).unwrap().parse()
        else {
            unreachable!("an invite is a link to join by");
        };
        let _met = [
            introduce(&ada, &bob).await.unwrap(),
            introduce(&ada, &mia).await.unwrap(),
            introduce(&bob, &mia).await.unwrap(),
        ];
        for core in [of_bob, of_mia] {
            core.ask_to_join(&invite).unwrap();
            until(core, |core| core.room_with(&room.id).is_some()).await;
        }
        for core in [of_ada, of_bob, of_mia] {
            until(core, |core| is_in(core, &room.id, 3)).await;
        }

        // Mia seals the secret of a new epoch to Ada, nonsense to Bob, and acts under it.
        let known = of_mia.room_with(&room.id).unwrap();
        let secret = EpochSecret::new([9; 32]);
        let devices: Vec<_> = readers(&known.standing).into_iter().collect();
        let heads = known.standing.heads();
        let made = announce::<SealedSecretError>(&room.id, &secret, heads, &devices, || {
            Ok(random().unwrap())
        });
        let Ok(Deed::Epoch(mut epoch)) = made else {
            unreachable!("an epoch was made");
        };
        let to_bob = of_bob.keys.device();
        let copies = epoch.copies.iter_mut();
        copies
            .filter(|copy| copy.device == to_bob)
            .for_each(|copy| copy.sealed = [1; 81]);
        let key = PublicKey([5; 32]);
        let invite = Invite {
            public_key: key,
            role: Role::Member,
            expires_at_ms: None,
            uses: None,
        };
        let mut batch = Batch::default();
        let announced_in = of_mia.act_key(&known).unwrap();
        batch.push(act(Deed::Epoch(epoch)), announced_in);
        batch.push(act(Deed::Invite(invite)), secret.act_key());
        of_mia.write_batch(&known, batch).unwrap();

        let has_seen = |core: &Core| {
            let room = core.room_with(&room.id).unwrap();
            room.standing.invites.contains_key(&key)
                && room.keys.secret(&secret.epoch_id()).is_some()
        };
        until(of_ada, has_seen).await;
        until(of_bob, has_seen).await;
    }
}
