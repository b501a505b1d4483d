//! The log's writing end: group commit, growth, segments, fail-stop.
//!
//! Whoever waits for a commit either leads or follows. The leader takes everything submitted,
//! writes it with one write, makes it durable with one sync, publishes it, and wakes the others;
//! meanwhile the next group gathers. After the first refused write or sync nothing is written and
//! nothing published until the store is opened again.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::store::disk::DiskFile;
use crate::store::error::{Place, StoreError};
use crate::store::limits::{COMMIT_BYTES, SEGMENTS_MAX};
use crate::store::record::{CHECK_BYTES, Checker, HEADER_BYTES, Header, RECORD_VERSION};
use crate::store::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, Segments, file_name};

/// Buffers kept for the next commits; two callers in flight need no more.
const SPARE_BUFFERS_MAX: usize = 4;

/// Largest buffer kept, 2 MiB: a batch of 16 blocks of 64 KiB fits.
const SPARE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Makes a durable record visible; gets its place.
pub(super) type Publish = Box<dyn FnOnce(Place) + Send>;

/// A record on its way to the disk.
pub(super) struct Commit {
    pub(super) kind: u8,
    pub(super) feed: u32,
    /// Head part, then payload part.
    pub(super) bytes: Vec<u8>,
    pub(super) head_bytes: u32,
    pub(super) publish: Publish,
}

/// Stands for everything submitted up to it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Ticket(u64);

/// The log's writing end.
pub(super) struct Log {
    segments: Arc<Segments>,
    checker: Checker,
    segment_bytes: u64,
    grow_bytes: u64,
    queue: Mutex<Queue>,
    wake: Condvar,
    tail: Mutex<Tail>,
    /// [`Tail::since_checkpoint`] as of the last group, readable while a group is written.
    since_checkpoint: AtomicU64,
    spare: Mutex<Vec<Vec<u8>>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Commit>,
    submitted: Ticket,
    durable: Ticket,
    leading: bool,
    closing: bool,
    stopped: Option<StoreError>,
}

