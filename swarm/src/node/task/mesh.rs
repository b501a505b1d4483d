//! Peers introduce peers: what sessions say about others of their meeting, and what this node says.

use bytes::Bytes;
use kinlog_feeds::{KeyPair, PublicKey, Time};
use kinlog_signal::SignalKind;

use super::{Task, random};
use crate::clock::unix_seconds;
use crate::node::introducer::introduces;
use crate::node::introductions::{MeetingKey, PeerPath, Via};
use crate::node::sessions::Entry;
use crate::node::{NodeEvent, PeerStatus, RelayStatus};
use crate::session::{Beyond, Command, FoundPeer, MeshMessage, Reach, Relays, SessionId};

impl Task {
    /// A session opened: both sides ask each other whom they have, and are told of to others.
    pub(super) fn mesh_opened(&mut self, id: SessionId, their: Option<Relays>) {
        let now = self.parts.clock.now();
        let Some(entry) = self.sessions.entries.get(&id) else {
            return;
        };
        let Some(handshake) = entry.handshake else {
            return;
        };
        let (meeting, peer) = (entry.info.meeting(), PublicKey(handshake.remote_static));
        if !entry.info.plain {
            let relayed = entry.is_relayed();
            self.introductions
                .handle_session_open(now, entry.path, id, meeting, peer, relayed);
        }
        if let Some(Relays(relays)) = their {
            // Nothing is relayed by what is relayed itself.
            let relays = relays && !self.is_relayed(id);
            self.introductions.handle_introducer(id, relays);
            self.introducer.handle_open(now, id, meeting, peer, relays);
            // Unlike any other: by two ways the same question is answered once.
            let [number @ .., _] = handshake.hash.first_chunk::<9>().copied().unwrap_or([1; 9]);
            let request_id = u64::from_le_bytes(number).max(1);
            self.introductions.handle_asked(now, &meeting, id);
            let reach = Reach::Further;
            self.say(id, MeshMessage::Query { request_id, reach });
        }
    }

    /// Takes what the other side of a session says about others, or for them.
    pub(super) async fn handle_mesh(&mut self, id: SessionId, message: MeshMessage) {
        let now = self.parts.clock.now();
        match message {
            MeshMessage::Query { request_id, reach } => {
                self.introducer.handle_query(now, id, request_id, reach);
            }
            MeshMessage::Parting => self.handle_parting(now, id),
            MeshMessage::State { peers, gone, .. } => {
                // Of those who are known already nothing is new, but perhaps who they are.
                self.handle_found(now, id, &peers, &gone);
            }
            MeshMessage::Found {
                request_id,
                peers,
                gone,
            } => {
                if self.introducer.handle_answer(now, id, request_id, &peers) {
                    return;
                }
                self.handle_found(now, id, &peers, &gone);
                if request_id != 0 {
                    self.introductions.handle_told(now, id);
                }
            }
            MeshMessage::Introduced {
                beyond: Beyond::To(peer),
                kind,
                body,
            } => {
                if let Some((session, from)) = self.introducer.carry(now, id, peer) {
                    let beyond = Beyond::From(from);
                    self.say(session, MeshMessage::Introduced { beyond, kind, body });
                }
            }
            MeshMessage::Introduced {
                beyond: Beyond::From(peer),
                kind,
                body,
            } => self.handle_introduced(id, peer, kind, body),
            MeshMessage::Circuit {
                beyond: Beyond::To(peer),
                number,
                message,
            } => self.handle_relaying(now, id, peer, number, message),
            MeshMessage::Circuit {
                beyond: Beyond::From(peer),
                number,
                message,
            } => {
                let path = PeerPath::by_peer(id, peer);
                self.handle_relayed(now, path, number, message).await;
            }
        }
    }

    /// Asks again for peers of peers' peers that are known by that alone.
    pub(super) fn look_further(&mut self, now: Time) {
        for session in self.introductions.look_further(now) {
            if let Ok(number) = random() {
                let request_id = u64::from_le_bytes(number).max(1);
                let reach = Reach::Further;
                self.say(session, MeshMessage::Query { request_id, reach });
            }
        }
    }

