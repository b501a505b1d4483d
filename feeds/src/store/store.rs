//! The store as a whole: its feeds, creating them, checkpoints, closing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::crypto::{DiscoveryKey, FeedKey};
use crate::manifest::{Manifest, Verifier};
use crate::store::body::Body;
use crate::store::checkpoint::{ChangedFeeds, Checkpoints};
use crate::store::disk::{Disk, DiskLock};
use crate::store::error::{CreateError, OpenError, StoreError};
use crate::store::feed::Feed;
use crate::store::heads::Heads;
use crate::store::keeper;
use crate::store::limits::FEEDS_MAX;
use crate::store::log::{Commit, Log, Publish};
use crate::store::open::{self, OpenReport};
use crate::store::options::Options;
use crate::store::read_only::ReadOnlyDisk;
use crate::store::record::Checker;
use crate::store::relaxed::Syncer;
use crate::store::segment::Segments;
use crate::store::state::{FeedEntry, Kind, KnownManifest, Role};

/// All feeds of an agent on one disk; clones are the same store.
///
/// One store at a time uses a disk. Dropping the last handle frees the disk without a clean stop;
/// [`close`](Self::close) makes the next opening short.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) options: Options,
    pub(super) checker: Checker,
    pub(super) segments: Arc<Segments>,
    pub(super) heads: Heads,
    pub(super) log: Arc<Log>,
    pub(super) syncer: Syncer,
    pub(super) feeds: RwLock<Feeds>,
    pub(super) report: OpenReport,
    /// Held while a feed is created, so that one key gets one number.
    creating: Mutex<()>,
    /// What changed since the last checkpoint.
    pub(super) changed: Arc<ChangedFeeds>,
    pub(super) checkpoints: Mutex<Checkpoints>,
    /// Held while segments are emptied: one at a time.
    pub(super) compacting: Mutex<()>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn DiskLock>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.changed.end();
    }
}

/// The feeds by their names.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    pub(super) by_number: HashMap<u32, Arc<FeedEntry>>,
    by_key: HashMap<FeedKey, Arc<FeedEntry>>,
    by_discovery: HashMap<DiscoveryKey, Arc<FeedEntry>>,
    last_number: u32,
}

/// What a store takes on its disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoreStat {
    /// Feeds.
    pub feeds: usize,
    /// Blocks held, of all feeds.
    pub blocks: u64,
    /// Bytes of the blocks held.
    pub block_bytes: u64,
    /// Segments of the log.
    pub segments: u32,
    /// Bytes of log written, zeros ahead of them apart.
    pub log_bytes: u64,
    /// Bytes of log that compaction could give back, about.
    pub dead_bytes: u64,
    /// Bytes of the index, with what is pointed to no more.
    pub index_bytes: u64,
    /// Bytes of pages and tables of the index that are in memory.
    pub index_cached_bytes: usize,
    /// Bytes the disk can still take.
    pub free_bytes: u64,
}

impl Feeds {
    pub(super) fn insert(&mut self, entry: Arc<FeedEntry>) {
        self.last_number = self.last_number.max(entry.number);
        self.by_key.insert(entry.key, entry.clone());
        self.by_discovery.insert(entry.discovery_key, entry.clone());
        self.by_number.insert(entry.number, entry);
    }

    pub(super) fn remove(&mut self, number: u32) {
        if let Some(entry) = self.by_number.remove(&number) {
            self.by_key.remove(&entry.key);
            self.by_discovery.remove(&entry.discovery_key);
        }
    }

    /// Keeps numbers up to `number` from being given again.
    pub(super) fn reserve(&mut self, number: u32) {
        self.last_number = self.last_number.max(number);
    }

    pub(super) fn last_number(&self) -> u32 {
        self.last_number
    }
}

impl Store {
    /// Opens the store on `disk`, creating it when there is none, and takes the disk for itself.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] names the process that has it open; damage in what was durable is a
    /// typed error with its place. What a crash cut off is no error but told by
    /// [`open_report`](Self::open_report).
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Store, OpenError> {
        let disk = match options.read_only {
            true => Arc::new(ReadOnlyDisk::new(disk)),
            false => disk,
        };
        let opened = open::open(disk, &options)?;
        if options.read_only {
            opened.log.refuse_writes(StoreError::ReadOnly);
        }
        let log = Arc::new(opened.log);
        let inner = Inner {
            options,
            checker: opened.checker,
            segments: opened.segments,
            heads: opened.heads,
            syncer: Syncer::new(log.clone()),
            log,
            feeds: RwLock::new(opened.feeds),
            report: opened.report,
            creating: Mutex::default(),
            changed: opened.changed,
            checkpoints: Mutex::new(opened.checkpoints),
            compacting: Mutex::default(),
            keeper: Mutex::default(),
            lock: Mutex::new(Some(opened.lock)),
        };
        let inner = Arc::new(inner);
        if inner.options.keeper && !inner.options.read_only {
            let keeper = keeper::start(&inner);
            *inner.keeper.lock().unwrap_or_else(PoisonError::into_inner) = keeper;
        }
        Ok(Store { inner })
    }

