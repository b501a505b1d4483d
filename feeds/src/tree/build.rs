//! Building roots from left to right out of nodes that a peer sent.
//!
//! A node that a peer names carries its size in the clear, and its hash does not let us check that
//! size: only a parent's hash covers the *sum* of its children's sizes. Two such nodes merged with
//! each other could therefore have shifted bytes between them without changing any hash above. The
//! builder keeps track: a *bare* node counts as proved once its sibling's size is certain or it is
//! itself part of the signed roots; a pair of bare siblings does not.

use crate::limits::{FEED_LENGTH_MAX, PROOF_NODES_MAX, UINT_MAX};
use crate::tree::{Fault, Head, Node};

/// How sure the size of a node is, provided that what lies above it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// Trusted before this proof.
    Known,
    /// Computed from a block or from two children: its hash commits to its size.
    Computed,
    /// Named by the peer.
    Bare,
}

/// A node and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) node: Node,
    pub(crate) origin: Origin,
}

/// Nodes that a proof makes certain, and those whose size it leaves open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Learned {
    /// Index, size and hash are proved.
    pub(crate) proved: Vec<Node>,
    /// The hash is proved, of the size only its sum with the sibling's.
    pub(crate) unsized_pairs: Vec<Node>,
}

impl Learned {
    /// Returns all nodes: of those whose size is open, the size as it was named.
    pub(crate) fn all(self) -> Vec<Node> {
        let mut nodes = self.proved;
        nodes.extend(self.unsized_pairs);
        nodes
    }

    /// Merges two siblings into their parent and notes what that proves.
    pub(crate) fn merge(&mut self, one: Piece, other: Piece) -> Result<Piece, Fault> {
        let node = Node::parent(&one.node, &other.node)
            .filter(|parent| parent.size <= UINT_MAX)
            .ok_or(Fault::SizeOverflow {
                node: one.node.index,
            })?;
        let both_bare = one.origin == Origin::Bare && other.origin == Origin::Bare;
        let learned = if both_bare {
            &mut self.unsized_pairs
        } else {
            &mut self.proved
        };
        let bare = [one, other]
            .into_iter()
            .filter(|piece| piece.origin == Origin::Bare);
        learned.extend(bare.map(|piece| piece.node));
        self.proved.push(node);
        Ok(Piece {
            node,
            origin: Origin::Computed,
        })
    }
}

/// Roots that grow to the right.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    roots: Vec<Piece>,
    length: u64,
    byte_length: u64,
    learned: Learned,
}

impl Builder {
    /// Starts from trusted roots.
    pub(crate) fn new(head: &Head) -> Builder {
        let known = |node: &Node| Piece {
            node: *node,
            origin: Origin::Known,
        };
        Builder {
            roots: head.roots.iter().map(known).collect(),
            length: head.length,
            byte_length: head.byte_length,
            learned: Learned::default(),
        }
    }

    /// Returns the length in blocks so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Returns whether `node` is where the next root begins.
    pub(crate) fn fits(&self, node: u64) -> bool {
        node <= UINT_MAX && flat_tree::left_span(node) == 2 * self.length
    }

    /// Adds the subtree right of what is there, and merges roots that become complete.
    pub(crate) fn append(&mut self, piece: Piece) -> Result<(), Fault> {
        let index = piece.node.index;
        if !self.fits(index) {
            return Err(Fault::UnexpectedNode {
                expected: 2 * self.length,
                actual: index,
            });
        }
        self.length += flat_tree::count_leaves(index);
        if self.length > FEED_LENGTH_MAX {
            return Err(Fault::TooLong {
                length: self.length,
            });
        }
        self.byte_length = self
            .byte_length
            .checked_add(piece.node.size)
            .filter(|bytes| *bytes <= UINT_MAX)
            .ok_or(Fault::SizeOverflow { node: index })?;
        let mut last = piece;
        while let Some(left) = self
            .roots
            .pop_if(|root| root.node.index == flat_tree::sibling(last.node.index))
        {
            last = self.learned.merge(left, last)?;
        }
        self.roots.push(last);
        Ok(())
    }

    /// Adds nodes that a peer named, which must lie side by side.
    pub(crate) fn append_bare(&mut self, nodes: &[Node]) -> Result<(), Fault> {
        debug_assert!(
            nodes.len() <= PROOF_NODES_MAX,
            "lists are bounded before they are built"
        );
        nodes.iter().try_for_each(|node| {
            self.append(Piece {
                node: *node,
                origin: Origin::Bare,
            })
        })
    }

    /// Returns the head as it stands.
    pub(crate) fn head(&self, fork: u64) -> Head {
        let roots = self.roots.iter().map(|piece| piece.node).collect();
        Head {
            fork,
            length: self.length,
            byte_length: self.byte_length,
            roots,
        }
    }

    /// Returns what is certain once the tree hash of the roots is.
    pub(crate) fn finish(self) -> Learned {
        let mut learned = self.learned;
        let bare = self
            .roots
            .iter()
            .filter(|piece| piece.origin == Origin::Bare);
        learned.proved.extend(bare.map(|piece| piece.node));
        learned
    }
}
