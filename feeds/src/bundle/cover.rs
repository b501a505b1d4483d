//! What is proved of the tree to the right of where a reader or writer stands.
//!
//! At first these are the signed roots. A run of blocks hashes up to the nodes of the cover above
//! it; nodes given with the run stand for the subtrees beside it, and those to its right become the
//! cover of what follows. Each given node has a sibling that was hashed from blocks, so that not
//! only its hash but also its size is proved.

use std::ops::Range;

use crate::tree::{Head, Node};

/// Proved nodes that together stand for all blocks from a position on.
#[derive(Clone, Debug)]
pub(super) struct Cover {
    /// The leftmost is the last.
    rest: Vec<Node>,
}

/// The blocks of a run do not hash up to what was proved before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unproved;

impl Cover {
    pub(super) fn new(head: &Head) -> Cover {
        let rest = head.roots.iter().rev().copied().collect();
        Cover { rest }
    }

    /// Gives up what lies to the left of block `start`; returns it.
    pub(super) fn skip_to(&mut self, start: u64) -> Vec<Node> {
        let mut skipped = Vec::new();
        while let Some(top) = self
            .rest
            .pop_if(|top| flat_tree::right_span(top.index) < 2 * start)
        {
            skipped.push(top);
        }
        skipped
    }

    /// Returns the indexes of the nodes that a run needs beside its blocks, left to right. The
    /// cover begins at or before the run.
    pub(super) fn needed(&self, run: &Range<u64>) -> Vec<u64> {
        let mut needed = Vec::new();
        for top in self.tops(run) {
            beside(top.index, run, &mut needed);
        }
        needed
    }

    /// Hashes a run up to the cover; `given` are the [`needed`](Self::needed) nodes in order.
    ///
    /// Returns every node that is proved now and was not before. The cover afterwards begins
    /// behind the run.
    pub(super) fn prove(
        &mut self,
        run: &Range<u64>,
        leaves: &[Node],
        given: &[Node],
    ) -> Result<Vec<Node>, Unproved> {
        let mut fold = Fold {
            run,
            leaves,
            given,
            proved: Vec::with_capacity(2 * leaves.len() + given.len()),
        };
        let tops = self.tops(run).count();
        for top in self.rest[self.rest.len() - tops..].iter().rev() {
            if fold.node(top.index)? != *top {
                return Err(Unproved);
            }
        }
        if !fold.given.is_empty() {
            return Err(Unproved);
        }
        let proved = fold.proved;
        self.rest.truncate(self.rest.len() - tops);
        let right = given
            .iter()
            .filter(|node| flat_tree::left_span(node.index) >= 2 * run.end);
        self.rest.extend(right.rev().copied());
        Ok(proved)
    }

    /// Returns the nodes of the cover above a run, left to right.
    fn tops<'a>(&'a self, run: &'a Range<u64>) -> impl Iterator<Item = &'a Node> {
        self.rest
            .iter()
            .rev()
            .take_while(|top| flat_tree::left_span(top.index) < 2 * run.end)
    }
}

fn is_beside(index: u64, run: &Range<u64>) -> bool {
    let (left, right) = flat_tree::spans(index);
    right < 2 * run.start || left >= 2 * run.end
}

/// Lists the highest nodes below `index` that hold no block of the run.
fn beside(index: u64, run: &Range<u64>, into: &mut Vec<u64>) {
    if is_beside(index, run) {
        into.push(index);
        return;
    }
    let (left, right) = flat_tree::spans(index);
    let is_inside = left >= 2 * run.start && right < 2 * run.end;
    if is_inside {
        return;
    }
    if let Some((left, right)) = flat_tree::children(index) {
        beside(left, run, into);
        beside(right, run, into);
    }
}

struct Fold<'a> {
    run: &'a Range<u64>,
    leaves: &'a [Node],
    given: &'a [Node],
    proved: Vec<Node>,
}

impl Fold<'_> {
    /// Returns the node at `index`: given, a leaf of the run, or hashed from its children.
    fn node(&mut self, index: u64) -> Result<Node, Unproved> {
        if is_beside(index, self.run) {
            let (first, rest) = self.given.split_first().ok_or(Unproved)?;
            self.given = rest;
            return if first.index == index {
                Ok(*first)
            } else {
                Err(Unproved)
            };
        }
        let Some((left, right)) = flat_tree::children(index) else {
            let at = usize::try_from(index / 2 - self.run.start).map_err(|_| Unproved)?;
            return self.leaves.get(at).copied().ok_or(Unproved);
        };
        let (left, right) = (self.node(left)?, self.node(right)?);
        self.proved.extend([left, right]);
        Node::parent(&left, &right).ok_or(Unproved)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::tree::append;

    fn tree(length: u64) -> (Head, BTreeMap<u64, Node>) {
        let blocks: Vec<Bytes> = (0..length)
            .map(|block| Bytes::from(vec![block as u8; block as usize % 5]))
            .collect();
        let made = append(&Head::default(), &blocks).unwrap();
        let nodes = made.leaves.iter().chain(&made.parents);
        let nodes = nodes.map(|node| (node.index, *node)).collect();
        (made.head, nodes)
    }

    /// Walks runs over a tree; returns how many nodes were given in all.
    fn walk(length: u64, runs: &[Range<u64>]) -> usize {
        let (head, nodes) = tree(length);
        let mut cover = Cover::new(&head);
        let mut total = 0;
        for run in runs {
            cover.skip_to(run.start);
            let given: Vec<Node> = cover.needed(run).iter().map(|at| nodes[at]).collect();
            let leaves: Vec<Node> = run.clone().map(|block| nodes[&(2 * block)]).collect();
            for (at, _) in given.iter().enumerate() {
                let mut altered = given.clone();
                altered[at].size += 1;
                let refused = cover.clone().prove(run, &leaves, &altered);
                assert_eq!(
                    refused,
                    Err(Unproved),
                    "length {length}, {run:?}, node {at}"
                );
            }
            let proved = cover.prove(run, &leaves, &given).unwrap();
            for node in proved {
                assert_eq!(node, nodes[&node.index]);
            }
            total += given.len();
        }
        total
    }

    #[test]
    fn every_run_of_every_small_tree_is_proved_and_no_altered_node_is() {
        for length in 1..20 {
            for start in 0..length {
                for end in start + 1..=length {
                    walk(length, std::slice::from_ref(&(start..end)));
                }
            }
        }
    }

    #[test]
    fn a_whole_feed_read_in_aligned_runs_repeats_no_node() {
        let length = 1000;
        assert_eq!(walk(length, std::slice::from_ref(&(0..length))), 0);
        let runs: Vec<_> = (0..length)
            .step_by(16)
            .map(|start| start..(start + 16).min(length))
            .collect();
        // One node a run at most: the right-hand siblings, each given once.
        assert!(walk(length, &runs) < runs.len());
    }

    #[test]
    fn what_an_earlier_run_proved_is_not_given_again() {
        let alone = walk(64, std::slice::from_ref(&(40..44)));
        let after = walk(64, &[36..40, 40..44]) - walk(64, std::slice::from_ref(&(36..40)));
        assert_eq!((alone, after), (4, 1));
    }
}
