//! The Rust crate `hypercore` as the peer: the program of `far-ends/hypercore-crate`, built when it
//! is first asked for.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::scratch::Scratch;

pub(crate) const NAME: &str = "crate hypercore 0.17.0-alpha.1";

/// Appends and returns blocks per second.
pub(crate) fn append(blocks: u64, block_bytes: usize, batch: usize) -> Result<f64> {
    let scratch = Scratch::new()?;
    let output = Command::new(program()?)
        .args([
            "append",
            &blocks.to_string(),
            &block_bytes.to_string(),
            &batch.to_string(),
        ])
        .arg(scratch.path())
        .stdin(Stdio::null())
        .output()
        .context("starting hypercore-crate")?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("hypercore-crate: {} {complaint}", output.status);
    }
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let seconds = said["seconds"].as_f64().context("no seconds")?;
    Ok(blocks as f64 / seconds)
}

/// Builds the program once in this run; later runs find it built.
fn program() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

fn build() -> Result<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join("far-ends/hypercore-crate");
    let target = root.join("target/far-ends");
    let output = Command::new("cargo")
        .args(["build", "--release", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().last().unwrap_or_default();
        bail!("building far-ends/hypercore-crate: {last}");
    }
    Ok(target.join("release/hypercore-crate"))
}
