//! The one place where the rules and every connection's outbox live, behind one short lock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kinlog_feeds::crypto::SIGNATURE_BYTES;
use kinlog_feeds::{PublicKey, Time};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bus::Bus;
use crate::ice::Teller;
use crate::join::NONCE_BYTES;
use crate::limits::DIRECT_WRITES_MAX;
use crate::registry::{Announcement, Heartbeat};
use crate::rules::{
    ActivePeers, BusOutput, ByName, CallError, CloseReason, ConnectError, ConnectionId, Counters,
    Counts, Output, Rules, Signed,
};
use crate::server::outbox::{Full, Outbox};
use crate::server::record::{Direction, Record};
use crate::server::settings::Settings;
use crate::stun::StunSocket;
use crate::turn::TurnServer;
use crate::{ServerMessage, ServerName, Topic};

/// Rules, outboxes and clock of one server. No method awaits; the lock is never held across one.
#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    record: Option<Arc<dyn Record>>,
    stun: Option<StunSocket>,
    turn: Option<TurnServer>,
    ice: Teller,
    start: Instant,
    /// There is something to publish to other instances.
    pub(super) bus_changed: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) rules: Rules,
    /// The way to other instances, when there are any.
    pub(super) bus: Option<Bus>,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
    leaving: bool,
}

impl Hub {
    pub(super) fn new(settings: &Settings, ice: Teller, seed: u64, bus: Option<Bus>) -> Self {
        let mut rules = settings.rules;
        rules.tells_ice_servers = ice.has_any();
        let mut rules = Rules::new(rules, seed);
        if let Some(bus) = &bus {
            rules.join_cluster(bus.own(), unix_ms());
        }
        let state = State {
            rules,
            bus,
            outboxes: HashMap::new(),
            leaving: false,
        };
        Hub {
            state: Mutex::new(state),
            record: settings.record.clone(),
            stun: settings.stun.clone(),
            turn: settings.turn.clone(),
            ice,
            start: Instant::now(),
            bus_changed: Notify::new(),
        }
    }

