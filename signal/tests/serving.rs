//! What an operator relies on: metrics, a clean stop, TLS, proxies, and no ghosts.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_signal::limits::{HANDSHAKES_PER_ADDRESS_MAX, METRICS_HANDSHAKES_MAX};
use kinlog_signal::rules::RuleSettings;
use kinlog_signal::server::{HeaderName, Listeners, tls_from_files};
use kinlog_signal::{
    Client, ClientConfig, ClientEvent, Settings, SignalKind, SignalUrl, Topic, serve,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Far above what anything here takes; a test that waits this long has failed.
const SOON: Duration = Duration::from_secs(20);

const TOPIC: Topic = Topic([1; 32]);

struct Server {
    address: SocketAddr,
    metrics: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start(settings: Settings) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let watched = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let metrics = watched.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let listeners = Listeners::from(listener).metrics(watched);
        Server {
            address,
            metrics,
            stop: Some(stop),
            task: tokio::spawn(serve(listeners, settings, shutdown)),
        }
    }

    fn url(&self) -> SignalUrl {
        format!("ws://{}", self.address).parse().unwrap()
    }

    fn tell_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Returns one value of the metrics page.
    async fn metric(&self, name: &str) -> Option<u64> {
        let page = get(self.metrics, "/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    }
}

struct Peer {
    client: Client,
    events: mpsc::Receiver<ClientEvent>,
    key: KeyPair,
}

impl Peer {
    async fn joined(config: ClientConfig, seed: u8) -> Peer {
        let (client, events) = Client::start(config);
        let key = KeyPair::from_seed(&[seed; 32]);
        client.join(TOPIC, key.clone());
        let mut peer = Peer {
            client,
            events,
            key,
        };
        assert_eq!(peer.next().await, ClientEvent::Connected);
        let joined = peer.next().await;
        assert!(matches!(joined, ClientEvent::Joined { .. }), "{joined:?}");
        peer
    }

    async fn next(&mut self) -> ClientEvent {
        timeout(SOON, self.events.recv()).await.unwrap().unwrap()
    }
}

async fn ask<S>(mut stream: S, path: &str, host: &str, more: &str) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Who closes without TLS's goodbye, or resets, has said all that there is.
    let _ = timeout(SOON, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    ask(stream, path, &address.to_string(), "").await
}

/// Asks for a WebSocket as a client behind a proxy; returns the stream and the head of the answer.
async fn upgrade(address: SocketAddr, forwarded: Option<&str>) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let line = forwarded.map(|by| format!("x-forwarded-for: {by}\r\n"));
    let request = format!(
        "GET /v1 HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
        line.unwrap_or_default()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if timeout(SOON, stream.read(&mut byte))
            .await
            .unwrap()
            .unwrap()
            == 0
        {
            break;
        }
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn metrics_count_what_happens_and_name_nobody() {
    let server = Server::start(Settings::default()).await;
    let a = Peer::joined(ClientConfig::new(server.url()), 1).await;
    let mut b = Peer::joined(ClientConfig::new(server.url()), 2).await;
    let body = Bytes::from_static(b"the body of an offer");
    let to = b.key.public_key();
    a.client
        .send(TOPIC, to, SignalKind::Offer, body.clone())
        .unwrap();
    assert!(matches!(b.next().await, ClientEvent::Signal { .. }));
    let page = get(server.metrics, "/metrics").await;
    assert!(
        page.contains("content-type: text/plain; version=0.0.4"),
        "{page}"
    );
    for line in [
        "# TYPE kinlog_signal_connections gauge",
        "kinlog_signal_connections 2",
        "kinlog_signal_topics 1",
        "kinlog_signal_memberships 2",
        "# TYPE kinlog_signal_frames_total counter",
        "kinlog_signal_frames_total{kind=\"join\"} 2",
        "kinlog_signal_frames_total{kind=\"offer\"} 1",
        "kinlog_signal_relayed_total{kind=\"offer\"} 1",
        "kinlog_signal_relayed_bytes_total 20",
        "kinlog_signal_refusals_total{code=\"bad_signature\"} 0",
        "kinlog_signal_ready 1",
    ] {
        assert!(
            page.lines().any(|found| found == line),
            "no {line:?} in\n{page}"
        );
    }
    assert!(
        server
            .metric("process_resident_memory_bytes")
            .await
            .unwrap()
            > 1_000_000
    );
    for secret in [&TOPIC.0[..], &to.0[..]] {
        let hex = kinlog_feeds::text::encode_hex(secret);
        assert!(!page.contains(&hex) && !page.contains(&kinlog_feeds::text::encode(secret)));
    }
    let elsewhere = get(server.address, "/metrics").await;
    assert!(
        elsewhere.starts_with("HTTP/1.1 404 "),
        "clients do not see them: {elsewhere}"
    );
}

/// All clients shared one number of unfinished requests, and with them whoever reads the metrics.
#[tokio::test]
async fn who_asks_nothing_keeps_out_himself_and_nobody_else() {
    let server = Server::start(Settings::default()).await;
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_PER_ADDRESS_MAX {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = get(server.address, "/api/health").await;
    assert_eq!(answer, "", "one too many");
    let mut watchers = Vec::new();
    for _ in 0..METRICS_HANDSHAKES_MAX - 1 {
        watchers.push(TcpStream::connect(server.metrics).await.unwrap());
    }
    let answer = get(server.metrics, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let header = HeaderName::from_static("x-forwarded-for");
    let behind = Server::start(Settings::default().proxy_header(header)).await;
    for _ in 0..=HANDSHAKES_PER_ADDRESS_MAX {
        silent.push(TcpStream::connect(behind.address).await.unwrap());
    }
    let answer = get(behind.address, "/api/health").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 "),
        "a proxy is one address: {answer}"
    );
}

#[tokio::test]
async fn a_server_that_stops_says_so_first_then_sends_its_clients_away() {
    let wait = Duration::from_millis(700);
    let mut server = Server::start(Settings::default().leave_after(wait)).await;
    let mut peer = Peer::joined(ClientConfig::new(server.url()), 1).await;
    assert!(
        get(server.address, "/api/ready")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    server.tell_to_stop();
    let told = Instant::now();
    let ready = loop {
        let answer = get(server.address, "/api/ready").await;
        if !answer.starts_with("HTTP/1.1 200 ") {
            break answer;
        }
        assert!(told.elapsed() < SOON);
    };
    assert!(
        ready.starts_with("HTTP/1.1 503 ") && ready.contains("stopping"),
        "{ready}"
    );
    assert_eq!(server.metric("kinlog_signal_ready").await, Some(0));
    assert!(
        get(server.address, "/api/health")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let (_, head) = upgrade(server.address, None).await;
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 5"),
        "{head}"
    );
    match peer.next().await {
        ClientEvent::Disconnected { reason, .. } => {
            assert!(reason.contains("server stops"), "{reason}");
        }
        other => panic!("got {other:?}"),
    }
    assert!(told.elapsed() >= wait, "not before the time is over");
    timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
    let refused = TcpStream::connect(server.address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_client_that_takes_no_goodbye_does_not_keep_the_server() {
    let mut server = Server::start(Settings::default()).await;
    let (_deaf, head) = upgrade(server.address, None).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    server.tell_to_stop();
    let told = Instant::now();
    timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
    assert!(told.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn who_went_silent_without_a_word_is_gone_for_the_others() {
    let mut rules = RuleSettings::default();
    rules.stale_after = Duration::from_secs(2);
    let server = Server::start(Settings::default().rules(rules)).await;
    let silent = Peer::joined(ClientConfig::new(server.url()), 1).await;
    let ghost = silent.key.public_key();
    // Its connection stays open and nothing comes over it, as when a laptop is closed: a client
    // whose events nobody takes pings no more than once in 20 s.
    let mut other = Peer::joined(ClientConfig::new(server.url()), 2).await;
    let start = Instant::now();
    let gone = loop {
        // The other one is heard of.
        let _ = other
            .client
            .send(TOPIC, ghost, SignalKind::Candidate, Bytes::new());
        match timeout(Duration::from_millis(100), other.events.recv()).await {
            Ok(Some(ClientEvent::PeerLeft { peer, .. })) => break peer,
            Ok(Some(ClientEvent::Disconnected { reason, .. })) => panic!("{reason}"),
            _ => assert!(start.elapsed() < SOON),
        }
    };
    assert_eq!(gone, ghost);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(
        server
            .metric("kinlog_signal_closes_total{reason=\"stale\"}")
            .await,
        Some(1)
    );
    drop(silent);
}

/// Returns bytes in PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, chunk) in der.chunks(3).enumerate() {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..4 {
            text.push(match place <= chunk.len() {
                true => char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]),
                false => '=',
            });
        }
        if at % 16 == 15 {
            text.push('\n');
        }
    }
    text + &format!("\n-----END {label}-----\n")
}

/// Writes a certificate for localhost; returns where it is, where its key is, and itself.
fn certificate(folder: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, pem("CERTIFICATE", made.cert.der())).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
    (certificate, key, made.cert.der().to_vec())
}

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("kinlog-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn with_a_certificate_clients_and_readers_come_over_tls() {
    let folder = Folder::new("tls-served");
    let (certificate, key, der) = certificate(&folder.0);
    let server =
        Server::start(Settings::default().tls(tls_from_files(&certificate, &key).unwrap()));
    let server = server.await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der.into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = Arc::new(tls);
    let url = format!("wss://localhost:{}", server.address.port());
    let mut config = ClientConfig::new(url.parse().unwrap());
    config.tls = Some(Arc::clone(&tls));
    let _peer = Peer::joined(config, 1).await;

    let plain = get(server.address, "/api/health").await;
    assert!(!plain.contains("200"), "{plain}");
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .unwrap();
    let health = ask(stream, "/api/health", "localhost", "").await;
    assert!(health.contains("\"connections\":1"), "{health}");
}

#[test]
fn certificates_that_do_not_fit_are_named() {
    let folder = Folder::new("tls-refused");
    let (certificate, key, _) = certificate(&folder.0);
    let missing = folder.0.join("missing.pem");
    let shown = tls_from_files(&missing, &key).unwrap_err().to_string();
    assert!(shown.contains("missing.pem"), "{shown}");
    let shown = tls_from_files(&key, &key).unwrap_err().to_string();
    assert!(shown.contains("key.pem: no certificate"), "{shown}");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = pem("PRIVATE KEY", &other.signing_key.serialize_der());
    std::fs::write(&key, other).unwrap();
    let shown = tls_from_files(&certificate, &key).unwrap_err().to_string();
    assert!(
        shown.contains("cert.pem") && shown.contains("key.pem"),
        "{shown}"
    );
}

#[tokio::test]
async fn behind_a_proxy_each_client_has_its_own_budget_if_the_proxy_is_trusted() {
    let mut rules = RuleSettings::default();
    rules.connections_per_address_max = 1;
    let settings = Settings::default().rules(rules);
    let alone = Server::start(settings.clone()).await;
    let (_first, head) = upgrade(alone.address, Some("203.0.113.1")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (_, head) = upgrade(alone.address, Some("203.0.113.2")).await;
    assert!(head.starts_with("HTTP/1.1 429 "), "not trusted: {head}");

    let header = HeaderName::from_static("x-forwarded-for");
    let behind = Server::start(settings.proxy_header(header)).await;
    let (_first, head) = upgrade(behind.address, Some("203.0.113.1")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (_second, head) = upgrade(behind.address, Some("203.0.113.2")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (_, head) = upgrade(behind.address, Some("1.2.3.4, 203.0.113.2")).await;
    assert!(
        head.starts_with("HTTP/1.1 429 "),
        "what a client wrote counts not: {head}"
    );
    let (_, head) = upgrade(behind.address, Some("nonsense")).await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}
