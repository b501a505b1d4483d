//! Opening: the index as it was written out last, then the log from there to its end.
//!
//! The log ends at the first record that does not hold. If a record behind it says that it had been
//! synced, that is damage and an error; else it is what a crash left of the newest commit, which
//! nobody was told of, and it is cut off.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::manifest::{Manifest, Verifier};
use crate::store::body::{Body, Filled};
use crate::store::disk::{Disk, DiskLock, LockError, read_exact_at};
use crate::store::error::{Damage, DamageKind, OpenError, Place, StoreError};
use crate::store::heads::Heads;
use crate::store::index_file::{self, Anchor, Found};
use crate::store::limits::SEGMENT_BYTES_MAX;
use crate::store::log::{Log, SyncMistakes, Tail, create_segment};
use crate::store::mistake::Mistake;
use crate::store::options::Options;
use crate::store::publish::NewRun;
use crate::store::record::{Checker, Header};
use crate::store::room::Room;
use crate::store::scan::{FIRST_RECORD, Scanned, Scanner};
use crate::store::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, Segments, file_name, number_of};
use crate::store::state::{FeedEntry, Kind, KnownManifest, Role};
use crate::store::store::{Checkpoint, Feeds};
use crate::tree::{Node, SignedHead};

/// What opening found and did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenReport {
    /// The store did not exist.
    pub created: bool,
    /// The index was missing or damaged and was made anew from the log.
    pub index_rebuilt: bool,
    /// Records read from the log.
    pub records_scanned: u64,
    /// Bytes of log from the index's place to the end.
    pub bytes_scanned: u64,
    /// What a crash, or a refused write, left of the newest commit. It was never acknowledged.
    pub tail_dropped: Option<TailDropped>,
}

/// A newest commit that was cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TailDropped {
    /// Where it stood.
    pub place: Place,
    /// Number of the first record cut off.
    pub sequence: u64,
}

/// A store, ready to use.
pub(super) struct Opened {
    pub(super) checker: Checker,
    pub(super) segments: Arc<Segments>,
    pub(super) heads: Heads,
    pub(super) log: Log,
    pub(super) feeds: Feeds,
    pub(super) report: OpenReport,
    pub(super) checkpoint: Checkpoint,
    pub(super) lock: Box<dyn DiskLock>,
}

pub(super) fn open(disk: Arc<dyn Disk>, options: &Options) -> Result<Opened, OpenError> {
    let taken = match options.makes(Mistake::WrongLock) {
        true => disk.try_lock_shared(),
        false => disk.try_lock(),
    };
    let lock = taken.map_err(|error| match error {
        LockError::Held { pid } => OpenError::Locked { pid },
        LockError::Io(error) => StoreError::io("try_lock", "lock", error).into(),
    })?;
    let segments = Arc::new(Segments::new(disk));
    let mut report = OpenReport::default();
    let mut found = find_segments(&segments)?;
    if found.is_empty() {
        let checker = Checker::new(options.store_id_if_new);
        create_segment(&segments, &checker, 0, 1)?;
        found.push(SegmentHeader {
            number: 0,
            store_id: options.store_id_if_new,
            first_sequence: 1,
        });
        report.created = true;
    }
    let checker = Checker::new(found[0].store_id);
    let heads = Heads::new(
        segments.clone(),
        checker.clone(),
        options.head_cache_bytes,
        options.verifies(),
    );
    let mut recovery = Recovery {
        segments: &segments,
        checker: &checker,
        heads: &heads,
        found: &found,
        feeds: Feeds::default(),
        uncovered: VecDeque::new(),
        known_synced: 0,
        report,
        serves_cleared: options.makes(Mistake::ClearedRangeServed),
    };
    let (start, checkpoint) = recovery.load_index()?;
    let (tail, size) = recovery.replay(start)?;
    let Recovery { feeds, report, .. } = recovery;
    let segment_bytes = options.segment_bytes.min(SEGMENT_BYTES_MAX);
    let room = Room::new(
        segments.disk().clone(),
        (segment_bytes, options.grow_bytes),
        tail.file.clone(),
        (tail.place.segment, size),
        options.grow_ahead,
    );
    let log = Log::new(
        segments.clone(),
        checker.clone(),
        segment_bytes,
        room,
        tail,
        SyncMistakes::of(options),
    );
    Ok(Opened {
        checker,
        segments,
        heads,
        log,
        feeds,
        report,
        checkpoint,
        lock,
    })
}

