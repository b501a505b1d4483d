//! Giving the space of what is dead back: what lives in a sealed segment is written again at the
//! end of the log, then the segment goes.
//!
//! Record by record, under the writer lock of its feed: so nothing is cleared or cut off between
//! the look at what lives and the record that moves it. Readers go on; one that meets a segment
//! that is gone looks its place up again. The segment is unlinked only after everything that was
//! moved, a record that names it as emptied, and an index without it are durable.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::bitfield::Bitfield;
use crate::store::body::{Body, Filled};
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::feed::Feed;
use crate::store::gaps;
use crate::store::limits::{
    CLEARED_RANGES_MAX, COMPACT_ASKED_DEAD_ONE_IN, COMPACT_DEAD_ONE_IN, MOVED_BYTES,
};
use crate::store::log::{Commit, Ticket};
use crate::store::record::{Header, kind};
use crate::store::scan::{FIRST_RECORD, Scanned, Scanner};
use crate::store::state::FeedEntry;
use crate::store::store::{Inner, Store};

/// What compacting did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CompactReport {
    /// Segments that are gone.
    pub segments: u32,
    /// Bytes of log that were in them.
    pub bytes_before: u64,
    /// Bytes of log that what lived of them takes now.
    pub bytes_moved: u64,
    /// Segments left as they are although half of them is dead: they hold the cut of a plain feed
    /// that older segments need, or a record that this build does not know.
    pub kept: u32,
}

impl Store {
    /// Gives the space of dead blocks, nodes and feeds back: every segment of which an eighth or
    /// more is dead, emptiest first.
    ///
    /// Durable on return. Needs room for what lives of one segment. Appends, applies and reads go
    /// on meanwhile.
    ///
    /// # Errors
    ///
    /// Damage in a segment leaves it, and everything after it, as it is.
    pub fn compact(&self) -> Result<CompactReport, StoreError> {
        let inner = &self.inner;
        if inner.newest_is_dead(COMPACT_ASKED_DEAD_ONE_IN) {
            inner.log.seal()?;
        }
        let mut kept = BTreeSet::new();
        inner.compact(COMPACT_ASKED_DEAD_ONE_IN, &mut kept)
    }
}

/// How far compacting a segment has come.
struct Moving<'a> {
    inner: &'a Arc<Inner>,
    segment: u32,
    /// Nothing older exists: what only takes away is of no use any more.
    oldest: bool,
    /// The newest submission, and the bytes submitted since one was waited for.
    ticket: Option<Ticket>,
    bytes: u64,
    moved_bytes: u64,
}

impl Inner {
    /// Compacts segments that are at least half dead, but for those of `kept`; adds to these what
    /// has to stay or could not be read.
    pub(super) fn compact_if_due(self: &Arc<Self>, kept: &mut BTreeSet<u32>) {
        if self.log.stopped().is_some() {
            return;
        }
        if let Some(segment) = self.emptiest(COMPACT_DEAD_ONE_IN, kept)
            && let Err(StoreError::Damaged(_)) = self.compact(COMPACT_DEAD_ONE_IN, kept)
        {
            // Whoever reads or checks what is damaged is told of it.
            kept.insert(segment);
        }
    }

    /// Compacts every sealed segment of which one part in `one_in` or more is dead, but for those
    /// of `kept`; adds to these what has to stay.
    fn compact(
        self: &Arc<Self>,
        one_in: u64,
        kept: &mut BTreeSet<u32>,
    ) -> Result<CompactReport, StoreError> {
        let _one = self
            .compacting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut report = CompactReport::default();
        while let Some(segment) = self.emptiest(one_in, kept) {
            match self.compact_segment(segment, &mut report)? {
                true => report.segments += 1,
                false => {
                    kept.insert(segment);
                    report.kept += 1;
                }
            }
        }
        Ok(report)
    }

    fn newest_is_dead(&self, one_in: u64) -> bool {
        let place = self.log.tail().place;
        let known = self.segments.known();
        let dead = known.get(&place.segment).map_or(0, |info| info.dead_bytes);
        dead > 0 && dead.saturating_mul(one_in) >= u64::from(place.offset)
    }

    /// Returns the sealed segment with the largest dead share, if that is large enough; those in
    /// `kept` apart.
    fn emptiest(&self, one_in: u64, kept: &BTreeSet<u32>) -> Option<u32> {
        let newest = self.log.tail().place.segment;
        let known = self.segments.known();
        let worth = known.iter().filter(|(number, info)| {
            let dead = info.dead_bytes.saturating_mul(one_in);
            **number < newest && !kept.contains(number) && info.dead_bytes > 0 && dead >= info.bytes
        });
        worth
            .max_by_key(|(_, info)| info.dead_bytes.saturating_mul(1024) / info.bytes.max(1))
            .map(|(number, _)| *number)
    }