    /// Takes a connection; what it is sent goes into the outbox.
    pub(super) fn connect(
        &self,
        address: IpAddr,
        server_names: Vec<ServerName>,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<(ConnectionId, Arc<Outbox>), ConnectError> {
        let mut state = self.lock();
        if state.leaving {
            state.rules.refuse_connect(ConnectError::ServerStops);
            return Err(ConnectError::ServerStops);
        }
        let result = state
            .rules
            .handle_connect(self.now(), address, server_names, nonce);
        let result = result.map(|id| {
            let outbox = Arc::new(Outbox::new());
            state.outboxes.insert(id, Arc::clone(&outbox));
            (id, outbox)
        });
        let told = self.drain(&mut state);
        drop(state);
        told.write();
        result
    }

    /// Takes a client's frame; returns how long to read nothing more from it.
    pub(super) fn frame(&self, from: ConnectionId, frame: Bytes) -> Duration {
        if let Some(record) = &self.record {
            record.record(Direction::In, from, &frame);
        }
        let mut state = self.lock();
        let pause = state.rules.handle_frame(self.now(), from, frame);
        let told = self.drain(&mut state);
        drop(state);
        told.write();
        pause
    }

    /// Takes note of a WebSocket ping or pong; returns how long to read nothing more.
    pub(super) fn keep_alive(&self, from: ConnectionId) -> Duration {
        self.lock().rules.handle_keep_alive(self.now(), from)
    }

    /// Forgets a connection whose task ends.
    pub(super) fn disconnect(&self, id: ConnectionId) {
        let mut state = self.lock();
        state.outboxes.remove(&id);
        state.rules.handle_disconnect(id);
        let told = self.drain(&mut state);
        drop(state);
        told.write();
    }

    /// Takes an announcement; see [`Rules::handle_announce`].
    pub(super) fn announce(
        &self,
        unix_s: u64,
        from: IpAddr,
        names: &[ServerName],
        said: Announcement,
        signatures: &[Signed],
    ) -> Result<(), CallError> {
        let (now, mut state) = (self.now(), self.lock());
        state
            .rules
            .handle_announce(now, unix_s, from, names, said, signatures)
    }

    /// Takes a heartbeat; see [`Rules::handle_heartbeat`].
    pub(super) fn heartbeat(
        &self,
        unix_s: u64,
        from: IpAddr,
        names: &[ServerName],
        said: &Heartbeat,
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<Vec<PublicKey>, CallError> {
        let (now, mut state) = (self.now(), self.lock());
        state
            .rules
            .handle_heartbeat(now, unix_s, from, names, said, signature)
    }

    /// Returns who is in a network.
    pub(super) fn active_peers(
        &self,
        from: IpAddr,
        topic: &Topic,
    ) -> Result<ActivePeers, CallError> {
        let (now, mut state) = (self.now(), self.lock());
        state.rules.active_peers(now, from, topic)
    }

    /// Returns the devices of one user in a network.
    pub(super) fn devices_of(
        &self,
        from: IpAddr,
        topic: &Topic,
        user: &PublicKey,
    ) -> Result<ActivePeers, CallError> {
        let (now, mut state) = (self.now(), self.lock());
        state.rules.devices_of(now, from, topic, user)
    }

    /// Does what is due and returns how long until the next time.
    pub(super) fn sweep(&self) -> Duration {
        let mut state = self.lock();
        state.rules.handle_timeout(self.now());
        let told = self.drain(&mut state);
        let due = state.rules.poll_timeout().map(|due| due.since(self.now()));
        drop(state);
        told.write();
        due.unwrap_or(crate::limits::SWEEP_INTERVAL)
    }

    /// Takes no further connection.
    pub(super) fn leave(&self) {
        self.lock().leaving = true;
    }

    /// Returns whether connections are taken.
    pub(super) fn is_ready(&self) -> bool {
        !self.lock().leaving
    }

    /// Closes every connection and takes no further one.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.leaving = true;
        for outbox in state.outboxes.values() {
            outbox.close(CloseReason::ServerStops);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().rules.counts()
    }

    pub(super) fn counters(&self) -> Counters {
        self.lock().rules.counters().clone()
    }

    /// Returns where STUN is answered.
    pub(super) fn stun(&self) -> Option<&StunSocket> {
        self.stun.as_ref()
    }

    /// Returns what relays, when something does.
    pub(super) fn turn(&self) -> Option<&TurnServer> {
        self.turn.as_ref()
    }

    pub(super) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns what is known of the bus to other instances, when there is one.
    pub(super) fn bus_status(&self) -> Option<BusStatus> {
        self.lock().bus.as_ref().map(|bus| BusStatus {
            connected: bus.is_connected(),
            instances: bus.instances(),
            refused: bus.refused().clone(),
        })
    }

    pub(super) fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what the rules want, up to the sockets: those are written to when the lock is not
    /// held any more. A full outbox closes its connection.
    pub(super) fn drain(&self, state: &mut State) -> Told {
        let mut told = Told::default();
        if let Some(bus) = &mut state.bus {
            tell_instances(&mut state.rules, bus, self.now());
            if bus.has_outgoing() {
                self.bus_changed.notify_one();
            }
        }
        while let Some(output) = state.rules.poll_output() {
            match output {
                Output::Send { to, frame } => self.put(state, &mut told, to, frame),
                Output::TellIceServers {
                    to,
                    topic,
                    key,
                    name,
                } => {
                    let servers = self.ice.tell(unix_seconds(), name.host(), &topic, &key);
                    let message = ServerMessage::IceServers { topic, servers };
                    self.put(state, &mut told, to, message.encode());
                }
                Output::Close { connection, reason } => {
                    if let Some(outbox) = state.outboxes.get(&connection) {
                        outbox.close(reason);
                    }
                }
            }
        }
        told
    }

    /// Puts a frame into a client's outbox.
    fn put(&self, state: &mut State, told: &mut Told, to: ConnectionId, frame: Bytes) {
        if let Some(record) = &self.record {
            record.record(Direction::Out, to, &frame);
        }
        let Some(outbox) = state.outboxes.get(&to) else {
            return;
        };
        match outbox.put(frame) {
            Ok(()) => told.outboxes.push(Arc::clone(outbox)),
            Err(Full) => state.rules.handle_unread(to),
        }
    }
}

/// Whose outboxes have something new.
#[derive(Debug, Default)]
#[must_use = "what waits in outboxes is to be written"]
pub(super) struct Told {
    outboxes: Vec<Arc<Outbox>>,
}

impl Told {
    /// Writes to the sockets of a few; of many, each task writes to its own.
    pub(super) fn write(self) {
        for (place, outbox) in self.outboxes.iter().enumerate() {
            if place < DIRECT_WRITES_MAX {
                outbox.flush_from_elsewhere();
            } else {
                outbox.changed.notify_one();
            }
        }
    }
}

/// What TURN servers look at the expiry of credentials by.
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What is known of other instances.
#[derive(Debug)]
pub(super) struct BusStatus {
    pub(super) connected: bool,
    pub(super) instances: usize,
    pub(super) refused: ByName,
}

/// Hands to the bus what the rules have for other instances, changes together.
fn tell_instances(rules: &mut Rules, bus: &mut Bus, now: Time) {
    let mut changes = Vec::new();
    while let Some(output) = rules.poll_bus_output() {
        match output {
            BusOutput::Change(change) => changes.push(change),
            BusOutput::Pass(pass) => bus.pass_on(unix_ms(), pass),
        }
    }
    if !changes.is_empty() {
        bus.say_changes(now, unix_ms(), changes);
    }
}

/// Returns the time since 1970; a clock before that is at 0, and nobody believes what it dates.
pub(super) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
