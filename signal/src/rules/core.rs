//! The state machine itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::crypto::SIGNATURE_BYTES;
use kinlog_feeds::{PublicKey, Time};

use crate::bus::Passed;
use crate::join::{NONCE_BYTES, verify_join};
use crate::limits::{
    BAD_SIGNATURE_TOKENS, BODY_BYTES_MAX, BYTES_PER_TOKEN, FRAME_BYTES_MAX, ICE_SERVERS_TOKENS,
    JOIN_WITHIN, OFFENCES_MAX, PEERS_LISTED_MAX, PEERS_PER_TOKEN, PING_INTERVAL, PROTOCOL_VERSION,
    SWEEP_INTERVAL,
};
use crate::rules::addresses::{AddressKey, Addresses};
use crate::rules::bucket::Bucket;
use crate::rules::cluster::Cluster;
use crate::rules::counters::Counters;
use crate::rules::registry::Registry;
use crate::rules::settings::RuleSettings;
use crate::rules::topics::{EnterError, Seat, Topics};
use crate::{
    AnnouncedLimits, ClientMessage, MessageError, Refusal, RefusalCode, ServerMessage, ServerName,
    SignalKind, Topic,
};

/// A connection, numbered in the order of arrival and never again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub u64);

/// What the driver is to do.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Send one WebSocket message. A driver whose queue for the connection is full closes it and
    /// calls [`handle_unread`](Rules::handle_unread).
    Send { to: ConnectionId, frame: Bytes },
    /// Tell a client the ICE servers; it may ask for them, and its tokens are taken.
    TellIceServers {
        to: ConnectionId,
        topic: Topic,
        /// By which it is in the topic.
        key: PublicKey,
        /// Under which it dialled this server.
        name: ServerName,
    },
    /// Close the connection; the rules have forgotten it already.
    Close {
        connection: ConnectionId,
        reason: CloseReason,
    },
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Nothing was heard for too long.
    #[error("nothing heard for too long")]
    Stale,
    /// No topic was joined in time, or newer connections needed the place.
    #[error("no topic joined in time")]
    NothingJoined,
    /// Too many messages that do not decode or signatures that do not hold.
    #[error("too many malformed messages or bad signatures")]
    Offences,
    /// A message above the limit.
    #[error("message above {FRAME_BYTES_MAX} bytes")]
    FrameTooLong,
    /// The client does not read what is sent to it.
    #[error("client does not read")]
    DoesNotRead,
    /// The server stops.
    #[error("server stops")]
    ServerStops,
}

impl CloseReason {
    /// Returns its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            CloseReason::Stale => "stale",
            CloseReason::NothingJoined => "nothing_joined",
            CloseReason::Offences => "offences",
            CloseReason::FrameTooLong => "frame_too_long",
            CloseReason::DoesNotRead => "does_not_read",
            CloseReason::ServerStops => "server_stops",
        }
    }
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The request named no server.
    #[error("request has no usable host header")]
    NoServerName,
    /// The server has as many connections as it may.
    #[error("server is full")]
    ServerFull,
    /// The address has as many connections as it may.
    #[error("too many connections from this address")]
    AddressFull,
    /// The server is about to stop; another one, or the same a little later, takes clients.
    #[error("server stops, try another one or again in a moment")]
    ServerStops,
}

impl ConnectError {
    /// Returns its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ConnectError::NoServerName => "no_server_name",
            ConnectError::ServerFull => "server_full",
            ConnectError::AddressFull => "address_full",
            ConnectError::ServerStops => "server_stops",
        }
    }
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Open connections.
    pub connections: usize,
    /// Open connections that have not joined anything yet.
    pub unjoined: usize,
    /// Topics with members.
    pub topics: usize,
    /// Memberships in all topics.
    pub memberships: usize,
    /// Memberships with other instances.
    pub remote_memberships: usize,
    /// Addresses that are remembered.
    pub addresses: usize,
}

/// The server's rules; see the module's documentation.
#[derive(Debug)]
pub struct Rules {
    settings: RuleSettings,
    connections: BTreeMap<ConnectionId, Connection>,
    unjoined: BTreeSet<ConnectionId>,
    pub(super) addresses: Addresses,
    pub(super) topics: Topics,
    pub(super) registry: Registry,
    next_id: u64,
    next_sweep: Time,
    outputs: VecDeque<Output>,
    pub(super) counters: Counters,
    pub(super) cluster: Option<Cluster>,
}

