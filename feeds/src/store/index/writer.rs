//! Writing the index: what changed since the last checkpoint, added behind what is there.
//!
//! Blobs and root are written and synced before a slot names them, and the slot is synced before
//! anybody relies on it. Until then the other slot names the index before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::index::PAGE_BLOCKS;
use crate::store::index::base::Base;
use crate::store::index::directory::{
    Anchor, CHUNK_FEEDS, FeedRow, Root, Rows, decode_rows, encode_rows,
};
use crate::store::index::file::{
    Blob, BlobCache, FILE, FIRST_BLOB, IndexFile, NEW_FILE, Pointer, SLOT_BYTES, Slot, check,
};
use crate::store::index::page::Page;
use crate::store::index::snapshot::{FeedSnapshot, Snapshot};
use crate::store::index::table::{HAVE_CHUNK_BLOCKS, Spine, TABLE_PAGES, Table, encode_have};
use crate::store::limits::{INDEX_CACHE_SHARDS, INDEX_GARBAGE_BYTES};
use crate::store::segment::SegmentInfo;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;

/// The index as it is on the disk, and where its next blobs go.
#[derive(Debug)]
pub(in crate::store) struct IndexWriter {
    disk: Arc<dyn Disk>,
    store_id: [u8; 16],
    cache: Arc<BlobCache>,
    file: Option<Arc<IndexFile>>,
    /// The file has its name, with a slot that holds.
    named: bool,
    files_made: u32,
    end: u64,
    live_bytes: u64,
    generation: u64,
    /// The slot that is written next.
    next_slot: u64,
    chunks: BTreeMap<u32, Pointer>,
}

/// What a look at the index found.
#[derive(Debug)]
pub(in crate::store) enum Found {
    Nothing,
    /// A file that is no index of this version, or damaged.
    Unusable,
    Index(Box<Loaded>),
}

/// An index whose root and directory hold.
#[derive(Debug)]
pub(in crate::store) struct Loaded {
    pub(in crate::store) root: Root,
    pub(in crate::store) store_id: [u8; 16],
    pub(in crate::store) file: Arc<IndexFile>,
    pub(in crate::store) rows: Vec<(FeedRow, bytes::Bytes)>,
    writer: IndexWriter,
}

impl Loaded {
    pub(in crate::store) fn into_writer(self) -> IndexWriter {
        self.writer
    }
}

/// Reads slots, root and directory; whatever is wrong with their content makes the index unusable,
/// and no error.
pub(in crate::store) fn load(
    disk: &Arc<dyn Disk>,
    cache_bytes: usize,
) -> Result<Found, StoreError> {
    let io = |operation: &'static str| move |error| StoreError::io(operation, FILE, error);
    let file = match disk.open(FILE, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        opened => opened.map_err(io("open"))?,
    };
    let mut bytes = vec![0; FIRST_BLOB as usize];
    let read = file.read_at(0, &mut bytes).map_err(io("read_at"))?;
    bytes.truncate(read);
    let mut slots: Vec<(u64, Slot)> = (0..)
        .zip(bytes.chunks(SLOT_BYTES as usize))
        .filter_map(|(number, bytes)| Some((number, Slot::decode(bytes)?)))
        .collect();
    slots.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.generation));
    let newest = slots.first().map_or(0, |(_, slot)| slot.generation);
    for (number, slot) in slots {
        let cache = Arc::new(BlobCache::new(cache_bytes, INDEX_CACHE_SHARDS));
        let file = IndexFile::new(disk.clone(), file.clone(), slot.store_id, cache.clone(), 0);
        let file = Arc::new(file);
        let Some((root, rows)) = read_directory(&file, &slot)? else {
            continue;
        };
        file.take_into_use();
        let writer = IndexWriter {
            disk: disk.clone(),
            store_id: slot.store_id,
            cache,
            file: Some(file.clone()),
            named: true,
            files_made: 1,
            end: slot.root.offset + u64::from(slot.root.bytes),
            live_bytes: root.live_bytes,
            generation: newest,
            next_slot: 1 - number,
            chunks: root.chunks.clone(),
        };
        return Ok(Found::Index(Box::new(Loaded {
            root,
            store_id: slot.store_id,
            file,
            rows,
            writer,
        })));
    }
    Ok(Found::Unusable)
}

/// The rows of a directory, decoded and as they stand.
type DecodedRows = Vec<(FeedRow, bytes::Bytes)>;

