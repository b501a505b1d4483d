//! Verifying proofs: nothing that a peer sent is believed before it meets a trusted node or a
//! signature by the feed's writer.
//!
//! A proof has up to two parts that support each other: a *fold* (a block, node or seek with its
//! siblings, hashed upwards to one node) and an *upgrade* (our roots, grown to a longer signed
//! head). The fold is proved when its end is one of the nodes that the upgrade consumed, one that
//! the upgrade proved, or one that was trusted before.

use crate::crypto::Hash;
use crate::limits::{FEED_LENGTH_MAX, PROOF_NODES_MAX, SIGNATURE_BYTES_MAX, UINT_MAX};
use crate::manifest::Verifier;
use crate::tree::build::{Learned, Origin, Piece};
use crate::tree::{Builder, Head, Node, NodeSource, Proof, SignedHead, UpgradeProof, root_indexes};

/// What a proof made certain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verified {
    /// Nodes that were not trusted before and are now: index, size and hash.
    pub nodes: Vec<Node>,
    /// Nodes whose hash is proved and whose size is not: only the sum of two siblings is. They must
    /// not be stored as trusted (npm `hypercore` does). Only hash requests, seeks and additional
    /// nodes give any.
    pub unsized_pairs: Vec<Node>,
    /// The block whose value in the proof is right.
    pub block: Option<u64>,
    /// The longer head.
    pub upgrade: Option<SignedHead>,
}

/// What is wrong with a proof that its sender should not have sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A list or signature above its limit.
    #[error("{what}: {actual} is above the limit of {limit}")]
    AboveLimit {
        what: &'static str,
        limit: u64,
        actual: u64,
    },
    /// A node where another one belongs.
    #[error("node {actual} where one at {expected} belongs")]
    UnexpectedNode { expected: u64, actual: u64 },
    /// A list that ends too early.
    #[error("the node at {expected} is missing")]
    NodeMissing { expected: u64 },
    /// More nodes than the upgrade has room for.
    #[error("nodes lead to length {actual}, not {expected}")]
    Length { expected: u64, actual: u64 },
    /// A tree longer than any feed can be.
    #[error("length {length} is above 2^52 blocks")]
    TooLong { length: u64 },
    /// Sizes whose sum is no size.
    #[error("sizes at node {node} add up to more than 2^53 - 1 bytes")]
    SizeOverflow { node: u64 },
    /// The fold ends at a node that is trusted with another hash or size.
    #[error("node {node} hashes to {actual}, the trusted one is {expected}")]
    Checksum {
        node: u64,
        expected: Hash,
        actual: Hash,
    },
    /// The signature does not hold over the rebuilt head.
    #[error("the signature over length {length} does not hold")]
    Signature { length: u64 },
    /// The tree differs from the one that the manifest begins with.
    #[error("the tree differs from the manifest's prologue of {length} blocks")]
    Prologue { length: u64 },
}

/// Two heads of the writer, both signed, neither of which continues the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// The head that the proof carries.
    pub theirs: SignedHead,
    /// The length at which the trees differ.
    pub at: u64,
    /// Tree hash of ours at that length.
    pub ours: Hash,
    /// Tree hash of theirs at that length.
    pub other: Hash,
}

/// Why a proof is not accepted. Only [`BadData`](Self::BadData) is its sender's fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError<E> {
    /// The proof ends at a node that is not known yet: keep it and try again when more is.
    #[error("the proof ends at node {node}, which is not known yet")]
    MissingAnchor { block: Option<u64>, node: u64 },
    /// A hash or signature does not hold, or the proof has no meaning.
    #[error("bad proof: {fault}")]
    BadData {
        block: Option<u64>,
        #[source]
        fault: Fault,
    },
    /// A valid signature over a tree that ours does not continue.
    #[error("the writer signed another tree: they differ at length {}", .0.at)]
    Conflict(Box<Conflict>),
    /// The upgrade tells nothing new, or starts below our head and cannot be linked to it.
    #[error("upgrade from {start} to {length} is stale at length {ours}")]
    Stale { start: u64, length: u64, ours: u64 },
    /// The proof is for another fork.
    #[error("the proof is for fork {actual}, ours is {expected}")]
    NotForThisFork { expected: u64, actual: u64 },
    /// The source of trusted nodes failed.
    #[error("trusted nodes could not be read")]
    Source(#[source] E),
}

