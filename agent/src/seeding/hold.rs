//! The seeder's side: taking grants, showing them, hearing of new ones and of their end.

use bytes::Bytes;
use kinlog_feeds::crypto::{DeviceKey, Hash};
use kinlog_indexer::grant::{RoomTag, SeedGrant};
use kinlog_swarm::{Label, PeerMessage, SessionInfo};

use crate::api::{Error, ErrorKind};
use crate::core::Core;
use crate::failure::chain;
use crate::limits::{GRANTS_HELD_MAX, GRANTS_OF_ROOM_MAX};
use crate::links::GrantLink;
use crate::state::HeldGrant;
use crate::wall::wall_ms;

impl Core {
    /// Takes a grant that a member gave by a link.
    pub(crate) fn accept_grant(&self, link: &GrantLink) -> Result<HeldGrant, Error> {
        let terms = link.grant.terms();
        if terms.grantee != self.agent {
            return Err(Error::permission(format!(
                "the grant is for agent {}, this is {}",
                terms.grantee, self.agent
            ))
            .hint("give the member the link that `kinlog id` shows here"));
        }
        if link.grant.is_expired(wall_ms()) {
            return Err(Error::permission("the grant has expired").hint("ask for a new one"));
        }
        let held = self.knowledge(|knowledge| {
            if knowledge
                .rooms
                .keys()
                .any(|room| RoomTag::of(room) == terms.room_tag)
            {
                return Err(Error::usage(
                    "the grant is for a room that this agent is in: it is kept here already",
                ));
            }
            Ok(knowledge.held_grants.len())
        })?;
        if held >= GRANTS_HELD_MAX {
            return Err(Error::new(
                ErrorKind::Quota,
                format!("{held} seed grants are held, at most {GRANTS_HELD_MAX}"),
            )
            .hint("`kinlog seed list` shows them, `kinlog seed drop GRANT` gives one up"));
        }
        for url in &link.signal_urls {
            self.state.add_signal(url)?;
        }
        self.take_grant(&link.grant)
    }

    fn take_grant(&self, grant: &SeedGrant) -> Result<HeldGrant, Error> {
        self.state.add_held_grant(grant)?;
        self.relearn()?;
        self.replan()?;
        let meet_key = *grant.terms().meet_key.expose();
        if let Some(network) = self.network() {
            for session in network.sessions_about(Label::Room, &meet_key) {
                self.show_grants(&session)?;
            }
        }
        let hash = grant.hash();
        let held = self.knowledge(|knowledge| {
            let mut held = knowledge.held_grants.iter();
            held.find(|held| held.hash == hash).cloned()
        });
        held.ok_or_else(|| Error::general("the grant that was just written is not there"))
    }

    /// Shows on a session the grants that name its meet key.
    pub(crate) fn show_grants(&self, session: &SessionInfo) -> Result<(), Error> {
        let Some(network) = self.network() else {
            return Ok(());
        };
        let grants: Vec<Bytes> = self.knowledge(|knowledge| {
            let held = knowledge.held_grants.iter();
            let shown = held.filter(|held| {
                held.is_live(knowledge.now_ms)
                    && *held.grant.terms().meet_key.expose() == session.key
            });
            shown.map(|held| held.grant.encode()).collect()
        });
        if grants.is_empty() {
            return Ok(());
        }
        let identity_set = self.own_identity_set()?;
        for grant in grants {
            let identity_set = identity_set.clone();
            let proof = PeerMessage::SeedProof {
                grant,
                identity_set,
            };
            network.send(session.id, proof);
        }
        Ok(())
    }

    /// Works on what the other side of a session says of seed grants.
    pub(crate) fn hear_of_seeding(
        &self,
        session: &SessionInfo,
        message: PeerMessage,
    ) -> Result<(), Error> {
        match message {
            PeerMessage::SeedProof {
                grant,
                identity_set,
            } => self.see_proof(session, &grant, identity_set),
            PeerMessage::SeedRenewal { grant } => self.renew_grant(session, &grant),
            PeerMessage::SeedEnd { hash } => self.end_grant(session, &hash),
            PeerMessage::SeedCleared(clearing) => self.take_clearing(session, &clearing),
            _ => Ok(()),
        }
    }

    /// Takes a renewed grant of a member's device that gave one before: what it says may be another
    /// meet key and other feeds, but never more than was accepted: not for longer, not of another class.
    fn renew_grant(&self, session: &SessionInfo, grant: &Bytes) -> Result<(), Error> {
        let grant = SeedGrant::decode(grant)
            .map_err(|error| Error::verification(format!("renewed {}", chain(&error))))?;
        let (hash, terms) = (grant.hash(), grant.terms());
        is_giver(session, &grant.device())?;
        let now_ms = wall_ms();
        let (is_held, accepted) = self.knowledge(|knowledge| {
            let of_room: Vec<HeldGrant> = knowledge
                .held_grants
                .iter()
                .filter(|held| is_of(held, &terms.room_tag, &grant.device()))
                .cloned()
                .collect();
            (of_room.iter().any(|held| held.hash == hash), of_room)
        });
        if is_held {
            return Ok(());
        }
        let fits = |held: &HeldGrant| {
            let before = held.grant.terms();
            held.is_live(now_ms)
                && terms.expires_at_ms <= before.expires_at_ms
                && terms.quota_class == before.quota_class
        };
        if terms.grantee != self.agent || !accepted.iter().any(fits) {
            return Err(Error::permission(
                "renewed seed grant that goes beyond what was accepted",
            ));
        }
        // The oldest that ended go first.
        for held in accepted.iter().filter(|held| !held.is_live(now_ms)) {
            self.state.drop_held_grant(&held.hash)?;
        }
        let live = accepted.iter().filter(|held| held.is_live(now_ms)).count();
        if live >= GRANTS_OF_ROOM_MAX {
            return Err(Error::new(
                ErrorKind::Quota,
                format!(
                    "renewed seed grant beside {live} of the same member, at most {GRANTS_OF_ROOM_MAX}"
                ),
            ));
        }
        self.take_grant(&grant).map(|_| ())
    }

    /// Notes that a member's device ended a grant of its own.
    fn end_grant(&self, session: &SessionInfo, hash: &Hash) -> Result<(), Error> {
        let held = self.knowledge(|knowledge| {
            let mut held = knowledge.held_grants.iter();
            held.find(|held| held.hash == *hash).cloned()
        });
        let Some(held) = held else { return Ok(()) };
        is_giver(session, &held.grant.device())?;
        if held.is_ended {
            return Ok(());
        }
        tracing::info!(grant = %hash, "a seed grant was ended by the member who gave it");
        self.state.end_held_grant(hash)?;
        self.relearn()?;
        self.replan()
    }
}

/// Returns whether a grant is one that `device` gave for a room.
pub(crate) fn is_of(held: &HeldGrant, room: &RoomTag, device: &DeviceKey) -> bool {
    held.grant.terms().room_tag == *room && held.grant.device() == *device
}

/// Fails unless the other side of a session is `device`.
fn is_giver(session: &SessionInfo, device: &DeviceKey) -> Result<(), Error> {
    match session.remote_certificate {
        Some(certificate) if certificate.device == *device => Ok(()),
        _ => Err(Error::permission(
            "what another device than the giver says of a seed grant",
        )),
    }
}