/// Reads root and directory, `None` when any of it does not hold.
fn read_directory(
    file: &IndexFile,
    slot: &Slot,
) -> Result<Option<(Root, DecodedRows)>, StoreError> {
    let read = || -> Result<_, StoreError> {
        let root = file.decoded(&slot.root, Root::decode)?;
        let mut rows = Vec::new();
        for at in root.chunks.values() {
            for (_, bytes) in file.decoded(at, decode_rows)? {
                let row = FeedRow::decode(&bytes).map_err(|_| file.damage(at))?;
                rows.push((row, bytes));
            }
        }
        Ok((root, rows))
    };
    match read() {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What writing gave: tables to read through from now on, by feed number.
pub(in crate::store) type NewBases = Vec<(u32, Option<Arc<Base>>)>;

impl IndexWriter {
    /// Prepares to write an index where there is none.
    pub(in crate::store) fn new(
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        cache_bytes: usize,
    ) -> Self {
        IndexWriter {
            disk,
            store_id,
            cache: Arc::new(BlobCache::new(cache_bytes, INDEX_CACHE_SHARDS)),
            file: None,
            named: false,
            files_made: 0,
            end: FIRST_BLOB,
            live_bytes: 0,
            generation: 0,
            next_slot: 0,
            chunks: BTreeMap::new(),
        }
    }

    /// Returns the bytes of the file.
    pub(in crate::store) fn bytes(&self) -> u64 {
        match self.file {
            Some(_) => self.end,
            None => 0,
        }
    }

    /// Returns whether the file has its name.
    pub(in crate::store) fn is_named(&self) -> bool {
        self.named
    }

    /// Returns the bytes that pages and tables take in memory.
    pub(in crate::store) fn cached_bytes(&self) -> usize {
        self.cache.memory_bytes()
    }

    /// Writes where the blocks and nodes of feeds stand, for reading through only: nothing of it is
    /// found by an opening. Rebuilding uses it so that its memory stays bounded.
    pub(in crate::store) fn write_places(
        &mut self,
        feeds: &[FeedSnapshot],
    ) -> Result<NewBases, StoreError> {
        let mut out = self.output()?;
        let written = write_feeds(&mut out, feeds);
        // What was written is never written over: it may have been read again by now.
        self.end = out.at;
        let bases = written?;
        self.live_bytes = out.live_bytes;
        Ok(bases)
    }

    /// Writes a checkpoint, durably; returns new tables, and whether all of it was written.
    ///
    /// While something that it builds on cannot be read, the checkpoint before stays the one that is
    /// found: of a damaged index until the next opening makes a new one.
    pub(in crate::store) fn write(
        &mut self,
        snapshot: &Snapshot,
        anchor: Anchor,
        segments: BTreeMap<u32, SegmentInfo>,
    ) -> Result<(NewBases, bool), StoreError> {
        let bases = self.write_places(&snapshot.feeds)?;
        let incomplete = |bases| Ok((bases, false));
        let file = self.file()?;
        if file.is_damaged() || bases.len() < snapshot.feeds.len() {
            return incomplete(bases);
        }
        let mut out = self.output()?;
        let mut chunks = self.chunks.clone();
        let spines: BTreeMap<u32, Option<Pointer>> = bases
            .iter()
            .map(|(number, base)| (*number, base.as_ref().map(|base| base.at)))
            .collect();
        let mut rows: BTreeMap<u32, Rows> = BTreeMap::new();
        let changed = snapshot.feeds.iter().map(|feed| feed.row.number);
        for number in changed.chain(snapshot.gone.iter().copied()) {
            let chunk = number / CHUNK_FEEDS;
            if rows.contains_key(&chunk) {
                continue;
            }
            let before = match chunks.get(&chunk) {
                None => Rows::new(),
                Some(at) => match file.decoded(at, decode_rows) {
                    Err(StoreError::Damaged(_)) => return incomplete(bases),
                    rows => rows?,
                },
            };
            rows.insert(chunk, before);
        }
        for number in &snapshot.gone {
            if let Some(rows) = rows.get_mut(&(number / CHUNK_FEEDS)) {
                rows.remove(number);
            }
        }
        for feed in &snapshot.feeds {
            let mut row = feed.row.clone();
            row.spine = spines.get(&row.number).copied().flatten();
            if let Some(rows) = rows.get_mut(&(row.number / CHUNK_FEEDS)) {
                rows.insert(row.number, row.encode().into());
            }
        }
        for (chunk, rows) in rows {
            let old = match rows.is_empty() {
                true => chunks.remove(&chunk),
                false => {
                    let at = out.put(&encode_rows(&rows))?;
                    chunks.insert(chunk, at)
                }
            };
            out.forget(old);
        }
        let root = Root {
            anchor,
            last_number: snapshot.last_number,
            live_bytes: out.live_bytes,
            segments,
            chunks,
        };
        let (end, live_bytes) = out.finish(&root)?;
        self.end = end.0;
        self.name(&file, end.1)?;
        self.live_bytes = live_bytes;
        self.chunks = root.chunks;
        Ok((bases, true))
    }

    /// Makes a synced root the one that is found.
    fn name(&mut self, file: &IndexFile, root: Pointer) -> Result<(), StoreError> {
        let name = self.current_name();
        let io = |operation: &'static str| move |error| StoreError::io(operation, name, error);
        let disk_file = file.disk_file();
        disk_file.sync_data().map_err(io("sync_data"))?;
        let slot = Slot {
            store_id: self.store_id,
            generation: self.generation + 1,
            root,
        };
        disk_file
            .write_at(self.next_slot * SLOT_BYTES, &slot.encode())
            .map_err(io("write_at"))?;
        disk_file.sync_data().map_err(io("sync_data"))?;
        self.generation += 1;
        self.next_slot = 1 - self.next_slot;
        if !self.named {
            self.disk.rename(NEW_FILE, FILE).map_err(io("rename"))?;
            self.disk.sync_dir().map_err(io("sync_dir"))?;
            self.named = true;
        }
        Ok(())
    }

    /// Copies what is pointed to into a new file when that is less than half of this one; returns
    /// the rows as they are there.
    ///
    /// The new file takes the place of the old one with the next [`write`](Self::write).
    pub(in crate::store) fn shrink_if_due(&mut self) -> Result<Option<Shrunk>, StoreError> {
        let Some(old) = self.file.clone().filter(|file| !file.is_damaged()) else {
            return Ok(None);
        };
        let garbage = (self.end - FIRST_BLOB).saturating_sub(self.live_bytes);
        if !self.named || garbage < INDEX_GARBAGE_BYTES || garbage < self.live_bytes {
            return Ok(None);
        }
        let file = self.make_file()?;
        let mut out = Output::new(file.clone(), NEW_FILE, FIRST_BLOB, 0);
        let mut chunks = BTreeMap::new();
        let mut all = Rows::new();
        for (chunk, at) in &self.chunks {
            let mut rows = old.decoded(at, decode_rows)?;
            for row in rows.values_mut() {
                let mut decoded = FeedRow::decode(row).map_err(|_| old.damage(at))?;
                if let Some(spine) = &mut decoded.spine {
                    *spine = copy_spine(&old, spine, &mut out)?;
                    *row = decoded.encode().into();
                }
            }
            chunks.insert(*chunk, out.put(&encode_rows(&rows))?);
            all.extend(rows);
        }
        out.flush()?;
        self.end = out.at;
        self.live_bytes = out.live_bytes;
        self.file = Some(file.clone());
        self.named = false;
        self.next_slot = 0;
        self.chunks = chunks;
        Ok(Some(Shrunk { file, rows: all }))
    }

    fn current_name(&self) -> &'static str {
        match self.named {
            true => FILE,
            false => NEW_FILE,
        }
    }

    fn file(&mut self) -> Result<Arc<IndexFile>, StoreError> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => {
                let file = self.make_file()?;
                self.file = Some(file.clone());
                Ok(file)
            }
        }
    }

    fn make_file(&mut self) -> Result<Arc<IndexFile>, StoreError> {
        let io = |operation: &'static str| move |error| StoreError::io(operation, NEW_FILE, error);
        let file = self.disk.open(NEW_FILE, true).map_err(io("open"))?;
        file.set_len(0).map_err(io("set_len"))?;
        let number = self.files_made;
        self.files_made += 1;
        let file = IndexFile::new(
            self.disk.clone(),
            file,
            self.store_id,
            self.cache.clone(),
            number,
        );
        file.take_into_use();
        Ok(Arc::new(file))
    }

    fn output(&mut self) -> Result<Output, StoreError> {
        let file = self.file()?;
        Ok(Output::new(
            file,
            self.current_name(),
            self.end,
            self.live_bytes,
        ))
    }
}

