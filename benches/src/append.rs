//! Appending to one feed of a store on disk.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::manifest::{Manifest, Verifier};
use kinlog_feeds::store::{FileDisk, Kind, Options, Role, Store};
use kinlog_feeds::tree::{self, Head};

use crate::npm::Npm;
use crate::row::{Effort, Measured, Row, Run};
use crate::scratch::Scratch;

const BLOCK_BYTES: usize = 100;
const BATCH_BLOCKS: usize = 1_000;

/// Bytes of a block with its leaf hash, parent and index in the log.
const STORED_BYTES: usize = 182;

pub(crate) const BATCH_DURABLE: Row = Row {
    name: "append_batch_durable",
    unit: "blocks/s",
    definition: "2,000 batches (500 with --quick) of 1,000 blocks of 100 B to one feed of a new \
        store on disk, one caller, each batch submitted when the one before is durable (one \
        signature and one fdatasync a batch); the clock runs from the first append to the return \
        of the last. npm: 200 batches (50) by `append` of an array, awaited, not synced. Limit: \
        the same batches hashed and signed in memory, then 182 B a block written to a file of \
        final size and synced.",
    measure: measure_batches,
    once: Some(|effort| append(batches(effort), BATCH_BLOCKS).map(drop)),
};

pub(crate) const SINGLE_DURABLE: Row = Row {
    name: "append_single_durable",
    unit: "blocks/s",
    definition: "20,000 blocks (5,000 with --quick) of 100 B to one feed of a new store on disk, \
        one a call, one caller, each submitted when the one before is durable (one signature and \
        one fdatasync a block). npm: 5,000 (1,250) single appends, awaited, not synced. Limit: \
        one signature, one write of 300 B and one fdatasync a block into a file of final size.",
    measure: measure_singles,
    once: Some(|effort| append(singles(effort), 1).map(drop)),
};

fn batches(effort: &Effort) -> u64 {
    effort.scaled(2_000)
}

fn singles(effort: &Effort) -> u64 {
    effort.scaled(20_000)
}

fn measure_batches(effort: &Effort) -> Result<Measured> {
    let blocks = effort.scaled(200) * BATCH_BLOCKS as u64;
    Measured::alternate(
        effort,
        || append(batches(effort), BATCH_BLOCKS),
        npm(blocks, BATCH_BLOCKS),
        Some((
            "hash and sign in memory, write and fdatasync, one after the other",
            Box::new(|| floor(batches(effort), BATCH_BLOCKS, BATCH_BLOCKS * STORED_BYTES)),
        )),
    )
}

fn measure_singles(effort: &Effort) -> Result<Measured> {
    Measured::alternate(
        effort,
        || append(singles(effort), 1),
        npm(effort.scaled(5_000), 1),
        Some((
            "one signature, 300 B written, one fdatasync",
            Box::new(|| floor(singles(effort), 1, 300)),
        )),
    )
}

fn npm<'a>(blocks: u64, batch: usize) -> Vec<(String, Run<'a>)> {
    let run = |npm: Npm| -> Run<'a> { Box::new(move || npm.append(blocks, BLOCK_BYTES, batch)) };
    Npm::BOTH.map(|npm| (npm.name(), run(npm))).into()
}

/// Appends `calls` times `blocks` blocks and returns blocks per second.
fn append(calls: u64, blocks: usize) -> Result<f64> {
    let scratch = Scratch::new()?;
    let disk = Arc::new(FileDisk::new(scratch.path())?);
    let store = Store::open(disk, Options::new(random()?))?;
    let signer = KeyPair::from_seed(&random()?);
    let manifest = Manifest::single(signer.public_key());
    let feed = store.create_feed(&manifest, Role::Own, Kind::Kinlog)?;
    let batch = vec![Bytes::from(vec![b'a'; BLOCK_BYTES]); blocks];
    let start = Instant::now();
    for _ in 0..calls {
        feed.append_batch(&signer, &batch)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    anyhow::ensure!(
        feed.head().length == calls * blocks as u64,
        "not everything was appended"
    );
    store.close()?;
    Ok(calls as f64 * blocks as f64 / seconds)
}

/// Does what no durable append can do without, and nothing else; returns blocks per second.
fn floor(calls: u64, blocks: usize, bytes: usize) -> Result<f64> {
    let scratch = Scratch::new()?;
    let path = scratch.path().join("log");
    let file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .open(path)?;
    let record = vec![b'a'; bytes];
    // Final size first, so that fdatasync carries no change of it; zeros, as the store writes.
    let zeros = vec![0; 4 * 1024 * 1024];
    let size = calls * bytes as u64;
    for offset in (0..size).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset)?;
    }
    file.sync_all()?;
    let signer = KeyPair::from_seed(&random()?);
    let manifest = Manifest::single(signer.public_key());
    let verifier = Verifier::new(manifest.key(), &manifest)?;
    let batch = vec![Bytes::from(vec![b'a'; BLOCK_BYTES]); blocks];
    let mut head = Head::default();
    let start = Instant::now();
    for call in 0..calls {
        head = tree::append(&head, &batch)?.head;
        verifier
            .sign(&signer, &head.tree_hash(), head.length, head.fork)
            .context("signing")?;
        file.write_all_at(&record, call * bytes as u64)?;
        file.sync_data()?;
    }
    Ok(calls as f64 * blocks as f64 / start.elapsed().as_secs_f64())
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
