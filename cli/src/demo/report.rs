//! What the demo shows in the end: on a terminal as tables, with `--json` as one object.

use std::path::Path;
use std::time::Duration;

use kinlog_agent::api::{ErrorKind, Status};
use serde::Serialize;

use crate::demo::claims::{Claim, Met, Seen};
use crate::demo::stage::seconds;
use crate::error::Failure;
use crate::output::{Output, bytes, clean, count, rate};

/// Something that travelled, measured by who received it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Transfer {
    pub(crate) what: String,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub(crate) time: Duration,
    pub(crate) bytes_per_second: u64,
}

impl Transfer {
    pub(crate) fn new(
        what: impl Into<String>,
        (from, to): (&'static str, &'static str),
        (blocks, bytes): (u64, u64),
        time: Duration,
    ) -> Self {
        let bytes_per_second = (bytes as f64 / time.as_secs_f64().max(0.001)) as u64;
        Transfer {
            what: what.into(),
            from,
            to,
            blocks,
            bytes,
            time,
            bytes_per_second,
        }
    }
}

/// What was seen while it played.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) met: Vec<Met>,
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) claims: Vec<Claim>,
}

/// The whole, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    ok: bool,
    #[serde(serialize_with = "as_seconds")]
    seconds: Duration,
    connections: Vec<Met>,
    transfers: Vec<Transfer>,
    agents: Vec<AgentReport>,
    claims: Vec<Claim>,
}

/// An agent at the end, as its own `status` told it.
#[derive(Debug, Serialize)]
struct AgentReport {
    role: &'static str,
    status: Status,
}

impl Report {
    pub(crate) fn new(played: Played, time: Duration) -> Self {
        Report {
            ok: !played.claims.is_empty() && played.claims.iter().all(|claim| claim.holds),
            seconds: time,
            connections: played.met,
            transfers: played.transfers,
            agents: played
                .seen
                .into_iter()
                .map(|seen| AgentReport {
                    role: seen.name,
                    status: seen.status,
                })
                .collect(),
            claims: played.claims,
        }
    }

    /// Returns whether every claim holds, as an exit code.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let failed = self.claims.iter().filter(|claim| !claim.holds).count();
        match failed {
            0 if self.ok => Ok(()),
            0 => Err(Failure::general("nothing was claimed")),
            _ => Err(Failure::new(
                ErrorKind::Verification,
                format!("{failed} of {} claims do not hold", self.claims.len()),
            )),
        }
    }

    pub(crate) fn show(&self, output: &Output) -> Result<(), Failure> {
        if output.is_json() {
            return output.json(self);
        }
        self.show_connections(output)?;
        self.show_transfers(output)?;
        self.show_stores(output)?;
        self.show_claims(output)?;
        let paint = output.paint();
        let verdict = if self.ok {
            paint.good("all of it holds")
        } else {
            paint.bad("not all of it holds")
        };
        output.data(&format!("\n{verdict}, in {}", seconds(self.seconds)))
    }

    fn show_connections(&self, output: &Output) -> Result<(), Failure> {
        let paint = output.paint();
        output.data(&format!(
            "\n{}",
            paint.strong("Who is connected to whom, over what")
        ))?;
        for met in &self.connections {
            output.data(&format!(
                "  {:<20}  by {:<6}  {}, open for {} s\n    {}",
                format!("{} - {}", met.one, met.other.unwrap_or("?")),
                met.met_by,
                met.transport,
                met.seconds,
                paint.faint(met.path.as_deref().unwrap_or("")),
            ))?;
        }
        Ok(())
    }

    fn show_transfers(&self, output: &Output) -> Result<(), Failure> {
        let paint = output.paint();
        output.data(&format!("\n{}", paint.strong("What travelled, how fast")))?;
        for transfer in &self.transfers {
            output.data(&format!(
                "  {:<20}  {:>7} in {:>6}  {:<7}  {}",
                format!("{} > {}", transfer.from, transfer.to),
                bytes(transfer.bytes),
                seconds(transfer.time),
                rate(transfer.bytes, transfer.time),
                clean(&transfer.what),
            ))?;
        }
        Ok(())
    }

    fn show_stores(&self, output: &Output) -> Result<(), Failure> {
        let paint = output.paint();
        output.data(&format!("\n{}", paint.strong("What each stores, and why")))?;
        for agent in &self.agents {
            let status = &agent.status;
            output.data(&format!(
                "  {}  {} in {}",
                paint.name(agent.role),
                bytes(status.store.bytes),
                count(status.store.feeds, "feed"),
            ))?;
            for feed in status.feeds.iter().filter(|feed| feed.feed.blocks_held > 0) {
                let held = format!("{} of {}", feed.feed.blocks_held, feed.feed.length);
                output.data(&format!(
                    "    {held:>12}  {:>7}  {}",
                    bytes(feed.feed.bytes_held),
                    paint.faint(&clean(&feed.why.join("; "))),
                ))?;
            }
        }
        Ok(())
    }

    fn show_claims(&self, output: &Output) -> Result<(), Failure> {
        let paint = output.paint();
        output.data(&format!(
            "\n{}",
            paint.strong("What was claimed, and checked")
        ))?;
        for claim in &self.claims {
            let sign = if claim.holds {
                paint.good("yes")
            } else {
                paint.bad("NO ")
            };
            output.data(&format!("  {sign}  {}", claim.claim))?;
            output.data(&format!("       {}", paint.faint(&clean(&claim.evidence))))?;
        }
        Ok(())
    }
}

/// Prints what to type to look round in the homes that stay.
pub(crate) fn look_round(folder: &Path, output: &Output) {
    let paint = output.paint_words();
    output.say(format!(
        "\n{} {}",
        paint.strong("The homes stay in"),
        folder.display()
    ));
    // As it can be typed: the program need not stand in the PATH.
    let program = std::env::current_exe()
        .map_or_else(|_| "kinlog".to_owned(), |path| path.display().to_string());
    for command in [
        "status",
        "feed list",
        "pins",
        "read kitchen",
        "search logarithm",
    ] {
        output.say(format!(
            "  {program} --home {}/reader {command}",
            folder.display()
        ));
    }
    output.say(format!(
        "  rm -r {}    # when you have seen enough",
        folder.display()
    ));
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1000.0).round() / 1000.0)
}
