//! Plain Hypercore over TCP: serving a public feed, pulling any.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{Interest, Want};
use kinlog_feeds::tree::Sought;
use kinlog_swarm::SessionId;
use tokio::net::{TcpListener, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::api::{AnswerSender, Error, ErrorKind, Reply, Selection, TransferProgress};
use crate::core::Core;
use crate::limits::{
    GIVE_UP_AFTER, NOBODY_AFTER, PLAIN_FEEDS_MAX, PLAIN_PEERS_MAX, PROGRESS_EVERY,
};
use crate::network::Network;
use crate::pins::interest_of;
use crate::requests::feeds::{beyond, feed_info};
use crate::requests::follow::{Counts, Look, counts};
use crate::requests::space::forget_empty;
use crate::requests::{Ended, blocking};
use crate::tasks::{Running, node_error};

pub(super) async fn serve(
    running: &Arc<Running>,
    feeds: &[String],
    tcp: &str,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let core = &running.core;
    are_few(feeds)?;
    let mut keys = Vec::with_capacity(feeds.len());
    for feed in feeds {
        keys.push(public_feed(core, feed)?);
    }
    let address = address(tcp).await?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Error::permission(format!("cannot listen on {address}: {error}")))?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::general(format!("listener on {address}: {error}")))?;
    let network = running.ensure_network().await?;
    let mut accepting = Accepting(network.node.serve_plain_tcp(listener, keys.clone()));
    drop(network);
    for key in keys {
        to.reply(Reply::Serving {
            key: key.into(),
            address: address.to_string(),
        })
        .await?;
    }
    // The caller ends it by leaving.
    tokio::select! {
        () = to.closed() => Ok(()),
        _ = &mut accepting.0 => {
            let message = format!("the network stopped: {address} serves no more");
            Err(Error::general(message).hint("serve it again").into())
        }
    }
}

fn are_few(feeds: &[String]) -> Result<(), Error> {
    match feeds.len() {
        1..=PLAIN_FEEDS_MAX => Ok(()),
        count => Err(Error::usage(format!(
            "{count} feeds; one connection takes 1 to {PLAIN_FEEDS_MAX}"
        ))),
    }
}

/// Returns the key of a feed that anybody may have.
fn public_feed(core: &Core, feed: &str) -> Result<FeedKey, Error> {
    let key = core.feed_key(feed)?;
    core.feed(&key)?;
    if core.knowledge(|knowledge| knowledge.room_of(&key).is_some()) {
        let message = format!("feed {key} belongs to a room: it is not public");
        return Err(Error::permission(message));
    }
    if core.is_private(&key) {
        return Err(Error::permission(format!(
            "feed {key} is private: it goes to this agent's own devices alone"
        )));
    }
    Ok(key)
}

/// A listener of the node, closed when nobody asks for it any more.
struct Accepting(JoinHandle<()>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is asked for of each feed.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Blocks(Selection),
    /// The blocks that hold these bytes, counted from the feed's first one.
    Bytes(Range<u64>),
}

impl Asked {
    /// Returns what to ask peers for, and which blocks that are, once it is known: bytes whose blocks
    /// were found are asked for as these from then on.
    async fn interest(
        &mut self,
        core: &Arc<Core>,
        key: FeedKey,
        live: bool,
    ) -> Result<(Interest, Option<Selection>), Error> {
        let bytes = match self {
            Asked::Blocks(selection) => {
                return Ok((interest_of(selection, live), Some(selection.clone())));
            }
            Asked::Bytes(bytes) => bytes.clone(),
        };
        let of = |blocks| {
            let selection = Selection::Range(blocks);
            (interest_of(&selection, live), selection)
        };
        match blocking(core, move |core| seek(core, &key, &bytes)).await? {
            Found::All(blocks) => {
                let (interest, selection) = of(blocks);
                *self = Asked::Blocks(selection.clone());
                Ok((interest, Some(selection)))
            }
            Found::Likely(block) => Ok((of(block..block + 1).0, None)),
            Found::Nothing => {
                let (want, live) = (Want::None, true);
                Ok((Interest { want, live }, None))
            }
        }
    }
}

/// How much is known of where bytes are.
enum Found {
    /// They are in these blocks.
    All(Range<u64>),
    /// Their first or last one is likely to be in this block: what proves it proves how many bytes are
    /// before it.
    Likely(u64),
    /// Not even the head is known.
    Nothing,
}

