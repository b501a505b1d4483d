//! Giving blocks up: recorded and durable first, then their space goes back.

use std::ops::Range;

use crate::store::body::Body;
use crate::store::error::StoreError;
use crate::store::feed::Feed;
use crate::store::publish::Span;

/// Zeros written at once where a file system gives nothing back.
const ZEROS_BYTES: usize = 64 * 1024;

impl Feed {
    /// Gives up the blocks of a range; durable on return. Their tree nodes stay.
    ///
    /// Their bytes are zeros on the disk then: whole pages are given back to the file system where it
    /// takes them, the rest is overwritten.
    pub fn clear(&self, blocks: Range<u64>) -> Result<(), StoreError> {
        let mut writer = self.live_writer()?;
        writer.settle(&self.inner.log)?;
        let end = blocks.end.min(self.entry.head().length);
        if blocks.start >= end {
            return Ok(());
        }
        let ranges = vec![(blocks.start, end - blocks.start)];
        let body = Body::Cleared {
            ranges: ranges.clone(),
        };
        let freed = self.entry.freed(&self.inner.heads, &ranges)?;
        let (entry, bytes) = (self.entry.clone(), freed.bytes);
        let publish = Box::new(move |_| entry.publish_cleared(&ranges, bytes));
        let commit = self.inner.commit(&body, self.entry.number, publish);
        let ticket = self.inner.log.submit(vec![commit])?;
        self.inner.log.wait(&ticket)?;
        drop(writer);
        self.inner.segments.add_freed(&freed);
        freed.spans.iter().try_for_each(|span| self.punch(*span))
    }

    fn punch(&self, span: Span) -> Result<(), StoreError> {
        // An empty block has nothing to give back, and a file system refuses an empty hole.
        if span.bytes == 0 {
            return Ok(());
        }
        let file = self.inner.heads.segments().file(span.segment)?;
        let name = || crate::store::segment::file_name(span.segment);
        // A hole of any bounds: what is no whole page of it is overwritten by the file system.
        let punched = file
            .punch_hole(span.offset, span.bytes)
            .map_err(|error| StoreError::io("punch_hole", name(), error))?;
        if punched {
            return Ok(());
        }
        let zeros = [0; ZEROS_BYTES];
        let end = span.offset + span.bytes;
        for offset in (span.offset..end).step_by(ZEROS_BYTES) {
            let piece = &zeros[..(end - offset).min(ZEROS_BYTES as u64) as usize];
            file.write_at(offset, piece)
                .map_err(|error| StoreError::io("write", name(), error))?;
        }
        Ok(())
    }
}