    /// Moves what lives out of a segment and removes it; `false` when it has to stay.
    fn compact_segment(
        self: &Arc<Self>,
        segment: u32,
        report: &mut CompactReport,
    ) -> Result<bool, StoreError> {
        let segments = &self.segments;
        let (oldest, info) = {
            let known = segments.known();
            let oldest = known.keys().next() == Some(&segment);
            (oldest, known.get(&segment).copied())
        };
        let Some(info) = info else { return Ok(false) };
        let mut moving = Moving {
            inner: self,
            segment,
            oldest,
            ticket: None,
            bytes: 0,
            moved_bytes: 0,
        };
        if !moving.move_all(info.first_sequence..info.end_sequence)? {
            return Ok(false);
        }
        moving.wait()?;
        let moved_bytes = moving.moved_bytes;
        self.note_emptied(segment)?;
        // From here on nothing that is opened looks for the segment: neither the index ...
        self.checkpoint_now()?;
        // ... nor the log.
        segments.remove(segment)?;
        report.bytes_before += info.bytes;
        report.bytes_moved += moved_bytes;
        Ok(true)
    }

    /// Writes down which segments were emptied, this one among them.
    fn note_emptied(self: &Arc<Self>, segment: u32) -> Result<(), StoreError> {
        let mut known = self.segments.known();
        known.remove(&segment);
        let gaps = gaps::between(&known);
        drop(known);
        let body = Body::Emptied { gaps };
        let ticket = self
            .log
            .submit(vec![self.commit(&body, 0, Box::new(|_| ()))])?;
        self.log.wait(&ticket)
    }
}

