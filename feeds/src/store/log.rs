//! The log's writing end: group commit, growth, segments, fail-stop.
//!
//! Whoever waits for a commit either leads or follows. The leader takes everything submitted,
//! writes it with one write, makes it durable with one sync, publishes it, and wakes those it
//! concerns; meanwhile the next group gathers, and one of it is told to lead when this one is done.
//! Room for the records is made before them: where the disk has none, the group and what was
//! submitted behind it are refused, and the writer goes on. After the first refused write or sync
//! of a record nothing is written and nothing published until the store is opened again.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::disk::DiskFile;
use crate::store::error::{Place, StoreError};
use crate::store::limits::SEGMENTS_MAX;
use crate::store::mistake::Mistake;
use crate::store::options::Options;
use crate::store::queue::{Queue, Word, tell};
use crate::store::record::{CHECK_BYTES, Checker, HEADER_BYTES, Header, RECORD_VERSION, kind};
use crate::store::room::Room;
use crate::store::segment::{
    SEGMENT_HEADER_BYTES, SegmentHeader, SegmentInfo, Segments, file_name,
};
use crate::store::turn::Turn;

pub(super) use crate::store::queue::{Commit, Epoch, Publish, Ticket};

/// Buffers kept for the next commits; two callers in flight need no more.
const SPARE_BUFFERS_MAX: usize = 4;

/// Largest buffer kept, 2 MiB: larger blocks are not copied, so that few head parts pass it.
const SPARE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The log's writing end.
pub(super) struct Log {
    segments: Arc<Segments>,
    checker: Checker,
    segment_bytes: u64,
    room: Room,
    queue: Mutex<Queue>,
    tail: Mutex<Tail>,
    /// [`Tail::written`] as of the last group, readable while a group is written.
    written: AtomicU64,
    /// What it was at the last checkpoint.
    checkpointed: AtomicU64,
    /// [`Tail::synced`] as of the last group.
    synced: AtomicU64,
    spare: Mutex<Vec<Vec<u8>>>,
    mistakes: SyncMistakes,
}

/// Mistakes of a test with the sync of a commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct SyncMistakes {
    skip: bool,
    skip_checkpoints: bool,
    publish_first: bool,
}

impl SyncMistakes {
    pub(super) fn of(options: &Options) -> Self {
        SyncMistakes {
            skip: options.makes(Mistake::SkipSync),
            skip_checkpoints: options.makes(Mistake::CheckpointBeforeData),
            publish_first: options.makes(Mistake::PublishBeforeSync),
        }
    }
}

