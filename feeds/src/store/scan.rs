//! Reading the log from a place to its end.

use std::sync::Arc;

use crate::store::body::Body;
use crate::store::disk::DiskFile;
use crate::store::error::{Place, StoreError};
use crate::store::record::{
    CHECK_BYTES, Checker, FLAG_IGNORABLE, HEADER_BYTES, Header, RECORD_MAGIC, RECORD_VERSION,
};
use crate::store::segment::{SEGMENT_HEADER_BYTES, file_name};

/// Bytes read ahead: head parts of small batches come many to a read.
const WINDOW_BYTES: usize = 256 * 1024;

/// Bytes of supposed head parts that the search behind a torn record hashes at most, 256 MiB.
/// Only blocks made to look like records could ask for more.
const SEARCH_HASHED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes of supposed head parts that a repair hashes between two records that hold, 4 GiB: a few
/// seconds. Only blocks made to look like records of this store could ask for more.
const SALVAGE_HASHED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// What stands at a place of the log.
#[derive(Debug)]
pub(super) enum Scanned {
    /// A record that holds. `body` is `None` for a kind that may be skipped.
    Record { header: Header, body: Option<Body> },
    /// A record that holds and that this build does not know.
    Unknown { header: Header },
    /// Nothing, or something that is no record.
    End,
}

