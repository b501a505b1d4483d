//! The sockets of the relay.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kinlog_feeds::Time;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::counters::TurnCounts;
use super::limits::{
    MESSAGE_BYTES_MAX, PORT_TRIES_MAX, STREAMS_MAX, STREAMS_PER_ADDRESS_MAX, TurnLimits,
};
use super::queue::{Queue, queue};
use super::relay::{Client, Output, Relay, RelayId};
use super::stream;
use crate::ice::TurnSecrets;
use crate::limits::STUN_ERROR_PAUSE;
use crate::rules::AddressKey;

/// Ports that the system gives to nobody by itself on most machines, as RFC 8656 proposes.
const PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// Where a relay listens and relays.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TurnSettings {
    /// Where clients come, by UDP and TCP.
    pub listen: SocketAddr,
    /// Address of this machine from which peers are sent to.
    pub bind: IpAddr,
    /// That address as the internet sees it; another one behind a router that maps it one to one.
    pub public: IpAddr,
    /// Ports of relayed addresses, to be open for UDP. Default 49,152 to 65,535.
    pub ports: RangeInclusive<u16>,
    /// By which credentials are signed.
    pub secrets: TurnSecrets,
    /// Quotas.
    pub limits: TurnLimits,
    /// For tests alone: lets peers be on loopback. Default off.
    pub allows_loopback: bool,
}

impl TurnSettings {
    /// Relays from one public address of this machine.
    pub fn new(listen: SocketAddr, relays_at: IpAddr, secrets: TurnSecrets) -> Self {
        TurnSettings {
            listen,
            bind: relays_at,
            public: relays_at,
            ports: PORTS,
            secrets,
            limits: TurnLimits::default(),
            allows_loopback: false,
        }
    }
}

/// A TURN server; clones share it.
#[derive(Clone, Debug)]
pub struct TurnServer(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    udp: UdpSocket,
    tcp: TcpListener,
    bind: IpAddr,
    public: IpAddr,
    ports: RangeInclusive<u16>,
    pub(super) stream_idle: Duration,
    start: Instant,
    relay: Mutex<Relay>,
    /// Sockets of allocations.
    sockets: Mutex<BTreeMap<RelayId, Socket>>,
    /// Clients by TCP.
    streams: Mutex<BTreeMap<Client, Stream>>,
}

#[derive(Debug)]
struct Socket {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
}

#[derive(Debug)]
struct Stream {
    queue: Queue,
    task: Option<AbortHandle>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl TurnServer {
    /// Binds the address of clients, for UDP and TCP; port 0 takes one that is free for both.
    ///
    /// # Errors
    ///
    /// Returns the system's error, such as that the port is taken.
    pub async fn bind(settings: TurnSettings) -> io::Result<Self> {
        let (tcp, udp) = bind_both(settings.listen).await?;
        let mut nonces = [0; 32];
        getrandom::fill(&mut nonces).map_err(io::Error::other)?;
        let crypto = rtc_crypto::default_provider().map_err(io::Error::other)?;
        let relays_at = (settings.public, settings.ports.clone());
        let stream_idle = settings.limits.stream_idle;
        let mut relay = Relay::new(settings.limits, settings.secrets, relays_at, nonces, crypto);
        if settings.allows_loopback {
            relay.allow_loopback();
        }
        relay.refuse_own(own_addresses());
        relay.refuse_own([settings.bind, settings.listen.ip()]);
        Ok(TurnServer(Arc::new(Shared {
            udp,
            tcp,
            bind: settings.bind,
            public: settings.public,
            ports: settings.ports,
            stream_idle,
            start: Instant::now(),
            relay: Mutex::new(relay),
            sockets: Mutex::default(),
            streams: Mutex::default(),
        })))
    }

    /// Returns where clients come.
    ///
    /// # Errors
    ///
    /// Returns the system's error.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.tcp.local_addr()
    }

    /// Returns what was relayed and refused so far.
    pub fn counts(&self) -> TurnCounts {
        self.0.relay().counts()
    }

    /// Relays until the future is dropped; then every allocation ends. A signal server that was given
    /// it does this.
    pub async fn run(&self) {
        let _ends = Ends(&self.0);
        let mut number = 0;
        let mut datagram = vec![0; MESSAGE_BYTES_MAX + 1];
        let (mut read_at, mut accept_at) = (None, None);
        loop {
            let due = self.0.start + self.0.relay().poll_timeout().since(Time::ZERO);
            tokio::select! {
                () = sleep_until(due) => self.0.input(|relay, now, _| relay.handle_timeout(now)),
                received = after(read_at, self.0.udp.recv_from(&mut datagram)) => match received {
                    Ok((count, from)) => {
                        read_at = None;
                        let bytes = datagram.get(..count).unwrap_or_default();
                        self.0.handle_client(Client::Udp(from), bytes);
                    }
                    Err(error) => read_at = Some(pause("no datagram", &error)),
                },
                accepted = after(accept_at, self.0.tcp.accept()) => match accepted {
                    Ok((stream, from)) => {
                        accept_at = None;
                        number += 1;
                        self.0.accept(Client::Tcp(number, from), stream);
                    }
                    Err(error) => accept_at = Some(pause("accept failed", &error)),
                },
            }
        }
    }
}

/// Ends tasks that would outlive the server.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.sockets().clear();
        for stream in self.0.streams().values() {
            if let Some(task) = &stream.task {
                task.abort();
            }
        }
    }
}

/// Returns until when to leave alone what failed; everything else goes on meanwhile.
fn pause(what: &str, error: &io::Error) -> Instant {
    debug!(%error, "{what}");
    Instant::now() + STUN_ERROR_PAUSE
}

