//! Measures replication between two nodes of this process, verified and durable on both sides.
//! Prints one JSON line.
//!
//! `replicate webrtc|tcp BLOCK_BYTES BLOCKS`: over WebRTC through a signal server of its own, also
//! with the time from joining the topic to the first block; over TCP as plain Hypercore.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kinlog_feeds::crypto::Secret;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::replicate::{Interest, Want};
use kinlog_feeds::store::{FileDisk, Kind, Options, Role, Store};
use kinlog_feeds::{FeedKey, KeyPair};
use kinlog_signal::Settings;
use kinlog_swarm::{
    Credentials, Host, Label, Node, NodeConfig, NodeEvent, PeerMessage, SessionInfo,
};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;

type Failure = Box<dyn Error + Send + Sync>;

/// Serves one feed, or wants it.
struct OneFeed {
    serves: Vec<FeedKey>,
    wants: Vec<FeedKey>,
}

impl Host for OneFeed {
    fn serves(&self, _session: &SessionInfo) -> Vec<FeedKey> {
        self.serves.clone()
    }

    fn wants(&self, _session: &SessionInfo) -> Vec<FeedKey> {
        self.wants.clone()
    }

    fn identity(&self, _session: &SessionInfo) -> Option<Credentials> {
        None
    }

    fn handle_session_open(&self, _session: &SessionInfo) {}

    fn handle_session_closed(&self, _session: &SessionInfo) {}

    fn handle_peer_message(&self, _: &SessionInfo, _: PeerMessage) -> Vec<PeerMessage> {
        Vec::new()
    }
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's cleaning of its temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(folder: &Folder, name: &str) -> Result<Store, Failure> {
    let path = folder.0.join(name);
    std::fs::create_dir_all(&path)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    Ok(Store::open(
        Arc::new(FileDisk::new(path)?),
        Options::new(id),
    )?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [transport, block_bytes, count] = arguments.as_slice() else {
        return Err("usage: replicate webrtc|tcp BLOCK_BYTES BLOCKS".into());
    };
    let (block_bytes, count) = (block_bytes.parse::<usize>()?, count.parse::<u64>()?);
    let folder = std::env::temp_dir().join(format!("kinlog-replicate-{}", std::process::id()));
    let folder = Folder(folder);
    let (author_store, reader_store) = (open(&folder, "author")?, open(&folder, "reader")?);

    let signer = KeyPair::from_seed(&[7; 32]);
    let manifest = Manifest::single(signer.public_key());
    let feed = author_store.create_feed(&manifest, Role::Own, Kind::Kinlog)?;
    let key = feed.key();
    let mut number = 0_u64;
    while number < count {
        let batch: Vec<Bytes> = (number..count.min(number + 1000))
            .map(|n| {
                n.to_le_bytes()
                    .into_iter()
                    .cycle()
                    .take(block_bytes)
                    .collect()
            })
            .collect();
        number += batch.len() as u64;
        feed.append_batch(&signer, &batch)?;
    }

    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let start_node = |seed: u8, store: &Store, host: OneFeed| {
        let mut config = NodeConfig::new(Secret::new([seed; 32]));
        if transport == "webrtc" {
            config.signal_urls = vec![format!("ws://{address}")];
        }
        Node::start(config, store.clone(), Arc::new(host))
    };
    let author = start_node(
        1,
        &author_store,
        OneFeed {
            serves: vec![key],
            wants: vec![],
        },
    )?;
    reader_store.create_unknown(key, Role::Followed, Kind::Kinlog)?;
    let reader = start_node(
        2,
        &reader_store,
        OneFeed {
            serves: vec![],
            wants: vec![key],
        },
    )?;
    let mut events = reader.subscribe();
    reader.set_interest(
        key,
        Interest {
            want: Want::All,
            live: false,
        },
    );
    if transport == "webrtc" {
        tokio::spawn(kinlog_signal::serve(
            listener,
            Settings::default(),
            std::future::pending(),
        ));
        author.join(Label::Feed, key.0);
        while author
            .status()
            .await
            .signal
            .iter()
            .any(|server| !server.connected)
        {
            tokio::task::yield_now().await;
        }
    } else {
        author.serve_plain_tcp(listener, vec![key]);
    }

    let start = Instant::now();
    if transport == "webrtc" {
        reader.join(Label::Feed, key.0);
    } else {
        reader.pull_plain_tcp(address, vec![key]).await?;
    }
    let mut first_block = None;
    loop {
        match events.recv().await {
            Ok(NodeEvent::BlocksStored { .. }) => {
                first_block.get_or_insert_with(|| start.elapsed());
            }
            Ok(NodeEvent::FeedComplete { length, .. }) if length == count => break,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err("the reader stopped".into()),
        }
    }
    let total = start.elapsed();
    let first = first_block.unwrap_or(total);
    let seconds = (total - first).as_secs_f64().max(1e-6);
    let stats = reader.status().await.sessions.pop();
    let line = serde_json::json!({
        "bench": format!("replicate_{transport}"),
        "block_bytes": block_bytes,
        "blocks": count,
        "first_block_ms": first.as_secs_f64() * 1e3,
        "seconds": total.as_secs_f64(),
        "mb_per_s": count as f64 * block_bytes as f64 / seconds / 1e6,
        "blocks_per_s": count as f64 / seconds,
        "bytes_in": stats.as_ref().map(|session| session.bytes_in),
        "bytes_out": stats.as_ref().map(|session| session.bytes_out),
    });
    println!("{line}");
    author.shutdown().await;
    reader.shutdown().await;
    Ok(())
}