    /// Returns the random id the store was created with.
    pub fn id(&self) -> [u8; 16] {
        *self.inner.checker.store_id()
    }

    /// Returns the sequence of the newest durable record, which never goes back: a smaller one than
    /// before is an older copy of the store.
    pub fn synced_sequence(&self) -> u64 {
        self.inner.log.synced()
    }

    /// Returns what opening found.
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// Adds the feed of `manifest`; returns the one that is there if its key is known.
    ///
    /// A feed that was known by its key only gets its manifest.
    pub fn create_feed(
        &self,
        manifest: &Manifest,
        role: Role,
        kind: Kind,
    ) -> Result<Feed, CreateError> {
        self.create(manifest.key(), Some(manifest.clone()), role, kind)
    }

    /// Adds the Hypercore-10 or other feed `key` with a manifest whose key may be the signer's.
    pub fn create_with_key(
        &self,
        key: FeedKey,
        manifest: &Manifest,
        role: Role,
        kind: Kind,
    ) -> Result<Feed, CreateError> {
        self.create(key, Some(manifest.clone()), role, kind)
    }

    /// Adds a feed of which only the key is known; the manifest comes with a verified upgrade.
    pub fn create_unknown(
        &self,
        key: FeedKey,
        role: Role,
        kind: Kind,
    ) -> Result<Feed, CreateError> {
        self.create(key, None, role, kind)
    }

    /// Takes a feed out of the store, durably; its key may be added again, empty.
    pub fn drop_feed(&self, key: &FeedKey) -> Result<bool, StoreError> {
        let _creating = self
            .inner
            .creating
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(feed) = self.feed(key) else {
            return Ok(false);
        };
        let inner = self.inner.clone();
        let number = feed.entry.number;
        let publish = Box::new(move |_| {
            inner.feeds_mut(|feeds| feeds.remove(number));
            inner.changed.add(number);
        });
        let commit = self.inner.commit(&Body::Dropped, number, publish);
        // The feed's own writer waits, so that nothing of it stands behind the record.
        let mut writer = feed.entry.writer();
        writer.settle(&self.inner.log)?;
        let footprint = feed.entry.footprint(&self.inner.heads)?;
        let ticket = self.inner.log.submit(vec![commit])?;
        self.inner.log.wait(&ticket)?;
        writer.dropped = true;
        for (segment, bytes) in footprint {
            self.inner.segments.add_dead(segment, bytes);
        }
        Ok(true)
    }

    /// Returns a feed by its key.
    pub fn feed(&self, key: &FeedKey) -> Option<Feed> {
        self.feeds_now()
            .by_key
            .get(key)
            .map(|entry| self.handle(entry))
    }

    /// Returns a feed by its discovery key.
    pub fn feed_by_discovery(&self, discovery_key: &DiscoveryKey) -> Option<Feed> {
        self.feeds_now()
            .by_discovery
            .get(discovery_key)
            .map(|entry| self.handle(entry))
    }

    /// Returns all feeds, in the order in which they were added.
    pub fn feeds(&self) -> Vec<Feed> {
        self.inner
            .entries()
            .iter()
            .map(|entry| self.handle(entry))
            .collect()
    }

    /// Returns what the store takes on its disk.
    pub fn stat(&self) -> Result<StoreStat, StoreError> {
        let (mut blocks, mut block_bytes) = (0, 0);
        let entries = self.inner.entries();
        for entry in &entries {
            let (held, bytes) = entry.held();
            blocks += held;
            block_bytes += bytes;
        }
        let disk = self.inner.heads.segments().disk();
        let free_bytes = disk
            .free_space()
            .map_err(|error| StoreError::io("free_space", "folder", error))?;
        let (newest, newest_bytes) = self.inner.log.newest_segment();
        let known = self.inner.segments.known();
        let sealed = known.range(..newest).map(|(_, info)| info.bytes);
        let log_bytes = sealed.sum::<u64>() + newest_bytes;
        let dead_bytes = known.values().map(|info| info.dead_bytes).sum();
        let segments = known.len() as u32;
        drop(known);
        let checkpoints = self.inner.checkpoints();
        let index_bytes = checkpoints.writer.bytes();
        let index_cached_bytes = checkpoints.writer.cached_bytes();
        drop(checkpoints);
        let feeds = entries.len();
        Ok(StoreStat {
            feeds,
            blocks,
            block_bytes,
            segments,
            log_bytes,
            dead_bytes,
            index_bytes,
            index_cached_bytes,
            free_bytes,
        })
    }

