//! Letting others in: the member's side of a join.

use bytes::Bytes;
use kinlog_feeds::crypto::PublicKey;
use kinlog_indexer::entry::{Admit, Body, Deed, DeviceJoin, History, InviteUse, Membership, Role};
use kinlog_indexer::identity::Device;
use kinlog_indexer::limits::{ROOM_DEVICES_MAX, ROOM_MEMBERS_MAX};
use kinlog_indexer::seal::EpochId;
use kinlog_swarm::{Label, SessionInfo};

use crate::api::Error;
use crate::core::Core;
use crate::failure::chain;
use crate::keys::random;
use crate::knowledge::KnownRoom;
use crate::limits::MEET_EPOCHS_MAX;
use crate::rooms::invite::has_expired;
use crate::rooms::write::{Batch, act, readers};
use crate::rooms::{JoinAnswer, JoinError, JoinRequest, Refusal, RoomFeed, RoomKeys};
use crate::wall_ms;

/// What a request leads to.
enum Verdict {
    /// The device is in already: it lost the answer.
    IsIn,
    /// It is let in by this act.
    Let(Box<Body>),
    Refuse(Refusal),
}

impl Core {
    /// Lets the device that asks in a session into the room it asks for, or says why not.
    pub(crate) fn admit(&self, session: &SessionInfo, request: &[u8]) -> Result<Bytes, Error> {
        let (room, invite) = match session.label {
            Label::Invite => {
                let key = PublicKey(session.key);
                let room = self.knowledge(|knowledge| {
                    let id = knowledge.invites.get(&key)?;
                    knowledge.rooms.get(id).cloned()
                });
                (room, Some(key))
            }
            _ => (self.room_met_by(&session.key), None),
        };
        let room = room.ok_or_else(|| Error::not_found("asked to join no room of ours"))?;
        let request = JoinRequest::verify(request, &room.id, invite.as_ref()).map_err(refused)?;
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
        match self.decide(&room, member, request.invite.as_ref())? {
            Verdict::Refuse(why) => Ok(JoinAnswer::Refused { room: room.id, why }.encode()),
            Verdict::IsIn => self.welcome(&room, member, &device),
            Verdict::Let(body) => {
                self.let_in(&room, &device, *body)?;
                let room = self.room_with(&room.id).unwrap_or(room);
                self.welcome(&room, member, &device)
            }
        }
    }

    fn decide(
        &self,
        room: &KnownRoom,
        member: &Membership,
        invite: Option<&InviteUse>,
    ) -> Result<Verdict, Error> {
        let standing = &room.standing;
        let is_in = standing.members.get(&member.agent).is_some_and(|known| {
            let device = known.devices.get(&member.device);
            device.is_some_and(|device| device.entries == member.entries_feed)
        });
        if is_in {
            return Ok(Verdict::IsIn);
        }
        let own = self.role_in(room)?;
        let (members, devices) = (standing.members.len(), standing.devices().count());
        if devices >= ROOM_DEVICES_MAX {
            return Ok(Verdict::Refuse(Refusal::Full));
        }
        let epochs = given(room);
        if member.agent == self.agent {
            let device = member.clone();
            let join = act(Deed::DeviceJoin(DeviceJoin { device, epochs }));
            return Ok(Verdict::Let(Box::new(join)));
        }
        let admit = |role, invite| {
            let member = member.clone();
            Verdict::Let(Box::new(act(Deed::Admit(Admit {
                member,
                role,
                invite,
                epochs,
            }))))
        };
        match (standing.role(&member.agent), invite) {
            // With another device: it stays what it is, if that may be given here.
            (Some(role), _) if own >= Role::Admin && own >= role => Ok(admit(role, None)),
            (Some(_), None) => Ok(Verdict::Refuse(Refusal::OtherDevices)),
            (None, None) => Ok(Verdict::Refuse(Refusal::NoInvite)),
            (None, Some(_)) if members >= ROOM_MEMBERS_MAX => Ok(Verdict::Refuse(Refusal::Full)),
            // A member's further device, whose siblings may all be lost, brings no role with it.
            (_, Some(used)) => {
                let Some(open) = standing.invites.get(&used.public_key) else {
                    return Ok(Verdict::Refuse(Refusal::NoInvite));
                };
                if has_expired(open.expires_at_ms) {
                    return Ok(Verdict::Refuse(Refusal::Expired));
                }
                if open.uses.is_some_and(|uses| open.used >= uses) {
                    return Ok(Verdict::Refuse(Refusal::UsedUp));
                }
                if own < Role::Member {
                    return Err(Error::permission("guests admit nobody"));
                }
                let used = InviteUse {
                    act: open.act,
                    ..*used
                };
                Ok(admit(open.role, Some(used)))
            }
        }
    }

