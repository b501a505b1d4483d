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

#[cfg(test)]
mod tests {
    use kinlog_swarm::{SessionId, SessionRole, Transport};

    use super::*;
    use crate::host::view::AgentView;

    fn session(label: Label, key: u8) -> SessionInfo {
        SessionInfo {
            id: SessionId(1),
            label,
            key: [key; 32],
            role: SessionRole::Initiator,
            remote_certificate: None,
            transport: Transport::Memory,
            path: None,
            plain: false,
        }
    }

    /// A host that follows agents 1 (known) and 2 (unknown) and knows agent 3; invite 9 is open.
    fn host() -> (AgentHost, mpsc::Receiver<HostEvent>) {
        let (events, received) = mpsc::channel(4);
        let host = AgentHost::new(KeyPair::from_seed(&[1; 32]), Hash([7; 32]), events);
        let set = Some((Hash([5; 32]), Bytes::from_static(b"set")));
        let agent = |identity: &Option<(Hash, Bytes)>, is_followed| AgentView {
            identity: identity.clone(),
            is_followed,
            ..AgentView::default()
        };
        host.set_view(View {
            agents: [
                ([1; 32], agent(&set, true)),
                ([2; 32], agent(&None, true)),
                ([3; 32], agent(&set, false)),
            ]
            .into(),
            invites: [[9; 32]].into(),
            ..View::default()
        });
        (host, received)
    }

    #[test]
    fn a_follower_of_public_paths_stays_anonymous() {
        let (host, _events) = host();
        for label in [Label::Agent, Label::Feed, Label::Net] {
            assert!(host.identity(&session(label, 1)).is_none());
        }
        for label in [Label::Room, Label::Invite, Label::Code] {
            assert!(host.identity(&session(label, 1)).is_some());
        }
    }

    #[test]
    fn an_identity_set_is_asked_for_when_it_is_followed_and_another() {
        let (host, _events) = host();
        let answer = |key, hash: u8| {
            let offer = PeerMessage::IdentityOffer {
                hash: Hash([hash; 32]),
            };
            host.handle_peer_message(&session(Label::Agent, key), offer)
        };
        assert_eq!(answer(1, 5), []);
        assert_eq!(answer(1, 6), [PeerMessage::IdentityGet]);
        assert_eq!(answer(2, 6), [PeerMessage::IdentityGet]);
        assert_eq!(answer(3, 6), []);
        assert_eq!(answer(4, 6), []);
    }

    #[test]
    fn a_held_identity_set_is_given_to_who_knows_the_agent_and_to_nobody_else() {
        let (host, _events) = host();
        let get =
            |label, key| host.handle_peer_message(&session(label, key), PeerMessage::IdentityGet);
        let set = PeerMessage::IdentitySet {
            bytes: Bytes::from_static(b"set"),
        };
        assert_eq!(get(Label::Agent, 1), std::slice::from_ref(&set));
        assert_eq!(get(Label::Agent, 3), [set]);
        assert_eq!(get(Label::Agent, 2), []);
        assert_eq!(get(Label::Room, 1), []);
    }

    #[test]
    fn what_was_not_asked_for_is_not_worked_on() {
        let (host, mut events) = host();
        let set = PeerMessage::IdentitySet {
            bytes: Bytes::from_static(b"set"),
        };
        host.handle_peer_message(&session(Label::Agent, 3), set.clone());
        host.handle_peer_message(&session(Label::Feed, 1), set.clone());
        let request = PeerMessage::JoinRequest {
            bytes: Bytes::new(),
        };
        host.handle_peer_message(&session(Label::Invite, 8), request.clone());
        host.handle_peer_message(&session(Label::Room, 9), request.clone());
        assert!(events.try_recv().is_err());
        host.handle_peer_message(&session(Label::Agent, 2), set);
        assert!(matches!(events.try_recv(), Ok(HostEvent::Identity { .. })));
        host.handle_peer_message(&session(Label::Invite, 9), request);
        assert!(matches!(
            events.try_recv(),
            Ok(HostEvent::JoinRequest { .. })
        ));
    }

    #[test]
    fn a_flood_of_messages_is_dropped_and_never_waits() {
        let (host, mut events) = host();
        for _ in 0..100 {
            host.handle_session_open(&session(Label::Agent, 1));
        }
        let mut count = 0;
        while events.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, 4);
    }
}
