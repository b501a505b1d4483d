//! Blocks that somebody reads and that are not held: asked of connected peers for as long as the reader
//! waits.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::GetEnd;
use tokio::time::Instant;

use crate::api::{Error, ErrorKind, Selection};
use crate::core::Core;
use crate::limits::{BLOCKS_FETCHED_AT_ONCE, BLOCKS_FETCHED_MAX};
use crate::pins::blocks;
use crate::requests::blocking;

/// Asks connected peers for the blocks of a range that are not held, until all are, somebody is certain
/// that nobody has one, or `wait` is over. Whoever drops what is returned asks no longer.
///
/// # Errors
/// [`ErrorKind::NotFound`] where no connected peer has a block, [`ErrorKind::NoPeers`] where one did not
/// come in time, [`ErrorKind::NeedsAgent`] where nobody is connected to anybody here.
pub(super) async fn fetch(
    core: &Arc<Core>,
    name: &str,
    range: Option<&Selection>,
    wait: Duration,
) -> Result<(), Error> {
    let Some(range) = range.cloned() else {
        return Err(Error::usage("to wait for blocks it has to be said which")
            .hint("give a range: `kinlog feed read FEED A..B --wait 30`"));
    };
    let named = name.to_owned();
    let lacking = blocking(core, move |core| lacking(core, &named, &range)).await?;
    if lacking.is_empty() {
        return Ok(());
    }
    let Some(network) = core.network() else {
        let message = format!(
            "{} blocks are not held, and this process meets nobody",
            lacking.len()
        );
        return Err(Error::new(ErrorKind::NeedsAgent, message).hint("run `kinlog up` beside this"));
    };
    let until = Instant::now() + wait;
    let network = &network;
    stream::iter(lacking)
        .map(|(key, block)| async move {
            let left = until.saturating_duration_since(Instant::now());
            let got = network.node.get(key, block, Some(left)).await;
            match got.map_err(|error| Error::general(error.to_string()))? {
                GetEnd::Held => Ok(()),
                end => Err(ended(end, &key, block, wait)),
            }
        })
        .buffer_unordered(BLOCKS_FETCHED_AT_ONCE)
        .try_collect()
        .await
}

fn lacking(core: &Core, name: &str, range: &Selection) -> Result<Vec<(FeedKey, u64)>, Error> {
    // A shared path is read as far as it is held.
    if core.union(name)?.is_some() {
        return Ok(Vec::new());
    }
    let chain = core.chain(name)?;
    let length = chain.length();
    let wanted = blocks(range, length);
    let lacking = chain.lacking(wanted.start..wanted.end.min(length), BLOCKS_FETCHED_MAX + 1);
    if lacking.len() > BLOCKS_FETCHED_MAX {
        let message = format!("more than {BLOCKS_FETCHED_MAX} blocks of that range are not held");
        return Err(Error::usage(message).hint("follow the range, then read it"));
    }
    Ok(lacking)
}

fn ended(end: GetEnd, key: &FeedKey, block: u64, wait: Duration) -> Error {
    let block = format!("block {block} of feed {key}");
    match end {
        GetEnd::TimedOut => {
            let seconds = wait.as_secs_f64();
            let message = format!("{block} did not come within {seconds} s");
            Error::no_peers(message).hint("`kinlog status` shows who is connected")
        }
        _ => Error::not_found(format!("no connected peer has {block}")).hint(
            "`kinlog status` shows who is connected; follow its range to have it when one comes",
        ),
    }
}
