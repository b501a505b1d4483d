//! The swarm's host: answers from the view, passes on what takes longer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey, Hash, KeyPair};
use kinlog_swarm::{Credentials, Host, Label, PeerMessage, SessionInfo};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::host::View;
use crate::presence::Presences;

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
    /// Somebody gives a sign-in record.
    SignIn { session: SessionInfo, record: Bytes },
    /// A member says something about the room that the session is about.
    Room { session: SessionInfo, bytes: Bytes },
    /// Somebody says something of a seed grant, under a meet key.
    Seed {
        session: SessionInfo,
        message: PeerMessage,
    },
    /// A device says where it is met without a server.
    MeetingPoints {
        session: SessionInfo,
        urls: Vec<String>,
    },
    /// Somebody answers our request to join.
    JoinResponse {
        session: SessionInfo,
        response: Bytes,
    },
}

/// An event on its way, with the place it takes among the messages that wait.
type Passed = (HostEvent, Option<OwnedSemaphorePermit>);

/// What sessions bring, in order.
///
/// That a session opened or closed is never lost: nobody says it again, and a session that is not
/// noticed is not greeted. There are as many as sessions come and go. What peers send is bounded.
#[derive(Debug)]
pub(crate) struct HostEvents(mpsc::UnboundedReceiver<Passed>);

impl HostEvents {
    /// Returns the next event; `None` when the host is gone.
    pub(crate) async fn recv(&mut self) -> Option<HostEvent> {
        self.0.recv().await.map(|(event, _place)| event)
    }
}

/// Policy towards the network; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AgentHost {
    view: Arc<RwLock<View>>,
    events: mpsc::UnboundedSender<Passed>,
    /// Places for messages of peers that wait to be worked on.
    places: Arc<Semaphore>,
    device: KeyPair,
    identity_hash: Arc<RwLock<Hash>>,
    pub(crate) presences: Presences,
}

impl AgentHost {
    /// Returns a host that serves and wants nothing yet, and what its sessions will bring; at most
    /// `messages_max` messages of peers wait.
    pub(crate) fn new(
        device: KeyPair,
        identity_hash: Hash,
        messages_max: usize,
    ) -> (Self, HostEvents) {
        let (events, received) = mpsc::unbounded_channel();
        let host = AgentHost {
            view: Arc::default(),
            events,
            places: Arc::new(Semaphore::new(messages_max)),
            device,
            identity_hash: Arc::new(RwLock::new(identity_hash)),
            presences: Presences::new(),
        };
        (host, HostEvents(received))
    }

