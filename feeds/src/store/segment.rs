//! Segment files: their names, headers and handles.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::crypto::{blake2b_256, namespace};
use crate::store::disk::{Disk, DiskFile, read_exact_at};
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::limits::SEGMENT_FILES_MAX;
use crate::store::publish::Freed;

/// Bytes before the first record of a segment.
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;

const SEGMENT_MAGIC: [u8; 4] = *b"KLSG";
const SEGMENT_VERSION: u8 = 1;
/// Magic, version, three zeros, segment, store id, first sequence, eight zeros.
const CHECKED_BYTES: usize = 48;

/// Returns the file name of segment `number`.
pub(super) fn file_name(number: u32) -> String {
    format!("log-{number:08}")
}

/// Returns the number of the segment with this file name.
pub(super) fn number_of(name: &str) -> Option<u32> {
    let number = name
        .strip_prefix("log-")
        .filter(|number| number.len() == 8)?;
    number.parse().ok()
}

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SegmentHeader {
    pub(super) number: u32,
    pub(super) store_id: [u8; 16],
    /// Sequence of the first record; all before it were durable when the segment was made.
    pub(super) first_sequence: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..4].copy_from_slice(&SEGMENT_MAGIC);
        out[4] = SEGMENT_VERSION;
        out[8..16].copy_from_slice(&u64::from(self.number).to_le_bytes());
        out[16..32].copy_from_slice(&self.store_id);
        out[32..40].copy_from_slice(&self.first_sequence.to_le_bytes());
        let check = check(&out[..CHECKED_BYTES]);
        out[CHECKED_BYTES..].copy_from_slice(&check);
        out
    }

    /// Reads the header of segment `number`; `None` when it does not hold.
    pub(super) fn decode(number: u32, bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Option<Self> {
        let header = SegmentHeader {
            number,
            store_id: std::array::from_fn(|i| bytes[16 + i]),
            first_sequence: u64::from_le_bytes(std::array::from_fn(|i| bytes[32 + i])),
        };
        (header.encode() == *bytes).then_some(header)
    }
}

fn check(bytes: &[u8]) -> [u8; 16] {
    let hash = blake2b_256(&[&namespace::SEGMENT.hash(), bytes]);
    std::array::from_fn(|i| hash[i])
}

/// What is known of a segment without opening it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct SegmentInfo {
    pub(super) first_sequence: u64,
    /// Bytes written, as of the last checkpoint where it still grows.
    pub(super) bytes: u64,
    /// Bytes of records and blocks that nothing needs any more.
    pub(super) dead_bytes: u64,
    /// Sequence behind its last record; 0 while it grows.
    pub(super) end_sequence: u64,
}

/// The segments of a store, of which at most [`SEGMENT_FILES_MAX`] are open.
#[derive(Debug)]
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    open: RwLock<HashMap<u32, OpenSegment>>,
    /// Counts how often a file was opened: the age of a use.
    opened: AtomicU64,
    known: Mutex<BTreeMap<u32, SegmentInfo>>,
}

#[derive(Debug)]
struct OpenSegment {
    file: Arc<dyn DiskFile>,
    last_used: AtomicU64,
}

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Segments {
            disk,
            open: RwLock::default(),
            opened: AtomicU64::new(0),
            known: Mutex::default(),
        }
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Gives what is known of all segments.
    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<u32, SegmentInfo>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the file of segment `number`; opens it when it is not open.
    pub(super) fn file(&self, number: u32) -> Result<Arc<dyn DiskFile>, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = open.get(&number) {
            let now = self.opened.load(Ordering::Relaxed);
            if segment.last_used.load(Ordering::Relaxed) != now {
                segment.last_used.store(now, Ordering::Relaxed);
            }
            return Ok(segment.file.clone());
        }
        drop(open);
        let name = file_name(number);
        let file = self.disk.open(&name, false).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                let place = Place {
                    segment: number,
                    offset: 0,
                };
                return Damage {
                    place,
                    what: DamageKind::SegmentMissing,
                }
                .into();
            }
            StoreError::io("open", name, error)
        })?;
        self.add(number, file.clone());
        Ok(file)
    }

    /// Keeps an open file, in place of the one least recently used when there are many.
    pub(super) fn add(&self, number: u32, file: Arc<dyn DiskFile>) {
        let now = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= SEGMENT_FILES_MAX && !open.contains_key(&number) {
            let age = |segment: &OpenSegment| segment.last_used.load(Ordering::Relaxed);
            let oldest = open
                .iter()
                .min_by_key(|(_, segment)| age(segment))
                .map(|(number, _)| *number);
            oldest.and_then(|number| open.remove(&number));
        }
        let last_used = AtomicU64::new(now);
        open.insert(number, OpenSegment { file, last_used });
    }

    /// Unlinks a segment; whoever reads it at this moment goes on.
    pub(super) fn remove(&self, number: u32) -> Result<(), StoreError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(&number);
        drop(open);
        let name = file_name(number);
        self.disk
            .unlink(&name)
            .map_err(|error| StoreError::io("unlink", name, error))?;
        self.disk
            .sync_dir()
            .map_err(|error| StoreError::io("sync_dir", "folder", error))
    }

    /// Counts bytes of a segment that nothing needs any more.
    pub(super) fn add_dead(&self, number: u32, bytes: u64) {
        if let Some(info) = self.known().get_mut(&number) {
            info.dead_bytes += bytes;
        }
    }

    /// Counts what was freed as bytes that nothing needs any more.
    pub(super) fn add_freed(&self, freed: &Freed) {
        for span in &freed.spans {
            self.add_dead(span.segment, span.bytes);
        }
    }

    /// Returns how many segment files are open.
    #[cfg(test)]
    fn open_files(&self) -> usize {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Reads exactly `buffer.len()` bytes; a segment that ends earlier is damage.
    pub(super) fn read(
        &self,
        place: Place,
        from: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        Self::read_in(&*self.file(place.segment)?, place, from, buffer)
    }

    /// Reads like [`read`](Self::read), from the segment's file.
    pub(super) fn read_in(
        file: &dyn DiskFile,
        place: Place,
        from: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let offset = u64::from(place.offset) + from;
        read_exact_at(file, offset, buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Damage {
                place,
                what: DamageKind::Missing,
            }
            .into(),
            _ => StoreError::io("read_at", file_name(place.segment), error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_segment_header_is_checked() {
        let header = SegmentHeader {
            number: 7,
            store_id: [9; 16],
            first_sequence: 1000,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(7, &bytes), Some(header));
        assert_eq!(SegmentHeader::decode(8, &bytes), None);
        for at in 0..bytes.len() {
            let mut altered = bytes;
            altered[at] ^= 1;
            assert_eq!(SegmentHeader::decode(7, &altered), None, "byte {at}");
        }
    }

    #[test]
    fn few_files_are_open_and_those_in_use_stay() {
        let disk = crate::store::MemoryDisk::new();
        let segments = Segments::new(Arc::new(disk.clone()));
        for number in 0..200 {
            disk.open(&file_name(number), true).unwrap();
            segments.file(0).unwrap();
            segments.file(number).unwrap();
            assert!(segments.open_files() <= SEGMENT_FILES_MAX);
        }
        disk.unlink(&file_name(0)).unwrap();
        disk.unlink(&file_name(1)).unwrap();
        segments.file(0).unwrap();
        assert!(segments.file(1).is_err(), "it was closed, and is gone now");
    }

    #[test]
    fn file_names_and_numbers_belong_together() {
        assert_eq!(number_of(&file_name(12)), Some(12));
        for name in ["log-12", "log-0000001x", "index", "lock", "log-000000012"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
