//! Opening: the index as it was written out last, then the log from there to its end
//! ([`recovery`](super::recovery)).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::store::checkpoint::{ChangedFeeds, Checkpoints};
use crate::store::disk::{Disk, DiskLock, LockError, read_exact_at};
use crate::store::error::{Damage, DamageKind, OpenError, Place, StoreError};
use crate::store::gaps::Ahead;
use crate::store::heads::Heads;
use crate::store::index::file::FILE;
use crate::store::index::writer::{self, Found, IndexWriter, Loaded};
use crate::store::limits::SEGMENT_BYTES_MAX;
use crate::store::log::{Log, SyncMistakes, create_segment};
use crate::store::mistake::Mistake;
use crate::store::options::Options;
use crate::store::record::Checker;
use crate::store::recovery::{Recovery, Start};
use crate::store::room::Room;
use crate::store::scan::FIRST_RECORD;
use crate::store::segment::{
    SEGMENT_HEADER_BYTES, SegmentHeader, SegmentInfo, Segments, file_name, number_of,
};
use crate::store::state::{FeedEntry, StoredRow};
use crate::store::store::Feeds;

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

pub(super) fn damage(segment: u32, what: DamageKind) -> StoreError {
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

pub(super) fn damaged(place: Place, what: DamageKind) -> OpenError {
    StoreError::from(Damage { place, what }).into()
}
