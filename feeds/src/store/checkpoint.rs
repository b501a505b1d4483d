//! Checkpoints: what changed of the index is written out beside further commits.
//!
//! A checkpoint is a record like any other. When it is published, in the order of the log, what
//! changed is put aside; that is written afterwards, while appends go on.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::store::body::Body;
use crate::store::error::{Place, StoreError};
use crate::store::index::directory::Anchor;
use crate::store::index::file::FILE;
use crate::store::index::snapshot::Snapshot;
use crate::store::index::writer::{IndexWriter, Shrunk};
use crate::store::limits::CHECKPOINTS_BEHIND_MAX;
use crate::store::state::StoredRow;
use crate::store::store::{Feeds, Inner};

/// The numbers of feeds that changed since the last checkpoint, and who waits for the first.
#[derive(Debug, Default)]
pub(super) struct ChangedFeeds {
    numbers: Mutex<Changes>,
    /// Blocks and nodes whose places became known one by one.
    places: AtomicU64,
    /// Told of the first change, of a checkpoint that is due, and of the end.
    pub(super) wake: Condvar,
}

/// What happened since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) feeds: BTreeSet<u32>,
    /// Enough was written for the next checkpoint.
    pub(super) due: bool,
    /// The store is done with.
    pub(super) ended: bool,
}

impl ChangedFeeds {
    pub(super) fn add(&self, number: u32) {
        let mut changes = self.changes();
        let first = changes.feeds.is_empty();
        changes.feeds.insert(number);
        drop(changes);
        if first {
            self.wake.notify_all();
        }
    }

    /// Counts places that are kept in memory until they are written out.
    pub(super) fn add_places(&self, count: usize) {
        self.places.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn places(&self) -> u64 {
        self.places.load(Ordering::Relaxed)
    }

    pub(super) fn changes(&self) -> MutexGuard<'_, Changes> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> BTreeSet<u32> {
        let mut changes = self.changes();
        changes.due = false;
        self.places.store(0, Ordering::Relaxed);
        std::mem::take(&mut changes.feeds)
    }

    fn call_for_checkpoint(&self) {
        self.changes().due = true;
        self.wake.notify_all();
    }

    /// Ends the wait of whoever makes checkpoints.
    pub(super) fn end(&self) {
        self.changes().ended = true;
        self.wake.notify_all();
    }
}

/// The newest checkpoint, and what writes the next.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pub(super) last: Option<Anchor>,
    pub(super) writer: IndexWriter,
}

impl Feeds {
    /// Puts aside what changed since the checkpoint before.
    pub(super) fn freeze(&self, changed: &ChangedFeeds) -> Snapshot {
        let (mut feeds, mut gone) = (Vec::new(), Vec::new());
        for number in changed.take() {
            match self.by_number.get(&number) {
                Some(entry) => feeds.push(entry.freeze()),
                None => gone.push(number),
            }
        }
        Snapshot {
            feeds,
            gone,
            last_number: self.last_number(),
        }
    }

    /// Writes the places of changed feeds out of memory, for reading through only.
    pub(super) fn write_places(
        &self,
        changed: &ChangedFeeds,
        writer: &mut IndexWriter,
    ) -> Result<(), StoreError> {
        let snapshot = self.freeze(changed);
        let written = writer.write_places(&snapshot.feeds);
        // The directory does not have them yet.
        snapshot.not_written(changed);
        for (number, base) in written? {
            if let Some(entry) = self.by_number.get(&number) {
                entry.written(base);
            }
        }
        Ok(())
    }
}

impl Snapshot {
    /// Takes all of it into the next checkpoint.
    fn not_written(&self, changed: &ChangedFeeds) {
        self.feeds.iter().for_each(|feed| feed.entry.not_written());
        self.gone.iter().for_each(|number| changed.add(*number));
    }
}

impl Inner {
    /// Makes a checkpoint, or has one made, when enough log has been written since the last, or so much
    /// of it that came piece by piece that its places take as much memory.
    ///
    /// A refusal stops the writer, and is what the next write reports.
    pub(super) fn checkpoint_if_due(self: &Arc<Self>) {
        if !self.is_due(1) {
            return;
        }
        if self.options.keeper && !self.is_due(CHECKPOINTS_BEHIND_MAX) {
            self.changed.call_for_checkpoint();
        } else {
            self.checkpoint_when(|store| store.is_due(1));
        }
    }

    /// Makes a checkpoint if anything was written since the last.
    pub(super) fn checkpoint(self: &Arc<Self>) {
        self.checkpoint_when(|store| store.log.written_since_checkpoint() > 0);
    }

    /// Returns whether as much happened as calls for so many checkpoints.
    fn is_due(&self, checkpoints: u64) -> bool {
        let times = |one: u64| one.saturating_mul(checkpoints);
        self.log.written_since_checkpoint() >= times(self.options.checkpoint_bytes)
            || self.changed.places() >= times(self.options.checkpoint_places)
    }

    fn checkpoint_when(self: &Arc<Self>, due: impl Fn(&Inner) -> bool) {
        let mut checkpoints = match self.checkpoints.try_lock() {
            Ok(checkpoints) => checkpoints,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if self.is_due(CHECKPOINTS_BEHIND_MAX) => {
                self.checkpoints()
            }
            Err(TryLockError::WouldBlock) => return,
        };
        if !due(self) {
            return;
        }
        self.know_changed_feeds();
        let (commit, frozen) = self.checkpoint_commit(&checkpoints);
        let submitted = self.log.submit(vec![commit]);
        if submitted.and_then(|ticket| self.log.wait(&ticket)).is_err() {
            // The disk is full, the writer has stopped, or the store was closed: told elsewhere.
            return;
        }
        if let Err(error) = self.write_index(&mut checkpoints, &frozen) {
            self.log.stop(&error);
        }
    }

