//! Checking and making the signature over a head, under the rules that a manifest sets.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::crypto::namespace::hypercore_namespace;
use crate::crypto::{self, FeedKey, Hash, KeyPair, PublicKey, SIGNATURE_BYTES};
use crate::encoding::DecodeError;
use crate::limits::{FEED_LENGTH_MAX, SIGNATURE_BYTES_MAX};
use crate::manifest::{Manifest, Multisig, PartialSignature, Prologue, SignerKey};
use crate::tree::{Builder, Fault, Head, Node, subtrees};

/// A manifest that does not belong to a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// The manifest's hash is another key's, and it is no feed of Hypercore 10 either.
    #[error("the manifest hashes to {actual}, the feed key is {expected}")]
    WrongManifest { expected: FeedKey, actual: FeedKey },
}

/// Why a signature field does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// The field is larger than any that a writer makes.
    #[error("a signature field of {actual} bytes is above the limit of {limit}")]
    TooLarge { limit: usize, actual: usize },
    /// A raw signature has 64 bytes.
    #[error("a signature has 64 bytes, got {actual}")]
    Length { actual: usize },
    /// The envelope does not decode, or is not written the one way it can be.
    #[error("the signature field does not decode")]
    Malformed(#[source] DecodeError),
    /// The envelope holds numbers or lists in a longer form than needed.
    #[error("the signature field is not in its shortest form")]
    NotCanonical,
    /// Fewer signatures than the quorum, or a quorum of none.
    #[error("{actual} signatures where {quorum} are needed")]
    Quorum { quorum: u64, actual: u64 },
    /// A signer that the manifest does not name, or one that was counted already.
    #[error("signer {signer} is unknown or signed twice")]
    Signer { signer: u64 },
    /// A signature over another length, which the manifest (or the caller) does not allow.
    #[error("signer {signer} signed another length, which is not allowed here")]
    PatchNotAllowed { signer: u64 },
    /// The nodes do not lead to the length that was signed.
    #[error("signer {signer}: the nodes do not lead to the length that was signed")]
    Patch { signer: u64, fault: Fault },
    /// Nodes that lead to no length that was signed, or in another order than writers put them in:
    /// they would give one signature a second form.
    #[error("the signature field holds {actual} nodes, {expected} lead to what was signed")]
    Nodes { expected: usize, actual: usize },
    /// The signature does not hold.
    #[error("the signature of {signer} does not hold")]
    Signature { signer: PublicKey },
    /// A tree within the prologue that is not the prologue's.
    #[error("length {length} is within the prologue of {prologue} blocks and differs from it")]
    Prologue { prologue: u64, length: u64 },
}

/// Why a head cannot be signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key is not one of the manifest's.
    #[error("{key} is no signer of this feed")]
    NotASigner { key: PublicKey },
    /// One signature is not enough for this feed.
    #[error("the feed needs signatures of {quorum} of {signers} signers")]
    NeedsQuorum { quorum: u64, signers: usize },
}

/// What the bytes that are signed begin with, after the tree namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Context {
    /// Nothing (Hypercore 10).
    None,
    /// The signer's namespace (manifest version 0).
    Namespace,
    /// The manifest's hash.
    Manifest(Hash),
}

/// How the signature field is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    /// 64 bytes.
    Raw,
    /// The envelope of version 0.
    MultisigV0,
    /// The envelope of versions 1 to 3.
    Multisig,
}

/// Checks signatures over the heads of one feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verifier {
    context: Context,
    field: Field,
    allow_patch: bool,
    quorum: u64,
    signers: Vec<SignerKey>,
    prologue: Option<Prologue>,
}

impl Verifier {
    /// Returns the verifier of the feed `key`, after checking that the key commits to `manifest`:
    /// as its hash (Hypercore 11) or as its only signer (Hypercore 10).
    pub fn new(key: FeedKey, manifest: &Manifest) -> Result<Verifier, VerifierError> {
        if manifest.is_compat(&key) {
            return Ok(Verifier::compat(key));
        }
        let actual = manifest.key();
        if actual != key {
            return Err(VerifierError::WrongManifest {
                expected: key,
                actual,
            });
        }
        let single = manifest.signers.len() == 1 && !manifest.allow_patch;
        let (context, field) = match manifest.version {
            0 if single => (Context::Namespace, Field::Raw),
            0 => (Context::Namespace, Field::MultisigV0),
            _ => (Context::Manifest(Hash(key.0)), Field::Multisig),
        };
        Ok(Verifier {
            context,
            field,
            allow_patch: manifest.allow_patch,
            quorum: manifest.quorum,
            signers: manifest.signers.clone(),
            // JavaScript ignores the prologue of version 0, which leaves such a feed unreadable.
            prologue: manifest.prologue.filter(|_| manifest.version > 0),
        })
    }

