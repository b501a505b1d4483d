//! What a transfer costs beside its time: memory, bytes on the wire; and how soon what is new arrives.

use anyhow::{Context, Result, ensure};

use crate::append::raw::fdatasync_ms;
use crate::npm::Npm;
use crate::process::Process;
use crate::replicate::{number, text};
use crate::row::{Effort, Measured, Row, Run};

pub(crate) const SPARSE: Row = Row {
    name: "sparse_1000_of_1m_ms",
    unit: "ms",
    definition: "1,000 blocks drawn by lot of a feed of 1,000,000 blocks (250,000 with --quick) of \
        100 B, from one process to another over loopback TCP into a new store: from dialling until \
        head and blocks are verified and durable (less is better).",
    measure: |effort| sparse(effort, |said| Ok(1_000.0 * number(said, "seconds")?)),
    once: None,
};

pub(crate) const SPARSE_BYTES: Row = Row {
    name: "sparse_bytes_per_block",
    unit: "B",
    definition: "bytes that the reader of sparse_1000_of_1m_ms receives on the wire, frames, \
        handshake and head among them, divided by 1,000 (less is better).",
    measure: |effort| sparse(effort, |said| Ok(number(said, "bytes_in")? / 1_000.0)),
    once: None,
};

pub(crate) const WIRE_DOWN: Row = Row {
    name: "wire_overhead_100b_bytes",
    unit: "B",
    definition: "bytes that a reader of 200,000 blocks (50,000 with --quick) of 100 B receives over \
        loopback TCP beside the blocks, for each block, all framing among them (less is better).",
    measure: |effort| overhead(effort, "bytes_in", 100.0),
    once: None,
};

pub(crate) const WIRE_UP: Row = Row {
    name: "wire_overhead_100b_up_bytes",
    unit: "B",
    definition: "bytes that the reader of wire_overhead_100b_bytes sends, for each block (less is \
        better).",
    measure: |effort| overhead(effort, "bytes_out", 0.0),
    once: None,
};

pub(crate) const MEMORY_64K: Row = Row {
    name: "reader_rss_mib",
    unit: "MiB",
    definition: "the most memory that a process had resident at once (VmHWM) which fetched 1 GiB \
        (256 MiB with --quick) in blocks of 64 KiB over loopback TCP into a new store; one \
        transfer (less is better).",
    measure: |effort| memory(effort.scaled(1 << 30), 65_536),
    once: None,
};

pub(crate) const MEMORY_100B: Row = Row {
    name: "reader_rss_100b_mib",
    unit: "MiB",
    definition: "as reader_rss_mib, in blocks of 100 B.",
    measure: |effort| memory(effort.scaled(1 << 30), 100),
    once: None,
};

pub(crate) const LIVE_P50: Row = Row {
    name: "live_append_durable_ms",
    unit: "ms",
    definition: "from calling `append` of one block of 100 B to the event that the block is stored \
        at a reader that follows the feed over loopback TCP, another node of the same process with \
        a store of its own; durable on both sides; the middle of 1,000 (250 with --quick) one after \
        the other (less is better). Limit: the middle of as many writes of 300 B with fdatasync.",
    measure: |effort| live(effort, "p50_ms", 0.50),
    once: None,
};

pub(crate) const LIVE_P99: Row = Row {
    name: "live_append_durable_p99_ms",
    unit: "ms",
    definition: "the 99th of 100 of what live_append_durable_ms measures, and of its limit (less is \
        better).",
    measure: |effort| live(effort, "p99_ms", 0.99),
    once: None,
};

pub(crate) const LIVE_RELAXED_P50: Row = Row {
    name: "live_append_relaxed_ms",
    unit: "ms",
    definition: "as live_append_durable_ms, with files on both sides that are written and never \
        synced: a store of ours shows nothing before it is durable, so this is what remains of it \
        on a disk whose syncs take no time. npm: two feeds of one process, not synced either, from \
        calling `append` until `get` of the block, called before, resolves at the other.",
    measure: |effort| live_relaxed(effort, "p50_ms"),
    once: None,
};

pub(crate) const LIVE_RELAXED_P99: Row = Row {
    name: "live_append_relaxed_p99_ms",
    unit: "ms",
    definition: "the 99th of 100 of what live_append_relaxed_ms measures (less is better).",
    measure: |effort| live_relaxed(effort, "p99_ms"),
    once: None,
};

pub(crate) const IDLE_FEED_WIRE: Row = Row {
    name: "idle_feed_wire_bytes",
    unit: "B",
    definition: "10,000 feeds of one block that their author serves and a follower holds: bytes that \
        a new session of the two carries, in both directions together, handshake, hello and frames \
        among them, until neither has anything more to say, divided by the feeds (less is better).",
    measure: idle_feeds,
    once: None,
};

pub(crate) const SEND_P50: Row = Row {
    name: "send_to_event_ms",
    unit: "ms",
    definition: "from asking an agent to send a message to a room to its coming to a reader that \
        watches the room at another agent: entry sealed, signed, durable and indexed there, \
        replicated over WebRTC, verified, durable, opened and indexed here; two agents of one \
        process with homes of their own, met through a signal server; the middle of 120 (60 with \
        --quick) one after the other (less is better). Limit: the middle of as many writes of 300 B \
        with fdatasync, twice, and half of that of as many round trips of 400 B over a raw channel.",
    measure: |effort| send(effort, "p50_ms", 0.50),
    once: None,
};