/// Lists the segments with their headers, in order.
///
/// A last one without a header is one whose making was cut off: it is not listed, and made anew.
fn find_segments(segments: &Segments) -> Result<Vec<SegmentHeader>, StoreError> {
    let names = segments
        .disk()
        .list()
        .map_err(|error| StoreError::io("list", "folder", error))?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let damaged = |segment, what| {
        StoreError::from(Damage {
            place: Place { segment, offset: 0 },
            what,
        })
    };
    let mut found: Vec<SegmentHeader> = Vec::new();
    for (expected, number) in (0..).zip(&numbers) {
        if *number != expected {
            return Err(damaged(expected, DamageKind::SegmentMissing));
        }
        let file = segments.file(*number)?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let read = match read_exact_at(&*file, 0, &mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(StoreError::io("read_at", file_name(*number), error)),
            Ok(()) => SegmentHeader::decode(*number, &bytes),
        };
        let same_store = |header: &SegmentHeader| {
            found
                .first()
                .is_none_or(|first| first.store_id == header.store_id)
        };
        match read.filter(same_store) {
            Some(header) => found.push(header),
            None if *number as usize + 1 == numbers.len() && is_unborn(segments, *number)? => {}
            None => return Err(damaged(*number, DamageKind::SegmentHeader)),
        }
    }
    if found.is_empty() && names.iter().any(|name| name == index_file::FILE) {
        // There was a log: a new one here would hide that it is gone.
        return Err(damaged(0, DamageKind::SegmentMissing));
    }
    Ok(found)
}

/// Returns whether a segment was never finished being made: nothing stands behind its header.
fn is_unborn(segments: &Segments, number: u32) -> Result<bool, StoreError> {
    let file = segments.file(number)?;
    let size = file
        .size()
        .map_err(|error| StoreError::io("size", file_name(number), error))?;
    Ok(size <= SEGMENT_HEADER_BYTES as u64)
}

/// A record that no later one has vouched for yet.
struct Uncovered {
    place: Place,
    header: Header,
    body: Option<Body>,
}

struct Recovery<'a> {
    segments: &'a Segments,
    checker: &'a Checker,
    heads: &'a Heads,
    found: &'a [SegmentHeader],
    feeds: Feeds,
    uncovered: VecDeque<Uncovered>,
    /// Newest record known to have been durable.
    known_synced: u64,
    report: OpenReport,
    /// A mistake of a test.
    serves_cleared: bool,
}

/// Where the scan starts.
#[derive(Clone, Copy)]
struct Start {
    place: Place,
    sequence: u64,
}

