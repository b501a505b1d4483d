//! How soon a block that is appended is stored at a follower.

use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::replicate::{Interest, Pushes, Want};
use kinlog_feeds::store::{Kind, Role};
use kinlog_swarm::{Node, NodeEvent};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::broadcast::Receiver;

use super::{Feeds, config, open_store, say, unsynced};
use crate::append::random;
use crate::scratch::Scratch;

/// Appends blocks to a feed that another node of this process follows; says how long after each
/// append the block was stored there. Neither side syncs its files unless `synced`.
pub(super) async fn run(count: usize, synced: bool) -> Result<()> {
    let (scratch, other) = (Scratch::new()?, Scratch::new()?);
    let (store, reader_store) = match synced {
        true => (open_store(&scratch)?, open_store(&other)?),
        false => (unsynced::open(&scratch)?, unsynced::open(&other)?),
    };
    let signer = KeyPair::from_seed(&random()?);
    let manifest = Manifest::single(signer.public_key());
    let feed = store.create_feed(&manifest, Role::Own, Kind::Plain)?;
    let key = feed.key();
    let block = Bytes::from_static(&[b'a'; 100]);
    feed.append_batch(&signer, std::slice::from_ref(&block))?;
    let writer = Node::start(config("tcp")?, store.clone(), Feeds::serving([key]))?;
    reader_store.create_unknown(key, Role::Followed, Kind::Plain)?;
    let reader = Node::start(config("tcp")?, reader_store.clone(), Feeds::wanting([key]))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    writer.serve_plain_tcp(listener, vec![key]);
    let mut events = reader.subscribe();
    let (want, live) = (Want::All, true);
    reader.set_interest(key, Interest { want, live });
    // As agents do.
    reader.set_pushes(key, Pushes::Taken);
    reader.pull_plain_tcp(address, vec![key]).await?;
    stored(&mut events, 0).await?;
    let mut times = Vec::with_capacity(count);
    for at in 1..=count as u64 {
        let start = Instant::now();
        let (feed, signer, block) = (feed.clone(), signer.clone(), block.clone());
        let append = move || feed.append_batch(&signer, std::slice::from_ref(&block));
        tokio::task::spawn_blocking(append).await??;
        writer.appended(key);
        stored(&mut events, at).await?;
        times.push(1_000.0 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize);
    say(&json!({ "p50_ms": at(0.50), "p99_ms": at(0.99) }))?;
    writer.shutdown().await;
    reader.shutdown().await;
    store.close()?;
    reader_store.close()?;
    Ok(())
}

/// Waits until a block is stored.
async fn stored(events: &mut Receiver<NodeEvent>, block: u64) -> Result<()> {
    loop {
        match events.recv().await {
            Ok(NodeEvent::BlocksStored { range, .. }) if range.contains(&block) => return Ok(()),
            Ok(NodeEvent::StoreFailed { reason }) => bail!("the store failed: {reason}"),
            Ok(_) => {}
            Err(error) => bail!("events: {error}"),
        }
    }
}
