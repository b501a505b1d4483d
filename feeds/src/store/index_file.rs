//! The index written out, so that opening does not read the whole log.
//!
//! It is advisory: it carries a check over all of it, names the log record it stands at, and is
//! made anew from the log when either does not hold.

use std::io;
use std::sync::Arc;

use blake2b_simd::{Params, State};
use bytes::Bytes;

use crate::crypto::{FeedKey, Hash, namespace};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::{MANIFEST_BYTES_MAX, SIGNATURE_BYTES_MAX};
use crate::manifest::{Manifest, Verifier};
use crate::store::disk::{Disk, DiskFile, read_exact_at};
use crate::store::error::{Place, StoreError};
use crate::store::index::layer::Layer;
use crate::store::index::run::{Run, Sizes};
use crate::store::index::{Extent, NodeRef};
use crate::store::record::Checker;
use crate::store::state::{FeedEntry, Kind, KnownManifest, Role};
use crate::tree::{Head, Node, SignedHead};

/// Name of the index.
pub(super) const FILE: &str = "index";
const NEW_FILE: &str = "index.new";
const MAGIC: [u8; 4] = *b"KLIX";
const VERSION: u8 = 3;
const CHECK_BYTES: usize = 32;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;

/// Roots of a head: at most one for each bit of a length.
const ROOTS_MAX: usize = 64;

/// The checkpoint record that an index stands at: it knows everything up to there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Anchor {
    pub(super) place: Place,
    pub(super) sequence: u64,
    /// Highest feed number given, dropped feeds included.
    pub(super) last_number: u32,
}

/// Writes the index beside the old one and puts it in its place, durably; returns its bytes.
pub(super) fn write(
    disk: &dyn Disk,
    checker: &Checker,
    anchor: Anchor,
    entries: &[Arc<FeedEntry>],
) -> Result<u64, StoreError> {
    let io = |operation: &'static str| move |error| StoreError::io(operation, NEW_FILE, error);
    let file = disk.open(NEW_FILE, true).map_err(io("open"))?;
    file.set_len(0).map_err(io("set_len"))?;
    let mut out = Output {
        file: &*file,
        state: hasher(checker),
        buffer: Vec::new(),
        written: 0,
    };
    out.buffer.put_raw(&MAGIC);
    out.buffer.put_raw(&[VERSION, 0, 0, 0]);
    out.buffer.put_raw(checker.store_id());
    put_place(&mut out.buffer, anchor.place);
    out.buffer.put_raw(&anchor.sequence.to_le_bytes());
    out.buffer.put_raw(&anchor.last_number.to_le_bytes());
    out.buffer.put_uint(entries.len() as u64);
    for entry in entries {
        put_feed(&mut out, entry).map_err(io("write_at"))?;
    }
    let bytes = out.finish().map_err(io("write_at"))?;
    file.sync_data().map_err(io("sync_data"))?;
    disk.rename(NEW_FILE, FILE)
        .map_err(|error| StoreError::io("rename", FILE, error))?;
    disk.sync_dir()
        .map_err(|error| StoreError::io("sync_dir", FILE, error))?;
    Ok(bytes)
}

/// An index read back.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) anchor: Anchor,
    pub(super) entries: Vec<FeedEntry>,
    pub(super) bytes: u64,
}

/// What stands where the index should.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// A file that is no index of this store, or damaged.
    Unusable,
    Index(Loaded),
}

/// Reads the index; whatever is wrong with its content makes it unusable, and no error.
pub(super) fn read(disk: &dyn Disk, checker: &Checker) -> Result<Found, StoreError> {
    let io = |operation: &'static str| move |error| StoreError::io(operation, FILE, error);
    let file = match disk.open(FILE, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        opened => opened.map_err(io("open"))?,
    };
    let bytes = file.size().map_err(io("size"))?;
    let Ok(size) = usize::try_from(bytes) else {
        return Ok(Found::Unusable);
    };
    let mut content = vec![0; size];
    match read_exact_at(&*file, 0, &mut content) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Found::Unusable),
        read => read.map_err(io("read_at"))?,
    }
    let Some((content, check)) = content.split_last_chunk::<CHECK_BYTES>() else {
        return Ok(Found::Unusable);
    };
    if hasher(checker).update(content).finalize().as_bytes() != check {
        return Ok(Found::Unusable);
    }
    match decode(content, checker) {
        Ok(Some((anchor, entries))) => Ok(Found::Index(Loaded {
            anchor,
            entries,
            bytes,
        })),
        _ => Ok(Found::Unusable),
    }
}

