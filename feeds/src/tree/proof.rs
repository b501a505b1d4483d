//! Proofs and what is asked of a prover, as values (`lib/messages.js` of npm `hypercore` 11).

use bytes::Bytes;

use crate::tree::{BlocksProof, Node};

/// Asks for a block and the siblings on `nodes` levels above it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct BlockRequest {
    /// Block index.
    pub index: u64,
    /// Parents to climb until a node the reader already trusts.
    pub nodes: u64,
}

/// Asks for a tree node and the siblings on `nodes` levels above it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct HashRequest {
    /// Flat-tree index.
    pub index: u64,
    /// Parents to climb until a node the reader already trusts.
    pub nodes: u64,
}

/// Asks for the nodes that prove where a byte lies.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SeekRequest {
    /// Byte offset in the feed.
    pub bytes: u64,
    /// Padding per block (encrypted foreign feeds).
    pub padding: u64,
}

/// Asks for the way from length `start` to `start + length`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct UpgradeRequest {
    /// Length the reader has.
    pub start: u64,
    /// Blocks to go up.
    pub length: u64,
}

/// What a proof is to contain; a part that is `None` is not asked for.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct ProofRequest {
    /// A block.
    pub block: Option<BlockRequest>,
    /// A tree node.
    pub hash: Option<HashRequest>,
    /// A byte offset.
    pub seek: Option<SeekRequest>,
    /// A longer head.
    pub upgrade: Option<UpgradeRequest>,
}

/// A block with the nodes that lead to something trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BlockProof {
    /// Block index.
    pub index: u64,
    /// Content; empty while only the tree part of a proof was made.
    pub value: Bytes,
    /// Siblings from the leaf up.
    pub nodes: Vec<Node>,
}

/// A tree node with the nodes that lead to something trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HashProof {
    /// Flat-tree index.
    pub index: u64,
    /// The node itself, then siblings upwards.
    pub nodes: Vec<Node>,
}

/// The nodes that show in which subtree a byte lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeekProof {
    /// Byte offset asked for.
    pub bytes: u64,
    /// Nodes from the subtree that holds the byte upwards.
    pub nodes: Vec<Node>,
}

/// A longer signed head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpgradeProof {
    /// Length the reader has.
    pub start: u64,
    /// Blocks to go up.
    pub length: u64,
    /// Roots and right-hand siblings that the reader lacks.
    pub nodes: Vec<Node>,
    /// The same walk from `start + length` to the head that is signed.
    pub additional_nodes: Vec<Node>,
    /// Signature field over the signed head.
    pub signature: Bytes,
}

/// Everything one answer proves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Proof {
    /// Fork the proof is for.
    pub fork: u64,
    /// A block.
    pub block: Option<BlockProof>,
    /// A tree node.
    pub hash: Option<HashProof>,
    /// A byte offset.
    pub seek: Option<SeekProof>,
    /// A longer head.
    pub upgrade: Option<UpgradeProof>,
    /// Many blocks under one proof; then there is no other part.
    pub blocks: Option<Box<BlocksProof>>,
}
