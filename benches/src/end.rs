//! One end of a transfer, a process of its own: a store on disk and a node, or a raw channel.
//!
//! `end serve tcp|SIGNAL-URL BLOCKS BYTES`, `end pull ADDRESS|SIGNAL-URL KEY BLOCKS`,
//! `end sparse ADDRESS KEY LENGTH COUNT`, `end live COUNT [unsynced]`, `end idle-feeds COUNT`, `end signal`, `end signal-server ADDRESS plain|tls`, `end signal-load idle|relay|return URL ..`,
//! `end raw offer|answer BYTES`, `end stay SIGNAL-URL KEY SECONDS`, `end room COUNT`, `end ping COUNT`, `end connections offer|answer node|raw STEPS EACH`, `end piped serve|pull BLOCKS .. across MS RATE LOSS`, `end interactive serve|pull ..`. Each prints JSON lines and ends when its stdin does.
//! A last word `stock` asks for UDP socket buffers as a kernel gives them whose settings nobody changed.

mod connections;
mod idle;
mod live;
mod room;
mod signal_load;
mod unsynced;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use kinlog_feeds::crypto::Secret;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::replicate::{Interest, Pushes, Want};
use kinlog_feeds::store::{Feed, FileDisk, Kind, Options, Role, Store};
use kinlog_feeds::{FeedKey, KeyPair, text};
use kinlog_swarm::link::Link as _;
use kinlog_swarm::link::webrtc::{
    Negotiation, Progress, ToldAddresses, WebrtcLink, WebrtcSettings,
};
use kinlog_swarm::{
    Credentials, Host, Label, Node, NodeConfig, NodeEvent, PeerMessage, SessionInfo, SessionRole,
};
use serde_json::{Value, json};
use testkit::far::{Crossing, Quality};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;

use crate::append::random;
use crate::far::SEED;
use crate::scratch::Scratch;

/// Bytes appended in one batch while a feed is filled.
const FILL_BYTES: usize = 4 * 1024 * 1024;

/// Blocks of the transfer beside which something else is to arrive soon: 512 MiB, more than is fetched.
const BULK_BLOCKS: u64 = 8_192;

/// Time between appends to a feed that is followed meanwhile.
const BETWEEN_APPENDS: Duration = Duration::from_millis(50);

/// `net.core.rmem_max` and `wmem_max` where nobody changed them.
const STOCK_BUFFER_BYTES: usize = 212_992;

/// Whether this process takes no larger socket buffers than those.
static STOCK_BUFFERS: AtomicBool = AtomicBool::new(false);

/// Size of a message on a raw channel, as the links send.
const RAW_MESSAGE_BYTES: usize = 65_536;

