//! Rooms of two: messages from one agent to another.

use kinlog_feeds::crypto::{AgentId, DeviceKey, PublicKey};
use kinlog_feeds::store::Appended;
use kinlog_indexer::entry::{History, Role};
use kinlog_swarm::{Label, PeerMessage, SessionInfo};

use crate::api::Error;
use crate::core::Core;
use crate::knowledge::KnownRoom;
use crate::links::{Invite, Link};
use crate::rooms::{InviteTerms, RoomMessage, RoomTerms};
use crate::state::OwnFeed;

/// Name of every room of two; each shows it under the name of the other.
pub(crate) const DIRECT_NAME: &str = "direct";

/// A message to one agent.
#[derive(Debug)]
pub(crate) struct DirectSent {
    pub(crate) room: KnownRoom,
    pub(crate) own: OwnFeed,
    pub(crate) appended: Appended,
    /// For the other agent, who is not in the room yet.
    pub(crate) link: Option<String>,
}

impl Core {
    /// Writes to one agent, in the room of the two; makes it if there is none.
    pub(crate) fn send_direct(&self, agent: &AgentId, text: &str) -> Result<DirectSent, Error> {
        if *agent == self.agent {
            return Err(Error::usage("this agent itself is nobody to write to"));
        }
        let known = self.knowledge(|knowledge| {
            let rooms = knowledge.rooms.values();
            let is_meant = |room: &&KnownRoom| {
                room.direct == Some(*agent) && !room.standing.gone.contains_key(&self.agent)
            };
            rooms.filter(is_meant).min_by_key(|room| room.id).cloned()
        });
        let room = match known {
            Some(room) => room,
            None => self.create_room(&RoomTerms {
                name: DIRECT_NAME,
                history: History::Full,
                direct: Some(*agent),
            })?,
        };
        let (own, appended) = self.send(&room, text)?;
        let link = match room.standing.role(agent) {
            Some(_) => None,
            None => Some(self.invite_to_talk(&room, agent)?),
        };
        Ok(DirectSent {
            room,
            own,
            appended,
            link,
        })
    }

    /// Returns the link for the other agent of a room of two, and sends it where the two meet already.
    fn invite_to_talk(&self, room: &KnownRoom, agent: &AgentId) -> Result<String, Error> {
        let terms = InviteTerms {
            role: Role::Owner,
            expires_at_ms: None,
            uses: Some(1),
        };
        let is_open = |key: &PublicKey| {
            let invite = room.standing.invites.get(key);
            invite.is_some_and(|invite| invite.uses == Some(1) && invite.used == 0)
        };
        let held = self.state.invites()?.into_iter();
        let held = held.filter(|(id, key, _)| *id == room.id && is_open(key));
        let link = match held.map(|(_, _, seed)| seed).next() {
            Some(seed) => Link::Join(Invite {
                room: room.id,
                seed,
                signal_urls: self.state.signals()?,
            })
            .to_string(),
            None => self.invite(room, &terms)?,
        };
        if let (Some(network), Ok(Link::Join(invite))) = (self.network(), link.parse()) {
            let bytes = RoomMessage::Direct(invite).encode();
            for session in self.sessions_with(agent) {
                let bytes = bytes.clone();
                network.send(session.id, PeerMessage::Room { bytes });
            }
        }
        Ok(link)
    }

    /// Returns the sessions of rooms with devices of an agent.
    fn sessions_with(&self, agent: &AgentId) -> Vec<SessionInfo> {
        let Some(network) = self.network() else {
            return Vec::new();
        };
        let rooms =
            self.knowledge(|knowledge| knowledge.rooms.values().cloned().collect::<Vec<_>>());
        let shared = rooms
            .iter()
            .filter(|room| room.standing.role(agent).is_some());
        let keys = shared.flat_map(|room| room.meet_keys().into_iter().map(move |key| (room, key)));
        keys.flat_map(|(room, key)| {
            let sessions = network.sessions_about(Label::Room, &key).into_iter();
            sessions.filter(|session| {
                let shown = session.remote_certificate.map(|shown| shown.device);
                shown.is_some_and(|device| room.standing.has_device(agent, &device))
            })
        })
        .collect()
    }

    /// Joins a room of two to which a member of a common room invites.
    pub(super) fn asked_to_talk(
        &self,
        session: &SessionInfo,
        device: &DeviceKey,
        invite: &Invite,
    ) -> Result<(), Error> {
        let agent = self.room_met_by(&session.key).and_then(|room| {
            let mut devices = room.standing.devices();
            devices
                .find(|(_, key, _)| *key == device)
                .map(|(agent, ..)| *agent)
        });
        let Some(agent) = agent else {
            return Err(Error::permission(
                "asked to talk by who is in no room of ours",
            ));
        };
        let is_known = self.knowledge(|knowledge| {
            let joins = knowledge.joins.iter().map(|join| join.invite.room);
            let mut talks = knowledge.rooms.values().map(|room| room.direct);
            knowledge.rooms.contains_key(&invite.room)
                || joins.into_iter().any(|room| room == invite.room)
                || talks.any(|with| with == Some(agent))
        });
        if is_known {
            return Ok(());
        }
        // The servers that its sender knows are none of this agent's business.
        self.ask_to_join(&Invite {
            signal_urls: Vec::new(),
            ..invite.clone()
        })
    }

    /// Returns the other agent of a room of two.
    pub(super) fn direct_with(&self, name: &str, members: &[AgentId]) -> Option<AgentId> {
        let mut others = members.iter().filter(|agent| **agent != self.agent);
        match (others.next(), others.next()) {
            (Some(other), None) if name == DIRECT_NAME => Some(*other),
            _ => None,
        }
    }
}
