//! The head of a feed: its length and the roots that stand for everything below.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use bytes::Bytes;

use crate::crypto::Hash;
use crate::limits::{FEED_LENGTH_MAX, UINT_MAX};
use crate::tree::Node;

/// Where nodes that are already trusted and stored are looked up.
pub trait NodeSource {
    /// What reading may fail with.
    type Error;

    /// Returns the trusted node at flat-tree index `index`, or `None` when it is not held.
    fn node(&self, index: u64) -> Result<Option<Node>, Self::Error>;
}

impl<S: NodeSource + ?Sized> NodeSource for &S {
    type Error = S::Error;

    fn node(&self, index: u64) -> Result<Option<Node>, Self::Error> {
        (**self).node(index)
    }
}

impl NodeSource for BTreeMap<u64, Node> {
    type Error = Infallible;

    fn node(&self, index: u64) -> Result<Option<Node>, Infallible> {
        Ok(self.get(&index).copied())
    }
}

impl NodeSource for HashMap<u64, Node> {
    type Error = Infallible;

    fn node(&self, index: u64) -> Result<Option<Node>, Infallible> {
        Ok(self.get(&index).copied())
    }
}

/// The head of a feed. The default is the empty feed at fork 0.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// Fork: how often the feed was truncated; 0 for ever on Kinlog feeds.
    pub fork: u64,
    /// Length in blocks.
    pub length: u64,
    /// Bytes of all blocks.
    pub byte_length: u64,
    /// The maximal complete subtrees, left to right.
    pub roots: Vec<Node>,
}

impl Head {
    /// Returns the head with these roots, or `None` when they are not exactly the roots of a tree
    /// (wrong indexes or order) or their sizes overflow.
    pub fn from_roots(fork: u64, roots: Vec<Node>) -> Option<Head> {
        let (mut length, mut byte_length) = (0u64, 0u64);
        for root in &roots {
            if root.index > UINT_MAX || flat_tree::left_span(root.index) != 2 * length {
                return None;
            }
            length += flat_tree::count_leaves(root.index);
            byte_length = byte_length.checked_add(root.size)?;
        }
        let canonical = length <= FEED_LENGTH_MAX
            && byte_length <= UINT_MAX
            && roots.iter().map(|root| root.index).eq(root_indexes(length));
        canonical.then_some(Head {
            fork,
            length,
            byte_length,
            roots,
        })
    }

    /// Returns the hash that the writer signs.
    pub fn tree_hash(&self) -> Hash {
        Node::tree_hash(&self.roots)
    }

    /// Returns the root with this index.
    pub fn root(&self, index: u64) -> Option<&Node> {
        self.roots.iter().find(|root| root.index == index)
    }
}

/// A head with the signature that makes it the writer's word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedHead {
    /// The head.
    pub head: Head,
    /// Its tree hash.
    pub tree_hash: Hash,
    /// The signature field as it travels (68 bytes for a default feed).
    pub signature: Bytes,
}

/// Returns the flat-tree indexes of the roots of a tree of `length` blocks, left to right.
///
/// `length` is at most [`FEED_LENGTH_MAX`].
pub fn root_indexes(length: u64) -> Vec<u64> {
    let mut indexes = Vec::with_capacity(length.count_ones() as usize);
    flat_tree::full_roots(2 * length, &mut indexes);
    indexes
}

/// Returns whether the subtree of `root` holds the node `index`.
pub(crate) fn contains(root: u64, index: u64) -> bool {
    let (left, right) = flat_tree::spans(root);
    (left..=right).contains(&index)
}

/// Returns the subtrees that take a tree of `start` blocks to `end`, left to right: the right-hand
/// siblings on the way up from the last block, then whole roots.
pub(crate) fn subtrees(start: u64, end: u64) -> Vec<u64> {
    let from = 2 * start;
    let mut list = Vec::new();
    for root in root_indexes(end) {
        if flat_tree::right_span(root) < from {
            continue;
        }
        if start == 0 || !contains(root, from - 2) {
            list.push(root);
            continue;
        }
        let last = from - 2;
        let mut at = last;
        while at != root {
            let sibling = flat_tree::sibling(at);
            if sibling > last {
                list.push(sibling);
            }
            at = flat_tree::parent(at);
        }
    }
    list
}