/// An index copied to a new file.
#[derive(Debug)]
pub(in crate::store) struct Shrunk {
    pub(in crate::store) file: Arc<IndexFile>,
    pub(in crate::store) rows: Rows,
}

/// Blobs on their way to the file.
struct Output {
    file: Arc<IndexFile>,
    name: &'static str,
    /// Where the next blob goes.
    at: u64,
    buffer: Vec<u8>,
    live_bytes: u64,
}

impl Output {
    fn new(file: Arc<IndexFile>, name: &'static str, at: u64, live_bytes: u64) -> Self {
        Output {
            file,
            name,
            at,
            buffer: Vec::new(),
            live_bytes,
        }
    }

    /// Adds a blob; returns where it is.
    fn put(&mut self, blob: &[u8]) -> Result<Pointer, StoreError> {
        let at = Pointer {
            offset: self.at,
            bytes: u32::try_from(blob.len()).expect("blobs stay below their limit"),
            check: check(self.file.store_id(), blob),
        };
        self.buffer.extend_from_slice(blob);
        self.at += blob.len() as u64;
        self.live_bytes += blob.len() as u64;
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(at)
    }

    /// Counts a blob that is pointed to no more.
    fn forget(&mut self, old: Option<Pointer>) {
        let bytes = old.map_or(0, |old| u64::from(old.bytes));
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let from = self.at - self.buffer.len() as u64;
        self.file
            .disk_file()
            .write_at(from, &self.buffer)
            .map_err(|error| StoreError::io("write_at", self.name, error))?;
        self.buffer.clear();
        Ok(())
    }

