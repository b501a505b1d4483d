//! Real server, real clients, real sockets on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use kinlog_feeds::{KeyPair, PublicKey};
use kinlog_signal::client::ClientState;
use kinlog_signal::ice::{IceSettings, TurnSecrets};
use kinlog_signal::limits::{FRAME_BYTES_MAX, Rate};
use kinlog_signal::rules::{ConnectionId, RuleSettings};
use kinlog_signal::server::{Direction, Record};
use kinlog_signal::stun::StunSocket;
use kinlog_signal::{
    Client, ClientConfig, ClientEvent, ClientMessage, RefusalCode, ServerMessage, ServerName,
    Settings, SignalKind, SignalUrl, Topic, serve, sign_join,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Far above what anything here takes; a test that waits this long has failed.
const SOON: Duration = Duration::from_secs(20);

const TOPIC: Topic = Topic([1; 32]);

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start(settings: Settings) -> Server {
        Server::start_at("127.0.0.1:0".parse().unwrap(), settings).await
    }

    async fn start_at(address: SocketAddr, settings: Settings) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(listener, settings, shutdown));
        Server {
            address,
            stop: Some(stop),
            task,
        }
    }

    fn url(&self) -> SignalUrl {
        format!("ws://{}", self.address).parse().unwrap()
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }
}

struct Peer {
    client: Client,
    events: mpsc::Receiver<ClientEvent>,
    key: KeyPair,
}

impl Peer {
    fn new(url: SignalUrl, seed: u8) -> Peer {
        let (client, events) = Client::start(ClientConfig::new(url));
        Peer {
            client,
            events,
            key: KeyPair::from_seed(&[seed; 32]),
        }
    }

    /// Returns a peer that is in `TOPIC`, and whom the server listed.
    async fn joined(server: &Server, seed: u8) -> (Peer, Vec<PublicKey>) {
        let mut peer = Peer::new(server.url(), seed);
        peer.client.join(TOPIC, peer.key.clone());
        assert_eq!(peer.next().await, ClientEvent::Connected);
        match peer.next().await {
            ClientEvent::Joined {
                topic: TOPIC,
                peers,
            } => (peer, peers),
            other => panic!("expected to join, got {other:?}"),
        }
    }

    fn public(&self) -> PublicKey {
        self.key.public_key()
    }

    async fn next(&mut self) -> ClientEvent {
        timeout(SOON, self.events.recv()).await.unwrap().unwrap()
    }
}

/// A client that says what it likes.
struct Raw {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    nonce: [u8; 32],
    server: ServerName,
}

impl Raw {
    async fn open(server: &Server) -> Raw {
        let url = format!("ws://{}/v1", server.address);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let server = ServerName::new("127.0.0.1", server.address.port());
        let mut raw = Raw {
            socket,
            nonce: [0; 32],
            server,
        };
        match raw.next().await {
            Some(ServerMessage::Hello {
                nonce, version: 1, ..
            }) => raw.nonce = nonce,
            other => panic!("expected a greeting, got {other:?}"),
        }
        raw
    }

    fn join(&self, key: &KeyPair) -> ClientMessage {
        let signature = sign_join(key, &self.nonce, &self.server, &TOPIC);
        ClientMessage::Join {
            topic: TOPIC,
            client_key: key.public_key(),
            signature,
            ice_servers: false,
        }
    }

    async fn send(&mut self, message: &ClientMessage) {
        self.socket
            .send(Message::Binary(message.encode()))
            .await
            .unwrap();
    }

