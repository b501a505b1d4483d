//! A feed of the store, as its readers see it.

use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use crate::bitfield::Bitfield;
use crate::crypto::{DiscoveryKey, FeedKey, Hash};
use crate::manifest::Manifest;
use crate::replicate::HeadState;
use crate::store::body::{self, Body};
use crate::store::error::{Damage, DamageKind, ReadError, StoreError};
use crate::store::heads::Heads;
use crate::store::index::{Extent, NodeRef};
use crate::store::limits::{CHECKSUM_FROM_BYTES, GATHERED_FROM_BYTES};
use crate::store::log::{Commit, Publish};
use crate::store::mistake::Mistake;
use crate::store::publish::NewRun;
use crate::store::segment::Segments;
use crate::store::state::{FeedEntry, FeedWriter, Kind, Role};
use crate::store::store::Inner;
use crate::tree::{self, Head, Node, SignedHead, Sought};

/// Distance from a leaf hash to the end of its block up to which one read takes both, 1 KiB: records
/// of a few small blocks. What is read between them costs less than a second call.
const NEAR_BYTES: usize = 1024;

/// A feed of a store; clones are the same feed.
#[derive(Clone, Debug)]
pub struct Feed {
    pub(super) inner: Arc<Inner>,
    pub(super) entry: Arc<FeedEntry>,
}

/// What is known and held of a feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FeedInfo {
    /// The feed's name.
    pub key: FeedKey,
    /// Its name for those who do not know it.
    pub discovery_key: DiscoveryKey,
    /// Why it is here.
    pub role: Role,
    /// What rules it follows.
    pub kind: Kind,
    /// Fork of the signed head.
    pub fork: u64,
    /// Length of the signed head in blocks.
    pub length: u64,
    /// Bytes of all blocks up to the signed head.
    pub byte_length: u64,
    /// Hash of the tree that the head signs.
    pub tree_hash: Hash,
    /// Blocks held.
    pub blocks_held: u64,
    /// Bytes of the blocks held.
    pub bytes_held: u64,
    /// A conflict stopped the feed.
    pub is_stopped: bool,
}

impl From<&FeedInfo> for HeadState {
    fn from(info: &FeedInfo) -> HeadState {
        HeadState {
            fork: info.fork,
            length: info.length,
            byte_length: info.byte_length,
            tree_hash: info.tree_hash,
        }
    }
}

impl Feed {
    /// Returns the feed's name.
    pub fn key(&self) -> FeedKey {
        self.entry.key
    }

    /// Returns the feed's name for those who do not know it.
    pub fn discovery_key(&self) -> DiscoveryKey {
        self.entry.discovery_key
    }

    /// Returns who may sign the feed, once known.
    pub fn manifest(&self) -> Option<Manifest> {
        self.entry
            .read()
            .manifest
            .as_ref()
            .map(|known| known.manifest.clone())
    }

    /// Returns why the feed is here.
    pub fn role(&self) -> Role {
        self.entry.read().role
    }

    /// Returns what rules the feed follows.
    pub fn kind(&self) -> Kind {
        self.entry.kind
    }

    /// Returns the head, empty when nothing is known.
    pub fn head(&self) -> Head {
        self.entry.head()
    }

    /// Returns the head with its signature.
    pub fn signed_head(&self) -> Option<SignedHead> {
        self.entry.read().signed.as_deref().cloned()
    }

    /// Returns whether a block is held.
    pub fn has(&self, block: u64) -> bool {
        self.know();
        self.entry.read().have.get(block)
    }

    /// Returns the blocks held, all of them durable.
    pub fn have(&self) -> Bitfield {
        self.know();
        self.entry.read().have.clone()
    }

    /// Returns what is known and held.
    pub fn info(&self) -> FeedInfo {
        let state = self.entry.read();
        let head = state.head();
        FeedInfo {
            key: self.entry.key,
            discovery_key: self.entry.discovery_key,
            role: state.role,
            kind: self.entry.kind,
            fork: head.map_or(0, |head| head.fork),
            length: head.map_or(0, |head| head.length),
            byte_length: head.map_or(0, |head| head.byte_length),
            tree_hash: state
                .signed
                .as_ref()
                .map_or_else(|| Head::default().tree_hash(), |signed| signed.tree_hash),
            blocks_held: state.blocks_held,
            bytes_held: state.bytes_held,
            is_stopped: state.conflict.is_some(),
        }
    }