/// Where the next record goes. Held by the leader, or by a checkpoint.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) file: Arc<dyn DiskFile>,
    /// Place of the next record.
    pub(super) place: Place,
    /// Size of the file; zeros from the place on.
    pub(super) size: u64,
    /// Sequence of the next record.
    pub(super) sequence: u64,
    /// Newest durable record.
    pub(super) synced: u64,
    /// Bytes of the segments before.
    pub(super) sealed_bytes: u64,
    /// Bytes written since the index was written out.
    pub(super) since_checkpoint: u64,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    pub(super) fn new(
        segments: Arc<Segments>,
        checker: Checker,
        segment_bytes: u64,
        grow_bytes: u64,
        tail: Tail,
    ) -> Self {
        Log {
            segments,
            checker,
            segment_bytes,
            grow_bytes: grow_bytes.max(1),
            queue: Mutex::default(),
            wake: Condvar::new(),
            since_checkpoint: AtomicU64::new(tail.since_checkpoint),
            tail: Mutex::new(tail),
            spare: Mutex::default(),
        }
    }

    /// Queues records, to be written in this order and after all queued before.
    pub(super) fn submit(&self, commits: Vec<Commit>) -> Result<Ticket, StoreError> {
        let mut queue = self.queue();
        if let Some(stopped) = &queue.stopped {
            return Err(stopped.clone());
        }
        if queue.closing {
            return Err(StoreError::Closed);
        }
        queue.submitted.0 += commits.len() as u64;
        queue.waiting.extend(commits);
        Ok(queue.submitted)
    }

    /// Returns once everything up to `ticket` is durable and published.
    pub(super) fn wait(&self, ticket: Ticket) -> Result<(), StoreError> {
        let mut queue = self.queue();
        loop {
            if queue.durable >= ticket {
                return Ok(());
            }
            if let Some(stopped) = &queue.stopped {
                return Err(stopped.clone());
            }
            if queue.leading {
                queue = self
                    .wake
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            } else {
                queue = self.lead(queue);
            }
        }
    }

    /// Takes no further records; those queued before are written first.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        let mut queue = self.queue();
        if let Some(stopped) = &queue.stopped {
            return Err(stopped.clone());
        }
        queue.closing = true;
        let ticket = queue.submitted;
        drop(queue);
        self.wait(ticket)?;
        let mut queue = self.queue();
        match queue.stopped.get_or_insert(StoreError::Closed) {
            StoreError::Closed => Ok(()),
            other => Err(other.clone()),
        }
    }

    /// Returns why nothing is written any more, if so.
    pub(super) fn stopped(&self) -> Option<StoreError> {
        self.queue().stopped.clone()
    }

    /// Stops the writer because of a refused operation outside a commit.
    pub(super) fn stop(&self, error: &StoreError) {
        let first = match error {
            StoreError::Io { source, .. } => source.clone(),
            other => Arc::new(io::Error::other(other.to_string())),
        };
        self.queue()
            .stopped
            .get_or_insert(StoreError::WriterStopped { first });
        self.wake.notify_all();
    }

    /// Returns the tail between two groups.
    pub(super) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the sequence of the newest durable record; waits for a write that runs.
    pub(super) fn synced(&self) -> u64 {
        self.tail().synced
    }

    /// Returns the number of segments and the bytes of log written.
    pub(super) fn size(&self) -> (u32, u64) {
        let tail = self.tail();
        (
            tail.place.segment + 1,
            tail.sealed_bytes + u64::from(tail.place.offset),
        )
    }

    /// Returns the bytes of log written since the index was written out.
    pub(super) fn written_since_checkpoint(&self) -> u64 {
        self.since_checkpoint.load(Ordering::Relaxed)
    }

    /// Counts from here: the index was written out at this tail.
    pub(super) fn index_written(&self, tail: &mut Tail) {
        tail.since_checkpoint = 0;
        self.since_checkpoint.store(0, Ordering::Relaxed);
    }

    /// Writes a record at the tail, which the caller holds, and makes it durable; returns its place.
    pub(super) fn write_now(&self, tail: &mut Tail, commit: Commit) -> Result<Place, StoreError> {
        let result = self.write(tail, vec![commit]);
        if let Err(error) = &result {
            self.stop(error);
        }
        result
    }

    /// Returns an empty buffer, a used one if there is.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lead<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        queue.leading = true;
        let commits = std::mem::take(&mut queue.waiting);
        let covered = queue.submitted;
        drop(queue);

        let mut stand_down = StandDown {
            log: self,
            covered: None,
        };
        match self.write(&mut self.tail(), commits) {
            Ok(_) => stand_down.covered = Some(covered),
            Err(error) => self.stop(&error),
        }
        drop(stand_down);
        self.queue()
    }

    fn write(&self, tail: &mut Tail, commits: Vec<Commit>) -> Result<Place, StoreError> {
        let mut published = Vec::with_capacity(commits.len());
        let mut out = Vec::new();
        let mut from = tail.place;
        let last = commits.len().saturating_sub(1);
        for (number, mut commit) in commits.into_iter().enumerate() {
            if u64::from(tail.place.offset) >= self.segment_bytes {
                self.flush(tail, from, &mut out)?;
                self.sync(tail)?;
                self.roll(tail)?;
                from = tail.place;
            }
            self.number(tail, &mut commit);
            published.push((commit.publish, tail.place));
            tail.place.offset += commit.bytes.len() as u32;
            tail.since_checkpoint += commit.bytes.len() as u64;
            tail.sequence += 1;
            if number == last && out.is_empty() {
                out = commit.bytes;
            } else {
                out.extend_from_slice(&commit.bytes);
                self.keep(commit.bytes);
            }
            if out.len() >= COMMIT_BYTES {
                self.flush(tail, from, &mut out)?;
                from = tail.place;
            }
        }
        self.flush(tail, from, &mut out)?;
        self.keep(out);
        self.sync(tail)?;
        self.since_checkpoint
            .store(tail.since_checkpoint, Ordering::Relaxed);
        let last = published.last().map_or(tail.place, |(_, place)| *place);
        for (publish, place) in published {
            publish(place);
        }
        Ok(last)
    }

    /// Fills in what only the writer knows: sequence, place and check.
    fn number(&self, tail: &Tail, commit: &mut Commit) {
        let head_bytes = commit.head_bytes as usize;
        let header = Header {
            version: RECORD_VERSION,
            kind: commit.kind,
            flags: 0,
            head_bytes: commit.head_bytes,
            payload_bytes: (commit.bytes.len() - head_bytes) as u32,
            sequence: tail.sequence,
            synced: tail.synced,
            feed: commit.feed,
        };
        debug_assert!(
            head_bytes >= HEADER_BYTES + CHECK_BYTES,
            "a head part has all its parts"
        );
        header.encode(&mut commit.bytes[..HEADER_BYTES]);
        self.checker
            .seal(tail.place, &mut commit.bytes[..head_bytes]);
    }

    /// Writes `out` at `from`; where the segment has to grow, zeros follow in the same write.
    fn flush(&self, tail: &mut Tail, from: Place, out: &mut Vec<u8>) -> Result<(), StoreError> {
        if out.is_empty() {
            return Ok(());
        }
        let end = u64::from(from.offset) + out.len() as u64;
        if end > tail.size {
            tail.size = end.next_multiple_of(self.grow_bytes);
            out.resize((tail.size - u64::from(from.offset)) as usize, 0);
        }
        tail.file
            .write_at(u64::from(from.offset), out)
            .map_err(|error| StoreError::io("write_at", file_name(from.segment), error))?;
        out.clear();
        Ok(())
    }

    fn sync(&self, tail: &mut Tail) -> Result<(), StoreError> {
        tail.file
            .sync_data()
            .map_err(|error| StoreError::io("sync_data", file_name(tail.place.segment), error))?;
        tail.synced = tail.sequence - 1;
        Ok(())
    }

    fn roll(&self, tail: &mut Tail) -> Result<(), StoreError> {
        let number = tail.place.segment + 1;
        if number > SEGMENTS_MAX {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(StoreError::io("open", file_name(number), full));
        }
        let file = create_segment(&self.segments, &self.checker, number, tail.sequence)?;
        tail.file = file;
        tail.sealed_bytes += u64::from(tail.place.offset);
        tail.place = Place {
            segment: number,
            offset: SEGMENT_HEADER_BYTES as u32,
        };
        tail.size = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }

    fn keep(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() > SPARE_BYTES_MAX {
            return;
        }
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }
}