/// Where the next record goes. Held by the leader, or by a checkpoint.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) file: Arc<dyn DiskFile>,
    /// Place of the next record.
    pub(super) place: Place,
    /// Sequence of the next record.
    pub(super) sequence: u64,
    /// Newest durable record.
    pub(super) synced: u64,
    /// Bytes of the segments before.
    pub(super) sealed_bytes: u64,
    /// Bytes scanned when the store was opened, and written since.
    pub(super) written: u64,
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
        room: Room,
        tail: Tail,
        mistakes: SyncMistakes,
    ) -> Self {
        Log {
            segments,
            checker,
            segment_bytes,
            room,
            queue: Mutex::new(Queue {
                epoch: Epoch::new(),
                ..Queue::default()
            }),
            written: AtomicU64::new(tail.written),
            checkpointed: AtomicU64::new(0),
            synced: AtomicU64::new(tail.synced),
            tail: Mutex::new(tail),
            spare: Mutex::default(),
            mistakes,
        }
    }

    /// Returns the epoch, for [`submit_in`](Self::submit_in).
    pub(super) fn epoch(&self) -> Epoch {
        self.queue().epoch.clone()
    }

    /// Queues records, to be written in this order and after all queued before.
    pub(super) fn submit(&self, commits: Vec<Commit>) -> Result<Ticket, StoreError> {
        self.enqueue(self.queue(), commits)
    }

    /// Queues records that build on others submitted in `epoch`: refused once those were.
    pub(super) fn submit_in(
        &self,
        epoch: &Epoch,
        commits: Vec<Commit>,
    ) -> Result<Ticket, StoreError> {
        let queue = self.queue();
        match epoch.end() {
            Some(end) => Err(end.error.clone()),
            None => self.enqueue(queue, commits),
        }
    }

    fn enqueue(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        commits: Vec<Commit>,
    ) -> Result<Ticket, StoreError> {
        if let Some(stopped) = &queue.stopped {
            return Err(stopped.clone());
        }
        if queue.closing {
            return Err(StoreError::Closed);
        }
        queue.submitted += commits.len() as u64;
        queue.waiting_bytes += commits.iter().map(Commit::record_bytes).sum::<u64>();
        queue.waiting.extend(commits);
        Ok(queue.ticket())
    }

    /// Returns once everything up to `ticket` is durable and published.
    ///
    /// # Errors
    ///
    /// [`StoreError::DiskFull`] when it was refused for want of room, else why the writer stopped.
    pub(super) fn wait(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let mut queue = self.queue();
        loop {
            if let Some(outcome) = queue.outcome(ticket) {
                return outcome;
            }
            if queue.leading {
                let turn = Arc::new(Turn::new());
                queue.followers.push((ticket.clone(), turn.clone()));
                drop(queue);
                if let Word::Done(outcome) = turn.wait() {
                    return outcome.clone();
                }
                queue = self.queue();
            }
            queue.leading = true;
            queue = self.lead(queue);
        }
    }

    /// Returns what stands for everything submitted so far.
    pub(super) fn newest(&self) -> Ticket {
        self.queue().ticket()
    }

    /// Returns the bytes that are queued and that nobody writes yet.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.queue().waiting_bytes
    }

    /// Takes no further records; those queued before are written first.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        self.room.close();
        let mut queue = self.queue();
        if let Some(stopped) = &queue.stopped {
            return Err(stopped.clone());
        }
        queue.closing = true;
        let ticket = queue.ticket();
        drop(queue);
        self.wait(&ticket)?;
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
        let mut queue = self.queue();
        queue
            .stopped
            .get_or_insert(StoreError::WriterStopped { first });
        let told = queue.resolve();
        drop(queue);
        tell(told);
    }

    /// Takes no records at all, from the start.
    pub(super) fn refuse_writes(&self, why: StoreError) {
        self.queue().stopped.get_or_insert(why);
    }

    /// Returns the tail between two groups.
    pub(super) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the sequence of the newest durable record.
    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Returns the newest segment and the bytes written to it.
    pub(super) fn newest_segment(&self) -> (u32, u64) {
        let place = self.tail().place;
        (place.segment, u64::from(place.offset))
    }

    /// Returns the bytes of log written since the last checkpoint.
    pub(super) fn written_since_checkpoint(&self) -> u64 {
        let written = self.written.load(Ordering::Relaxed);
        written.saturating_sub(self.checkpointed.load(Ordering::Relaxed))
    }

    /// Counts from here on; called when a checkpoint is published.
    pub(super) fn checkpoint_published(&self) {
        let written = self.written.load(Ordering::Relaxed);
        self.checkpointed.store(written, Ordering::Relaxed);
    }

    /// Writes a record at the tail, which the caller holds, and makes it durable; returns its place.
    pub(super) fn write_now(&self, tail: &mut Tail, commit: Commit) -> Result<Place, StoreError> {
        let result = self.write(tail, vec![commit], &mut 0);
        if let Err(error) = &result
            && !matches!(error, StoreError::DiskFull { .. })
        {
            self.stop(error);
        }
        result
    }

    /// Begins a new segment, unless the newest has no record yet.
    pub(super) fn seal(&self) -> Result<(), StoreError> {
        let mut tail = self.tail();
        if let Some(stopped) = self.stopped() {
            return Err(stopped);
        }
        if tail.place.offset as usize == SEGMENT_HEADER_BYTES {
            return Ok(());
        }
        let rolled = self.roll(&mut tail);
        if let Err(error) = &rolled
            && !matches!(error, StoreError::DiskFull { .. })
        {
            self.stop(error);
        }
        rolled
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

    /// Writes what is queued; the caller has set `leading`.
    fn lead<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let commits = std::mem::take(&mut queue.waiting);
        queue.waiting_bytes = 0;
        let durable = queue.submitted - commits.len() as u64;
        drop(queue);

        let mut turn = LeadersTurn {
            log: self,
            durable,
            written: None,
        };
        let written = self.write(&mut self.tail(), commits, &mut turn.durable);
        turn.written = Some(written.map(|_| ()));
        drop(turn);
        self.queue()
    }

    /// Writes records, makes them durable and publishes them; counts in `durable` how many were.
    fn write(
        &self,
        tail: &mut Tail,
        commits: Vec<Commit>,
        durable: &mut u64,
    ) -> Result<Place, StoreError> {
        let mut last = tail.place;
        let mut commits = commits.into_iter().peekable();
        while commits.peek().is_some() {
            if u64::from(tail.place.offset) >= self.segment_bytes {
                self.roll(tail)?;
            }
            let mut end = u64::from(tail.place.offset);
            let mut run = Vec::with_capacity(commits.len());
            while let Some(commit) = commits.next_if(|_| end < self.segment_bytes) {
                end += commit.record_bytes();
                run.push(commit);
            }
            self.room.ensure(end, tail.log_bytes())?;
            last = self.write_run(tail, run, durable)?;
        }
        Ok(last)
    }

    /// Writes records that fit the segment with one write and one sync, and publishes them.
    fn write_run(
        &self,
        tail: &mut Tail,
        mut run: Vec<Commit>,
        durable: &mut u64,
    ) -> Result<Place, StoreError> {
        let start = tail.place;
        let mut last = start;
        let mut places = Vec::with_capacity(run.len());
        let mut offset = start.offset;
        let mut sequence = tail.sequence;
        for commit in &mut run {
            last = Place { offset, ..start };
            places.push(last);
            let bytes = commit.record_bytes() as u32;
            self.number(last, (sequence, tail.synced), bytes, commit);
            offset += bytes;
            sequence += 1;
        }
        let parts: Vec<IoSlice<'_>> = run
            .iter()
            .flat_map(|commit| {
                let blocks = commit.blocks.iter().map(|block| IoSlice::new(block));
                std::iter::once(IoSlice::new(&commit.bytes)).chain(blocks)
            })
            .collect();
        let io =
            |operation| move |error| StoreError::io(operation, file_name(start.segment), error);
        tail.file
            .write_vectored_at(u64::from(start.offset), &parts)
            .map_err(io("write_at"))?;
        drop(parts);
        if self.mistakes.publish_first {
            for (commit, place) in run.iter_mut().zip(&places) {
                std::mem::replace(&mut commit.publish, Box::new(|_| ()))(*place);
            }
        }
        let only_checkpoints = || run.iter().all(|commit| commit.kind == kind::CHECKPOINT);
        let skips = self.mistakes.skip || self.mistakes.skip_checkpoints && only_checkpoints();
        if !skips {
            tail.file.sync_data().map_err(io("sync_data"))?;
        }
        tail.written += u64::from(offset - start.offset);
        tail.place.offset = offset;
        tail.sequence = sequence;
        tail.synced = sequence - 1;
        self.synced.store(tail.synced, Ordering::Release);
        self.written.store(tail.written, Ordering::Relaxed);
        let written = u64::from(offset - start.offset);
        self.room
            .look_ahead(start.segment, u64::from(offset), tail.log_bytes(), written);
        *durable += run.len() as u64;
        for (commit, place) in run.into_iter().zip(places) {
            (commit.publish)(place);
            self.keep(commit.bytes);
        }
        Ok(last)
    }

    /// Fills in what only the writer knows: sequence, place and check.
    fn number(
        &self,
        place: Place,
        (sequence, synced): (u64, u64),
        record_bytes: u32,
        commit: &mut Commit,
    ) {
        let head_bytes = commit.head_bytes as usize;
        let header = Header {
            version: RECORD_VERSION,
            kind: commit.kind,
            flags: 0,
            head_bytes: commit.head_bytes,
            payload_bytes: record_bytes - commit.head_bytes,
            sequence,
            synced,
            feed: commit.feed,
        };
        debug_assert!(
            head_bytes >= HEADER_BYTES + CHECK_BYTES,
            "a head part has all its parts"
        );
        header.encode(&mut commit.bytes[..HEADER_BYTES]);
        self.checker.seal(place, &mut commit.bytes[..head_bytes]);
    }

    fn roll(&self, tail: &mut Tail) -> Result<(), StoreError> {
        let number = tail.place.segment + 1;
        if number > SEGMENTS_MAX {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(StoreError::io("open", file_name(number), full));
        }
        let file = create_segment(&self.segments, &self.checker, number, tail.sequence)?;
        tail.file = file;
        let sealed_bytes = u64::from(tail.place.offset);
        tail.sealed_bytes += sealed_bytes;
        if let Some(sealed) = self.segments.known().get_mut(&tail.place.segment) {
            sealed.bytes = sealed_bytes;
            sealed.end_sequence = tail.sequence;
        }
        tail.place = Place {
            segment: number,
            offset: SEGMENT_HEADER_BYTES as u32,
        };
        self.room
            .enter(number, tail.file.clone(), SEGMENT_HEADER_BYTES as u64);
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

impl Tail {
    /// Returns the bytes of log written.
    fn log_bytes(&self) -> u64 {
        self.sealed_bytes + u64::from(self.place.offset)
    }
}

/// Ends a leader's turn, also when publishing panicked: then the writer is stopped.
struct LeadersTurn<'a> {
    log: &'a Log,
    /// Submissions that are durable and published.
    durable: u64,
    /// How writing went; `None` when it did not come back.
    written: Option<Result<(), StoreError>>,
}