pub(crate) fn run(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = match words.split_last() {
        Some((&"stock", rest)) => {
            STOCK_BUFFERS.store(true, Ordering::Relaxed);
            rest
        }
        _ => &words,
    };
    tokio::runtime::Runtime::new()?.block_on(async {
        match *words {
            ["serve", by, blocks, bytes] => serve(by, blocks.parse()?, bytes.parse()?).await,
            ["pull", by, key, blocks] => pull(by, key.parse()?, blocks.parse()?).await,
            ["sparse", address, key, length, count] => {
                sparse(address, key.parse()?, length.parse()?, count.parse()?).await
            }
            ["live", count] => live::run(count.parse()?, true).await,
            ["live", count, "unsynced"] => live::run(count.parse()?, false).await,
            ["idle-feeds", feeds] => idle::feeds(feeds.parse()?).await,
            ["stay", by, key, seconds] => idle::stay(by, key.parse()?, seconds.parse()?).await,
            ["interactive", "serve"] => interactive_serve().await,
            ["interactive", "pull", address, bulk, live, count] => {
                interactive_pull(
                    address.parse()?,
                    bulk.parse()?,
                    live.parse()?,
                    count.parse()?,
                )
                .await
            }
            ["signal"] => signal().await,
            ["signal-server", at, by] => signal_load::serve(at, by).await,
            ["signal-load", "idle", url, certificate] => signal_load::idle(url, certificate).await,
            [
                "signal-load",
                "relay",
                url,
                certificate,
                pairs,
                per_second,
                seconds,
            ] => {
                let (pairs, per_second) = (pairs.parse()?, per_second.parse()?);
                let load = signal_load::Load {
                    pairs,
                    per_second,
                    seconds: seconds.parse()?,
                };
                signal_load::relay(url, certificate, load).await
            }
            ["signal-load", "return", url, count] => {
                signal_load::come_back(url, count.parse()?).await
            }
            ["room", count] => room::talk(count.parse()?).await,
            ["ping", count] => room::ping(count.parse()?).await,
            ["connections", "offer", kind, steps, each] => {
                connections::offer(kind == "node", steps.parse()?, each.parse()?).await
            }
            ["connections", "answer", kind, steps, each] => {
                connections::answer(kind == "node", steps.parse()?, each.parse()?).await
            }
            ["piped", "serve", blocks, bytes, "across", ..] => {
                piped_serve(blocks.parse()?, bytes.parse()?, this_side(&words[5..])?).await
            }
            ["piped", "pull", blocks, "across", ..] => {
                piped_pull(blocks.parse()?, that_side()).await
            }
            ["raw", "offer", bytes] => raw_offer(bytes.parse()?, &everywhere()).await,
            ["raw", "answer", bytes] => raw_answer(bytes.parse()?, &everywhere()).await,
            ["raw", "offer", bytes, "across", ..] => {
                raw_offer(bytes.parse()?, &this_side(&words[4..])?).await
            }
            ["raw", "answer", bytes, "across", ..] => {
                raw_answer(bytes.parse()?, &that_side()).await
            }
            _ => bail!("no such end: {words:?}"),
        }
    })
}

/// Serves feeds to everybody, and wants feeds of everybody.
#[derive(Debug, Default)]
struct Feeds {
    serves: Vec<FeedKey>,
    wants: Vec<FeedKey>,
}

impl Feeds {
    fn serving(keys: impl IntoIterator<Item = FeedKey>) -> Arc<Feeds> {
        Arc::new(Feeds {
            serves: keys.into_iter().collect(),
            ..Feeds::default()
        })
    }

    fn wanting(keys: impl IntoIterator<Item = FeedKey>) -> Arc<Feeds> {
        Arc::new(Feeds {
            wants: keys.into_iter().collect(),
            ..Feeds::default()
        })
    }
}

impl Host for Feeds {
    fn serves(&self, _: &SessionInfo) -> Vec<FeedKey> {
        self.serves.clone()
    }

    fn wants(&self, _: &SessionInfo) -> Vec<FeedKey> {
        self.wants.clone()
    }

    fn identity(&self, _: &SessionInfo) -> Option<Credentials> {
        None
    }

    fn handle_session_open(&self, _: &SessionInfo) {}

    fn handle_session_closed(&self, _: &SessionInfo) {}

    fn handle_peer_message(&self, _: &SessionInfo, _: PeerMessage) -> Vec<PeerMessage> {
        Vec::new()
    }
}

fn open_store(scratch: &Scratch) -> Result<Store> {
    let disk = Arc::new(FileDisk::new(scratch.path())?);
    Ok(Store::open(disk, Options::new(random()?))?)
}

fn config(by: &str) -> Result<NodeConfig> {
    let mut config = NodeConfig::new(Secret::new(random()?));
    if by.starts_with("ws://") {
        config.signal_urls = vec![by.to_owned()];
    }
    config.udp_socket_buffer_bytes = socket_buffer_bytes();
    Ok(config)
}

/// Makes a feed of blocks that are all alike.
fn fill(store: &Store, blocks: u64, bytes: usize) -> Result<Feed> {
    let signer = KeyPair::from_seed(&random()?);
    let manifest = Manifest::single(signer.public_key());
    let feed = store.create_feed(&manifest, Role::Own, Kind::Kinlog)?;
    let block = Bytes::from(vec![b'a'; bytes]);
    let batch = (FILL_BYTES / bytes.max(1)).clamp(1, 1_000) as u64;
    while feed.head().length < blocks {
        let count = batch.min(blocks - feed.head().length);
        feed.append_batch(&signer, &vec![block.clone(); usize::try_from(count)?])?;
    }
    Ok(feed)
}

