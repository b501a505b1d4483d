//! Plain Hypercore over TCP: serving a public feed, pulling any.

use std::net::SocketAddr;
use std::sync::Arc;

use kinlog_feeds::FeedKey;
use kinlog_feeds::store::{Kind, Role};
use kinlog_swarm::SessionId;
use tokio::net::{TcpListener, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::api::{AnswerSender, Error, ErrorKind, Reply, Selection, TransferProgress};
use crate::core::Core;
use crate::limits::{GIVE_UP_AFTER, NOBODY_AFTER, PROGRESS_EVERY};
use crate::network::Network;
use crate::pins::interest_of;
use crate::requests::feeds::feed_info;
use crate::requests::follow::{Look, counts};
use crate::requests::space::forget_empty;
use crate::requests::{Ended, blocking};
use crate::tasks::{Running, node_error};

pub(super) async fn serve(
    running: &Arc<Running>,
    feed: &str,
    tcp: &str,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let core = &running.core;
    let key = core.feed_key(feed)?;
    core.feed(&key)?;
    if core.knowledge(|knowledge| knowledge.room_of(&key).is_some()) {
        return Err(
            Error::permission(format!("feed {key} belongs to a room: it is not public")).into(),
        );
    }
    if core.is_private(&key) {
        return Err(Error::permission(format!(
            "feed {key} is private: it goes to this agent's own devices alone"
        ))
        .into());
    }
    let address = address(tcp).await?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Error::permission(format!("cannot listen on {address}: {error}")))?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::general(format!("listener on {address}: {error}")))?;
    let network = running.ensure_network().await?;
    let mut accepting = Accepting(network.node.serve_plain_tcp(listener, vec![key]));
    drop(network);
    to.reply(Reply::Serving {
        key: key.into(),
        address: address.to_string(),
    })
    .await?;
    // The caller ends it by leaving.
    tokio::select! {
        () = to.closed() => Ok(()),
        _ = &mut accepting.0 => {
            let message = format!("the network stopped: {address} serves no more");
            Err(Error::general(message).hint("serve it again").into())
        }
    }
}

/// A listener of the node, closed when nobody asks for it any more.
struct Accepting(JoinHandle<()>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a pull asks of the node; when it is over, what the pins want of the feed is what is left.
struct Pulling {
    core: Arc<Core>,
    key: FeedKey,
    session: Option<SessionId>,
}

impl Drop for Pulling {
    fn drop(&mut self) {
        let Some(network) = self.core.network() else {
            return;
        };
        let plan = self.core.plan();
        let left = plan.interests.get(&self.key).cloned().unwrap_or_default();
        network.node.set_interest(self.key, left);
        if let Some(session) = self.session {
            network.node.close(session);
        }
    }
}

pub(super) async fn pull(
    running: &Arc<Running>,
    key: &str,
    tcp: &str,
    selection: Selection,
    live: bool,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let core = &running.core;
    let key: FeedKey = key
        .parse()
        .map_err(|error| Error::usage(format!("key {key:?}: {error}")))?;
    let address = address(tcp).await?;
    let network = running.ensure_network().await?;
    blocking(core, move |core| {
        if core.store.feed(&key).is_none() {
            core.store
                .create_unknown(key, Role::Followed, Kind::Plain)?;
        }
        Ok(())
    })
    .await?;
    let pulled = pull_from(running, key, address, network, &selection, live, to).await;
    if pulled.is_err() {
        // What nobody sent anything of is not kept as an empty feed.
        blocking(core, move |core| forget_empty(core, &key)).await?;
    }
    pulled
}

async fn pull_from(
    running: &Arc<Running>,
    key: FeedKey,
    address: SocketAddr,
    network: Arc<Network>,
    selection: &Selection,
    live: bool,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let core = &running.core;
    let mut pulling = Pulling {
        core: core.clone(),
        key,
        session: None,
    };
    network.node.set_interest(key, interest_of(selection, live));
    let session = network
        .node
        .pull_plain_tcp(address, key)
        .await
        .map_err(node_error)?;
    pulling.session = Some(session);
    drop(network);
    let mut moved = Instant::now();
    let mut told = None;
    loop {
        let look = Look::take(core.network().as_ref()).await;
        if core.store.feed(&key).is_some_and(|feed| feed.is_stopped()) {
            let message = format!("feed {key} has two histories, both signed by its author");
            return Err(Error::new(ErrorKind::Conflict, message)
                .hint("what was stored before stays; `kinlog feed conflicts` shows both")
                .into());
        }
        if let Some(reason) = &look.troubles.store {
            return Err(Error::general(format!("the store takes nothing more: {reason}")).into());
        }
        let now = counts(core, &key, selection);
        let progress = TransferProgress {
            what: "pull".into(),
            blocks: now.have,
            blocks_total: now.want,
            bytes: now.bytes,
            bytes_total: 0,
        };
        if told.as_ref() != Some(&progress) {
            moved = Instant::now();
            to.reply(Reply::Progress(progress.clone())).await?;
            told = Some(progress);
        }
        let is_done = now.have == now.want
            && now.want > 0
            && (matches!(selection, Selection::Range(_)) || look.is_confirmed(&key, now.length));
        if is_done && !live {
            let info = blocking(core, move |core| feed_info(core, &core.feed(&key)?)).await?;
            return Ok(to.reply(Reply::Feed(info)).await?);
        }
        if let Some(error) = trouble(&look, &key, session, now.length, address, moved) {
            return Err(error.into());
        }
        sleep_until(Instant::now() + PROGRESS_EVERY).await;
    }
}

/// Returns why a pull cannot go on: the peer is gone, or sends nothing.
fn trouble(
    look: &Look,
    key: &FeedKey,
    session: SessionId,
    length: u64,
    address: SocketAddr,
    moved: Instant,
) -> Option<Error> {
    if let Some(reason) = look.troubles.violations.get(&session) {
        return Some(Error::verification(format!(
            "{address} sent what is not feed {key}: {reason}"
        )));
    }
    let is_connected = look.node.sessions.iter().any(|one| one.id == session.0);
    if !is_connected && moved.elapsed() >= PROGRESS_EVERY * 5 {
        let message = format!("{address} closed the connection before feed {key} was whole");
        return Some(
            Error::no_peers(message).hint("is it the right key, and does it serve that feed?"),
        );
    }
    if length == 0 && moved.elapsed() >= NOBODY_AFTER {
        let message = format!("{address} shows nothing of feed {key}");
        return Some(
            Error::no_peers(message).hint("is it the right key, and does it serve that feed?"),
        );
    }
    if moved.elapsed() >= GIVE_UP_AFTER {
        let message = format!("{address} sends nothing more of feed {key}");
        return Some(Error::no_peers(message));
    }
    None
}

async fn address(tcp: &str) -> Result<SocketAddr, Error> {
    let refused = |reason: String| Error::usage(format!("address {tcp:?}: {reason}"));
    let looked_up = timeout(GIVE_UP_AFTER, lookup_host(tcp)).await;
    let mut addresses = looked_up
        .map_err(|_| Error::no_peers(format!("the name in {tcp:?} is not resolved")))?
        .map_err(|error| refused(error.to_string()))?;
    addresses
        .next()
        .ok_or_else(|| refused("names no address".into()))
}