impl<E> VerifyError<E> {
    /// Returns whether the sender may be honest and the writer not: the signature does not hold
    /// over *our* roots and what was sent, which is also what a head of another history looks like.
    ///
    /// To tell, ask for an upgrade from 0 to our length: it comes back as
    /// [`Conflict`](Self::Conflict) or as [`BadData`](Self::BadData).
    pub fn may_be_conflict(&self) -> bool {
        matches!(
            self,
            VerifyError::BadData {
                fault: Fault::Signature { .. },
                ..
            }
        )
    }
}

/// Verifies `proof` against the head and the trusted nodes of `source`. Pure: nothing is stored.
///
/// The size of the block is the caller's to bound. A reader whose head is empty accepts any fork.
pub fn verify<S: NodeSource>(
    head: &Head,
    source: &S,
    verifier: &Verifier,
    proof: &Proof,
) -> Result<Verified, VerifyError<S::Error>> {
    let block = proof.block.as_ref().map(|block| block.index);
    let bad = |fault| VerifyError::BadData { block, fault };
    check_limits(proof).map_err(bad)?;
    let new_reader = head.length == 0 && proof.upgrade.is_some() && proof.fork >= head.fork;
    if proof.fork != head.fork && !new_reader {
        return Err(VerifyError::NotForThisFork {
            expected: head.fork,
            actual: proof.fork,
        });
    }

    let fold = Fold::new(proof).map_err(bad)?;
    let trusted = Trusted { head, source };
    let Some(upgrade) = &proof.upgrade else {
        let Some(fold) = fold else {
            return Ok(Verified::default());
        };
        return trusted.anchor(fold, block, &[]);
    };
    let climb = Climb {
        trusted,
        verifier,
        upgrade,
        fork: proof.fork,
        block,
    };
    let climbed = climb.run(fold.as_ref())?;

    let mut verified = match fold {
        Some(fold) if climbed.fold_consumed => Verified {
            nodes: fold.learned.proved,
            unsized_pairs: fold.learned.unsized_pairs,
            block,
            upgrade: None,
        },
        Some(fold) => climb.trusted.anchor(fold, block, &climbed.learned.proved)?,
        None => Verified::default(),
    };
    verified.nodes.extend(climbed.learned.proved);
    verified.unsized_pairs.extend(climbed.learned.unsized_pairs);
    verified.upgrade = climbed.upgrade;
    if upgrade.start < head.length {
        // It went over ground that we may know.
        climb.trusted.forget_known(&mut verified.nodes)?;
        climb.trusted.forget_known(&mut verified.unsized_pairs)?;
    }
    Ok(verified)
}