#[derive(Debug)]
struct Connection {
    address: AddressKey,
    /// The first is the one it joined under, once it has.
    server_names: Vec<ServerName>,
    nonce: [u8; NONCE_BYTES],
    opened: Time,
    last_heard: Time,
    bucket: Bucket,
    offences: u32,
    topics: BTreeMap<Topic, PublicKey>,
}

impl Rules {
    /// Returns the rules of an empty server; `seed` decides which peers of large topics are listed.
    pub fn new(settings: RuleSettings, seed: u64) -> Self {
        Rules {
            settings,
            connections: BTreeMap::new(),
            unjoined: BTreeSet::new(),
            addresses: Addresses::new(settings.address_rate, settings.connections_per_address_max),
            topics: Topics::new(
                settings.topic_join_rate,
                settings.peers_per_topic_max,
                settings.memberships_max,
                seed | 1,
            ),
            registry: Registry::default(),
            next_id: 0,
            next_sweep: Time::ZERO + SWEEP_INTERVAL,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            cluster: None,
        }
    }

    /// Takes a new connection and greets it.
    ///
    /// `server_names` are the names by which it may have dialled (see
    /// [`ServerName::from_host_header`]); `nonce` is 32 fresh random bytes.
    pub fn handle_connect(
        &mut self,
        now: Time,
        address: IpAddr,
        server_names: Vec<ServerName>,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<ConnectionId, ConnectError> {
        let taken = self.connect(now, address, server_names, nonce);
        match taken {
            Ok(_) => self.counters.connects += 1,
            Err(error) => self.counters.connects_refused.add(error.name(), 1),
        }
        taken
    }

    fn connect(
        &mut self,
        now: Time,
        address: IpAddr,
        server_names: Vec<ServerName>,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<ConnectionId, ConnectError> {
        if server_names.is_empty() {
            return Err(ConnectError::NoServerName);
        }
        if self.unjoined.len() >= self.settings.unjoined_max
            && let Some(oldest) = self.unjoined.first().copied()
        {
            self.close(oldest, CloseReason::NothingJoined);
        }
        if self.connections.len() >= self.settings.connections_max {
            return Err(ConnectError::ServerFull);
        }
        let address = AddressKey::from(address);
        if !self.addresses.admit(now, address) {
            return Err(ConnectError::AddressFull);
        }
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.connections.insert(
            id,
            Connection {
                address,
                server_names,
                nonce,
                opened: now,
                last_heard: now,
                bucket: Bucket::new(self.settings.connection_rate, now),
                offences: 0,
                topics: BTreeMap::new(),
            },
        );
        self.unjoined.insert(id);
        let limits = self.announced_limits();
        self.send(
            id,
            &ServerMessage::Hello {
                nonce,
                version: PROTOCOL_VERSION,
                limits,
            },
        );
        Ok(id)
    }

    /// Takes one WebSocket message and returns how long nothing more may be read from the sender.
    pub fn handle_frame(&mut self, now: Time, from: ConnectionId, frame: Bytes) -> Duration {
        let Some(connection) = self.connections.get_mut(&from) else {
            return Duration::ZERO;
        };
        connection.last_heard = now;
        let frame_tokens = u32::try_from(frame.len() / BYTES_PER_TOKEN).unwrap_or(u32::MAX);
        let cost = 1u32.saturating_add(frame_tokens);
        if frame.len() > FRAME_BYTES_MAX {
            self.close(from, CloseReason::FrameTooLong);
            return Duration::ZERO;
        }
        self.counters.received_bytes += frame.len() as u64;
        let message = ClientMessage::decode(frame);
        self.counters.frames.add(kind_name(&message), 1);
        let further = match message {
            Ok(ClientMessage::Join {
                topic,
                client_key,
                signature,
                ice_servers,
            }) => self.join(now, from, topic, client_key, &signature, ice_servers),
            Ok(ClientMessage::Leave { topic }) => self.leave(from, &topic),
            Ok(ClientMessage::Send {
                topic,
                to,
                kind,
                body,
            }) => self.pass_on(from, topic, to, kind, body),
            Ok(ClientMessage::Ping) => {
                self.send(from, &ServerMessage::Pong);
                0
            }
            Ok(ClientMessage::GetIceServers { topic }) => self.tell_ice_servers(from, topic),
            Err(error) => {
                self.refuse(from, RefusalCode::Malformed, None, error.to_string());
                self.offence(from)
            }
        };
        self.charge(now, from, cost.saturating_add(further))
    }

    /// Takes a WebSocket ping or pong, which the transport answers by itself; it costs a token too.
    pub fn handle_keep_alive(&mut self, now: Time, from: ConnectionId) -> Duration {
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.last_heard = now;
            self.counters.frames.add("keep_alive", 1);
        }
        self.charge(now, from, 1)
    }

    /// Takes note that a connection ended.
    pub fn handle_disconnect(&mut self, id: ConnectionId) {
        if self.forget(id) {
            self.counters.closes.add("disconnected", 1);
        }
    }

    /// Takes note that a connection ends because its client does not read.
    pub fn handle_unread(&mut self, id: ConnectionId) {
        if self.forget(id) {
            self.counters.closes.add(CloseReason::DoesNotRead.name(), 1);
        }
    }

    /// Counts a connection that the driver did not even ask for.
    pub fn refuse_connect(&mut self, error: ConnectError) {
        self.counters.connects_refused.add(error.name(), 1);
    }

    /// Closes connections that are stale or joined nothing in time.
    pub fn handle_timeout(&mut self, now: Time) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL.min(self.settings.stale_after);
        let overdue: Vec<(ConnectionId, CloseReason)> = self
            .connections
            .iter()
            .filter_map(|(id, connection)| {
                if connection.last_heard + self.settings.stale_after <= now {
                    return Some((*id, CloseReason::Stale));
                }
                let waited = connection.opened + JOIN_WITHIN <= now;
                (waited && self.unjoined.contains(id)).then_some((*id, CloseReason::NothingJoined))
            })
            .collect();
        for (id, reason) in overdue {
            self.close(id, reason);
        }
        self.addresses.sweep(now);
        self.registry.sweep(now);
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due; `None` while nothing is held.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let held = self.connections.len() + self.addresses.len() + self.registry.len();
        (held > 0).then_some(self.next_sweep)
    }