/// Does something, but not before a time.
async fn after<T>(at: Option<Instant>, does: impl Future<Output = T>) -> T {
    if let Some(at) = at {
        sleep_until(at).await;
    }
    does.await
}

/// Returns the addresses of this machine.
fn own_addresses() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(|one| one.ip()).collect(),
        Err(error) => {
            // It may be forbidden to ask: AF_NETLINK in RestrictAddressFamilies of the unit.
            warn!(%error, "own addresses are unknown: the relay refuses none but those given");
            Vec::new()
        }
    }
}

async fn bind_both(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((tcp, udp)),
            Err(_) if address.port() == 0 && tries < PORT_TRIES_MAX => {}
            Err(error) => return Err(error),
        }
    }
}

impl Shared {
    pub(super) fn handle_client(self: &Arc<Self>, client: Client, bytes: &[u8]) {
        self.input(|relay, now, unix_s| relay.handle_client(now, unix_s, client, bytes));
    }

    pub(super) fn serves(&self, client: &Client) -> bool {
        self.relay().serves(self.now(), client)
    }

    /// Tells the relay something and carries out what it wants.
    fn input(self: &Arc<Self>, tell: impl FnOnce(&mut Relay, Time, u64)) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_s = since.map_or(0, |since| since.as_secs());
        let now = self.now();
        let mut outputs = Vec::new();
        let mut relay = self.relay();
        tell(&mut relay, now, unix_s);
        while let Some(output) = relay.poll_output() {
            match output {
                Output::Open { relay: id } => {
                    let opened = self.open(id);
                    if let Err(error) = &opened {
                        debug!(%error, "no socket for an allocation");
                    }
                    relay.handle_opened(now, id, opened.ok());
                }
                output => outputs.push(output),
            }
        }
        drop(relay);
        for output in outputs {
            self.carry_out(output);
        }
    }

    /// Sends; what a socket does not take at once is lost, as on any way of datagrams.
    fn carry_out(&self, output: Output) {
        match output {
            Output::ToClient {
                to: Client::Udp(to),
                bytes,
            } => {
                if self.udp.try_send_to(&bytes, to).is_err() {
                    self.relay().handle_unsent();
                }
            }
            Output::ToClient { to, bytes } => {
                let queue = self.streams().get(&to).map(|stream| stream.queue.clone());
                if queue.is_some_and(|queue| queue.put(bytes).is_err()) {
                    self.relay().handle_unsent();
                }
            }
            Output::ToPeer { relay, to, data } => {
                let socket = self.sockets().get(&relay).map(|it| Arc::clone(&it.socket));
                if socket.is_some_and(|socket| socket.try_send_to(&data, to).is_err()) {
                    self.relay().handle_unsent();
                }
            }
            Output::Close { relay } => drop(self.sockets().remove(&relay)),
            Output::Open { .. } => {}
        }
    }

    /// Opens a socket on some free port, and starts to read it.
    fn open(self: &Arc<Self>, id: RelayId) -> io::Result<SocketAddr> {
        let count = u32::from(self.ports.end().saturating_sub(*self.ports.start())) + 1;
        let mut tries = 0;
        let bound = loop {
            tries += 1;
            let drawn = getrandom::u32().map_err(io::Error::other)? % count;
            let port = self
                .ports
                .start()
                .saturating_add(u16::try_from(drawn).unwrap_or_default());
            match std::net::UdpSocket::bind((self.bind, port)) {
                Ok(bound) => break bound,
                Err(error) if tries >= PORT_TRIES_MAX => return Err(error),
                Err(_) => {}
            }
        };
        bound.set_nonblocking(true)?;
        let port = bound.local_addr()?.port();
        let socket = Arc::new(UdpSocket::from_std(bound)?);
        let reader = tokio::spawn(read_peers(Arc::clone(self), id, Arc::clone(&socket)));
        let reader = reader.abort_handle();
        self.sockets().insert(id, Socket { socket, reader });
        Ok(SocketAddr::new(self.public, port))
    }

    /// Starts the task of a client by TCP, unless there are too many.
    fn accept(self: &Arc<Self>, client: Client, stream: TcpStream) {
        let mut streams = self.streams();
        let of = |client: &Client| AddressKey::from(client.address().ip());
        let same = streams
            .keys()
            .filter(|other| of(other) == of(&client))
            .count();
        if streams.len() >= STREAMS_MAX || same >= STREAMS_PER_ADDRESS_MAX {
            debug!("too many clients by TCP");
            return;
        }
        let (queue, queued) = queue();
        streams.insert(client, Stream { queue, task: None });
        let shared = Arc::clone(self);
        let task = tokio::spawn(async move {
            stream::run(Arc::clone(&shared), client, stream, queued).await;
            shared.streams().remove(&client);
            shared.input(|relay, _, _| relay.handle_gone(client));
        });
        if let Some(stream) = streams.get_mut(&client) {
            stream.task = Some(task.abort_handle());
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    fn relay(&self) -> MutexGuard<'_, Relay> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> MutexGuard<'_, BTreeMap<RelayId, Socket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<Client, Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands what peers send to the relay until the allocation ends.
async fn read_peers(shared: Arc<Shared>, id: RelayId, socket: Arc<UdpSocket>) {
    let mut datagram = vec![0; MESSAGE_BYTES_MAX + 1];
    loop {
        match socket.recv_from(&mut datagram).await {
            Ok((count, from)) if count <= MESSAGE_BYTES_MAX => {
                let bytes = datagram.get(..count).unwrap_or_default();
                shared.input(|relay, now, _| relay.handle_peer(now, id, from, bytes));
            }
            Ok(_) => {}
            Err(error) => sleep_until(pause("no datagram of a peer", &error)).await,
        }
    }
}