    /// Returns the next message, or `None` once the server closed.
    async fn next(&mut self) -> Option<ServerMessage> {
        match timeout(SOON, self.socket.next()).await.unwrap() {
            Some(Ok(Message::Binary(frame))) => Some(ServerMessage::decode(frame).unwrap()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => None,
            Some(Ok(other)) => panic!("unexpected {other:?}"),
        }
    }
}

#[derive(Debug, Default)]
struct Frames(Mutex<Vec<(Direction, Vec<u8>)>>);

impl Record for Frames {
    fn record(&self, direction: Direction, _: ConnectionId, frame: &[u8]) {
        self.0.lock().unwrap().push((direction, frame.to_vec()));
    }
}

impl Frames {
    fn contain(&self, direction: Direction, wanted: &[u8]) -> bool {
        let frames = self.0.lock().unwrap();
        let found = |frame: &[u8]| frame.windows(wanted.len()).any(|window| window == wanted);
        frames
            .iter()
            .any(|(way, frame)| *way == direction && found(frame))
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

#[tokio::test]
async fn two_clients_meet_exchange_signals_and_part() {
    let frames = Arc::new(Frames::default());
    let server = Server::start(Settings::default().record(frames.clone())).await;
    let (mut a, peers) = Peer::joined(&server, 1).await;
    assert_eq!(peers, []);
    let (mut b, peers) = Peer::joined(&server, 2).await;
    assert_eq!(peers, [a.public()]);
    assert_eq!(
        a.next().await,
        ClientEvent::PeerJoined {
            topic: TOPIC,
            peer: b.public()
        }
    );
    for (kind, body) in [
        (SignalKind::Offer, Bytes::from_static(b"the offer")),
        (SignalKind::Candidate, Bytes::from_static(b"the candidate")),
    ] {
        a.client
            .send(TOPIC, b.public(), kind, body.clone())
            .unwrap();
        let from = a.public();
        assert_eq!(
            b.next().await,
            ClientEvent::Signal {
                topic: TOPIC,
                from,
                kind,
                body
            }
        );
    }
    let (kind, body) = (SignalKind::Answer, Bytes::from(vec![7; 16 * 1024]));
    b.client
        .send(TOPIC, a.public(), kind, body.clone())
        .unwrap();
    let from = b.public();
    assert_eq!(
        a.next().await,
        ClientEvent::Signal {
            topic: TOPIC,
            from,
            kind,
            body
        }
    );
    b.client.leave(&TOPIC);
    assert_eq!(
        a.next().await,
        ClientEvent::PeerLeft {
            topic: TOPIC,
            peer: b.public()
        }
    );
    a.client
        .send(TOPIC, b.public(), SignalKind::Offer, Bytes::new())
        .unwrap();
    let ClientEvent::Refused(refusal) = a.next().await else {
        panic!("refused")
    };
    assert_eq!(
        (refusal.code, refusal.peer),
        (RefusalCode::NoSuchPeer, Some(b.public()))
    );
    drop(b);
    server.stop().await;
    assert!(frames.contain(Direction::In, b"the offer"));
    assert!(frames.contain(Direction::Out, b"the candidate"));
    assert!(!frames.contain(Direction::In, b"never said"));
}

#[tokio::test]
async fn a_dropped_client_leaves_its_topics() {
    let server = Server::start(Settings::default()).await;
    let (mut a, _) = Peer::joined(&server, 1).await;
    let (b, _) = Peer::joined(&server, 2).await;
    let peer = b.public();
    assert_eq!(
        a.next().await,
        ClientEvent::PeerJoined { topic: TOPIC, peer }
    );
    drop(b);
    assert_eq!(a.next().await, ClientEvent::PeerLeft { topic: TOPIC, peer });
}

#[tokio::test]
async fn a_client_hears_of_topics_it_joined_only() {
    let server = Server::start(Settings::default()).await;
    let (mut a, _) = Peer::joined(&server, 1).await;
    let other = Topic([2; 32]);
    let mut b = Peer::new(server.url(), 2);
    b.client.join(other, b.key.clone());
    assert_eq!(b.next().await, ClientEvent::Connected);
    assert_eq!(
        b.next().await,
        ClientEvent::Joined {
            topic: other,
            peers: vec![]
        }
    );
    b.client.join(TOPIC, b.key.clone());
    assert_eq!(
        b.next().await,
        ClientEvent::Joined {
            topic: TOPIC,
            peers: vec![a.public()]
        }
    );
    let peer = b.public();
    assert_eq!(
        a.next().await,
        ClientEvent::PeerJoined { topic: TOPIC, peer },
        "the first it hears"
    );
}

#[tokio::test]
async fn clients_rejoin_after_the_server_restarts_on_the_same_port() {
    let server = Server::start(Settings::default()).await;
    let address = server.address;
    let (mut a, _) = Peer::joined(&server, 1).await;
    let (mut b, _) = Peer::joined(&server, 2).await;
    assert_eq!(
        a.next().await,
        ClientEvent::PeerJoined {
            topic: TOPIC,
            peer: b.public()
        }
    );
    server.stop().await;
    for peer in [&mut a, &mut b] {
        let event = loop {
            match peer.next().await {
                // The other client may be seen leaving first.
                ClientEvent::PeerLeft { .. } => continue,
                event => break event,
            }
        };
        let ClientEvent::Disconnected { reason, .. } = event else {
            panic!("got {event:?}")
        };
        assert!(reason.contains("server stops"), "{reason}");
    }
    assert!(a.client.status().last_error.is_some());
    let server = Server::start_at(address, Settings::default()).await;
    let mut met = 0;
    for peer in [&mut a, &mut b] {
        loop {
            match peer.next().await {
                ClientEvent::Joined {
                    topic: TOPIC,
                    peers,
                } => {
                    met += peers.len();
                    break;
                }
                ClientEvent::Connected | ClientEvent::Disconnected { .. } => {}
                other => panic!("got {other:?}"),
            }
        }
    }
    assert_eq!(met, 1, "the later of the two is told of the earlier");
    assert_eq!(a.client.status().state, ClientState::Connected);
    server.stop().await;
}

#[tokio::test]
async fn an_unreachable_server_is_named_with_the_next_attempt() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: SignalUrl = format!("ws://{}", unused.local_addr().unwrap())
        .parse()
        .unwrap();
    drop(unused);
    let mut peer = Peer::new(url.clone(), 1);
    peer.client.join(TOPIC, peer.key.clone());
    let ClientEvent::Disconnected { reason, retry_in } = peer.next().await else {
        panic!("disconnected")
    };
    assert!(
        reason.contains(&url.to_string()) && reason.contains("refused"),
        "{reason}"
    );
    assert!(retry_in <= Duration::from_millis(500));
    assert!(
        matches!(peer.next().await, ClientEvent::Disconnected { .. }),
        "tried again by itself"
    );
}

#[tokio::test]
async fn a_web_server_that_is_no_signal_server_is_named() {
    let server = Server::start(Settings::default()).await;
    let url: SignalUrl = format!("ws://{}/elsewhere", server.address)
        .parse()
        .unwrap();
    let mut peer = Peer::new(url, 1);
    peer.client.join(TOPIC, peer.key.clone());
    let ClientEvent::Disconnected { reason, .. } = peer.next().await else {
        panic!("disconnected")
    };
    assert!(
        reason.contains("no signal server") && reason.contains("404"),
        "{reason}"
    );
}

#[tokio::test]
async fn bad_signatures_and_replayed_joins_are_refused() {
    let server = Server::start(Settings::default()).await;
    let key = KeyPair::from_seed(&[1; 32]);
    let mut first = Raw::open(&server).await;
    let good = first.join(&key);
    first.send(&good).await;
    assert_eq!(
        first.next().await,
        Some(ServerMessage::Joined {
            topic: TOPIC,
            peers: vec![]
        })
    );
    let mut second = Raw::open(&server).await;
    assert_ne!(first.nonce, second.nonce);
    second.send(&good).await;
    let Some(ServerMessage::Error(refusal)) = second.next().await else {
        panic!("refused")
    };
    assert_eq!(refusal.code, RefusalCode::BadSignature);
    let stranger = KeyPair::from_seed(&[2; 32]);
    let ClientMessage::Join { signature, .. } = second.join(&stranger) else {
        unreachable!()
    };
    let forged = ClientMessage::Join {
        topic: TOPIC,
        client_key: key.public_key(),
        signature,
        ice_servers: false,
    };
    second.send(&forged).await;
    let Some(ServerMessage::Error(refusal)) = second.next().await else {
        panic!("refused")
    };
    assert_eq!(
        (refusal.code, refusal.topic),
        (RefusalCode::BadSignature, Some(TOPIC))
    );
}

#[tokio::test]
async fn an_oversize_frame_ends_its_connection_only() {
    let server = Server::start(Settings::default()).await;
    let (a, _) = Peer::joined(&server, 1).await;
    let mut raw = Raw::open(&server).await;
    // The server may close before it has read everything.
    let _ = raw
        .socket
        .send(Message::Binary(Bytes::from(vec![0; FRAME_BYTES_MAX + 1])))
        .await;
    assert_eq!(raw.next().await, None);
    let (_b, peers) = Peer::joined(&server, 2).await;
    assert_eq!(peers, [a.public()]);
}

#[tokio::test]
async fn nonsense_is_answered_then_the_connection_is_closed() {
    let server = Server::start(Settings::default()).await;
    let mut raw = Raw::open(&server).await;
    for frame in [&b""[..], b"\xff\xff\xff", b"not a message"] {
        raw.socket
            .send(Message::Binary(Bytes::copy_from_slice(frame)))
            .await
            .unwrap();
        let Some(ServerMessage::Error(refusal)) = raw.next().await else {
            panic!("refused")
        };
        assert_eq!(refusal.code, RefusalCode::Malformed);
    }
    loop {
        if raw
            .socket
            .send(Message::Text("nonsense".into()))
            .await
            .is_err()
        {
            break;
        }
        match raw.next().await {
            Some(ServerMessage::Error(_)) => {}
            Some(other) => panic!("got {other:?}"),
            None => break,
        }
    }
}

#[tokio::test]
async fn a_flood_slows_the_offender_and_nobody_else() {
    let rate = Rate {
        per_second: 50,
        burst: 20,
    };
    let mut rules = RuleSettings::default();
    rules.connection_rate = rate;
    let server = Server::start(Settings::default().rules(rules)).await;
    let (a, _) = Peer::joined(&server, 1).await;
    let (mut b, _) = Peer::joined(&server, 2).await;
    let mut flooder = Raw::open(&server).await;
    let frames = 70u32;
    let start = Instant::now();
    for _ in 0..frames {
        flooder.send(&ClientMessage::Ping).await;
    }
    a.client
        .send(
            TOPIC,
            b.public(),
            SignalKind::Offer,
            Bytes::from_static(b"hello"),
        )
        .unwrap();
    assert!(matches!(b.next().await, ClientEvent::Signal { .. }));
    let honest = start.elapsed();
    for _ in 0..frames {
        assert_eq!(
            flooder.next().await,
            Some(ServerMessage::Pong),
            "slowed, but nothing is lost"
        );
    }
    let flooded = start.elapsed();
    // 70 frames less the burst of 20, at 50 a second; the last one is read when the debt of the
    // one before it is paid.
    assert!(flooded >= Duration::from_millis(970), "{flooded:?}");
    assert!(honest < flooded, "{honest:?} against {flooded:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_its_peers_are_told() {
    let free = Rate {
        per_second: u32::MAX,
        burst: u32::MAX,
    };
    let mut rules = RuleSettings::default();
    rules.connection_rate = free;
    rules.address_rate = free;
    let server = Server::start(Settings::default().rules(rules)).await;
    let mut deaf = Raw::open(&server).await;
    let key = KeyPair::from_seed(&[1; 32]);
    let join = deaf.join(&key);
    deaf.send(&join).await;
    let mut loud = Raw::open(&server).await;
    let join = loud.join(&KeyPair::from_seed(&[2; 32]));
    loud.send(&join).await;
    assert!(matches!(
        loud.next().await,
        Some(ServerMessage::Joined { .. })
    ));
    let body = Bytes::from(vec![0; 16 * 1024]);
    let (topic, to, kind) = (TOPIC, key.public_key(), SignalKind::Offer);
    let shout = ClientMessage::Send {
        topic,
        to,
        kind,
        body,
    };
    let told = loop {
        loud.send(&shout).await;
        let answer = timeout(Duration::from_millis(1), loud.socket.next()).await;
        if let Ok(Some(Ok(Message::Binary(frame)))) = answer {
            break ServerMessage::decode(frame).unwrap();
        }
    };
    assert_eq!(told, ServerMessage::PeerLeft { topic, peer: to });
}

#[tokio::test]
async fn health_counts_and_names_nothing() {
    let server = Server::start(Settings::default()).await;
    let (peer, _) = Peer::joined(&server, 1).await;
    let answer = get(server.address, "/api/health").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("application/json"),
        "{head}"
    );
    let health: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(health["status"], "ok");
    assert_eq!(
        (&health["connections"], &health["topics"]),
        (&1.into(), &1.into())
    );
    drop(peer);
    assert!(
        get(server.address, "/elsewhere")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
}

#[tokio::test]
async fn long_and_slow_request_heads_are_refused() {
    let server = Server::start(Settings::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /api/health HTTP/1.1\r\nx: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "a head of 64 KiB is too long"
    );
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /api/health HTTP/1.1\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let start = Instant::now();
    let _ = timeout(SOON, slow.read_to_end(&mut answer)).await.unwrap();
    assert!(start.elapsed() < SOON && !answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_server_with_names_refuses_others() {
    let server = Server::start(Settings::default().names(vec!["signal.example:443".into()])).await;
    let mut peer = Peer::new(server.url(), 1);
    peer.client.join(TOPIC, peer.key.clone());
    let ClientEvent::Disconnected { reason, .. } = peer.next().await else {
        panic!("disconnected")
    };
    assert!(reason.contains("421"), "{reason}");
}

/// Asks by STUN from a socket of its own; returns the answer's bytes with the address that asked.
async fn ask_by_stun(server: SocketAddr, request: &[u8]) -> (Vec<u8>, SocketAddr) {
    let socket = tokio::net::UdpSocket::bind(SocketAddr::new(server.ip(), 0))
        .await
        .unwrap();
    socket.send_to(request, server).await.unwrap();
    let mut answer = vec![0; 1_024];
    let (bytes, from) = timeout(SOON, socket.recv_from(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(from, server);
    answer.truncate(bytes);
    (answer, socket.local_addr().unwrap())
}

#[tokio::test]
async fn stun_tells_addresses_on_the_udp_port_of_the_same_number() {
    let (listener, stun) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(stun) = StunSocket::bind(listener.local_addr().unwrap()).await {
            break (listener, stun);
        }
    };
    let address = listener.local_addr().unwrap();
    let settings = Settings::default().stun(stun.clone());
    let server = tokio::spawn(serve(listener, settings, std::future::pending()));
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend(1..=12);
    let (answer, asked_from) = ask_by_stun(address, &request).await;
    assert_eq!(answer[..8], [1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42]);
    assert_eq!(answer[8..20], request[8..20]);
    let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
    assert_eq!(port, asked_from.port());
    let ip: Vec<u8> = answer[28..]
        .iter()
        .zip(&request[4..8])
        .map(|(a, b)| a ^ b)
        .collect();
    assert_eq!(ip, [127, 0, 0, 1]);
    assert_eq!(stun.counts().answered, 1);
    server.abort();
}

#[tokio::test]
async fn turn_credentials_come_before_the_peers_and_again_before_they_end() {
    let secrets = TurnSecrets::parse("north-south-east-west").unwrap();
    let turn = vec!["turn:turn.example:3478".parse().unwrap()];
    let ice = IceSettings::default()
        .turn(turn.clone(), secrets)
        .lifetime_s(2);
    let server = Server::start(Settings::default().ice(ice)).await;
    let mut peer = Peer::new(server.url(), 1);
    peer.client.join(TOPIC, peer.key.clone());
    assert_eq!(peer.next().await, ClientEvent::Connected);
    let ClientEvent::IceServers(first) = peer.next().await else {
        panic!("before anything else")
    };
    assert_eq!((&first.turn, first.lifetime_s), (&turn, 2));
    let (expiry, _) = first.username.split_once(':').unwrap();
    let expiry: u64 = expiry.parse().unwrap();
    assert!(matches!(peer.next().await, ClientEvent::Joined { .. }));
    let ClientEvent::IceServers(second) = peer.next().await else {
        panic!("new credentials")
    };
    let later = second.username.split_once(':').unwrap().0;
    assert!(later.parse::<u64>().unwrap() > expiry);
    assert_ne!(first.credential, second.credential);
    server.stop().await;
}
