//! What a signal server costs for each client and each message, and how soon all are back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::Process;
use crate::replicate::{number, text};
use crate::row::{Effort, Measured, Row, slope};

pub(crate) const IDLE_BYTES: Row = Row {
    name: "signal_idle_conn_bytes",
    unit: "B",
    definition: "resident memory (VmRSS) of a signal server's process for each more WebSocket of which \
        the client joined one topic and says nothing: the slope through 1,000, 2,000, 4,000 and 8,000 \
        connections on loopback, five seconds after the last one came up (less is better; target \
        12,288).",
    measure: |effort| idle(effort, "plain"),
    once: None,
};

pub(crate) const IDLE_BYTES_TLS: Row = Row {
    name: "signal_idle_conn_tls_bytes",
    unit: "B",
    definition: "as signal_idle_conn_bytes, with TLS 1.3 by the server itself (less is better; 32,768 is \
        what reliability asks for).",
    measure: |effort| idle(effort, "tls"),
    once: None,
};

pub(crate) const RELAY_CPU: Row = Row {
    name: "signal_relay_cpu_us",
    unit: "us",
    definition: "CPU time of a signal server's process (user and system) for each message of 512 B that \
        it passes from one client to another: 1,000 pairs, 10,000 messages a second for 10 s (4 s with \
        --quick) on loopback (less is better; target 12).",
    measure: |effort| relayed(effort, "plain", 10_000, |figures| figures.cpu_us),
    once: None,
};

pub(crate) const RELAY_CPU_TLS: Row = Row {
    name: "signal_relay_cpu_tls_us",
    unit: "us",
    definition: "as signal_relay_cpu_us, with TLS 1.3 by the server itself (less is better; target 20).",
    measure: |effort| relayed(effort, "tls", 10_000, |figures| figures.cpu_us),
    once: None,
};

pub(crate) const RELAY_P99: Row = Row {
    name: "signal_relay_p99_ms",
    unit: "ms",
    definition: "99 % of messages of 512 B between 1,000 pairs of clients arrive within this time of the \
        moment at which they were to be sent: 20,000 a second for 10 s (4 s with --quick), sent at a steady \
        rate whatever comes back; server and clients are two processes on loopback (less is better; target \
        20).",
    measure: |effort| relayed(effort, "plain", 20_000, |figures| figures.p99_ms),
    once: None,
};

pub(crate) const RESTART: Row = Row {
    name: "signal_restart_s",
    unit: "s",
    definition: "from the moment at which a signal server listens again after it was stopped until all of \
        5,000 clients (1,250 with --quick), which dial again by themselves with their usual back-off, have \
        joined their topic; one process of clients on loopback (less is better; target 10).",
    measure: restart,
    once: None,
};

/// After which nothing is left to do of connections that came up.
const SETTLING: Duration = Duration::from_secs(5);

/// Pairs of clients that send.
const PAIRS: usize = 1_000;

/// Part of the asked rate below which a run says more of the load than of the server.
const RATE_MIN: f64 = 0.95;

/// A running server.
struct Server {
    process: Process,
    said: Value,
}

impl Server {
    fn start(at: &str, by: &str) -> Result<Server> {
        let mut process = Process::end(&["signal-server", at, by])?;
        let said = process.json()?;
        Ok(Server { process, said })
    }

    fn url(&self) -> Result<String> {
        text(&self.said, "url")
    }

    fn certificate(&self) -> Result<String> {
        text(&self.said, "certificate")
    }

    /// Returns a file of the process in `/proc`.
    fn proc(&self, name: &str) -> Result<String> {
        let pid = number(&self.said, "pid")?;
        Ok(std::fs::read_to_string(format!("/proc/{pid}/{name}"))?)
    }

    fn resident_bytes(&self) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("VmRSS")?.parse::<f64>()? * 1_024.0)
    }

    /// Returns user and system time so far, in seconds; the kernel counts in hundredths.
    fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // Behind the name, which may hold spaces: state is the third field, times are 14 and 15.
        let fields = stat.rsplit(')').next().context("a name")?;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = times
            .map(|ticks| ticks.parse::<f64>())
            .sum::<Result<_, _>>()?;
        Ok(ticks / 100.0)
    }
}

fn idle(effort: &Effort, by: &str) -> Result<Measured> {
    let run = || {
        let server = Server::start("127.0.0.1:0", by)?;
        let (url, certificate) = (server.url()?, server.certificate()?);
        let mut load = Process::end(&["signal-load", "idle", &url, &certificate])?;
        let mut points = Vec::new();
        for count in [1_000, 2_000, 4_000, 8_000] {
            load.tell(&count.to_string())?;
            ensure!(
                number(&load.json()?, "open")? as usize == count,
                "all are open"
            );
            std::thread::sleep(SETTLING);
            points.push((f64::from(u32::try_from(count)?), server.resident_bytes()?));
        }
        Ok(slope(&points))
    };
    Measured::alternate(effort, run, Vec::new(), None)
}

struct Figures {
    cpu_us: f64,
    p99_ms: f64,
}

fn relayed(
    effort: &Effort,
    by: &str,
    per_second: usize,
    wanted: fn(&Figures) -> f64,
) -> Result<Measured> {
    let seconds = if effort.quick { 4 } else { 10 };
    let run = || {
        let server = Server::start("127.0.0.1:0", by)?;
        let (url, certificate) = (server.url()?, server.certificate()?);
        let [pairs, rate, seconds] = [PAIRS, per_second, seconds].map(|count| count.to_string());
        let words = [
            "signal-load",
            "relay",
            &url,
            &certificate,
            &pairs,
            &rate,
            &seconds,
        ];
        let mut load = Process::end(&words)?;
        load.json()?;
        let before = server.cpu_seconds()?;
        load.tell("go")?;
        let said = load.json()?;
        let cpu = server.cpu_seconds()? - before;
        let reached = number(&said, "per_second")?;
        ensure!(
            reached >= RATE_MIN * per_second as f64,
            "{reached:.0} of {per_second} messages a second: the machine is too busy"
        );
        Ok(wanted(&Figures {
            cpu_us: 1e6 * cpu / number(&said, "received")?,
            p99_ms: number(&said, "p99_us")? / 1_000.0,
        }))
    };
    Measured::alternate(effort, run, Vec::new(), None)
}

fn restart(effort: &Effort) -> Result<Measured> {
    let count = effort.scaled(5_000).to_string();
    let run = || {
        let first = Server::start("127.0.0.1:0", "plain")?;
        let port = number(&first.said, "port")?;
        let url = format!("ws://127.0.0.1:{port}");
        let mut load = Process::end(&["signal-load", "return", &url, &count])?;
        load.json()?;
        drop(first.process);
        let again = Server::start(&format!("127.0.0.1:{port}"), "plain")?;
        let start = Instant::now();
        ensure!(number(&load.json()?, "back")? > 0.0, "all are back");
        let seconds = start.elapsed().as_secs_f64();
        drop(again);
        Ok(seconds)
    };
    Measured::alternate(effort, run, Vec::new(), None)
}
