//! Joining a room by a link, and letting others in.

use bytes::Bytes;
use kinlog_feeds::crypto::PublicKey;
use kinlog_indexer::entry::{Admit, Body, Deed, Membership, Role};
use kinlog_indexer::seal::{open_sealed_secret, seal_to_device};
use kinlog_swarm::{Label, SessionInfo};

use crate::api::Error;
use crate::core::Core;
use crate::failure::chain;
use crate::keys::random;
use crate::links::Invite;
use crate::rooms::create::act;
use crate::rooms::join_message::{JoinError, JoinRequest, JoinResponse};
use crate::state::{OpenJoin, RoomFeed};

impl Core {
    /// Remembers a join, to be asked for at every meeting until a member answers.
    pub(crate) fn ask_to_join(&self, invite: &Invite) -> Result<(), Error> {
        for url in &invite.signal_urls {
            self.state.add_signal(url)?;
        }
        let invite = Invite {
            signal_urls: Vec::new(),
            ..invite.clone()
        };
        let invite_key = invite.public_key();
        let join = OpenJoin {
            invite,
            entries_id: random()?,
            blobs_id: random()?,
        };
        self.guard.check()?;
        self.state.add_join(&join)?;
        self.relearn()?;
        self.replan()?;
        let Some(network) = self.network() else {
            return Ok(());
        };
        let key = invite_key.0;
        for session in network.sessions_about(Label::Invite, &key) {
            self.greet(&session)?;
        }
        Ok(())
    }

    /// Returns our request to join by the invite that a session is about, if we ask by it.
    pub(crate) fn join_request(&self, session: &SessionInfo) -> Result<Option<Bytes>, Error> {
        let Some(join) = self.open_join(&PublicKey(session.key)) else {
            return Ok(None);
        };
        self.guard.sign(&self.store)?;
        let membership = Membership::sign(
            &join.invite.room,
            self.agent,
            self.own_identity_set()?,
            self.keys.signing(),
            &self.keys.feed(&join.entries_id),
            &self.keys.feed(&join.blobs_id),
        );
        let request = JoinRequest::sign(join.invite.room, membership, &join.invite.key_pair());
        Ok(Some(request.encode()))
    }

    /// Lets the device that asks in a session into the room of its invite, and returns the answer.
    pub(crate) fn admit(&self, session: &SessionInfo, request: &Bytes) -> Result<Bytes, Error> {
        let invite = PublicKey(session.key);
        let room = self.knowledge(|knowledge| {
            let id = knowledge.invites.get(&invite)?;
            knowledge.rooms.get(id).cloned()
        });
        let room = room.ok_or_else(|| Error::not_found("no open invite of ours"))?;
        let request = JoinRequest::verify(request, &room.id, &invite).map_err(refused)?;
        let member = &request.membership;
        let device = member
            .verify(&room.id)
            .map_err(|error| refused(error.into()))?;
        if session
            .remote_certificate
            .is_none_or(|certificate| certificate.device != device.key)
        {
            return Err(Error::permission(
                "join request of another device than the session's",
            ));
        }
        let of_another = |key| {
            let known = room.feeds.get(key);
            known.is_some_and(|feed: &RoomFeed| feed.device != device.key)
        };
        if of_another(&member.entries_feed) || of_another(&member.blobs_feed) {
            return Err(Error::permission(
                "join request with the feed of another member",
            ));
        }
        if !room.feeds.contains_key(&member.entries_feed) {
            let admit = Admit {
                member: member.clone(),
                role: Role::Member,
                invite: Some(request.invite),
                epochs: room.epochs.keys().copied().collect(),
            };
            self.write_in_room(&room, vec![act(Deed::Admit(admit))])?;
            self.replan()?;
        }
        let epoch = room
            .epoch()
            .ok_or_else(|| Error::general(format!("no epoch of room {}", room.label())))?;
        let secret = seal_to_device(random()?, &device.x25519, &room.id, epoch)
            .map_err(|error| Error::verification(chain(&error)))?;
        let feeds = room.feeds.into_values().collect();
        Ok(JoinResponse {
            room: room.id,
            secret,
            feeds,
        }
        .encode())
    }

