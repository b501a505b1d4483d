//! JavaScript Hypercore as a far end: a script of `far-ends/npm`, and where its feeds lie.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kinlog_feeds::text;
use serde_json::{Value, json};

use crate::process::{Folder, Running};

/// A whole transfer of a test, on a machine that does much else.
pub const TRANSFER: Duration = Duration::from_secs(120);

/// A peer; what it stores goes with it.
#[derive(Debug)]
pub struct Npm {
    /// The process.
    pub running: Running,
    /// How long it may take to say something.
    wait: Duration,
    _feeds: Folder,
}

impl Npm {
    /// Starts a script with these arguments.
    ///
    /// # Panics
    /// When the packages are not installed, or the process does not start.
    #[track_caller]
    pub fn start(script: &str, arguments: &[&str], wait: Duration) -> Npm {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../far-ends/npm");
        assert!(
            folder.join("node_modules/hypercore11").is_dir(),
            "npm hypercore is not installed: run `npm ci` in far-ends/npm, or `cargo xtask test`"
        );
        let feeds = Folder::new("npm");
        let mut command = Command::new("node");
        command.arg(script).args(arguments).current_dir(folder);
        command.arg("--folder").arg(feeds.join("feeds"));
        Npm {
            running: Running::start(&mut command),
            wait,
            _feeds: feeds,
        }
    }

    /// Returns the next thing it says that is no report of a closed stream.
    #[track_caller]
    pub fn hear(&mut self) -> Value {
        let wait = self.wait;
        self.running
            .wait_json("word of the npm peer", wait, |value| {
                assert!(value["error"].is_null(), "{value}");
                value["event"].is_null().then(|| value.clone())
            })
    }
}

/// JavaScript Hypercores, as `driver.js` runs them.
#[derive(Debug)]
pub struct Driver(Npm);

impl Driver {
    /// Starts it with Hypercore `"11"` or `"10"`.
    #[track_caller]
    pub fn start(hypercore: &str) -> Driver {
        Driver(Npm::start(
            "driver.js",
            &["--hypercore", hypercore],
            TRANSFER,
        ))
    }

    /// Says a command and does not wait.
    pub fn say(&mut self, command: &Value) {
        self.0.running.write(format!("{command}\n").as_bytes());
    }

    /// Returns the answer to the oldest command that was not answered.
    #[track_caller]
    pub fn hear(&mut self) -> Value {
        self.0.hear()
    }

    /// Says a command and returns the answer.
    #[track_caller]
    pub fn ask(&mut self, command: &Value) -> Value {
        self.say(command);
        self.hear()
    }

    /// Makes a feed of `count` blocks, and returns its key.
    #[track_caller]
    pub fn make(&mut self, name: &str, seed: u32, count: u32) -> String {
        let made = self.ask(&json!({"do": "make", "name": name}));
        self.append(name, seed, count);
        made["key"].as_str().expect("feeds have keys").to_owned()
    }

    /// Appends lines of text.
    #[track_caller]
    pub fn append(&mut self, name: &str, seed: u32, count: u32) {
        self.ask(
            &json!({"do": "append", "name": name, "seed": seed, "count": count, "kind": "text"}),
        );
    }

    /// Listens, and returns the address.
    #[track_caller]
    pub fn listen(&mut self, names: &[&str]) -> String {
        let heard = self.ask(&json!({"do": "listen", "names": names}));
        format!("127.0.0.1:{}", heard["port"])
    }

    /// Replicates all of them on one stream.
    #[track_caller]
    pub fn connect(&mut self, names: &[&str], address: &str) {
        let port = address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let port: u16 = port.expect("the address ends in a port");
        self.ask(&json!({"do": "connect", "names": names, "port": port}));
    }

    /// Opens somebody else's feed.
    #[track_caller]
    pub fn open(&mut self, name: &str, key: &str) {
        let key = text::decode_key(key).expect("keys are base 32 or 16");
        let key = text::encode_hex(&key);
        self.ask(&json!({"do": "open", "name": name, "key": key}));
    }

    /// Begins or ends reading a feed, as opening and closing its last session does.
    #[track_caller]
    pub fn set_active(&mut self, name: &str, active: bool) {
        self.ask(&json!({"do": "active", "name": name, "active": active}));
    }

    /// Waits until so many peers' channels of a feed are open.
    #[track_caller]
    pub fn wait_peers(&mut self, name: &str, count: u32) {
        self.ask(&json!({"do": "peers", "name": name, "count": count}));
    }
}
