//! What is said on sessions of a room beside its feeds: that somebody was removed, invites to rooms of
//! two.

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_swarm::{Label, PeerMessage, SessionInfo};

use crate::api::Error;
use crate::core::Core;
use crate::failure::chain;
use crate::knowledge::{Gone, KnownRoom};
use crate::rooms::{RemovedNotice, RoomMessage};

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
        }
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
