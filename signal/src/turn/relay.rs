//! The state machine itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::Time;
use rtc_crypto::RTCCryptoProvider;
use rtc_stun::message::{METHOD_BINDING, Message};

use super::allocation::{Allocation, Made};
use super::auth::{Auth, REALM, User};
use super::counters::TurnCounts;
use super::limits::{LIFETIME_DEFAULT, OVERHEAD_BYTES, SWEEP_INTERVAL, TurnLimits};
use super::message::{
    ADDRESS_QUOTA, Answer, BAD_CREDENTIAL, FAMILY, MISMATCH, NAME_QUOTA, NO_CREDENTIAL, Received,
    Refusal, SERVER_QUOTA, STALE_NONCE, Wish, channel_data, data_indication, wish,
};
use super::peers::Reach;
use crate::ice::TurnSecrets;
use crate::rules::{AddressKey, Bucket};
use crate::stun::Responder;

/// The socket of an allocation, numbered in the order of making and never again.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RelayId(pub u64);

/// Where a client is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Client {
    /// At an address that sends datagrams.
    Udp(SocketAddr),
    /// Behind a TCP connection, numbered in the order of arrival.
    Tcp(u64, SocketAddr),
}

impl Client {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Client::Udp(address) | Client::Tcp(_, address) => *address,
        }
    }
}

/// What the driver is to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send a message to a client.
    ToClient { to: Client, bytes: Bytes },
    /// Send a datagram from the socket of an allocation.
    ToPeer {
        relay: RelayId,
        to: SocketAddr,
        data: Bytes,
    },
    /// Open a socket and call [`handle_opened`](Relay::handle_opened).
    Open { relay: RelayId },
    /// Close the socket of an allocation.
    Close { relay: RelayId },
}

/// An allocation whose socket is being opened.
#[derive(Debug)]
struct Opening {
    client: Client,
    request: Message,
    user: User,
    lifetime: Duration,
}

