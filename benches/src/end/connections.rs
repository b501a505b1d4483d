//! Many connections between two processes on which nothing happens, and the memory that one end takes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use kinlog_feeds::replicate::{Interest, Want};
use kinlog_feeds::store::{Kind, MemoryDisk, Options, Role, Store};
use kinlog_feeds::{FeedKey, text};
use kinlog_swarm::link::Link as _;
use kinlog_swarm::link::webrtc::{Negotiation, Progress, WebrtcLink};
use kinlog_swarm::{Label, Node, NodeEvent, SessionRole};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

use super::{Feeds, config, everywhere, fill, open_store, say, stdin_end, tell};
use crate::append::random;
use crate::scratch::Scratch;

/// After which nothing is left to do of a connection that came up.
const SETTLING: Duration = Duration::from_secs(3);

/// What keeps a connection open.
enum Kept {
    /// A node of its own.
    Node(Node, Store),
    /// Nothing but the channel.
    Raw(WebrtcLink),
}

/// Offers one connection after the other, sessions of one node or raw channels; says after each step
/// what memory this process has resident.
pub(super) async fn offer(of_node: bool, steps: usize, each: usize) -> Result<()> {
    let scratch = Scratch::new()?;
    let store = open_store(&scratch)?;
    let feed = fill(&store, 1, 100)?;
    let host = Feeds::serving([feed.key()]);
    let node = Node::start(config("pipe")?, store.clone(), host)?;
    tell("key", &feed.key().0)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut raw = Vec::new();
    for step in 1..=steps {
        for number in (step - 1) * each..step * each {
            let (mut negotiation, offer) = Negotiation::offer(&everywhere(), number as u64).await?;
            tell("offer", &offer)?;
            negotiation
                .accept(&told(&mut lines, "answer").await?)
                .await?;
            open(&mut negotiation).await?;
            let link = negotiation.into_link().await?;
            match of_node {
                true => {
                    let (topic, role) = (topic(number)?, SessionRole::Initiator);
                    let link = Arc::new(link);
                    node.attach(link, Label::Feed, topic, role).await?;
                }
                false => raw.push(link),
            }
            told(&mut lines, "up").await?;
        }
        tokio::time::sleep(SETTLING).await;
        let sessions = node.status().await.sessions;
        let open = sessions.iter().filter(|session| session.state == "open");
        let count = if of_node { open.count() } else { raw.len() };
        ensure!(count == step * each, "{count} connections are open");
        say(&json!({ "connections": count, "resident_kib": resident_kib()? }))?;
    }
    stdin_end().await;
    node.shutdown().await;
    store.close()?;
    Ok(())
}

/// Answers them, each with a node of its own that follows the feed, or as a raw channel.
pub(super) async fn answer(of_node: bool, steps: usize, each: usize) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let key: [u8; 32] = match told(&mut lines, "key").await?[..].try_into() {
        Ok(key) => key,
        Err(_) => bail!("a key has 32 bytes"),
    };
    let mut kept = Vec::new();
    for step in 1..=steps {
        for number in (step - 1) * each..step * each {
            let offer = told(&mut lines, "offer").await?;
            let (mut negotiation, answer) = Negotiation::answer(&everywhere(), &offer).await?;
            tell("answer", &answer)?;
            open(&mut negotiation).await?;
            let link = negotiation.into_link().await?;
            kept.push(match of_node {
                true => follower(FeedKey(key), number, link).await?,
                false => Kept::Raw(link),
            });
            tell("up", &[])?;
        }
        say(&json!({ "connections": kept.len() }))?;
    }
    stdin_end().await;
    for kept in kept {
        match kept {
            Kept::Node(node, store) => {
                node.shutdown().await;
                store.close()?;
            }
            Kept::Raw(link) => link.close().await,
        }
    }
    Ok(())
}

/// A node that has fetched the feed over the link.
async fn follower(key: FeedKey, number: usize, link: WebrtcLink) -> Result<Kept> {
    let store = Store::open(Arc::new(MemoryDisk::new()), Options::new(random()?))?;
    store.create_unknown(key, Role::Followed, Kind::Kinlog)?;
    let host = Feeds::wanting([key]);
    let node = Node::start(config("pipe")?, store.clone(), host)?;
    let mut events = node.subscribe();
    let (want, live) = (Want::All, true);
    node.set_interest(key, Interest { want, live });
    let (topic, role) = (topic(number)?, SessionRole::Responder);
    node.attach(Arc::new(link), Label::Feed, topic, role)
        .await?;
    while !matches!(events.recv().await?, NodeEvent::FeedComplete { .. }) {}
    Ok(Kept::Node(node, store))
}

fn topic(number: usize) -> Result<[u8; 32]> {
    Ok([u8::try_from(number)?; 32])
}

async fn open(negotiation: &mut Negotiation) -> Result<()> {
    // All candidates of loopback are in the descriptions.
    while negotiation.progress().await? != Progress::Open {}
    Ok(())
}

async fn told(lines: &mut Lines<BufReader<Stdin>>, what: &str) -> Result<Bytes> {
    let line = lines.next_line().await?;
    let line = line.context("the other end went away")?;
    let body = line.strip_prefix(what).map(str::trim);
    let body = body.with_context(|| format!("told {line:?}"))?;
    Ok(text::decode_hex(body)?.into())
}

fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    Ok(kib.context("the kernel says VmRSS")?.trim().parse()?)
}