impl Drop for LeadersTurn<'_> {
    fn drop(&mut self) {
        let mut queue = self.log.queue();
        queue.durable = self.durable;
        match self.written.take() {
            Some(Ok(())) => {}
            Some(Err(error @ StoreError::DiskFull { .. })) => queue.refuse(error),
            failed => {
                let first = match failed {
                    Some(Err(StoreError::Io { source, .. })) => source,
                    _ => Arc::new(io::Error::other("a commit was not finished")),
                };
                queue
                    .stopped
                    .get_or_insert(StoreError::WriterStopped { first });
            }
        }
        let mut told = queue.resolve();
        // Whoever waits still has records in the queue: the first goes on with them.
        queue.leading = !queue.followers.is_empty();
        if queue.leading {
            let (_, next) = queue.followers.remove(0);
            told.insert(0, (next, Word::Lead));
        }
        drop(queue);
        tell(told);
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
    // Until the header is synced nothing depends on the file: it is made anew when there is room.
    let room = |operation: &'static str| {
        let (name, disk) = (name.clone(), segments.disk().clone());
        move |error| {
            let free = || (SEGMENT_HEADER_BYTES as u64, disk.free_space().unwrap_or(0));
            StoreError::refused(operation, name, error, free)
        }
    };
    let file = segments.disk().open(&name, true).map_err(room("open"))?;
    file.set_len(0).map_err(io("set_len"))?;
    let header = SegmentHeader {
        number,
        store_id: *checker.store_id(),
        first_sequence,
    };
    file.write_at(0, &header.encode())
        .map_err(room("write_at"))?;
    file.sync_data().map_err(io("sync_data"))?;
    segments.disk().sync_dir().map_err(io("sync_dir"))?;
    segments.add(number, file.clone());
    let info = SegmentInfo {
        first_sequence,
        ..SegmentInfo::default()
    };
    segments.known().insert(number, info);
    Ok(file)
}
