//! The part of a proof that comes from above: our roots grown to a longer head, which the writer
//! signed, or a head that ours does not continue.

use crate::crypto::Hash;
use crate::manifest::Verifier;
use crate::tree::build::{Learned, Origin, Piece};
use crate::tree::fold::Fold;
use crate::tree::trusted::Trusted;
use crate::tree::{
    Builder, Conflict, Fault, Head, NodeSource, SignedHead, UpgradeProof, VerifyError,
};

/// Growing our roots to the head that is signed.
pub(super) struct Climb<'a, S> {
    pub(super) trusted: Trusted<'a, S>,
    pub(super) verifier: &'a Verifier,
    pub(super) upgrade: &'a UpgradeProof,
    pub(super) fork: u64,
    pub(super) block: Option<u64>,
}

/// What an upgrade proved.
pub(super) struct Climbed {
    pub(super) learned: Learned,
    pub(super) fold_consumed: bool,
    pub(super) upgrade: Option<SignedHead>,
}

impl<S: NodeSource> Climb<'_, S> {
    pub(super) fn run(&self, fold: Option<&Fold>) -> Result<Climbed, VerifyError<S::Error>> {
        let ours = self.trusted.head;
        let (start, end) = (self.upgrade.start, self.upgrade.start + self.upgrade.length);
        let stale = |length| VerifyError::Stale {
            start,
            length,
            ours: ours.length,
        };
        let unlinked = |length| VerifyError::Unlinked {
            length,
            ours: ours.length,
        };
        if start > ours.length {
            let node = 2 * start.saturating_sub(1);
            return Err(VerifyError::MissingAnchor {
                block: self.block,
                node,
            });
        }
        let Some(base) = self.trusted.at(start)? else {
            return Err(unlinked(end));
        };

        let mut builder = Builder::new(&base);
        let fold_consumed = self
            .grow(&mut builder, fold, end)
            .map_err(|fault| self.bad(fault))?;
        let middle = builder.head(self.fork);
        builder
            .append_bare(&self.upgrade.additional_nodes)
            .map_err(|fault| self.bad(fault))?;
        let head = builder.head(self.fork);
        let length = head.length;
        if length == 0 {
            return Err(stale(0));
        }
        self.check_prologue(&middle)
            .map_err(|fault| self.bad(fault))?;
        if self
            .verifier
            .verify_head(&head, &self.upgrade.signature)
            .is_err()
        {
            return Err(self.bad(Fault::Signature { length }));
        }

        // The writer signed this. From here on a difference to our tree is the writer's doing.
        let tree_hash = head.tree_hash();
        let theirs = SignedHead {
            head,
            tree_hash,
            signature: self.upgrade.signature.clone(),
        };
        let mut linked = start == ours.length;
        let mut compared = linked;
        for at in [end, length] {
            if linked || at > ours.length {
                continue;
            }
            let other = if at == end { &middle } else { &theirs.head };
            let Some(own) = self.trusted.at(at)? else {
                continue;
            };
            if !same_tree(&own, other) {
                let (ours, other) = (own.tree_hash(), other.tree_hash());
                let mut nodes = builder.finish().all();
                nodes.extend(middle.roots);
                nodes.extend(fold.map(|fold| fold.end.node));
                return Err(VerifyError::Conflict(Box::new(Conflict {
                    theirs,
                    at,
                    ours,
                    other,
                    nodes,
                })));
            }
            linked = at == ours.length;
            compared = true;
        }
        if length > ours.length && linked {
            let learned = builder.finish();
            return Ok(Climbed {
                learned,
                fold_consumed,
                upgrade: Some(theirs),
            });
        }
        // Nothing new above; a block below our head may still be proved by it.
        match (fold, self.trusted.at(length)?) {
            (Some(_), Some(_)) => Ok(Climbed {
                learned: builder.finish(),
                fold_consumed,
                upgrade: None,
            }),
            _ if compared => Err(stale(length)),
            _ => Err(unlinked(length)),
        }
    }

    /// Appends the upgrade's nodes, and the end of the fold where it fits, to reach exactly `end`.
    fn grow(&self, builder: &mut Builder, fold: Option<&Fold>, end: u64) -> Result<bool, Fault> {
        let mut fold = fold.map(|fold| fold.end);
        let had_fold = fold.is_some();
        let mut rest = self.upgrade.nodes.iter();
        while builder.length() < end {
            let piece = if let Some(piece) = fold.take_if(|end| builder.fits(end.node.index)) {
                piece
            } else {
                let expected = 2 * builder.length();
                let node = rest.next().ok_or(Fault::NodeMissing { expected })?;
                Piece {
                    node: *node,
                    origin: Origin::Bare,
                }
            };
            builder.append(piece)?;
        }
        let actual = builder.length();
        if actual != end || rest.next().is_some() {
            return Err(Fault::Length {
                expected: end,
                actual,
            });
        }
        Ok(had_fold && fold.is_none())
    }

    fn check_prologue(&self, middle: &Head) -> Result<(), Fault> {
        let Some(prologue) = self.verifier.prologue() else {
            return Ok(());
        };
        let length = prologue.length;
        let cut = self.upgrade.start < length
            && (self.upgrade.start != 0 || self.upgrade.length < length);
        if cut || (middle.length == length && middle.tree_hash() != prologue.hash) {
            return Err(Fault::Prologue { length });
        }
        Ok(())
    }

    fn bad(&self, fault: Fault) -> VerifyError<S::Error> {
        VerifyError::BadData {
            block: self.block,
            fault,
        }
    }
}

/// Compares trees by their hashes only: a peer can shift bytes between roots that it named and that
/// merge above, but no hash, as the signature covers them all.
fn same_tree(one: &Head, other: &Head) -> bool {
    let hashes = |head: &Head| -> Vec<(u64, Hash)> {
        head.roots
            .iter()
            .map(|root| (root.index, root.hash))
            .collect()
    };
    hashes(one) == hashes(other)
}
