//! Several servers and a real Redis: Debian's redis-server on a free port of loopback.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::{KeyPair, PublicKey};
use kinlog_signal::bus::{BusSecret, BusSettings};
use kinlog_signal::server::{Cluster, Listeners};
use kinlog_signal::{
    Client, ClientConfig, ClientEvent, Settings, SignalKind, SignalUrl, Topic, serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Far above what anything here takes; a test that waits this long has failed.
const SOON: Duration = Duration::from_secs(30);

const TOPIC: Topic = Topic([1; 32]);

/// A Redis that writes nothing, killed when dropped.
struct Redis {
    port: u16,
    child: Child,
}

impl Redis {
    fn start() -> Redis {
        // Free now, and as good as surely in a moment: nothing else asks for it by number.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Redis::start_on(port)
    }

    fn start_on(port: u16) -> Redis {
        let port_text = port.to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port_text, "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let until = std::time::Instant::now() + SOON;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < until, "Redis does not listen");
            std::thread::yield_now();
        }
        Redis { port, child }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn kill(mut self) -> u16 {
        self.end();
        self.port
    }

    fn end(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn command(&self, words: &[&[u8]]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend(*word);
            request.extend(b"\r\n");
        }
        stream.write_all(&request).await.unwrap();
        let mut answer = [0; 4096];
        let read = timeout(SOON, stream.read(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer[..read.unwrap()]).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}

/// A server in a runtime of its own, so that it can be killed as a process is.
struct Server {
    address: SocketAddr,
    metrics: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    fn start(redis: &str) -> Server {
        let mut bus = BusSettings::default();
        bus.alive_interval = Duration::from_millis(500);
        bus.gone_after = Duration::from_secs(3);
        Server::start_with(redis, bus, b"a secret of thirty-two bytes, or more")
    }

    fn start_with(redis: &str, bus: BusSettings, secret: &[u8]) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut cluster = Cluster::new(redis, BusSecret::new(secret).unwrap()).unwrap();
        cluster.bus = bus;
        let settings = Settings::default().cluster(cluster);
        let bind = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            (listener.local_addr().unwrap(), listener)
        };
        let ((address, signal), (metrics, watched)) = (bind(), bind());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = runtime.spawn(async move {
            let listeners = Listeners::from(TcpListener::from_std(signal).unwrap());
            let listeners = listeners.metrics(TcpListener::from_std(watched).unwrap());
            serve(listeners, settings, async move {
                let _ = stopped.await;
            })
            .await
        });
        Server {
            address,
            metrics,
            stop: Some(stop),
            task,
            runtime: Some(runtime),
        }
    }

    fn url(&self) -> SignalUrl {
        format!("ws://{}", self.address).parse().unwrap()
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(SOON, &mut self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Ends it between two instructions: nobody is told.
    fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    async fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {page}"))
            .trim()
            .parse()
            .unwrap()
    }

    /// Waits until so many other instances are known and Redis is reached.
    async fn knows(&self, instances: u64) {
        self.until("kinlog_signal_bus_instances", instances).await;
        self.until("kinlog_signal_bus_connected", 1).await;
    }

    async fn until(&self, name: &str, value: u64) {
        let until = Instant::now() + SOON;
        while self.metric(&format!("{name} ")).await != value {
            assert!(Instant::now() < until, "{name} does not become {value}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Peer {
    client: Client,
    events: mpsc::Receiver<ClientEvent>,
    key: PublicKey,
}

impl Peer {
    async fn joined(server: &Server, seed: u8) -> (Peer, Vec<PublicKey>) {
        let (client, events) = Client::start(ClientConfig::new(server.url()));
        let key = KeyPair::from_seed(&[seed; 32]);
        client.join(TOPIC, key.clone());
        let key = key.public_key();
        let mut peer = Peer {
            client,
            events,
            key,
        };
        assert_eq!(peer.next().await, ClientEvent::Connected);
        match peer.next().await {
            ClientEvent::Joined { peers, .. } => (peer, peers),
            other => panic!("expected to join, got {other:?}"),
        }
    }

    async fn next(&mut self) -> ClientEvent {
        timeout(SOON, self.events.recv()).await.unwrap().unwrap()
    }

    /// Waits until a peer is said to have come or gone; returns how long that took.
    async fn hears(&mut self, joined: bool, wanted: PublicKey) -> Duration {
        let start = Instant::now();
        loop {
            match self.next().await {
                ClientEvent::PeerJoined { peer, .. } if joined && peer == wanted => break,
                ClientEvent::PeerLeft { peer, .. } if !joined && peer == wanted => break,
                ClientEvent::Disconnected { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
        start.elapsed()
    }

    async fn gets_offer(&mut self, wanted: &[u8]) {
        loop {
            match self.next().await {
                ClientEvent::Signal { body, .. } if body == wanted => return,
                ClientEvent::Disconnected { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
    }

    fn offer(&self, to: PublicKey, body: &'static [u8]) {
        let body = Bytes::from_static(body);
        self.client
            .send(TOPIC, to, SignalKind::Offer, body)
            .unwrap();
    }
}

#[tokio::test]
async fn redis_peers_of_three_instances_meet_and_redis_keeps_nothing() {
    let redis = Redis::start();
    let servers = [(); 3].map(|()| Server::start(&redis.url()));
    for server in &servers {
        server.knows(2).await;
    }
    let (mut a, _) = Peer::joined(&servers[0], 1).await;
    let (mut b, _) = Peer::joined(&servers[1], 2).await;
    a.hears(true, b.key).await;
    servers[2]
        .until("kinlog_signal_remote_memberships", 2)
        .await;
    let (mut c, listed) = Peer::joined(&servers[2], 3).await;
    assert_eq!(listed.len(), 2, "a newcomer is told of all: {listed:?}");
    a.hears(true, c.key).await;
    b.hears(true, c.key).await;
    a.offer(c.key, b"from one to three");
    c.gets_offer(b"from one to three").await;
    c.offer(b.key, b"from three to two");
    b.gets_offer(b"from three to two").await;
    assert_eq!(redis.command(&[b"DBSIZE"]).await, ":0\r\n");
    let c_key = c.key;
    drop(c);
    a.hears(false, c_key).await;
}

#[tokio::test]
async fn redis_a_stopped_instance_is_gone_at_once_and_a_killed_one_after_its_silence() {
    let redis = Redis::start();
    let servers = [(); 3].map(|()| Server::start(&redis.url()));
    for server in &servers {
        server.knows(2).await;
    }
    let [first, second, third] = servers;
    let (mut a, _) = Peer::joined(&first, 1).await;
    let (b, _) = Peer::joined(&second, 2).await;
    a.hears(true, b.key).await;
    let (c, _) = Peer::joined(&third, 3).await;
    a.hears(true, c.key).await;
    second.stop().await;
    assert!(a.hears(false, b.key).await < Duration::from_secs(2));
    third.kill();
    let silent = a.hears(false, c.key).await;
    assert!(
        silent > Duration::from_secs(1),
        "given up too soon: {silent:?}"
    );
    assert!(silent < Duration::from_secs(10), "a ghost for {silent:?}");
}

#[tokio::test]
async fn redis_an_outage_of_ten_seconds_loses_nothing_here_and_all_is_right_5_s_after() {
    let redis = Redis::start();
    let servers = [(); 2].map(|()| {
        let secret = b"a secret of thirty-two bytes, or more";
        Server::start_with(&redis.url(), BusSettings::default(), secret)
    });
    for server in &servers {
        server.knows(1).await;
    }
    let (mut a, _) = Peer::joined(&servers[0], 1).await;
    let (b, _) = Peer::joined(&servers[1], 2).await;
    a.hears(true, b.key).await;

    let port = redis.kill();
    let down = Instant::now();
    servers[0].until("kinlog_signal_bus_connected", 0).await;
    let (mut c, _) = Peer::joined(&servers[0], 3).await;
    a.hears(true, c.key).await;
    let (mut d, _) = Peer::joined(&servers[1], 4).await;
    let b_key = b.key;
    drop(b);
    let sent = 200u32;
    let mut got = 0;
    while got < sent {
        a.offer(c.key, b"inside one instance");
        c.gets_offer(b"inside one instance").await;
        got += 1;
    }
    // The outage that is promised; clients notice nothing of it.
    sleep(Duration::from_secs(10).saturating_sub(down.elapsed())).await;

    let _redis = Redis::start_on(port);
    let up = Instant::now();
    a.hears(true, d.key).await;
    let seen = up.elapsed();
    d.hears(true, c.key).await;
    servers[0]
        .until("kinlog_signal_remote_memberships", 1)
        .await;
    servers[1]
        .until("kinlog_signal_remote_memberships", 2)
        .await;
    let right = up.elapsed();
    assert!(
        right < Duration::from_secs(5),
        "right after {right:?}, first seen after {seen:?}"
    );
    a.offer(d.key, b"across again");
    d.gets_offer(b"across again").await;
    assert_ne!(b_key, d.key);
}

#[tokio::test]
async fn redis_whoever_has_another_secret_is_not_heard() {
    let redis = Redis::start();
    let first = Server::start(&redis.url());
    let other = b"another secret of thirty-two bytes or so";
    let stranger = Server::start_with(&redis.url(), BusSettings::default(), other);
    first.knows(0).await;
    stranger.knows(0).await;
    let (mut a, _) = Peer::joined(&first, 1).await;
    let (b, listed) = Peer::joined(&stranger, 2).await;
    assert_eq!(listed, []);
    let channels = redis.command(&[b"PUBSUB", b"CHANNELS", b"kinlog:*"]).await;
    let all = channels
        .lines()
        .filter(|line| line.matches(':').count() == 1)
        .collect::<Vec<_>>();
    assert_eq!(all.len(), 2, "a channel for each secret: {channels}");
    for channel in all {
        let forged = vec![7; 200];
        redis
            .command(&[b"PUBLISH", channel.as_bytes(), &forged])
            .await;
    }
    first
        .until("kinlog_signal_bus_refused_total{reason=\"mac\"}", 1)
        .await;
    let second = Server::start(&redis.url());
    second.until("kinlog_signal_remote_memberships", 1).await;
    let (c, listed) = Peer::joined(&second, 3).await;
    assert_eq!(listed, [a.key], "and not the stranger's");
    a.hears(true, c.key).await;
    assert_eq!(first.metric("kinlog_signal_remote_memberships ").await, 1);
    drop(b);
}
