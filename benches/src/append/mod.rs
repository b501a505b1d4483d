//! Appending to feeds of a store on disk: in batches, singly, by many callers, large blocks.

mod batch;
mod large;
mod many;
pub(crate) mod raw;
mod single;

pub(crate) use batch::{BATCH_DURABLE, BATCH_DURABLE_2};
pub(crate) use large::{LARGE_DURABLE, LARGE_RELAXED};
pub(crate) use many::{MANY_FEEDS_DURABLE, MANY_WRITERS_DURABLE};
pub(crate) use single::{SINGLE_DURABLE, SINGLE_RELAXED};

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Feed, FileDisk, Kind, Options, Role, Store};

use crate::hypercore_crate;
use crate::npm::Npm;
use crate::row::Run;
use crate::scratch::Scratch;

const SMALL_BYTES: usize = 100;

/// What one measurement appends.
#[derive(Clone, Copy, Debug)]
struct Work {
    feeds: usize,
    /// Callers; the first is on the first feed, and so on round.
    callers: usize,
    /// Calls of each.
    calls: u64,
    /// Blocks a call.
    blocks: usize,
    block_bytes: usize,
    durable: bool,
}

impl Work {
    /// One caller that waits for each call to be durable.
    fn of_one(calls: u64, blocks: usize, block_bytes: usize) -> Work {
        Work {
            feeds: 1,
            callers: 1,
            calls,
            blocks,
            block_bytes,
            durable: true,
        }
    }

    /// Returns the calls of all callers.
    fn all_calls(&self) -> u64 {
        self.callers as u64 * self.calls
    }

    /// Returns the blocks of all calls.
    fn all_blocks(&self) -> u64 {
        self.all_calls() * self.blocks as u64
    }

    /// Does it in a new store and returns blocks per second, from the first call to the return of
    /// the last.
    fn run(&self) -> Result<f64> {
        let scratch = Scratch::new()?;
        let disk = Arc::new(FileDisk::new(scratch.path())?);
        let store = Store::open(disk, Options::new(random()?))?;
        let authors = (0..self.feeds)
            .map(|_| {
                let signer = KeyPair::from_seed(&random()?);
                let manifest = Manifest::single(signer.public_key());
                let feed = store.create_feed(&manifest, Role::Own, Kind::Kinlog)?;
                Ok((feed, signer))
            })
            .collect::<Result<Vec<_>>>()?;
        let batch = vec![Bytes::from(vec![b'a'; self.block_bytes]); self.blocks];
        let start = Instant::now();
        thread::scope(|scope| {
            let callers: Vec<_> = authors
                .iter()
                .cycle()
                .take(self.callers)
                .map(|(feed, signer)| scope.spawn(|| self.call(feed, signer, &batch)))
                .collect();
            let mut ended = callers.into_iter().map(|caller| caller.join());
            ended.try_for_each(|ended| ended.map_err(|_| anyhow!("a caller panicked"))?)
        })?;
        let seconds = start.elapsed().as_secs_f64();
        store.sync()?;
        let appended: u64 = authors.iter().map(|(feed, _)| feed.head().length).sum();
        ensure!(appended == self.all_blocks(), "not everything was appended");
        store.close()?;
        Ok(self.all_blocks() as f64 / seconds)
    }

    fn call(&self, feed: &Feed, signer: &KeyPair, batch: &[Bytes]) -> Result<()> {
        for _ in 0..self.calls {
            match self.durable {
                true => feed.append_batch(signer, batch)?,
                false => feed.append_batch_relaxed(signer, batch)?,
            };
        }
        Ok(())
    }
}

/// Returns the peers, for so many blocks: npm does not sync, nor does the crate.
fn peers<'a>(
    (npm_blocks, crate_blocks): (u64, u64),
    block_bytes: usize,
    batch: usize,
    scale: f64,
) -> Vec<(String, Run<'a>)> {
    let npm = |npm: Npm| -> (String, Run<'a>) {
        let run = move || Ok(npm.append(npm_blocks, block_bytes, batch)? * scale);
        (npm.name(), Box::new(run))
    };
    let of_crate = move || Ok(hypercore_crate::append(crate_blocks, block_bytes, batch)? * scale);
    let mut peers: Vec<_> = Npm::BOTH.map(npm).into();
    peers.push((hypercore_crate::NAME.to_owned(), Box::new(of_crate)));
    peers
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
