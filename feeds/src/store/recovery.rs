//! Replaying the log from the index's place to its end.
//!
//! The log ends at the first record that does not hold. If a record behind it says that it had been
//! synced, that is damage and an error; else it is what a crash left of the newest commit, which
//! nobody was told of, and it is cut off.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::manifest::{Manifest, Verifier};
use crate::store::body::{Body, Filled};
use crate::store::checkpoint::{ChangedFeeds, is_want_of_room};
use crate::store::error::{DamageKind, OpenError, Place, StoreError};
use crate::store::gaps::Ahead;
use crate::store::heads::Heads;
use crate::store::index::writer::IndexWriter;
use crate::store::log::Tail;
use crate::store::open::{OpenReport, TailDropped, damage, damaged};
use crate::store::publish::NewRun;
use crate::store::record::{Checker, Header, kind};
use crate::store::scan::{FIRST_RECORD, Scanned, Scanner};
use crate::store::segment::{SegmentHeader, Segments, file_name};
use crate::store::state::{FeedEntry, Kind, KnownManifest, Role};
use crate::store::store::Feeds;
use crate::tree::{Node, SignedHead};

/// A record that no later one has vouched for yet.
pub(super) struct Uncovered {
    place: Place,
    header: Header,
    body: Option<Body>,
}

/// The store as far as it was read.
pub(super) struct Recovery<'a> {
    pub(super) segments: &'a Segments,
    pub(super) checker: &'a Checker,
    pub(super) heads: &'a Heads,
    pub(super) found: &'a [SegmentHeader],
    pub(super) feeds: Feeds,
    pub(super) changed: &'a Arc<ChangedFeeds>,
    pub(super) writer: IndexWriter,
    /// Bytes of log whose places may be in memory.
    pub(super) keep_bytes: u64,
    pub(super) unwritten_bytes: u64,
    pub(super) uncovered: VecDeque<Uncovered>,
    /// What is said further on, where there are gaps and no index.
    pub(super) ahead: Option<Ahead>,
    /// Newest record known to have been durable.
    pub(super) known_synced: u64,
    pub(super) report: OpenReport,
    /// A mistake of a test.
    pub(super) serves_cleared: bool,
    /// Another.
    pub(super) believes_index: bool,
}

/// Where the scan starts.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) place: Place,
    pub(super) sequence: u64,
}

