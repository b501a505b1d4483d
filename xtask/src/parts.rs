//! Parts from outside that some tests need: how to see whether they are there, how to get them.
//!
//! Tests that need a part have names that start with its prefix (`npm_...`, `strace_...`), so that
//! they, and only they, are left out where the part is missing.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::repository;

/// A part that tests need.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// Node with npm hypercore 11 and 10 in `far-ends/npm`.
    Npm,
    /// strace, to see which files and calls a process uses.
    Strace,
    /// A session bus and GNOME's key ring.
    Keyring,
    /// Redis, over which instances of a signal server meet.
    Redis,
    /// Python, which checks golden values with code of its own.
    Python,
    /// Debian's TURN server.
    Coturn,
    /// A browser, whose data channels are of another stack than ours.
    Chromium,
    /// Network namespaces with NAT between them, and a TURN server there; needs root.
    Namespaces,
}

impl Part {
    pub(crate) const ALL: [Part; 8] = [
        Part::Npm,
        Part::Strace,
        Part::Keyring,
        Part::Redis,
        Part::Python,
        Part::Coturn,
        Part::Chromium,
        Part::Namespaces,
    ];

    /// Returns the name as `--without` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Npm => "npm",
            Part::Strace => "strace",
            Part::Keyring => "keyring",
            Part::Redis => "redis",
            Part::Python => "python",
            Part::Coturn => "coturn",
            Part::Chromium => "chromium",
            Part::Namespaces => "namespaces",
        }
    }

    /// Returns the prefix of the names of tests that need this part.
    pub(crate) fn test_prefix(self) -> &'static str {
        match self {
            Part::Npm => "npm_",
            Part::Strace => "strace_",
            Part::Keyring => "keyring_",
            Part::Redis => "redis_",
            Part::Python => "python_",
            Part::Coturn => "coturn_",
            Part::Chromium => "chromium_",
            Part::Namespaces => "namespaces_",
        }
    }

    /// Installs what is missing of this part.
    pub(crate) fn provide(self) -> Result<()> {
        match self {
            Part::Npm => {
                provide_programs(&[("node", "nodejs"), ("npm", "npm")])?;
                provide_npm_packages()
            }
            Part::Strace => provide_programs(&[("strace", "strace")]),
            Part::Keyring => provide_programs(&[
                ("dbus-daemon", "dbus-daemon"),
                ("gnome-keyring-daemon", "gnome-keyring"),
            ]),
            Part::Redis => provide_programs(&[("redis-server", "redis-server")]),
            Part::Python => provide_programs(&[("python3", "python3")]),
            Part::Coturn => provide_programs(&[("turnserver", "coturn")]),
            Part::Chromium => provide_programs(&[("chromium", "chromium")]),
            Part::Namespaces => provide_programs(&[
                ("ip", "iproute2"),
                ("nft", "nftables"),
                ("ethtool", "ethtool"),
                ("turnserver", "coturn"),
            ]),
        }
    }
}

/// Installs the Debian package of each program that does not start.
fn provide_programs(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !starts(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(", "));
    run(Command::new("apt-get").args(["update", "-q"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    match programs.iter().find(|(program, _)| !starts(program)) {
        Some((program, package)) => bail!("{package} is installed and {program} does not start"),
        None => Ok(()),
    }
}

/// Runs `npm ci` unless the installed packages are those of the lock file.
fn provide_npm_packages() -> Result<()> {
    let folder = repository::root().join("far-ends/npm");
    let lock = fs::read(folder.join("package-lock.json")).context("reading package-lock.json")?;
    let installed = folder.join("node_modules/.installed-package-lock.json");
    if fs::read(&installed).is_ok_and(|bytes| bytes == lock) {
        return Ok(());
    }
    println!("installing the packages of far-ends/npm");
    run(Command::new("npm")
        .arg("ci")
        .arg("--loglevel=error")
        .current_dir(&folder))?;
    fs::write(installed, lock).context("noting what npm installed")
}

fn starts(program: &str) -> bool {
    // iproute2 knows no long options of that kind.
    let version = if program == "ip" { "-V" } else { "--version" };
    let mut command = Command::new(program);
    command
        .arg(version)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| shown.clone())?;
    if status.success() {
        Ok(())
    } else {
        bail!("{shown}: {status}")
    }
}
