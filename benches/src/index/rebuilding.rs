//! Everything from the feeds again, in a process of its own.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{FileDisk, Kind, Options, Role, Store};
use kinlog_indexer::index::{BlockSource, FeedContext, SourceError, StoreTrees};
use kinlog_indexer::seal::ContentKey;
use kinlog_indexer::{Index, RoomId};

use crate::append::random;
use crate::index::chat::Chat;
use crate::process::Process;
use crate::row::{Effort, Measured, Row};
use crate::scratch::Scratch;
use crate::world::{World, room_pair};

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) const REBUILD: Row = Row {
    name: "index_rebuild_s",
    unit: "s",
    definition: "1 M messages as of index_ingest (250,000 with --quick) in a store on disk, read, \
        unsealed and indexed anew in a process of its own, from the call to its return; links are \
        checked by the store's trees (less is better).",
    measure: |effort| measure(effort, |rebuilt| rebuilt.0),
    once: None,
};

pub(crate) const REBUILD_MEMORY: Row = Row {
    name: "index_rebuild_mib",
    unit: "MiB",
    definition: "the most memory that the process of index_rebuild_s had resident at once (VmHWM), \
        with its open store (less is better).",
    measure: |effort| measure(effort, |rebuilt| rebuilt.1),
    once: None,
};

fn measure(effort: &Effort, figure: fn((f64, f64)) -> f64) -> Result<Measured> {
    let filled = filled(effort.scaled(1_000_000))?;
    let rebuilt = || {
        let scratch = Scratch::new()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("rebuild").arg(filled.path());
        let mut process = Process::start(command.arg(scratch.path().join("index.db")))?;
        let told = process.json()?;
        let number = |name: &str| told[name].as_f64().context(name.to_owned());
        ensure!(number("blocks")? as u64 >= effort.scaled(1_000_000));
        Ok((number("seconds")?, number("resident")? / MIB))
    };
    Measured::alternate(effort, || rebuilt().map(figure), Vec::new(), None)
}

/// A store with the feeds of a talk, closed.
fn filled(count: u64) -> Result<Scratch> {
    let chat = Chat::make(count)?;
    let scratch = Scratch::new()?;
    let store = open(scratch.path())?;
    for member in 0..2 {
        let signer = room_pair(member);
        let manifest = Manifest::single(signer.public_key());
        let feed = store.create_feed(&manifest, Role::Own, Kind::Kinlog)?;
        for batch in chat.world.feeds[&manifest.key()].blocks.chunks(1_000) {
            feed.append_batch_relaxed(&signer, batch)?;
        }
    }
    store.sync()?;
    store.close()?;
    Ok(scratch)
}

fn open(folder: &Path) -> Result<Store> {
    let disk = Arc::new(FileDisk::new(folder)?);
    Ok(Store::open(disk, Options::new(random()?))?)
}

/// Indexes the store in a folder into a file, and says what that took.
pub(crate) fn rebuild(words: &[String]) -> Result<()> {
    let [folder, file] = words else {
        bail!("say which folder and which file");
    };
    let store = open(Path::new(folder))?;
    let world = Chat::quiet().world;
    let mut index = Index::open(Path::new(file))?;
    index.set_tree_hashes(Box::new(StoreTrees::of(store.clone())));
    let mut source = Held { store, world };
    let start = Instant::now();
    let report = index.rebuild(&mut source)?;
    let (seconds, blocks) = (start.elapsed().as_secs_f64(), report.blocks);
    ensure!(index.messages(&source.world.room, 50)?.len() == 50);
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let resident = 1024
        * kib
            .context("the kernel says VmHWM")?
            .trim()
            .parse::<u64>()?;
    println!(r#"{{"seconds":{seconds},"blocks":{blocks},"resident":{resident}}}"#);
    Ok(())
}

/// What the agent gives its index.
struct Held {
    store: Store,
    world: World,
}

impl BlockSource for Held {
    fn feeds(&mut self) -> Result<Vec<FeedContext>, SourceError> {
        self.world.feeds()
    }

    fn keys(&mut self) -> Result<Vec<(RoomId, ContentKey)>, SourceError> {
        self.world.keys()
    }

    fn held(&mut self, feed: &FeedKey) -> Result<Vec<Range<u64>>, SourceError> {
        let feed = self.store.feed(feed);
        let held = feed.map(|feed| feed.have().runs(0..feed.head().length).collect());
        Ok(held.unwrap_or_default())
    }

    fn block(&mut self, feed: &FeedKey, index: u64) -> Result<Option<Bytes>, SourceError> {
        match self.store.feed(feed) {
            Some(feed) => Ok(feed.get(index)?),
            None => Ok(None),
        }
    }
}
