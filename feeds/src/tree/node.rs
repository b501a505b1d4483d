//! A node of the tree, and how its hash is made.

use crate::crypto::{Hash, blake2b_256};
use crate::encoding::{DecodeError, Reader, Writer};

/// First byte of a leaf's hash input.
pub(super) const LEAF: [u8; 1] = [0];
/// First byte of a parent's hash input.
pub(super) const PARENT: [u8; 1] = [1];
const TREE: [u8; 1] = [2];

/// A node of the flat tree: where it stands, how many bytes lie below, its hash.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Node {
    /// Flat-tree index; block `i` is node `2i`.
    pub index: u64,
    /// Bytes of all blocks below.
    pub size: u64,
    /// Leaf or parent hash.
    pub hash: Hash,
}

impl Node {
    /// Returns the leaf of block `block` with content `data`.
    pub fn leaf(block: u64, data: &[u8]) -> Node {
        let size = data.len() as u64;
        let hash = Hash(blake2b_256(&[&LEAF, &size.to_le_bytes(), data]));
        Node {
            index: 2 * block,
            size,
            hash,
        }
    }

    /// Returns the parent of two siblings, in either order; `None` if their sizes overflow.
    pub fn parent(one: &Node, other: &Node) -> Option<Node> {
        let (left, right) = if one.index < other.index {
            (one, other)
        } else {
            (other, one)
        };
        let size = left.size.checked_add(right.size)?;
        let index = left.index + (right.index - left.index) / 2;
        let hash = blake2b_256(&[&PARENT, &size.to_le_bytes(), &left.hash.0, &right.hash.0]);
        Some(Node {
            index,
            size,
            hash: Hash(hash),
        })
    }

    /// Writes the node as it travels: index, size, hash.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_uint(self.index);
        out.put_uint(self.size);
        out.put_raw(&self.hash.0);
    }

    /// Reads a node as it travels.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Node, DecodeError> {
        Ok(Node {
            index: reader.uint()?,
            size: reader.uint()?,
            hash: Hash(reader.fixed()?),
        })
    }

    /// Writes a list of nodes as it travels.
    pub fn encode_list(nodes: &[Node], out: &mut Vec<u8>) {
        out.put_uint(nodes.len() as u64);
        nodes.iter().for_each(|node| node.encode(out));
    }

    /// Reads a list of at most `limit` nodes as it travels.
    pub fn decode_list(
        reader: &mut Reader<'_>,
        what: &'static str,
        limit: usize,
    ) -> Result<Vec<Node>, DecodeError> {
        let count = reader.uint_max(what, limit)?;
        (0..count).map(|_| Node::decode(reader)).collect()
    }

    /// Returns the hash that stands for a whole tree, from its roots left to right.
    pub fn tree_hash(roots: &[Node]) -> Hash {
        let mut bytes = Vec::with_capacity(1 + roots.len() * 48);
        bytes.extend_from_slice(&TREE);
        for root in roots {
            bytes.extend_from_slice(&root.hash.0);
            bytes.extend_from_slice(&root.index.to_le_bytes());
            bytes.extend_from_slice(&root.size.to_le_bytes());
        }
        Hash(blake2b_256(&[&bytes]))
    }
}
