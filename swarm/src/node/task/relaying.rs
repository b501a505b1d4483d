//! Circuits: what this node relays for others, and what others relay for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinlog_feeds::{PublicKey, Time};

use super::Task;
use crate::limits::CIRCUITS_PER_SESSION_MAX;
use crate::link::LinkError;
use crate::link::relayed::{RelayedEnd, RelayedLink, ToRelay, end};
use crate::node::circuits::CircuitEnd;
use crate::node::introductions::{MeetingKey, PeerPath};
use crate::session::{
    Beyond, CircuitMessage, CircuitRefusal, Command, MeshMessage, SessionId, SessionRole,
};

/// One circuit that another peer relays: by which path, and its number.
type Name = (PeerPath, u64);

/// Sessions of this node that others relay.
#[derive(Debug, Default)]
pub(super) struct RelayedSessions {
    ends: BTreeMap<Name, (SessionId, RelayedEnd)>,
}

impl RelayedSessions {
    /// A session ended: whether it was relayed or relayed others.
    pub(super) fn handle_session_closed(&mut self, session: SessionId) {
        self.ends
            .retain(|(path, _), (of, _)| *of != session && path.introducer() != Some(session));
    }

    /// Returns whether one peer relays as many of them as it may.
    fn is_full(&self, relay: SessionId) -> bool {
        let paths = self.ends.keys().map(|(path, _)| path);
        paths
            .filter(|path| path.introducer() == Some(relay))
            .count()
            >= CIRCUITS_PER_SESSION_MAX
    }

    /// Takes what the relay says; returns whether the circuit is still one.
    fn handle(&mut self, name: &Name, message: CircuitMessage) -> bool {
        let Some((_, end)) = self.ends.get(name) else {
            return false;
        };
        let taken = match message {
            CircuitMessage::Data(bytes) => end.handle_data(bytes),
            CircuitMessage::Credit(bytes) => end.handle_credit(bytes),
            _ => return false,
        };
        if let Err(error) = taken {
            tracing::debug!(%error, "circuit closed");
            self.ends.remove(name);
        }
        taken.is_ok()
    }
}

impl Task {
    /// Hands on what is due of circuits.
    pub(super) fn relay(&mut self) {
        let now = self.parts.clock.now();
        while let Some((session, message)) = self.circuits.poll_send(now) {
            self.say(session, message);
        }
    }

    /// Takes what one of two says to the other by this node.
    pub(super) fn handle_relaying(
        &mut self,
        now: Time,
        id: SessionId,
        peer: PublicKey,
        number: u64,
        message: CircuitMessage,
    ) {
        if message != CircuitMessage::Open {
            self.circuits.handle_message(now, id, peer, number, message);
            return;
        }
        let Some(from) = self.introducer.peer(id) else {
            return;
        };
        let direct = |session: &SessionId| !self.is_relayed(*session);
        let to = self.introducer.between(id, peer).filter(direct);
        let to = to.filter(|_| direct(&id));
        let from = CircuitEnd {
            session: id,
            peer: from,
        };
        self.circuits.handle_open(now, from, peer, number, to);
    }

    /// Asks whoever introduced a peer to relay to it.
    pub(super) fn ask_for_circuit(&self, path: &PeerPath, number: u64) {
        self.say_beyond(path, number, CircuitMessage::Open);
    }

    /// Takes what the introducer says of a circuit of this node, or the other end by it.
    pub(super) async fn handle_relayed(
        &mut self,
        now: Time,
        path: PeerPath,
        number: u64,
        message: CircuitMessage,
    ) {
        match message {
            CircuitMessage::Open => self.accept_circuit(path, number).await,
            CircuitMessage::Accepted => {
                let met = self.met_by(&path).filter(|_| self.has_room());
                if !self.introductions.is_opening(&path, number) {
                    self.say_beyond(&path, number, CircuitMessage::Closed);
                } else if let Some((meeting, _)) = met {
                    self.start_relayed(path, number, SessionRole::Initiator, meeting)
                        .await;
                }
            }
            CircuitMessage::Refused(reason) => {
                tracing::debug!(?reason, "no circuit");
                self.introductions.handle_circuit_failed(now, path, number);
            }
            CircuitMessage::Closed => {
                self.introductions.handle_circuit_failed(now, path, number);
                self.relayed.ends.remove(&(path, number));
            }
            message @ (CircuitMessage::Data(_) | CircuitMessage::Credit(_)) => {
                if !self.relayed.handle(&(path, number), message) {
                    self.say_beyond(&path, number, CircuitMessage::Closed);
                }
            }
        }
    }

    pub(super) fn is_relayed(&self, id: SessionId) -> bool {
        let entry = self.sessions.entries.get(&id);
        entry.is_some_and(|entry| entry.is_relayed())
    }

    async fn accept_circuit(&mut self, path: PeerPath, number: u64) {
        // Whoever opens one again has lost the one before.
        self.relayed.ends.retain(|(of, _), _| *of != path);
        let relay = path.introducer();
        let is_full = relay.is_none_or(|relay| self.relayed.is_full(relay));
        let met = self.met_by(&path).filter(|_| self.has_room() && !is_full);
        let now = self.parts.clock.now();
        let accepted = met.filter(|(meeting, own)| {
            self.introductions
                .handle_circuit_open(now, path, *meeting, *own)
        });
        let Some((meeting, _)) = accepted else {
            let refusal = CircuitMessage::Refused(CircuitRefusal::NotWanted);
            self.say_beyond(&path, number, refusal);
            return;
        };
        self.say_beyond(&path, number, CircuitMessage::Accepted);
        self.start_relayed(path, number, SessionRole::Responder, meeting)
            .await;
    }

    async fn start_relayed(
        &mut self,
        path: PeerPath,
        number: u64,
        role: SessionRole,
        meeting: MeetingKey,
    ) {
        let Some((link, end)) = self.circuit_link(&path, number) else {
            return;
        };
        let link = Arc::new(link);
        let session = self.start_met(link, Some(path), role, meeting).await;
        match session {
            Ok(session) => {
                self.relayed.ends.insert((path, number), (session, end));
                self.introductions.handle_circuit_session(path, session);
            }
            Err(error) => {
                tracing::error!(%error, "session not started");
                let now = self.parts.clock.now();
                self.introductions.handle_circuit_failed(now, path, number);
            }
        }
    }

    fn circuit_link(&self, path: &PeerPath, number: u64) -> Option<(RelayedLink, RelayedEnd)> {
        let relay = self.sessions.entries.get(&path.introducer()?)?;
        let (commands, beyond) = (relay.commands.clone(), Beyond::To(path.peer));
        Some(end(move |told| {
            let message = match told {
                ToRelay::Data(bytes) => CircuitMessage::Data(bytes),
                ToRelay::Credit(bytes) => CircuitMessage::Credit(bytes),
                ToRelay::Closed => CircuitMessage::Closed,
            };
            let message = MeshMessage::Circuit {
                beyond,
                number,
                message,
            };
            let sent = commands.send(Command::Mesh(message));
            sent.map_err(|_| LinkError::Closed)
        }))
    }

    fn say_beyond(&self, path: &PeerPath, number: u64, message: CircuitMessage) {
        if let Some(introducer) = path.introducer() {
            let beyond = Beyond::To(path.peer);
            let message = MeshMessage::Circuit {
                beyond,
                number,
                message,
            };
            self.say(introducer, message);
        }
    }
}