    /// Writes the act that lets a device in; with a new epoch for all where it is not to read what
    /// was before.
    fn let_in(&self, room: &KnownRoom, device: &Device, body: Body) -> Result<(), Error> {
        let mut batch = Batch::default();
        let key = self.act_key(room)?;
        match room.standing.history {
            Some(History::Full) => batch.push(body, key),
            _ => {
                batch.push(body, key);
                let mut readers = readers(&room.standing);
                readers.insert(device.key, device.x25519);
                self.mint(room, room.standing.heads(), &readers, &mut batch)?;
            }
        }
        self.write_batch(room, batch)?;
        self.replan()
    }

    /// Gives a device in the room the keys that the history policy gives it.
    fn welcome(
        &self,
        room: &KnownRoom,
        member: &Membership,
        device: &Device,
    ) -> Result<Bytes, Error> {
        let has = |id: &EpochId| {
            let epoch = room.standing.epochs.get(id);
            epoch.is_some_and(|epoch| epoch.recipients.contains(&device.key))
        };
        let given = given(room);
        let mut keys = RoomKeys::default();
        let is_held = |id: &EpochId| room.keys.secret(id).is_some();
        let newest = room.standing.newest_epochs(MEET_EPOCHS_MAX, is_held);
        let others = room.keys.secrets().map(|(id, _)| *id);
        let others: Vec<EpochId> = others.filter(|id| !newest.contains(id)).collect();
        for id in newest.iter().chain(&others) {
            if let Some(secret) = room.keys.secret(id)
                && (given.contains(id) || has(id))
            {
                keys.secrets.push(secret.clone());
            }
        }
        let follows = |act_id: &EpochId| {
            let mut secrets = keys.secrets.iter();
            secrets.any(|secret| secret.act_key().epoch_id() == *act_id)
        };
        let act_keys = room.keys.act_keys();
        keys.act_keys = act_keys
            .filter(|(id, _)| !follows(id))
            .map(|(_, key)| key.clone())
            .collect();
        let feeds = room.feeds.values().cloned().collect();
        let random = (random()?, random()?, &random()?);
        let answer = JoinAnswer::welcome(
            room.id,
            (&device.x25519, &member.entries_feed),
            random,
            &keys,
            feeds,
        );
        Ok(answer.map_err(refused)?.encode())
    }
}

/// Returns the epochs whose secrets the history policy gives a newcomer, beside the one made for it.
fn given(room: &KnownRoom) -> Vec<EpochId> {
    let gives = |id: &EpochId| match room.standing.history {
        Some(History::Full) => true,
        Some(History::Days(days)) => {
            let epoch = room.standing.epochs.get(id);
            let age = epoch.map(|epoch| wall_ms().saturating_sub(epoch.at_ms));
            age.is_some_and(|age| age <= days_ms(days))
        }
        Some(History::FromJoin) | None => false,
    };
    let held = room.keys.secrets().map(|(id, _)| *id);
    held.filter(gives).collect()
}

/// Returns days in milliseconds.
pub(super) fn days_ms(days: u32) -> u64 {
    u64::from(days) * 24 * 60 * 60 * 1000
}

pub(super) fn refused(error: JoinError) -> Error {
    Error::verification(chain(&error))
}

