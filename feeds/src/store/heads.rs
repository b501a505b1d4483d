//! Head parts read back: checked as a whole once, then kept for the proofs of their neighbours.

use std::sync::Arc;

use crate::store::body::{Body, Filled};
use crate::store::cache::{Cache, MemoryBytes};
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::index::Extent;
use crate::store::index::run::InRun;
use crate::store::limits::{FRESH_HEADS_BYTES, LAYOUT_CACHE_BYTES, LAYOUT_CACHE_SHARDS};
use crate::store::record::{CHECK_BYTES, Checker, HEADER_BYTES, Header, RECORD_VERSION, kind};
use crate::store::segment::Segments;
use crate::tree::Node;

/// A head part whose check holds.
#[derive(Debug)]
pub(super) struct Head {
    /// As it was read; of one that was never read, sequence and synced are 0.
    pub(super) header: Header,
    pub(super) body: Body,
}

impl Head {
    /// Returns the nodes and blocks of an append or a fill.
    pub(super) fn filled(&self) -> Option<&Filled> {
        match &self.body {
            Body::Append(filled) | Body::Fill(filled) | Body::Truncate { filled, .. } => {
                Some(filled)
            }
            _ => None,
        }
    }

    /// Returns node number `ordinal`.
    pub(super) fn node(&self, ordinal: u32) -> Option<Node> {
        self.filled()?.nodes.get(ordinal as usize).copied()
    }
}

impl MemoryBytes for Head {
    fn memory_bytes(&self) -> usize {
        let filled = self.filled().map_or(0, |filled| {
            filled.nodes.capacity() * size_of::<Node>() + filled.blocks.capacity() * 24
        });
        filled + size_of::<Head>()
    }
}

/// Where the blocks of a record start in its payload part, and where the last one ends.
#[derive(Debug)]
struct Layout(Box<[u32]>);

impl MemoryBytes for Layout {
    fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0) + size_of::<Layout>()
    }
}

/// Reads head parts, and keeps those read last.
#[derive(Debug)]
pub(super) struct Heads {
    segments: Arc<Segments>,
    checker: Checker,
    cache: Cache<Place, Head>,
    /// Those of fills that were just written.
    fresh: Cache<Place, Head>,
    layouts: Cache<Place, Layout>,
    verifies: bool,
}

impl Heads {
    pub(super) fn new(
        segments: Arc<Segments>,
        checker: Checker,
        cache_bytes: usize,
        verifies: bool,
    ) -> Self {
        Heads {
            segments,
            checker,
            cache: Cache::new(cache_bytes, 1),
            fresh: Cache::new(FRESH_HEADS_BYTES.min(cache_bytes), 1),
            layouts: Cache::new(LAYOUT_CACHE_BYTES, LAYOUT_CACHE_SHARDS),
            verifies,
        }
    }

    pub(super) fn segments(&self) -> &Segments {
        &self.segments
    }

    pub(super) fn verifies(&self) -> bool {
        self.verifies
    }

    /// Returns the head part at `place`, from memory if it was read before.
    pub(super) fn get(&self, place: Place) -> Result<Arc<Head>, StoreError> {
        match self.cache.get(place).or_else(|| self.fresh.get(place)) {
            Some(head) => Ok(head),
            None => self.cache.get_or(place, || self.read(place)),
        }
    }

    /// Keeps the head part of a fill that was just written, for the proofs of the next: they build
    /// on what it holds.
    pub(super) fn keep_fill(&self, place: Place, (feed, head_bytes): (u32, u32), filled: Filled) {
        let payload_bytes = filled.blocks.last().map_or(0, |last| last.at + last.size);
        let header = Header {
            version: RECORD_VERSION,
            kind: kind::FILL,
            flags: 0,
            head_bytes,
            payload_bytes,
            sequence: 0,
            synced: 0,
            feed,
        };
        let body = Body::Fill(filled);
        self.fresh.put(place, Arc::new(Head { header, body }));
    }

    /// Returns where a block of a run stands, from its record where the run does not say.
    pub(super) fn extent(&self, at: InRun) -> Result<Extent, StoreError> {
        let (record, payload_at, ordinal) = match at {
            InRun::At(extent) => return Ok(extent),
            InRun::Listed {
                record,
                payload_at,
                ordinal,
            } => (record, payload_at, ordinal as usize),
        };
        let layout = self.layouts.get_or(record, || self.layout(record))?;
        match layout.0.get(ordinal..ordinal + 2) {
            Some([start, end]) => Ok(Extent {
                record,
                at: payload_at + start,
                size: end - start,
            }),
            _ => Err(Damage {
                place: record,
                what: DamageKind::Index,
            }
            .into()),
        }
    }

    fn layout(&self, record: Place) -> Result<Layout, StoreError> {
        let head = self.read(record)?;
        let blocks = head.filled().map_or(&[][..], |filled| &filled.blocks);
        let ends = blocks.iter().map(|block| block.at + block.size);
        Ok(Layout(std::iter::once(0).chain(ends).collect()))
    }

    /// Reads and checks the head part at `place` from the disk.
    pub(super) fn read(&self, place: Place) -> Result<Head, StoreError> {
        let damaged = |what| StoreError::from(Damage { place, what });
        let mut bytes = [0; HEADER_BYTES];
        self.segments.read(place, 0, &mut bytes)?;
        let header = Header::decode(&bytes).ok_or_else(|| damaged(DamageKind::Head))?;
        let mut head = vec![0; header.head_bytes as usize];
        self.segments.read(place, 0, &mut head)?;
        if self.verifies && !self.checker.holds(place, &head) {
            return Err(damaged(DamageKind::Head));
        }
        let body = &head[HEADER_BYTES..head.len() - CHECK_BYTES];
        let body = Body::decode(header.kind, body, header.payload_bytes)
            .ok()
            .flatten()
            .ok_or_else(|| damaged(DamageKind::Index))?;
        Ok(Head { header, body })
    }
}