    /// Puts a new view in place of the one before.
    pub(crate) fn set_view(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Takes the hash of the own identity set, which certificates name.
    pub(crate) fn set_identity_hash(&self, hash: Hash) {
        *self
            .identity_hash
            .write()
            .unwrap_or_else(PoisonError::into_inner) = hash;
    }

    fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Passes on that a session opened or closed.
    fn pass(&self, event: HostEvent) {
        // Nobody has to listen any more when the agent stops.
        let _ = self.events.send((event, None));
    }

    /// Passes on a message of a peer. A full queue drops it: memory is bounded.
    fn pass_message(&self, event: HostEvent) {
        match self.places.clone().try_acquire_owned() {
            Ok(place) => {
                let _ = self.events.send((event, Some(place)));
            }
            Err(error) => tracing::warn!(%error, "message of a peer was dropped"),
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

    fn limits(&self, session: &SessionInfo) -> BTreeMap<FeedKey, Vec<Range<u64>>> {
        self.view(|view| view.limits(session))
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
        self.presences.session_closed(session.id);
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
                    self.pass_message(HostEvent::Identity { agent, set: bytes });
                }
                Vec::new()
            }
            PeerMessage::JoinRequest { bytes } => {
                let is_open = self.view(|view| match session.label {
                    Label::Code => {
                        view.codes.contains(&session.key) || view.pairs.contains(&session.key)
                    }
                    Label::Invite => view.invites.contains(&session.key),
                    Label::Room => view.rooms.contains_key(&session.key),
                    _ => false,
                });
                if is_open {
                    let session = session.clone();
                    self.pass_message(HostEvent::JoinRequest {
                        session,
                        request: bytes,
                    });
                }
                Vec::new()
            }
            PeerMessage::SignInGet { after } => self.view(|view| {
                let held = view.sign_in(session);
                let newer = held.filter(|(counter, _)| *counter > after);
                let record = newer.map(|(_, bytes)| PeerMessage::SignInRecord {
                    bytes: bytes.clone(),
                });
                record.into_iter().collect()
            }),
            PeerMessage::SignInRecord { bytes } => {
                if self.view(|view| view.takes_sign_in(session)) {
                    self.pass_message(HostEvent::SignIn {
                        session: session.clone(),
                        record: bytes,
                    });
                }
                Vec::new()
            }
            PeerMessage::MeetingPoints { urls } if session.remote_certificate.is_some() => {
                let session = session.clone();
                self.pass_message(HostEvent::MeetingPoints { session, urls });
                Vec::new()
            }
            PeerMessage::Presence(presence) => {
                // Answered from memory alone: whoever floods takes no place from anything else.
                let Some(device) = self.view(|view| view.speaker_in(session, &presence.room))
                else {
                    self.presences.refuse();
                    return Vec::new();
                };
                let answer = self.presences.hear(session.id, device, &presence);
                answer.map(PeerMessage::Presence).into_iter().collect()
            }
            PeerMessage::Room { bytes } if session.label == Label::Room => {
                if self.view(|view| view.rooms.contains_key(&session.key)) {
                    let session = session.clone();
                    self.pass_message(HostEvent::Room { session, bytes });
                }
                Vec::new()
            }
            PeerMessage::JoinResponse { bytes }
                if matches!(session.label, Label::Invite | Label::Room | Label::Code) =>
            {
                self.pass_message(HostEvent::JoinResponse {
                    session: session.clone(),
                    response: bytes,
                });
                Vec::new()
            }
            message @ (PeerMessage::SeedProof { .. }
            | PeerMessage::SeedRenewal { .. }
            | PeerMessage::SeedEnd { .. }
            | PeerMessage::SeedCleared(_))
                if session.label == Label::Room =>
            {
                let is_about_us = self.view(|view| match message {
                    PeerMessage::SeedProof { .. } => view.rooms.contains_key(&session.key),
                    _ => view.seeded.contains_key(&session.key),
                });
                if is_about_us {
                    let session = session.clone();
                    self.pass_message(HostEvent::Seed { session, message });
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::DeviceKey;
    use kinlog_swarm::{Certificate, Doing, Presence, SessionId, SessionRole, Transport};

    use super::*;
    use crate::host::view::{AgentView, RoomView};

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
    fn host() -> (AgentHost, HostEvents) {
        let (host, received) = AgentHost::new(KeyPair::from_seed(&[1; 32]), Hash([7; 32]), 4);
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

    fn next(events: &mut HostEvents) -> Option<HostEvent> {
        events.0.try_recv().ok().map(|(event, _place)| event)
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
        assert!(next(&mut events).is_none());
        host.handle_peer_message(&session(Label::Agent, 2), set);
        assert!(matches!(
            next(&mut events),
            Some(HostEvent::Identity { .. })
        ));
        host.handle_peer_message(&session(Label::Invite, 9), request);
        assert!(matches!(
            next(&mut events),
            Some(HostEvent::JoinRequest { .. })
        ));
    }

    #[test]
    fn presence_is_heard_from_member_devices_about_their_room_and_from_nobody_else() {
        let (host, mut events) = host();
        let (member, stranger) = (DeviceKey([4; 32]), DeviceKey([6; 32]));
        let room = RoomView {
            room: Some([8; 32]),
            devices: [member].into(),
            ..RoomView::default()
        };
        // Of the second meet key it is not known yet whose it is: an answer to a join named it.
        let unproven = RoomView {
            room: None,
            ..room.clone()
        };
        host.set_view(View {
            rooms: [([2; 32], room), ([3; 32], unproven)].into(),
            pairs: [[5; 32]].into(),
            ..View::default()
        });
        let refused = |label, key, device: Option<DeviceKey>, room, for_s| {
            let before = host.presences.refused();
            let mut session = session(label, key);
            session.remote_certificate = device.map(|device| Certificate {
                device,
                identity_hash: Hash::default(),
            });
            let presence = Presence {
                room: [room; 32],
                doing: Doing::Typing,
                for_s,
            };
            let answers = host.handle_peer_message(&session, PeerMessage::Presence(presence));
            assert!(answers.len() <= 1, "{answers:?}");
            (host.presences.refused() - before, answers.len())
        };
        for (label, key, device, room, for_s) in [
            (Label::Room, 2, None, 8, 5),
            (Label::Room, 2, Some(stranger), 8, 5),
            (Label::Room, 2, Some(member), 9, 5),
            (Label::Room, 3, Some(member), 8, 5),
            (Label::Room, 7, Some(member), 8, 5),
            (Label::Agent, 2, Some(member), 8, 5),
            (Label::Invite, 2, Some(member), 8, 5),
            (Label::Code, 2, Some(member), 8, 5),
            (Label::Code, 5, Some(stranger), 8, 5),
            (Label::Room, 2, Some(member), 8, u32::MAX),
        ] {
            let told = refused(label, key, device, room, for_s);
            assert_eq!(told, (1, 0), "{label:?} {key} {device:?} {room} {for_s}");
        }
        // The first word in a session is answered, and only that.
        assert_eq!(refused(Label::Room, 2, Some(member), 8, 5), (0, 1));
        assert_eq!(refused(Label::Code, 5, Some(member), 8, 5), (0, 0));
        let flood = (0..1000).map(|_| refused(Label::Room, 2, Some(member), 8, 5));
        let (refusals, answers) = flood.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        assert!(refusals > 900 && answers == 0, "{refusals} {answers}");
        // However many come, none waits for the agent: other messages find their place.
        assert!(next(&mut events).is_none());
    }

    #[test]
    fn a_flood_of_messages_is_dropped_and_hides_no_session() {
        let (host, mut events) = host();
        let flood = || {
            for _ in 0..100 {
                let set = PeerMessage::IdentitySet {
                    bytes: Bytes::from_static(b"set"),
                };
                host.handle_peer_message(&session(Label::Agent, 2), set);
            }
        };
        flood();
        for _ in 0..100 {
            host.handle_session_open(&session(Label::Agent, 1));
            host.handle_session_closed(&session(Label::Agent, 1));
        }
        let mut received = || {
            let (mut messages, mut sessions) = (0, 0);
            while let Some(event) = next(&mut events) {
                match event {
                    HostEvent::Opened(_) | HostEvent::Closed(_) => sessions += 1,
                    _ => messages += 1,
                }
            }
            (messages, sessions)
        };
        assert_eq!(received(), (4, 200));
        flood();
        assert_eq!(received(), (4, 0), "places come free");
    }
}