async fn serve(by: &str, blocks: u64, bytes: usize) -> Result<()> {
    let scratch = Scratch::new()?;
    let store = open_store(&scratch)?;
    let feed = fill(&store, blocks, bytes)?;
    let host = Feeds::serving([feed.key()]);
    let node = Node::start(config(by)?, store.clone(), host)?;
    let mut address = None;
    if by == "tcp" {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        address = Some(listener.local_addr()?.to_string());
        node.serve_plain_tcp(listener, vec![feed.key()]);
    } else {
        node.join(Label::Feed, feed.key().0);
    }
    say(&json!({
        "key": feed.key().to_string(),
        "key_hex": text::encode_hex(&feed.key().0),
        "address": address,
    }))?;
    stdin_end().await;
    node.shutdown().await;
    store.close()?;
    Ok(())
}

/// Fetches a feed, or its first blocks, into a new store; says the times once all is durable.
async fn pull(by: &str, key: FeedKey, blocks: u64) -> Result<()> {
    let all = 0..blocks;
    fetch(by, key, Want::Range(all), blocks).await
}

/// Fetches blocks drawn by lot.
async fn sparse(by: &str, key: FeedKey, length: u64, count: usize) -> Result<()> {
    let mut drawn = BTreeSet::new();
    while drawn.len() < count {
        drawn.insert(u64::from_le_bytes(random()?) % length);
    }
    let ranges = drawn.iter().map(|block| *block..block + 1).collect();
    fetch(by, key, Want::Ranges(ranges), count as u64).await
}

async fn fetch(by: &str, key: FeedKey, want: Want, blocks: u64) -> Result<()> {
    let scratch = Scratch::new()?;
    let store = open_store(&scratch)?;
    let plain = !by.starts_with("ws://");
    let kind = if plain { Kind::Plain } else { Kind::Kinlog };
    let feed = store.create_unknown(key, Role::Followed, kind)?;
    let host = Feeds::wanting([key]);
    let node = Node::start(config(by)?, store.clone(), host)?;
    let mut events = node.subscribe();
    node.set_interest(key, Interest { want, live: false });
    let start = Instant::now();
    if plain {
        node.pull_plain_tcp(by.parse()?, vec![key]).await?;
    } else {
        node.join(Label::Feed, key.0);
    }
    let (mut opened, mut first) = (None, None);
    loop {
        match events.recv().await {
            Ok(NodeEvent::SessionOpened { .. }) => {
                opened.get_or_insert(start.elapsed());
            }
            Ok(NodeEvent::BlocksStored { .. }) => {
                first.get_or_insert(start.elapsed());
            }
            Ok(NodeEvent::FeedComplete { .. }) => break,
            Ok(NodeEvent::StoreFailed { reason }) => bail!("the store failed: {reason}"),
            Ok(_) => {}
            // Completion is looked up below.
            Err(RecvError::Lagged(_)) if feed.info().blocks_held >= blocks => break,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => bail!("the node stopped"),
        }
    }
    let done = start.elapsed();
    ensure!(
        feed.info().blocks_held == blocks,
        "complete, and not every block is there"
    );
    let opened = opened.context("complete without a session")?;
    let status = node.status().await;
    let carried = |direction: fn(&kinlog_swarm::SessionStatus) -> u64| -> u64 {
        status.sessions.iter().map(direction).sum()
    };
    say(&json!({
        "bytes_in": carried(|session| session.bytes_in),
        "bytes_out": carried(|session| session.bytes_out),
        "rss_mib": most_resident_mib()?,
        "open_seconds": opened.as_secs_f64(),
        "first_block_seconds": first.unwrap_or(done).as_secs_f64(),
        "seconds": done.as_secs_f64(),
        "transfer_seconds": (done - opened).as_secs_f64(),
    }))?;
    node.shutdown().await;
    store.close()?;
    Ok(())
}

