//! From a topic to a link: what signal servers tell, and attempts to connect.

use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::{PublicKey, Time};
use kinlog_signal::{ClientEvent, Refusal, RefusalCode, SignalKind};
use tokio::sync::mpsc;

use super::{Attempted, Running, Task};
use crate::limits::{NEGOTIATION_SIGNALS_MAX, SESSIONS_MAX};
use crate::link::Link;
use crate::link::webrtc::{self, FromPeer};
use crate::node::connects::ConnectFailure;
use crate::node::introductions::{Action, MeetingKey, PeerPath, Via};
use crate::node::negotiate::{Attempt, Carrier};
use crate::node::status::FoundBy;
use crate::node::{NodeEvent, Step};
use crate::session::SessionRole;

impl Task {
    pub(super) fn handle_signal_event(&mut self, server: usize, event: ClientEvent) {
        let now = self.parts.clock.now();
        match event {
            ClientEvent::Connected => {
                self.point_reached(server);
                if self.signalling.found_by(server) == Some(FoundBy::Signal) {
                    self.tell(NodeEvent::SignalConnected {
                        url: self.signalling.url(server),
                    });
                }
            }
            ClientEvent::Disconnected { reason, retry_in } => {
                self.introductions.handle_server_lost(now, server);
                self.point_failed(server);
                // Others come and go, and say so in the status alone.
                if self.signalling.found_by(server) != Some(FoundBy::Signal) {
                    tracing::debug!(reason, "a meeting point is not reached");
                    return;
                }
                let retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
                let url = self.signalling.url(server);
                self.tell(NodeEvent::StepFailed {
                    step: Step::SignalUnreachable {
                        url,
                        reason,
                        retry_in_ms,
                    },
                });
            }
            ClientEvent::Joined { topic, peers } => {
                self.signalling.has_entered(now, &topic);
                let (Some(meeting), Some(own)) = (
                    self.signalling.meeting(&topic),
                    self.signalling.own_key(server, &topic),
                ) else {
                    return;
                };
                let own = own.public_key();
                let bans = &self.bans;
                let peers: Vec<_> = peers
                    .into_iter()
                    .filter(|peer| !bans.is_banned(now, &peer.0))
                    .collect();
                self.introductions
                    .handle_joined(now, server, topic, meeting, own, &peers);
            }
            ClientEvent::PeerJoined { topic, peer } => {
                let (Some(meeting), Some(own)) = (
                    self.signalling.meeting(&topic),
                    self.signalling.own_key(server, &topic),
                ) else {
                    return;
                };
                if !self.bans.is_banned(now, &peer.0) {
                    let path = PeerPath::signal(server, topic, peer);
                    let own = own.public_key();
                    self.introductions
                        .handle_peer_joined(now, path, meeting, own);
                }
            }
            ClientEvent::PeerLeft { topic, peer } => {
                let path = PeerPath::signal(server, topic, peer);
                self.introductions.handle_peer_left(path);
            }
            ClientEvent::Signal {
                topic,
                from,
                kind,
                body,
            } => {
                let path = PeerPath::signal(server, topic, from);
                self.handle_signal(path, kind, body);
            }
            ClientEvent::IceServers(servers) => self.ice_servers.told(now, server, servers),
            ClientEvent::Refused(refusal) => {
                tracing::debug!(?refusal, "signal server refuses");
                // Asked again later; until then nobody is met there, and somebody may wait for that.
                let topic = refusal.topic.filter(|_| is_refused_entry(&refusal));
                if let Some((label, key)) = topic.and_then(|topic| self.signalling.meeting(&topic))
                {
                    let reason = format!("signal server: {}", refusal.message);
                    self.tell(NodeEvent::StepFailed {
                        step: Step::NotConnected { label, key, reason },
                    });
                }
            }
            _ => {}
        }
    }

    pub(super) fn handle_signal(&mut self, path: PeerPath, kind: SignalKind, body: Bytes) {
        let now = self.parts.clock.now();
        let Some(attempt) = webrtc::attempt_of(&body) else {
            return;
        };
        if self.bans.is_banned(now, &path.peer.0) {
            return;
        }
        match kind {
            SignalKind::Offer => self.handle_offer(path, attempt, body),
            SignalKind::Answer => {
                self.introductions.handle_answer(path, attempt);
                self.pass_on(&path, attempt, FromPeer::Answer(body));
            }
            SignalKind::Candidate if webrtc::is_knock(&body) => {
                self.introductions.handle_knock(now, path);
            }
            SignalKind::Candidate => {
                if self.introductions.handle_candidate(now, path, attempt) {
                    self.pass_on(&path, attempt, FromPeer::Candidate(body));
                }
            }
        }
    }

    fn handle_offer(&mut self, path: PeerPath, attempt: u64, offer: Bytes) {
        let now = self.parts.clock.now();
        let Some((meeting, own)) = self.met_by(&path) else {
            return;
        };
        if !self.has_room()
            || !self
                .introductions
                .handle_offer(now, path, meeting, own, attempt)
        {
            return;
        }
        self.start_attempt(path, attempt, Some(offer));
    }

