//! Small blocks in batches of 1,000: one caller, and two in flight.

use anyhow::Result;

use crate::append::raw::Raw;
use crate::append::{SMALL_BYTES, Work, peers};
use crate::row::{Effort, Measured, Row};

const BATCH_BLOCKS: usize = 1_000;

/// Bytes of a block with its leaf hash, parent and size in the log.
const STORED_BYTES: usize = 173;

pub(crate) const BATCH_DURABLE: Row = Row {
    name: "append_batch_durable",
    unit: "blocks/s",
    definition: "2,000 batches (500 with --quick) of 1,000 blocks of 100 B to one feed of a new \
        store on disk, one caller, each batch submitted when the one before is durable (one \
        signature and one fdatasync a batch); the clock runs from the first append to the return \
        of the last. npm: 200 batches (50) by `append` of an array, awaited, not synced; crate: 20 \
        (5) by `append_batch`, not synced. Limit: the same batches hashed and signed in memory, \
        then 173 B a block written to a file of final size and synced, one after the other.",
    measure: |effort| measure(effort, one(effort)),
    once: Some(|effort| one(effort).run().map(drop)),
};

pub(crate) const BATCH_DURABLE_2: Row = Row {
    name: "append_batch_durable_2",
    unit: "blocks/s",
    definition: "as append_batch_durable, by two callers of the same feed with 1,000 batches (250) \
        each: while one batch is synced the next is hashed. Limit: as there, one caller.",
    measure: |effort| measure(effort, two(effort)),
    once: Some(|effort| two(effort).run().map(drop)),
};

fn one(effort: &Effort) -> Work {
    Work::of_one(effort.scaled(2_000), BATCH_BLOCKS, SMALL_BYTES)
}

fn two(effort: &Effort) -> Work {
    Work {
        callers: 2,
        ..Work::of_one(effort.scaled(1_000), BATCH_BLOCKS, SMALL_BYTES)
    }
}

fn measure(effort: &Effort, work: Work) -> Result<Measured> {
    let raw = Raw::of(&work, BATCH_BLOCKS * STORED_BYTES);
    let theirs = (effort.scaled(200), effort.scaled(20));
    let blocks = (
        theirs.0 * BATCH_BLOCKS as u64,
        theirs.1 * BATCH_BLOCKS as u64,
    );
    Measured::alternate(
        effort,
        || work.run(),
        peers(blocks, SMALL_BYTES, BATCH_BLOCKS, 1.0),
        Some((
            "hash and sign in memory, write and fdatasync, one after the other",
            Box::new(move || raw.all()),
        )),
    )?
    .with_parts(effort, raw.parts(1.0))
}
