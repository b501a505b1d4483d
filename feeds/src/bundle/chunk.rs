//! A run of blocks with what ties them to the blocks before: its frame, which says how large the
//! blocks are and names the nodes beside them.

use std::ops::Range;

use bytes::Bytes;

use crate::crypto::Hash;
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::{BUNDLE_RUN_BLOCKS_MAX, BUNDLE_RUN_BYTES, PLAIN_BLOCK_BYTES_MAX};
use crate::tree::Node;

/// Bytes of a block's leaf hash in the frame: enough to name the block that was damaged; the proof
/// does not rest on them.
pub(super) const TAG_BYTES: usize = 4;

/// A verified run of blocks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chunk {
    /// Index of the first block.
    pub start: u64,
    /// The blocks.
    pub blocks: Vec<Bytes>,
    /// The leaf of each block, in order.
    pub leaves: Vec<Node>,
    /// All nodes that the run proves below those proved before: leaves, parents, and siblings.
    pub nodes: Vec<Node>,
}

impl Chunk {
    /// Returns which blocks these are.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.blocks.len() as u64
    }

    /// Returns the bytes of the blocks.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.len() as u64).sum()
    }
}

/// What stands before the blocks of a run. A node's index follows from its position.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Frame {
    pub(super) blocks: Vec<(u32, [u8; TAG_BYTES])>,
    pub(super) nodes: Vec<(u64, Hash)>,
}

impl Frame {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 9 * self.blocks.len() + 41 * self.nodes.len());
        out.put_uint(self.blocks.len() as u64);
        for (size, tag) in &self.blocks {
            out.put_uint(u64::from(*size));
            out.put_raw(tag);
        }
        for (size, hash) in &self.nodes {
            out.put_uint(*size);
            out.put_raw(&hash.0);
        }
        out
    }

    /// Reads a frame; how many nodes there are is for the tree to say.
    pub(super) fn decode(bytes: &[u8]) -> Result<Frame, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.uint_max("blocks of a run", BUNDLE_RUN_BLOCKS_MAX)?;
        if count == 0 {
            return Err(unknown("blocks of a run", 0, 0));
        }
        let mut frame = Frame::default();
        let mut total = 0;
        for _ in 0..count {
            let size = reader.uint_max("block size", PLAIN_BLOCK_BYTES_MAX)?;
            total += size;
            let fitting = u32::try_from(size).expect("the limit on block sizes fits 32 bits");
            frame.blocks.push((fitting, reader.fixed()?));
        }
        if count > 1 && total > BUNDLE_RUN_BYTES {
            return Err(DecodeError::AboveLimit {
                what: "bytes of a run",
                at: reader.position(),
                limit: BUNDLE_RUN_BYTES as u64,
                actual: total as u64,
            });
        }
        while !reader.is_empty() {
            frame.nodes.push((reader.uint()?, Hash(reader.fixed()?)));
        }
        if frame.encode() != bytes {
            return Err(unknown("form of the run", 0, 1));
        }
        Ok(frame)
    }

    /// Returns the bytes of the blocks that follow the frame.
    pub(super) fn payload_bytes(&self) -> usize {
        self.blocks.iter().map(|(size, _)| *size as usize).sum()
    }
}

fn unknown(what: &'static str, at: usize, actual: u64) -> DecodeError {
    DecodeError::UnknownValue { what, at, actual }
}

/// Returns what the frame repeats of a leaf.
pub(super) fn tag(leaf: &Node) -> [u8; TAG_BYTES] {
    std::array::from_fn(|i| leaf.hash.0[i])
}