    /// Takes a member's answer: from now on this device is in the room.
    pub(crate) fn complete_join(
        &self,
        session: &SessionInfo,
        response: &Bytes,
    ) -> Result<(), Error> {
        let Some(join) = self.open_join(&PublicKey(session.key)) else {
            return Ok(());
        };
        let response = JoinResponse::decode(response).map_err(refused)?;
        if response.room != join.invite.room {
            return Err(refused(JoinError::OtherRoom));
        }
        let epoch = open_sealed_secret(self.keys.dh(), &response.room, &response.secret)
            .map_err(|error| Error::verification(chain(&error)))?;
        let entries = self.feed_with_id(join.entries_id, None, true, false)?;
        let blobs = self.feed_with_id(join.blobs_id, None, false, false)?;
        let of_others = response.feeds.into_iter();
        let of_others: Vec<RoomFeed> = of_others
            .filter(|feed| self.may_join_room(&response.room, &feed.key))
            .collect();
        let room = self.begin_room(&response.room, "", &entries, &blobs, &epoch, of_others)?;
        if self.feed(&entries.key)?.head().length == 0 {
            self.write_in_room(&room, vec![Body::Profile(self.profile()?)])?;
        }
        Ok(())
    }

    fn open_join(&self, invite: &PublicKey) -> Option<OpenJoin> {
        self.knowledge(|knowledge| {
            knowledge
                .joins
                .iter()
                .find(|join| join.invite.public_key() == *invite)
                .cloned()
        })
    }
}

fn refused(error: JoinError) -> Error {
    Error::verification(chain(&error))
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{DeviceKey, Hash};
    use kinlog_swarm::{Certificate, SessionId, SessionRole, Transport};

    use super::*;
    use crate::home::{Phrase, init};
    use crate::links::Link;
    use crate::pins::Switches;
    use crate::test_folder::TestFolder;

    fn core(folder: &TestFolder, name: &str) -> Core {
        let home = folder.path().join(name);
        init(&home, &folder.state(), name, &Phrase::generate().unwrap()).unwrap();
        Core::open(&home, &folder.state(), Switches::default())
            .unwrap()
            .0
    }

    #[test]
    fn nobody_is_admitted_with_a_feed_of_another_member() {
        let folder = TestFolder::new();
        let (ada, bob) = (core(&folder, "ada"), core(&folder, "bob"));
        let room = ada.create_room("family").unwrap();
        let Ok(Link::Join(invite)) = ada.invite(&room).unwrap().parse() else {
            unreachable!("an invite is a link to join by");
        };
        let session = SessionInfo {
            id: SessionId(1),
            label: Label::Invite,
            key: invite.public_key().0,
            role: SessionRole::Initiator,
            remote_certificate: Some(Certificate {
                device: bob.keys.device(),
                identity_hash: Hash::default(),
            }),
            transport: Transport::Memory,
            path: None,
            plain: false,
        };
        let request = |entries: kinlog_feeds::KeyPair, blobs: kinlog_feeds::KeyPair| {
            let set = bob.own_identity_set().unwrap();
            let signing = bob.keys.signing();
            let member = Membership::sign(&room.id, bob.agent, set, signing, &entries, &blobs);
            JoinRequest::sign(room.id, member, &invite.key_pair()).encode()
        };
        let pair = |number: u8| kinlog_feeds::KeyPair::from_seed(&[number; 32]);
        let stored = ada.state.rooms().unwrap().remove(0);
        let ada_entries = || ada.keys.feed(&stored.entries_id);
        for stolen in [
            request(ada_entries(), pair(8)),
            request(pair(7), ada_entries()),
        ] {
            assert!(ada.admit(&session, &stolen).is_err());
        }
        let honest = request(pair(7), pair(8));
        ada.admit(&session, &honest).unwrap();
        ada.admit(&session, &honest).unwrap();
        let devices = ada.room(&room.id.to_string()).unwrap().devices();
        assert_eq!(devices, [ada.keys.device(), bob.keys.device()].into());
        let other = SessionInfo {
            remote_certificate: Some(Certificate {
                device: DeviceKey([3; 32]),
                identity_hash: Hash::default(),
            }),
            ..session
        };
        assert!(ada.admit(&other, &honest).is_err());
    }
}
