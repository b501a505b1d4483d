//! Head parts read back: checked as a whole once, then kept for the proofs of their neighbours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::body::{Body, Filled};
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::record::{CHECK_BYTES, Checker, HEADER_BYTES, Header};
use crate::store::segment::Segments;
use crate::tree::Node;

/// A head part whose check holds.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) body: Body,
}

impl Head {
    /// Returns the nodes and blocks of an append or a fill.
    pub(super) fn filled(&self) -> Option<&Filled> {
        match &self.body {
            Body::Append(filled) | Body::Fill(filled) => Some(filled),
            _ => None,
        }
    }

    /// Returns node number `ordinal`.
    pub(super) fn node(&self, ordinal: u32) -> Option<Node> {
        self.filled()?.nodes.get(ordinal as usize).copied()
    }

    fn memory_bytes(&self) -> usize {
        let filled = self.filled().map_or(0, |filled| {
            filled.nodes.capacity() * size_of::<Node>() + filled.blocks.capacity() * 24
        });
        filled + size_of::<Head>()
    }
}

/// Reads head parts, and keeps those read last.
#[derive(Debug)]
pub(super) struct Heads {
    segments: Arc<Segments>,
    checker: Checker,
    cache: Mutex<Cache>,
    /// Bytes that each of the two generations may take.
    generation_bytes: usize,
    verifies: bool,
}

/// Two generations: what is used moves to the young one; when that is full, the old one goes.
#[derive(Debug, Default)]
struct Cache {
    young: HashMap<Place, Arc<Head>>,
    old: HashMap<Place, Arc<Head>>,
    young_bytes: usize,
}

impl Heads {
    pub(super) fn new(
        segments: Arc<Segments>,
        checker: Checker,
        cache_bytes: usize,
        verifies: bool,
    ) -> Self {
        let generation_bytes = cache_bytes / 2;
        Heads {
            segments,
            checker,
            cache: Mutex::default(),
            generation_bytes,
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
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = cache.young.get(&place) {
            return Ok(head.clone());
        }
        let old = cache.old.remove(&place);
        drop(cache);
        let head = match old {
            Some(head) => head,
            None => Arc::new(self.read(place)?),
        };
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.young_bytes += head.memory_bytes();
        cache.young.insert(place, head.clone());
        if cache.young_bytes > self.generation_bytes {
            cache.old = std::mem::take(&mut cache.young);
            cache.young_bytes = 0;
        }
        Ok(head)
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
