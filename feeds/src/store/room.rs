//! Room ahead of the log's end: zeros, written before a record needs them.
//!
//! A record that only overwrites zeros costs its sync no change of the file's size, which on a
//! journalling file system is a second write and a second flush. Growing is a step of its own, so
//! that a full disk is noticed before anything of a record stands there. While records come fast a
//! helper thread keeps zeros ahead of them, in pieces that it syncs itself, through a file
//! description of its own: an error that its sync reports is reported to the writer's as well.
//!
//! Large records write so much that zeros cost more than the second flush. For those the room is
//! allocated, where the file system can: it reads as zeros without anybody having written any.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::store::disk::{Disk, DiskFile};
use crate::store::error::StoreError;
use crate::store::limits::{GROW_BYTES_MIN, GROW_PIECE_BYTES, LARGE_PART};
use crate::store::segment::file_name;

/// Zeros behind the log's end, as far as they are written.
#[derive(Debug)]
pub(super) struct Room {
    shared: Arc<Shared>,
    helper: Mutex<Option<JoinHandle<()>>>,
    ahead: bool,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    step_max: u64,
    state: Mutex<State>,
    /// Size of the file, zeros from the log's end on; changes under the lock only.
    size: AtomicU64,
    /// Segment and size that the helper is asked for: 32 bits each.
    wanted: AtomicU64,
    /// What was written last was large.
    is_large: AtomicBool,
    stop: AtomicBool,
}

/// Held while zeros are written: by the writer or by the helper, a piece at a time.
#[derive(Debug)]
struct State {
    file: Arc<dyn DiskFile>,
    segment: u32,
}

