//! Small blocks one at a time.

use anyhow::Result;

use crate::append::raw::Raw;
use crate::append::{SMALL_BYTES, Work, peers};
use crate::row::{Effort, Measured, Row};

/// Bytes of a record with one block of 100 B, near enough.
const STORED_BYTES: usize = 300;

pub(crate) const SINGLE_DURABLE: Row = Row {
    name: "append_single_durable",
    unit: "blocks/s",
    definition: "20,000 blocks (5,000 with --quick) of 100 B to one feed of a new store on disk, \
        one a call, one caller, each submitted when the one before is durable (one signature and \
        one fdatasync a block). npm: 5,000 (1,250) single appends, awaited, not synced; crate: \
        2,000 (500), not synced. Limit: one signature, one write of 300 B and one fdatasync a \
        block into a file of final size.",
    measure: |effort| {
        let raw = Raw::of(&durable(effort), STORED_BYTES);
        measure(
            effort,
            durable(effort),
            raw,
            "one signature, 300 B written, one fdatasync",
            Raw::all,
        )
    },
    once: Some(|effort| durable(effort).run().map(drop)),
};

pub(crate) const SINGLE_RELAXED: Row = Row {
    name: "append_single_relaxed",
    unit: "blocks/s",
    definition: "200,000 blocks (50,000 with --quick) of 100 B to one feed of a new store on disk, \
        one a call, one caller, `append_batch_relaxed`: each is signed and queued when the call \
        returns, and a thread of the store writes and syncs what is queued meanwhile. The clock \
        stops with the return of the last call; everything is synced and counted afterwards. npm \
        and crate as append_single_durable. Limit: each block hashed and signed in memory.",
    measure: |effort| {
        let raw = Raw::of(&relaxed(effort), STORED_BYTES);
        measure(
            effort,
            relaxed(effort),
            raw,
            "one leaf and one signature in memory",
            Raw::hash_and_sign,
        )
    },
    once: Some(|effort| relaxed(effort).run().map(drop)),
};

fn durable(effort: &Effort) -> Work {
    Work::of_one(effort.scaled(20_000), 1, SMALL_BYTES)
}

fn relaxed(effort: &Effort) -> Work {
    Work {
        durable: false,
        ..Work::of_one(effort.scaled(200_000), 1, SMALL_BYTES)
    }
}

fn measure(
    effort: &Effort,
    work: Work,
    raw: Raw,
    limit_is: &'static str,
    limit: fn(&Raw) -> Result<f64>,
) -> Result<Measured> {
    let blocks = (effort.scaled(5_000), effort.scaled(2_000));
    // The parts by themselves need fewer calls than the row.
    let alone = Raw {
        calls: effort.scaled(20_000),
        ..raw
    };
    Measured::alternate(
        effort,
        || work.run(),
        peers(blocks, SMALL_BYTES, 1, 1.0),
        Some((limit_is, Box::new(move || limit(&raw)))),
    )?
    .with_parts(effort, alone.parts(1.0))
}