    /// Makes a checkpoint whatever was written, durable on return.
    pub(super) fn checkpoint_now(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut checkpoints = self.checkpoints();
        let (commit, frozen) = self.checkpoint_commit(&checkpoints);
        let before = checkpoints.last;
        let ticket = self.log.submit(vec![commit])?;
        self.log.wait(&ticket)?;
        self.write_index(&mut checkpoints, &frozen)?;
        match checkpoints.last == before {
            // That is what it means when the index could not be written and the log goes on.
            true => Err(StoreError::io(
                "write_at",
                FILE,
                io::Error::from(io::ErrorKind::StorageFull),
            )),
            false => Ok(()),
        }
    }

    /// Makes the last checkpoint of a log that takes no more records.
    pub(super) fn last_checkpoint(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut checkpoints = self.checkpoints();
        let unchanged = self.changed.changes().feeds.is_empty();
        if unchanged && checkpoints.last.is_some() && checkpoints.writer.is_named() {
            return Ok(());
        }
        self.know_changed_feeds();
        let (commit, frozen) = self.checkpoint_commit(&checkpoints);
        self.log.write_now(&mut self.log.tail(), commit)?;
        self.write_index(&mut checkpoints, &frozen)
    }

    pub(super) fn checkpoints(&self) -> MutexGuard<'_, Checkpoints> {
        self.checkpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries again to read the tables of changed feeds where that was refused.
    fn know_changed_feeds(&self) {
        let changed: Vec<u32> = self.changed.changes().feeds.iter().copied().collect();
        for number in changed {
            let entry = self.feeds().by_number.get(&number).cloned();
            // Without them the checkpoint will not be complete.
            let _ = entry.map(|entry| entry.ensure_known());
        }
    }

    /// Returns the record of a checkpoint, and where its place and what it puts aside will be.
    fn checkpoint_commit(
        self: &Arc<Self>,
        checkpoints: &Checkpoints,
    ) -> (crate::store::log::Commit, Arc<Mutex<Option<Frozen>>>) {
        let first = Anchor {
            place: Place {
                segment: 0,
                offset: 0,
            },
            sequence: 0,
        };
        let last = checkpoints.last.unwrap_or(first);
        let body = Body::Checkpoint {
            segment: last.place.segment,
            offset: last.place.offset,
            sequence: last.sequence,
        };
        let frozen = Arc::new(Mutex::new(None));
        let (inner, result) = (self.clone(), frozen.clone());
        let publish = Box::new(move |place| {
            let snapshot = inner.feeds().freeze(&inner.changed);
            inner.log.checkpoint_published();
            let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
            *result = Some(Frozen { place, snapshot });
        });
        (self.commit(&body, 0, publish), frozen)
    }

    fn write_index(
        &self,
        checkpoints: &mut Checkpoints,
        frozen: &Mutex<Option<Frozen>>,
    ) -> Result<(), StoreError> {
        let frozen = frozen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Frozen { place, snapshot } =
            frozen.expect("the record of the checkpoint was published");
        let written = match self.heads.read(place) {
            Ok(head) => {
                let anchor = (place, head.header.sequence);
                self.write_snapshot(checkpoints, anchor, &snapshot)
            }
            // A refused read is no reason to stop writing: the next checkpoint has another record.
            Err(_) => {
                snapshot.not_written(&self.changed);
                return Ok(());
            }
        };
        if written.is_err() {
            snapshot.not_written(&self.changed);
        }
        match written {
            // The log takes what it can; the index waits until there is room again.
            Err(error) if is_want_of_room(&error) => Ok(()),
            written => written,
        }
    }

    fn write_snapshot(
        &self,
        checkpoints: &mut Checkpoints,
        (place, sequence): (Place, u64),
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        if let Some(shrunk) = checkpoints.writer.shrink_if_due()? {
            self.read_through(shrunk)?;
        }
        let anchor = Anchor { place, sequence };
        let mut segments = self.segments.known().clone();
        segments.retain(|number, _| *number <= place.segment);
        if let Some(last) = segments.get_mut(&place.segment) {
            last.bytes = u64::from(place.offset);
        }
        let (bases, complete) = checkpoints.writer.write(snapshot, anchor, segments)?;
        let mut feeds = snapshot.feeds.iter();
        for (number, base) in bases {
            // Those that could not be written are missing among the bases.
            if let Some(feed) = feeds.find(|feed| feed.row.number == number) {
                feed.entry.written(base);
            }
        }
        match complete {
            true => checkpoints.last = Some(anchor),
            false => snapshot.not_written(&self.changed),
        }
        Ok(())
    }

    /// Reads all feeds through a copy of the index from here on.
    fn read_through(&self, shrunk: Shrunk) -> Result<(), StoreError> {
        for (number, row) in shrunk.rows {
            let entry = self.feeds().by_number.get(&number).cloned();
            if let Some(entry) = entry {
                let file = shrunk.file.clone();
                entry.moved(StoredRow { row, file })?;
            }
        }
        Ok(())
    }
}

/// What a published checkpoint record put aside.
struct Frozen {
    place: Place,
    snapshot: Snapshot,
}

/// Returns whether the index could not be written for want of room, and nothing else went wrong.
///
/// A sync that says so is a refused sync: what it was to make durable is uncertain.
pub(super) fn is_want_of_room(error: &StoreError) -> bool {
    match error {
        StoreError::Io {
            operation, source, ..
        } => {
            matches!(*operation, "open" | "set_len" | "write_at")
                && matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
        }
        _ => false,
    }
}