    /// Writes what is queued and the index, then frees the disk; everything afterwards is an error.
    ///
    /// Like [`sync`](Self::sync) it says what befell blocks appended without waiting.
    pub fn close(&self) -> Result<(), StoreError> {
        let index = match self.inner.log.stopped() {
            Some(StoreError::Closed) => return Ok(()),
            Some(StoreError::ReadOnly) => Ok(()),
            _ => {
                self.inner.end_keeper();
                let written = self.inner.log.close();
                self.inner.syncer.stop();
                written.and_then(|()| self.inner.last_checkpoint())
            }
        };
        *self
            .inner
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        index.and(self.inner.syncer.loss())
    }

    fn create(
        &self,
        key: FeedKey,
        manifest: Option<Manifest>,
        role: Role,
        kind: Kind,
    ) -> Result<Feed, CreateError> {
        let known = match manifest {
            None => None,
            Some(manifest) => {
                let verifier =
                    Verifier::new(key, &manifest).map_err(|error| CreateError::Manifest {
                        feed: key,
                        reason: error.to_string(),
                    })?;
                Some(KnownManifest { manifest, verifier })
            }
        };
        let _creating = self
            .inner
            .creating
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = self.feed(&key) {
            if let Some(known) = known.filter(|_| feed.manifest().is_none()) {
                feed.learn_manifest(known)?;
            }
            return Ok(feed);
        }
        let last = self.feeds_now().last_number;
        if last >= FEEDS_MAX {
            return Err(CreateError::TooManyFeeds { limit: FEEDS_MAX });
        }
        let number = last + 1;
        let encoded = known
            .as_ref()
            .map(|known| Bytes::from(known.manifest.encode()));
        let body = Body::Feed {
            key,
            role: role.code(),
            kind: kind.code(),
            manifest: encoded,
        };
        let inner = self.inner.clone();
        let publish = Box::new(move |place| {
            let changed = inner.changed.clone();
            let entry = FeedEntry::new(number, key, role, kind, known, place, changed);
            inner.feeds_mut(|feeds| feeds.insert(Arc::new(entry)));
        });
        let commit = self.inner.commit(&body, number, publish);
        let ticket = self.inner.log.submit(vec![commit])?;
        self.inner.log.wait(&ticket)?;
        Ok(self
            .feed(&key)
            .expect("the record that adds the feed was published"))
    }

    fn handle(&self, entry: &Arc<FeedEntry>) -> Feed {
        Feed {
            inner: self.inner.clone(),
            entry: entry.clone(),
        }
    }

    fn feeds_now(&self) -> RwLockReadGuard<'_, Feeds> {
        self.inner
            .feeds
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Waits until the keeper has made the checkpoint that it may be making, and ends it.
    fn end_keeper(&self) {
        self.changed.end();
        let keeper = &self.keeper;
        let keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A keeper that panicked made no checkpoint: closing does.
        let _ = keeper.map(JoinHandle::join);
    }

    /// Returns all feeds by number.
    pub(super) fn entries(&self) -> Vec<Arc<FeedEntry>> {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries: Vec<_> = feeds.by_number.values().cloned().collect();
        entries.sort_unstable_by_key(|entry| entry.number);
        entries
    }

    /// Returns the feeds, locked for reading.
    pub(super) fn feeds(&self) -> RwLockReadGuard<'_, Feeds> {
        self.feeds.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn feeds_mut(&self, change: impl FnOnce(&mut Feeds)) {
        change(&mut self.feeds.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Puts a record without payload into the form that the log takes.
    pub(super) fn commit(&self, body: &Body, feed: u32, publish: Publish) -> Commit {
        let mut bytes = self.log.buffer();
        body.write_head_part(&mut bytes, 0);
        let head_bytes = bytes.len() as u32;
        Commit {
            kind: body.kind(),
            feed,
            bytes,
            head_bytes,
            blocks: Vec::new(),
            publish,
        }
    }

    /// Returns a reader of head parts that has read none yet.
    pub(super) fn fresh_heads(&self) -> Heads {
        let options = &self.options;
        let cache_bytes = options.head_cache_bytes;
        Heads::new(
            self.segments.clone(),
            self.checker.clone(),
            cache_bytes,
            options.verifies(),
        )
    }
}