/// Serves a feed to be fetched whole and one that grows by a block of 1 KB whenever a line comes; says
/// when each append was called, in microseconds of the clock that all processes share.
async fn interactive_serve() -> Result<()> {
    let scratch = Scratch::new()?;
    let store = open_store(&scratch)?;
    let bulk = fill(&store, BULK_BLOCKS, RAW_MESSAGE_BYTES)?;
    let signer = KeyPair::from_seed(&random()?);
    let manifest = Manifest::single(signer.public_key());
    let live = store.create_feed(&manifest, Role::Own, Kind::Kinlog)?;
    let block = Bytes::from(vec![b'b'; 1_000]);
    live.append_batch(&signer, std::slice::from_ref(&block))?;
    let host = Feeds::serving([bulk.key()]);
    let node = Node::start(config("tcp")?, store.clone(), host)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    node.serve_plain_tcp(listener, vec![bulk.key(), live.key()]);
    say(&json!({
        "bulk": bulk.key().to_string(),
        "live": live.key().to_string(),
        "address": address,
    }))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let appends: u64 = line.parse()?;
        let mut called = Vec::new();
        for _ in 0..appends {
            tokio::time::sleep(BETWEEN_APPENDS).await;
            called.push(unix_micros()?);
            let (feed, signer, block) = (live.clone(), signer.clone(), block.clone());
            let append = move || feed.append_batch(&signer, std::slice::from_ref(&block));
            tokio::task::spawn_blocking(append).await??;
            node.appended(live.key());
        }
        say(&json!({ "called": called }))?;
    }
    node.shutdown().await;
    store.close()?;
    Ok(())
}

/// Fetches one feed and follows another meanwhile; says when each block of that was stored.
async fn interactive_pull(
    address: std::net::SocketAddr,
    bulk: FeedKey,
    live: FeedKey,
    count: u64,
) -> Result<()> {
    let scratch = Scratch::new()?;
    let store = open_store(&scratch)?;
    let mut feeds = Vec::new();
    for key in [bulk, live] {
        feeds.push(store.create_unknown(key, Role::Followed, Kind::Plain)?);
    }
    let host = Feeds::wanting([bulk]);
    let node = Node::start(config("tcp")?, store.clone(), host)?;
    let mut events = node.subscribe();
    for key in [bulk, live] {
        let (want, live) = (Want::All, true);
        node.set_interest(key, Interest { want, live });
        node.set_pushes(key, Pushes::Taken);
    }
    node.pull_plain_tcp(address, vec![bulk, live]).await?;
    let mut stored_at = Vec::new();
    let mut is_told = false;
    while stored_at.len() as u64 <= count {
        match events.recv().await {
            Ok(NodeEvent::BlocksStored { key, range }) if key == live => {
                let now = unix_micros()?;
                stored_at.extend(range.map(|_| now));
            }
            Ok(NodeEvent::StoreFailed { reason }) => bail!("the store failed: {reason}"),
            Ok(_) => {}
            Err(error) => bail!("events: {error}"),
        }
        // The transfer is under way and both feeds are there: appends may begin.
        let fetched = feeds.first().map_or(0, |feed| feed.info().blocks_held);
        if !is_told && !stored_at.is_empty() && fetched > BULK_BLOCKS / 32 {
            is_told = true;
            say(&json!({ "ready": true }))?;
        }
    }
    let fetched = feeds.first().map_or(0, |feed| feed.info().blocks_held);
    ensure!(
        fetched < BULK_BLOCKS,
        "the transfer ended before the appends did"
    );
    say(&json!({ "stored": stored_at }))?;
    stdin_end().await;
    node.shutdown().await;
    store.close()?;
    Ok(())
}

fn unix_micros() -> Result<u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_micros())?)
}