    /// Returns the verifier of a feed of Hypercore 10, whose key is its signer's public key.
    pub fn compat(key: FeedKey) -> Verifier {
        let namespace = hypercore_namespace::default_namespace();
        Verifier {
            context: Context::None,
            field: Field::Raw,
            allow_patch: false,
            quorum: 1,
            signers: vec![SignerKey {
                namespace,
                public_key: PublicKey(key.0),
            }],
            prologue: None,
        }
    }

    /// Returns the tree that the feed begins with, if its manifest names one.
    pub fn prologue(&self) -> Option<&Prologue> {
        self.prologue.as_ref()
    }

    /// Checks the signature field over a head of which only the tree hash is at hand.
    ///
    /// Patched signatures need the roots: see [`verify_head`](Self::verify_head).
    pub fn verify(
        &self,
        tree_hash: &Hash,
        length: u64,
        fork: u64,
        signature: &[u8],
    ) -> Result<(), SignatureFault> {
        self.check(
            Target {
                tree_hash: *tree_hash,
                length,
                fork,
                roots: None,
            },
            signature,
        )
    }

    /// Checks the signature field over a head.
    pub fn verify_head(&self, head: &Head, signature: &[u8]) -> Result<(), SignatureFault> {
        let (length, fork) = (head.length, head.fork);
        self.check(
            Target {
                tree_hash: head.tree_hash(),
                length,
                fork,
                roots: Some(head),
            },
            signature,
        )
    }

    /// Signs a head and returns the signature field: 64 bytes on feeds of Hypercore 10 and of
    /// version-0 manifests, else 68.
    pub fn sign(
        &self,
        key_pair: &KeyPair,
        tree_hash: &Hash,
        length: u64,
        fork: u64,
    ) -> Result<Bytes, SignError> {
        let (signer, signature) = self.sign_partially(key_pair, tree_hash, length, fork)?;
        match self.field {
            Field::Raw => Ok(Bytes::copy_from_slice(&signature)),
            Field::Multisig if self.quorum == 1 => {
                let mut field = Multisig::single(signature);
                field.proofs[0].signer = signer;
                Ok(Bytes::from(field.encode()))
            }
            _ => Err(SignError::NeedsQuorum {
                quorum: self.quorum,
                signers: self.signers.len(),
            }),
        }
    }

    /// Signs a head as one of several signers; returns the signer's position and the signature.
    pub fn sign_partially(
        &self,
        key_pair: &KeyPair,
        tree_hash: &Hash,
        length: u64,
        fork: u64,
    ) -> Result<(u64, [u8; SIGNATURE_BYTES]), SignError> {
        let key = key_pair.public_key();
        let position = self
            .signers
            .iter()
            .position(|signer| signer.public_key == key);
        let position = position.ok_or(SignError::NotASigner { key })?;
        let message = self.message(&self.signers[position], tree_hash, length, fork);
        Ok((position as u64, key_pair.sign(&message)))
    }

    /// Returns the bytes that `signer` signs.
    fn message(&self, signer: &SignerKey, tree_hash: &Hash, length: u64, fork: u64) -> Vec<u8> {
        match &self.context {
            Context::None => signable_compat(tree_hash, length, fork).to_vec(),
            Context::Namespace => signable(&signer.namespace, tree_hash, length, fork).to_vec(),
            Context::Manifest(hash) => signable(&hash.0, tree_hash, length, fork).to_vec(),
        }
    }

    fn check(&self, target: Target<'_>, signature: &[u8]) -> Result<(), SignatureFault> {
        if signature.len() > SIGNATURE_BYTES_MAX {
            let (limit, actual) = (SIGNATURE_BYTES_MAX, signature.len());
            return Err(SignatureFault::TooLarge { limit, actual });
        }
        if let Some(prologue) = &self.prologue
            && target.length <= prologue.length
        {
            let same = target.length == prologue.length && target.tree_hash == prologue.hash;
            let fault = SignatureFault::Prologue {
                prologue: prologue.length,
                length: target.length,
            };
            return if same { Ok(()) } else { Err(fault) };
        }
        match self.field {
            Field::Raw => {
                let Some(signer) = self.signers.first() else {
                    return Err(SignatureFault::Quorum {
                        quorum: self.quorum,
                        actual: 0,
                    });
                };
                let raw = <&[u8; SIGNATURE_BYTES]>::try_from(signature).map_err(|_| {
                    SignatureFault::Length {
                        actual: signature.len(),
                    }
                })?;
                self.check_one(signer, &target, raw)
            }
            Field::MultisigV0 => {
                let field = Multisig::decode_v0(signature).map_err(SignatureFault::Malformed)?;
                self.check_multisig(&field, &target)
            }
            Field::Multisig => {
                let field = Multisig::decode(signature).map_err(SignatureFault::Malformed)?;
                if field.encode() != signature {
                    return Err(SignatureFault::NotCanonical);
                }
                self.check_multisig(&field, &target)
            }
        }
    }