    /// Tells whoever asked of who came and went.
    pub(super) fn tell_found(&mut self) {
        let now = self.parts.clock.now();
        while let Some((session, found)) = self.introducer.poll_found(now, unix_seconds()) {
            self.say(session, found);
        }
    }

    /// Tells how it goes on with peers.
    pub(super) fn tell_changes(&mut self) {
        while let Some(change) = self.introductions.poll_change() {
            self.tell(NodeEvent::PeerStateChanged {
                label: change.meeting.0,
                key: change.meeting.1,
                peer: change.path.peer.0,
                state: change.to,
            });
        }
    }

    /// Returns who this node is to the others of a meeting, once it has had a session there.
    pub(super) fn own_static(&self, meeting: &MeetingKey) -> Option<PublicKey> {
        let seed = self.statics.get(meeting)?;
        Some(KeyPair::from_seed(seed).public_key())
    }

    fn handle_found(&mut self, now: Time, id: SessionId, peers: &[FoundPeer], gone: &[PublicKey]) {
        for peer in gone {
            self.introductions
                .handle_peer_left(PeerPath::by_peer(id, *peer));
        }
        let any = PeerPath::by_peer(id, PublicKey([0; 32]));
        let Some((meeting, own)) = self.met_by(&any) else {
            return;
        };
        // Whose device somebody is counts where the members of a meeting show theirs, as this one did.
        let entry = self.sessions.entries.get(&id);
        let is_certified = entry.is_some_and(|entry| entry.device().is_some());
        let names_devices = meeting.0.is_private() && is_certified;
        for found in peers {
            let device = found.device.filter(|_| names_devices);
            if self.bans.is_banned(now, &found.peer.0) {
                continue;
            }
            if let Some(via) = found.via {
                self.introductions
                    .handle_further(now, id, found.peer, via, device);
                continue;
            }
            let path = PeerPath::by_peer(id, found.peer);
            if !self.introductions.is_shown(&path) {
                self.introductions
                    .handle_peer_joined(now, path, meeting, own);
            }
            self.introductions.handle_device(&path, device);
        }
    }

    fn handle_introduced(&mut self, id: SessionId, peer: PublicKey, kind: SignalKind, body: Bytes) {
        let via = Via::Peer(id);
        self.handle_signal(PeerPath { via, peer }, kind, body);
    }

    pub(super) fn say(&self, id: SessionId, message: MeshMessage) {
        self.sessions.command(id, Command::Mesh(message));
    }

    /// Returns whether a session of this meeting introduces, and whether it relays.
    pub(super) fn introducing(&self, meeting: &MeetingKey) -> Option<Relays> {
        let config = &self.parts.config;
        (config.introduces && introduces(meeting.0)).then_some(Relays(config.relays))
    }

    pub(super) fn peers_status(&self) -> Vec<PeerStatus> {
        let text = kinlog_feeds::text::encode;
        let status = self.introductions.view().into_iter().map(|view| {
            let entry = view.session.and_then(|id| self.sessions.entries.get(&id));
            let device = entry.and_then(Entry::device);
            let told = view.device.map(|device| text(&device.0));
            PeerStatus {
                label: view.meeting.0,
                key: text(&view.meeting.1),
                peer: text(&view.peer.0),
                state: view.state,
                failures: view.failures,
                session: view.session.map(|id| id.0),
                device: device.or(told),
                beyond: view.beyond.map(|via| text(&via.0)),
                introduced_by: view.via.iter().map(|via| self.name_of(via)).collect(),
                via: entry.and_then(|entry| self.sessions.relay_of(entry)),
            }
        });
        status.collect()
    }

    pub(super) fn relay_status(&self) -> RelayStatus {
        let counted = self.introducer.counted();
        RelayStatus {
            relays: self.parts.config.relays,
            introductions: counted.carried,
            surplus: counted.surplus,
            circuits: self.circuits.len(),
            circuit_bytes: self.circuits.relayed().bytes,
            circuits_refused: self.circuits.relayed().refused,
        }
    }

    pub(super) fn name_of(&self, via: &Via) -> String {
        match via {
            Via::Signal { server, .. } => self.signalling.url(*server),
            Via::Peer(session) => format!("peer {session}"),
        }
    }
}