/// Offers a channel by stdout, and serves a feed over it.
async fn piped_serve(blocks: u64, bytes: usize, settings: WebrtcSettings) -> Result<()> {
    let scratch = Scratch::new()?;
    let store = open_store(&scratch)?;
    let feed = fill(&store, blocks, bytes)?;
    let (mut negotiation, offer) = Negotiation::offer(&settings, 1).await?;
    tell("key", &feed.key().0)?;
    tell("offer", &offer)?;
    let open = negotiate(&mut negotiation, None).await?;
    let link = link_of(negotiation, open).await?;
    let host = Feeds::serving([feed.key()]);
    let mut config = config("pipe")?;
    (config.bind, config.told) = (settings.bind, settings.told);
    let node = Node::start(config, store.clone(), host)?;
    let (label, role) = (Label::Feed, SessionRole::Initiator);
    node.attach(Arc::new(link), label, feed.key().0, role)
        .await?;
    say(&json!({ "serves": true }))?;
    stdin_end().await;
    node.shutdown().await;
    store.close()?;
    Ok(())
}

/// Answers that, and fetches the feed; says how long that took from the open channel.
async fn piped_pull(blocks: u64, settings: WebrtcSettings) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut told = async |what: &str| -> Result<Vec<u8>> {
        let line = lines
            .next_line()
            .await?
            .context("the other end went away")?;
        let body = line.strip_prefix(what).map(str::trim);
        Ok(text::decode_hex(
            body.with_context(|| format!("told {line:?}"))?,
        )?)
    };
    let key = FeedKey(
        told("key")
            .await?
            .try_into()
            .map_err(|_| anyhow!("a key has 32 bytes"))?,
    );
    let offer = told("offer").await?;
    let (mut negotiation, answer) = Negotiation::answer(&settings, &offer).await?;
    tell("answer", &answer)?;
    let open = negotiate(&mut negotiation, Some(lines)).await?;
    let link = link_of(negotiation, open).await?;
    let scratch = Scratch::new()?;
    let store = open_store(&scratch)?;
    let feed = store.create_unknown(key, Role::Followed, Kind::Kinlog)?;
    let host = Feeds::wanting([key]);
    let mut config = config("pipe")?;
    (config.bind, config.told) = (settings.bind, settings.told);
    let node = Node::start(config, store.clone(), host)?;
    let mut events = node.subscribe();
    let want = Want::Range(0..blocks);
    node.set_interest(key, Interest { want, live: false });
    let start = Instant::now();
    node.attach(Arc::new(link), Label::Feed, key.0, SessionRole::Responder)
        .await?;
    loop {
        match events.recv().await {
            Ok(NodeEvent::FeedComplete { .. }) => break,
            Ok(NodeEvent::StoreFailed { reason }) => bail!("the store failed: {reason}"),
            Ok(NodeEvent::SessionClosed { .. }) => bail!("the session ended early"),
            Err(RecvError::Closed) => bail!("the node stopped"),
            _ if feed.info().blocks_held >= blocks => break,
            _ => {}
        }
    }
    say(&json!({ "seconds": start.elapsed().as_secs_f64() }))?;
    stdin_end().await;
    node.shutdown().await;
    store.close()?;
    Ok(())
}

/// Every interface of the machine, as nodes have it.
fn everywhere() -> WebrtcSettings {
    WebrtcSettings {
        udp_socket_buffer_bytes: socket_buffer_bytes(),
        ..WebrtcSettings::default()
    }
}

fn socket_buffer_bytes() -> Option<usize> {
    let stock = STOCK_BUFFERS.load(Ordering::Relaxed);
    stock.then_some(STOCK_BUFFER_BYTES)
}

/// Loopback alone, reached across a link in user space that this process stands behind: round trip in
/// milliseconds, bytes a second, and of a million packets how many are lost.
fn this_side(way: &[&str]) -> Result<WebrtcSettings> {
    let [round_trip, rate, loss] = way else {
        bail!("a way has three figures, not {way:?}");
    };
    let round_trip = Duration::from_millis(round_trip.parse()?);
    let quality = Quality::of(round_trip, rate.parse()?).losing(loss.parse()?);
    let crossing = Crossing::start(quality, SEED);
    // An address that cannot be reached is one that nobody connects to.
    let told = move |address| crossing.stands_for(address).unwrap_or(address);
    Ok(settings(ToldAddresses::new(told)))
}

