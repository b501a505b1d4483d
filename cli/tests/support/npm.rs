//! JavaScript Hypercore as a far end: a script of `far-ends/npm`, and where its feeds lie.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::process::{Folder, Running};

/// A peer; what it stores goes with it.
pub struct Npm {
    pub running: Running,
    /// How long it may take to say something.
    wait: Duration,
    _feeds: Folder,
}

impl Npm {
    /// Starts a script with these arguments.
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