fn check_limits(proof: &Proof) -> Result<(), Fault> {
    let lists: [(&'static str, Option<&Vec<Node>>); 5] = [
        (
            "block nodes",
            proof.block.as_ref().map(|block| &block.nodes),
        ),
        ("hash nodes", proof.hash.as_ref().map(|hash| &hash.nodes)),
        ("seek nodes", proof.seek.as_ref().map(|seek| &seek.nodes)),
        (
            "upgrade nodes",
            proof.upgrade.as_ref().map(|upgrade| &upgrade.nodes),
        ),
        (
            "additional nodes",
            proof
                .upgrade
                .as_ref()
                .map(|upgrade| &upgrade.additional_nodes),
        ),
    ];
    for (what, nodes) in lists {
        let Some(nodes) = nodes else { continue };
        at_most(what, PROOF_NODES_MAX as u64, nodes.len() as u64)?;
        for node in nodes {
            at_most("node index", UINT_MAX, node.index)?;
            at_most("node size", UINT_MAX, node.size)?;
        }
    }
    if let Some(block) = &proof.block {
        at_most("block index", FEED_LENGTH_MAX - 1, block.index)?;
        at_most("block size", UINT_MAX, block.value.len() as u64)?;
    }
    if let Some(hash) = &proof.hash {
        at_most("hash index", UINT_MAX, hash.index)?;
    }
    if let Some(upgrade) = &proof.upgrade {
        at_most("upgrade start", FEED_LENGTH_MAX, upgrade.start)?;
        at_most(
            "upgrade length",
            FEED_LENGTH_MAX - upgrade.start,
            upgrade.length,
        )?;
        at_most(
            "signature",
            SIGNATURE_BYTES_MAX as u64,
            upgrade.signature.len() as u64,
        )?;
    }
    Ok(())
}

fn at_most(what: &'static str, limit: u64, actual: u64) -> Result<(), Fault> {
    if actual > limit {
        Err(Fault::AboveLimit {
            what,
            limit,
            actual,
        })
    } else {
        Ok(())
    }
}

/// A block, node or seek hashed upwards as far as its nodes go.
#[derive(Debug)]
struct Fold {
    end: Piece,
    learned: Learned,
    /// The leaf or node that the path starts from, and each parent on the way.
    path: Vec<Node>,
}

impl Fold {
    fn new(proof: &Proof) -> Result<Option<Fold>, Fault> {
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
            let leaf = Node::leaf(block.index, &block.value);
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
}

/// What was trusted before the proof.
struct Trusted<'a, S> {
    head: &'a Head,
    source: &'a S,
}

impl<S: NodeSource> Trusted<'_, S> {
    fn node(&self, index: u64) -> Result<Option<Node>, VerifyError<S::Error>> {
        match self.head.root(index) {
            Some(root) => Ok(Some(*root)),
            None => self.source.node(index).map_err(VerifyError::Source),
        }
    }

    /// Returns the trusted tree at `length`, `None` when not all of its roots are known.
    fn at(&self, length: u64) -> Result<Option<Head>, VerifyError<S::Error>> {
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
    fn forget_known(&self, nodes: &mut Vec<Node>) -> Result<(), VerifyError<S::Error>> {
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
    fn anchor(
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

impl Fold {
    /// Keeps what the fold proves strictly below the trusted node `top`.
    fn below(self, top: u64, block: Option<u64>) -> Verified {
        let (left, right) = flat_tree::spans(top);
        let inside = |node: &Node| node.index != top && (left..=right).contains(&node.index);
        let mut learned = self.learned;
        learned.proved.retain(inside);
        learned.unsized_pairs.retain(inside);
        Verified {
            nodes: learned.proved,
            unsized_pairs: learned.unsized_pairs,
            block,
            upgrade: None,
        }
    }
}

/// Growing our roots to the head that is signed.
struct Climb<'a, S> {
    trusted: Trusted<'a, S>,
    verifier: &'a Verifier,
    upgrade: &'a UpgradeProof,
    fork: u64,
    block: Option<u64>,
}

/// What an upgrade proved.
struct Climbed {
    learned: Learned,
    fold_consumed: bool,
    upgrade: Option<SignedHead>,
}

impl<S: NodeSource> Climb<'_, S> {
    fn run(&self, fold: Option<&Fold>) -> Result<Climbed, VerifyError<S::Error>> {
        let ours = self.trusted.head;
        let (start, end) = (self.upgrade.start, self.upgrade.start + self.upgrade.length);
        let stale = |length| VerifyError::Stale {
            start,
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
            return Err(stale(end));
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
        for at in [end, length] {
            if linked || at > ours.length {
                continue;
            }
            let other = if at == end { &middle } else { &theirs.head };
            let Some(own) = self.trusted.at(at)? else {
                continue;
            };
            if own.roots != other.roots {
                let (ours, other) = (own.tree_hash(), other.tree_hash());
                return Err(VerifyError::Conflict(Box::new(Conflict {
                    theirs,
                    at,
                    ours,
                    other,
                })));
            }
            linked = at == ours.length;
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
            _ => Err(stale(length)),
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
