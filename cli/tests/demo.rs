//! The demo is the program's own test: all that it claims has to hold.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::time::Duration;

use crate::support::kinlog;
use testkit::process::{Folder, Running};

#[test]
fn everything_the_demo_claims_holds() {
    let folder = Folder::new("demo");
    let running = Running::start(
        kinlog()
            .args(["demo", "--json"])
            .env("TMPDIR", folder.path()),
    );
    let finished = running.finish(Duration::from_secs(180)).ok();
    let report = &finished.json()[0];
    assert_eq!(
        (report["v"].as_u64(), report["ok"].as_bool()),
        (Some(1), Some(true))
    );
    let claims = report["claims"].as_array().unwrap();
    assert!(claims.len() >= 12, "{claims:#?}");
    for claim in claims {
        assert_eq!(claim["holds"], true, "{claim:#}");
    }
    for transfer in report["transfers"].as_array().unwrap() {
        assert!(transfer["bytes"].as_u64().unwrap() > 0, "{transfer:#}");
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "something stays behind"
    );
}

#[test]
fn an_interrupted_demo_leaves_no_process_and_no_file() {
    let folder = Folder::new("demo-interrupted");
    let mut running = Running::start(kinlog().arg("demo").env("TMPDIR", folder.path()));
    // The four agents exist once their names stand on stderr.
    running.wait_stderr("latecomer");
    let children = children_of(running.pid());
    assert!(!children.is_empty());
    running.interrupt();
    running.finish(Duration::from_secs(60)).exits(130);
    for child in children {
        assert!(
            !std::path::Path::new(&format!("/proc/{child}")).exists(),
            "{child} still runs"
        );
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "something stays behind"
    );
}

/// Returns the processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name stands in parentheses and may hold anything; state and parent follow it.
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        if after_name.split(' ').nth(1) == Some(&parent.to_string()) {
            children.push(pid);
        }
    }
    children
}