    /// Adds the root, which counts as garbage: the next one replaces it. Returns the end of the file
    /// with the root's place, and the bytes that are pointed to.
    fn finish(mut self, root: &Root) -> Result<((u64, Pointer), u64), StoreError> {
        let live_bytes = self.live_bytes;
        let at = self.put(&root.encode())?;
        self.flush()?;
        Ok(((self.at, at), live_bytes))
    }
}

fn write_feeds(out: &mut Output, feeds: &[FeedSnapshot]) -> Result<NewBases, StoreError> {
    let mut bases = NewBases::new();
    for feed in feeds.iter().filter(|feed| !feed.is_unknown) {
        match write_feed(out, feed) {
            Ok(base) => bases.push((feed.row.number, base)),
            // Its pages cannot be merged: it stays as it is in memory.
            Err(StoreError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
    }
    out.flush()?;
    Ok(bases)
}

/// Writes the pages, tables and bitfield chunks of a feed that changed; returns its new tables.
fn write_feed(out: &mut Output, feed: &FeedSnapshot) -> Result<Option<Arc<Base>>, StoreError> {
    let before = feed.entry.base();
    let layer = &*feed.layer;
    let mut spine = match &before {
        Some(base) => base.spine.clone(),
        None => Spine::default(),
    };
    let mut pages = layer.pages();
    if let Some(length) = layer.truncated_at() {
        cut_tables(out, before.as_deref(), &mut spine, length)?;
        let first = length / PAGE_BLOCKS;
        if page_at(out, before.as_deref(), &spine, first)?.is_some() {
            pages.insert(first);
        }
    }
    let mut pages = pages.into_iter().peekable();
    while let Some(table) = pages.peek().map(|page| page / TABLE_PAGES) {
        let mut entries = table_at(out, before.as_deref(), &spine, table)?;
        while let Some(page) = pages.next_if(|page| page / TABLE_PAGES == table) {
            let mut content = match entries.get(page % TABLE_PAGES) {
                Some(at) => out.page(page, at)?,
                None => Page::default(),
            };
            content.absorb(layer, page);
            let mut bytes = Vec::new();
            content.encode(page, &mut bytes);
            let at = out.put(&bytes)?;
            let old = entries.set(page % TABLE_PAGES, at);
            out.forget(old);
        }
        let mut bytes = Vec::new();
        entries.encode(&mut bytes);
        let at = out.put(&bytes)?;
        let old = spine.tables.set(table, at);
        out.forget(old);
    }
    write_have(out, feed, &mut spine)?;
    out.forget(before.as_ref().map(|base| base.at));
    if spine.is_empty() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    spine.encode(&mut bytes);
    let at = out.put(&bytes)?;
    let file = out.file.clone();
    Ok(Some(Arc::new(Base { file, at, spine })))
}

fn write_have(out: &mut Output, feed: &FeedSnapshot, spine: &mut Spine) -> Result<(), StoreError> {
    let had: Vec<Pointer> = spine.have.iter().map(|(_, at)| *at).collect();
    if feed.row.have.is_some() {
        spine.have = Table::default();
        had.into_iter().for_each(|old| out.forget(Some(old)));
        return Ok(());
    }
    let mut chunks: BTreeSet<u64> = feed.layer.have_changed().clone();
    if had.is_empty() {
        // They stood in the row until now.
        let mut at = 0;
        while let Some(held) = feed.have.first_set_from(at) {
            let chunk = held / HAVE_CHUNK_BLOCKS;
            chunks.insert(chunk);
            at = (chunk + 1) * HAVE_CHUNK_BLOCKS;
        }
    }
    for chunk in chunks {
        let mut bytes = Vec::new();
        encode_have(&feed.have, chunk, &mut bytes);
        let old = match bytes.is_empty() {
            true => spine.have.remove(chunk),
            false => {
                let at = out.put(&bytes)?;
                spine.have.set(chunk, at)
            }
        };
        out.forget(old);
    }
    Ok(())
}

/// Takes the pages wholly behind `length` out of the tables.
fn cut_tables(
    out: &mut Output,
    before: Option<&Base>,
    spine: &mut Spine,
    length: u64,
) -> Result<(), StoreError> {
    let page = length.div_ceil(PAGE_BLOCKS);
    let table = page / TABLE_PAGES;
    let mut gone = spine.tables.split_off(table);
    let kept = gone.remove(table);
    for (number, at) in gone.iter() {
        let entries = table_at(out, before, &single(number, *at), number)?;
        entries.iter().for_each(|(_, at)| out.forget(Some(*at)));
        out.forget(Some(*at));
    }
    let Some(at) = kept else { return Ok(()) };
    let mut entries = table_at(out, before, &single(table, at), table)?;
    let cut = entries.split_off(page % TABLE_PAGES);
    cut.iter().for_each(|(_, at)| out.forget(Some(*at)));
    out.forget(Some(at));
    if !entries.is_empty() {
        let mut bytes = Vec::new();
        entries.encode(&mut bytes);
        let at = out.put(&bytes)?;
        // What was just written is read again through the file.
        out.flush()?;
        spine.tables.set(table, at);
    }
    Ok(())
}

fn single(number: u64, at: Pointer) -> Spine {
    let mut spine = Spine::default();
    spine.tables.set(number, at);
    spine
}

fn table_at(
    out: &Output,
    before: Option<&Base>,
    spine: &Spine,
    table: u64,
) -> Result<Table, StoreError> {
    let (Some(_), Some(at)) = (before, spine.tables.get(table)) else {
        return Ok(Table::default());
    };
    match &*out.file.table(at)? {
        Blob::Table(entries) => Ok(entries.clone()),
        Blob::Page(_) => Err(out.file.damage(at)),
    }
}

fn page_at(
    out: &Output,
    before: Option<&Base>,
    spine: &Spine,
    page: u64,
) -> Result<Option<Pointer>, StoreError> {
    let entries = table_at(out, before, spine, page / TABLE_PAGES)?;
    Ok(entries.get(page % TABLE_PAGES).copied())
}

impl Output {
    fn page(&self, page: u64, at: &Pointer) -> Result<Page, StoreError> {
        match &*self.file.page(page, at)? {
            Blob::Page(content) => Ok(content.clone()),
            Blob::Table(_) => Err(self.file.damage(at)),
        }
    }
}

fn copy_spine(old: &IndexFile, spine: &Pointer, out: &mut Output) -> Result<Pointer, StoreError> {
    let before = old.decoded(spine, Spine::decode)?;
    let mut after = Spine::default();
    for (number, at) in before.tables.iter() {
        let mut table = Table::default();
        for (page, at) in old.decoded(at, Table::decode)?.iter() {
            table.set(page, out.put(&old.read(at)?)?);
        }
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        after.tables.set(number, out.put(&bytes)?);
    }
    for (chunk, at) in before.have.iter() {
        after.have.set(chunk, out.put(&old.read(at)?)?);
    }
    let mut bytes = Vec::new();
    after.encode(&mut bytes);
    out.put(&bytes)
}
