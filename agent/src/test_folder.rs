//! A folder of its own for each test, removed when the test ends.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::Core;
use crate::home::{Phrase, init};
use crate::pins::Switches;
use crate::{Agent, OpenOptions};

static NEXT: AtomicU64 = AtomicU64::new(0);

pub(crate) struct TestFolder {
    path: PathBuf,
}

impl TestFolder {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kinlog-agent-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("temporary folder");
        TestFolder { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the home of an agent, in a folder of its name.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        let home = self.path.join(name);
        let phrase = Phrase::generate().expect("randomness");
        init(&home, &self.state(), name, &phrase).expect("home");
        home
    }

    /// Makes the home of an agent, and opens it without tasks: nothing happens that the test does not do.
    pub(crate) fn core(&self, name: &str) -> Core {
        let home = self.home(name);
        let opened = Core::open(&home, &self.state(), Switches::default());
        opened.expect("open home").0
    }

    /// Makes the home of an agent, and starts it.
    pub(crate) async fn agent(&self, name: &str) -> Agent {
        let home = self.home(name);
        let opened = Agent::open(&home, OpenOptions::new(self.state())).await;
        opened.expect("open home")
    }

    /// Where the twins of all homes of the test are kept.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