impl Recovery<'_> {
    fn load_index(&mut self) -> Result<(Start, Checkpoint), OpenError> {
        let first = self.found[0];
        let mut start = Start {
            place: Place {
                segment: 0,
                offset: FIRST_RECORD as u32,
            },
            sequence: first.first_sequence,
        };
        let mut checkpoint = Checkpoint::default();
        match index_file::read(&**self.segments.disk(), self.checker)? {
            Found::Index(loaded) => match self.behind(&loaded.anchor)? {
                Some(behind) => {
                    start = behind;
                    self.known_synced = loaded.anchor.sequence;
                    checkpoint = Checkpoint {
                        place: Some(loaded.anchor.place),
                        sequence: loaded.anchor.sequence,
                        index_bytes: loaded.bytes,
                    };
                    self.feeds.reserve(loaded.anchor.last_number);
                    for entry in loaded.entries {
                        self.feeds.insert(Arc::new(entry));
                    }
                }
                None => {
                    // The index is sound and the log is not what it was written from.
                    let damage = Damage {
                        place: loaded.anchor.place,
                        what: DamageKind::SyncedRecord,
                    };
                    return Err(StoreError::from(damage).into());
                }
            },
            Found::Unusable => self.report.index_rebuilt = true,
            Found::Nothing => self.report.index_rebuilt = !self.report.created,
        }
        Ok((start, checkpoint))
    }

    /// Returns the place behind the checkpoint record that an index stands at.
    fn behind(&self, anchor: &Anchor) -> Result<Option<Start>, StoreError> {
        if anchor.place.segment as usize >= self.found.len() {
            return Ok(None);
        }
        match self.heads.read(anchor.place) {
            Ok(head) if head.header.sequence == anchor.sequence => {
                let bytes = head.header.head_bytes + head.header.payload_bytes;
                let offset = anchor.place.offset + bytes;
                let place = Place {
                    segment: anchor.place.segment,
                    offset,
                };
                Ok(Some(Start {
                    place,
                    sequence: anchor.sequence + 1,
                }))
            }
            Ok(_) | Err(StoreError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the log from `start`, makes its content visible, and cuts off what is torn; returns
    /// its end and the size of the last segment.
    fn replay(&mut self, start: Start) -> Result<(Tail, u64), OpenError> {
        let mut place = start.place;
        let mut sequence = start.sequence;
        let last = self.found.len() as u32 - 1;
        loop {
            let file = self.segments.file(place.segment)?;
            let mut scanner = Scanner::new(file, self.checker, place.segment)?;
            self.replay_segment(&mut scanner, &mut place, &mut sequence)?;
            if place.segment == last {
                return self.end(&mut scanner, place, sequence);
            }
            let next = self.found[place.segment as usize + 1];
            if next.first_sequence != sequence {
                return Err(damaged(place, DamageKind::SyncedRecord));
            }
            self.cover(sequence - 1)?;
            place = Place {
                segment: next.number,
                offset: FIRST_RECORD as u32,
            };
        }
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
        let sealed_bytes = self.sealed_bytes(place.segment)?;
        let tail = Tail {
            file,
            place,
            sequence,
            synced: sequence - 1,
            sealed_bytes,
            since_checkpoint: self.report.bytes_scanned,
        };
        Ok((tail, size))
    }

    fn sealed_bytes(&self, last: u32) -> Result<u64, StoreError> {
        (0..last)
            .map(|segment| {
                let file = self.segments.file(segment)?;
                file.size()
                    .map_err(|error| StoreError::io("size", file_name(segment), error))
            })
            .sum()
    }

    fn make_visible(&mut self, record: Uncovered) -> Result<(), OpenError> {
        let Uncovered {
            place,
            header,
            body,
        } = record;
        let head_bytes = header.head_bytes;
        let entry = self.feeds.by_number.get(&header.feed).cloned();
        let body = match body {
            None | Some(Body::Checkpoint { .. }) => return Ok(()),
            Some(Body::Feed {
                key,
                role,
                kind,
                manifest,
            }) => {
                let known = match manifest {
                    None => None,
                    Some(encoded) => {
                        let manifest = Manifest::decode(&encoded)
                            .map_err(|_| damaged(place, DamageKind::Manifest))?;
                        let verifier = Verifier::new(key, &manifest)
                            .map_err(|_| damaged(place, DamageKind::Manifest))?;
                        Some(KnownManifest { manifest, verifier })
                    }
                };
                let (Some(role), Some(kind)) = (Role::from_code(role), Kind::from_code(kind))
                else {
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
                        let number = header.feed;
                        let entry = FeedEntry::new(number, key, role, kind, known, place);
                        self.feeds.insert(Arc::new(entry));
                    }
                }
                return Ok(());
            }
            Some(body) => body,
        };
        let entry = entry.ok_or_else(|| damaged(place, DamageKind::Index))?;
        match body {
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
                entry.publish_cleared(&ranges, freed.bytes);
            }
            Body::Truncate { length, filled } => {
                let freed = entry.freed_behind(self.heads, length)?;
                let signed = self.signed_head(&entry, place, &filled, length)?;
                if let Some(signed) = signed {
                    entry.publish_truncated(place, length, &filled, signed, freed);
                }
            }
            Body::Dropped => self.feeds.remove(header.feed),
            Body::Conflict { .. } => entry.stop(place),
            Body::Feed { .. } | Body::Checkpoint { .. } => {}
        }
        Ok(())
    }

    fn signed_head(
        &self,
        entry: &FeedEntry,
        record: Place,
        filled: &Filled,
        kept: u64,
    ) -> Result<Option<Arc<SignedHead>>, StoreError> {
        let stored = filled.head.as_ref();
        stored
            .map(|stored| entry.signed_head(self.heads, record, filled, stored, kept))
            .transpose()
            .map(|signed| signed.map(Arc::new))
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

fn damaged(place: Place, what: DamageKind) -> OpenError {
    StoreError::from(Damage { place, what }).into()
}
