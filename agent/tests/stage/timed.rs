//! Homes whose clock a test moves, and what is found in their files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kinlog_agent::api::{Reply, Request};
use kinlog_agent::{Agent, OpenOptions};
use kinlog_feeds::store::{FileDisk, Options, Store};

use super::{Cast, Folder, Signal};

/// Blocks that the store of a home lacks, by feed; everything that it holds verifies.
pub(crate) fn lacking(home: &Path) -> Vec<(String, Vec<u64>)> {
    let disk = FileDisk::new(home.join("store")).unwrap();
    let store = Store::open(Arc::new(disk), Options::new([7; 16])).unwrap();
    let mut lacking = Vec::new();
    for feed in store.feeds() {
        assert!(feed.verify().unwrap().problems.is_empty());
        let length = feed.head().length;
        let gone: Vec<u64> = (0..length).filter(|index| !feed.has(*index)).collect();
        if !gone.is_empty() {
            lacking.push((feed.key().to_string(), gone));
        }
    }
    store.close().unwrap();
    lacking
}

/// Whether a text, or a block, stands in any file of a home.
pub(crate) fn shows(folder: &Path, text: impl AsRef<[u8]>) -> bool {
    let text = text.as_ref();
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().path()).any(|file| {
        if file.is_dir() {
            return shows(&file, text);
        }
        // A socket is no file.
        let bytes = std::fs::read(file).unwrap_or_default();
        let mut windows = bytes.windows(text.len());
        windows.any(|window| window == text)
    })
}

/// Somebody whose clock a test moves.
pub(crate) struct Timed {
    pub(crate) cast: Cast,
    ahead_ms: &'static AtomicU64,
}

impl Timed {
    pub(crate) async fn new(folder: &Folder, name: &'static str) -> Timed {
        let ahead_ms: &'static AtomicU64 = Box::leak(Box::default());
        let options = options(folder.state(), ahead_ms);
        let cast = Cast::with_options(folder, name, options).await;
        Timed { cast, ahead_ms }
    }

    pub(crate) async fn online(folder: &Folder, name: &'static str, signal: &Signal) -> Timed {
        let one = Timed::new(folder, name).await;
        one.cast.go_online(signal).await;
        one
    }

    pub(crate) fn wait(&self, minutes: u64) {
        self.ahead_ms.fetch_add(minutes * 60_000, Ordering::Relaxed);
    }

    /// Stops, and begins again with nothing but its files.
    pub(crate) async fn reopen(self) -> Timed {
        let Timed { cast, ahead_ms } = self;
        cast.agent.shutdown().await.unwrap();
        let options = options(cast.state.clone(), ahead_ms);
        let agent = Agent::open(&cast.home, options).await.unwrap();
        let cast = Cast { agent, ..cast };
        Timed { cast, ahead_ms }
    }

    /// What `why` says of something, from one source.
    pub(crate) async fn why(&self, thing: &str, room: Option<&str>, from: &str) -> String {
        let request = Request::Why {
            thing: thing.to_owned(),
            room: room.map(ToOwned::to_owned),
        };
        let Reply::Why { reasons, .. } = self.cast.reply(request).await.unwrap() else {
            panic!("no reasons");
        };
        let reasons = reasons.into_iter().filter(|one| one.from == from);
        reasons.map(|one| one.text).collect()
    }
}

fn options(state: impl Into<std::path::PathBuf>, ahead_ms: &'static AtomicU64) -> OpenOptions {
    let mut options = OpenOptions::new(state);
    options.clock_ahead_ms = Some(ahead_ms);
    options
}
