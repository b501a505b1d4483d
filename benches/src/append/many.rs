//! 64 callers at once: on one feed, and on a feed each.

use anyhow::Result;

use crate::append::raw::{Raw, sign_on_two_cores};
use crate::append::{SMALL_BYTES, Work};
use crate::row::{Effort, Measured, Row};

const CALLERS: usize = 64;

/// Bytes of a record with one block of 100 B, near enough.
const STORED_BYTES: usize = 300;

pub(crate) const MANY_WRITERS_DURABLE: Row = Row {
    name: "append_64_writers_durable",
    unit: "blocks/s",
    definition: "64 threads, each appends 4,000 blocks (1,000 with --quick) of 100 B to the same \
        feed of a new store on disk, one a call, the next when the one before is durable; those \
        that wait share signature and fdatasync. Peers: none take concurrent writers of one feed. \
        Limit: 64 blocks hashed and signed once in memory, 11 kB written to a file of final size \
        and synced, one after the other, without a thread to wake.",
    measure: |effort| {
        let work = one_feed(effort);
        let raw = Raw {
            calls: work.calls,
            blocks: CALLERS,
            block_bytes: SMALL_BYTES,
            written: 11_000,
        };
        Measured::alternate(
            effort,
            || work.run(),
            Vec::new(),
            Some((
                "groups of 64 hashed, signed, written and synced by one thread",
                Box::new(move || raw.all()),
            )),
        )
    },
    once: Some(|effort| one_feed(effort).run().map(drop)),
};

pub(crate) const MANY_FEEDS_DURABLE: Row = Row {
    name: "append_64_feeds_durable",
    unit: "blocks/s",
    definition: "64 threads, each appends 4,000 blocks (1,000 with --quick) of 100 B to a feed of \
        its own in one new store on disk, one a call, the next when the one before is durable: one \
        signature each, shared fdatasyncs. Peers: none have several feeds in one store. Limit: \
        two threads that sign, in memory, and do nothing else.",
    measure: measure_feeds,
    once: Some(|effort| many_feeds(effort).run().map(drop)),
};

fn one_feed(effort: &Effort) -> Work {
    Work {
        callers: CALLERS,
        ..Work::of_one(effort.scaled(4_000), 1, SMALL_BYTES)
    }
}

fn many_feeds(effort: &Effort) -> Work {
    Work {
        feeds: CALLERS,
        ..one_feed(effort)
    }
}

fn measure_feeds(effort: &Effort) -> Result<Measured> {
    let work = many_feeds(effort);
    let signatures = effort.scaled(200_000);
    let raw = Raw {
        calls: effort.scaled(20_000),
        ..Raw::of(&work, STORED_BYTES)
    };
    Measured::alternate(
        effort,
        || work.run(),
        Vec::new(),
        Some((
            "signatures of two threads in memory",
            Box::new(move || sign_on_two_cores(signatures)),
        )),
    )?
    .with_parts(effort, raw.parts(1.0))
}