/// Loopback alone, and reached by nobody: whoever wants to talk to this side is called by it.
fn that_side() -> WebrtcSettings {
    settings(ToldAddresses::new(|_| (Ipv4Addr::LOCALHOST, 9).into()))
}

fn settings(told: ToldAddresses) -> WebrtcSettings {
    WebrtcSettings {
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        told: Some(told),
        ..WebrtcSettings::default()
    }
}

/// Returns the most memory that this process had resident at once.
fn most_resident_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: f64 = kib.context("the kernel says VmHWM")?.trim().parse()?;
    Ok(kib / 1024.0)
}

async fn signal() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&json!({ "url": format!("ws://{}", listener.local_addr()?) }))?;
    kinlog_signal::serve(listener, kinlog_signal::Settings::default(), stdin_end()).await?;
    Ok(())
}

/// Opens a raw channel and sends `bytes` over it; says how long opening took.
async fn raw_offer(bytes: usize, settings: &WebrtcSettings) -> Result<()> {
    let start = Instant::now();
    let (mut negotiation, offer) = Negotiation::offer(settings, 1).await?;
    tell("offer", &offer)?;
    let link = negotiate(&mut negotiation, None).await?;
    let opened = start.elapsed();
    let link = link_of(negotiation, link).await?;
    say(&json!({ "open_seconds": opened.as_secs_f64() }))?;
    let message = BytesMut::from(&vec![b'a'; RAW_MESSAGE_BYTES][..]);
    for _ in 0..bytes.div_ceil(RAW_MESSAGE_BYTES) {
        link.send(message.clone()).await?;
    }
    stdin_end().await;
    link.close().await;
    Ok(())
}

/// Receives `bytes` over a raw channel; says how long after the first message the last one came.
async fn raw_answer(bytes: usize, settings: &WebrtcSettings) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let offer = lines.next_line().await?.context("no offer came")?;
    let offer = text::decode_hex(offer.strip_prefix("offer ").context("an offer was due")?)?;
    let (mut negotiation, answer) = Negotiation::answer(settings, &offer).await?;
    tell("answer", &answer)?;
    let open = negotiate(&mut negotiation, Some(lines)).await?;
    let link = link_of(negotiation, open).await?;
    let mut received = 0;
    let mut first = None;
    while received < bytes {
        received += link
            .recv()
            .await?
            .context("the channel closed early")?
            .len();
        first.get_or_insert_with(Instant::now);
    }
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    say(&json!({ "seconds": seconds }))?;
    stdin_end().await;
    link.close().await;
    Ok(())
}

/// A channel that is open; proof that negotiation ended well.
struct Open;

/// Passes candidates both ways until the channel is open.
async fn negotiate(
    negotiation: &mut Negotiation,
    lines: Option<Lines<BufReader<Stdin>>>,
) -> Result<Open> {
    let mut lines = lines.unwrap_or_else(|| BufReader::new(tokio::io::stdin()).lines());
    loop {
        tokio::select! {
            progress = negotiation.progress() => match progress? {
                Progress::Candidate(body) => tell("candidate", &body)?,
                Progress::Open => return Ok(Open),
            },
            line = lines.next_line() => {
                let line = line?.context("the other end went away")?;
                match line.split_once(' ') {
                    Some(("answer", body)) => negotiation.accept(&text::decode_hex(body)?).await?,
                    Some(("candidate", body)) => {
                        negotiation.add_candidate(&text::decode_hex(body)?).await?;
                    }
                    _ => bail!("told {line:?}"),
                }
            }
        }
    }
}

async fn link_of(negotiation: Negotiation, _: Open) -> Result<WebrtcLink> {
    Ok(negotiation.into_link().await?)
}

fn tell(what: &str, body: &[u8]) -> Result<()> {
    let mut line = String::new();
    write!(line, "{what} {}", text::encode_hex(body))?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

fn say(value: &Value) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{value}")?;
    Ok(stdout.flush()?)
}

/// Waits until whoever started this process closes its stdin.
async fn stdin_end() {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(_)) = lines.next_line().await {}
}
