//! The part of a proof that starts at the bottom: a block, a node or a seek with its siblings,
//! hashed upwards to one node. Nothing of it is certain before that node is.

use crate::crypto::Hash;
use crate::limits::UINT_MAX;
use crate::tree::build::{Learned, Origin, Piece};
use crate::tree::verify::at_most;
use crate::tree::{Fault, Node, Proof, Verified};

/// A block, node or seek hashed upwards as far as its nodes go.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) end: Piece,
    pub(super) learned: Learned,
    /// The leaf or node that the path starts from, and each parent on the way.
    pub(super) path: Vec<Node>,
}

impl Fold {
    /// `leaf` is the hash of the block's leaf, if it was made already.
    pub(super) fn new(proof: &Proof, leaf: Option<Hash>) -> Result<Option<Fold>, Fault> {
        let seek_nodes = proof.seek.as_ref().map_or(&[][..], |seek| &seek.nodes);
        let seek = match seek_nodes.split_first() {
            Some((first, rest)) => Some(Fold::climb(
                Piece {
                    node: *first,
                    origin: Origin::Bare,
                },
                rest,
                None,
            )?),
            None => None,
        };
        if let Some(block) = &proof.block {
            let leaf = match leaf {
                Some(hash) => Node {
                    index: 2 * block.index,
                    size: block.value.len() as u64,
                    hash,
                },
                None => Node::leaf(block.index, &block.value),
            };
            return Fold::leaf(leaf, &block.nodes, seek).map(Some);
        }
        let Some(hash) = &proof.hash else {
            return Ok(seek);
        };
        let Some((first, rest)) = hash.nodes.split_first() else {
            return Err(Fault::NodeMissing {
                expected: hash.index,
            });
        };
        if first.index != hash.index {
            return Err(Fault::UnexpectedNode {
                expected: hash.index,
                actual: first.index,
            });
        }
        Fold::climb(
            Piece {
                node: *first,
                origin: Origin::Bare,
            },
            rest,
            seek,
        )
        .map(Some)
    }

    fn leaf(leaf: Node, nodes: &[Node], seek: Option<Fold>) -> Result<Fold, Fault> {
        let mut fold = Fold::climb(
            Piece {
                node: leaf,
                origin: Origin::Computed,
            },
            nodes,
            seek,
        )?;
        fold.learned.proved.insert(0, leaf);
        Ok(fold)
    }

    /// Hashes from `start` upwards; the end of `seek` is one of the siblings on the way.
    fn climb(start: Piece, siblings: &[Node], mut seek: Option<Fold>) -> Result<Fold, Fault> {
        let mut fold = Fold {
            end: start,
            learned: Learned::default(),
            path: vec![start.node],
        };
        let mut rest = siblings.iter();
        loop {
            let expected = flat_tree::sibling(fold.end.node.index);
            let sibling = if let Some(seek) = seek.take_if(|seek| seek.end.node.index == expected) {
                fold.learned.proved.extend(seek.learned.proved);
                fold.learned
                    .unsized_pairs
                    .extend(seek.learned.unsized_pairs);
                seek.end
            } else if let Some(node) = rest.next() {
                if node.index != expected {
                    return Err(Fault::UnexpectedNode {
                        expected,
                        actual: node.index,
                    });
                }
                Piece {
                    node: *node,
                    origin: Origin::Bare,
                }
            } else if seek.is_some() {
                return Err(Fault::NodeMissing { expected });
            } else {
                return Ok(fold);
            };
            fold.end = fold.learned.merge(fold.end, sibling)?;
            at_most("node index", UINT_MAX, fold.end.node.index)?;
            fold.path.push(fold.end.node);
        }
    }

    /// Keeps what the fold proves strictly below the trusted node `top`.
    pub(super) fn below(self, top: u64, block: Option<u64>) -> Verified {
        let (left, right) = flat_tree::spans(top);
        let inside = |node: &Node| node.index != top && (left..=right).contains(&node.index);
        let mut learned = self.learned;
        learned.proved.retain(inside);
        learned.unsized_pairs.retain(inside);
        Verified {
            nodes: learned.proved,
            unsized_pairs: learned.unsized_pairs,
            block,
            ..Verified::default()
        }
    }
}
