//! Blocks that are asked for together, and the answer.

use bytes::Bytes;

use crate::crypto::Hash;
use crate::encoding::{DecodeError, Reader, Writer, uint_len};
use crate::limits::{FEED_LENGTH_MAX, SET_BLOCKS_MAX, SET_NODES_MAX};
use crate::tree::{BlockSet, BlocksProof, Group, Node};

/// Asks for blocks under one proof:
/// `uint id | uint fork | uint flags (1 = somebody waits) | uint n | n x (uint depth, uint m, m x (uint gap, uint length - 1))`.
///
/// Each of the n groups leads to the node `depth` levels above its first block; gaps are counted from
/// the end of the run before, the first from block 0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetRequest {
    /// Names the request in answers; ids are those of the feed's other requests.
    pub id: u64,
    /// Fork of the feed.
    pub fork: u64,
    /// Whether somebody may be waiting for the blocks: they go ahead of transfers that take long.
    pub is_urgent: bool,
    /// Which blocks.
    pub set: BlockSet,
}

const URGENT: u64 = 1;

impl SetRequest {
    /// Returns the bytes that [`encode`](Self::encode) writes.
    pub fn encoded_len(&self) -> usize {
        let mut bytes = 0;
        self.fields(|value| bytes += uint_len(value));
        bytes
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.fields(|value| out.put_uint(value));
    }

