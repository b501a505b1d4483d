//! npm hypercore as the peer: the scripts of `far-ends/npm`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::Process;
use crate::scratch::Scratch;

/// A version of npm hypercore.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Npm {
    Hypercore11,
    Hypercore10,
}

impl Npm {
    pub(crate) const BOTH: [Npm; 2] = [Npm::Hypercore11, Npm::Hypercore10];

    /// Returns the number as the scripts take it.
    pub(crate) fn major(self) -> &'static str {
        match self {
            Npm::Hypercore11 => "11",
            Npm::Hypercore10 => "10",
        }
    }

    /// Returns name and installed version.
    pub(crate) fn name(self) -> String {
        let package = folder().join(format!(
            "node_modules/hypercore{}/package.json",
            self.major()
        ));
        let version = std::fs::read(package)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
            .and_then(|package| Some(package["version"].as_str()?.to_owned()));
        format!(
            "npm hypercore {}",
            version.unwrap_or_else(|| self.major().to_owned())
        )
    }

    /// Appends and returns blocks per second.
    pub(crate) fn append(self, blocks: u64, block_bytes: usize, batch: usize) -> Result<f64> {
        let scratch = Scratch::new()?;
        let mut node = Command::new("node");
        node.arg("bench.js")
            .args([
                "append",
                "--hypercore",
                self.major(),
                "--blocks",
                &blocks.to_string(),
            ])
            .args([
                "--size",
                &block_bytes.to_string(),
                "--batch",
                &batch.to_string(),
            ])
            .env("KINLOG_BENCH_DIR", scratch.path());
        let said = last_line(&mut node)?;
        let seconds = said["seconds"]
            .as_f64()
            .context("bench.js names no seconds")?;
        Ok(blocks as f64 / seconds)
    }
}

impl Npm {
    /// Appends to one feed and gets each block at another over TCP; returns `p50_ms` or `p99_ms`.
    pub(crate) fn live(self, count: u64, field: &str) -> Result<f64> {
        let scratch = Scratch::new()?;
        let mut node = Command::new("node");
        node.arg("bench.js")
            .args(["live", "--hypercore", self.major()])
            .args(["--count", &count.to_string()])
            .env("KINLOG_BENCH_DIR", scratch.path());
        let said = last_line(&mut node)?;
        said[field].as_f64().context("bench.js names no time")
    }
}

/// A feed that npm filled and left in a folder.
#[derive(Debug)]
pub(crate) struct Filled {
    npm: Npm,
    scratch: Scratch,
}

impl Filled {
    /// Fills a feed with `blocks` blocks of one size, in batches of 1,000 small or 16 large ones.
    pub(crate) fn make(npm: Npm, blocks: u64, block_bytes: usize) -> Result<Filled> {
        let filled = Filled {
            npm,
            scratch: Scratch::new()?,
        };
        let batch = if block_bytes < 4096 { "1000" } else { "16" };
        filled.run(&[
            "fill",
            "--blocks",
            &blocks.to_string(),
            "--size",
            &block_bytes.to_string(),
            "--batch",
            batch,
        ])?;
        Ok(filled)
    }

    /// Runs `get` or `open` over it in a new process; returns the seconds that the script measured.
    pub(crate) fn seconds(&self, what: &str, count: u64) -> Result<f64> {
        let said = self.run(&[what, "--count", &count.to_string()])?;
        said["seconds"]
            .as_f64()
            .context("bench.js names no seconds")
    }

    /// Returns the folder.
    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    fn run(&self, words: &[&str]) -> Result<Value> {
        let mut node = Command::new("node");
        node.arg("bench.js")
            .args(words)
            .args(["--hypercore", self.npm.major(), "--folder"])
            .arg(self.scratch.path());
        last_line(&mut node)
    }
}

/// A feed that an npm process serves over TCP until this is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    npm: Npm,
    key: String,
    port: String,
    blocks: u64,
    _process: Process,
}

impl Served {
    /// Fills a feed with blocks of one size and serves it.
    pub(crate) fn start(npm: Npm, blocks: u64, block_bytes: usize) -> Result<Served> {
        installed()?;
        let mut node = Command::new("node");
        node.arg("peer.js")
            .args([
                "serve",
                "--hypercore",
                npm.major(),
                "--count",
                &blocks.to_string(),
            ])
            .args(["--size", &block_bytes.to_string()])
            .current_dir(folder());
        let mut process = Process::start(&mut node)?;
        let said = process.json()?;
        let key = said["key"]
            .as_str()
            .context("peer.js names no key")?
            .to_owned();
        Ok(Served {
            npm,
            key,
            port: said["port"].to_string(),
            blocks,
            _process: process,
        })
    }

    /// Pulls everything into a new feed; returns seconds from dialling to the last block.
    pub(crate) fn pull(&self) -> Result<f64> {
        self.pull_blocks(self.blocks)
    }

    /// Returns the feed's key in hex.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the address that serves.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Pulls the first blocks only.
    pub(crate) fn pull_blocks(&self, blocks: u64) -> Result<f64> {
        self.npm.pull(&self.key, &self.port, blocks)
    }
}

impl Npm {
    /// Pulls the first blocks of a feed, whoever serves it, into a new one; returns the seconds.
    pub(crate) fn pull(self, key: &str, port: &str, blocks: u64) -> Result<f64> {
        let mut node = Command::new("node");
        node.arg("peer.js")
            .args([
                "pull",
                "--hypercore",
                self.major(),
                "--count",
                &blocks.to_string(),
            ])
            .args(["--key", key, "--port", port]);
        last_line(&mut node)?["seconds"]
            .as_f64()
            .context("peer.js names no seconds")
    }
}

/// Returns the folder of the scripts and of the installed packages.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../far-ends/npm")
}

/// Runs a script to its end and returns the last JSON line it said.
pub(crate) fn last_line(command: &mut Command) -> Result<Value> {
    installed()?;
    let output = command
        .current_dir(folder())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("starting node")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{command:?}: {} {said}{complaint}", output.status);
    }
    let line = said.lines().last().context("the script said nothing")?;
    serde_json::from_str(line).with_context(|| format!("the script said {line:?}"))
}

fn installed() -> Result<()> {
    if !folder().join("node_modules/hypercore11").is_dir() {
        bail!("the packages of far-ends/npm are not installed");
    }
    Ok(())
}
