//! The bodies of records: what each kind says, and its bytes.
//!
//! Arrays of fixed width come first, so that the place of any node's hash follows from the place
//! of its record and its number there, without reading the rest.

use bytes::Bytes;

use crate::crypto::{FeedKey, Hash};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::{
    CONFLICT_PROOF_BYTES_MAX, MANIFEST_BYTES_MAX, PLAIN_BLOCK_BYTES_MAX, SIGNATURE_BYTES_MAX,
    UINT_MAX,
};
use crate::store::limits::{
    CHECKSUM_FROM_BYTES, CLEARED_RANGES_MAX, GAPS_MAX, RECORD_BLOCKS_MAX, RECORD_NODES_MAX,
    SEGMENTS_MAX,
};
use crate::store::record::{CHECK_BYTES, HEADER_BYTES, kind};
use crate::tree::{Node, completed_parents};

/// Bytes of an append body before its leaf hashes.
const APPEND_FIXED_BYTES: usize = 16;

/// Bytes of a fill body before its nodes.
const FILL_FIXED_BYTES: usize = 8;

/// Bytes of a parent in an append body: size and hash.
const PARENT_BYTES: usize = 40;

/// Bytes of a node in a fill body: index, size and hash.
const NODE_BYTES: usize = 48;

/// A head as records carry it: the roots follow from the nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct StoredHead {
    pub(super) fork: u64,
    pub(super) length: u64,
    pub(super) tree_hash: Hash,
    pub(super) signature: Bytes,
}

/// A block of a record: where in the payload part it stands, and its checksum if it is large.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct StoredBlock {
    pub(super) index: u64,
    /// Offset from the start of the payload part.
    pub(super) at: u32,
    pub(super) size: u32,
    /// CRC32C of a block of 4 KiB or more.
    pub(super) crc: Option<u32>,
}

/// What a record says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Body {
    Feed {
        key: FeedKey,
        role: u8,
        kind: u8,
        manifest: Option<Bytes>,
    },
    Append(Filled),
    Fill(Filled),
    Cleared {
        ranges: Vec<(u64, u64)>,
    },
    /// A plain feed was cut to `length` blocks and has a head of another fork, with the nodes that
    /// lead there. In bytes a fill, and the length behind it.
    Truncate {
        length: u64,
        filled: Filled,
    },
    Dropped,
    /// The writer contradicted itself: nothing is added to the feed any more.
    Conflict {
        /// The encoded [`ConflictProof`](crate::conflict::ConflictProof).
        proof: Bytes,
    },
    Checkpoint {
        segment: u32,
        offset: u32,
        sequence: u64,
    },
    /// Where compaction has taken segments out, ascending.
    Emptied {
        gaps: Vec<Gap>,
    },
}

/// Segments that are gone because nothing in them was of use any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gap {
    /// Number of the first of them.
    pub(super) first: u32,
    /// How many.
    pub(super) count: u32,
    /// Sequence of the first record that was in them.
    pub(super) sequence: u64,
}

/// Nodes, blocks and perhaps a head: of an append or of verified proofs.
///
/// An append lists its leaves, then the parents they complete; a fill lists nodes in any order.
/// The position of a node here is its number in the record.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Filled {
    pub(super) nodes: Vec<Node>,
    pub(super) blocks: Vec<StoredBlock>,
    pub(super) head: Option<StoredHead>,
}

impl Filled {
    /// Adds a block behind those already listed.
    pub(super) fn push_block(&mut self, index: u64, value: &[u8]) {
        let at = self.blocks.last().map_or(0, |last| last.at + last.size);
        let size = u32::try_from(value.len()).expect("block sizes were checked against the limit");
        let crc = (value.len() >= CHECKSUM_FROM_BYTES).then(|| crc32c::crc32c(value));
        self.blocks.push(StoredBlock {
            index,
            at,
            size,
            crc,
        });
    }

    fn payload_bytes(&self) -> u64 {
        self.blocks
            .last()
            .map_or(0, |last| u64::from(last.at) + u64::from(last.size))
    }
}

/// Returns where the hash of leaf number `ordinal` of an append stands, from the record's start.
pub(super) fn append_leaf_hash_at(ordinal: u32) -> u64 {
    (HEADER_BYTES + APPEND_FIXED_BYTES) as u64 + 32 * u64::from(ordinal)
}

/// Returns where the hash of node number `ordinal` of a fill stands, from the record's start.
pub(super) fn fill_hash_at(ordinal: u32) -> u64 {
    (HEADER_BYTES + FILL_FIXED_BYTES + 16) as u64 + NODE_BYTES as u64 * u64::from(ordinal)
}

