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
use crate::store::checkpoint::{ChangedFeeds, Checkpoints, is_want_of_room};
use crate::store::disk::{Disk, DiskLock, LockError, read_exact_at};
use crate::store::error::{Damage, DamageKind, OpenError, Place, StoreError};
use crate::store::gaps::Ahead;
use crate::store::heads::Heads;
use crate::store::index::file::FILE;
use crate::store::index::writer::{self, Found, IndexWriter, Loaded};
use crate::store::limits::SEGMENT_BYTES_MAX;
use crate::store::log::{Log, SyncMistakes, Tail, create_segment};
use crate::store::mistake::Mistake;
use crate::store::options::Options;
use crate::store::publish::NewRun;
use crate::store::record::{Checker, Header, kind};
use crate::store::room::Room;
use crate::store::scan::{FIRST_RECORD, Scanned, Scanner};
use crate::store::segment::{
    SEGMENT_HEADER_BYTES, SegmentHeader, SegmentInfo, Segments, file_name, number_of,
};
use crate::store::state::{FeedEntry, Kind, KnownManifest, Role, StoredRow};
use crate::store::store::Feeds;
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
    pub(super) changed: Arc<ChangedFeeds>,
    pub(super) checkpoints: Checkpoints,
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
    let segments = Arc::new(Segments::new(disk.clone()));
    let numbers = segment_numbers(&segments)?;
    let changed = Arc::new(ChangedFeeds::default());
    let mut report = OpenReport::default();
    let heads = |checker: &Checker| {
        let (segments, checker) = (segments.clone(), checker.clone());
        Heads::new(
            segments,
            checker,
            options.head_cache_bytes,
            options.verifies(),
        )
    };
    let from_index = match writer::load(&disk, options.index_cache_bytes)? {
        Found::Index(loaded) => {
            let checker = Checker::new(loaded.store_id);
            start_at_index(&segments, &numbers, loaded, &heads(&checker))?
        }
        Found::Unusable => None,
        Found::Nothing => {
            report.created = numbers.is_empty();
            None
        }
    };
    report.index_rebuilt = from_index.is_none() && !report.created;
    let (found, start, loaded) = match from_index {
        Some((found, start, loaded)) => (found, start, Some(loaded)),
        None => {
            let found = all_segments(&segments, &numbers, options, &mut report)?;
            let place = Place {
                segment: found[0].number,
                offset: FIRST_RECORD as u32,
            };
            let sequence = found[0].first_sequence;
            (found, Start { place, sequence }, None)
        }
    };
    let checker = Checker::new(found[0].store_id);
    let heads = heads(&checker);
    let ahead = match loaded.is_none() && has_gaps(&numbers) {
        true => Some(Ahead::gather(&segments, &checker, &found)?),
        false => None,
    };
    if loaded.is_some() && !options.read_only {
        remove_leftovers(&segments, &numbers, found[0].number)?;
    }
    let mut feeds = Feeds::default();
    let (writer, anchor) = match loaded {
        None => {
            let cache_bytes = options.index_cache_bytes;
            let writer = IndexWriter::new(disk, *checker.store_id(), cache_bytes);
            (writer, None)
        }
        Some(mut loaded) => {
            feeds.reserve(loaded.root.last_number);
            for (row, bytes) in std::mem::take(&mut loaded.rows) {
                let file = loaded.file.clone();
                let stored = StoredRow { row: bytes, file };
                let entry = FeedEntry::stored(&row, stored, changed.clone());
                feeds.insert(Arc::new(entry));
            }
            let anchor = loaded.root.anchor;
            (loaded.into_writer(), Some(anchor))
        }
    };
    let mut recovery = Recovery {
        segments: &segments,
        checker: &checker,
        heads: &heads,
        found: &found,
        feeds,
        changed: &changed,
        writer,
        keep_bytes: options.rebuild_bytes,
        unwritten_bytes: 0,
        uncovered: VecDeque::new(),
        ahead,
        known_synced: anchor.map_or(0, |anchor| anchor.sequence),
        report,
        serves_cleared: options.makes(Mistake::ClearedRangeServed),
        believes_index: anchor.is_some() && options.makes(Mistake::StaleIndexBelieved),
    };
    let (tail, size) = recovery.replay(start)?;
    recovery.close_gaps()?;
    let Recovery {
        feeds,
        writer,
        report,
        ..
    } = recovery;
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
        changed,
        checkpoints: Checkpoints {
            last: anchor,
            writer,
        },
        lock,
    })
}

fn damage(segment: u32, what: DamageKind) -> StoreError {
    Damage {
        place: Place { segment, offset: 0 },
        what,
    }
    .into()
}

/// Returns the numbers of all segments, ascending.
fn segment_numbers(segments: &Segments) -> Result<Vec<u32>, StoreError> {
    let names = segments
        .disk()
        .list()
        .map_err(|error| StoreError::io("list", "folder", error))?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() && names.iter().any(|name| name == FILE) {
        // There was a log: a new one here would hide that it is gone.
        return Err(damage(0, DamageKind::SegmentMissing));
    }
    Ok(numbers)
}

/// Lists all segments with their headers; makes the first one when there is none.
fn all_segments(
    segments: &Segments,
    numbers: &[u32],
    options: &Options,
    report: &mut OpenReport,
) -> Result<Vec<SegmentHeader>, StoreError> {
    let found = read_headers(segments, numbers, None)?;
    if !found.is_empty() {
        return Ok(found);
    }
    let store_id = options.store_id_if_new;
    create_segment(segments, &Checker::new(store_id), 0, 1)?;
    report.created = true;
    report.index_rebuilt = false;
    Ok(vec![SegmentHeader {
        number: 0,
        store_id,
        first_sequence: 1,
    }])
}