fn hasher(checker: &Checker) -> State {
    let mut state = Params::new()
        .hash_length(CHECK_BYTES)
        .key(checker.store_id())
        .to_state();
    state.update(&namespace::INDEX_FILE.hash());
    state
}

struct Output<'a> {
    file: &'a dyn DiskFile,
    state: State,
    buffer: Vec<u8>,
    written: u64,
}

impl Output<'_> {
    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.state.update(&self.buffer);
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        let check = self.state.finalize();
        self.file.write_at(self.written, check.as_bytes())?;
        Ok(self.written + CHECK_BYTES as u64)
    }
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    out.put_raw(&place.segment.to_le_bytes());
    out.put_raw(&place.offset.to_le_bytes());
}

fn place(reader: &mut Reader<'_>) -> Result<Place, DecodeError> {
    Ok(Place {
        segment: reader.u32()?,
        offset: reader.u32()?,
    })
}

fn put_feed(out: &mut Output<'_>, entry: &FeedEntry) -> io::Result<()> {
    let state = entry.read();
    let buffer = &mut out.buffer;
    buffer.put_raw(&entry.number.to_le_bytes());
    buffer.put_raw(&entry.key.0);
    buffer.put_raw(&[state.role.code(), entry.kind.code()]);
    let manifest = state.manifest.as_ref().map(|known| known.manifest.encode());
    buffer.put_buffer(&manifest.unwrap_or_default());
    put_place(buffer, state.feed_record);
    match (&state.signed, state.head_record) {
        (Some(signed), Some(record)) => {
            buffer.push(1);
            put_place(buffer, record);
            put_signed(buffer, signed);
        }
        _ => buffer.push(0),
    }
    match state.conflict {
        Some(record) => {
            out.buffer.push(1);
            put_place(&mut out.buffer, record);
        }
        None => out.buffer.push(0),
    }
    put_layer(&mut out.buffer, &state.places.delta);
    let held: Vec<_> = state.have.runs(0..u64::MAX).collect();
    out.buffer.put_uint(held.len() as u64);
    for run in held {
        out.buffer.put_uint(run.start);
        out.buffer.put_uint(run.end - run.start);
    }
    out.buffer.put_uint(state.bytes_held);
    out.flush_if_full()
}

fn put_signed(out: &mut Vec<u8>, signed: &SignedHead) {
    out.put_uint(signed.head.fork);
    out.put_raw(&signed.tree_hash.0);
    out.put_buffer(&signed.signature);
    out.put_uint(signed.head.roots.len() as u64);
    for root in &signed.head.roots {
        out.put_raw(&root.index.to_le_bytes());
        out.put_raw(&root.size.to_le_bytes());
        out.put_raw(&root.hash.0);
    }
}

fn put_layer(out: &mut Vec<u8>, layer: &Layer) {
    let runs = layer.runs(&(0..u64::MAX));
    out.put_uint(runs.len() as u64);
    for run in runs {
        out.put_raw(&run.start.to_le_bytes());
        for part in [run.count, run.skip, run.blocks, run.payload_at] {
            out.put_raw(&part.to_le_bytes());
        }
        put_place(out, run.record);
        let size = match run.sizes {
            Sizes::Uniform(size) => size,
            Sizes::Varied => u32::MAX,
        };
        out.put_raw(&size.to_le_bytes());
    }
    let pages = layer.pages();
    let cells: Vec<_> = pages.iter().filter_map(|page| layer.cells(*page)).collect();
    out.put_uint(cells.len() as u64);
    for cells in cells {
        out.put_uint(cells.blocks.len() as u64);
        for (block, extent) in &cells.blocks {
            out.put_raw(&block.to_le_bytes());
            put_place(out, extent.record);
            out.put_raw(&extent.at.to_le_bytes());
            out.put_raw(&extent.size.to_le_bytes());
        }
        out.put_uint(cells.nodes.len() as u64);
        for (index, node) in &cells.nodes {
            out.put_raw(&index.to_le_bytes());
            out.put_raw(&node.to_bits().to_le_bytes());
        }
    }
}

