//! The top of the index: the root, and the rows of the directory, one for each feed.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::bitfield::Bitfield;
use crate::crypto::{FeedKey, Hash};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::{MANIFEST_BYTES_MAX, SIGNATURE_BYTES_MAX};
use crate::store::error::Place;
use crate::store::index::file::Pointer;
use crate::store::limits::INDEX_ROW_BYTES_MAX;
use crate::store::segment::SegmentInfo;
use crate::store::state::{Kind, Role};
use crate::tree::{Head, Node, SignedHead};

/// Feeds in one chunk of the directory, by number.
pub(in crate::store) const CHUNK_FEEDS: u32 = 64;

/// Runs of held blocks that stand in the row itself: most feeds are held whole.
const ROW_RUNS_MAX: usize = 4;

/// Roots of a head: at most one for each bit of a length.
const ROOTS_MAX: usize = 64;

/// Where the counters stand in a row: behind number, key, role and kind.
const COUNTERS_AT: usize = 4 + 32 + 2;

/// What the directory says of a feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) struct FeedRow {
    pub(in crate::store) number: u32,
    pub(in crate::store) key: FeedKey,
    pub(in crate::store) role: Role,
    pub(in crate::store) kind: Kind,
    pub(in crate::store) blocks_held: u64,
    pub(in crate::store) bytes_held: u64,
    /// The record that names key, role and manifest.
    pub(in crate::store) feed_record: Place,
    pub(in crate::store) manifest: Option<Bytes>,
    pub(in crate::store) head: Option<(Place, SignedHead)>,
    /// The record of the conflict that stopped the feed.
    pub(in crate::store) conflict: Option<Place>,
    /// The blocks held; `None` when the spine knows.
    pub(in crate::store) have: Option<Vec<Range<u64>>>,
    pub(in crate::store) spine: Option<Pointer>,
}

impl FeedRow {
    /// Returns blocks and bytes held, of an encoded row.
    pub(in crate::store) fn held(row: &[u8]) -> (u64, u64) {
        let counter = |at: usize| {
            let bytes = row.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        (counter(COUNTERS_AT), counter(COUNTERS_AT + 8))
    }

    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.put_raw(&self.number.to_le_bytes());
        out.put_raw(&self.key.0);
        out.put_raw(&[self.role.code(), self.kind.code()]);
        out.put_raw(&self.blocks_held.to_le_bytes());
        out.put_raw(&self.bytes_held.to_le_bytes());
        put_place(&mut out, self.feed_record);
        out.put_buffer(self.manifest.as_deref().unwrap_or_default());
        out.push(u8::from(self.head.is_some()));
        if let Some((record, signed)) = &self.head {
            put_place(&mut out, *record);
            put_signed(&mut out, signed);
        }
        out.push(u8::from(self.conflict.is_some()));
        if let Some(record) = self.conflict {
            put_place(&mut out, record);
        }
        out.push(u8::from(self.have.is_some()));
        if let Some(runs) = &self.have {
            out.put_uint(runs.len() as u64);
            for run in runs {
                out.put_uint(run.start);
                out.put_uint(run.end - run.start);
            }
        }
        out.push(u8::from(self.spine.is_some()));
        if let Some(spine) = &self.spine {
            spine.encode(&mut out);
        }
        out
    }

    pub(in crate::store) fn decode(row: &[u8]) -> Result<FeedRow, DecodeError> {
        let mut reader = Reader::new(row);
        let reader = &mut reader;
        let number = reader.u32()?;
        let key = FeedKey(reader.fixed()?);
        let [role, kind] = reader.fixed()?;
        let role = Role::from_code(role).ok_or_else(|| unknown(reader, "role", role))?;
        let kind = Kind::from_code(kind).ok_or_else(|| unknown(reader, "kind", kind))?;
        let (blocks_held, bytes_held) = (reader.u64()?, reader.u64()?);
        let feed_record = place(reader)?;
        let manifest = reader.buffer("manifest", MANIFEST_BYTES_MAX)?;
        let manifest = (!manifest.is_empty()).then(|| Bytes::copy_from_slice(manifest));
        let head = match flag(reader)? {
            true => Some((place(reader)?, signed(reader)?)),
            false => None,
        };
        let conflict = match flag(reader)? {
            true => Some(place(reader)?),
            false => None,
        };
        let have = match flag(reader)? {
            true => Some(runs(reader)?),
            false => None,
        };
        let spine = match flag(reader)? {
            true => Some(Pointer::decode(reader)?),
            false => None,
        };
        reader.finish()?;
        Ok(FeedRow {
            number,
            key,
            role,
            kind,
            blocks_held,
            bytes_held,
            feed_record,
            manifest,
            head,
            conflict,
            have,
            spine,
        })
    }
}

/// Returns the runs of held blocks, if they are few enough to stand in a row.
pub(in crate::store) fn row_runs(have: &Bitfield) -> Option<Vec<Range<u64>>> {
    let runs: Vec<_> = have.runs(0..u64::MAX).take(ROW_RUNS_MAX + 1).collect();
    (runs.len() <= ROW_RUNS_MAX).then_some(runs)
}

/// Rows by the numbers of their feeds.
pub(in crate::store) type Rows = BTreeMap<u32, Bytes>;