/// Returns whether compaction has taken segments out.
fn has_gaps(numbers: &[u32]) -> bool {
    (0..)
        .zip(numbers)
        .any(|(expected, number)| expected != *number)
}

/// Unlinks segments before `first` that the index does not list: they were emptied right before a
/// crash.
fn remove_leftovers(segments: &Segments, numbers: &[u32], first: u32) -> Result<(), StoreError> {
    let known = segments.known().clone();
    let is_leftover = |number: &u32| *number < first && !known.contains_key(number);
    for number in numbers.iter().copied().filter(is_leftover) {
        segments.remove(number)?;
    }
    Ok(())
}

/// Reads the headers of segments, which must be of one store.
///
/// A last one without a header is one whose making was cut off: it is not listed, and made anew.
fn read_headers(
    segments: &Segments,
    numbers: &[u32],
    store_id: Option<[u8; 16]>,
) -> Result<Vec<SegmentHeader>, StoreError> {
    let mut found: Vec<SegmentHeader> = Vec::new();
    for number in numbers.iter().copied() {
        let expected = store_id.or(found.first().map(|first| first.store_id));
        let header = read_header(segments, number)?;
        match header.filter(|header| expected.is_none_or(|id| id == header.store_id)) {
            Some(header) => {
                let info = SegmentInfo {
                    first_sequence: header.first_sequence,
                    ..SegmentInfo::default()
                };
                segments.known().entry(number).or_insert(info);
                found.push(header);
            }
            None if Some(&number) == numbers.last() && is_unborn(segments, number)? => {}
            None => return Err(damage(number, DamageKind::SegmentHeader)),
        }
    }
    Ok(found)
}

fn read_header(segments: &Segments, number: u32) -> Result<Option<SegmentHeader>, StoreError> {
    let file = segments.file(number)?;
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    match read_exact_at(&*file, 0, &mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(StoreError::io("read_at", file_name(number), error)),
        Ok(()) => Ok(SegmentHeader::decode(number, &bytes)),
    }
}

/// Segments from an index's on, where the scan starts, and the index.
type AtIndex = (Vec<SegmentHeader>, Start, Box<Loaded>);

/// Checks an index against the log; `None` when it is another store's, or from before segments
/// were emptied that it still lists.
///
/// Only segments from the one it stands in are opened: of those before, their names are enough.
fn start_at_index(
    segments: &Segments,
    numbers: &[u32],
    loaded: Box<Loaded>,
    heads: &Heads,
) -> Result<Option<AtIndex>, OpenError> {
    let anchor = loaded.root.anchor;
    // The index is sound, and the log is not what it was written from.
    let lost = || damaged(anchor.place, DamageKind::SyncedRecord);
    if numbers
        .last()
        .is_none_or(|last| *last < anchor.place.segment)
    {
        return Err(lost());
    }
    let is_there = |number: &u32| numbers.binary_search(number).is_ok();
    if !loaded.root.segments.keys().all(is_there) || !is_there(&anchor.place.segment) {
        return Ok(None);
    }
    let numbers = &numbers[numbers.partition_point(|number| *number < anchor.place.segment)..];
    let mut expected = (anchor.place.segment..).zip(numbers);
    if let Some((missing, _)) = expected.find(|(expected, number)| expected != *number) {
        return Err(damage(missing, DamageKind::SegmentMissing).into());
    }
    let header = read_header(segments, anchor.place.segment)?;
    if header.is_some_and(|header| header.store_id != loaded.store_id) {
        return Ok(None);
    }
    *segments.known() = loaded.root.segments.clone();
    let found = read_headers(segments, numbers, Some(loaded.store_id))?;
    match heads.read(anchor.place) {
        Ok(head) if head.header.sequence == anchor.sequence => {
            let bytes = head.header.head_bytes + head.header.payload_bytes;
            let place = Place {
                segment: anchor.place.segment,
                offset: anchor.place.offset + bytes,
            };
            let sequence = anchor.sequence + 1;
            Ok(Some((found, Start { place, sequence }, loaded)))
        }
        Ok(_) | Err(StoreError::Damaged(_)) => Err(lost()),
        Err(error) => Err(error.into()),
    }
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
    changed: &'a Arc<ChangedFeeds>,
    writer: IndexWriter,
    /// Bytes of log whose places may be in memory.
    keep_bytes: u64,
    unwritten_bytes: u64,
    uncovered: VecDeque<Uncovered>,
    /// What is said further on, where there are gaps and no index.
    ahead: Option<Ahead>,
    /// Newest record known to have been durable.
    known_synced: u64,
    report: OpenReport,
    /// A mistake of a test.
    serves_cleared: bool,
    /// Another.
    believes_index: bool,
}

/// Where the scan starts.
#[derive(Clone, Copy)]
struct Start {
    place: Place,
    sequence: u64,
}

impl Recovery<'_> {
    /// Reads the log from `start`, makes its content visible, and cuts off what is torn; returns
    /// its end and the size of the last segment.
    fn replay(&mut self, start: Start) -> Result<(Tail, u64), OpenError> {
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
    fn close_gaps(&mut self) -> Result<(), OpenError> {
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

fn damaged(place: Place, what: DamageKind) -> OpenError {
    StoreError::from(Damage { place, what }).into()
}
