//! The rows of `cargo xtask bench`: ours beside npm hypercore, in one run, on one machine.
//!
//! Absolute figures move from machine to machine; the ratio of one run is what counts. Repeats of
//! ours and theirs alternate, and each figure is the median of its repeats.

#![cfg_attr(
    not(feature = "network"),
    allow(dead_code, reason = "some is for rows between two processes")
)]

#[path = "../../indexer/tests/acts/mod.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "made for tests")]
mod acts;
mod append;
#[cfg(feature = "network")]
mod chromium;
#[cfg(feature = "network")]
mod connect;
#[cfg(feature = "network")]
mod end;
#[cfg(feature = "network")]
mod far;
mod hypercore_crate;
mod identity;
mod index;
mod npm;
mod process;
mod read;
#[cfg(feature = "network")]
mod replicate;
mod report;
mod row;
mod scratch;
#[cfg(feature = "network")]
mod signal_server;
mod syncs;
#[cfg(feature = "network")]
mod transfer;
#[path = "../../indexer/tests/world/mod.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "made for tests")]
mod world;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use crate::row::{Effort, ROWS, Row};

#[derive(Debug, Parser)]
#[command(name = "kinlog-bench", about = "Measures Kinlog beside npm hypercore")]
struct Arguments {
    /// Rows to measure; all when none is named.
    names: Vec<String>,
    /// Fewer repeats and smaller inputs.
    #[arg(long)]
    quick: bool,
    /// JSON lines only, no definitions.
    #[arg(long)]
    json: bool,
    /// Lists the rows with their definitions.
    #[arg(long)]
    list: bool,
    /// Runs our side of one row once, for a look under strace.
    #[arg(long, hide = true)]
    once: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.split_first() {
        // One end of a transfer, started by a row of its own.
        #[cfg(feature = "network")]
        Some((first, rest)) if first == "end" => end::run(rest),
        Some((first, rest)) if first == "rebuild" => index::rebuild(rest),
        Some((first, rest)) if first == "opened" => read::say_resident(rest),
        _ => run(&Arguments::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let rows = chosen(&arguments.names)?;
    if arguments.list {
        for row in rows {
            println!("{} ({})\n  {}", row.name, row.unit, row.definition);
        }
        return Ok(());
    }
    let effort = Effort {
        quick: arguments.quick,
    };
    if arguments.once {
        for row in rows {
            if let Some(once) = row.once {
                once(&effort)?;
            }
        }
        return Ok(());
    }
    let mut broken = Vec::new();
    for row in rows {
        if !arguments.json {
            eprintln!("{}: {}", row.name, row.definition);
        }
        match (row.measure)(&effort) {
            Ok(measured) => {
                let syncs = syncs::count(row, &effort);
                println!("{}", report::json(row, &measured, &syncs));
                if !arguments.json {
                    eprintln!("  {}", report::words(row, &measured, &syncs));
                }
            }
            Err(error) => {
                eprintln!("{}: {error:#}", row.name);
                broken.push(row.name);
            }
        }
    }
    if !broken.is_empty() {
        bail!("rows without a figure: {}", broken.join(", "));
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Row>> {
    if names.is_empty() {
        return Ok(ROWS.iter().collect());
    }
    let mut rows = Vec::new();
    for name in names {
        match ROWS.iter().find(|row| row.name == name) {
            Some(row) => rows.push(row),
            None => {
                let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
                bail!("no row {name:?}; there are {}", known.join(", "));
            }
        }
    }
    Ok(rows)
}
