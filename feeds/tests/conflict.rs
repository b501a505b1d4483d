//! Proofs of a conflict: made from any pair of heads that contradict each other, checked from their
//! bytes alone, refused with any byte changed.
#![allow(clippy::unwrap_used, clippy::panic)] // Tests fail by panicking.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::conflict::{ConflictProof, ConflictProofError, Contradiction};
use kinlog_feeds::manifest::{Manifest, Verifier};
use kinlog_feeds::text::encode_hex;
use kinlog_feeds::tree::{
    Head, Node, ProofRequest, SignedHead, UpgradeRequest, VerifyError, append, prove, root_indexes,
    verify,
};
use kinlog_feeds::{FeedKey, Hash, KeyPair};

/// What a proof of one writer and a feed that people make may take.
const SMALL: usize = 4 * 1024;

fn writer() -> (KeyPair, Manifest, FeedKey) {
    let pair = KeyPair::from_seed(&[7; 32]);
    let manifest = Manifest::single(pair.public_key());
    let key = manifest.key();
    (pair, manifest, key)
}

/// A history of the writer with its tree at every length.
struct History {
    nodes: BTreeMap<u64, Node>,
    heads: Vec<Head>,
}

impl History {
    /// Blocks of which those from `fork_at` on say `tag`.
    fn new(length: u64, fork_at: u64, tag: &str) -> History {
        let mut history = History {
            nodes: BTreeMap::new(),
            heads: vec![Head::default()],
        };
        for block in 0..length {
            let tag = if block < fork_at { "common" } else { tag };
            let value = Bytes::from(format!("{tag} {block}"));
            let appended = append(history.heads.last().unwrap(), &[value]).unwrap();
            let new = appended.leaves.iter().chain(&appended.parents);
            history.nodes.extend(new.map(|node| (node.index, *node)));
            history.heads.push(appended.head);
        }
        history
    }

    fn signed(&self, length: u64, fork: u64) -> SignedHead {
        let (pair, manifest, key) = writer();
        let mut head = self.heads[length as usize].clone();
        head.fork = fork;
        let verifier = Verifier::new(key, &manifest).unwrap();
        let tree_hash = head.tree_hash();
        let signature = verifier.sign(&pair, &tree_hash, length, fork).unwrap();
        SignedHead {
            head,
            tree_hash,
            signature,
        }
    }
}

