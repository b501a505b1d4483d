//! The log of a damaged store, read past its damage.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::body::{Body, StoredBlock};
use crate::store::disk::{Disk, DiskFile, read_exact_at};
use crate::store::error::{Place, StoreError};
use crate::store::record::{CHECK_BYTES, Checker, HEADER_BYTES, Header, kind};
use crate::store::repair::report::{Gap, RepairError};
use crate::store::scan::{FIRST_RECORD, Scanner};
use crate::store::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, file_name, number_of};

/// A log that may be damaged anywhere.
#[derive(Debug)]
pub(super) struct OldLog {
    disk: Arc<dyn Disk>,
    checker: Checker,
    /// Segment files by number; what their header says, if it holds.
    segments: BTreeMap<u32, Option<SegmentHeader>>,
}

/// A record that holds.
pub(super) struct Survivor<'a> {
    pub(super) place: Place,
    pub(super) header: Header,
    /// Header, body and check.
    pub(super) head: &'a [u8],
    file: &'a dyn DiskFile,
}

impl Survivor<'_> {
    /// Reads a block of the record; `None` when the file ends first.
    pub(super) fn block(&self, block: &StoredBlock) -> Result<Option<Bytes>, StoreError> {
        let start = u64::from(self.place.offset) + u64::from(self.header.head_bytes);
        let mut value = vec![0; block.size as usize];
        match read_exact_at(self.file, start + u64::from(block.at), &mut value) {
            Ok(()) => Ok(Some(value.into())),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => {
                let name = file_name(self.place.segment);
                Err(StoreError::io("read_at", name, error))
            }
        }
    }
}

impl OldLog {
    /// Finds the segments and the store's id, which the first header that holds tells.
    pub(super) fn find(disk: Arc<dyn Disk>) -> Result<OldLog, RepairError> {
        let names = disk
            .list()
            .map_err(|error| StoreError::io("list", "folder", error))?;
        let mut segments = BTreeMap::new();
        for number in names.iter().filter_map(|name| number_of(name)) {
            let name = file_name(number);
            let file = disk
                .open(&name, false)
                .map_err(|error| StoreError::io("open", &*name, error))?;
            let mut bytes = [0; SEGMENT_HEADER_BYTES];
            let header = match read_exact_at(&*file, 0, &mut bytes) {
                Ok(()) => SegmentHeader::decode(number, &bytes),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                Err(error) => return Err(StoreError::io("read_at", name, error).into()),
            };
            segments.insert(number, header);
        }
        let first = segments.values().flatten().next();
        let checker = Checker::new(first.ok_or(RepairError::NoStore)?.store_id);
        Ok(OldLog {
            disk,
            checker,
            segments,
        })
    }

    /// Shows every record that holds, in order; returns what lies between them.
    pub(super) fn walk(
        &self,
        each: &mut dyn FnMut(&Survivor<'_>) -> Result<(), RepairError>,
    ) -> Result<Vec<Gap>, RepairError> {
        let mut walk = Walk {
            gaps: Vec::new(),
            emptied: Vec::new(),
            sequence: 0,
        };
        let mut expected = 0;
        for (number, header) in &self.segments {
            for missing in expected..*number {
                walk.gap(missing, 0, 0);
            }
            expected = number + 1;
            if header.is_none() {
                walk.gap(*number, 0, SEGMENT_HEADER_BYTES as u64);
            }
            let name = file_name(*number);
            let file = self
                .disk
                .open(&name, false)
                .map_err(|error| StoreError::io("open", name, error))?;
            walk.segment(*number, &file, &self.checker, each)?;
        }
        Ok(walk.unexplained())
    }
}

struct Walk {
    gaps: Vec<Gap>,
    /// Segments that compaction has taken out, as the newest record about it lists them.
    emptied: Vec<Range<u32>>,
    /// Of the newest record that holds.
    sequence: u64,
}

impl Walk {
    fn gap(&mut self, segment: u32, offset: u32, bytes: u64) {
        let place = Place { segment, offset };
        self.gaps.push(Gap {
            place,
            bytes,
            records: None,
        });
    }

    /// Returns the gaps that compaction did not leave.
    fn unexplained(self) -> Vec<Gap> {
        let Walk {
            mut gaps, emptied, ..
        } = self;
        gaps.retain(|gap| {
            let Place { segment, offset } = gap.place;
            let taken_out = offset == 0 && emptied.iter().any(|range| range.contains(&segment));
            let behind = gap.bytes == 0
                && u64::from(offset) == FIRST_RECORD
                && emptied.iter().any(|range| range.end == segment);
            !taken_out && !behind
        });
        gaps
    }

    fn note_emptied(&mut self, header: &Header, head: &[u8]) {
        let body = head.get(HEADER_BYTES..head.len().saturating_sub(CHECK_BYTES));
        let Some(body) = body.filter(|_| header.kind == kind::EMPTIED) else {
            return;
        };
        if let Ok(Some(Body::Emptied { gaps })) = Body::decode(header.kind, body, 0) {
            let ranges = gaps
                .iter()
                .map(|gap| gap.first..gap.first.saturating_add(gap.count));
            self.emptied = ranges.collect();
        }
    }

    fn segment(
        &mut self,
        number: u32,
        file: &Arc<dyn DiskFile>,
        checker: &Checker,
        each: &mut dyn FnMut(&Survivor<'_>) -> Result<(), RepairError>,
    ) -> Result<(), RepairError> {
        let mut scanner = Scanner::new(file.clone(), checker, number)?;
        let mut at = FIRST_RECORD;
        loop {
            let Some((found, header)) = scanner.next_that_holds(at, self.sequence)? else {
                let rest = scanner.size.saturating_sub(at);
                if rest > 0 && !scanner.is_zero_from(at)? {
                    self.gap(number, offset_of(at), rest);
                }
                return Ok(());
            };
            if found > at {
                self.gap(number, offset_of(at), found - at);
            }
            let missing = header.sequence - self.sequence - 1;
            if missing > 0 {
                if found == at {
                    // What is gone ended with the segment before, or is a segment.
                    self.gap(number, offset_of(at), 0);
                }
                let last = self.gaps.last_mut().expect("a gap was noted just above");
                last.records = Some(missing);
            }
            self.sequence = header.sequence;
            let head = scanner.head(found, &header)?;
            self.note_emptied(&header, &head);
            let place = Place {
                segment: number,
                offset: offset_of(found),
            };
            each(&Survivor {
                place,
                header,
                head: &head,
                file: &**file,
            })?;
            at = found + header.record_bytes();
        }
    }
}

/// Segments are far below 4 GiB; a file that is not is read to there.
fn offset_of(at: u64) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
