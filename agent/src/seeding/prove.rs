//! The members' side of a session with a seeder: is the grant that it shows good, and what is new of it?

use bytes::Bytes;
use kinlog_feeds::crypto::AgentId;
use kinlog_indexer::RoomId;
use kinlog_indexer::grant::SeedGrant;
use kinlog_swarm::{PeerMessage, SessionInfo};

use crate::api::Error;
use crate::core::Core;
use crate::failure::chain;
use crate::knowledge::{GrantStanding, KnownAgent, ProvenGrant};
use crate::limits::GRANTS_OF_ROOM_MAX;
use crate::wall::wall_ms;

impl Core {
    /// Takes a grant that the other side of a session shows with the identity set of its agent. What it
    /// is worth is decided anew with every plan: by the room's acts.
    pub(super) fn see_proof(
        &self,
        session: &SessionInfo,
        grant: &[u8],
        identity_set: Bytes,
    ) -> Result<(), Error> {
        let grant = SeedGrant::decode(grant)
            .map_err(|error| Error::verification(format!("shown {}", chain(&error))))?;
        let terms = grant.terms();
        let known = KnownAgent::verify(&terms.grantee, identity_set)
            .map_err(|error| Error::verification(format!("seeder's {}", chain(&error))))?;
        let device = session.remote_certificate.map(|shown| shown.device);
        if device.is_none_or(|device| known.identity.device(&device).is_none()) {
            return Err(Error::permission(
                "seed grant of another agent than the session's",
            ));
        }
        let room = self.knowledge(|knowledge| {
            let mut rooms = knowledge.rooms.values();
            rooms
                .find(|room| room.meet_keys().contains(&session.key))
                .cloned()
        });
        let Some(room) = room.filter(|_| *terms.meet_key.expose() == session.key) else {
            return Err(Error::permission(
                "seed grant of another room than the session's",
            ));
        };
        if room.grant_standing(&grant, wall_ms()) != GrantStanding::Nothing {
            let proven = ProvenGrant {
                room: room.id,
                hash: grant.hash(),
                grant: grant.clone(),
            };
            self.knowledge(|knowledge| {
                let shown = knowledge.proven.entry(session.id).or_default();
                if shown.iter().all(|one| one.hash != proven.hash)
                    && shown.len() < GRANTS_OF_ROOM_MAX
                {
                    shown.push(proven);
                }
            });
            self.replan()?;
        }
        if grant.device() == self.keys.device() {
            self.tell_seeder(session, &room.id, &grant);
        }
        Ok(())
    }

    /// Forgets what was shown on a session.
    pub(crate) fn forget_proofs(&self, session: &SessionInfo) {
        self.knowledge(|knowledge| knowledge.proven.remove(&session.id));
    }

    /// Tells a seeder that showed a grant of this device's which ones hold now: new ones first, so that
    /// it is never without any.
    fn tell_seeder(&self, session: &SessionInfo, room: &RoomId, shown: &SeedGrant) {
        let Some(network) = self.network() else {
            return;
        };
        let (hash, seeder) = (shown.hash(), shown.terms().grantee);
        let given = self.knowledge(|knowledge| knowledge.given_grants.clone());
        let given: Vec<_> = given
            .iter()
            .filter(|given| given.is_for(room, &seeder))
            .collect();
        for one in given.iter().filter(|one| one.hash != hash) {
            let grant = one.grant.encode();
            network.send(session.id, PeerMessage::SeedRenewal { grant });
        }
        if given.iter().all(|one| one.hash != hash) {
            network.send(session.id, PeerMessage::SeedEnd { hash });
        }
        if !given.is_empty() {
            self.hand_over_clearings(session, room);
        }
    }

    /// Tells every connected seeder of a room what changed.
    pub(super) fn tell_seeders(&self, room: &RoomId, seeder: &AgentId) {
        let Some(network) = self.network() else {
            return;
        };
        let shown: Vec<_> = self.knowledge(|knowledge| {
            let device = self.keys.device();
            let proven = knowledge
                .proven
                .iter()
                .flat_map(|(session, all)| all.iter().map(move |one| (*session, one.clone())));
            let ours = proven.filter(|(_, one)| {
                one.room == *room
                    && one.grant.terms().grantee == *seeder
                    && one.grant.device() == device
            });
            ours.collect()
        });
        for (session, one) in shown {
            if let Some(session) = network.session(session) {
                self.tell_seeder(&session, room, &one.grant);
            }
        }
    }
}
