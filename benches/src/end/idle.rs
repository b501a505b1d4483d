//! What feeds and connections cost on which nothing happens.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{Interest, Want};
use kinlog_feeds::store::{Kind, Role, Store};
use kinlog_swarm::link::memory;
use kinlog_swarm::{Label, Node, NodeEvent, NodeStatus, SessionRole};
use serde_json::json;

use super::{Feeds, config, open_store, say, unsynced};
use crate::read::small_feeds;
use crate::scratch::Scratch;

/// How often it is looked whether two nodes have nothing more to say.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks without a byte after which nothing more is expected.
const QUIET_LOOKS: usize = 8;

/// Lets the author of so many feeds of one block and somebody who follows all of them meet twice; says
/// how many bytes they exchange the second time, when both hold everything, until neither has anything
/// more to say, and of how many feeds each then knows that the other one holds the block.
pub(super) async fn feeds(count: u64) -> Result<()> {
    let (scratch, other) = (Scratch::new()?, Scratch::new()?);
    let (store, copy) = (unsynced::open(&scratch)?, unsynced::open(&other)?);
    small_feeds(&store, count)?;
    let keys: Vec<FeedKey> = store.feeds().iter().map(|feed| feed.key()).collect();
    for key in &keys {
        copy.create_unknown(*key, Role::Followed, Kind::Kinlog)?;
    }
    meet(&keys, &store, &copy).await?;
    for key in &keys {
        let feed = copy.feed(key).filter(|feed| feed.info().blocks_held == 1);
        ensure!(feed.is_some(), "a feed was not fetched");
    }
    let (bytes, known) = meet(&keys, &store, &copy).await?;
    say(&json!({ "bytes": bytes, "known": known }))?;
    store.close()?;
    copy.close()?;
    Ok(())
}

async fn meet(keys: &[FeedKey], store: &Store, copy: &Store) -> Result<(u64, [u64; 2])> {
    let wants_and_serves = Arc::new(Feeds {
        serves: keys.to_vec(),
        wants: keys.to_vec(),
    });
    let serves = Feeds::serving(keys.iter().copied());
    let author = Node::start(config("memory")?, store.clone(), serves)?;
    let follower = Node::start(config("memory")?, copy.clone(), wants_and_serves)?;
    for key in keys {
        let (want, live) = (Want::All, true);
        follower.set_interest(*key, Interest { want, live });
    }
    let (one, another) = memory::pair();
    let (label, topic, role) = (Label::Feed, [7; 32], SessionRole::Initiator);
    author.attach(Arc::new(one), label, topic, role).await?;
    let role = SessionRole::Responder;
    follower
        .attach(Arc::new(another), label, topic, role)
        .await?;
    let (mut carried, mut quiet) = (0, 0);
    while quiet < QUIET_LOOKS {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = carried_by(&follower.status().await);
        quiet = if now == carried && now > 0 {
            quiet + 1
        } else {
            0
        };
        carried = now;
    }
    let mut known = [0, 0];
    for (known, node) in known.iter_mut().zip([&author, &follower]) {
        for key in keys {
            let holders = node.holders(*key, 0..1).await;
            *known += u64::from(holders.iter().any(|(_, held)| !held.is_empty()));
        }
    }
    author.shutdown().await;
    follower.shutdown().await;
    Ok((carried, known))
}

/// Follows a feed of one block met on a signal server, and says what happens in so many seconds after that
/// in which nothing is to be done: how often a thread of this process was woken, and how many datagrams
/// the machine sent.
pub(super) async fn stay(by: &str, key: FeedKey, seconds: u64) -> Result<()> {
    let scratch = Scratch::new()?;
    let store = open_store(&scratch)?;
    store.create_unknown(key, Role::Followed, Kind::Kinlog)?;
    let node = Node::start(config(by)?, store.clone(), Feeds::wanting([key]))?;
    let mut events = node.subscribe();
    let (want, live) = (Want::All, true);
    node.set_interest(key, Interest { want, live });
    node.join(Label::Feed, key.0);
    while !matches!(events.recv().await?, NodeEvent::FeedComplete { .. }) {}
    tokio::time::sleep(SETTLING).await;
    let before = (wake_ups()?, datagrams_sent()?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (wake_ups, datagrams) = (wake_ups()? - before.0, datagrams_sent()? - before.1);
    let open = node.status().await.sessions.len();
    ensure!(open == 1, "{open} sessions at the end");
    say(&json!({ "wake_ups": wake_ups, "datagrams": datagrams }))?;
    node.shutdown().await;
    store.close()?;
    Ok(())
}

/// After which nothing is left to do of a connection that came up.
const SETTLING: Duration = Duration::from_secs(10);

/// How often threads of this process gave up the processor to wait for something, and were woken.
fn wake_ups() -> Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = count.context("the kernel says how often a thread waited")?;
        sum += count.trim().parse::<u64>()?;
    }
    Ok(sum)
}

/// Datagrams of UDP that this machine sent (RFC 4113, `udpOutDatagrams`).
fn datagrams_sent() -> Result<u64> {
    let counters = std::fs::read_to_string("/proc/net/snmp")?;
    let mut lines = counters.lines().filter(|line| line.starts_with("Udp: "));
    let (names, values) = lines.next().zip(lines.next()).context("two lines of UDP")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "OutDatagrams");
    Ok(found.context("OutDatagrams")?.1.parse()?)
}

fn carried_by(status: &NodeStatus) -> u64 {
    let sessions = status.sessions.iter();
    sessions
        .map(|session| session.bytes_in + session.bytes_out)
        .sum()
}