#[cfg(test)]
pub(super) mod tests {
    use kinlog_feeds::KeyPair;
    use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash};
    use kinlog_swarm::{Certificate, SessionId, SessionRole, Transport};

    use super::*;
    use crate::knowledge::{Member, MemberDevice};
    use crate::links::{Invite, Link};
    use crate::rooms::{InviteTerms, RoomTerms};
    use crate::test_folder::TestFolder;

    /// An invite of a room by one of its members.
    pub(in crate::rooms) fn invited(core: &Core, room: &KnownRoom, role: Role) -> Invite {
        let terms = InviteTerms {
            role,
            ..InviteTerms::OPEN
        };
        let Ok(Link::Join(invite)) = core.invite(room, &terms).unwrap().parse() else {
            unreachable!("an invite is a link to join by");
        };
        invite
    }

    /// A session in which a device has the link of an invite.
    pub(in crate::rooms) fn session(invite: &Invite, device: DeviceKey) -> SessionInfo {
        SessionInfo {
            id: SessionId(1),
            label: Label::Invite,
            key: invite.public_key().0,
            role: SessionRole::Initiator,
            remote_certificate: Some(Certificate {
                device,
                identity_hash: Hash::default(),
            }),
            transport: Transport::Memory,
            path: None,
            plain: false,
        }
    }

    /// What a device that was invited asks with, for two feeds.
    pub(in crate::rooms) fn request(
        core: &Core,
        invite: &Invite,
        entries: KeyPair,
        blobs: KeyPair,
    ) -> Bytes {
        let set = core.own_identity_set().unwrap();
        let signing = core.keys.signing();
        let room = &invite.room;
        let member = Membership::sign(room, core.agent, set, signing, &entries, &blobs);
        JoinRequest::by_invite(*room, member, &invite.key_pair()).encode()
    }

    pub(in crate::rooms) fn pair(number: u8) -> KeyPair {
        KeyPair::from_seed(&[number; 32])
    }

    #[test]
    fn nobody_is_admitted_with_a_feed_of_another_member() {
        let folder = TestFolder::new();
        let (ada, bob) = (folder.core("ada"), folder.core("bob"));
        let room = ada.create_room(&RoomTerms::FAMILY).unwrap();
        let invite = invited(&ada, &room, Role::Member);
        let by_bob = session(&invite, bob.keys.device());
        let stored = ada.state.rooms().unwrap().remove(0);
        let ada_entries = || ada.keys.feed(&stored.entries_id);
        for stolen in [
            request(&bob, &invite, ada_entries(), pair(8)),
            request(&bob, &invite, pair(7), ada_entries()),
        ] {
            assert!(ada.admit(&by_bob, &stolen).is_err());
        }
        let honest = request(&bob, &invite, pair(7), pair(8));
        for _ in 0..2 {
            let answer = JoinAnswer::decode(&ada.admit(&by_bob, &honest).unwrap()).unwrap();
            assert!(matches!(answer, JoinAnswer::Welcome { .. }), "{answer:?}");
        }
        let devices = ada.room(&room.id.to_string()).unwrap().devices();
        assert_eq!(devices, [ada.keys.device(), bob.keys.device()].into());
        let by_another = session(&invite, DeviceKey([3; 32]));
        assert!(ada.admit(&by_another, &honest).is_err());
    }

    /// Lets Bob ask for a room that Ada thinks has so many other members with so many devices each, and
    /// returns what he hears.
    fn asked_where(members: usize, devices: usize) -> JoinAnswer {
        let folder = TestFolder::new();
        let (ada, bob) = (folder.core("ada"), folder.core("bob"));
        let room = ada.create_room(&RoomTerms::FAMILY).unwrap();
        let invite = invited(&ada, &room, Role::Member);
        let number = |number: usize| {
            let mut key = [0xee; 32];
            key[..8].copy_from_slice(&(number as u64).to_be_bytes());
            key
        };
        let device = |at: usize| MemberDevice {
            entries: FeedKey(number(at)),
            blobs: FeedKey(number(at)),
            x25519: number(at),
        };
        ada.knowledge(|knowledge| {
            let room = knowledge.rooms.get_mut(&room.id).unwrap();
            for at in 0..members {
                let of = at * devices..(at + 1) * devices;
                let member = Member {
                    role: Role::Member,
                    devices: of.map(|at| (DeviceKey(number(at)), device(at))).collect(),
                };
                room.standing.members.insert(AgentId(number(at)), member);
            }
        });
        let by_bob = session(&invite, bob.keys.device());
        let asked = request(&bob, &invite, pair(7), pair(8));
        JoinAnswer::decode(&ada.admit(&by_bob, &asked).unwrap()).unwrap()
    }

    fn is_full(answer: &JoinAnswer) -> bool {
        matches!(
            answer,
            JoinAnswer::Refused {
                why: Refusal::Full,
                ..
            }
        )
    }

    #[test]
    fn room_members_max_are_in_a_room_and_nobody_more_is_let_in() {
        // Ada is one of them.
        let last = asked_where(ROOM_MEMBERS_MAX - 2, 1);
        assert!(matches!(last, JoinAnswer::Welcome { .. }), "{last:?}");
        let beyond = asked_where(ROOM_MEMBERS_MAX - 1, 1);
        assert!(is_full(&beyond), "{beyond:?}");
        let told = Refusal::Full.as_str();
        assert!(
            told.contains(&format!("{ROOM_MEMBERS_MAX} members")),
            "{told}"
        );
    }

    #[test]
    fn room_devices_max_are_in_a_room_and_none_more_is_let_in() {
        let (members, devices) = (7, (ROOM_DEVICES_MAX - 1) / 7);
        assert_eq!(members * devices, ROOM_DEVICES_MAX - 1, "with Ada's one");
        let beyond = asked_where(members, devices);
        assert!(is_full(&beyond), "{beyond:?}");
        let last = asked_where(members - 1, devices);
        assert!(matches!(last, JoinAnswer::Welcome { .. }), "{last:?}");
        let told = Refusal::Full.as_str();
        assert!(
            told.contains(&format!("{ROOM_DEVICES_MAX} devices")),
            "{told}"
        );
    }
}