    fn fields(&self, mut put: impl FnMut(u64)) {
        put(self.id);
        put(self.fork);
        put(if self.is_urgent { URGENT } else { 0 });
        put(self.set.groups().len() as u64);
        let mut at = 0;
        for group in self.set.groups() {
            put(group.depth());
            put(group.runs().len() as u64);
            for run in group.runs() {
                put(run.start - at);
                put(run.end - run.start - 1);
                at = run.end;
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<SetRequest, DecodeError> {
        let (id, fork, flags) = (reader.uint()?, reader.uint()?, reader.uint()?);
        let count = reader.uint_max("groups", SET_BLOCKS_MAX)?;
        let mut groups = Vec::new();
        let mut at = 0u64;
        for _ in 0..count {
            let (position, depth) = (reader.position(), reader.uint()?);
            let runs = reader.uint_max("runs", SET_BLOCKS_MAX)?;
            let mut blocks = Vec::new();
            for _ in 0..runs {
                let start = at.saturating_add(reader.uint()?);
                at = start.saturating_add(reader.uint()?).saturating_add(1);
                blocks.push(start..at.min(FEED_LENGTH_MAX + 1));
            }
            groups.push(Group::new(depth, blocks).ok_or(no_set(position, depth))?);
        }
        let position = reader.position();
        let set = BlockSet::new(groups).ok_or(no_set(position, count as u64))?;
        Ok(SetRequest {
            id,
            fork,
            is_urgent: flags & URGENT != 0,
            set,
        })
    }
}

fn no_set(at: usize, actual: u64) -> DecodeError {
    DecodeError::UnknownValue {
        what: "set of blocks",
        at,
        actual,
    }
}

/// Blocks, the first of those asked for, with the nodes that prove them:
/// `uint id | uint fork | uint flags | uint blocks | uint nodes | sizes | 32-byte hashes | contents`.
///
/// Sizes are `uint size` of every block when all are alike and each node has as many times that as
/// blocks (flag 1), otherwise one `uint` for each block and then for each node. Which nodes they are
/// follows from the blocks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetAnswer {
    /// The request that is answered.
    pub id: u64,
    /// Fork of the feed.
    pub fork: u64,
    /// Contents of the blocks, in order.
    pub values: Vec<Bytes>,
    sizes: NodeSizes,
    hashes: Vec<Hash>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum NodeSizes {
    /// Every block has this size.
    Alike(u64),
    Listed(Vec<u64>),
}

const ALIKE: u64 = 1;

impl SetAnswer {
    /// Returns the answer that a proof makes up.
    pub fn new(id: u64, fork: u64, proof: BlocksProof) -> SetAnswer {
        let BlocksProof { values, nodes, .. } = proof;
        let size = values.first().map_or(0, |value| value.len() as u64);
        let as_first =
            |node: &Node| size.checked_mul(flat_tree::count_leaves(node.index)) == Some(node.size);
        let alike =
            values.iter().all(|value| value.len() as u64 == size) && nodes.iter().all(as_first);
        SetAnswer {
            id,
            fork,
            values,
            sizes: match alike {
                true => NodeSizes::Alike(size),
                false => NodeSizes::Listed(nodes.iter().map(|node| node.size).collect()),
            },
            hashes: nodes.iter().map(|node| node.hash).collect(),
        }
    }

    /// Returns the answer that the first block of a set is not to be had.
    pub fn nothing(id: u64, fork: u64) -> SetAnswer {
        SetAnswer {
            id,
            fork,
            values: Vec::new(),
            sizes: NodeSizes::Alike(0),
            hashes: Vec::new(),
        }
    }

    /// Returns the proof that this answer to `asked` makes up; `None` when it cannot be one of its
    /// first blocks.
    pub fn into_proof(self, asked: &BlockSet) -> Option<BlocksProof> {
        let set = asked.prefix(self.values.len())?;
        let indexes = set.nodes();
        if set.count() != self.values.len() || indexes.len() != self.hashes.len() {
            return None;
        }
        let sizes = match self.sizes {
            NodeSizes::Alike(size) => indexes
                .iter()
                .map(|index| size.checked_mul(flat_tree::count_leaves(*index)))
                .collect::<Option<Vec<u64>>>()?,
            NodeSizes::Listed(sizes) => sizes,
        };
        let nodes = indexes.into_iter().zip(sizes).zip(self.hashes);
        Some(BlocksProof {
            set,
            values: self.values,
            nodes: nodes
                .map(|((index, size), hash)| Node { index, size, hash })
                .collect(),
        })
    }

    /// Returns the bytes of the blocks.
    pub fn value_bytes(&self) -> usize {
        self.values.iter().map(Bytes::len).sum()
    }

    /// Returns the bytes that [`encode`](Self::encode) writes.
    pub fn encoded_len(&self) -> usize {
        let mut bytes = 32 * self.hashes.len() + self.value_bytes();
        self.fields(|value| bytes += uint_len(value));
        bytes
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.fields(|value| out.put_uint(value));
        self.hashes.iter().for_each(|hash| out.put_raw(&hash.0));
        self.values.iter().for_each(|value| out.put_raw(value));
    }

    fn fields(&self, mut put: impl FnMut(u64)) {
        put(self.id);
        put(self.fork);
        put(match self.sizes {
            NodeSizes::Alike(_) => ALIKE,
            NodeSizes::Listed(_) => 0,
        });
        put(self.values.len() as u64);
        put(self.hashes.len() as u64);
        match &self.sizes {
            NodeSizes::Alike(size) => put(*size),
            NodeSizes::Listed(sizes) => {
                self.values.iter().for_each(|value| put(value.len() as u64));
                sizes.iter().copied().for_each(put);
            }
        }
    }

    /// Decodes an answer; contents are slices of `body`, not copies.
    pub(super) fn decode(reader: &mut Reader<'_>, body: &Bytes) -> Result<SetAnswer, DecodeError> {
        let (id, fork, flags) = (reader.uint()?, reader.uint()?, reader.uint()?);
        let blocks = reader.uint_max("blocks", SET_BLOCKS_MAX)?;
        let nodes = reader.uint_max("set nodes", SET_NODES_MAX)?;
        let mut value_bytes = Vec::with_capacity(blocks);
        let sizes = if flags & ALIKE != 0 {
            let size = reader.uint_max("block size", body.len())?;
            value_bytes.resize(blocks, size);
            NodeSizes::Alike(size as u64)
        } else {
            for _ in 0..blocks {
                value_bytes.push(reader.uint_max("block size", body.len())?);
            }
            let listed = (0..nodes).map(|_| reader.uint());
            NodeSizes::Listed(listed.collect::<Result<_, _>>()?)
        };
        let mut hashes = Vec::with_capacity(nodes.min(reader.rest().len() / 32));
        for _ in 0..nodes {
            hashes.push(Hash(reader.fixed()?));
        }
        let mut values = Vec::with_capacity(blocks);
        for bytes in value_bytes {
            let start = reader.position();
            reader.raw(bytes)?;
            values.push(body.slice(start..start + bytes));
        }
        reader.finish()?;
        Ok(SetAnswer {
            id,
            fork,
            values,
            sizes,
            hashes,
        })
    }
}