    /// Returns a block, `None` when it is not held.
    ///
    /// Blocks below 4 KiB are checked against their leaf hash, larger ones against their CRC32C.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`] names feed and block; damaged bytes are never returned.
    pub fn get(&self, block: u64) -> Result<Option<Bytes>, ReadError> {
        match self.get_from(&self.inner.heads, block) {
            Ok(found) => Ok(found.map(|(value, _)| value)),
            Err(StoreError::Damaged(damage)) => Err(ReadError::Damaged {
                feed: self.key(),
                block,
                damage,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns a tree node, `None` when it is not held.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`] names the first block below the node.
    pub fn node(&self, index: u64) -> Result<Option<Node>, ReadError> {
        self.entry
            .node(&self.inner.heads, index)
            .map_err(|error| self.node_error(index, error))
    }

    /// Returns which block holds byte `byte` of the feed, counted from 0, as far as the nodes held tell.
    ///
    /// # Errors
    ///
    /// Those of [`node`](Self::node).
    pub fn seek(&self, byte: u64) -> Result<Sought, ReadError> {
        tree::seek(&self.head(), self, byte)
    }

    /// Asks the index which blocks are held; those of which it cannot say so now count as not held.
    fn know(&self) {
        let _ = self.entry.ensure_known();
    }

    pub(super) fn node_error(&self, index: u64, error: StoreError) -> ReadError {
        match error {
            StoreError::Damaged(damage) => {
                let block = flat_tree::left_span(index) / 2;
                ReadError::Damaged {
                    feed: self.key(),
                    block,
                    damage,
                }
            }
            error => error.into(),
        }
    }

    /// Returns a block with its place, through the given head parts.
    pub(super) fn get_from(
        &self,
        heads: &Heads,
        block: u64,
    ) -> Result<Option<(Bytes, Extent)>, StoreError> {
        let mut found = self.entry.find_block(heads, block)?;
        while let Some((extent, leaf)) = found {
            let error = match self.read_block(heads, block, extent, leaf) {
                Ok(value) => return Ok(Some((value, extent))),
                Err(error) => error,
            };
            // Cleared and given back while we read, or moved by compaction?
            found = self.entry.find_block(heads, block)?;
            if found == Some((extent, leaf)) {
                return Err(error);
            }
        }
        Ok(None)
    }

    fn read_block(
        &self,
        heads: &Heads,
        block: u64,
        extent: Extent,
        leaf: NodeRef,
    ) -> Result<Bytes, StoreError> {
        let place = extent.record;
        let file = heads.segments().file(place.segment)?;
        let damaged = |what| StoreError::from(Damage { place, what });
        if extent.size as usize >= CHECKSUM_FROM_BYTES || !heads.verifies() {
            let mut value = vec![0; extent.size as usize];
            Segments::read_in(&*file, place, u64::from(extent.at), &mut value)?;
            let sum = || self.stored_checksum(heads, block, extent);
            if heads.verifies() && crc32c::crc32c(&value) != sum()? {
                return Err(damaged(DamageKind::BlockChecksum));
            }
            return Ok(value.into());
        }
        let hash_at = hash_at(leaf);
        let (at, size) = (u64::from(extent.at), extent.size as usize);
        let ahead = usize::try_from(at.wrapping_sub(hash_at)).unwrap_or(usize::MAX);
        let mut hash = [0; 32];
        let near = (hash.len()..=NEAR_BYTES).contains(&ahead) && ahead + size <= NEAR_BYTES;
        let value = if near && leaf.record() == place {
            // Hash and block of a small record come with one read.
            let mut near = [0; NEAR_BYTES];
            let near = &mut near[..ahead + size];
            Segments::read_in(&*file, place, hash_at, near)?;
            hash.copy_from_slice(&near[..32]);
            Bytes::copy_from_slice(&near[ahead..])
        } else {
            let mut value = vec![0; size];
            Segments::read_in(&*file, place, at, &mut value)?;
            match leaf.record().segment == place.segment {
                true => Segments::read_in(&*file, leaf.record(), hash_at, &mut hash)?,
                false => heads.segments().read(leaf.record(), hash_at, &mut hash)?,
            }
            value.into()
        };
        match Node::leaf(block, &value).hash.0 == hash {
            true => Ok(value),
            false => Err(damaged(DamageKind::BlockHash)),
        }
    }

    fn stored_checksum(
        &self,
        heads: &Heads,
        block: u64,
        extent: Extent,
    ) -> Result<u32, StoreError> {
        let head = heads.get(extent.record)?;
        let blocks = head
            .filled()
            .map(|filled| filled.blocks.as_slice())
            .unwrap_or_default();
        let at = extent.at.wrapping_sub(head.header.head_bytes);
        let first = blocks.partition_point(|stored| stored.at < at);
        let mut same_place = blocks[first..].iter().take_while(|stored| stored.at == at);
        same_place
            .find(|stored| stored.index == block && stored.size == extent.size)
            .and_then(|stored| stored.crc)
            .ok_or(
                Damage {
                    place: extent.record,
                    what: DamageKind::Index,
                }
                .into(),
            )
    }

    /// Returns the feed's writer, unless the feed was taken out of the store.
    pub(super) fn live_writer(&self) -> Result<MutexGuard<'_, FeedWriter>, StoreError> {
        let writer = self.entry.writer();
        match writer.dropped {
            false => Ok(writer),
            true => Err(StoreError::FeedDropped { feed: self.key() }),
        }
    }

    /// Puts an append or fill with its blocks into the form that the log takes.
    pub(super) fn commit_filled(
        &self,
        body: Body,
        blocks: &[Bytes],
        signed: Option<Arc<SignedHead>>,
    ) -> Commit {
        let mut commit = self.commit_blocks(&body, blocks);
        let (entry, head_bytes) = (self.entry.clone(), commit.head_bytes);
        let behind = match &body {
            Body::Append(filled) | Body::Fill(filled) => filled.blocks.last(),
            _ => None,
        };
        let claimed = behind
            .filter(|_| self.inner.options.makes(Mistake::BitmapOffByOne))
            .map(|last| last.index + 1);
        let publish: Publish = match body {
            Body::Append(filled) => {
                let new = NewRun::of(&filled, head_bytes);
                Box::new(move |place| entry.publish_append(place, &new, signed))
            }
            Body::Fill(filled) => {
                let inner = self.inner.clone();
                Box::new(move |place| {
                    entry.publish_fill(place, head_bytes, &filled, signed);
                    let of = (entry.number, head_bytes);
                    inner.heads.keep_fill(place, of, filled);
                })
            }
            _ => Box::new(|_| ()),
        };
        commit.publish = match claimed {
            None => publish,
            Some(claimed) => {
                let entry = self.entry.clone();
                Box::new(move |place| {
                    publish(place);
                    entry.write().have.set(claimed, true);
                })
            }
        };
        commit
    }

    /// Puts a body with its blocks into the form that the log takes; makes nothing visible.
    pub(super) fn commit_blocks(&self, body: &Body, blocks: &[Bytes]) -> Commit {
        let payload_bytes: usize = blocks.iter().map(Bytes::len).sum();
        let copies = payload_bytes < blocks.len() * GATHERED_FROM_BYTES;
        let mut bytes = self.inner.log.buffer();
        body.write_head_part(&mut bytes, if copies { payload_bytes } else { 0 });
        let head_bytes = bytes.len() as u32;
        let blocks = match copies {
            true => {
                blocks
                    .iter()
                    .for_each(|block| bytes.extend_from_slice(block));
                Vec::new()
            }
            false => blocks.to_vec(),
        };
        let kind = body.kind();
        Commit {
            kind,
            feed: self.entry.number,
            bytes,
            head_bytes,
            blocks,
            publish: Box::new(|_| ()),
        }
    }
}

/// Returns where the hash of a leaf stands, from the start of its record.
pub(super) fn hash_at(leaf: NodeRef) -> u64 {
    match leaf.is_fill() {
        true => body::fill_hash_at(leaf.ordinal()),
        false => body::append_leaf_hash_at(leaf.ordinal()),
    }
}