impl Body {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Body::Feed { .. } => kind::FEED,
            Body::Append(_) => kind::APPEND,
            Body::Fill(_) => kind::FILL,
            Body::Cleared { .. } => kind::CLEARED,
            Body::Truncate { .. } => kind::TRUNCATE,
            Body::Dropped => kind::DROPPED,
            Body::Conflict { .. } => kind::CONFLICT,
            Body::Checkpoint { .. } => kind::CHECKPOINT,
            Body::Emptied { .. } => kind::EMPTIED,
        }
    }

    /// Writes a head part with room for header and check, and the body between, into the empty
    /// `out`; reserves space for `payload_bytes` behind it.
    pub(super) fn write_head_part(&self, out: &mut Vec<u8>, payload_bytes: usize) {
        let head_bytes = HEADER_BYTES + self.bytes_expected() + CHECK_BYTES;
        out.reserve(head_bytes + payload_bytes);
        out.resize(HEADER_BYTES, 0);
        match self {
            Body::Feed {
                key,
                role,
                kind,
                manifest,
            } => {
                out.put_raw(&key.0);
                out.put_raw(&[*role, *kind]);
                out.put_buffer(manifest.as_deref().unwrap_or_default());
            }
            Body::Append(filled) => encode_append(filled, out),
            Body::Fill(filled) => encode_fill(filled, out),
            Body::Cleared { ranges } => {
                out.put_uint(ranges.len() as u64);
                for (start, length) in ranges {
                    out.put_uint(*start);
                    out.put_uint(*length);
                }
            }
            Body::Truncate { length, filled } => {
                encode_fill(filled, out);
                out.put_raw(&length.to_le_bytes());
            }
            Body::Dropped => {}
            Body::Conflict { proof } => out.put_raw(proof),
            Body::Checkpoint {
                segment,
                offset,
                sequence,
            } => {
                out.put_raw(&segment.to_le_bytes());
                out.put_raw(&offset.to_le_bytes());
                out.put_raw(&sequence.to_le_bytes());
            }
            Body::Emptied { gaps } => {
                out.put_uint(gaps.len() as u64);
                for gap in gaps {
                    out.put_uint(u64::from(gap.first));
                    out.put_uint(u64::from(gap.count));
                    out.put_raw(&gap.sequence.to_le_bytes());
                }
            }
        }
        out.resize(out.len() + CHECK_BYTES, 0);
    }

    fn bytes_expected(&self) -> usize {
        match self {
            Body::Append(filled) => 256 + filled.nodes.len() * 40 + filled.blocks.len() * 4,
            Body::Fill(filled) | Body::Truncate { filled, .. } => {
                256 + filled.nodes.len() * 48 + filled.blocks.len() * 14
            }
            _ => 256,
        }
    }

    /// Reads the body of a record whose check holds; `None` for a kind that is not known.
    pub(super) fn decode(
        kind: u8,
        body: &[u8],
        payload_bytes: u32,
    ) -> Result<Option<Body>, DecodeError> {
        let mut reader = Reader::new(body);
        let body = match kind {
            kind::FEED => {
                let key = FeedKey(reader.fixed()?);
                let [role, kind] = reader.fixed()?;
                let manifest = reader.buffer("manifest", MANIFEST_BYTES_MAX)?;
                let manifest = (!manifest.is_empty()).then(|| Bytes::copy_from_slice(manifest));
                Body::Feed {
                    key,
                    role,
                    kind,
                    manifest,
                }
            }
            kind::APPEND | kind::MOVED_APPEND => Body::Append(decode_append(&mut reader)?),
            kind::FILL | kind::MOVED_FILL => Body::Fill(decode_fill(&mut reader)?),
            kind::CLEARED => {
                let count = reader.uint_max("cleared ranges", CLEARED_RANGES_MAX)?;
                let ranges = (0..count)
                    .map(|_| Ok((reader.uint()?, reader.uint()?)))
                    .collect::<Result<_, DecodeError>>()?;
                Body::Cleared { ranges }
            }
            kind::TRUNCATE => Body::Truncate {
                filled: decode_fill(&mut reader)?,
                length: reader.u64()?,
            },
            kind::DROPPED => Body::Dropped,
            kind::CONFLICT => {
                let actual = reader.rest().len();
                if actual > CONFLICT_PROOF_BYTES_MAX {
                    return Err(DecodeError::AboveLimit {
                        what: "conflict proof",
                        at: 0,
                        limit: CONFLICT_PROOF_BYTES_MAX as u64,
                        actual: actual as u64,
                    });
                }
                let proof = Bytes::copy_from_slice(reader.raw(actual)?);
                Body::Conflict { proof }
            }
            kind::CHECKPOINT => Body::Checkpoint {
                segment: reader.u32()?,
                offset: reader.u32()?,
                sequence: reader.u64()?,
            },
            kind::EMPTIED => Body::Emptied {
                gaps: decode_gaps(&mut reader)?,
            },
            _ => return Ok(None),
        };
        reader.finish()?;
        let expected = match &body {
            Body::Append(filled) | Body::Fill(filled) | Body::Truncate { filled, .. } => {
                filled.payload_bytes()
            }
            _ => 0,
        };
        if expected != u64::from(payload_bytes) {
            return Err(DecodeError::UnknownValue {
                what: "payload bytes",
                at: 12,
                actual: u64::from(payload_bytes),
            });
        }
        Ok(Some(body))
    }
}

