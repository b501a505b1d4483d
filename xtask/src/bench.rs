//! `cargo xtask bench`: builds the bench program in release and runs it.
//!
//! The rows and their definitions are in `benches/`; this stays thin so that `cargo xtask` compiles
//! in seconds.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::parts::Part;
use crate::repository;

/// What to measure.
#[derive(Args, Debug)]
pub(crate) struct Options {
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
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Err(error) = Part::Npm.provide() {
        eprintln!("npm hypercore is missing, rows come without their peer: {error:#}");
    }
    let with_chromium = |name: &String| name.contains("chromium");
    let takes_chromium =
        options.names.is_empty() && !options.list || options.names.iter().any(with_chromium);
    if takes_chromium && let Err(error) = Part::Chromium.provide() {
        eprintln!("Chromium is missing, its rows come without a figure: {error:#}");
    }
    let build = Command::new("cargo")
        .args(["build", "--release", "--workspace", "--locked"])
        .current_dir(repository::root())
        .status()
        .context("starting cargo build")?;
    if !build.success() {
        bail!("cargo build: {build}");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || repository::root().join("target"),
        std::path::PathBuf::from,
    );
    let mut bench = Command::new(target.join("release/kinlog-bench"));
    bench.args(&options.names).current_dir(repository::root());
    for (flag, set) in [
        ("--quick", options.quick),
        ("--json", options.json),
        ("--list", options.list),
    ] {
        if set {
            bench.arg(flag);
        }
    }
    let status = bench
        .status()
        .context("starting target/release/kinlog-bench")?;
    if status.success() {
        Ok(())
    } else {
        bail!("kinlog-bench: {status}")
    }
}
