//! Manifests and signature fields: what is encoded decodes to itself, and no bytes panic.
#![allow(clippy::unwrap_used)] // values of our own making that do not decode fail the test

use bytes::Bytes;
use kinlog_feeds::encoding::DecodeError;
use kinlog_feeds::manifest::{
    Manifest, Multisig, PartialSignature, Prologue, SignatureFault, SignerKey, Verifier,
};
use kinlog_feeds::tree::Node;
use kinlog_feeds::{FeedKey, Hash, KeyPair, PublicKey};
use proptest::prelude::*;

fn signer() -> impl Strategy<Value = SignerKey> {
    any::<([u8; 32], [u8; 32])>().prop_map(|(namespace, key)| SignerKey {
        namespace,
        public_key: PublicKey(key),
    })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let signers = prop::collection::vec(signer(), 0..5);
    let prologue = prop::option::of((any::<[u8; 32]>(), 0u64..1 << 53));
    let linked = prop::option::of(prop::collection::vec(any::<[u8; 32]>(), 0..4));
    let user_data = prop::option::of(prop::collection::vec(any::<u8>(), 1..40));
    let parts = (
        1u8..4,
        any::<bool>(),
        0u64..300,
        signers,
        prologue,
        linked,
        user_data,
    );
    parts.prop_map(
        |(version, allow_patch, quorum, signers, prologue, linked, user_data)| Manifest {
            version,
            allow_patch,
            quorum,
            signers,
            prologue: prologue.map(|(hash, length)| Prologue {
                hash: Hash(hash),
                length,
            }),
            linked: linked.map(|keys| keys.into_iter().map(FeedKey).collect()),
            user_data: user_data.map(Bytes::from),
        },
    )
}

fn manifest_v0() -> impl Strategy<Value = Manifest> {
    let signers = prop::collection::vec(signer(), 1..5);
    let empty = |signers, quorum, allow_patch, prologue| Manifest {
        version: 0,
        allow_patch,
        quorum,
        signers,
        prologue,
        linked: None,
        user_data: None,
    };
    prop_oneof![
        (signers, 0u64..300, any::<bool>())
            .prop_map(move |(signers, quorum, patch)| empty(signers, quorum, patch, None)),
        any::<[u8; 32]>().prop_map(move |hash| {
            let prologue = Prologue {
                hash: Hash(hash),
                length: 0,
            };
            empty(Vec::new(), 0, false, Some(prologue))
        }),
    ]
}

fn multisig() -> impl Strategy<Value = Multisig> {
    let proof = (
        0u64..200,
        any::<[u8; 32]>(),
        any::<[u8; 32]>(),
        0u64..1 << 53,
    );
    let proof = proof.prop_map(|(signer, r, s, patch)| {
        let signature = [r, s].concat().try_into().unwrap();
        PartialSignature {
            signer,
            signature,
            patch,
        }
    });
    let node = (0u64..1 << 53, 0u64..1 << 53, any::<[u8; 32]>());
    let node = node.prop_map(|(index, size, hash)| Node {
        index,
        size,
        hash: Hash(hash),
    });
    let parts = (
        prop::collection::vec(proof, 0..6),
        prop::collection::vec(node, 0..6),
    );
    parts.prop_map(|(proofs, patch)| Multisig { proofs, patch })
}

