//! Homes and servers for the tests of the binary.
#![allow(dead_code, unreachable_pub, clippy::panic)] // Each test file uses its part of this.

pub mod blocks;
pub mod secrets;
pub mod story;

pub mod frames;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::process::{Finished, Folder, Running, WAIT_MAX, run};

/// Two peers that meet and exchange something: about a second on a free machine.
pub const MEETING: Duration = Duration::from_secs(60);

/// Returns the binary, in an environment without settings of the person who runs the test.
pub fn kinlog() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinlog"));
    for variable in [
        "DBUS_SESSION_BUS_ADDRESS",
        "KINLOG_HOME",
        "KINLOG_LOG",
        "KINLOG_METRICS",
        "KINLOG_PASSPHRASE_FILE",
        "KINLOG_STATE",
        "NO_COLOR",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
    ] {
        command.env_remove(variable);
    }
    // Agents of tests that run beside each other would meet: a test that wants that says so.
    command.env("KINLOG_NO_LAN", "1");
    command
}

/// An agent's home in a folder of its own.
#[derive(Debug)]
pub struct Home {
    folder: Folder,
    pub name: String,
}

impl Home {
    /// Names a home that does not exist yet.
    pub fn empty(name: &str) -> Home {
        Home {
            folder: Folder::new(name),
            name: name.to_owned(),
        }
    }

    /// Makes a home with an identity.
    #[track_caller]
    pub fn init(name: &str) -> Home {
        let home = Home::empty(name);
        home.run(["init", "--name", name, "--discard-phrase"]).ok();
        home
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Returns the folder that tells the home from its copies.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Returns the path of a file beside the home.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file beside the home.
    #[track_caller]
    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.beside(name);
        std::fs::write(&path, content).expect("the folder can be written");
        path
    }

    /// Writes a file beside the home that its owner alone may read.
    #[track_caller]
    pub fn secret_file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.write(name, text.as_bytes());
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&file, private).expect("the file is ours");
        file
    }

    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = kinlog();
        command
            .arg("--home")
            .arg(self.path())
            .arg("--state")
            .arg(self.state())
            .args(arguments);
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Finished {
        run(&mut self.command(arguments), b"")
    }

    /// Runs a command to its end with something on stdin.
    #[track_caller]
    pub fn run_with<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Finished {
        run(&mut self.command(arguments), input)
    }

    /// Runs a command with `--json` that succeeds, and returns its objects.
    #[track_caller]
    pub fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Vec<Value> {
        let answers = run(self.command(arguments).arg("--json"), b"").ok().json();
        for answer in &answers {
            assert_eq!(answer["v"], 1, "{answer}");
        }
        answers
    }

    /// Runs a command with `--json` that succeeds with one object.
    #[track_caller]
    pub fn json_one<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let mut answers = self.json(arguments);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// Starts a command with `--json`.
    #[track_caller]
    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Running {
        Running::start(self.command(arguments).arg("--json"))
    }

    /// Starts `kinlog up` and waits until it is ready.
    #[track_caller]
    pub fn up(&self, signal: &Signal) -> Running {
        self.up_with(signal, &[])
    }

    /// The same with more arguments.
    #[track_caller]
    pub fn up_with(&self, signal: &Signal, more: &[&str]) -> Running {
        let mut arguments = vec!["up", "--signal", &signal.url];
        arguments.extend(more);
        let mut up = self.start(arguments);
        up.wait_json("word that it is ready", WAIT_MAX, |value| {
            (value["event"] == "ready").then_some(())
        });
        up
    }

    /// Appends lines and returns the link.
    #[track_caller]
    pub fn append(&self, path: &str, lines: &str) -> String {
        let appended = run(
            self.command(["feed", "append", path]).arg("--json"),
            lines.as_bytes(),
        )
        .ok()
        .json();
        appended[0]["link"]
            .as_str()
            .expect("an own public path has a link")
            .to_owned()
    }

    /// Imports a file and returns the link.
    #[track_caller]
    pub fn import(&self, path: &str, file: &Path) -> String {
        let file = file.to_str().expect("a path in UTF-8");
        let answers = self.json(["feed", "import", path, file]);
        let last = answers.last().expect("an answer");
        last["link"]
            .as_str()
            .expect("an own public path has a link")
            .to_owned()
    }

    /// Follows a link until all of it is stored.
    #[track_caller]
    pub fn follow(&self, link: &str, more: &[&str]) -> Value {
        let mut arguments = vec!["follow", link];
        arguments.extend(more);
        self.start(arguments)
            .wait_json("complete copy", MEETING, |value| {
                (value["complete"] == true).then(|| value.clone())
            })
    }

    /// Waits until a room shows `text`.
    #[track_caller]
    pub fn hear(&self, room: &str, text: &str) {
        self.start(["read", room, "--watch"])
            .wait_json("message", MEETING, |value| {
                (value["text"] == text).then_some(())
            });
    }

    pub fn status(&self) -> Value {
        self.json_one(["status"])
    }

    /// Returns the feed at a path as `status` shows it.
    #[track_caller]
    pub fn feed_at(&self, path: &str) -> Value {
        let status = self.status();
        let feeds = status["feeds"].as_array().expect("feeds").clone();
        feeds
            .iter()
            .find(|feed| feed["path"] == path)
            .unwrap_or_else(|| panic!("no {path} in {status:#}"))
            .clone()
    }

    /// Returns all files below the home.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    files.push(path)
                }
            }
        }
        files.sort();
        files
    }
}

/// A signal server of the test's own.
#[derive(Debug)]
pub struct Signal {
    pub running: Running,
    pub url: String,
}

impl Signal {
    #[track_caller]
    pub fn start() -> Signal {
        Signal::from(&mut kinlog(), &[])
    }

    /// Starts it from a command that may have a tracer in front.
    #[track_caller]
    pub fn from(command: &mut Command, flags: &[&str]) -> Signal {
        command
            .args(["signal", "serve", "--listen", "127.0.0.1:0"])
            .args(flags);
        let mut running = Running::start(command);
        let url = running.line().expect("the first line is the URL");
        assert!(url.starts_with("ws://127.0.0.1:"), "{url}");
        Signal { running, url }
    }
}

/// Asserts that every connection of a status is a WebRTC candidate pair.
#[track_caller]
pub fn assert_webrtc(status: &Value) {
    let sessions = status["sessions"].as_array().expect("sessions");
    assert!(!sessions.is_empty(), "no session in {status:#}");
    for session in sessions {
        assert_eq!(session["transport"], "webrtc", "{session}");
        for end in ["local", "remote"] {
            let address = session["ice"][end]
                .as_str()
                .unwrap_or_else(|| panic!("{session}"));
            address
                .parse::<std::net::SocketAddr>()
                .unwrap_or_else(|_| panic!("{address}"));
        }
    }
}

/// Returns `length` bytes in which no two blocks are alike, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64*: quick, and nothing here needs more.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