pub(in crate::store) fn encode_rows(rows: &Rows) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * 384);
    out.put_uint(rows.len() as u64);
    for (number, row) in rows {
        out.put_raw(&number.to_le_bytes());
        out.put_buffer(row);
    }
    out
}

pub(in crate::store) fn decode_rows(bytes: &[u8]) -> Result<Rows, DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.uint_max("rows of a chunk", CHUNK_FEEDS as usize)?;
    let mut rows = Rows::new();
    for _ in 0..count {
        let number = reader.u32()?;
        let row = reader.buffer("row", INDEX_ROW_BYTES_MAX)?;
        rows.insert(number, Bytes::copy_from_slice(row));
    }
    reader.finish()?;
    Ok(rows)
}

/// The checkpoint record that an index stands at: it knows everything up to there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct Anchor {
    pub(in crate::store) place: Place,
    pub(in crate::store) sequence: u64,
}

/// The top of an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) struct Root {
    pub(in crate::store) anchor: Anchor,
    /// Highest feed number given, dropped feeds included.
    pub(in crate::store) last_number: u32,
    /// Bytes of all blobs that are still pointed to.
    pub(in crate::store) live_bytes: u64,
    /// Every segment up to the anchor's.
    pub(in crate::store) segments: BTreeMap<u32, SegmentInfo>,
    /// Chunks of the directory by number.
    pub(in crate::store) chunks: BTreeMap<u32, Pointer>,
}

impl Root {
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_place(&mut out, self.anchor.place);
        out.put_raw(&self.anchor.sequence.to_le_bytes());
        out.put_raw(&self.last_number.to_le_bytes());
        out.put_raw(&self.live_bytes.to_le_bytes());
        out.put_uint(self.segments.len() as u64);
        for (number, info) in &self.segments {
            out.put_uint(u64::from(*number));
            out.put_raw(&info.first_sequence.to_le_bytes());
            out.put_uint(info.bytes);
            out.put_uint(info.dead_bytes);
            out.put_raw(&info.end_sequence.to_le_bytes());
        }
        out.put_uint(self.chunks.len() as u64);
        for (number, at) in &self.chunks {
            out.put_uint(u64::from(*number));
            at.encode(&mut out);
        }
        out
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Result<Root, DecodeError> {
        let mut reader = Reader::new(bytes);
        let reader = &mut reader;
        let anchor = Anchor {
            place: place(reader)?,
            sequence: reader.u64()?,
        };
        let last_number = reader.u32()?;
        let live_bytes = reader.u64()?;
        let mut segments = BTreeMap::new();
        for _ in 0..reader.uint()? {
            let number = reader.uint_max("segment", u32::MAX as usize)? as u32;
            let info = SegmentInfo {
                first_sequence: reader.u64()?,
                bytes: reader.uint()?,
                dead_bytes: reader.uint()?,
                end_sequence: reader.u64()?,
            };
            segments.insert(number, info);
        }
        let mut chunks = BTreeMap::new();
        for _ in 0..reader.uint()? {
            let number = reader.uint_max("chunk", u32::MAX as usize)? as u32;
            chunks.insert(number, Pointer::decode(reader)?);
        }
        reader.finish()?;
        Ok(Root {
            anchor,
            last_number,
            live_bytes,
            segments,
            chunks,
        })
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

fn signed(reader: &mut Reader<'_>) -> Result<SignedHead, DecodeError> {
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
    let head = Head::from_roots(fork, roots).ok_or_else(|| unknown(reader, "roots", 0))?;
    Ok(SignedHead {
        head,
        tree_hash,
        signature,
    })
}

fn runs(reader: &mut Reader<'_>) -> Result<Vec<Range<u64>>, DecodeError> {
    let count = reader.uint_max("runs of held blocks", ROW_RUNS_MAX)?;
    (0..count)
        .map(|_| {
            let (start, length) = (reader.uint()?, reader.uint()?);
            Ok(start..start + length)
        })
        .collect()
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(unknown(reader, "flag", other)),
    }
}

fn unknown(reader: &Reader<'_>, what: &'static str, actual: u8) -> DecodeError {
    DecodeError::UnknownValue {
        what,
        at: reader.position(),
        actual: u64::from(actual),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_and_its_counters_are_where_they_are_looked_for() {
        let row = FeedRow {
            number: 70,
            key: FeedKey([3; 32]),
            role: Role::Seeded,
            kind: Kind::Plain,
            blocks_held: 1 << 40,
            bytes_held: 77,
            feed_record: Place {
                segment: 1,
                offset: 64,
            },
            manifest: Some(Bytes::from_static(b"manifest")),
            head: None,
            conflict: Some(Place {
                segment: 2,
                offset: 70,
            }),
            have: Some(vec![0..9, 20..21]),
            spine: Some(Pointer {
                offset: 8192,
                bytes: 5,
                check: [1; 16],
            }),
        };
        let bytes = row.encode();
        assert_eq!(FeedRow::decode(&bytes), Ok(row));
        assert_eq!(FeedRow::held(&bytes), (1 << 40, 77));
        for end in 0..bytes.len() {
            assert!(FeedRow::decode(&bytes[..end]).is_err(), "{end} bytes");
        }
        let rows = Rows::from([(70, bytes.into())]);
        assert_eq!(decode_rows(&encode_rows(&rows)), Ok(rows));
    }
}
