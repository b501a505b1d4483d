//! From wanting a feed to its first block.

use anyhow::Result;

use crate::npm::{Npm, Served};
use crate::process::Process;
use crate::replicate::{number, pull, raw_channel, text};
use crate::row::{Effort, Measured, Row, Run, slope};

pub(crate) const FIRST_BLOCK: Row = Row {
    name: "connect_first_block_ms",
    unit: "ms",
    definition: "from joining a feed's topic on a signal server to its first block verified and \
        durable: introduction, offer and answer, ICE, DTLS, data channel, Noise, capability, head \
        and block; both ends are processes on loopback, the serving one has joined before, the \
        reader is new each time (less is better). Limit: from creating a raw channel's offer to \
        its opening, same stack and settings, descriptions passed by pipe. npm: from dialling a \
        known TCP address to the first block, which leaves finding and WebRTC out.",
    measure,
    once: None,
};

pub(crate) const IDLE_CONNECTION: Row = Row {
    name: "idle_connection_kib",
    unit: "KiB",
    definition: "resident memory (VmRSS) of one process for each more open WebRTC session of its one \
        node: the slope through 12, 24, 36, 48 and 60 (4, 8, 12, 16 and 20 with --quick) sessions \
        with as many nodes of another process, each of which has fetched a feed of one block and \
        asks for nothing more, three seconds after the last one came up (less is better). Limit: \
        as many raw channels of the same stack and settings.",
    measure: idle,
    once: None,
};

pub(crate) const IDLE_WAKE_UPS: Row = Row {
    name: "idle_hour_wake_ups",
    unit: "wake-ups/h",
    definition: "how often threads of a process wake in an hour in which its node has one session over \
        WebRTC and one topic on a signal server, and nothing is to be done: voluntary context switches \
        of 60 s (20 with --quick), from ten seconds after the first block on, times 60 (180) (less is \
        better).",
    measure: |effort| idle_hour(effort, "wake_ups"),
    once: None,
};

pub(crate) const IDLE_DATAGRAMS: Row = Row {
    name: "idle_hour_packets",
    unit: "packets/h",
    definition: "as idle_hour_wake_ups: datagrams that both sides together send in that hour, as the \
        kernel counts those of the whole machine (less is better).",
    measure: |effort| idle_hour(effort, "datagrams"),
    once: None,
};

fn idle_hour(effort: &Effort, what: &str) -> Result<Measured> {
    let mut signal = Process::end(&["signal"])?;
    let url = text(&signal.json()?, "url")?;
    let mut server = Process::end(&["serve", &url, "1", "100"])?;
    let key = text(&server.json()?, "key")?;
    let seconds: u32 = if effort.quick { 20 } else { 60 };
    let run = || {
        let mut stays = Process::end(&["stay", &url, &key, &seconds.to_string()])?;
        Ok(number(&stays.json()?, what)? * 3_600.0 / f64::from(seconds))
    };
    Measured::alternate(effort, run, Vec::new(), None)
}

/// Points that the slope goes through.
const STEPS: usize = 5;

fn idle(effort: &Effort) -> Result<Measured> {
    let each = if effort.quick { 4 } else { 12 };
    let raw = Box::new(move || kib_each("raw", each));
    let limit = ("raw channels", raw as Run<'_>);
    Measured::alternate(effort, || kib_each("node", each), Vec::new(), Some(limit))
}

/// Returns the KiB that a connection more takes.
fn kib_each(kind: &str, each: usize) -> Result<f64> {
    let (steps, each) = (STEPS.to_string(), each.to_string());
    let mut offerer = Process::end(&["connections", "offer", kind, &steps, &each])?;
    let mut answerer = Process::end(&["connections", "answer", kind, &steps, &each])?;
    let mut points = Vec::new();
    for _ in 0..STEPS {
        let (said, _) = offerer.introduce(&mut answerer)?;
        points.push((
            number(&said, "connections")?,
            number(&said, "resident_kib")?,
        ));
    }
    Ok(slope(&points))
}

fn measure(effort: &Effort) -> Result<Measured> {
    let mut signal = Process::end(&["signal"])?;
    let url = text(&signal.json()?, "url")?;
    let mut server = Process::end(&["serve", &url, "1", "100"])?;
    let key = text(&server.json()?, "key")?;
    Measured::alternate(
        effort,
        || Ok(1_000.0 * pull(&url, &key, 1)?.first_block_seconds),
        Npm::BOTH.map(npm).into(),
        Some((
            "raw data channel open",
            Box::new(|| Ok(1_000.0 * raw_channel(1)?.open_seconds)),
        )),
    )
}

fn npm<'a>(npm: Npm) -> (String, Run<'a>) {
    let mut served = None;
    let run = move || {
        let served = match &mut served {
            Some(served) => served,
            none => none.insert(Served::start(npm, 1, 100)?),
        };
        Ok(1_000.0 * served.pull_blocks(1)?)
    };
    (npm.name(), Box::new(run))
}