impl Recovery<'_> {
    /// Reads the log from `start`, makes its content visible, and cuts off what is torn; returns
    /// its end and the size of the last segment.
    pub(super) fn replay(&mut self, start: Start) -> Result<(Tail, u64), OpenError> {
        let mut place = start.place;
        let mut sequence = start.sequence;
        if let Some(ahead) = &self.ahead
            && !ahead.may_start_at(place.segment)
        {
            return Err(damage(0, DamageKind::SegmentMissing).into());
        }
        let mut rest = self.found.iter().skip(1);
        loop {
            let file = self.segments.file(place.segment)?;
            let mut scanner = Scanner::new(file, self.checker, place.segment)?;
            self.replay_segment(&mut scanner, &mut place, &mut sequence)?;
            let Some(next) = rest.next() else {
                return self.end(&mut scanner, place, sequence);
            };
            if let Some(info) = self.segments.known().get_mut(&place.segment) {
                info.bytes = u64::from(place.offset);
                info.end_sequence = sequence;
            }
            let expected = match (next.number - place.segment, &self.ahead) {
                (1, _) => next.first_sequence,
                (_, Some(ahead)) => ahead
                    .sequence_behind(place.segment, next.number)
                    .ok_or_else(|| damage(place.segment + 1, DamageKind::SegmentMissing))?,
                (_, None) => sequence,
            };
            if sequence != expected || next.first_sequence < sequence {
                return Err(damaged(place, DamageKind::SyncedRecord));
            }
            // Whatever was in a gap was durable too.
            sequence = next.first_sequence;
            self.cover(sequence - 1)?;
            place = Place {
                segment: next.number,
                offset: FIRST_RECORD as u32,
            };
        }
    }

    /// Puts heads together whose nodes were moved behind them.
    pub(super) fn close_gaps(&mut self) -> Result<(), OpenError> {
        let Some(ahead) = self.ahead.take() else {
            return Ok(());
        };
        for (number, record) in ahead.into_heads() {
            let Some(entry) = self.feeds.by_number.get(&number) else {
                continue;
            };
            let head = self.heads.get(record)?;
            if let Some((filled, stored)) = head.filled().and_then(|f| Some((f, f.head.as_ref()?)))
            {
                let signed = entry.signed_head(self.heads, record, filled, stored, u64::MAX)?;
                entry.write().set_head(Some(Arc::new(signed)), record);
            }
        }
        Ok(())
    }

    fn replay_segment(
        &mut self,
        scanner: &mut Scanner<'_>,
        place: &mut Place,
        sequence: &mut u64,
    ) -> Result<(), OpenError> {
        let from = place.offset;
        loop {
            match scanner.record(u64::from(place.offset), *sequence)? {
                Scanned::End => break,
                Scanned::Unknown { header } => {
                    let (kind, version) = (header.kind, header.version);
                    return Err(OpenError::UnknownRecord {
                        place: *place,
                        kind,
                        version,
                    });
                }
                Scanned::Record { header, body } => {
                    self.report.records_scanned += 1;
                    let bytes = u32::try_from(header.record_bytes())
                        .map_err(|_| damaged(*place, DamageKind::Head))?;
                    self.cover(header.synced)?;
                    self.uncovered.push_back(Uncovered {
                        place: *place,
                        header,
                        body,
                    });
                    *sequence += 1;
                    place.offset = place
                        .offset
                        .checked_add(bytes)
                        .ok_or(damaged(*place, DamageKind::Head))?;
                }
            }
        }
        self.report.bytes_scanned += u64::from(place.offset - from);
        Ok(())
    }

    /// Makes visible what is now known to have been durable.
    fn cover(&mut self, synced: u64) -> Result<(), OpenError> {
        self.known_synced = self.known_synced.max(synced);
        while let Some(record) = self.uncovered.pop_front_if(|r| r.header.sequence <= synced) {
            self.make_visible(record)?;
        }
        Ok(())
    }

    /// Decides about the end of the log, and prepares it for the next record.
    fn end(
        &mut self,
        scanner: &mut Scanner<'_>,
        mut place: Place,
        mut sequence: u64,
    ) -> Result<(Tail, u64), OpenError> {
        let mut torn = !scanner.is_zero_from(u64::from(place.offset))?;
        let covered = self.known_synced >= sequence
            || torn && scanner.is_covered_later(u64::from(place.offset), sequence)?;
        if covered {
            return Err(damaged(place, DamageKind::SyncedRecord));
        }
        // Of what was written since the last sync, payloads may be missing too.
        while let Some(record) = self.uncovered.pop_front() {
            if !self.payload_holds(scanner, &record)? {
                (place, sequence) = (record.place, record.header.sequence);
                torn = true;
                self.uncovered.clear();
                break;
            }
            self.make_visible(record)?;
        }
        let file = self.segments.file(place.segment)?;
        let mut size = scanner.size;
        if torn {
            self.report.tail_dropped = Some(TailDropped { place, sequence });
            let io = |operation: &'static str| {
                move |error| StoreError::io(operation, file_name(place.segment), error)
            };
            file.set_len(u64::from(place.offset))
                .map_err(io("set_len"))?;
            size = u64::from(place.offset);
        }
        if !self.report.created {
            // What was read may still be on its way to the disk, after a kill without a power cut.
            // It is told to nobody before it is durable.
            file.sync_data()
                .map_err(|error| StoreError::io("sync_data", file_name(place.segment), error))?;
        }
        let known = self.segments.known();
        let sealed = known.range(..place.segment).map(|(_, info)| info.bytes);
        let sealed_bytes = sealed.sum();
        drop(known);
        let tail = Tail {
            file,
            place,
            sequence,
            synced: sequence - 1,
            sealed_bytes,
            written: self.report.bytes_scanned,
        };
        Ok((tail, size))
    }

    /// Writes places out of memory when those of much log have gathered.
    fn keep_memory_bounded(&mut self, record: &Header) -> Result<(), StoreError> {
        self.unwritten_bytes += record.record_bytes();
        if self.unwritten_bytes < self.keep_bytes {
            return Ok(());
        }
        self.unwritten_bytes = 0;
        match self.feeds.write_places(self.changed, &mut self.writer) {
            // A store on a full disk opens; it takes more memory until there is room.
            Err(error) if is_want_of_room(&error) => Ok(()),
            written => written,
        }
    }

    fn make_visible(&mut self, record: Uncovered) -> Result<(), OpenError> {
        if self.believes_index {
            return Ok(());
        }
        self.keep_memory_bounded(&record.header)?;
        let (place, header) = (record.place, record.header);
        let body = match &record.body {
            None | Some(Body::Checkpoint { .. } | Body::Emptied { .. }) => return Ok(()),
            Some(body @ Body::Feed { .. }) => {
                let entry = self.feeds.by_number.get(&header.feed).cloned();
                return self.name_feed(entry.as_deref(), place, &header, body);
            }
            Some(body) => body.clone(),
        };
        let Some(entry) = self.entry_of(&record)? else {
            // Nothing is looked for in what is left of a feed that was dropped.
            return Ok(());
        };
        let head_bytes = header.head_bytes;
        match body {
            body if matches!(header.kind, kind::MOVED_APPEND | kind::MOVED_FILL) => {
                if let (Some(ahead), Body::Append(filled) | Body::Fill(filled)) =
                    (&mut self.ahead, &body)
                    && let Some(stored) = &filled.head
                {
                    ahead.note_head(entry.number, place, stored);
                }
                entry.publish_moved(place, head_bytes, &body);
            }
            Body::Append(filled) => {
                let signed = self.signed_head(&entry, place, &filled, u64::MAX)?;
                entry.publish_append(place, &NewRun::of(&filled, head_bytes), signed);
            }
            Body::Fill(filled) => {
                let signed = self.signed_head(&entry, place, &filled, u64::MAX)?;
                entry.publish_fill(place, head_bytes, &filled, signed);
            }
            Body::Cleared { .. } if self.serves_cleared => {}
            Body::Cleared { ranges } => {
                let freed = entry.freed(self.heads, &ranges)?;
                self.segments.add_freed(&freed);
                entry.publish_cleared(&ranges, freed.bytes);
            }
            Body::Truncate { length, filled } => {
                let freed = entry.freed_behind(self.heads, length)?;
                let signed = self.signed_head(&entry, place, &filled, length)?;
                self.segments.add_freed(&freed);
                entry.publish_truncated(place, length, &filled, signed, freed.bytes);
            }
            Body::Dropped => {
                for (segment, bytes) in entry.footprint(self.heads)? {
                    self.segments.add_dead(segment, bytes);
                }
                self.feeds.remove(header.feed);
                self.changed.add(header.feed);
            }
            Body::Conflict { .. } => entry.stop(place),
            Body::Feed { .. } | Body::Checkpoint { .. } | Body::Emptied { .. } => {}
        }
        Ok(())
    }

    /// Takes key, role and manifest of a feed from the record that names it.
    fn name_feed(
        &mut self,
        entry: Option<&FeedEntry>,
        place: Place,
        header: &Header,
        body: &Body,
    ) -> Result<(), OpenError> {
        let Body::Feed {
            key,
            role,
            kind,
            manifest,
        } = body
        else {
            return Ok(());
        };
        let no_manifest = |_| damaged(place, DamageKind::Manifest);
        let known = match manifest {
            None => None,
            Some(encoded) => {
                let manifest =
                    Manifest::decode(encoded).map_err(|_| damaged(place, DamageKind::Manifest))?;
                let verifier = Verifier::new(*key, &manifest).map_err(no_manifest)?;
                Some(KnownManifest { manifest, verifier })
            }
        };
        let (Some(role), Some(kind)) = (Role::from_code(*role), Kind::from_code(*kind)) else {
            let (kind, version) = (header.kind, header.version);
            return Err(OpenError::UnknownRecord {
                place,
                kind,
                version,
            });
        };
        match entry {
            Some(entry) => {
                let mut state = entry.write();
                state.role = role;
                state.manifest = known.map(Arc::new);
                state.feed_record = place;
            }
            None => {
                let (number, changed) = (header.feed, self.changed.clone());
                let entry = FeedEntry::new(number, *key, role, kind, known, place, changed);
                self.feeds.insert(Arc::new(entry));
            }
        }
        Ok(())
    }

    /// Returns the feed that a record is of; `None` for one that was dropped, whose first records
    /// are gone.
    fn entry_of(&mut self, record: &Uncovered) -> Result<Option<Arc<FeedEntry>>, OpenError> {
        let number = record.header.feed;
        if let Some(entry) = self.feeds.by_number.get(&number) {
            return Ok(Some(entry.clone()));
        }
        let lost = || damaged(record.place, DamageKind::Index);
        let ahead = self.ahead.as_mut().ok_or_else(lost)?;
        match ahead.feed(number) {
            Some((place, header, body)) => {
                self.name_feed(None, place, &header, &body)?;
                Ok(self.feeds.by_number.get(&number).cloned())
            }
            None if ahead.is_dropped(number) => {
                self.feeds.reserve(number);
                Ok(None)
            }
            None => Err(lost()),
        }
    }

    /// Puts the head together that a record carries; with gaps that waits until all nodes are known.
    fn signed_head(
        &mut self,
        entry: &FeedEntry,
        record: Place,
        filled: &Filled,
        kept: u64,
    ) -> Result<Option<Arc<SignedHead>>, StoreError> {
        let Some(stored) = &filled.head else {
            return Ok(None);
        };
        if let Some(ahead) = &mut self.ahead {
            ahead.note_head(entry.number, record, stored);
            return Ok(None);
        }
        let signed = entry.signed_head(self.heads, record, filled, stored, kept)?;
        Ok(Some(Arc::new(signed)))
    }

    /// Hashes the blocks of a record that may not have been synced.
    fn payload_holds(
        &self,
        scanner: &mut Scanner<'_>,
        record: &Uncovered,
    ) -> Result<bool, StoreError> {
        let (Some(Body::Append(filled)) | Some(Body::Fill(filled))) = &record.body else {
            return Ok(true);
        };
        let offset = u64::from(record.place.offset);
        let Some(payload) = scanner.payload(offset, &record.header)? else {
            return Ok(false);
        };
        for block in &filled.blocks {
            let (from, size) = (block.at as usize, block.size as usize);
            let Some(value) = payload.get(from..from + size) else {
                return Ok(false);
            };
            let holds = match block.crc {
                Some(crc) => crc32c::crc32c(value) == crc,
                None => self
                    .leaf(record.header.feed, filled, block.index)?
                    .is_none_or(|leaf| leaf == Node::leaf(block.index, value)),
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the leaf of a block: from its own record, or stored earlier with a neighbour.
    fn leaf(&self, feed: u32, filled: &Filled, block: u64) -> Result<Option<Node>, StoreError> {
        let here = filled.nodes.iter().find(|node| node.index == 2 * block);
        let entry = self.feeds.by_number.get(&feed);
        match (here, entry) {
            (Some(leaf), _) => Ok(Some(*leaf)),
            (None, None) => Ok(None),
            // Damage further back is for those to report who read it.
            (None, Some(entry)) => match entry.node(self.heads, 2 * block) {
                Err(StoreError::Damaged(_)) => Ok(None),
                leaf => leaf,
            },
        }
    }
}