    fn pass_on(&mut self, path: &PeerPath, attempt: u64, signal: FromPeer) {
        if let Some(running) = self.running.get(path)
            && running.attempt == attempt
        {
            // A peer that floods its own attempt loses what does not fit.
            let _ = running.signals.try_send(signal);
        }
    }

    /// Returns when introductions are due next: never, while there is no room for a session. The end
    /// of one is reported, and looks again.
    pub(super) fn next_introduction(&self) -> Option<Time> {
        if self.has_room() {
            self.introductions.poll_timeout()
        } else {
            None
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.sessions.entries.len() < SESSIONS_MAX
    }

    /// Carries out what introductions are due.
    pub(super) fn introduce(&mut self) {
        let now = self.parts.clock.now();
        if !self.has_room() {
            return;
        }
        while let Some(action) = self.introductions.poll_action(now) {
            match action {
                Action::Offer { path, attempt } => self.start_attempt(path, attempt, None),
                Action::Circuit { path, number } => self.ask_for_circuit(&path, number),
                Action::Knock { path } => {
                    if let Some(carrier) = self.carrier(&path) {
                        carrier.send(path.peer, SignalKind::Candidate, webrtc::knock());
                    }
                }
            }
        }
    }

    fn start_attempt(&mut self, path: PeerPath, attempt: u64, offer: Option<Bytes>) {
        let Some(carrier) = self.carrier(&path) else {
            return;
        };
        let (signals, incoming) = mpsc::channel(NEGOTIATION_SIGNALS_MAX);
        let settings = self.webrtc_settings();
        let work = Attempt {
            peer: path.peer,
            attempt,
            carrier,
            settings,
            incoming,
        };
        let done = self.attempted_sender.clone();
        let task = tokio::spawn(async move {
            let (role, result) = match offer {
                None => (SessionRole::Initiator, work.offer().await),
                Some(offer) => (SessionRole::Responder, work.answer(offer).await),
            };
            // Nobody waits for it once the node has stopped.
            let _ = done
                .send(Attempted {
                    path,
                    attempt,
                    role,
                    result,
                })
                .await;
        });
        let running = Running {
            attempt,
            signals,
            abort: task.abort_handle(),
        };
        if let Some(older) = self.running.insert(path, running) {
            older.abort.abort();
        }
    }

    pub(super) async fn handle_attempted(&mut self, attempted: Attempted) {
        let Attempted {
            path,
            attempt,
            role,
            result,
        } = attempted;
        if self
            .running
            .get(&path)
            .is_some_and(|running| running.attempt == attempt)
        {
            self.running.remove(&path);
        }
        let now = self.parts.clock.now();
        let meeting = self.met_by(&path).map(|(meeting, _)| meeting);
        match (result, meeting) {
            (Ok(link), Some(meeting)) if self.introductions.is_current(&path, attempt) => {
                let link = Arc::new(link);
                match self.start_met(link, Some(path), role, meeting).await {
                    Ok(id) => self.introductions.handle_session(path, id),
                    Err(error) => {
                        tracing::error!(%error, "session not started");
                        self.introductions.handle_failed(now, path, attempt);
                    }
                }
            }
            // Superseded by a newer attempt, or the topic was left meanwhile: then this attempt is
            // over too, and does not keep the peer from being dialled when the topic is back.
            (Ok(link), _) => {
                drop(tokio::spawn(async move { link.close().await }));
                self.introductions.handle_failed(now, path, attempt);
            }
            (Err(error), meeting) => {
                tracing::debug!(%error, attempt, "no connection");
                let why = ConnectFailure::from(&error);
                self.introductions.handle_unconnected(&path, attempt, why);
                if let Some((label, key)) = meeting
                    && self.introductions.is_current(&path, attempt)
                {
                    let reason = error.to_string();
                    self.tell(NodeEvent::StepFailed {
                        step: Step::NotConnected { label, key, reason },
                    });
                }
                self.introductions.handle_failed(now, path, attempt);
            }
        }
    }

    /// Returns what a path is about, while that is wanted, and who this node is there.
    pub(super) fn met_by(&self, path: &PeerPath) -> Option<(MeetingKey, PublicKey)> {
        match path.via {
            Via::Signal { server, topic } => {
                let own = self.signalling.own_key(server, &topic)?;
                Some((self.signalling.meeting(&topic)?, own.public_key()))
            }
            Via::Peer(session) => {
                let meeting = self.sessions.entries.get(&session)?.info.meeting();
                let is_wanted = self.signalling.is_wanted(&meeting);
                Some((meeting, self.own_static(&meeting)?)).filter(|_| is_wanted)
            }
        }
    }

    fn carrier(&self, path: &PeerPath) -> Option<Carrier> {
        match path.via {
            Via::Signal { server, topic } => {
                let client = self.signalling.client(server)?.clone();
                Some(Carrier::Signal { client, topic })
            }
            Via::Peer(session) => {
                let entry = self.sessions.entries.get(&session)?;
                Some(Carrier::Peer(entry.commands.clone()))
            }
        }
    }
}

/// Returns whether a server keeps this client out of a topic.
fn is_refused_entry(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        RefusalCode::TooManyTopics
            | RefusalCode::TopicFull
            | RefusalCode::ServerFull
            | RefusalCode::BadSignature
    )
}
