//! The client's state, sans-IO: topics wanted, connection, what goes out and what is told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::{KeyPair, PublicKey, Time};

use crate::client::backoff::Backoff;
use crate::client::event::{ClientEvent, ClientState, ClientStatus, SendError};
use crate::join::{NONCE_BYTES, sign_join};
use crate::limits::{
    BACKOFF_FORGIVEN_AFTER, BODY_BYTES_MAX, CLIENT_OUTBOX_BYTES_MAX, CLIENT_OUTBOX_MESSAGES_MAX,
    FULL_RETRY_AFTER, ICE_RENEWAL_INTERVAL_MIN, ICE_RENEWAL_RETRY_AFTER, PING_INTERVAL,
    PROTOCOL_VERSION, STALE_AFTER,
};
use crate::{
    ClientMessage, MessageError, Refusal, RefusalCode, ServerMessage, ServerName, SignalKind, Topic,
};

/// What the driver is to do.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Dial the server; answer with `handle_opened` or `handle_closed`.
    Dial,
    /// Send one WebSocket message on the open connection.
    Send(Bytes),
    /// Close the connection or give the dialling up. `handle_closed` is not expected.
    Close,
    /// Tell the program around the client.
    Event(ClientEvent),
}

/// The client of one server.
#[derive(Debug)]
pub struct Core {
    server: ServerName,
    topics: BTreeMap<Topic, Membership>,
    ice: Ice,
    link: Link,
    backoff: Backoff,
    last_error: Option<String>,
    outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Membership {
    key: KeyPair,
    phase: Phase,
}

/// How far the server is with one topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Not asked on this connection.
    Absent,
    /// Asked, no answer yet.
    Asked,
    /// Confirmed.
    Joined,
    /// Refused for now; asked again at this time.
    RetryAt(Time),
    /// Refused on this connection for good.
    Refused,
}

/// How far the server is with telling its ICE servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ice {
    /// Not asked on this connection; the next join asks.
    Unasked,
    /// Asked with the join of this topic.
    Asked(Topic),
    /// Told; asked for again at the time, where there are credentials.
    Told { renew_at: Option<Time> },
    /// The topic was entered and nothing was told: there are none, or the server is an older one.
    NoneThere,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    /// Nothing to do yet.
    Idle,
    /// Dialling, or connected and not greeted; given up at the time.
    Opening { give_up: Option<Time> },
    /// Greeted.
    Open {
        nonce: [u8; NONCE_BYTES],
        since: Time,
        last_sent: Time,
        last_heard: Time,
    },
    /// Down, dialled again at the time.
    Waiting { until: Time },
    /// Stopped.
    Stopped,
}

impl Core {
    /// Returns an idle client of `server`; `seed` feeds the jitter and nothing else.
    pub fn new(server: ServerName, seed: u64) -> Self {
        Core {
            server,
            topics: BTreeMap::new(),
            ice: Ice::Unasked,
            link: Link::Idle,
            backoff: Backoff::new(seed),
            last_error: None,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Wants `topic` under `key`, now and after every reconnect. Joining again changes the key.
    pub fn join(&mut self, now: Time, topic: Topic, key: KeyPair) {
        let same = |held: &Membership| held.key.public_key() == key.public_key();
        if self.topics.get(&topic).is_some_and(same) {
            return;
        }
        self.topics.insert(
            topic,
            Membership {
                key,
                phase: Phase::Absent,
            },
        );
        match self.link {
            Link::Idle => self.dial(),
            Link::Open { nonce, .. } => self.ask(now, &nonce, topic),
            Link::Opening { .. } | Link::Waiting { .. } | Link::Stopped => {}
        }
    }

    /// No longer wants `topic`.
    pub fn leave(&mut self, now: Time, topic: &Topic) {
        let Some(membership) = self.topics.remove(topic) else {
            return;
        };
        self.ice_not_asked(topic);
        if matches!(membership.phase, Phase::Asked | Phase::Joined) {
            self.push(now, &ClientMessage::Leave { topic: *topic });
        }
    }

    /// Sends a signal to a peer of a joined topic.
    pub fn send(
        &mut self,
        now: Time,
        topic: Topic,
        to: PublicKey,
        kind: SignalKind,
        body: Bytes,
    ) -> Result<(), SendError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(SendError::TooLong {
                limit: BODY_BYTES_MAX,
                actual: body.len(),
            });
        }
        if self
            .topics
            .get(&topic)
            .is_none_or(|membership| membership.phase != Phase::Joined)
        {
            return Err(SendError::NotJoined { topic });
        }
        if self.outbox.len() >= CLIENT_OUTBOX_MESSAGES_MAX {
            return Err(SendError::QueueFull {
                limit: CLIENT_OUTBOX_MESSAGES_MAX,
            });
        }
        if self.outbox_bytes + body.len() > CLIENT_OUTBOX_BYTES_MAX {
            return Err(SendError::QueueFull {
                limit: CLIENT_OUTBOX_BYTES_MAX,
            });
        }
        self.push(
            now,
            &ClientMessage::Send {
                topic,
                to,
                kind,
                body,
            },
        );
        Ok(())
    }