/// Ends a leader's turn, also when publishing panicked: then the writer is stopped.
struct StandDown<'a> {
    log: &'a Log,
    covered: Option<Ticket>,
}

impl Drop for StandDown<'_> {
    fn drop(&mut self) {
        let mut queue = self.log.queue();
        queue.leading = false;
        match self.covered {
            Some(covered) => queue.durable = covered,
            None => {
                let first = Arc::new(io::Error::other("a commit was not finished"));
                queue
                    .stopped
                    .get_or_insert(StoreError::WriterStopped { first });
            }
        }
        self.log.wake.notify_all();
    }
}

/// Creates segment `number` with its header, durable with its name.
pub(super) fn create_segment(
    segments: &Segments,
    checker: &Checker,
    number: u32,
    first_sequence: u64,
) -> Result<Arc<dyn DiskFile>, StoreError> {
    let name = file_name(number);
    let io = |operation: &'static str| {
        let name = name.clone();
        move |error| StoreError::io(operation, name, error)
    };
    let file = segments.disk().open(&name, true).map_err(io("open"))?;
    file.set_len(0).map_err(io("set_len"))?;
    let header = SegmentHeader {
        number,
        store_id: *checker.store_id(),
        first_sequence,
    };
    file.write_at(0, &header.encode()).map_err(io("write_at"))?;
    file.sync_data().map_err(io("sync_data"))?;
    segments.disk().sync_dir().map_err(io("sync_dir"))?;
    segments.add(number, file.clone());
    Ok(file)
}