proptest! {
    #[test]
    fn manifests_come_back_as_they_were(manifest in prop_oneof![manifest(), manifest_v0()]) {
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn manifests_of_any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(manifest) = Manifest::decode(&bytes) {
            // What was read has one form, which reads as the same again.
            prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }

    #[test]
    fn changed_manifests_are_read_or_refused(
        manifest in prop_oneof![manifest(), manifest_v0()],
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let key = manifest.key();
        let mut bytes = manifest.encode();
        let before = bytes.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(read) = Manifest::decode(&bytes) && read.encode() != before {
            prop_assert!(Verifier::new(key, &read).is_err());
        }
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(Manifest::decode(&bytes).is_err() || bytes == before);
    }

    #[test]
    fn signature_fields_come_back_as_they_were(field in multisig()) {
        prop_assert_eq!(Multisig::decode(&field.encode()), Ok(field));
    }

    #[test]
    fn signature_fields_of_any_bytes_are_refused(
        manifest in prop_oneof![manifest(), manifest_v0()],
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        length in 1u64..1 << 52,
    ) {
        let verifier = Verifier::new(manifest.key(), &manifest).unwrap();
        prop_assert!(verifier.verify(&Hash([1; 32]), length, 0, &bytes).is_err());
    }
}

#[test]
fn a_count_beyond_the_limit_is_refused_before_anything_is_allocated() {
    let mut bytes = vec![1, 0, 0, 1];
    bytes.extend_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0xff]);
    let expected = DecodeError::AboveLimit {
        what: "signers",
        at: 4,
        limit: 128,
        actual: u64::from(u32::MAX),
    };
    assert_eq!(Manifest::decode(&bytes), Err(expected));
    assert!(matches!(
        Multisig::decode(&bytes[4..]),
        Err(DecodeError::AboveLimit { .. })
    ));
}

#[test]
fn versions_and_flags_of_the_future_are_named() {
    let manifest = Manifest::single(KeyPair::from_seed(&[1; 32]).public_key());
    for (at, what) in [
        (0, "manifest version"),
        (1, "manifest flags"),
        (2, "manifest hash"),
    ] {
        let mut bytes = manifest.encode();
        bytes[at] = 0x40;
        let expected = DecodeError::UnknownValue {
            what,
            at,
            actual: 0x40,
        };
        assert_eq!(Manifest::decode(&bytes), Err(expected));
    }
}

#[test]
fn a_signature_field_has_one_form_only() {
    let pair = KeyPair::from_seed(&[1; 32]);
    let manifest = Manifest::single(pair.public_key());
    let verifier = Verifier::new(manifest.key(), &manifest).unwrap();
    let tree_hash = Hash([5; 32]);
    let field = verifier.sign(&pair, &tree_hash, 9, 0).unwrap();
    assert_eq!(verifier.verify(&tree_hash, 9, 0, &field), Ok(()));

    let longer = [&field[..], &[0]].concat();
    let wide = [&[0xfd, 1, 0][..], &field[1..]].concat();
    for second in [longer, wide] {
        let judged = verifier.verify(&tree_hash, 9, 0, &second);
        let refused = matches!(
            judged,
            Err(SignatureFault::NotCanonical | SignatureFault::Malformed(_))
        );
        assert!(refused, "{judged:?}");
    }
    let mut patched = field.to_vec();
    patched[66] = 1;
    let expected = Err(SignatureFault::PatchNotAllowed { signer: 0 });
    assert_eq!(verifier.verify(&tree_hash, 9, 0, &patched), expected);
}

/// Symptom: noise found a second form of a valid signature field, longer by nodes that no
/// signature needs. Cause: nodes were looked up by index, whatever else the list held. Now the
/// list is the one that writers make.
#[test]
fn nodes_that_no_signature_needs_are_refused() {
    let pair = KeyPair::from_seed(&[3; 32]);
    let manifest = Manifest::single(pair.public_key());
    let verifier = Verifier::new(manifest.key(), &manifest).unwrap();
    let tree_hash = Hash([5; 32]);
    let field = verifier.sign(&pair, &tree_hash, 9, 0).unwrap();
    let mut multisig = Multisig::decode(&field).unwrap();
    multisig.patch = vec![Node {
        index: 18,
        size: 1,
        hash: Hash([6; 32]),
    }];
    let expected = Err(SignatureFault::Nodes {
        expected: 0,
        actual: 1,
    });
    assert_eq!(
        verifier.verify(&tree_hash, 9, 0, &multisig.encode()),
        expected
    );
}
