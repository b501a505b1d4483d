//! The layers of the design: a crate names only crates above it, and cores do no IO.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::repository;

/// The crates people use, from the top: each may name those before it.
const LAYERS: [&str; 7] = [
    "kinlog-feeds",
    "kinlog-signal",
    "kinlog-indexer",
    "kinlog-swarm",
    "kinlog-agent",
    "kinlog-doorway",
    "kinlog",
];

/// Crates for development: nothing above names them but as a dev-dependency.
const DEVELOPMENT: [&str; 4] = ["testkit", "xtask", "kinlog-benches", "kinlog-fuzz"];

/// What a crate knows nothing of.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "kinlog-feeds",
        &[
            "tokio",
            "rusqlite",
            "webrtc",
            "axum",
            "clap",
            "getrandom",
            "prost",
        ],
    ),
    ("kinlog-signal", &["rusqlite", "webrtc", "clap"]),
    (
        "kinlog-indexer",
        &["tokio", "webrtc", "axum", "clap", "tokio-tungstenite"],
    ),
    ("kinlog-swarm", &["rusqlite", "axum", "clap"]),
    ("kinlog-agent", &["axum", "clap", "indicatif"]),
];

/// Cores: values in, values out.
const PURE: &[&str] = &[
    "feeds/src/bitfield.rs",
    "feeds/src/bundle",
    "feeds/src/conflict.rs",
    "feeds/src/crypto",
    "feeds/src/encoding.rs",
    "feeds/src/manifest",
    "feeds/src/replicate",
    "feeds/src/text.rs",
    "feeds/src/tree",
    "feeds/src/wire",
    "signal/src/address.rs",
    "signal/src/client/backoff.rs",
    "signal/src/client/core.rs",
    "signal/src/join.rs",
    "signal/src/message.rs",
    "signal/src/rules",
    "signal/src/topic.rs",
    "swarm/src/lan/neighbourhood.rs",
];

/// What a core does not do. Randomness and time come in as values.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::thread",
    "TcpStream",
    "UdpSocket",
    "tokio::",
    "getrandom",
    ".await",
];

/// Fails with every place where a rule is broken.
pub(crate) fn check() -> Result<()> {
    let mut problems = Vec::new();
    check_crates(&mut problems)?;
    check_cores(&mut problems)?;
    check_references(&mut problems)?;
    if problems.is_empty() {
        println!("layers hold");
        return Ok(());
    }
    bail!("layers are broken:\n  {}", problems.join("\n  "))
}

fn check_crates(problems: &mut Vec<String>) -> Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(repository::root())
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("metadata lists no packages")?;
    let names: BTreeSet<&str> = packages
        .iter()
        .filter_map(|each| each["name"].as_str())
        .collect();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let dependencies = package["dependencies"]
            .as_array()
            .context("no dependencies listed")?;
        for dependency in dependencies {
            let needed = dependency["name"]
                .as_str()
                .context("a dependency has no name")?;
            let for_tests = dependency["kind"].as_str() == Some("dev");
            let problem = if names.contains(needed) {
                broken(name, needed, for_tests)
            } else {
                let foreign = FOREIGN.iter().find(|(layer, _)| *layer == name);
                let known = foreign.is_some_and(|(_, foreign)| foreign.contains(&needed));
                (known && !for_tests).then(|| format!("{name} is to know nothing of {needed}"))
            };
            problems.extend(problem);
        }
        if !LAYERS.contains(&name) && !DEVELOPMENT.contains(&name) && !is_example(package) {
            problems.push(format!(
                "{name} has no place in the layers of xtask/src/layers.rs"
            ));
        }
    }
    Ok(())
}

/// Returns what is wrong with `name` naming `needed`, both of this workspace.
fn broken(name: &str, needed: &str, for_tests: bool) -> Option<String> {
    let place = |of: &str| LAYERS.iter().position(|layer| *layer == of);
    match (place(name), place(needed)) {
        (Some(own), Some(other)) if other < own => None,
        // A crate may name itself for tests, with features of its own switched on.
        (Some(own), Some(other)) if for_tests && other == own => None,
        (Some(_), Some(_)) => Some(format!("{name} names {needed}, which is not above it")),
        (Some(_), None) if for_tests => None,
        (Some(_), None) => Some(format!(
            "{name} names {needed}, which is for development only"
        )),
        (None, _) => None,
    }
}

fn is_example(package: &Value) -> bool {
    let manifest = package["manifest_path"].as_str().unwrap_or_default();
    Path::new(manifest).starts_with(repository::root().join("examples"))
}

fn check_cores(problems: &mut Vec<String>) -> Result<()> {
    for place in PURE {
        let path = repository::root().join(place);
        if !path.exists() {
            problems.push(format!(
                "{place} is named in xtask/src/layers.rs and does not exist"
            ));
            continue;
        }
        for file in rust_files(&path)? {
            let text = fs::read_to_string(&file)?;
            let code = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                let found = IMPURE.iter().filter(|word| line.contains(**word));
                problems.extend(found.map(|word| {
                    let shown = file
                        .strip_prefix(repository::root())
                        .unwrap_or(&file)
                        .display();
                    format!("{shown}:{}: a core names {word}", number + 1)
                }));
            }
        }
    }
    Ok(())
}

/// Returns the Rust files at or below `path`, those of tests left out.
fn rust_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name == "tests" || name == "tests.rs" {
            continue;
        }
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Nothing committed refers to what lies outside the repository.
fn check_references(problems: &mut Vec<String>) -> Result<()> {
    let outside = concat!("../", "shared");
    let output = Command::new("git")
        .args([
            "grep",
            "--line-number",
            "--fixed-strings",
            "-I",
            "-e",
            outside,
        ])
        .current_dir(repository::root())
        .output()
        .context("running git grep")?;
    // git grep ends with 1 when it finds nothing.
    if output.status.code() > Some(1) {
        bail!("git grep: {}", String::from_utf8_lossy(&output.stderr));
    }
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    problems.extend(
        found
            .lines()
            .map(|line| format!("{line}: outside the repository")),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_names_only_crates_above_it() {
        assert_eq!(broken("kinlog-swarm", "kinlog-feeds", false), None);
        assert!(broken("kinlog-feeds", "kinlog-swarm", false).is_some());
        assert!(broken("kinlog-feeds", "kinlog-swarm", true).is_some());
        assert!(broken("kinlog-feeds", "testkit", false).is_some());
        assert_eq!(broken("kinlog-feeds", "testkit", true), None);
        assert_eq!(broken("kinlog-feeds", "kinlog-feeds", true), None);
    }

    #[test]
    fn the_layers_hold() {
        check().unwrap();
    }
}
