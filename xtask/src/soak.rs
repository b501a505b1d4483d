//! `cargo xtask soak`: the same tests with many more cases, for hours instead of seconds.
//!
//! A test asks `testkit::soak` how far to go; what it prints names the seed to replay a failure.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::repository;

/// What to run, and for how long.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Names of soaks; all of them when none is given.
    names: Vec<String>,
    /// Seconds for each soak that has no end of its own.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Starts from this seed, as a failed run printed it.
    #[arg(long)]
    seed: Option<u64>,
    /// Shows the soaks and runs none.
    #[arg(long)]
    list: bool,
}

struct Soak {
    name: &'static str,
    package: &'static str,
    /// Part of the names of its tests.
    tests: &'static str,
    about: &'static str,
}

const SOAKS: [Soak; 15] = [
    Soak {
        name: "power",
        package: "kinlog-feeds",
        tests: "crash::random::",
        about: "random workloads, up to 10,000,000 images of power cuts, or --seconds",
    },
    Soak {
        name: "recovery",
        package: "kinlog-feeds",
        tests: "crash::nested::the_power_goes_three_times",
        about: "200,000 cases of three power cuts",
    },
    Soak {
        name: "kill",
        package: "kinlog-feeds",
        tests: "kill::",
        about: "10,000 kills of a writing process on a real disk",
    },
    Soak {
        name: "flips",
        package: "kinlog-feeds",
        tests: "a_flip_of_any_byte",
        about: "all eight bits of every byte of a store",
    },
    Soak {
        name: "locks",
        package: "kinlog-feeds",
        tests: "of_many_that_open_at_once",
        about: "1,000 races for one folder",
    },
    Soak {
        name: "fuzz",
        package: "kinlog-fuzz",
        tests: "fuzz::",
        about: "200 times the mutations of the tests for each fuzz target",
    },
    Soak {
        name: "rules",
        package: "kinlog-indexer",
        tests: "random_histories_come_to_what_the_plain_rules_say",
        about: "histories of a room against the plain rules, for --seconds",
    },
    Soak {
        name: "orders",
        package: "kinlog-indexer",
        tests: "twenty_random_orders",
        about: "worlds read in twenty orders each, for --seconds",
    },
    Soak {
        name: "convergence",
        package: "kinlog-indexer",
        tests: "eight_replicas",
        about: "20,000 rooms with eight replicas each",
    },
    Soak {
        name: "simulation",
        package: "kinlog-indexer",
        tests: "everything_holds_whatever_goes_wrong",
        about: "whole nodes over a network, disks and clocks that go wrong, seed after seed, for --seconds",
    },
    Soak {
        name: "simulation-mistakes",
        package: "kinlog-indexer",
        tests: "mistakes_made_on_purpose",
        about: "every mistake that the simulation has to notice",
    },
    Soak {
        name: "far",
        package: "kinlog-swarm",
        tests: "pairs_of_a_fixed_mix",
        about: "300 pairs behind routers, far from each other: who meets, and how soon",
    },
    Soak {
        name: "index-mistakes",
        package: "kinlog-indexer",
        tests: "mistakes_are_noticed",
        about: "every mistake that rooms have to notice",
    },
    Soak {
        name: "index-kill",
        package: "kinlog-indexer",
        tests: "a_killed_index",
        about: "10,000 kills of an indexing process",
    },
    Soak {
        name: "index-flips",
        package: "kinlog-indexer",
        tests: "flipped_bits",
        about: "20,000 flipped bits of index.db",
    },
];

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for soak in &SOAKS {
            println!("{:12} {}", soak.name, soak.about);
        }
        return Ok(());
    }
    let known = |name: &&String| SOAKS.iter().any(|soak| soak.name == **name);
    if let Some(name) = options.names.iter().find(|name| !known(name)) {
        let names: Vec<_> = SOAKS.iter().map(|soak| soak.name).collect();
        bail!("there is no soak {name}; there are {}", names.join(", "));
    }
    let asked = |soak: &&Soak| {
        options.names.is_empty() || options.names.iter().any(|name| name == soak.name)
    };
    let mut failed = Vec::new();
    for soak in SOAKS.iter().filter(asked) {
        println!("--- {}: {}", soak.name, soak.about);
        let start = Instant::now();
        let passed = run_one(soak, options)?;
        let seconds = start.elapsed().as_secs_f64();
        let outcome = if passed { "passed" } else { "FAILED" };
        println!("--- {}: {outcome}, {seconds:.0} s", soak.name);
        if !passed {
            failed.push(soak.name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "));
}

/// Runs the tests of a soak; `cargo test` sets them no time limit.
fn run_one(soak: &Soak, options: &Options) -> Result<bool> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--locked", "--package", soak.package, "--tests"])
        .args([soak.tests, "--", "--nocapture"])
        .env("KINLOG_SOAK", "1")
        .env("KINLOG_SOAK_SECONDS", options.seconds.to_string())
        .current_dir(repository::root());
    if let Some(seed) = options.seed {
        cargo.env("KINLOG_SEED", seed.to_string());
    }
    Ok(cargo.status()?.success())
}