    /// Takes note that this machine's addresses have changed: a connection is lost then, though nobody
    /// says so for a minute, and a server that could not be reached may be. It is dialled at once.
    pub fn redial(&mut self, now: Time) {
        match self.link {
            Link::Idle | Link::Stopped => return,
            Link::Opening { .. } | Link::Open { .. } => {
                self.give_up(now, "the network has changed".to_owned());
            }
            Link::Waiting { .. } => {}
        }
        self.link = Link::Waiting { until: now };
    }

    /// Stops for good: closes the connection and dials no more.
    pub fn stop(&mut self) {
        self.outbox.clear();
        self.outbox_bytes = 0;
        self.outputs.clear();
        if !matches!(self.link, Link::Stopped) {
            self.link = Link::Stopped;
            self.outputs.push_back(Output::Close);
        }
    }

    /// Returns whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        matches!(self.link, Link::Stopped)
    }

    /// Takes note that the WebSocket is open; the server's greeting is due.
    pub fn handle_opened(&mut self, now: Time) {
        if let Link::Opening { .. } = self.link {
            self.link = Link::Opening {
                give_up: Some(now + STALE_AFTER),
            };
        }
    }

    /// Takes one WebSocket message of the server.
    pub fn handle_frame(&mut self, now: Time, frame: Bytes) {
        if let Link::Open { last_heard, .. } = &mut self.link {
            *last_heard = now;
        }
        let message = match ServerMessage::decode(frame) {
            Ok(message) => message,
            // A newer server says something that this build has no use for.
            Err(MessageError::UnknownKind) if matches!(self.link, Link::Open { .. }) => return,
            Err(error) => return self.give_up(now, format!("server sent nonsense: {error}")),
        };
        match (self.link, message) {
            (
                Link::Opening { .. },
                ServerMessage::Hello {
                    nonce,
                    version,
                    limits: _,
                },
            ) => {
                self.greeted(now, nonce, version);
            }
            (Link::Opening { .. }, ServerMessage::Error(refusal)) => {
                self.give_up(
                    now,
                    format!("server refused: {}", printable(&refusal.message)),
                );
            }
            (Link::Opening { .. }, _) => self.give_up(now, "server did not greet".to_owned()),
            (Link::Open { .. }, ServerMessage::Hello { .. }) => {
                self.give_up(now, "server greeted twice".to_owned());
            }
            (Link::Open { .. }, message) => self.handle_message(now, message),
            (Link::Idle | Link::Waiting { .. } | Link::Stopped, _) => {}
        }
    }

    /// Takes note that dialling failed or the connection ended, and why.
    pub fn handle_closed(&mut self, now: Time, reason: String) {
        if matches!(self.link, Link::Opening { .. } | Link::Open { .. }) {
            self.fall(now, reason);
        }
    }

    /// Does what is due at `now`: dials, pings, joins again, or gives a silent server up.
    pub fn handle_timeout(&mut self, now: Time) {
        match self.link {
            Link::Waiting { until } if until <= now => self.dial(),
            Link::Opening { give_up: Some(at) } if at <= now => {
                self.give_up(now, "server did not greet in time".to_owned());
            }
            Link::Open { last_heard, .. } if last_heard + STALE_AFTER <= now => {
                let seconds = STALE_AFTER.as_secs();
                self.give_up(
                    now,
                    format!("nothing heard from the server for {seconds} s"),
                );
            }
            Link::Open {
                nonce, last_sent, ..
            } => {
                if last_sent + PING_INTERVAL <= now {
                    self.push(now, &ClientMessage::Ping);
                }
                let due = |phase| matches!(phase, Phase::RetryAt(at) if at <= now);
                let topics: Vec<Topic> = self
                    .topics
                    .iter()
                    .filter_map(|(topic, membership)| due(membership.phase).then_some(*topic))
                    .collect();
                for topic in topics {
                    self.ask(now, &nonce, topic);
                }
                self.renew_ice(now);
            }
            Link::Idle | Link::Opening { .. } | Link::Waiting { .. } | Link::Stopped => {}
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.link {
            Link::Idle | Link::Stopped => None,
            Link::Opening { give_up } => give_up,
            Link::Waiting { until } => Some(until),
            Link::Open {
                last_sent,
                last_heard,
                ..
            } => {
                let retries =
                    self.topics
                        .values()
                        .filter_map(|membership| match membership.phase {
                            Phase::RetryAt(at) => Some(at),
                            _ => None,
                        });
                let renewal = match self.ice {
                    Ice::Told { renew_at } => renew_at,
                    Ice::Unasked | Ice::Asked(_) | Ice::NoneThere => None,
                };
                retries
                    .chain(renewal)
                    .chain([last_sent + PING_INTERVAL, last_heard + STALE_AFTER])
                    .min()
            }
        }
    }

    /// Returns the next thing to do, or `None` until new input or the timeout.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let frame = self.outbox.pop_front()?;
        self.outbox_bytes -= frame.len();
        Some(Output::Send(frame))
    }

    /// Returns why the client is up or down.
    pub fn status(&self, now: Time) -> ClientStatus {
        let (state, retry_in) = match self.link {
            Link::Idle => (ClientState::Idle, None),
            Link::Opening { .. } => (ClientState::Connecting, None),
            Link::Open { .. } => (ClientState::Connected, None),
            Link::Waiting { until } => (ClientState::Waiting, Some(until - now)),
            Link::Stopped => (ClientState::Stopped, None),
        };
        let joined = |membership: &&Membership| membership.phase == Phase::Joined;
        ClientStatus {
            state,
            last_error: self.last_error.clone(),
            retry_in,
            attempts: self.backoff.attempts(),
            topics: self.topics.len(),
            topics_joined: self.topics.values().filter(joined).count(),
        }
    }

    fn greeted(&mut self, now: Time, nonce: [u8; NONCE_BYTES], version: u32) {
        if version != PROTOCOL_VERSION {
            let reason = format!("server speaks version {version}, we speak {PROTOCOL_VERSION}");
            return self.give_up(now, reason);
        }
        self.link = Link::Open {
            nonce,
            since: now,
            last_sent: now,
            last_heard: now,
        };
        self.outputs
            .push_back(Output::Event(ClientEvent::Connected));
        let topics: Vec<Topic> = self.topics.keys().copied().collect();
        for topic in topics {
            self.ask(now, &nonce, topic);
        }
    }

    /// Takes a message of a greeted server; what concerns topics we are not in is dropped.
    fn handle_message(&mut self, now: Time, message: ServerMessage) {
        let event = match message {
            ServerMessage::Joined { topic, peers } => {
                let Some(membership) = self.topics.get_mut(&topic) else {
                    return;
                };
                membership.phase = Phase::Joined;
                if self.ice == Ice::Asked(topic) {
                    self.ice = Ice::NoneThere;
                }
                let own = membership.key.public_key();
                let peers = peers.into_iter().filter(|peer| *peer != own).collect();
                ClientEvent::Joined { topic, peers }
            }
            ServerMessage::PeerJoined { topic, peer } if self.is_joined(&topic) => {
                ClientEvent::PeerJoined { topic, peer }
            }
            ServerMessage::PeerLeft { topic, peer } if self.is_joined(&topic) => {
                ClientEvent::PeerLeft { topic, peer }
            }
            ServerMessage::Signal {
                topic,
                from,
                kind,
                body,
            } if self.is_joined(&topic) => ClientEvent::Signal {
                topic,
                from,
                kind,
                body,
            },
            ServerMessage::IceServers { topic: _, servers } => {
                let renew_at = (servers.lifetime_s > 0).then(|| {
                    let half = Duration::from_secs(servers.lifetime_s.into()) / 2;
                    now + half.max(ICE_RENEWAL_INTERVAL_MIN)
                });
                self.ice = Ice::Told { renew_at };
                ClientEvent::IceServers(servers)
            }
            ServerMessage::Error(refusal) => self.refused(now, refusal),
            _ => return,
        };
        self.outputs.push_back(Output::Event(event));
    }

    fn refused(&mut self, now: Time, mut refusal: Refusal) -> ClientEvent {
        refusal.message = printable(&refusal.message);
        let wait = match refusal.code {
            RefusalCode::RateLimited => {
                let asked = Duration::from_millis(refusal.retry_after_ms.into());
                let bound = asked.min(FULL_RETRY_AFTER).max(Duration::from_millis(100));
                Some(bound + self.backoff.jitter(bound))
            }
            RefusalCode::TopicFull | RefusalCode::ServerFull | RefusalCode::TooManyTopics => {
                Some(FULL_RETRY_AFTER + self.backoff.jitter(FULL_RETRY_AFTER))
            }
            _ => None,
        };
        let phase = match (wait, refusal.code) {
            (Some(wait), _) => Some(Phase::RetryAt(now + wait)),
            (None, RefusalCode::BadSignature | RefusalCode::Replaced) => Some(Phase::Refused),
            // Concerns one signal, or nothing that joining again would mend.
            (None, _) => None,
        };
        let membership = refusal.topic.and_then(|topic| self.topics.get_mut(&topic));
        if let (Some(membership), Some(phase)) = (membership, phase) {
            membership.phase = phase;
            if let Some(topic) = refusal.topic {
                self.ice_not_asked(&topic);
            }
        }
        ClientEvent::Refused(refusal)
    }

    fn is_joined(&self, topic: &Topic) -> bool {
        self.topics
            .get(topic)
            .is_some_and(|membership| membership.phase == Phase::Joined)
    }

    fn dial(&mut self) {
        self.link = Link::Opening { give_up: None };
        self.outputs.push_back(Output::Dial);
    }

    fn ask(&mut self, now: Time, nonce: &[u8; NONCE_BYTES], topic: Topic) {
        let Some(membership) = self.topics.get_mut(&topic) else {
            return;
        };
        membership.phase = Phase::Asked;
        let ice_servers = self.ice == Ice::Unasked;
        if ice_servers {
            self.ice = Ice::Asked(topic);
        }
        let signature = sign_join(&membership.key, nonce, &self.server, &topic);
        let client_key = membership.key.public_key();
        self.push(
            now,
            &ClientMessage::Join {
                topic,
                client_key,
                signature,
                ice_servers,
            },
        );
    }

    /// Takes note that a topic with whose join the ICE servers were asked for is not being entered.
    fn ice_not_asked(&mut self, topic: &Topic) {
        if self.ice == Ice::Asked(*topic) {
            self.ice = Ice::Unasked;
        }
    }

    /// Asks for new credentials when it is time.
    fn renew_ice(&mut self, now: Time) {
        let Ice::Told { renew_at: Some(at) } = self.ice else {
            return;
        };
        if at > now {
            return;
        }
        self.ice = Ice::Told {
            renew_at: Some(now + ICE_RENEWAL_RETRY_AFTER),
        };
        let mut topics = self.topics.iter();
        let joined = topics.find(|(_, membership)| membership.phase == Phase::Joined);
        if let Some(topic) = joined.map(|(topic, _)| *topic) {
            self.push(now, &ClientMessage::GetIceServers { topic });
        }
    }

    /// Queues a message. Joins and leaves are bounded by the topics, signals by `send`.
    fn push(&mut self, now: Time, message: &ClientMessage) {
        if let Link::Open { last_sent, .. } = &mut self.link {
            *last_sent = now;
            let frame = message.encode();
            self.outbox_bytes += frame.len();
            self.outbox.push_back(frame);
        }
    }

    /// Closes from our side.
    fn give_up(&mut self, now: Time, reason: String) {
        self.fall(now, reason);
        self.outputs.push_back(Output::Close);
    }

    /// Notes that the connection is down and when the next attempt is due.
    fn fall(&mut self, now: Time, reason: String) {
        if matches!(self.link, Link::Open { since, .. } if since + BACKOFF_FORGIVEN_AFTER <= now) {
            self.backoff.forgive();
        }
        let retry_in = self.backoff.next_wait();
        self.link = Link::Waiting {
            until: now + retry_in,
        };
        self.outbox.clear();
        self.outbox_bytes = 0;
        self.ice = Ice::Unasked;
        for membership in self.topics.values_mut() {
            membership.phase = Phase::Absent;
        }
        self.last_error = Some(reason.clone());
        self.outputs
            .push_back(Output::Event(ClientEvent::Disconnected {
                reason,
                retry_in,
            }));
    }
}

/// Returns the start of a server's text without what could steer a terminal.
fn printable(text: &str) -> String {
    /// Longer reasons say nothing more.
    const REASON_CHARS_MAX: usize = 200;
    text.chars()
        .filter(|character| !character.is_control())
        .take(REASON_CHARS_MAX)
        .collect()
}
