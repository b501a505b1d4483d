//! Rows over a long way: two processes with a link in user space between them that delays, limits and
//! loses what they send.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use testkit::far::{Quality, StreamRelay};

use crate::process::Process;
use crate::replicate::{self, number, pull};
use crate::row::{Effort, Measured, Row};

const LARGE_BYTES: usize = 65_536;

/// What the links carry: a gigabit a second.
const RATE: u64 = 125_000_000;

/// Decides what is lost.
pub(crate) const SEED: u64 = 1;

pub(crate) const WEBRTC_20MS: Row = Row {
    name: "webrtc_20ms",
    unit: "MB/s",
    definition: "1,024 blocks (256 with --quick) of 64 KiB from one process to another over a \
        WebRTC data channel through a user-space link of 20 ms round trip and 1 Gbit/s, into a new \
        store; the clock runs in the reader from the open channel until every block is verified \
        and durable; up to four associations. Limit: as many bytes over one raw channel of the same \
        stack through the same link.",
    measure: |effort| webrtc(effort, Quality::of(20 * MS, RATE), effort.scaled(1_024)),
    once: None,
};

pub(crate) const WEBRTC_20MS_1PCT: Row = Row {
    name: "webrtc_20ms_1pct",
    unit: "MB/s",
    definition: "as webrtc_20ms with 1 % of the packets lost, the same ones each time, and 128 \
        blocks (32 with --quick).",
    measure: |effort| {
        let lossy = Quality::of(20 * MS, RATE).losing(10_000);
        webrtc(effort, lossy, effort.scaled(128))
    },
    once: None,
};

pub(crate) const WAN_40MS: Row = Row {
    name: "wan_40ms",
    unit: "MB/s",
    definition: "as webrtc_20ms with 40 ms round trip.",
    measure: |effort| webrtc(effort, Quality::of(40 * MS, RATE), effort.scaled(1_024)),
    once: None,
};

pub(crate) const WAN_40MS_TCP: Row = Row {
    name: "wan_40ms_tcp",
    unit: "MB/s",
    definition: "1,024 blocks (256 with --quick) of 64 KiB over loopback TCP, plain Hypercore \
        wire, whose bytes take 40 ms there and back at 1 Gbit/s: what our own windows make of the \
        delay, as TCP itself sees none of it; from the open session until every block is verified \
        and durable.",
    measure: |effort| {
        let blocks = effort.scaled(1_024);
        tcp(
            effort,
            blocks,
            LARGE_BYTES,
            Quality::of(40 * MS, RATE),
            |pulled| blocks as f64 * LARGE_BYTES as f64 / 1e6 / pulled.transfer_seconds,
        )
    },
    once: None,
};

pub(crate) const SMALL_RTTS: Row = Row {
    name: "small_entries_rtts",
    unit: "round trips",
    definition: "1,000 blocks of 200 B over loopback TCP whose bytes take 100 ms there and back at \
        1 Gbit/s: from the open session until every block is verified and durable, in round trips \
        (less is better).",
    measure: |effort| {
        tcp(effort, 1_000, 200, Quality::of(100 * MS, RATE), |pulled| {
            pulled.transfer_seconds / 0.1
        })
    },
    once: None,
};

pub(crate) const SMALL_SECONDS: Row = Row {
    name: "small_entries_s",
    unit: "s",
    definition: "10,000 blocks of 200 B from one process to another over loopback TCP, from \
        dialling until every block is verified and durable (less is better).",
    measure: |effort| {
        let (_server, key, address) = serve(10_000, 200)?;
        let run = || Ok(pull(&address.to_string(), &key, 10_000)?.seconds);
        Measured::alternate(effort, run, Vec::new(), None)
    },
    once: None,
};

pub(crate) const INTERACTIVE: Row = Row {
    name: "interactive_during_bulk_ms",
    unit: "ms",
    definition: "from calling `append` of one block of 1 KB every 50 ms to its being stored at a \
        follower, while blocks of 64 KiB of another feed fill the same connection: loopback TCP, \
        plain Hypercore wire, whose bytes take 20 ms there and back at 10 MB/s; durable on both \
        sides, two processes; the 99th of 100 of 200 (50 with --quick) (less is better). Limit: \
        the round trip and 100 ms.",
    measure: interactive,
    once: None,
};