/// Looks in the store where bytes of a feed are.
fn seek(core: &Core, key: &FeedKey, bytes: &Range<u64>) -> Result<Found, Error> {
    let feed = core.store.feed(key).filter(|feed| feed.head().length > 0);
    let Some(feed) = feed else {
        return Ok(Found::Nothing);
    };
    let last = bytes.end.saturating_sub(1);
    let ends = [
        (bytes.start, feed.seek(bytes.start)?),
        (last, feed.seek(last)?),
    ];
    if let [
        (_, Sought::At { block: first, .. }),
        (_, Sought::At { block: last, .. }),
    ] = ends
    {
        return Ok(Found::All(first..last + 1));
    }
    let mut open = ends.iter();
    let open = open.find(|(_, sought)| !matches!(sought, Sought::At { .. }));
    match open.and_then(|(byte, sought)| sought.likely(*byte)) {
        Some(likely) => Ok(Found::Likely(likely)),
        None => Err(beyond(key, feed.info().byte_length, bytes)),
    }
}

/// What a pull asks of the node; when it is over, what the pins want of the feeds is what is left.
struct Pulling {
    core: Arc<Core>,
    keys: Vec<FeedKey>,
    sessions: Vec<(SessionId, SocketAddr)>,
}

impl Drop for Pulling {
    fn drop(&mut self) {
        if let Some(network) = self.core.network() {
            let plan = self.core.plan();
            for key in &self.keys {
                let left = plan.interests.get(key).cloned().unwrap_or_default();
                network.node.set_interest(*key, left);
            }
            for (session, _) in &self.sessions {
                network.node.close(*session);
            }
        }
        // Who asked may have gone: nobody waits for it.
        let (core, keys) = (self.core.clone(), std::mem::take(&mut self.keys));
        tokio::spawn(async move {
            if let Err(error) = forget(&core, keys).await {
                tracing::warn!(%error, "an empty feed of a pull is left");
            }
        });
    }
}

/// What nobody sent anything of is not kept as an empty feed.
async fn forget(core: &Arc<Core>, keys: Vec<FeedKey>) -> Result<(), Error> {
    let forget = move |core: &Core| keys.iter().try_for_each(|key| forget_empty(core, key));
    blocking(core, forget).await
}

pub(super) async fn pull(
    running: &Arc<Running>,
    keys: &[String],
    tcp: &[String],
    asked: &Asked,
    live: bool,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let core = &running.core;
    are_few(keys)?;
    let mut parsed: Vec<FeedKey> = Vec::with_capacity(keys.len());
    for key in keys {
        let read = key
            .parse()
            .map_err(|error| Error::usage(format!("key {key:?}: {error}")))?;
        if !parsed.contains(&read) {
            parsed.push(read);
        }
    }
    let keys = parsed;
    if !(1..=PLAIN_PEERS_MAX).contains(&tcp.len()) {
        let message = format!("{} peers; a pull asks 1 to {PLAIN_PEERS_MAX}", tcp.len());
        return Err(Error::usage(message).into());
    }
    let mut addresses = Vec::with_capacity(tcp.len());
    for tcp in tcp {
        addresses.push(address(tcp).await?);
    }
    let network = running.ensure_network().await?;
    let pulled = pull_from(running, &keys, &addresses, network, asked, live, to).await;
    if pulled.is_err() {
        forget(core, keys).await?;
    }
    pulled
}