impl Moving<'_> {
    /// Goes through the records; `false` when one of them has to stay where it is.
    fn move_all(&mut self, sequences: Range<u64>) -> Result<bool, StoreError> {
        let file = self.inner.segments.file(self.segment)?;
        let mut scanner = Scanner::new(file, &self.inner.checker, self.segment)?;
        let mut offset = FIRST_RECORD;
        for sequence in sequences {
            let place = Place {
                segment: self.segment,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
            };
            let what = DamageKind::SyncedRecord;
            let (header, body) = match scanner.record(offset, sequence)? {
                Scanned::Record { header, body } => (header, body),
                Scanned::Unknown { .. } => return Ok(false),
                Scanned::End => return Err(Damage { place, what }.into()),
            };
            let Some(body) = body else {
                return Ok(false);
            };
            if !self.move_record(&mut scanner, place, &header, body)? {
                return Ok(false);
            }
            if self.bytes >= MOVED_BYTES {
                self.wait()?;
            }
            offset += header.record_bytes();
        }
        Ok(true)
    }

    fn move_record(
        &mut self,
        scanner: &mut Scanner<'_>,
        place: Place,
        header: &Header,
        body: Body,
    ) -> Result<bool, StoreError> {
        let entry = self.inner.feeds().by_number.get(&header.feed).cloned();
        match (body, entry) {
            (Body::Checkpoint { .. } | Body::Emptied { .. }, _) => {}
            // A feed that is gone: its number must never be taken for another's.
            (Body::Dropped, _) if !self.oldest => {
                self.submit(
                    self.inner
                        .commit(&Body::Dropped, header.feed, Box::new(|_| ())),
                )?;
            }
            (Body::Truncate { .. }, Some(_)) if !self.oldest => return Ok(false),
            (body, Some(entry)) => self.move_of_feed(scanner, place, header, body, &entry)?,
            (_, None) => {}
        }
        Ok(true)
    }

    fn move_of_feed(
        &mut self,
        scanner: &mut Scanner<'_>,
        place: Place,
        header: &Header,
        body: Body,
        entry: &Arc<FeedEntry>,
    ) -> Result<(), StoreError> {
        // Appends on their way to the disk are waited for; nothing is taken away until the record
        // that moves is queued.
        let mut writer = entry.writer();
        writer.settle(&self.inner.log)?;
        if writer.dropped {
            return Ok(());
        }
        match body {
            Body::Append(filled) => self.move_filled(scanner, place, header, filled, true, entry),
            Body::Fill(filled) | Body::Truncate { filled, .. } => {
                self.move_filled(scanner, place, header, filled, false, entry)
            }
            body @ Body::Feed { .. } if entry.read().feed_record == place => {
                let moved = entry.clone();
                let publish = Box::new(move |place| moved.write().feed_record = place);
                self.submit(self.inner.commit(&body, entry.number, publish))
            }
            body @ Body::Conflict { .. } if entry.read().conflict == Some(place) => {
                let moved = entry.clone();
                let publish = Box::new(move |place| moved.write().conflict = Some(place));
                self.submit(self.inner.commit(&body, entry.number, publish))
            }
            Body::Cleared { ranges } if !self.oldest => self.move_cleared(&ranges, entry),
            _ => Ok(()),
        }
    }

    /// Writes again what of an append or a fill is still looked for in it.
    fn move_filled(
        &mut self,
        scanner: &mut Scanner<'_>,
        place: Place,
        header: &Header,
        filled: Filled,
        append: bool,
        entry: &Arc<FeedEntry>,
    ) -> Result<(), StoreError> {
        let heads = &self.inner.heads;
        let mut nodes = Vec::with_capacity(filled.nodes.len());
        for node in &filled.nodes {
            let at = entry.find_node(node.index)?;
            if at.is_some_and(|at| at.record() == place) {
                nodes.push(*node);
            }
        }
        let mut blocks = Vec::with_capacity(filled.blocks.len());
        for block in &filled.blocks {
            let at = entry.find_block(heads, block.index)?;
            if at.is_some_and(|(extent, _)| extent.record == place) {
                blocks.push(*block);
            }
        }
        let is_head = entry.read().head_record == Some(place);
        if nodes.is_empty() && blocks.is_empty() && !is_head {
            return Ok(());
        }
        let offset = u64::from(place.offset);
        let payload = scanner.payload(offset, header)?.ok_or(Damage {
            place,
            what: DamageKind::Missing,
        })?;
        let payload = Bytes::from(payload);
        let values: Vec<Bytes> = blocks
            .iter()
            .map(|block| payload.slice(block.at as usize..(block.at + block.size) as usize))
            .collect();
        let whole =
            append && nodes.len() == filled.nodes.len() && blocks.len() == filled.blocks.len();
        let body = match whole {
            true => Body::Append(filled),
            false => {
                let mut at = 0;
                for block in &mut blocks {
                    block.at = at;
                    at += block.size;
                }
                let head = filled.head.filter(|_| is_head);
                Body::Fill(Filled {
                    nodes,
                    blocks,
                    head,
                })
            }
        };
        let feed = Feed {
            inner: self.inner.clone(),
            entry: entry.clone(),
        };
        let mut commit = feed.commit_blocks(&body, &values);
        commit.kind = match &body {
            Body::Append(_) => kind::MOVED_APPEND,
            _ => kind::MOVED_FILL,
        };
        let (entry, head_bytes) = (entry.clone(), commit.head_bytes);
        commit.publish = Box::new(move |place| entry.publish_moved(place, head_bytes, &body));
        self.submit(commit)
    }

    /// Says again what of `ranges` is not held: older segments still hold the blocks.
    fn move_cleared(
        &mut self,
        ranges: &[(u64, u64)],
        entry: &Arc<FeedEntry>,
    ) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        {
            let state = entry.read();
            for (start, length) in ranges {
                gone.extend(holes(&state.have, *start..start.saturating_add(*length)));
            }
        }
        for ranges in gone.chunks(CLEARED_RANGES_MAX) {
            let ranges = ranges.to_vec();
            let body = Body::Cleared { ranges };
            self.submit(self.inner.commit(&body, entry.number, Box::new(|_| ())))?;
        }
        Ok(())
    }

    fn submit(&mut self, commit: Commit) -> Result<(), StoreError> {
        let bytes = commit.record_bytes();
        self.ticket = Some(self.inner.log.submit(vec![commit])?);
        self.moved_bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    fn wait(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        match self.ticket.take() {
            Some(ticket) => self.inner.log.wait(&ticket),
            None => Ok(()),
        }
    }
}

/// Returns what of `range` is not held, as first and how many.
fn holes(have: &Bitfield, range: Range<u64>) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut at = range.start;
    for run in have.runs(range.clone()) {
        if run.start > at {
            holes.push((at, run.start - at));
        }
        at = run.end;
    }
    if at < range.end {
        holes.push((at, range.end - at));
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_held_is_listed_in_runs() {
        let mut have = Bitfield::new();
        have.set_range(3..5);
        have.set_range(9..12);
        assert_eq!(holes(&have, 0..20), [(0, 3), (5, 4), (12, 8)]);
        assert_eq!(holes(&have, 3..5), []);
        assert_eq!(holes(&have, 4..10), [(5, 4)]);
    }
}