    /// Returns the next thing to do, or `None` until new input or the timeout.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns how much there is.
    pub fn counts(&self) -> Counts {
        let (topics, memberships) = self.topics.counts();
        Counts {
            connections: self.connections.len(),
            unjoined: self.unjoined.len(),
            topics,
            memberships,
            remote_memberships: self.topics.remote(),
            addresses: self.addresses.len(),
        }
    }

    /// Returns what happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Enters a topic; returns the tokens it costs beside the frame.
    fn join(
        &mut self,
        now: Time,
        from: ConnectionId,
        topic: Topic,
        key: PublicKey,
        signature: &[u8; SIGNATURE_BYTES],
        ice_servers: bool,
    ) -> u32 {
        let Some(connection) = self.connections.get_mut(&from) else {
            return 0;
        };
        let holds = |name| verify_join(&key, &connection.nonce, name, &topic, signature).is_ok();
        let Some(dialled) = connection.server_names.iter().position(holds) else {
            let shown = "signature of the join does not hold".to_owned();
            self.refuse(from, RefusalCode::BadSignature, Some(topic), shown);
            return self.offence(from).saturating_add(BAD_SIGNATURE_TOKENS);
        };
        connection.server_names.swap(0, dialled);
        let held = connection.topics.get(&topic).copied();
        if held.is_none() && connection.topics.len() >= self.settings.topics_per_connection_max {
            let shown = format!("at most {} topics", self.settings.topics_per_connection_max);
            self.refuse(from, RefusalCode::TooManyTopics, Some(topic), shown);
            return 0;
        }
        let since_ms = self.since_ms(now, &topic, &key);
        let before = match self.topics.enter(now, topic, key, from, since_ms) {
            Ok(before) => before,
            Err(error) => return self.refuse_entry(from, topic, error),
        };
        self.unjoined.remove(&from);
        if let Some(held) = held.filter(|held| *held != key) {
            self.exit(&topic, &held);
        }
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.topics.insert(topic, key);
        }
        // Before the peers, so that whoever dials them at once knows the servers.
        let told = match ice_servers && self.settings.tells_ice_servers {
            true => self.tell_ice_servers(from, topic),
            false => 0,
        };
        let peers = self.topics.sample(&topic, &key, PEERS_LISTED_MAX);
        self.send(from, &ServerMessage::Joined { topic, peers });
        self.tell_instances(topic, key, Some(since_ms));
        match before {
            // Asked again on the same connection: nothing changed for anybody else.
            Some(Seat::Here(same, _)) if same == from => return told,
            Some(Seat::Here(replaced, _)) => self.replace(replaced, topic, key),
            Some(Seat::There(instance, _)) => {
                self.forget_there(instance, &topic, &key);
                self.tell_others(&topic, &key, &ServerMessage::PeerLeft { topic, peer: key });
            }
            None => {}
        }
        self.tell_others(
            &topic,
            &key,
            &ServerMessage::PeerJoined { topic, peer: key },
        );
        told.saturating_add(self.fan_out_tokens(&topic))
    }

    /// Tells the ICE servers in the name of a topic; returns the tokens it costs beside the frame.
    fn tell_ice_servers(&mut self, from: ConnectionId, topic: Topic) -> u32 {
        let Some(connection) = self.connections.get(&from) else {
            return 0;
        };
        let key = connection.topics.get(&topic).copied();
        let (Some(key), Some(name)) = (key, connection.server_names.first().cloned()) else {
            self.refuse_not_joined(from, topic);
            return 0;
        };
        self.outputs.push_back(Output::TellIceServers {
            to: from,
            topic,
            key,
            name,
        });
        ICE_SERVERS_TOKENS
    }

    /// Takes a topic from a connection whose key came in elsewhere, and tells everybody.
    pub(super) fn replace(&mut self, replaced: ConnectionId, topic: Topic, key: PublicKey) {
        if let Some(connection) = self.connections.get_mut(&replaced) {
            connection.topics.remove(&topic);
        }
        let shown = "the same key joined on another connection".to_owned();
        self.refuse(replaced, RefusalCode::Replaced, Some(topic), shown);
        self.tell_others(&topic, &key, &ServerMessage::PeerLeft { topic, peer: key });
    }

    fn refuse_entry(&mut self, from: ConnectionId, topic: Topic, error: EnterError) -> u32 {
        let (code, shown, retry_after) = match error {
            EnterError::TooFast(wait) => (
                RefusalCode::RateLimited,
                "this topic is joined too often just now",
                wait,
            ),
            EnterError::Full => (RefusalCode::TopicFull, "this topic is full", Duration::ZERO),
            EnterError::ServerFull => (
                RefusalCode::ServerFull,
                "this server is full",
                Duration::ZERO,
            ),
        };
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        let message = shown.to_owned();
        let refusal = Refusal {
            code,
            topic: Some(topic),
            peer: None,
            message,
            retry_after_ms,
        };
        self.send(from, &ServerMessage::Error(refusal));
        0
    }

    /// Leaves a topic; returns the tokens it costs beside the frame.
    fn leave(&mut self, from: ConnectionId, topic: &Topic) -> u32 {
        let held = self
            .connections
            .get_mut(&from)
            .and_then(|held| held.topics.remove(topic));
        let Some(key) = held else { return 0 };
        let cost = self.fan_out_tokens(topic);
        self.exit(topic, &key);
        cost
    }

    /// Passes a signal on to one peer; returns the tokens it costs beside the frame.
    fn pass_on(
        &mut self,
        from: ConnectionId,
        topic: Topic,
        to: PublicKey,
        kind: SignalKind,
        body: Bytes,
    ) -> u32 {
        let held = self
            .connections
            .get(&from)
            .and_then(|held| held.topics.get(&topic));
        let Some(sender) = held.copied() else {
            self.refuse_not_joined(from, topic);
            return 0;
        };
        let seat = self.topics.member(&topic, &to);
        match seat {
            Some(Seat::There(instance, _)) if self.reaches_instances() => {
                self.counters.relayed.add(kind.name(), 1);
                self.counters.relayed_bytes += body.len() as u64;
                self.pass_to_instance(
                    instance,
                    Passed {
                        topic,
                        from: sender,
                        to,
                        kind,
                        body,
                    },
                );
            }
            Some(Seat::Here(receiver, _)) => {
                self.counters.relayed.add(kind.name(), 1);
                self.counters.relayed_bytes += body.len() as u64;
                self.send(
                    receiver,
                    &ServerMessage::Signal {
                        topic,
                        from: sender,
                        kind,
                        body,
                    },
                );
            }
            Some(Seat::There(..)) | None => {
                let refusal = Refusal {
                    code: RefusalCode::NoSuchPeer,
                    topic: Some(topic),
                    peer: Some(to),
                    message: "peer is not in this topic".to_owned(),
                    retry_after_ms: 0,
                };
                self.send(from, &ServerMessage::Error(refusal));
            }
        }
        0
    }

    /// Charges connection and address; the longer debt counts.
    fn charge(&mut self, now: Time, from: ConnectionId, cost: u32) -> Duration {
        let Some(connection) = self.connections.get_mut(&from) else {
            return Duration::ZERO;
        };
        let own = connection.bucket.charge(now, cost);
        let pause = own.max(self.addresses.charge(now, connection.address, cost));
        if !pause.is_zero() {
            self.counters.pauses += 1;
        }
        pause
    }

    /// Counts an offence and closes after too many; costs nothing further.
    fn offence(&mut self, from: ConnectionId) -> u32 {
        let Some(connection) = self.connections.get_mut(&from) else {
            return 0;
        };
        connection.offences += 1;
        if connection.offences >= OFFENCES_MAX {
            self.close(from, CloseReason::Offences);
        }
        0
    }

    fn refuse_not_joined(&mut self, to: ConnectionId, topic: Topic) {
        let shown = "not in this topic".to_owned();
        self.refuse(to, RefusalCode::NotJoined, Some(topic), shown);
    }

    fn refuse(
        &mut self,
        to: ConnectionId,
        code: RefusalCode,
        topic: Option<Topic>,
        message: String,
    ) {
        let refusal = Refusal {
            code,
            topic,
            peer: None,
            message,
            retry_after_ms: 0,
        };
        self.send(to, &ServerMessage::Error(refusal));
    }

    pub(super) fn send(&mut self, to: ConnectionId, message: &ServerMessage) {
        if let ServerMessage::Error(refusal) = message {
            self.counters.refusals.add(refusal.code.name(), 1);
        }
        let frame = message.encode();
        self.output(to, frame);
    }

    fn output(&mut self, to: ConnectionId, frame: Bytes) {
        self.counters.sent_frames += 1;
        self.counters.sent_bytes += frame.len() as u64;
        self.outputs.push_back(Output::Send { to, frame });
    }

    /// Encodes once, sends to every member but `key`.
    pub(super) fn tell_others(&mut self, topic: &Topic, key: &PublicKey, message: &ServerMessage) {
        let frame = message.encode();
        for to in self.topics.others(topic, key) {
            self.output(to, frame.clone());
        }
    }

    fn fan_out_tokens(&self, topic: &Topic) -> u32 {
        u32::try_from(self.topics.len(topic) / PEERS_PER_TOKEN).unwrap_or(u32::MAX)
    }

    /// Takes a member out of a topic and tells the others.
    pub(super) fn exit(&mut self, topic: &Topic, key: &PublicKey) {
        if self.topics.exit(topic, key) {
            self.tell_instances(*topic, *key, None);
            let message = ServerMessage::PeerLeft {
                topic: *topic,
                peer: *key,
            };
            self.tell_others(topic, key, &message);
        }
    }

    fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        if self.forget(id) {
            self.counters.closes.add(reason.name(), 1);
            self.outputs.push_back(Output::Close {
                connection: id,
                reason,
            });
        }
    }

    /// Forgets a connection with all its memberships; whether there was one.
    fn forget(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.remove(&id) else {
            return false;
        };
        self.unjoined.remove(&id);
        self.addresses.release(connection.address);
        for (topic, key) in &connection.topics {
            self.exit(topic, key);
        }
        true
    }

    fn announced_limits(&self) -> AnnouncedLimits {
        let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let millis = |value: Duration| u32::try_from(value.as_millis()).unwrap_or(u32::MAX);
        AnnouncedLimits {
            topics_max: count(self.settings.topics_per_connection_max),
            peers_max: count(self.settings.peers_per_topic_max),
            peers_listed_max: count(PEERS_LISTED_MAX),
            body_bytes_max: count(BODY_BYTES_MAX),
            frame_bytes_max: count(FRAME_BYTES_MAX),
            ping_interval_ms: millis(PING_INTERVAL),
            stale_after_ms: millis(self.settings.stale_after),
        }
    }
}

/// Returns a frame's kind as metrics name it.
fn kind_name(message: &Result<ClientMessage, MessageError>) -> &'static str {
    match message {
        Ok(ClientMessage::Join { .. }) => "join",
        Ok(ClientMessage::Leave { .. }) => "leave",
        Ok(ClientMessage::Send { kind, .. }) => kind.name(),
        Ok(ClientMessage::Ping) => "ping",
        Ok(ClientMessage::GetIceServers { .. }) => "get_ice_servers",
        Err(_) => "malformed",
    }
}
