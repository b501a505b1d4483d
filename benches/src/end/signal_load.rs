//! A signal server without limits on one address, and clients that keep it busy: each a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use kinlog_feeds::{KeyPair, PublicKey, text};
use kinlog_signal::limits::Rate;
use kinlog_signal::rules::RuleSettings;
use kinlog_signal::{
    Client, ClientConfig, ClientEvent, ClientMessage, ServerMessage, Settings, SignalKind,
    SignalUrl, Topic, sign_join,
};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::{say, stdin_end};

/// Sockets that are being opened at once: what a server accepts without refusing any.
const OPENING_MAX: usize = 256;

/// Bytes of one relayed message with everything around its body.
const MESSAGE_BYTES: usize = 512;

/// What a message is besides its body: topic, key and tags.
const AROUND_BODY_BYTES: usize = 75;

/// Tasks that send, each for its share of the pairs.
const SENDERS: usize = 4;

/// Longest wait for something that takes seconds at most.
const PATIENCE: Duration = Duration::from_secs(120);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Serves on `at`; says where, by which certificate, and who it is.
pub(super) async fn serve(at: &str, by: &str) -> Result<()> {
    let free = Rate {
        per_second: u32::MAX,
        burst: u32::MAX,
    };
    let mut rules = RuleSettings::default();
    (rules.connection_rate, rules.address_rate) = (free, free);
    rules.connections_per_address_max = rules.connections_max;
    rules.unjoined_max = rules.connections_max;
    let mut settings = Settings::default().rules(rules);
    let (mut scheme, mut certificate) = ("ws", "-".to_owned());
    if by == "tls" {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let der = made.cert.der().clone();
        (scheme, certificate) = ("wss", text::encode_hex(&der));
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let key = key.map_err(|error| anyhow::anyhow!("{error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![der], key)?;
        tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        settings = settings.tls(Arc::new(tls));
    }
    let listener = TcpListener::bind(at).await?;
    let port = listener.local_addr()?.port();
    let url = format!("{scheme}://localhost:{port}");
    say(
        &json!({ "url": url, "port": port, "certificate": certificate, "pid": std::process::id() }),
    )?;
    kinlog_signal::serve(listener, settings, stdin_end()).await?;
    Ok(())
}

/// Opens as many connections as it is told, line by line, each in a topic of its own, and keeps them.
pub(super) async fn idle(url: &str, certificate: &str) -> Result<()> {
    let dialler = Dialler::new(url, certificate)?;
    let mut lines = lines();
    let mut sockets = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let wanted: usize = line.parse()?;
        let more = sockets.len()..wanted;
        sockets.extend(
            dialler
                .open_all(more.map(|number| (number, number)))
                .await?,
        );
        say(&json!({ "open": sockets.len() }))?;
    }
    Ok(())
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) pairs: usize,
    pub(super) per_second: usize,
    pub(super) seconds: usize,
}

