//! What sessions bring that takes longer than an answer from memory: identities, joins.

use std::sync::Arc;

use kinlog_swarm::{Label, PeerMessage, SessionInfo};

use crate::api::Error;
use crate::core::{Core, Steps};
use crate::host::{HostEvent, HostEvents};
use crate::network::Network;
use crate::requests::blocking;

/// Works on events of sessions, one after the other, until the host is gone.
pub(super) async fn attend(core: Arc<Core>, mut events: HostEvents) {
    while let Some(event) = events.recv().await {
        let done = blocking(&core, move |core| core.attend(event)).await;
        if let Err(error) = done {
            tracing::warn!(%error, "what a session brought is refused");
        }
    }
}

impl Core {
    fn attend(&self, event: HostEvent) -> Result<(), Error> {
        let Some(network) = self.network() else {
            return Ok(());
        };
        let mut steps = Steps::default();
        steps.take("event", self.attend_one(&network, event));
        self.changed();
        steps.take("rooms of siblings", self.share_rooms());
        steps.take("settings", self.share_settings());
        steps.end()
    }

    fn attend_one(&self, network: &Network, event: HostEvent) -> Result<(), Error> {
        match event {
            HostEvent::Opened(session) => {
                self.ask_for_sign_in(&session);
                let before = network.session_opened(session.clone());
                // What a room's members say to each other depends on who shows to be whom.
                let waits = |before: SessionInfo| {
                    session.label == Label::Room && before.remote_certificate.is_none()
                };
                if before.is_none_or(waits) {
                    self.greet(&session)?;
                }
            }
            HostEvent::Closed(session) => {
                self.forget_proofs(&session);
                network.session_closed(session.id);
            }
            HostEvent::Identity { agent, set } => {
                if self.learn_identity(&agent, &set)? {
                    // Others who wait for it in this topic learn of it through us.
                    let mut steps = Steps::default();
                    for session in network.sessions_about(Label::Agent, agent.as_bytes()) {
                        steps.take("session", self.greet(&session));
                    }
                    steps.take("sign-ins", self.ask_for_sign_ins(&agent));
                    steps.end()?;
                }
            }
            HostEvent::JoinRequest { session, request } if self.is_pairing(&session) => {
                self.hear_paired(&session, &request)?;
            }
            HostEvent::JoinRequest { session, request } if session.label == Label::Code => {
                self.hear_linker(&session, &request)?;
            }
            HostEvent::JoinResponse { session, response } if session.label == Label::Code => {
                self.knowledge(|knowledge| {
                    let asks = knowledge.asks_link.as_ref();
                    if asks.is_some_and(|(key, _)| *key == session.key) {
                        knowledge.link_answer = Some(response);
                    }
                });
            }
            HostEvent::SignIn { session, record } => self.learn_sign_in(&session, &record)?,
            HostEvent::JoinRequest { session, request } => {
                let bytes = self.admit(&session, &request)?;
                network.send(session.id, PeerMessage::JoinResponse { bytes });
            }
            HostEvent::MeetingPoints { session, urls } => {
                network.hear_meeting_points(session.id, urls);
            }
            HostEvent::Room { session, bytes } => self.hear_in_room(&session, &bytes)?,
            HostEvent::Seed { session, message } => self.hear_of_seeding(&session, message)?,
            HostEvent::JoinResponse { session, response } => {
                self.answered(&session, &response)?;
            }
        }
        Ok(())
    }

    /// Says on a session what the other side may be waiting for.
    pub(crate) fn greet(&self, session: &SessionInfo) -> Result<(), Error> {
        let Some(network) = self.network() else {
            return Ok(());
        };
        match session.label {
            Label::Agent => {
                let plan = self.plan();
                let known = plan.view.agents.get(&session.key);
                if let Some((hash, _)) = known.and_then(|agent| agent.identity.as_ref()) {
                    network.send(session.id, PeerMessage::IdentityOffer { hash: *hash });
                }
            }
            Label::Invite => {
                if let Some(bytes) = self.join_request(session)? {
                    network.send(session.id, PeerMessage::JoinRequest { bytes });
                }
            }
            Label::Code => match self.pair_hello(&session.key) {
                Some(hello) => network.send(session.id, hello),
                None => self.greet_linker(&session.key, session.id),
            },
            Label::Room => {
                if let Some(bytes) = self.sibling_request(session)? {
                    network.send(session.id, PeerMessage::JoinRequest { bytes });
                }
                for message in self.greet_in_room(session) {
                    let bytes = message.encode();
                    network.send(session.id, PeerMessage::Room { bytes });
                }
                self.show_grants(session)?;
            }
            _ => {}
        }
        Ok(())
    }
}