    fn check_multisig(&self, field: &Multisig, target: &Target<'_>) -> Result<(), SignatureFault> {
        let actual = field.proofs.len() as u64;
        if self.quorum == 0 || actual < self.quorum {
            return Err(SignatureFault::Quorum {
                quorum: self.quorum,
                actual,
            });
        }
        let mut counted = vec![false; self.signers.len()];
        // JavaScript looks at the first `quorum` signatures only.
        for proof in field.proofs.iter().take(self.quorum as usize) {
            let position = usize::try_from(proof.signer).unwrap_or(usize::MAX);
            let signer = self.signers.get(position).filter(|_| !counted[position]);
            let signer = signer.ok_or(SignatureFault::Signer {
                signer: proof.signer,
            })?;
            counted[position] = true;
            if proof.patch == 0 {
                self.check_one(signer, target, &proof.signature)?;
                continue;
            }
            let roots = target.roots.filter(|_| self.allow_patch);
            let head = roots.ok_or(SignatureFault::PatchNotAllowed {
                signer: proof.signer,
            })?;
            let longer = patched(head, proof.patch, &field.patch).map_err(|fault| {
                SignatureFault::Patch {
                    signer: proof.signer,
                    fault,
                }
            })?;
            let (length, fork) = (longer.length, longer.fork);
            let longer = Target {
                tree_hash: longer.tree_hash(),
                length,
                fork,
                roots: None,
            };
            self.check_one(signer, &longer, &proof.signature)?;
        }
        let needed = nodes_needed(target.length, &field.proofs);
        if !field
            .patch
            .iter()
            .map(|node| node.index)
            .eq(needed.iter().copied())
        {
            return Err(SignatureFault::Nodes {
                expected: needed.len(),
                actual: field.patch.len(),
            });
        }
        Ok(())
    }

    fn check_one(
        &self,
        signer: &SignerKey,
        target: &Target<'_>,
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<(), SignatureFault> {
        let message = self.message(signer, &target.tree_hash, target.length, target.fork);
        crypto::verify(&signer.public_key, &message, signature).map_err(|error| {
            SignatureFault::Signature {
                signer: error.signer,
            }
        })
    }
}

/// What a signature is to hold over.
struct Target<'a> {
    tree_hash: Hash,
    length: u64,
    fork: u64,
    roots: Option<&'a Head>,
}

/// Returns the head `blocks` longer than `head`, from the nodes that lead there.
fn patched(head: &Head, blocks: u64, nodes: &[Node]) -> Result<Head, Fault> {
    let end = head
        .length
        .checked_add(blocks)
        .filter(|end| *end <= FEED_LENGTH_MAX)
        .ok_or(Fault::TooLong {
            length: head.length.saturating_add(blocks),
        })?;
    let by_index: BTreeMap<u64, &Node> = nodes.iter().map(|node| (node.index, node)).collect();
    let mut builder = Builder::new(head);
    for index in subtrees(head.length, end) {
        let node = by_index
            .get(&index)
            .ok_or(Fault::NodeMissing { expected: index })?;
        builder.append_bare(&[**node])?;
    }
    Ok(builder.head(head.fork))
}

/// Returns the nodes that lead from a tree of `length` blocks to the lengths that were signed, each
/// once, in the order in which writers put them into the field.
fn nodes_needed(length: u64, proofs: &[PartialSignature]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    proofs
        .iter()
        .filter(|proof| proof.patch > 0)
        .filter_map(|proof| length.checked_add(proof.patch))
        .filter(|end| *end <= FEED_LENGTH_MAX)
        .flat_map(|end| subtrees(length, end))
        .filter(|index| seen.insert(*index))
        .collect()
}

/// Returns the 112 bytes that a signer signs: tree namespace, context (manifest hash, or the
/// signer's namespace in version 0), tree hash, length, fork.
pub fn signable(context: &[u8; 32], tree_hash: &Hash, length: u64, fork: u64) -> [u8; 112] {
    let mut out = [0; 112];
    out[..32].copy_from_slice(&hypercore_namespace::tree());
    out[32..64].copy_from_slice(context);
    out[64..96].copy_from_slice(&tree_hash.0);
    out[96..104].copy_from_slice(&length.to_le_bytes());
    out[104..].copy_from_slice(&fork.to_le_bytes());
    out
}

/// Returns the 80 bytes that the signer of a Hypercore 10 feed signs.
pub fn signable_compat(tree_hash: &Hash, length: u64, fork: u64) -> [u8; 80] {
    let mut out = [0; 80];
    out[..32].copy_from_slice(&hypercore_namespace::tree());
    out[32..64].copy_from_slice(&tree_hash.0);
    out[64..72].copy_from_slice(&length.to_le_bytes());
    out[72..].copy_from_slice(&fork.to_le_bytes());
    out
}