/// Opens pairs of connections; told to go, sends at a steady rate from one of each pair to the other,
/// and says how long messages took from the moment at which each was to be sent.
pub(super) async fn relay(url: &str, certificate: &str, load: Load) -> Result<()> {
    let dialler = Dialler::new(url, certificate)?;
    let numbers = (0..2 * load.pairs).map(|number| (number / 2, number));
    let sockets = dialler.open_all(numbers).await?;
    say(&json!({ "open": sockets.len() }))?;
    ensure!(lines().next_line().await?.is_some(), "told to go");

    let each = load.per_second * load.seconds / load.pairs;
    let start = Instant::now() + Duration::from_millis(200);
    let mut senders: Vec<Vec<Sender>> = (0..SENDERS).map(|_| Vec::new()).collect();
    let mut receivers = JoinSet::new();
    let mut kept = Vec::new();
    for (number, socket) in sockets {
        let (to_server, from_server) = socket.split();
        if number % 2 == 0 {
            let pair = number / 2;
            let share = senders.get_mut(pair % SENDERS).context("a share")?;
            share.push(Sender {
                topic: topic(pair),
                to: key(number + 1).public_key(),
                socket: to_server,
            });
            kept.push(from_server);
        } else {
            receivers.spawn(receive(from_server, start, each));
        }
    }
    let between = Duration::from_secs_f64(1.0 / load.per_second as f64);
    let mut sending = JoinSet::new();
    for (share, senders) in senders.into_iter().enumerate() {
        sending.spawn(send(senders, share, each, start, between));
    }
    let mut late: Vec<u64> = Vec::new();
    let all = async {
        while let Some(received) = receivers.join_next().await {
            late.extend(received??);
        }
        while let Some(sent) = sending.join_next().await {
            sent??;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, all)
        .await
        .context("messages were lost")??;
    late.sort_unstable();
    let at = |part: f64| late.get(((late.len() - 1) as f64 * part) as usize).copied();
    let seconds = start.elapsed().as_secs_f64();
    say(&json!({
        "received": late.len(),
        "per_second": late.len() as f64 / seconds,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
    }))?;
    stdin_end().await;
    Ok(())
}

struct Sender {
    topic: Topic,
    to: PublicKey,
    socket: SplitSink<Socket, Message>,
}

/// Sends in turn for each pair of a share; a sender that is late sends at once.
async fn send(
    mut senders: Vec<Sender>,
    share: usize,
    each: usize,
    start: Instant,
    between: Duration,
) -> Result<()> {
    let mut number = share;
    for _ in 0..each {
        for sender in &mut senders {
            let due = between * u32::try_from(number)?;
            number += SENDERS;
            // Timers have milliseconds: what is due within one goes with it.
            if start + due > Instant::now() + Duration::from_millis(1) {
                sleep_until(start + due).await;
            }
            let mut body = vec![0; MESSAGE_BYTES - AROUND_BODY_BYTES];
            let micros = u64::try_from(due.as_micros())?;
            body.get_mut(..8)
                .context("a body")?
                .copy_from_slice(&micros.to_le_bytes());
            let message = ClientMessage::Send {
                topic: sender.topic,
                to: sender.to,
                kind: SignalKind::Offer,
                body: Bytes::from(body),
            };
            sender
                .socket
                .send(Message::Binary(message.encode()))
                .await?;
        }
    }
    Ok(())
}

/// Returns how many microseconds late each message was.
async fn receive(
    mut socket: SplitStream<Socket>,
    start: Instant,
    count: usize,
) -> Result<Vec<u64>> {
    let mut late = Vec::with_capacity(count);
    while late.len() < count {
        let Some(Message::Binary(frame)) = socket.next().await.transpose()? else {
            bail!("a connection ended");
        };
        if let ServerMessage::Signal { body, .. } = ServerMessage::decode(frame)? {
            let due = body.first_chunk::<8>().context("a time")?;
            let now = u64::try_from(start.elapsed().as_micros())?;
            late.push(now.saturating_sub(u64::from_le_bytes(*due)));
        }
    }
    Ok(late)
}

/// Joins with as many clients as agents have them, says so, and says when all are back after the
/// server was away.
pub(super) async fn come_back(url: &str, count: usize) -> Result<()> {
    let url: SignalUrl = url.parse()?;
    let (joined, back) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for number in 0..count {
        let (joined, back) = (Arc::clone(&joined), Arc::clone(&back));
        let url = url.clone();
        clients.spawn(async move {
            let (client, mut events) = Client::start(ClientConfig::new(url));
            client.join(topic(number), key(number));
            let mut times = 0;
            while let Some(event) = events.recv().await {
                if matches!(event, ClientEvent::Joined { .. }) {
                    times += 1;
                    let counted = if times == 1 { &joined } else { &back };
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
            drop(client);
        });
    }
    until(&joined, count).await?;
    say(&json!({ "joined": count }))?;
    until(&back, count).await?;
    say(&json!({ "back": count }))?;
    stdin_end().await;
    clients.abort_all();
    Ok(())
}

async fn until(counted: &AtomicUsize, count: usize) -> Result<()> {
    let start = Instant::now();
    while counted.load(Ordering::Relaxed) < count {
        ensure!(start.elapsed() < PATIENCE, "not all clients joined");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// How connections are opened.
#[derive(Clone)]
struct Dialler {
    url: SignalUrl,
    connector: Connector,
}

impl Dialler {
    fn new(url: &str, certificate: &str) -> Result<Dialler> {
        let connector = match certificate {
            "-" => Connector::Plain,
            hex => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(text::decode_hex(hex)?.into())?;
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let tls = rustls::ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                Connector::Rustls(Arc::new(tls))
            }
        };
        Ok(Dialler {
            url: url.parse()?,
            connector,
        })
    }

    /// Opens connections numbered so, each joined to the topic of its pair; returns them in order.
    async fn open_all(
        &self,
        numbers: impl Iterator<Item = (usize, usize)>,
    ) -> Result<Vec<(usize, Socket)>> {
        let opening = Arc::new(Semaphore::new(OPENING_MAX));
        let mut tasks = JoinSet::new();
        for (pair, number) in numbers {
            let (dialler, opening) = (self.clone(), Arc::clone(&opening));
            tasks.spawn(async move {
                let _permit = opening.acquire_owned().await?;
                let socket = timeout(PATIENCE, dialler.open(pair, number)).await??;
                anyhow::Ok((number, socket))
            });
        }
        let mut sockets = Vec::new();
        while let Some(opened) = tasks.join_next().await {
            sockets.push(opened??);
        }
        sockets.sort_by_key(|(number, _)| *number);
        Ok(sockets)
    }

    async fn open(&self, pair: usize, number: usize) -> Result<Socket> {
        let stream = TcpStream::connect(("127.0.0.1", self.url.port())).await?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default().read_buffer_size(2 * 1024);
        let (mut socket, _) = tokio_tungstenite::client_async_tls_with_config(
            self.url.endpoint(),
            stream,
            Some(config),
            Some(self.connector.clone()),
        )
        .await?;
        let ServerMessage::Hello { nonce, .. } = next(&mut socket).await? else {
            bail!("no greeting");
        };
        let (topic, key) = (topic(pair), key(number));
        let signature = sign_join(&key, &nonce, &self.url.server_name(), &topic);
        let join = ClientMessage::Join {
            topic,
            client_key: key.public_key(),
            signature,
            ice_servers: false,
        };
        socket.send(Message::Binary(join.encode())).await?;
        loop {
            match next(&mut socket).await? {
                ServerMessage::Joined { .. } => return Ok(socket),
                ServerMessage::Error(refusal) => bail!("{}", refusal.message),
                _ => {}
            }
        }
    }
}

async fn next(socket: &mut Socket) -> Result<ServerMessage> {
    match socket.next().await.transpose()? {
        Some(Message::Binary(frame)) => Ok(ServerMessage::decode(frame)?),
        other => bail!("the server said {other:?}"),
    }
}

fn lines() -> Lines<BufReader<Stdin>> {
    BufReader::new(tokio::io::stdin()).lines()
}

fn topic(number: usize) -> Topic {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Topic(bytes)
}

fn key(number: usize) -> KeyPair {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    KeyPair::from_seed(&seed)
}
