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
use crate::tree::blocks::verify_blocks;
use crate::tree::fold::Fold;
use crate::tree::trusted::Trusted;
use crate::tree::upgrade::Climb;
use crate::tree::{Head, Node, NodeSource, Proof, SignedHead};

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
    /// The blocks of a set whose values in the proof are right.
    pub blocks: Vec<u64>,
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
    /// A set of blocks beside other parts.
    #[error("a proof of a set of blocks has other parts too")]
    MixedParts,
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
    /// Nodes of their tree: the roots at that length, and what leads from there to their head.
    pub nodes: Vec<Node>,
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
    /// A head of another length that cannot be compared with ours: nodes of one or the other are
    /// not known at the shorter length.
    #[error("a head of length {length} cannot be compared with ours of length {ours}")]
    Unlinked { length: u64, ours: u64 },
    /// The upgrade tells nothing new.
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
    /// over *our* roots and what was sent, or a hash differs from ours, which is also what a head
    /// or a block of another history looks like.
    ///
    /// To tell, ask for an upgrade from 0 to our length: it comes back as
    /// [`Conflict`](Self::Conflict) or as [`BadData`](Self::BadData).
    pub fn may_be_conflict(&self) -> bool {
        matches!(
            self,
            VerifyError::BadData {
                fault: Fault::Signature { .. } | Fault::Checksum { .. },
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
    verify_hashed(head, source, verifier, proof, None)
}

/// The same of a proof the hash of whose block was made already: many blocks are hashed faster together.
pub(crate) fn verify_hashed<S: NodeSource>(
    head: &Head,
    source: &S,
    verifier: &Verifier,
    proof: &Proof,
    leaf: Option<Hash>,
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

    let trusted = Trusted { head, source };
    if let Some(blocks) = &proof.blocks {
        if block.is_some()
            || proof.hash.is_some()
            || proof.seek.is_some()
            || proof.upgrade.is_some()
        {
            return Err(bad(Fault::MixedParts));
        }
        return verify_blocks(&trusted, blocks);
    }
    let fold = Fold::new(proof, leaf).map_err(bad)?;
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
            ..Verified::default()
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

pub(super) fn at_most(what: &'static str, limit: u64, actual: u64) -> Result<(), Fault> {
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
