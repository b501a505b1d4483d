//! Segment files: their names, headers and handles.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use crate::crypto::{blake2b_256, namespace};
use crate::store::disk::{Disk, DiskFile, read_exact_at};
use crate::store::error::{Damage, DamageKind, Place, StoreError};

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

/// The open segment files of a store.
#[derive(Debug)]
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    open: RwLock<HashMap<u32, Arc<dyn DiskFile>>>,
}

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Segments {
            disk,
            open: RwLock::default(),
        }
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Returns the file of segment `number`, opened once.
    pub(super) fn file(&self, number: u32) -> Result<Arc<dyn DiskFile>, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(file.clone());
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

    pub(super) fn add(&self, number: u32, file: Arc<dyn DiskFile>) {
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, file);
    }

    /// Reads exactly `buffer.len()` bytes; a segment that ends earlier is damage.
    pub(super) fn read(
        &self,
        place: Place,
        from: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let file = self.file(place.segment)?;
        let offset = u64::from(place.offset) + from;
        read_exact_at(&*file, offset, buffer).map_err(|error| match error.kind() {
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
    fn file_names_and_numbers_belong_together() {
        assert_eq!(number_of(&file_name(12)), Some(12));
        for name in ["log-12", "log-0000001x", "index", "lock", "log-000000012"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
