//! What feeds and connections cost on which nothing happens.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{Interest, Want};
use kinlog_feeds::store::{Kind, Role, Store};
use kinlog_swarm::link::memory;
use kinlog_swarm::{
    Credentials, Host, Label, Node, NodeStatus, PeerMessage, SessionInfo, SessionRole,
};
use serde_json::json;

use super::{config, say, unsynced};
use crate::read::small_feeds;
use crate::scratch::Scratch;

/// How often it is looked whether two nodes have nothing more to say.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks without a byte after which nothing more is expected.
const QUIET_LOOKS: usize = 8;

/// Serves feeds, and wants them unless they are its own.
#[derive(Debug)]
struct Feeds {
    keys: Vec<FeedKey>,
    wants: bool,
}

impl Host for Feeds {
    fn serves(&self, _: &SessionInfo) -> Vec<FeedKey> {
        self.keys.clone()
    }

    fn wants(&self, _: &SessionInfo) -> Vec<FeedKey> {
        match self.wants {
            true => self.keys.clone(),
            false => Vec::new(),
        }
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
    let start = |store: &Store, wants| -> Result<Node> {
        let keys = keys.to_vec();
        let host = Arc::new(Feeds { keys, wants });
        Ok(Node::start(config("memory")?, store.clone(), host)?)
    };
    let (author, follower) = (start(store, false)?, start(copy, true)?);
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

fn carried_by(status: &NodeStatus) -> u64 {
    let sessions = status.sessions.iter();
    sessions
        .map(|session| session.bytes_in + session.bytes_out)
        .sum()
}
