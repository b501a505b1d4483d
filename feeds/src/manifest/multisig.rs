//! The signature field of feeds with a manifest: who signed, and how long a tree.

use crate::crypto::SIGNATURE_BYTES;
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::{MANIFEST_SIGNERS_MAX, MULTISIG_PATCH_NODES_MAX};
use crate::tree::Node;

/// One signer's signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartialSignature {
    /// Position of the signer in the manifest.
    pub signer: u64,
    /// The ed25519 signature.
    pub signature: [u8; SIGNATURE_BYTES],
    /// Blocks by which the tree that was signed is longer than the one at hand.
    pub patch: u64,
}

/// Signatures of several signers, and the nodes that lead to the longer trees some of them signed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Multisig {
    /// The signatures.
    pub proofs: Vec<PartialSignature>,
    /// Nodes from the tree at hand to the longest one that was signed.
    pub patch: Vec<Node>,
}

impl Multisig {
    /// Returns the field of a feed with one signer, 68 bytes when encoded.
    pub fn single(signature: [u8; SIGNATURE_BYTES]) -> Multisig {
        let proofs = vec![PartialSignature {
            signer: 0,
            signature,
            patch: 0,
        }];
        Multisig {
            proofs,
            patch: Vec::new(),
        }
    }

    /// Returns the bytes of manifests from version 1 on.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + 66 * self.proofs.len() + 44 * self.patch.len());
        out.put_uint(self.proofs.len() as u64);
        for proof in &self.proofs {
            out.put_uint(proof.signer);
            out.put_raw(&proof.signature);
            out.put_uint(proof.patch);
        }
        Node::encode_list(&self.patch, &mut out);
        out
    }

    /// Reads the bytes of manifests from version 1 on.
    pub fn decode(bytes: &[u8]) -> Result<Multisig, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.uint_max("signatures", MANIFEST_SIGNERS_MAX)?;
        let proofs = (0..count).map(|_| {
            Ok(PartialSignature {
                signer: reader.uint()?,
                signature: reader.fixed()?,
                patch: reader.uint()?,
            })
        });
        let proofs = proofs.collect::<Result<Vec<_>, DecodeError>>()?;
        let patch = Node::decode_list(&mut reader, "patch nodes", MULTISIG_PATCH_NODES_MAX)?;
        reader.finish()?;
        Ok(Multisig { proofs, patch })
    }

    /// Reads the bytes of version-0 manifests with several signers: flags before each signature,
    /// and of each patch its start, length and positions in the list of nodes. Only the length
    /// matters: the nodes are found by index.
    pub fn decode_v0(bytes: &[u8]) -> Result<Multisig, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.uint_max("signatures", MANIFEST_SIGNERS_MAX)?;
        let proofs = (0..count).map(|_| {
            let flags = reader.uint()?;
            let (signer, signature) = (reader.uint()?, reader.fixed()?);
            let patch = if flags & 1 == 0 {
                0
            } else {
                read_patch_v0(&mut reader)?
            };
            Ok(PartialSignature {
                signer,
                signature,
                patch,
            })
        });
        let proofs = proofs.collect::<Result<Vec<_>, DecodeError>>()?;
        let patch = Node::decode_list(&mut reader, "patch nodes", MULTISIG_PATCH_NODES_MAX)?;
        reader.finish()?;
        Ok(Multisig { proofs, patch })
    }
}

fn read_patch_v0(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let _start = reader.uint()?;
    let length = reader.uint()?;
    let count = reader.uint_max("patch positions", MULTISIG_PATCH_NODES_MAX)?;
    for _ in 0..count {
        reader.uint()?;
    }
    Ok(length)
}
