//! A log written anew: records with new places and numbers, synced a segment at a time.

use std::sync::Arc;

use crate::store::disk::{Disk, DiskFile};
use crate::store::error::{Place, StoreError};
use crate::store::limits::{REPAIR_WRITE_BYTES, SEGMENT_BYTES_MAX};
use crate::store::options::Options;
use crate::store::record::{Checker, Header, RECORD_VERSION};
use crate::store::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, file_name};

/// The writing end.
#[derive(Debug)]
pub(super) struct NewLog {
    disk: Arc<dyn Disk>,
    checker: Checker,
    segment_bytes: u64,
    file: Arc<dyn DiskFile>,
    /// Place of the next record.
    place: Place,
    sequence: u64,
    synced: u64,
    /// Written behind the file's `from`.
    out: Vec<u8>,
    from: u64,
}

impl NewLog {
    pub(super) fn create(disk: Arc<dyn Disk>, options: &Options) -> Result<NewLog, StoreError> {
        let checker = Checker::new(options.store_id_if_new);
        let file = segment(&disk, &checker, 0, 1)?;
        Ok(NewLog {
            disk,
            checker,
            segment_bytes: options.segment_bytes.min(SEGMENT_BYTES_MAX),
            file,
            place: Place {
                segment: 0,
                offset: SEGMENT_HEADER_BYTES as u32,
            },
            sequence: 1,
            synced: 0,
            out: Vec::new(),
            from: SEGMENT_HEADER_BYTES as u64,
        })
    }

    /// Writes a record: `head` has room for the header in front and the check behind.
    pub(super) fn push(
        &mut self,
        kind: u8,
        flags: u16,
        feed: u32,
        mut head: Vec<u8>,
        payload: &[u8],
    ) -> Result<(), StoreError> {
        if u64::from(self.place.offset) >= self.segment_bytes {
            self.finish()?;
            let number = self.place.segment + 1;
            self.file = segment(&self.disk, &self.checker, number, self.sequence)?;
            self.place = Place {
                segment: number,
                offset: SEGMENT_HEADER_BYTES as u32,
            };
            self.from = SEGMENT_HEADER_BYTES as u64;
        }
        let header = Header {
            version: RECORD_VERSION,
            kind,
            flags,
            head_bytes: head.len() as u32,
            payload_bytes: payload.len() as u32,
            sequence: self.sequence,
            synced: self.synced,
            feed,
        };
        header.encode(&mut head);
        self.checker.seal(self.place, &mut head);
        self.out.extend_from_slice(&head);
        self.out.extend_from_slice(payload);
        self.place.offset += (head.len() + payload.len()) as u32;
        self.sequence += 1;
        if self.out.len() >= REPAIR_WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.file
            .sync_data()
            .map_err(|error| StoreError::io("sync_data", file_name(self.place.segment), error))?;
        self.synced = self.sequence - 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.file
            .write_at(self.from, &self.out)
            .map_err(|error| StoreError::io("write_at", file_name(self.place.segment), error))?;
        self.from += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }
}

/// Makes a segment with its header, durable with its name.
fn segment(
    disk: &Arc<dyn Disk>,
    checker: &Checker,
    number: u32,
    first_sequence: u64,
) -> Result<Arc<dyn DiskFile>, StoreError> {
    let name = file_name(number);
    let io = |operation: &'static str| {
        let name = name.clone();
        move |error| StoreError::io(operation, name, error)
    };
    let file = disk.open(&name, true).map_err(io("open"))?;
    let header = SegmentHeader {
        number,
        store_id: *checker.store_id(),
        first_sequence,
    };
    file.write_at(0, &header.encode()).map_err(io("write_at"))?;
    file.sync_data().map_err(io("sync_data"))?;
    disk.sync_dir().map_err(io("sync_dir"))?;
    Ok(file)
}