/// Relays for clients; see the module's documentation.
///
/// The drain rule: after every `handle_*`, call [`poll_output`](Self::poll_output) until `None`.
pub struct Relay {
    limits: TurnLimits,
    auth: Auth,
    reach: Reach,
    responder: Responder,
    total: Bucket,
    allocations: BTreeMap<Client, Allocation>,
    clients: BTreeMap<RelayId, Client>,
    opening: BTreeMap<RelayId, Opening>,
    next_relay: u64,
    next_indication: u64,
    next_sweep: Time,
    outputs: VecDeque<Output>,
    counts: TurnCounts,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Returns a relay without allocations. `relays_at` and `ports` say where relayed addresses will
    /// be; `nonces` are 32 fresh random bytes.
    pub fn new(
        limits: TurnLimits,
        secrets: TurnSecrets,
        (relays_at, ports): (IpAddr, RangeInclusive<u16>),
        nonces: [u8; 32],
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Relay {
        Relay {
            limits,
            auth: Auth::new(secrets, nonces, crypto),
            reach: Reach {
                relays_at,
                ports,
                own: BTreeSet::from([relays_at]),
                allows_loopback: false,
            },
            responder: Responder::new(limits.request_rate),
            total: Bucket::new(limits.total_rate, Time::ZERO),
            allocations: BTreeMap::new(),
            clients: BTreeMap::new(),
            opening: BTreeMap::new(),
            next_relay: 0,
            next_indication: 0,
            next_sweep: Time::ZERO + SWEEP_INTERVAL,
            outputs: VecDeque::new(),
            counts: TurnCounts::default(),
        }
    }

    /// For tests: lets loopback addresses be peers, on the ports of relayed addresses and others.
    pub(super) fn allow_loopback(&mut self) {
        self.reach.allows_loopback = true;
    }

    /// Lets none of these be a peer, but for where relayed addresses are: they are of this machine.
    pub(super) fn refuse_own(&mut self, own: impl IntoIterator<Item = IpAddr>) {
        let own = own.into_iter().map(|ip| ip.to_canonical());
        self.reach.own.extend(own);
    }

    /// Takes one message of a client.
    pub fn handle_client(&mut self, now: Time, unix_s: u64, client: Client, bytes: &[u8]) {
        match Received::decode(bytes) {
            Received::Request(request) if request.typ.method == METHOD_BINDING => {
                let from = client.address();
                if let Some(answer) = self.responder.handle_datagram(now, from, bytes) {
                    self.tell(client, answer.into());
                }
            }
            Received::Request(request) => self.request(now, unix_s, client, request),
            Received::Send { peer, data } => self.pass_on(now, client, Some(peer), data),
            Received::ChannelData { channel, data } => {
                let bound = self.allocations.get(&client);
                let peer = bound.and_then(|it| it.peer_of(now, channel));
                self.pass_on(now, client, peer, data);
            }
            Received::Other => self.counts.dropped.add("malformed", 1),
        }
    }

    /// Takes what became of [`Output::Open`]: where the socket is, or that there is none.
    pub fn handle_opened(&mut self, now: Time, relay: RelayId, opened: Option<SocketAddr>) {
        let Some(opening) = self.opening.remove(&relay) else {
            return;
        };
        let Some(relayed) = opened else {
            return self.refuse(
                opening.client,
                &opening.request,
                Some(&opening.user),
                SERVER_QUOTA,
            );
        };
        let mut answer = Answer::success(&opening.request)
            .relayed(relayed)
            .lifetime(opening.lifetime)
            .mapped(opening.client.address());
        self.auth.sign(&opening.user, &mut answer);
        let bytes = answer.bytes();
        let made = Made {
            relay,
            name: opening.user.name().to_owned(),
            username: opening.user.username,
            address: AddressKey::from(opening.client.address().ip()),
            until: now + opening.lifetime,
            made_by: (opening.request.transaction_id, bytes.clone()),
        };
        let allocation = Allocation::new(now, &self.limits, made);
        self.clients.insert(relay, opening.client);
        self.allocations.insert(opening.client, allocation);
        self.counts.allocated += 1;
        self.tell(opening.client, bytes);
    }

    /// Takes a datagram that came to the socket of an allocation.
    pub fn handle_peer(&mut self, now: Time, relay: RelayId, from: SocketAddr, data: &[u8]) {
        let Some(client) = self.clients.get(&relay).copied() else {
            return;
        };
        let Some(allocation) = self.allocations.get_mut(&client) else {
            return;
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if !allocation.permits(now, from.ip()) {
            return self.counts.dropped.add("no_permission", 1);
        }
        if let Err(reason) = spend(now, &mut allocation.bucket, &mut self.total, data.len()) {
            return self.counts.dropped.add(reason, 1);
        }
        self.counts.bytes_to_clients += data.len() as u64;
        let is_stream = matches!(client, Client::Tcp(..));
        let bytes = match allocation.channel_of(now, from) {
            Some(channel) => channel_data(channel, data, is_stream),
            None => {
                self.next_indication += 1;
                data_indication(self.next_indication, from, data)
            }
        };
        self.tell(client, bytes);
    }

    /// Takes note that a TCP connection ended.
    pub fn handle_gone(&mut self, client: Client) {
        self.end(client);
        self.opening.retain(|_, opening| opening.client != client);
    }

    /// Takes note that a message for a client found no place in its queue.
    pub fn handle_unsent(&mut self) {
        self.counts.dropped.add("queue", 1);
    }

    /// Ends what is over.
    pub fn handle_timeout(&mut self, now: Time) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        let mut over = Vec::new();
        for (client, allocation) in &mut self.allocations {
            allocation.sweep(now);
            if allocation.until <= now {
                over.push(*client);
            }
        }
        for client in over {
            self.end(client);
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Time {
        self.next_sweep
    }

    /// Returns the next thing to do, or `None` until new input.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns what was relayed and refused.
    pub fn counts(&self) -> TurnCounts {
        TurnCounts {
            allocations: self.allocations.len(),
            ..self.counts.clone()
        }
    }

    /// Returns whether a client has an allocation that is not over.
    pub fn serves(&self, now: Time, client: &Client) -> bool {
        let held = self.allocations.get(client);
        held.is_some_and(|allocation| now < allocation.until)
    }

    fn request(&mut self, now: Time, unix_s: u64, client: Client, mut request: Message) {
        let from = client.address();
        if !self.responder.may_ask(now, from) {
            return self.counts.refused.add("too_often", 1);
        }
        let known = self.allocations.get(&client).map(|it| it.username.as_str());
        let user = match self.auth.user(unix_s, from.ip(), &mut request, known) {
            Ok(user) => user,
            Err(refusal) => {
                self.counts.refused.add(refusal.1, 1);
                let mut answer = Answer::refused(&request, refusal);
                if [NO_CREDENTIAL, BAD_CREDENTIAL, STALE_NONCE].contains(&refusal) {
                    answer = answer.challenge(REALM, &self.auth.nonce(unix_s, from.ip()));
                }
                return self.tell(client, answer.bytes());
            }
        };
        let done = wish(&request).and_then(|wish| self.grant(now, client, &request, &user, wish));
        match done {
            Ok(None) => {}
            Ok(Some(mut answer)) => {
                self.auth.sign(&user, &mut answer);
                self.tell(client, answer.bytes());
            }
            Err(refusal) => self.refuse(client, &request, Some(&user), refusal),
        }
    }

    /// Does what an authenticated client wants; `None` is an answer that comes later or is sent.
    fn grant(
        &mut self,
        now: Time,
        client: Client,
        request: &Message,
        user: &User,
        wish: Wish,
    ) -> Result<Option<Answer>, Refusal> {
        if let Wish::Allocate { is_ipv6, lifetime } = wish {
            return self.allocate(client, request, user, is_ipv6, lifetime);
        }
        let Some(allocation) = self.allocations.get_mut(&client) else {
            return Err(MISMATCH);
        };
        allocation.username.clone_from(&user.username);
        let answer = Answer::success(request);
        match wish {
            Wish::Allocate { .. } => {}
            Wish::Refresh {
                lifetime: Some(Duration::ZERO),
            } => {
                self.end(client);
                return Ok(Some(answer.lifetime(Duration::ZERO)));
            }
            Wish::Refresh { lifetime } => {
                let wanted = granted(&self.limits, lifetime);
                allocation.until = (now + wanted).min(allocation.until_max);
                return Ok(Some(answer.lifetime(allocation.until.since(now))));
            }
            Wish::Permit { peers } => {
                for peer in &peers {
                    self.reach.check(*peer)?;
                }
                allocation.permit(now, &self.limits, &peers)?;
            }
            Wish::Bind { channel, peer } => {
                self.reach.check(peer.ip())?;
                allocation.bind(now, &self.limits, channel, peer)?;
            }
        }
        Ok(Some(answer))
    }

    fn allocate(
        &mut self,
        client: Client,
        request: &Message,
        user: &User,
        is_ipv6: bool,
        lifetime: Option<Duration>,
    ) -> Result<Option<Answer>, Refusal> {
        if let Some(held) = self.allocations.get(&client) {
            let (transaction, answer) = &held.made_by;
            if *transaction != request.transaction_id {
                return Err(MISMATCH);
            }
            let again = answer.clone();
            self.tell(client, again);
            return Ok(None);
        }
        let is_opening = |opening: &Opening| opening.client == client;
        if self.opening.values().any(is_opening) {
            return Ok(None);
        }
        if is_ipv6 != self.reach.relays_at.is_ipv6() {
            return Err(FAMILY);
        }
        let (name, address) = (user.name(), AddressKey::from(client.address().ip()));
        let held = self.allocations.values();
        if held.len() + self.opening.len() >= self.limits.allocations {
            return Err(SERVER_QUOTA);
        }
        if held.clone().filter(|it| it.name == name).count() >= self.limits.allocations_per_name {
            return Err(NAME_QUOTA);
        }
        let of_address = held.filter(|it| it.address == address).count();
        if of_address >= self.limits.allocations_per_address {
            return Err(ADDRESS_QUOTA);
        }
        let relay = RelayId(self.next_relay);
        self.next_relay += 1;
        let opening = Opening {
            client,
            request: request.clone(),
            user: user.clone(),
            lifetime: granted(&self.limits, lifetime),
        };
        self.opening.insert(relay, opening);
        self.outputs.push_back(Output::Open { relay });
        Ok(None)
    }

    /// Passes data on to a peer; an indication has no answer, whatever becomes of it.
    fn pass_on(&mut self, now: Time, client: Client, peer: Option<SocketAddr>, data: Bytes) {
        let Some(allocation) = self.allocations.get_mut(&client) else {
            return self.counts.dropped.add("no_allocation", 1);
        };
        let Some(peer) = peer.filter(|peer| allocation.permits(now, peer.ip())) else {
            return self.counts.dropped.add("no_permission", 1);
        };
        if !self.reach.has(peer) {
            return self.counts.dropped.add("peer_forbidden", 1);
        }
        if let Err(reason) = spend(now, &mut allocation.bucket, &mut self.total, data.len()) {
            return self.counts.dropped.add(reason, 1);
        }
        self.counts.bytes_to_peers += data.len() as u64;
        let relay = allocation.relay;
        let to = peer;
        self.outputs.push_back(Output::ToPeer { relay, to, data });
    }

    fn refuse(&mut self, client: Client, request: &Message, user: Option<&User>, refusal: Refusal) {
        self.counts.refused.add(refusal.1, 1);
        let mut answer = Answer::refused(request, refusal);
        if let Some(user) = user {
            self.auth.sign(user, &mut answer);
        }
        self.tell(client, answer.bytes());
    }

    fn tell(&mut self, to: Client, bytes: Bytes) {
        self.outputs.push_back(Output::ToClient { to, bytes });
    }

    fn end(&mut self, client: Client) {
        if let Some(ended) = self.allocations.remove(&client) {
            self.clients.remove(&ended.relay);
            let relay = ended.relay;
            self.outputs.push_back(Output::Close { relay });
        }
    }
}

fn granted(limits: &TurnLimits, wanted: Option<Duration>) -> Duration {
    let wanted = wanted.unwrap_or(LIFETIME_DEFAULT).max(LIFETIME_DEFAULT);
    wanted.min(limits.lifetime)
}

/// Takes a datagram from an allocation's share and from that of all, or from neither.
fn spend(
    now: Time,
    own: &mut Bucket,
    total: &mut Bucket,
    bytes: usize,
) -> Result<(), &'static str> {
    if !own.charge(now, 0).is_zero() {
        return Err("allocation_rate");
    }
    if !total.charge(now, 0).is_zero() {
        return Err("total_rate");
    }
    let bytes = u32::try_from(bytes + OVERHEAD_BYTES).unwrap_or(u32::MAX);
    own.charge(now, bytes);
    total.charge(now, bytes);
    Ok(())
}