/// Reads gaps: ascending, not touching, within the numbers that segments have.
fn decode_gaps(reader: &mut Reader<'_>) -> Result<Vec<Gap>, DecodeError> {
    let count = reader.uint_max("gaps", GAPS_MAX)?;
    let mut gaps = Vec::new();
    let mut free = 0;
    for _ in 0..count {
        let at = reader.position();
        let first = reader.uint_max("emptied segment", SEGMENTS_MAX as usize)? as u32;
        let count = reader.uint_max("emptied segments", SEGMENTS_MAX as usize)? as u32;
        let sequence = reader.u64()?;
        if count == 0 || first < free || first + count > SEGMENTS_MAX {
            return Err(DecodeError::UnknownValue {
                what: "gap",
                at,
                actual: u64::from(first),
            });
        }
        free = first + count + 1;
        gaps.push(Gap {
            first,
            count,
            sequence,
        });
    }
    Ok(gaps)
}

fn encode_append(filled: &Filled, out: &mut Vec<u8>) {
    let count = filled.blocks.len();
    let (leaves, parents) = filled.nodes.split_at(count);
    let start = filled.blocks.first().map_or(0, |block| block.index);
    out.put_raw(&start.to_le_bytes());
    out.put_raw(&(count as u32).to_le_bytes());
    out.put_raw(&(parents.len() as u32).to_le_bytes());
    for leaf in leaves {
        out.put_raw(&leaf.hash.0);
    }
    for parent in parents {
        out.put_raw(&parent.size.to_le_bytes());
        out.put_raw(&parent.hash.0);
    }
    for block in &filled.blocks {
        out.put_uint(u64::from(block.size));
    }
    for crc in filled.blocks.iter().filter_map(|block| block.crc) {
        out.put_raw(&crc.to_le_bytes());
    }
    if let Some(head) = &filled.head {
        encode_head(head, out);
    }
}

fn decode_append(reader: &mut Reader<'_>) -> Result<Filled, DecodeError> {
    let start = reader.u64()?;
    let count = limited("blocks", reader, RECORD_BLOCKS_MAX)?;
    let parents = limited("parents", reader, RECORD_NODES_MAX - RECORD_BLOCKS_MAX)?;
    if start > UINT_MAX / 2 - RECORD_BLOCKS_MAX as u64 {
        return Err(DecodeError::IntegerTooLarge {
            at: 0,
            value: start,
        });
    }
    let leaf_hashes = reader.raw(32 * count)?;
    let parent_nodes = reader.raw(PARENT_BYTES * parents)?;
    let mut nodes = Vec::with_capacity(count + parents);
    let mut blocks = Vec::with_capacity(count);
    let mut at = 0u32;
    for (i, hash) in (0..).zip(leaf_hashes.chunks_exact(32)) {
        let index = start + i;
        let size = block_size(reader)?;
        blocks.push(StoredBlock {
            index,
            at,
            size,
            crc: None,
        });
        at = at
            .checked_add(size)
            .ok_or(DecodeError::TrailingBytes { at: 0, count: 0 })?;
        nodes.push(Node {
            index: 2 * index,
            size: u64::from(size),
            hash: hash_of(hash),
        });
    }
    let indexes = completed_parents(start, start + count as u64);
    for (index, bytes) in indexes.zip(parent_nodes.chunks_exact(PARENT_BYTES)) {
        let mut parent = Reader::new(bytes);
        nodes.push(Node {
            index,
            size: parent.u64()?,
            hash: Hash(parent.fixed()?),
        });
    }
    if nodes.len() != count + parents {
        let actual = parents as u64;
        return Err(DecodeError::UnknownValue {
            what: "parents",
            at: 12,
            actual,
        });
    }
    read_checksums(reader, &mut blocks)?;
    let head = Some(decode_head(reader)?);
    Ok(Filled {
        nodes,
        blocks,
        head,
    })
}