/// Holds `ours` at one length and is shown `theirs` at another, by its way to `shown` and on.
fn found(
    ours: (&History, u64),
    theirs: (&History, u64),
    shown: u64,
) -> Result<ConflictProof, String> {
    let (_, manifest, key) = writer();
    let verifier = Verifier::new(key, &manifest).unwrap();
    let held = ours.0.signed(ours.1, 0);
    let other = theirs.0.signed(theirs.1, 0);
    let request = ProofRequest {
        upgrade: Some(UpgradeRequest {
            start: 0,
            length: shown,
        }),
        ..ProofRequest::default()
    };
    let proof = prove(&other.head, &theirs.0.nodes, &request, &other.signature).unwrap();
    match verify(&held.head, &ours.0.nodes, &verifier, &proof) {
        Err(VerifyError::Conflict(conflict)) => {
            let proof =
                ConflictProof::between(key, &manifest, Some(&held), &ours.0.nodes, &conflict)
                    .unwrap();
            Ok(proof.expect("whoever holds every node can show it"))
        }
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn any_two_histories_make_a_proof_and_both_sides_make_the_same() {
    for length in 1..=24 {
        for fork_at in 0..length {
            let ours = History::new(length, length, "ours");
            for other_length in [fork_at + 1, length, length + 1, 2 * length + 3] {
                let theirs = History::new(other_length, fork_at, "theirs");
                let at = length.min(other_length);
                let what = format!("{length} and {other_length} blocks, apart from {fork_at}");
                let proof = found((&ours, length), (&theirs, other_length), at)
                    .unwrap_or_else(|found| panic!("{what}: {found}"));
                let from_there = found((&theirs, other_length), (&ours, length), at).unwrap();
                assert_eq!(proof.encode(), from_there.encode(), "{what}");
                assert!(proof.blocks().contains(&fork_at), "{what}: {proof}");
                assert_eq!(proof.feed(), writer().2);
                let lengths = proof.heads().map(|signed| signed.head.length);
                assert_eq!(lengths, [at, length.max(other_length)], "{what}");

                let bytes = proof.encode();
                assert!(bytes.len() < SMALL, "{what}: {} bytes", bytes.len());
                assert_eq!(ConflictProof::decode(&bytes).as_ref(), Ok(&proof), "{what}");
            }
        }
    }
}

#[test]
fn a_longer_head_is_shown_by_its_way_to_any_length_where_it_differs() {
    let ours = History::new(21, 21, "ours");
    let theirs = History::new(30, 9, "theirs");
    for shown in 10..=21 {
        let proof = found((&ours, 21), (&theirs, 30), shown).unwrap();
        assert!(proof.blocks().contains(&9), "{proof}");
        assert_eq!(ConflictProof::decode(&proof.encode()), Ok(proof));
    }
}

#[test]
fn a_history_that_goes_on_is_no_conflict() {
    for (length, longer) in [(1, 2), (7, 8), (8, 9), (13, 40)] {
        let (ours, theirs) = (History::new(length, 0, "x"), History::new(longer, 0, "x"));
        assert!(found((&ours, length), (&theirs, longer), length).is_err());
        assert!(found((&theirs, longer), (&ours, length), length).is_err());
    }
}

fn example() -> ConflictProof {
    let ours = History::new(13, 13, "ours");
    let theirs = History::new(22, 10, "theirs");
    found((&ours, 13), (&theirs, 22), 13).unwrap()
}

/// A head on fork 1, seen by somebody who holds 5 blocks, or nothing.
fn of_fork(held: Option<&SignedHead>) -> ConflictProof {
    let (_, manifest, key) = writer();
    let history = History::new(6, 6, "x");
    let theirs = history.signed(6, 1);
    let (ours, other) = (Hash([0; 32]), theirs.tree_hash);
    let conflict = kinlog_feeds::tree::Conflict {
        theirs,
        at: 6,
        ours,
        other,
        nodes: Vec::new(),
    };
    ConflictProof::between(key, &manifest, held, &history.nodes, &conflict)
        .unwrap()
        .unwrap()
}

#[test]
fn a_head_of_another_fork_is_a_proof_with_and_without_one_of_ours() {
    let held = History::new(5, 5, "x").signed(5, 0);
    let with = of_fork(Some(&held));
    assert_eq!(with.contradiction(), Contradiction::Fork);
    assert_eq!(*with.heads()[0], held);
    let without = of_fork(None);
    assert_eq!(without.heads()[0].head, Head::default());
    for proof in [with, without] {
        assert_eq!(proof.heads()[1].head.fork, 1);
        assert_eq!(ConflictProof::decode(&proof.encode()), Ok(proof));
    }
}

#[test]
fn every_flipped_byte_every_cut_and_every_addition_is_refused() {
    let held = History::new(5, 5, "x").signed(5, 0);
    for proof in [example(), of_fork(Some(&held)), of_fork(None)] {
        let bytes = proof.encode();
        for at in 0..bytes.len() {
            for change in [1u8, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                let outcome = ConflictProof::decode(&changed);
                assert!(
                    outcome.is_err(),
                    "byte {at} changed by {change}: {outcome:?}"
                );
            }
            assert!(ConflictProof::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(ConflictProof::decode(&longer).is_err());
    }
    let huge = vec![0; 64 * 1024 + 1];
    let outcome = ConflictProof::decode(&huge);
    assert!(matches!(outcome, Err(ConflictProofError::TooLarge { .. })));
}

#[test]
fn two_heads_that_agree_are_no_proof() {
    let proof = example();
    let bytes = proof.encode();
    let signature = &proof.heads()[0].signature[..];
    let at = bytes
        .windows(signature.len())
        .position(|at| at == signature);
    let end = at.unwrap() + signature.len();
    // Magic, version, kind, key, manifest and node with their lengths, the root of blocks 0..8.
    let start = 4 + 2 + 32 + 71 + 1 + 33;
    let twice = [&bytes[..end], &bytes[start..end]].concat();
    let outcome = ConflictProof::decode(&twice);
    assert_eq!(outcome, Err(ConflictProofError::NoContradiction));
}

/// Signs a tree of which nothing exists but made-up roots.
fn made_up(length: u64, tag: u8) -> SignedHead {
    let (pair, manifest, key) = writer();
    let roots = root_indexes(length)
        .into_iter()
        .map(|index| Node {
            index,
            size: flat_tree::count_leaves(index) * 100,
            hash: Hash([tag; 32]),
        })
        .collect();
    let head = Head::from_roots(0, roots).unwrap();
    let verifier = Verifier::new(key, &manifest).unwrap();
    let tree_hash = head.tree_hash();
    let signature = verifier.sign(&pair, &tree_hash, length, 0).unwrap();
    SignedHead {
        head,
        tree_hash,
        signature,
    }
}

#[test]
fn proofs_stay_small_up_to_a_million_million_blocks() {
    let (_, manifest, key) = writer();
    for power in 1..=40 {
        let length = (1u64 << power) - 1;
        let (ours, theirs) = (made_up(length, 1), made_up(length, 2));
        let (at, other) = (length, theirs.tree_hash);
        let conflict = kinlog_feeds::tree::Conflict {
            theirs,
            at,
            ours: ours.tree_hash,
            other,
            nodes: Vec::new(),
        };
        let nothing: BTreeMap<u64, Node> = BTreeMap::new();
        let proof =
            ConflictProof::between(key, &manifest, Some(&ours), &nothing, &conflict).unwrap();
        let bytes = proof.unwrap().encode().len();
        assert!(bytes < SMALL, "{length} blocks: {bytes} bytes");
    }
}

#[test]
fn the_bytes_of_a_proof_are_these() {
    let golden: String = include_str!("conflict.hex").split_whitespace().collect();
    assert_eq!(encode_hex(&example().encode()), golden);
}
