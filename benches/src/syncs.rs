//! How often a row syncs the disk, counted under strace in a run of its own.

use std::env;
use std::process::{Command, Stdio};

use crate::row::{Effort, Row};

/// What strace counted.
#[derive(Debug)]
pub(crate) struct Syncs {
    pub(crate) calls: u64,
    /// For how much work.
    pub(crate) work: &'static str,
}

/// Counts fdatasync and fsync calls of one run of our side; `None` without strace.
pub(crate) fn count(row: &Row, effort: &Effort) -> Option<Syncs> {
    row.once?;
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-c", "-e", "trace=fdatasync,fsync"])
        .arg(env::current_exe().ok()?)
        .args(["--once", row.name])
        .args(effort.quick.then_some("--quick"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let output = strace.output().ok()?;
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    let calls: Vec<u64> = report
        .lines()
        .filter(|line| line.ends_with("fdatasync") || line.ends_with("fsync"))
        .filter_map(|line| line.split_whitespace().nth(3)?.parse().ok())
        .collect();
    (output.status.success() && !calls.is_empty()).then(|| Syncs {
        calls: calls.iter().sum(),
        work: "one repeat",
    })
}