/// Reads one segment through a window.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    file: Arc<dyn DiskFile>,
    checker: &'a Checker,
    segment: u32,
    pub(super) size: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        checker: &'a Checker,
        segment: u32,
    ) -> Result<Self, StoreError> {
        let size = file
            .size()
            .map_err(|error| StoreError::io("size", file_name(segment), error))?;
        Ok(Scanner {
            file,
            checker,
            segment,
            size,
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// Reads the record at `offset`, expected to have number `sequence`.
    pub(super) fn record(&mut self, offset: u64, sequence: u64) -> Result<Scanned, StoreError> {
        let Some(header) = self.header(offset)? else {
            return Ok(Scanned::End);
        };
        if header.sequence != sequence || !self.holds(offset, &header)? {
            return Ok(Scanned::End);
        }
        let head_bytes = header.head_bytes as usize;
        let head = self.bytes(offset, head_bytes)?.unwrap_or_default();
        let may_skip = header.flags & FLAG_IGNORABLE != 0;
        let known = header.version == RECORD_VERSION;
        let body = match head.get(HEADER_BYTES..head_bytes - CHECK_BYTES) {
            Some(body) if known => Body::decode(header.kind, body, header.payload_bytes),
            _ => Ok(None),
        };
        match body {
            Ok(Some(body)) => Ok(Scanned::Record {
                header,
                body: Some(body),
            }),
            Ok(None) if may_skip => Ok(Scanned::Record { header, body: None }),
            // A body that holds and does not decode is one of a later build.
            Ok(None) | Err(_) => Ok(Scanned::Unknown { header }),
        }
    }

    /// Reads the payload part of a record, `None` when the segment ends first.
    pub(super) fn payload(
        &mut self,
        offset: u64,
        header: &Header,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let at = offset + u64::from(header.head_bytes);
        let count = header.payload_bytes as usize;
        Ok(self.bytes(at, count)?.map(<[u8]>::to_vec))
    }

    /// Returns whether everything from `offset` on is zero.
    pub(super) fn is_zero_from(&mut self, offset: u64) -> Result<bool, StoreError> {
        let mut at = offset;
        while at < self.size {
            let count = (self.size - at).min(WINDOW_BYTES as u64) as usize;
            let bytes = self.bytes(at, count)?.unwrap_or_default();
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += count as u64;
        }
        Ok(true)
    }

    /// Looks behind a record that failed for one that holds and says that record number
    /// `sequence` was durable when it was written.
    pub(super) fn is_covered_later(
        &mut self,
        offset: u64,
        sequence: u64,
    ) -> Result<bool, StoreError> {
        let mut at = offset + 1;
        let mut hashed = 0;
        while at + (HEADER_BYTES as u64) <= self.size {
            let count = (self.size - at).min(WINDOW_BYTES as u64) as usize;
            let bytes = self.bytes(at, count)?.unwrap_or_default();
            let found = bytes
                .windows(RECORD_MAGIC.len())
                .position(|four| four == RECORD_MAGIC);
            let Some(found) = found else {
                at += (count - RECORD_MAGIC.len() + 1) as u64;
                continue;
            };
            at += found as u64;
            if let Some(header) = self.header(at)?
                && header.sequence > sequence
                && header.synced >= sequence
                && header.synced < header.sequence
            {
                hashed += u64::from(header.head_bytes);
                if hashed > SEARCH_HASHED_BYTES_MAX || self.holds(at, &header)? {
                    return Ok(true);
                }
            }
            at += 1;
        }
        Ok(false)
    }

    /// Looks from `offset` on for a record newer than number `sequence` whose head part holds, and
    /// returns where it stands. Its payload may be cut off.
    pub(super) fn next_that_holds(
        &mut self,
        offset: u64,
        sequence: u64,
    ) -> Result<Option<(u64, Header)>, StoreError> {
        let mut at = offset;
        let mut hashed = 0;
        while at.saturating_add(HEADER_BYTES as u64) <= self.size {
            let count = (self.size - at).min(WINDOW_BYTES as u64) as usize;
            let bytes = self.bytes(at, count)?.unwrap_or_default();
            let found = bytes
                .windows(RECORD_MAGIC.len())
                .position(|four| four == RECORD_MAGIC);
            let Some(found) = found else {
                at += (count - RECORD_MAGIC.len() + 1) as u64;
                continue;
            };
            at += found as u64;
            let header = self.bytes(at, HEADER_BYTES)?;
            let header = header
                .and_then(|bytes| bytes.first_chunk())
                .and_then(Header::decode)
                .filter(|header| header.sequence > sequence);
            if let Some(header) = header {
                if self.holds(at, &header)? {
                    return Ok(Some((at, header)));
                }
                hashed += u64::from(header.head_bytes);
                if hashed > SALVAGE_HASHED_BYTES_MAX {
                    return Ok(None);
                }
            }
            at += 1;
        }
        Ok(None)
    }

    /// Returns the head part that holds at `offset`.
    pub(super) fn head(&mut self, offset: u64, header: &Header) -> Result<Vec<u8>, StoreError> {
        let head = self.bytes(offset, header.head_bytes as usize)?;
        Ok(head.unwrap_or_default().to_vec())
    }

    fn header(&mut self, offset: u64) -> Result<Option<Header>, StoreError> {
        let bytes = self.bytes(offset, HEADER_BYTES)?;
        let header = bytes
            .and_then(|bytes| bytes.first_chunk())
            .and_then(Header::decode);
        let size = self.size;
        // The whole record must fit the file before anything of its length is read.
        Ok(header.filter(|header| offset.saturating_add(header.record_bytes()) <= size))
    }

    fn holds(&mut self, offset: u64, header: &Header) -> Result<bool, StoreError> {
        let Ok(at) = u32::try_from(offset) else {
            return Ok(false);
        };
        let (place, checker) = (
            Place {
                segment: self.segment,
                offset: at,
            },
            self.checker,
        );
        let head = self.bytes(offset, header.head_bytes as usize)?;
        Ok(head.is_some_and(|head| checker.holds(place, head)))
    }

    /// Returns `count` bytes at `offset`, `None` when the file ends first.
    fn bytes(&mut self, offset: u64, count: usize) -> Result<Option<&[u8]>, StoreError> {
        if offset
            .checked_add(count as u64)
            .is_none_or(|end| end > self.size)
        {
            return Ok(None);
        }
        let inside = offset >= self.window_at
            && offset + count as u64 <= self.window_at + self.window.len() as u64;
        if !inside {
            let ahead = (self.size - offset).min(WINDOW_BYTES.max(count) as u64) as usize;
            self.window.resize(ahead, 0);
            self.window_at = offset;
            let read = self.file.read_at(offset, &mut self.window);
            let read =
                read.map_err(|error| StoreError::io("read_at", file_name(self.segment), error))?;
            self.window.truncate(read);
            if read < count {
                return Ok(None);
            }
        }
        let from = (offset - self.window_at) as usize;
        Ok(Some(&self.window[from..from + count]))
    }
}

/// Returns where the first record of a segment stands.
pub(super) const FIRST_RECORD: u64 = SEGMENT_HEADER_BYTES as u64;
