//! The swarm's host: answers from the view, passes on what takes longer.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey, Hash, KeyPair};
use kinlog_swarm::{Credentials, Host, Label, PeerMessage, SessionInfo};
use tokio::sync::mpsc;

use crate::host::View;

/// Something a session brought that the agent works on beside the network.
#[derive(Clone, Debug)]
pub(crate) enum HostEvent {
    /// A session opened, or showed its certificate.
    Opened(SessionInfo),
    /// A session closed.
    Closed(SessionInfo),
    /// An identity set of the agent the session is about.
    Identity { agent: AgentId, set: Bytes },
    /// Somebody asks to join one of our rooms.
    JoinRequest {
        session: SessionInfo,
        request: Bytes,
    },
    /// Somebody answers our request to join.
    JoinResponse {
        session: SessionInfo,
        response: Bytes,
    },
}

/// Policy towards the network; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AgentHost {
    view: Arc<RwLock<View>>,
    events: mpsc::Sender<HostEvent>,
    device: KeyPair,
    identity_hash: Arc<RwLock<Hash>>,
}

impl AgentHost {
    /// Returns a host that serves and wants nothing yet.
    pub(crate) fn new(
        device: KeyPair,
        identity_hash: Hash,
        events: mpsc::Sender<HostEvent>,
    ) -> Self {
        AgentHost {
            view: Arc::default(),
            events,
            device,
            identity_hash: Arc::new(RwLock::new(identity_hash)),
        }
    }

    /// Puts a new view in place of the one before.
    pub(crate) fn set_view(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Passes an event on. A full queue drops it: peers repeat what matters, and memory is bounded.
    fn pass(&self, event: HostEvent) {
        if let Err(error) = self.events.try_send(event) {
            tracing::warn!(%error, "event of a session was dropped");
        }
    }
}

impl Host for AgentHost {
    fn serves(&self, session: &SessionInfo) -> Vec<FeedKey> {
        self.view(|view| view.serves(session))
    }

    fn wants(&self, session: &SessionInfo) -> Vec<FeedKey> {
        self.view(|view| view.wants(session))
    }

    fn identity(&self, session: &SessionInfo) -> Option<Credentials> {
        // A plain follower of public feeds stays anonymous.
        matches!(session.label, Label::Room | Label::Invite | Label::Code).then(|| Credentials {
            device: self.device.clone(),
            identity_hash: *self
                .identity_hash
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn handle_session_open(&self, session: &SessionInfo) {
        self.pass(HostEvent::Opened(session.clone()));
    }

    fn handle_certificate(&self, session: &SessionInfo) {
        self.pass(HostEvent::Opened(session.clone()));
    }

    fn handle_session_closed(&self, session: &SessionInfo) {
        self.pass(HostEvent::Closed(session.clone()));
    }

    fn handle_peer_message(&self, session: &SessionInfo, message: PeerMessage) -> Vec<PeerMessage> {
        match message {
            PeerMessage::IdentityOffer { hash } if session.label == Label::Agent => {
                let wants = self.view(|view| {
                    view.agents.get(&session.key).is_some_and(|agent| {
                        agent.is_followed
                            && agent
                                .identity
                                .as_ref()
                                .is_none_or(|(held, _)| *held != hash)
                    })
                });
                if wants {
                    vec![PeerMessage::IdentityGet]
                } else {
                    Vec::new()
                }
            }
            PeerMessage::IdentityGet if session.label == Label::Agent => {
                let set = self.view(|view| view.agents.get(&session.key)?.identity.clone());
                set.map(|(_, bytes)| PeerMessage::IdentitySet { bytes })
                    .into_iter()
                    .collect()
            }
            PeerMessage::IdentitySet { bytes } if session.label == Label::Agent => {
                let agent = AgentId(session.key);
                let is_followed =
                    self.view(|view| view.agents.get(&agent.0).is_some_and(|one| one.is_followed));
                if is_followed {
                    self.pass(HostEvent::Identity { agent, set: bytes });
                }
                Vec::new()
            }
            PeerMessage::JoinRequest { bytes } if session.label == Label::Invite => {
                if self.view(|view| view.invites.contains(&session.key)) {
                    let session = session.clone();
                    self.pass(HostEvent::JoinRequest {
                        session,
                        request: bytes,
                    });
                }
                Vec::new()
            }
            PeerMessage::JoinResponse { bytes } if session.label == Label::Invite => {
                self.pass(HostEvent::JoinResponse {
                    session: session.clone(),
                    response: bytes,
                });
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}