fn decode(
    content: &[u8],
    checker: &Checker,
) -> Result<Option<(Anchor, Vec<FeedEntry>)>, DecodeError> {
    let mut reader = Reader::new(content);
    let magic: [u8; 4] = reader.fixed()?;
    let version: [u8; 4] = reader.fixed()?;
    let store_id: [u8; 16] = reader.fixed()?;
    if magic != MAGIC || version != [VERSION, 0, 0, 0] || store_id != *checker.store_id() {
        return Ok(None);
    }
    let place = place(&mut reader)?;
    let anchor = Anchor {
        place,
        sequence: reader.u64()?,
        last_number: reader.u32()?,
    };
    let count = reader.uint()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        match feed(&mut reader)? {
            Some(entry) => entries.push(entry),
            None => return Ok(None),
        }
    }
    reader.finish()?;
    Ok(Some((anchor, entries)))
}

fn feed(reader: &mut Reader<'_>) -> Result<Option<FeedEntry>, DecodeError> {
    let number = reader.u32()?;
    let key = FeedKey(reader.fixed()?);
    let (role, kind) = (Role::from_code(reader.u8()?), Kind::from_code(reader.u8()?));
    let (Some(role), Some(kind)) = (role, kind) else {
        return Ok(None);
    };
    let manifest = reader.buffer("manifest", MANIFEST_BYTES_MAX)?;
    let known = match manifest {
        [] => None,
        encoded => {
            let manifest = Manifest::decode(encoded)?;
            let Ok(verifier) = Verifier::new(key, &manifest) else {
                return Ok(None);
            };
            Some(KnownManifest { manifest, verifier })
        }
    };
    let feed_record = place(reader)?;
    let entry = FeedEntry::new(number, key, role, kind, known, feed_record);
    {
        let mut state = entry.write();
        if reader.u8()? == 1 {
            state.head_record = Some(place(reader)?);
            let Some(signed) = signed(reader)? else {
                return Ok(None);
            };
            state.signed = Some(Arc::new(signed));
        }
        if reader.u8()? == 1 {
            state.conflict = Some(place(reader)?);
        }
        layer(reader, &mut state.places.delta)?;
        for _ in 0..reader.uint()? {
            let (start, length) = (reader.uint()?, reader.uint()?);
            state.have.set_range(start..start + length);
            state.blocks_held += length;
        }
        state.bytes_held = reader.uint()?;
    }
    Ok(Some(entry))
}

fn signed(reader: &mut Reader<'_>) -> Result<Option<SignedHead>, DecodeError> {
    let fork = reader.uint()?;
    let tree_hash = Hash(reader.fixed()?);
    let signature = Bytes::copy_from_slice(reader.buffer("signature", SIGNATURE_BYTES_MAX)?);
    let count = reader.uint_max("roots", ROOTS_MAX)?;
    let mut roots = Vec::with_capacity(count);
    for _ in 0..count {
        let (index, size) = (reader.u64()?, reader.u64()?);
        roots.push(Node {
            index,
            size,
            hash: Hash(reader.fixed()?),
        });
    }
    let head = Head::from_roots(fork, roots);
    Ok(head.map(|head| SignedHead {
        head,
        tree_hash,
        signature,
    }))
}

fn layer(reader: &mut Reader<'_>, layer: &mut Layer) -> Result<(), DecodeError> {
    for _ in 0..reader.uint()? {
        let start = reader.u64()?;
        let [count, skip, blocks, payload_at] =
            [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?];
        let record = place(reader)?;
        let sizes = match reader.u32()? {
            u32::MAX => Sizes::Varied,
            size => Sizes::Uniform(size),
        };
        layer.add_run(Run {
            start,
            count,
            skip,
            blocks,
            record,
            payload_at,
            sizes,
        });
    }
    for _ in 0..reader.uint()? {
        for _ in 0..reader.uint()? {
            let block = reader.u64()?;
            let record = place(reader)?;
            let (at, size) = (reader.u32()?, reader.u32()?);
            layer.set_block(block, Extent { record, at, size });
        }
        for _ in 0..reader.uint()? {
            layer.set_node(reader.u64()?, NodeRef::from_bits(reader.u64()?));
        }
    }
    Ok(())
}
