//! One proof for many blocks: making it, and verifying it against trusted nodes.

use std::ops::Range;

use bytes::Bytes;

use crate::limits::{SET_NODES_MAX, UINT_MAX};
use crate::tree::append::{hash_leaves, hash_subtree};
use crate::tree::set::{Group, blocks_below, runs_in};
use crate::tree::trusted::Trusted;
use crate::tree::verify::at_most;
use crate::tree::{BlockSet, Fault, Head, Node, NodeSource, ProveError, Verified, VerifyError};

/// Blocks with the nodes that lead all of them to something trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BlocksProof {
    /// Which blocks.
    pub set: BlockSet,
    /// Their contents, one each; empty while only the tree part of a proof was made.
    pub values: Vec<Bytes>,
    /// The nodes of [`BlockSet::nodes`].
    pub nodes: Vec<Node>,
}

/// Makes the tree part of the proof of a set of blocks.
pub fn prove_blocks<S: NodeSource>(
    head: &Head,
    source: &S,
    set: &BlockSet,
) -> Result<BlocksProof, ProveError<S::Error>> {
    for group in set.groups() {
        if blocks_below(group.top()).end > head.length {
            return Err(ProveError::OutOfBounds {
                node: 2 * group.first(),
                levels: group.depth(),
                length: head.length,
            });
        }
    }
    let load = |index: u64| match head.root(index) {
        Some(root) => Ok(*root),
        None => source
            .node(index)
            .map_err(ProveError::Source)?
            .ok_or(ProveError::MissingNode { node: index }),
    };
    let nodes = set
        .nodes()
        .into_iter()
        .map(load)
        .collect::<Result<_, _>>()?;
    Ok(BlocksProof {
        set: set.clone(),
        values: Vec::new(),
        nodes,
    })
}

/// Verifies the proof of a set: all of it holds, or none of it.
pub(super) fn verify_blocks<S: NodeSource>(
    trusted: &Trusted<'_, S>,
    proof: &BlocksProof,
) -> Result<Verified, VerifyError<S::Error>> {
    let first = proof.set.blocks().next();
    let bad = |fault| VerifyError::BadData {
        block: first,
        fault,
    };
    at_most("set nodes", SET_NODES_MAX as u64, proof.nodes.len() as u64).map_err(bad)?;
    for node in &proof.nodes {
        at_most("node index", UINT_MAX, node.index).map_err(bad)?;
        at_most("node size", UINT_MAX, node.size).map_err(bad)?;
    }
    let (expected, actual) = (proof.set.count() as u64, proof.values.len() as u64);
    if expected != actual {
        return Err(bad(Fault::Length { expected, actual }));
    }
    let mut verified = Verified::default();
    let mut values = &proof.values[..];
    let mut rest = &proof.nodes[..];
    for group in proof.set.groups() {
        let mut leaves = Vec::new();
        for run in group.runs() {
            let (of_run, later) = values.split_at((run.end - run.start) as usize);
            leaves.extend(hash_leaves(run.start, of_run));
            values = later;
        }
        let mut fold = Folding {
            group,
            leaves: &leaves,
            rest,
            learned: Vec::new(),
        };
        let top = fold.node(group.top()).map_err(bad)?;
        rest = fold.rest;
        let learned = fold.learned;
        match trusted.node(top.index)? {
            Some(known) if known == top => verified.nodes.extend(learned),
            Some(known) => {
                return Err(bad(Fault::Checksum {
                    node: top.index,
                    expected: known.hash,
                    actual: top.hash,
                }));
            }
            None => {
                return Err(VerifyError::MissingAnchor {
                    block: Some(group.first()),
                    node: top.index,
                });
            }
        }
    }
    if let Some(node) = rest.first() {
        let expected = proof.set.groups().last().map_or(0, Group::top);
        let actual = node.index;
        return Err(bad(Fault::UnexpectedNode { expected, actual }));
    }
    verified.blocks = proof.set.blocks().collect();
    Ok(verified)
}

/// Hashes one group from its leaves up to its node. Of each pair of siblings one at least is
/// computed, so the parent's hash makes the size of the other certain too.
struct Folding<'a, 'l> {
    group: &'a Group,
    leaves: &'l [Node],
    rest: &'a [Node],
    /// Everything strictly below the group's node.
    learned: Vec<Node>,
}

impl Folding<'_, '_> {
    fn node(&mut self, at: u64) -> Result<Node, Fault> {
        let blocks = blocks_below(at);
        let Some(run) = runs_in(self.group.runs(), &blocks).first() else {
            let (node, rest) = self
                .rest
                .split_first()
                .ok_or(Fault::NodeMissing { expected: at })?;
            if node.index != at {
                return Err(Fault::UnexpectedNode {
                    expected: at,
                    actual: node.index,
                });
            }
            self.rest = rest;
            return Ok(*node);
        };
        let is_whole = run.start <= blocks.start && blocks.end <= run.end;
        let children = flat_tree::left_child(at).zip(flat_tree::right_child(at));
        let Some((left, right)) = children.filter(|_| !is_whole) else {
            return self.subtree(at, &blocks);
        };
        let (left, right) = (self.node(left)?, self.node(right)?);
        self.learned.extend([left, right]);
        Node::parent(&left, &right)
            .filter(|parent| parent.size <= UINT_MAX)
            .ok_or(Fault::SizeOverflow { node: at })
    }

    /// Hashes a subtree all of whose blocks are in the set: their sizes are small, and so are the sums.
    fn subtree(&mut self, at: u64, blocks: &Range<u64>) -> Result<Node, Fault> {
        let count = usize::try_from(blocks.end - blocks.start).unwrap_or(usize::MAX);
        let leaves = self.leaves.split_at_checked(count);
        let (leaves, later) = leaves.ok_or(Fault::NodeMissing { expected: at })?;
        self.leaves = later;
        let nodes = hash_subtree(leaves);
        let top = nodes[leaves.len() - 1];
        self.learned
            .extend(nodes.into_iter().filter(|node| node.index != at));
        Ok(top)
    }
}
