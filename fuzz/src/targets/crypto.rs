//! Manifests, signatures, conflict proofs, keys as text.

use bytes::Bytes;
use kinlog_feeds::conflict::ConflictProof;
use kinlog_feeds::manifest::{Manifest, Multisig, PartialSignature, Prologue, SignerKey, Verifier};
use kinlog_feeds::{FeedKey, Hash, PublicKey, text};

use crate::targets::golden::{golden, writer};

pub(super) fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::decode(bytes) else {
        return false;
    };
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
    // Its own key takes it, and no other does.
    assert!(Verifier::new(manifest.key(), &manifest).is_ok());
    assert!(
        Verifier::new(FeedKey([0; 32]), &manifest).is_err()
            || manifest.is_compat(&FeedKey([0; 32]))
    );
    true
}

pub(super) fn manifest_seeds() -> Vec<Vec<u8>> {
    let single = Manifest::single(writer().public_key());
    let signer = |byte| SignerKey {
        namespace: [byte; 32],
        public_key: PublicKey([byte; 32]),
    };
    let full = Manifest {
        version: 3,
        allow_patch: true,
        quorum: 2,
        signers: vec![signer(1), signer(2), signer(3)],
        prologue: Some(Prologue {
            hash: Hash([9; 32]),
            length: 300,
        }),
        linked: Some(vec![FeedKey([4; 32])]),
        user_data: Some(Bytes::from_static(b"data")),
    };
    let old = Manifest {
        version: 0,
        prologue: None,
        linked: None,
        user_data: None,
        ..full.clone()
    };
    [single, full, old].iter().map(Manifest::encode).collect()
}

/// Reads a signature field, and asks whether it signs the golden head: only one does.
pub(super) fn multisig(bytes: &[u8]) -> bool {
    let signed = golden().feed.signed_head().unwrap();
    let manifest = golden().feed.manifest().unwrap();
    let verifier = Verifier::new(golden().feed.key(), &manifest).unwrap();
    if verifier.verify_head(&signed.head, bytes).is_ok() {
        assert_eq!(signed.signature, bytes, "a signature has one form");
    }
    if let Ok(old) = Multisig::decode_v0(bytes) {
        assert!(old.proofs.len() <= bytes.len());
    }
    let Ok(multisig) = Multisig::decode(bytes) else {
        return false;
    };
    assert_eq!(Multisig::decode(&multisig.encode()), Ok(multisig));
    true
}

pub(super) fn multisig_seeds() -> Vec<Vec<u8>> {
    let signed = golden().feed.signed_head().unwrap();
    let partial = |signer| PartialSignature {
        signer,
        signature: [signer as u8; 64],
        patch: signer,
    };
    let several = Multisig {
        proofs: vec![partial(0), partial(2)],
        patch: signed.head.roots.clone(),
    };
    Vec::from([signed.signature.to_vec(), several.encode()])
}

/// Whatever decodes as a proof of conflict shows two heads that somebody signed.
pub(super) fn conflict_proof(bytes: &[u8]) -> bool {
    let Ok(proof) = ConflictProof::decode(bytes) else {
        return false;
    };
    assert_eq!(proof.encode(), bytes, "a proof has one form");
    let verifier = Verifier::new(proof.feed(), proof.manifest()).unwrap();
    for signed in proof.heads() {
        assert!(
            verifier
                .verify_head(&signed.head, &signed.signature)
                .is_ok()
        );
    }
    true
}

pub(super) fn conflict_proof_seeds() -> Vec<Vec<u8>> {
    let hex = include_str!("../../../feeds/tests/conflict.hex");
    let hex: String = hex.split_whitespace().collect();
    Vec::from([text::decode_hex(&hex).unwrap()])
}

pub(super) fn key_text(bytes: &[u8]) -> bool {
    let Ok(written) = std::str::from_utf8(bytes) else {
        return false;
    };
    if let Ok(decoded) = text::decode(written) {
        assert_eq!(text::decode(&text::encode(&decoded)), Ok(decoded));
    }
    if let Ok(decoded) = text::decode_hex(written) {
        assert_eq!(text::decode_hex(&text::encode_hex(&decoded)), Ok(decoded));
    }
    let Ok(key) = text::decode_key(written) else {
        return false;
    };
    assert_eq!(text::decode_key(&text::encode_link_key(&key)), Ok(key));
    true
}

pub(super) fn key_text_seeds() -> Vec<Vec<u8>> {
    let key = golden().feed.key().0;
    let texts = [
        text::encode(&key),
        text::encode_hex(&key),
        text::encode_link_key(&key),
    ];
    texts.map(String::into_bytes).into()
}
