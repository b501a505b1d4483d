//! What was trusted before a proof, and tying the end of a fold to it.

use crate::tree::fold::Fold;
use crate::tree::{Fault, Head, Node, NodeSource, Verified, VerifyError, root_indexes};

/// What was trusted before the proof.
pub(super) struct Trusted<'a, S> {
    pub(super) head: &'a Head,
    pub(super) source: &'a S,
}

impl<S: NodeSource> Trusted<'_, S> {
    pub(super) fn node(&self, index: u64) -> Result<Option<Node>, VerifyError<S::Error>> {
        match self.head.root(index) {
            Some(root) => Ok(Some(*root)),
            None => self.source.node(index).map_err(VerifyError::Source),
        }
    }

    /// Returns the trusted tree at `length`, `None` when not all of its roots are known.
    pub(super) fn at(&self, length: u64) -> Result<Option<Head>, VerifyError<S::Error>> {
        if length == self.head.length {
            return Ok(Some(self.head.clone()));
        }
        if length > self.head.length {
            return Ok(None);
        }
        let mut roots = Vec::new();
        for index in root_indexes(length) {
            let Some(root) = self.node(index)? else {
                return Ok(None);
            };
            roots.push(root);
        }
        Ok(Head::from_roots(self.head.fork, roots))
    }

    /// Drops the nodes that are trusted already.
    pub(super) fn forget_known(&self, nodes: &mut Vec<Node>) -> Result<(), VerifyError<S::Error>> {
        let mut new = Vec::with_capacity(nodes.len());
        for node in nodes.drain(..) {
            if self.node(node.index)?.is_none() {
                new.push(node);
            }
        }
        *nodes = new;
        Ok(())
    }

    /// Accepts the fold if its end is trusted, or among `proved`; keeps what was not known before.
    pub(super) fn anchor(
        &self,
        fold: Fold,
        block: Option<u64>,
        proved: &[Node],
    ) -> Result<Verified, VerifyError<S::Error>> {
        let end = fold.end.node;
        let now = proved.iter().find(|node| node.index == end.index).copied();
        let known = match now {
            Some(node) => Some(node),
            None => self.node(end.index)?,
        };
        let Some(known) = known else {
            return self.anchor_below(fold, block);
        };
        if known != end {
            let (expected, actual) = (known.hash, end.hash);
            let fault = Fault::Checksum {
                node: end.index,
                expected,
                actual,
            };
            return Err(VerifyError::BadData { block, fault });
        }
        // Whatever is above the lowest node that was known is known too.
        let (_end, on_the_way) = fold.path.split_last().expect("a path has a start");
        for node in on_the_way {
            if self.node(node.index)? == Some(*node) {
                let top = node.index;
                return Ok(fold.below(top, block));
            }
        }
        Ok(fold.below(end.index, block))
    }

    /// The end is above all we know, but a node on the way may be trusted: what is below it is
    /// proved, what is above it is not needed.
    fn anchor_below(
        &self,
        fold: Fold,
        block: Option<u64>,
    ) -> Result<Verified, VerifyError<S::Error>> {
        for node in &fold.path {
            let Some(known) = self.node(node.index)? else {
                continue;
            };
            if known == *node {
                let top = node.index;
                return Ok(fold.below(top, block));
            }
            let (expected, actual) = (known.hash, node.hash);
            let fault = Fault::Checksum {
                node: node.index,
                expected,
                actual,
            };
            return Err(VerifyError::BadData { block, fault });
        }
        Err(VerifyError::MissingAnchor {
            block,
            node: fold.end.node.index,
        })
    }
}