impl Room {
    /// Starts with what opening found; grows ahead of need only if `ahead` is set.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        (segment_bytes, step_max): (u64, u64),
        file: Arc<dyn DiskFile>,
        (segment, size): (u32, u64),
        ahead: bool,
    ) -> Self {
        let state = State { file, segment };
        let shared = Shared {
            disk,
            segment_bytes,
            step_max: step_max.max(1),
            state: Mutex::new(state),
            size: AtomicU64::new(size),
            wanted: AtomicU64::new(0),
            is_large: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        Room {
            shared: Arc::new(shared),
            helper: Mutex::default(),
            ahead,
        }
    }

    /// Goes on in a new segment, whose file has `size` bytes.
    pub(super) fn enter(&self, segment: u32, file: Arc<dyn DiskFile>, size: u64) {
        let mut state = self.shared.state();
        *state = State { file, segment };
        self.shared.size.store(size, Ordering::Release);
    }

    /// Makes the segment at least `end` bytes long. `log_bytes` is the size of the whole log, from
    /// which the size of a step follows.
    ///
    /// # Errors
    ///
    /// [`StoreError::DiskFull`] when there is no room: then the file is as long as before.
    pub(super) fn ensure(&self, end: u64, log_bytes: u64) -> Result<(), StoreError> {
        if end <= self.shared.size() {
            return Ok(());
        }
        let state = self.shared.state();
        if end <= self.shared.size() {
            return Ok(());
        }
        let target = end.next_multiple_of(self.step(log_bytes));
        let target = target.min(end.max(self.size_max()));
        self.shared.grow(&state, target)
    }

    /// Asks for room ahead of `end` if it becomes little; never waits. Just before `end` so many bytes were
    /// written at once.
    pub(super) fn look_ahead(&self, segment: u32, end: u64, log_bytes: u64, written: u64) {
        let is_large = written >= self.shared.step_max / LARGE_PART;
        self.shared.is_large.store(is_large, Ordering::Relaxed);
        let step = self.step(log_bytes);
        if !self.ahead || step < GROW_PIECE_BYTES {
            return;
        }
        let target = (end + step).next_multiple_of(GROW_PIECE_BYTES);
        let target = target.min(self.size_max());
        let wanted = u64::from(segment) << 32 | target;
        if target <= self.shared.size()
            || self.shared.wanted.fetch_max(wanted, Ordering::AcqRel) >= wanted
        {
            return;
        }
        let mut helper = self.helper();
        match &*helper {
            Some(helper) => helper.thread().unpark(),
            None => {
                let shared = self.shared.clone();
                let named = thread::Builder::new().name("kinlog-room".to_owned());
                // Without a helper the writer grows by itself.
                *helper = named.spawn(move || shared.keep_ahead()).ok();
            }
        }
    }

    /// Ends the helper: afterwards only the writer touches the file.
    pub(super) fn close(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(helper) = self.helper().take() {
            helper.thread().unpark();
            // A helper that panicked has stopped too.
            let _ = helper.join();
        }
    }

    fn helper(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.helper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A young log grows by small steps, which double with it.
    fn step(&self, log_bytes: u64) -> u64 {
        let step_max = self.shared.step_max;
        log_bytes
            .next_power_of_two()
            .max(GROW_BYTES_MIN)
            .min(step_max)
    }

    /// Zeros behind this size would stay unused: the next record starts another segment.
    fn size_max(&self) -> u64 {
        let step_max = self.shared.step_max;
        self.shared.segment_bytes.next_multiple_of(step_max)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn grow(&self, state: &State, target: u64) -> Result<(), StoreError> {
        let before = self.size();
        let refused = |error| {
            // What stays behind would do no harm; the space is what matters.
            let _ = state.file.set_len(before);
            self.refused(state.segment, target - before, error)
        };
        if self.is_large.load(Ordering::Relaxed) {
            let allocated = state.file.allocate(before, target - before);
            if allocated.map_err(refused)? {
                self.size.store(target, Ordering::Release);
                return Ok(());
            }
        }
        let mut size = before;
        let zeros = vec![0; GROW_PIECE_BYTES.min(target - before) as usize];
        while size < target {
            let piece = &zeros[..GROW_PIECE_BYTES.min(target - size) as usize];
            state.file.write_at(size, piece).map_err(refused)?;
            size += piece.len() as u64;
        }
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    fn refused(&self, segment: u32, needed: u64, error: io::Error) -> StoreError {
        StoreError::refused("write_at", file_name(segment), error, || {
            (needed, self.disk.free_space().unwrap_or(0))
        })
    }

    /// Writes zeros up to what is wanted, piece by piece, until told to stop.
    fn keep_ahead(&self) {
        let mut own: Option<(u32, Arc<dyn DiskFile>)> = None;
        let zeros = vec![0; GROW_PIECE_BYTES as usize];
        while !self.stop.load(Ordering::Acquire) {
            let state = self.state();
            let wanted = self.wanted.load(Ordering::Acquire);
            let missing = (wanted & u64::from(u32::MAX)).saturating_sub(self.size());
            if wanted >> 32 != u64::from(state.segment) || missing == 0 {
                drop(state);
                thread::park();
                continue;
            }
            let piece = &zeros[..missing.min(GROW_PIECE_BYTES) as usize];
            if self.add_piece(&state, &mut own, piece).is_err() {
                // The writer meets the same disk and says what is wrong. Nothing is tried again
                // before it got further.
                drop(state);
                thread::park();
            }
        }
    }

    fn add_piece(
        &self,
        state: &State,
        own: &mut Option<(u32, Arc<dyn DiskFile>)>,
        piece: &[u8],
    ) -> io::Result<()> {
        let file = match own {
            Some((segment, file)) if *segment == state.segment => file,
            _ => {
                let opened = self.disk.open(&file_name(state.segment), false)?;
                &own.insert((state.segment, opened)).1
            }
        };
        let size = self.size();
        if self.is_large.load(Ordering::Relaxed) {
            // In larger pieces, each of which costs the next sync a flush more.
            let most = self.segment_bytes.next_multiple_of(self.step_max);
            let bytes = self
                .step_max
                .min(most.saturating_sub(size))
                .max(piece.len() as u64);
            match file.allocate(size, bytes) {
                Ok(true) => {
                    self.size.store(size + bytes, Ordering::Release);
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) => {
                    let _ = file.set_len(size);
                    return Err(error);
                }
            }
        }
        if let Err(error) = file.write_at(size, piece) {
            let _ = file.set_len(size);
            return Err(error);
        }
        // From here on the zeros are there for the writer, whatever the sync says.
        self.size
            .store(size + piece.len() as u64, Ordering::Release);
        file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryDisk;

    const MIB: u64 = 1024 * 1024;

    fn room(disk: &MemoryDisk, ahead: bool) -> (Room, Arc<dyn DiskFile>) {
        let file = disk.open(&file_name(0), true).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let room = Room::new(disk, (128 * MIB, 4 * MIB), file.clone(), (0, 0), ahead);
        (room, file)
    }

    #[test]
    fn steps_double_with_the_log_up_to_the_largest() {
        let (room, file) = room(&MemoryDisk::new(), false);
        let mut sizes = Vec::new();
        for kib in 1..=20 * 1024 {
            let end = kib * 1024;
            room.ensure(end, end).unwrap();
            if sizes.last() != Some(&file.size().unwrap()) {
                sizes.push(file.size().unwrap());
            }
        }
        let expected = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0];
        assert_eq!(sizes, expected.map(|mib| (mib * MIB as f64) as u64));
    }

    #[test]
    fn a_segment_is_not_grown_beyond_its_end_but_for_its_last_record() {
        let (room, file) = room(&MemoryDisk::new(), false);
        room.ensure(127 * MIB, 127 * MIB).unwrap();
        assert_eq!(file.size().unwrap(), 128 * MIB);
        room.ensure(129 * MIB + 1, 129 * MIB).unwrap();
        assert_eq!(file.size().unwrap(), 129 * MIB + 1);
    }

    #[test]
    fn the_helper_keeps_zeros_ahead_in_the_segment_that_is_written() {
        let disk = MemoryDisk::new();
        let (room, file) = room(&disk, true);
        room.ensure(5 * MIB, 5 * MIB).unwrap();
        room.look_ahead(0, 5 * MIB, 5 * MIB, 1);
        while file.size().unwrap() < 9 * MIB {
            thread::yield_now();
        }
        let next = disk.open(&file_name(1), true).unwrap();
        room.enter(1, next.clone(), 0);
        // What was asked for the segment before concerns it no more.
        room.look_ahead(0, 20 * MIB, 20 * MIB, 1);
        room.ensure(MIB, 21 * MIB).unwrap();
        room.look_ahead(1, 2 * MIB, 22 * MIB, 1);
        while next.size().unwrap() < 6 * MIB {
            thread::yield_now();
        }
        room.close();
        assert_eq!(file.size().unwrap(), 9 * MIB);
        assert_eq!(next.size().unwrap(), 6 * MIB);
    }

    #[test]
    fn for_large_records_room_is_allocated_and_for_small_ones_written() {
        let disk = MemoryDisk::new();
        let file = Arc::new(Counting {
            file: disk.open(&file_name(0), true).unwrap(),
            written: AtomicU64::new(0),
        });
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let room = Room::new(disk, (128 * MIB, 4 * MIB), file.clone(), (0, 0), false);
        let came_to = |end: u64| {
            room.ensure(end, end).unwrap();
            (file.size().unwrap(), file.written.load(Ordering::Relaxed))
        };
        assert_eq!(came_to(MIB), (MIB, MIB));
        room.look_ahead(0, MIB, MIB, 4 * MIB / LARGE_PART);
        assert_eq!(came_to(5 * MIB), (8 * MIB, MIB));
        room.look_ahead(0, 5 * MIB, 5 * MIB, 1);
        assert_eq!(came_to(9 * MIB), (12 * MIB, 5 * MIB));
    }

    /// Counts the bytes that are written.
    #[derive(Debug)]
    struct Counting {
        file: Arc<dyn DiskFile>,
        written: AtomicU64,
    }

    impl DiskFile for Counting {
        fn size(&self) -> io::Result<u64> {
            self.file.size()
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.file.read_at(offset, buffer)
        }

        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.written
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.file.write_at(offset, bytes)
        }

        fn set_len(&self, size: u64) -> io::Result<()> {
            self.file.set_len(size)
        }

        fn allocate(&self, offset: u64, bytes: u64) -> io::Result<bool> {
            self.file.allocate(offset, bytes)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.file.sync_data()
        }

        fn punch_hole(&self, offset: u64, bytes: u64) -> io::Result<bool> {
            self.file.punch_hole(offset, bytes)
        }
    }

    #[test]
    fn a_young_log_has_no_helper() {
        let (room, _) = room(&MemoryDisk::new(), true);
        room.look_ahead(0, MIB / 2, MIB / 2, 1);
        assert!(room.helper().is_none());
    }
}
