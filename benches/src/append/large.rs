//! Blocks of 64 KiB in batches of 16.

use anyhow::Result;

use crate::append::raw::Raw;
use crate::append::{Work, peers};
use crate::row::{Effort, Measured, Row};

const LARGE_BYTES: usize = 64 * 1024;
const BATCH_BLOCKS: usize = 16;

/// MB (millions of bytes) of a block.
const BLOCK_MB: f64 = LARGE_BYTES as f64 / 1e6;

pub(crate) const LARGE_DURABLE: Row = Row {
    name: "append_64k_durable",
    unit: "MB/s",
    definition: "two callers of one feed of a new store on disk, each appends 512 batches (128 \
        with --quick) of 16 blocks of 64 KiB, the next when the one before is durable: while one \
        batch is synced the next is hashed. MB are millions of bytes of blocks. npm: 64 batches \
        (16), one caller, awaited, not synced; crate: 32 (8), not synced. Limit: the same batches \
        hashed and signed in memory, then written to a file of final size and synced, one after \
        the other.",
    measure: |effort| {
        let raw = raw(&durable(effort));
        measure(
            effort,
            durable(effort),
            "hash and sign in memory, write and fdatasync, one after the other",
            (raw, Raw::all),
        )
    },
    once: Some(|effort| durable(effort).run().map(drop)),
};

pub(crate) const LARGE_RELAXED: Row = Row {
    name: "append_64k_relaxed",
    unit: "MB/s",
    definition: "one caller appends 1,024 batches (256 with --quick) of 16 blocks of 64 KiB to one \
        feed of a new store on disk, `append_batch_relaxed`: each is signed and queued when the \
        call returns (which waits while 16 MiB are queued), and a thread of the store writes and \
        syncs what is queued meanwhile. The clock stops with the return of the last call. Peers as \
        append_64k_durable. Limit: the same batches hashed and signed in memory.",
    measure: |effort| {
        let raw = raw(&relaxed(effort));
        measure(
            effort,
            relaxed(effort),
            "hash and sign in memory",
            (raw, Raw::hash_and_sign),
        )
    },
    once: Some(|effort| relaxed(effort).run().map(drop)),
};

fn durable(effort: &Effort) -> Work {
    Work {
        callers: 2,
        ..Work::of_one(effort.scaled(512), BATCH_BLOCKS, LARGE_BYTES)
    }
}

fn relaxed(effort: &Effort) -> Work {
    Work {
        durable: false,
        ..Work::of_one(effort.scaled(1_024), BATCH_BLOCKS, LARGE_BYTES)
    }
}

fn raw(work: &Work) -> Raw {
    Raw::of(work, BATCH_BLOCKS * LARGE_BYTES)
}

fn measure(
    effort: &Effort,
    work: Work,
    limit_is: &'static str,
    (raw, limit): (Raw, fn(&Raw) -> Result<f64>),
) -> Result<Measured> {
    let theirs = (
        effort.scaled(64) * BATCH_BLOCKS as u64,
        effort.scaled(32) * BATCH_BLOCKS as u64,
    );
    Measured::alternate(
        effort,
        || Ok(work.run()? * BLOCK_MB),
        peers(theirs, LARGE_BYTES, BATCH_BLOCKS, BLOCK_MB),
        Some((limit_is, Box::new(move || Ok(limit(&raw)? * BLOCK_MB)))),
    )?
    .with_parts(effort, raw.parts(BLOCK_MB))
}
