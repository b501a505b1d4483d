//! Giving blocks up: recorded and durable first, then their space goes back.

use std::ops::Range;

use crate::store::body::Body;
use crate::store::error::StoreError;
use crate::store::feed::Feed;
use crate::store::publish::Span;

/// What file systems give back: whole pages of 4 KiB.
const PAGE_BYTES: u64 = 4096;

impl Feed {
    /// Gives up the blocks of a range; durable on return. Their tree nodes stay.
    ///
    /// Whole pages are given back to the file system where it can take them.
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
        let end = (span.offset + span.bytes) / PAGE_BYTES * PAGE_BYTES;
        let start = span.offset.next_multiple_of(PAGE_BYTES);
        if start >= end {
            return Ok(());
        }
        let file = self.inner.heads.segments().file(span.segment)?;
        let name = || crate::store::segment::file_name(span.segment);
        file.punch_hole(start, end - start)
            .map(|_| ())
            .map_err(|error| StoreError::io("punch_hole", name(), error))
    }
}