pub(crate) const SEND_P99: Row = Row {
    name: "send_to_event_p99_ms",
    unit: "ms",
    definition: "the 99th of 100 of what send_to_event_ms measures, and of its limit (less is \
        better).",
    measure: |effort| send(effort, "p99_ms", 0.99),
    once: None,
};

fn send(effort: &Effort, field: &'static str, part: f64) -> Result<Measured> {
    let count = if effort.quick { 60 } else { 120 };
    let said = move |what| -> Result<f64> {
        let mut both = Process::end(&[what, &count.to_string()])?;
        number(&both.json()?, field)
    };
    let sync = move || synced(count, part);
    let raw = move || Ok(2.0 * sync()? + said("ping")? / 2.0);
    let limit = "two fdatasync and half a round trip of a raw channel";
    let limit = (limit, Box::new(raw) as Run<'_>);
    let parts: Vec<(&'static str, Run<'_>)> = vec![
        ("one fdatasync", Box::new(sync)),
        ("one round trip", Box::new(move || said("ping"))),
    ];
    Measured::alternate(effort, || said("room"), Vec::new(), Some(limit))?.with_parts(effort, parts)
}

/// Milliseconds of a write of 300 B with fdatasync, so far up among `count`.
fn synced(count: u64, part: f64) -> Result<f64> {
    let mut times = fdatasync_ms(count, 300)?;
    times.sort_by(f64::total_cmp);
    let at = (times.len() as f64 * part) as usize;
    times.get(at).copied().context("nothing was written")
}

fn sparse(effort: &Effort, figure: fn(&serde_json::Value) -> Result<f64>) -> Result<Measured> {
    let blocks = effort.scaled(1_000_000).to_string();
    let mut server = Process::end(&["serve", "tcp", &blocks, "100"])?;
    let said = server.json()?;
    let (key, address) = (text(&said, "key")?, text(&said, "address")?);
    let run = || {
        let mut reader = Process::end(&["sparse", &address, &key, &blocks, "1000"])?;
        figure(&reader.json()?)
    };
    Measured::alternate(effort, run, Vec::new(), None)
}

fn overhead(effort: &Effort, field: &str, block_bytes: f64) -> Result<Measured> {
    let blocks = effort.scaled(200_000);
    let said = fetch(blocks, 100)?;
    let ours = number(&said, field)? / blocks as f64 - block_bytes;
    Ok(Measured {
        ours: Vec::from([ours]),
        ..Measured::default()
    })
}

fn memory(bytes: u64, block_bytes: u64) -> Result<Measured> {
    let said = fetch(bytes / block_bytes, block_bytes)?;
    Ok(Measured {
        ours: Vec::from([number(&said, "rss_mib")?]),
        ..Measured::default()
    })
}

/// Fetches a whole feed once; returns what the reader says.
fn fetch(blocks: u64, block_bytes: u64) -> Result<serde_json::Value> {
    let blocks = blocks.to_string();
    let mut server = Process::end(&["serve", "tcp", &blocks, &block_bytes.to_string()])?;
    let said = server.json()?;
    let (key, address) = (text(&said, "key")?, text(&said, "address")?);
    Process::end(&["pull", &address, &key, &blocks])?.json()
}

fn live(effort: &Effort, field: &'static str, part: f64) -> Result<Measured> {
    let count = effort.scaled(1_000);
    let run = || {
        let mut both = Process::end(&["live", &count.to_string()])?;
        number(&both.json()?, field)
    };
    let raw = || synced(count, part);
    let limit = "write of 300 B and fdatasync";
    Measured::alternate(effort, run, Vec::new(), Some((limit, Box::new(raw))))
}

fn live_relaxed(effort: &Effort, field: &'static str) -> Result<Measured> {
    let count = effort.scaled(1_000);
    let run = || {
        let mut both = Process::end(&["live", &count.to_string(), "unsynced"])?;
        number(&both.json()?, field)
    };
    let npm = |npm: Npm| -> (String, Run<'_>) {
        let run = move || npm.live(count, field);
        (npm.name(), Box::new(run))
    };
    Measured::alternate(effort, run, Npm::BOTH.map(npm).into(), None)
}

const IDLE_FEEDS: u64 = 10_000;

fn idle_feeds(_: &Effort) -> Result<Measured> {
    let said = Process::end(&["idle-feeds", &IDLE_FEEDS.to_string()])?.json()?;
    let knows = |feeds: &serde_json::Value| feeds.as_u64() == Some(IDLE_FEEDS);
    let known = said["known"].as_array().context("how many are known")?;
    ensure!(known.iter().all(knows), "not all is agreed upon: {said}");
    // The same count each time.
    Ok(Measured {
        ours: Vec::from([number(&said, "bytes")? / IDLE_FEEDS as f64]),
        ..Measured::default()
    })
}