fn encode_fill(filled: &Filled, out: &mut Vec<u8>) {
    out.put_raw(&(filled.nodes.len() as u32).to_le_bytes());
    out.put_raw(&(filled.blocks.len() as u32).to_le_bytes());
    for node in &filled.nodes {
        out.put_raw(&node.index.to_le_bytes());
        out.put_raw(&node.size.to_le_bytes());
        out.put_raw(&node.hash.0);
    }
    for block in &filled.blocks {
        out.put_uint(block.index);
        out.put_uint(u64::from(block.size));
    }
    for crc in filled.blocks.iter().filter_map(|block| block.crc) {
        out.put_raw(&crc.to_le_bytes());
    }
    out.push(u8::from(filled.head.is_some()));
    if let Some(head) = &filled.head {
        encode_head(head, out);
    }
}

fn decode_fill(reader: &mut Reader<'_>) -> Result<Filled, DecodeError> {
    let node_count = limited("nodes", reader, RECORD_NODES_MAX)?;
    let block_count = limited("blocks", reader, RECORD_BLOCKS_MAX)?;
    let bytes = reader.raw(NODE_BYTES * node_count)?;
    let mut nodes = Vec::with_capacity(node_count);
    for bytes in bytes.chunks_exact(NODE_BYTES) {
        let mut node = Reader::new(bytes);
        nodes.push(Node {
            index: node.u64()?,
            size: node.u64()?,
            hash: Hash(node.fixed()?),
        });
    }
    // A block takes at least two bytes, so that the input bounds what is reserved here.
    let mut blocks = Vec::with_capacity(block_count.min(reader.rest().len() / 2));
    let mut at = 0u32;
    for _ in 0..block_count {
        let index = reader.uint()?;
        let size = block_size(reader)?;
        blocks.push(StoredBlock {
            index,
            at,
            size,
            crc: None,
        });
        at = at
            .checked_add(size)
            .ok_or(DecodeError::TrailingBytes { at: 0, count: 0 })?;
    }
    read_checksums(reader, &mut blocks)?;
    let head = match reader.u8()? {
        0 => None,
        1 => Some(decode_head(reader)?),
        other => {
            let at = reader.position();
            let actual = u64::from(other);
            return Err(DecodeError::UnknownValue {
                what: "head mark",
                at,
                actual,
            });
        }
    };
    Ok(Filled {
        nodes,
        blocks,
        head,
    })
}

fn encode_head(head: &StoredHead, out: &mut Vec<u8>) {
    out.put_uint(head.fork);
    out.put_uint(head.length);
    out.put_raw(&head.tree_hash.0);
    out.put_buffer(&head.signature);
}

fn decode_head(reader: &mut Reader<'_>) -> Result<StoredHead, DecodeError> {
    Ok(StoredHead {
        fork: reader.uint()?,
        length: reader.uint()?,
        tree_hash: Hash(reader.fixed()?),
        signature: Bytes::copy_from_slice(reader.buffer("signature", SIGNATURE_BYTES_MAX)?),
    })
}

fn read_checksums(reader: &mut Reader<'_>, blocks: &mut [StoredBlock]) -> Result<(), DecodeError> {
    for block in blocks
        .iter_mut()
        .filter(|block| block.size as usize >= CHECKSUM_FROM_BYTES)
    {
        block.crc = Some(reader.u32()?);
    }
    Ok(())
}

fn block_size(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let size = reader.uint_max("block size", PLAIN_BLOCK_BYTES_MAX)?;
    Ok(u32::try_from(size).expect("the limit on block sizes fits 32 bits"))
}

fn limited(
    what: &'static str,
    reader: &mut Reader<'_>,
    limit: usize,
) -> Result<usize, DecodeError> {
    let at = reader.position();
    let actual = reader.u32()?;
    if actual as usize > limit {
        let (limit, actual) = (limit as u64, u64::from(actual));
        return Err(DecodeError::AboveLimit {
            what,
            at,
            limit,
            actual,
        });
    }
    Ok(actual as usize)
}

fn hash_of(bytes: &[u8]) -> Hash {
    Hash(bytes.try_into().expect("chunks of 32 bytes"))
}