async fn pull_from(
    running: &Arc<Running>,
    keys: &[FeedKey],
    addresses: &[SocketAddr],
    network: Arc<Network>,
    asked: &Asked,
    live: bool,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let core = &running.core;
    let mut pulling = Pulling {
        core: core.clone(),
        keys: keys.to_vec(),
        sessions: Vec::new(),
    };
    let mut wanted = Vec::with_capacity(keys.len());
    for key in keys {
        let mut asked = asked.clone();
        let (interest, _) = asked.interest(core, *key, live).await?;
        network.node.set_interest(*key, interest.clone());
        wanted.push((asked, interest));
    }
    for address in addresses {
        let session = network.node.pull_plain_tcp(*address, keys.to_vec()).await;
        let session = session.map_err(node_error)?;
        pulling.sessions.push((session, *address));
    }
    drop(network);
    let mut moved = Instant::now();
    let mut told = None;
    loop {
        let look = Look::take(core.network().as_ref()).await;
        let is_stopped =
            |key: &&FeedKey| core.store.feed(key).is_some_and(|feed| feed.is_stopped());
        if let Some(key) = keys.iter().find(is_stopped) {
            let message = format!("feed {key} has two histories, both signed by its author");
            return Err(Error::new(ErrorKind::Conflict, message)
                .hint("what was stored before stays; `kinlog feed conflicts` shows both")
                .into());
        }
        if let Some(reason) = &look.troubles.store {
            return Err(Error::general(format!("the store takes nothing more: {reason}")).into());
        }
        let (mut sum, mut open) = (Counts::default(), Vec::new());
        for (key, (asked, wanted)) in keys.iter().zip(&mut wanted) {
            let (interest, selection) = asked.interest(core, *key, live).await?;
            let is_found = selection.is_some();
            let selection = selection.unwrap_or_default();
            if let (true, Some(network)) = (interest != *wanted, core.network()) {
                network.node.set_interest(*key, interest.clone());
                *wanted = interest;
            }
            let now = counts(core, key, &selection);
            sum.add(&now);
            let is_done = is_found
                && now.have == now.want
                && now.want > 0
                && (matches!(selection, Selection::Range(_)) || look.is_confirmed(key, now.length));
            if !is_done {
                open.push((*key, now.length));
            }
        }
        let progress = TransferProgress {
            what: "pull".into(),
            blocks: sum.have,
            blocks_total: sum.want,
            bytes: sum.bytes,
            bytes_total: 0,
        };
        if told.as_ref() != Some(&progress) {
            moved = Instant::now();
            to.reply(Reply::Progress(progress.clone())).await?;
            told = Some(progress);
        }
        if open.is_empty() && !live {
            for key in keys {
                let key = *key;
                let info = blocking(core, move |core| feed_info(core, &core.feed(&key)?)).await?;
                to.reply(Reply::Feed(info)).await?;
            }
            return Ok(());
        }
        if let Some(error) = trouble(&look, &open, &pulling.sessions, moved) {
            return Err(error.into());
        }
        sleep_until(Instant::now() + PROGRESS_EVERY).await;
    }
}

/// Returns why a pull cannot go on, where these feeds lack something still, each with the length that
/// is known: the peer is gone, or sends nothing.
fn trouble(
    look: &Look,
    open: &[(FeedKey, u64)],
    sessions: &[(SessionId, SocketAddr)],
    moved: Instant,
) -> Option<Error> {
    let feeds = match open {
        [] => "what is asked for".to_owned(),
        [(only, _)] => format!("feed {only}"),
        [(first, _), others @ ..] => format!("feed {first} and {} others", others.len()),
    };
    let is_open = |id: &SessionId| look.node.sessions.iter().any(|one| one.id == id.0);
    let is_connected = sessions.iter().any(|(session, _)| is_open(session));
    let who: Vec<String> = sessions
        .iter()
        .map(|(_, address)| address.to_string())
        .collect();
    let who = who.join(", ");
    let violated = sessions
        .iter()
        .find_map(|(session, address)| Some((address, look.troubles.violations.get(session)?)));
    if let (false, Some((address, reason))) = (is_connected, violated) {
        return Some(Error::verification(format!(
            "{address} sent what is not {feeds}: {reason}"
        )));
    }
    let hint = "is it the right key, and does it serve that feed?";
    if !is_connected && moved.elapsed() >= PROGRESS_EVERY * 5 {
        let message = match open.is_empty() {
            true => format!("{who} closed the connection"),
            false => format!("{who} closed the connection before all was there of {feeds}"),
        };
        return Some(Error::no_peers(message).hint(hint));
    }
    if let Some((empty, _)) = open.iter().find(|(_, length)| *length == 0)
        && moved.elapsed() >= NOBODY_AFTER
    {
        let message = format!("{who} shows nothing of feed {empty}");
        return Some(Error::no_peers(message).hint(hint));
    }
    // Whoever has all so far and stays for more may wait for long.
    if !open.is_empty() && moved.elapsed() >= GIVE_UP_AFTER {
        let message = format!("{who} sends nothing more of {feeds}");
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