const MS: Duration = Duration::from_millis(1);

fn serve(blocks: u64, bytes: usize) -> Result<(Process, String, SocketAddr)> {
    let mut server = Process::end(&["serve", "tcp", &blocks.to_string(), &bytes.to_string()])?;
    let said = server.json()?;
    let key = replicate::text(&said, "key")?;
    let address = replicate::text(&said, "address")?.parse()?;
    Ok((server, key, address))
}

fn tcp(
    effort: &Effort,
    blocks: u64,
    bytes: usize,
    quality: Quality,
    figure: impl Fn(replicate::Pulled) -> f64,
) -> Result<Measured> {
    let (_server, key, address) = serve(blocks, bytes)?;
    let relay = StreamRelay::start(address, quality, SEED)?;
    let through = relay.address().to_string();
    let run = || Ok(figure(pull(&through, &key, blocks)?));
    Measured::alternate(effort, run, Vec::new(), None)
}

fn webrtc(effort: &Effort, quality: Quality, blocks: u64) -> Result<Measured> {
    let bytes = blocks as usize * LARGE_BYTES;
    let (blocks, size) = (blocks.to_string(), LARGE_BYTES.to_string());
    let count = bytes.to_string();
    let round_trip = (2 * quality.delay).as_millis().to_string();
    let way = [
        &round_trip,
        &quality.rate.to_string(),
        &quality.loss_ppm.to_string(),
    ];
    let far = |words: &[&str]| {
        let way = way.iter().map(|word| word.as_str());
        let words: Vec<&str> = words.iter().copied().chain(["across"]).chain(way).collect();
        Process::end(&words)
    };
    let ours = || {
        let serve = far(&["piped", "serve", &blocks, &size])?;
        let pull = far(&["piped", "pull", &blocks])?;
        over(serve, pull, bytes)
    };
    let raw = || {
        let offer = far(&["raw", "offer", &count])?;
        let answer = far(&["raw", "answer", &count])?;
        over(offer, answer, bytes)
    };
    let limit = ("raw data channel through the same link", Box::new(raw) as _);
    Measured::alternate(effort, ours, Vec::new(), Some(limit))
}

/// Introduces two ends to each other; returns how much a second came through.
fn over(mut one: Process, mut other: Process, bytes: usize) -> Result<f64> {
    let (_, said) = one.introduce(&mut other)?;
    Ok(bytes as f64 / 1e6 / number(&said, "seconds")?)
}

fn interactive(effort: &Effort) -> Result<Measured> {
    let round_trip = 20 * MS;
    let count = effort.scaled(200);
    let run = || {
        let mut server = Process::end(&["interactive", "serve"])?;
        let said = server.json()?;
        let address = replicate::text(&said, "address")?.parse()?;
        let (bulk, live) = (
            replicate::text(&said, "bulk")?,
            replicate::text(&said, "live")?,
        );
        let relay = StreamRelay::start(address, Quality::of(round_trip, 10_000_000), SEED)?;
        let (through, count_said) = (relay.address().to_string(), count.to_string());
        let words = ["interactive", "pull", &through, &bulk, &live, &count_said];
        let mut reader = Process::end(&words)?;
        reader.json()?;
        server.tell(&count_said)?;
        let (called, stored) = (server.json()?, reader.json()?);
        let micros = |said: &serde_json::Value, name: &str| -> Result<Vec<f64>> {
            let list = said[name].as_array().context("a list of times")?;
            Ok(list.iter().filter_map(serde_json::Value::as_f64).collect())
        };
        // The first block was there before.
        let stored = micros(&stored, "stored")?;
        let pairs = micros(&called, "called")?
            .into_iter()
            .zip(stored.into_iter().skip(1));
        let mut took: Vec<f64> = pairs
            .map(|(called, stored)| (stored - called) / 1e3)
            .collect();
        took.sort_by(f64::total_cmp);
        let at = took.len() * 99 / 100;
        took.get(at).copied().context("nothing arrived")
    };
    let most = round_trip.as_secs_f64() * 1e3 + 100.0;
    let limit = ("round trip and 100 ms", Box::new(move || Ok(most)) as _);
    Measured::alternate(effort, run, Vec::new(), Some(limit))
}
