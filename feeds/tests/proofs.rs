//! Proofs between a writer and readers that hold only parts: whatever is asked for proves and
//! verifies, and whatever is changed on the way is refused.
#![allow(clippy::unwrap_used)] // a writer of our own making that errs fails its test

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kinlog_feeds::manifest::{Manifest, Verifier};
use kinlog_feeds::tree::{
    BlockProof, BlockRequest, Fault, HashProof, HashRequest, Head, Node, Proof, ProofRequest,
    SeekProof, SeekRequest, UpgradeProof, UpgradeRequest, Verified, VerifyError, append, prove,
    verify,
};
use kinlog_feeds::{FeedKey, Hash, KeyPair};
use proptest::prelude::*;

type Nodes = BTreeMap<u64, Node>;
type Outcome = Result<Verified, VerifyError<std::convert::Infallible>>;

/// A feed with everything that its writer knows.
#[derive(Debug)]
struct Writer {
    pair: KeyPair,
    verifier: Verifier,
    blocks: Vec<Bytes>,
    nodes: Nodes,
    /// The head at every length.
    heads: Vec<Head>,
}

impl Writer {
    fn new(blocks: Vec<Bytes>) -> Writer {
        Writer::of_seed(7, blocks)
    }

    fn of_seed(seed: u8, blocks: Vec<Bytes>) -> Writer {
        let pair = KeyPair::from_seed(&[seed; 32]);
        let manifest = Manifest::single(pair.public_key());
        let verifier = Verifier::new(manifest.key(), &manifest).unwrap();
        let (mut nodes, mut heads) = (Nodes::new(), vec![Head::default()]);
        for block in &blocks {
            let appended = append(heads.last().unwrap(), std::slice::from_ref(block)).unwrap();
            let new = appended.leaves.iter().chain(&appended.parents);
            nodes.extend(new.map(|node| (node.index, *node)));
            heads.push(appended.head);
        }
        Writer {
            pair,
            verifier,
            blocks,
            nodes,
            heads,
        }
    }

    fn length(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Answers a request as the feed was at `length`.
    fn prove_at(&self, length: u64, request: &ProofRequest) -> Proof {
        let head = &self.heads[length as usize];
        let signature = self
            .verifier
            .sign(&self.pair, &head.tree_hash(), length, head.fork)
            .unwrap();
        let mut proof = prove(head, &self.nodes, request, &signature).unwrap();
        if let Some(block) = &mut proof.block {
            block.value = self.blocks[block.index as usize].clone();
        }
        proof
    }

    fn prove(&self, request: &ProofRequest) -> Proof {
        self.prove_at(self.length(), request)
    }

    fn has(&self, nodes: &[Node]) -> bool {
        nodes
            .iter()
            .all(|node| self.nodes.get(&node.index) == Some(node))
    }
}

/// A reader that holds what was verified.
#[derive(Clone, Debug, Default)]
struct Reader {
    head: Head,
    nodes: Nodes,
    blocks: BTreeSet<u64>,
}

impl Reader {
    fn at(writer: &Writer, length: u64) -> Reader {
        let mut reader = Reader::default();
        reader.take(writer, &reader.upgrade(length)).unwrap();
        reader
    }

    fn upgrade(&self, length: u64) -> ProofRequest {
        let (start, length) = (self.head.length, length - self.head.length);
        ProofRequest {
            upgrade: Some(UpgradeRequest { start, length }),
            ..Default::default()
        }
    }

    /// Asks for a block with just the levels that are missing.
    fn block(&self, index: u64) -> ProofRequest {
        let mut at = 2 * index;
        let mut nodes = 0;
        while self.head.root(at).is_none() && !self.nodes.contains_key(&at) {
            at = flat_tree::parent(at);
            nodes += 1;
        }
        ProofRequest {
            block: Some(BlockRequest { index, nodes }),
            ..Default::default()
        }
    }

    fn verify(&self, writer: &Writer, proof: &Proof) -> Outcome {
        verify(&self.head, &self.nodes, &writer.verifier, proof)
    }

    fn take(&mut self, writer: &Writer, request: &ProofRequest) -> Outcome {
        let verified = self.verify(writer, &writer.prove(request))?;
        self.store(&verified);
        Ok(verified)
    }

    fn store(&mut self, verified: &Verified) {
        self.nodes
            .extend(verified.nodes.iter().map(|node| (node.index, *node)));
        self.blocks.extend(verified.block);
        if let Some(signed) = &verified.upgrade {
            self.head = signed.head.clone();
        }
    }
}

fn blocks(count: usize) -> Vec<Bytes> {
    (0..count)
        .map(|at| Bytes::from(vec![at as u8; 1 + at * 7 % 40]))
        .collect()
}

fn some_blocks(most: usize) -> impl Strategy<Value = Vec<Bytes>> {
    let block = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    prop::collection::vec(block, 1..most)
}

/// Every way of changing one field of a proof, in a fixed order.
fn tamperings(proof: &Proof) -> Vec<(&'static str, Proof)> {
    let mut all = Vec::new();
    let mut change = |what: &'static str, edit: &dyn Fn(&mut Proof)| {
        let mut tampered = proof.clone();
        edit(&mut tampered);
        assert_ne!(&tampered, proof, "{what} changed nothing");
        all.push((what, tampered));
    };
    change("fork", &|proof| proof.fork += 1);
    if let Some(block) = &proof.block {
        change("block index", &|proof| {
            proof.block.as_mut().unwrap().index ^= 1
        });
        change("block longer", &|proof| {
            let block = proof.block.as_mut().unwrap();
            block.value = [&block.value[..], &[0]].concat().into();
        });
        for at in 0..block.value.len() {
            change("block byte", &|proof| {
                let block = proof.block.as_mut().unwrap();
                let mut value = block.value.to_vec();
                value[at] ^= 0x40;
                block.value = value.into();
            });
        }
    }
    for list in 0..5 {
        let count = nodes_of(&mut proof.clone(), list).map_or(0, |nodes| nodes.len());
        for at in 0..count {
            let node = |edit: fn(&mut Node)| {
                move |proof: &mut Proof| edit(&mut nodes_of(proof, list).unwrap()[at])
            };
            change("node hash", &node(|node| node.hash.0[31] ^= 1));
            change("node size up", &node(|node| node.size += 1));
            change("node size", &node(|node| node.size ^= 1 << 40));
            change("node index", &node(|node| node.index ^= 2));
            change("node index parity", &node(|node| node.index ^= 1));
            change("node left out", &|proof| {
                nodes_of(proof, list).unwrap().remove(at);
            });
            change("node twice", &|proof| {
                let nodes = nodes_of(proof, list).unwrap();
                nodes.insert(at, nodes[at]);
            });
        }
        if nodes_of(&mut proof.clone(), list).is_some() {
            change("node too many", &|proof| {
                let node = Node {
                    index: 1,
                    size: 1,
                    hash: Hash([1; 32]),
                };
                nodes_of(proof, list).unwrap().push(node);
            });
        }
    }
    if let Some(upgrade) = &proof.upgrade {
        for at in 0..upgrade.signature.len() {
            change("signature byte", &|proof| {
                let upgrade = proof.upgrade.as_mut().unwrap();
                let mut signature = upgrade.signature.to_vec();
                signature[at] ^= 0x01;
                upgrade.signature = signature.into();
            });
        }
        change("upgrade start", &|proof| {
            proof.upgrade.as_mut().unwrap().start += 1
        });
        change("upgrade length up", &|proof| {
            proof.upgrade.as_mut().unwrap().length += 1
        });
        change("upgrade length down", &|proof| {
            proof.upgrade.as_mut().unwrap().length -= 1
        });
        change("no signature", &|proof| {
            proof.upgrade.as_mut().unwrap().signature = Bytes::new();
        });
    }
    all
}

fn nodes_of(proof: &mut Proof, list: usize) -> Option<&mut Vec<Node>> {
    match list {
        0 => proof.block.as_mut().map(|block| &mut block.nodes),
        1 => proof.hash.as_mut().map(|hash| &mut hash.nodes),
        2 => proof.seek.as_mut().map(|seek| &mut seek.nodes),
        3 => proof.upgrade.as_mut().map(|upgrade| &mut upgrade.nodes),
        _ => proof
            .upgrade
            .as_mut()
            .map(|upgrade| &mut upgrade.additional_nodes),
    }
}

fn assert_refused(outcome: Outcome, what: &str, proof: &Proof) {
    let refused = matches!(
        outcome,
        Err(VerifyError::BadData { .. }
            | VerifyError::MissingAnchor { .. }
            | VerifyError::NotForThisFork { .. })
    );
    assert!(refused, "{what}: {outcome:?} for {proof:?}");
}

proptest! {
    #[test]
    fn sparse_readers_get_what_they_ask_for_and_hold_only_the_writers_nodes(
        blocks in some_blocks(70),
        steps in prop::collection::vec((any::<bool>(), any::<u64>()), 1..40),
    ) {
        let writer = Writer::new(blocks);
        let mut reader = Reader::default();
        for (upgrade, number) in steps {
            let room = writer.length() - reader.head.length;
            if (upgrade || reader.head.length == 0) && room > 0 {
                let length = reader.head.length + 1 + number % room;
                let verified = reader.take(&writer, &reader.upgrade(length)).unwrap();
                // The signature covers the writer's head, so the reader always gets there.
                prop_assert_eq!(&verified.upgrade.unwrap().head, writer.heads.last().unwrap());
            } else {
                let index = number % reader.head.length;
                let before = reader.nodes.clone();
                let verified = reader.take(&writer, &reader.block(index)).unwrap();
                prop_assert_eq!(verified.block, Some(index));
                let known = verified.nodes.iter().find(|node| before.contains_key(&node.index));
                prop_assert_eq!(known, None, "only what is new is reported");
                prop_assert!(verified.unsized_pairs.is_empty());
            }
        }
        let held: Vec<Node> = reader.nodes.values().copied().collect();
        prop_assert!(writer.has(&held));
    }

    #[test]
    fn readers_follow_a_growing_writer_with_blocks_inside_upgrades(
        blocks in some_blocks(60),
        lengths in prop::collection::btree_set(1u64..60, 1..8),
        pick in any::<u64>(),
    ) {
        let writer = Writer::new(blocks);
        let mut reader = Reader::default();
        for length in lengths.into_iter().filter(|length| *length <= writer.length()) {
            let start = reader.head.length;
            let index = start + pick % (length - start);
            let request = ProofRequest {
                block: Some(BlockRequest { index, nodes: 0 }),
                ..reader.upgrade(length)
            };
            let proof = writer.prove_at(length, &request);
            let verified = reader.verify(&writer, &proof).unwrap();
            prop_assert_eq!(verified.block, Some(index));
            reader.store(&verified);
            prop_assert_eq!(&reader.head, &writer.heads[length as usize]);
        }
        let held: Vec<Node> = reader.nodes.values().copied().collect();
        prop_assert!(writer.has(&held));
    }

    #[test]
    fn seeks_and_hashes_verify_and_teach_nothing_wrong(
        blocks in some_blocks(50),
        start in any::<u64>(),
        index in any::<u64>(),
        bytes in any::<u64>(),
        levels in 0u64..6,
        upgrade in any::<bool>(),
        kind in 0..4,
    ) {
        let writer = Writer::new(blocks);
        let head = writer.heads.last().unwrap();
        let start = start % writer.length();
        let reader = if start == 0 { Reader::default() } else {
            let mut reader = Reader::default();
            let proof = writer.prove_at(start, &reader.upgrade(start));
            reader.store(&reader.verify(&writer, &proof).unwrap());
            reader
        };
        let seek = SeekRequest { bytes: bytes % (head.byte_length + 2), padding: 0 };
        let request = ProofRequest {
            block: (kind == 1)
                .then_some(BlockRequest { index: index % writer.length(), nodes: levels }),
            hash: (kind == 2)
                .then_some(HashRequest { index: index % (2 * writer.length()), nodes: levels }),
            seek: (kind == 0 || kind == 3 || upgrade).then_some(seek),
            upgrade: upgrade.then_some(UpgradeRequest { start, length: writer.length() - start }),
        };
        let Ok(mut proof) = prove(head, &writer.nodes, &request, &[]) else { return Ok(()) };
        if let Some(upgrade) = &mut proof.upgrade {
            let hash = head.tree_hash();
            upgrade.signature =
                writer.verifier.sign(&writer.pair, &hash, head.length, 0).unwrap();
        }
        if let Some(block) = &mut proof.block {
            block.value = writer.blocks[block.index as usize].clone();
        }
        let reader = if upgrade { reader } else { Reader::at(&writer, writer.length()) };
        match reader.verify(&writer, &proof) {
            Ok(verified) => {
                prop_assert!(writer.has(&verified.nodes));
                prop_assert!(writer.has(&verified.unsized_pairs));
            }
            // The levels asked for end between what this reader knows.
            Err(VerifyError::MissingAnchor { .. }) => {}
            Err(error) => prop_assert!(false, "{error:?} for {request:?}"),
        }
    }

    #[test]
    fn any_single_changed_field_is_refused(
        count in 2usize..40,
        start in any::<u64>(),
        end in any::<u64>(),
        index in any::<u64>(),
        inside in any::<bool>(),
    ) {
        let writer = Writer::new(blocks(count));
        let start = start % writer.length();
        let end = start + 1 + end % (writer.length() - start);
        let mut reader = Reader::default();
        if start > 0 {
            let proof = writer.prove_at(start, &reader.upgrade(start));
            reader.store(&reader.verify(&writer, &proof).unwrap());
        }
        let mut request = reader.upgrade(end);
        if inside {
            request.block = Some(BlockRequest { index: start + index % (end - start), nodes: 0 });
        } else if start > 0 {
            request.block = reader.block(index % start).block;
        }
        let proof = writer.prove(&request);
        reader.verify(&writer, &proof).unwrap();
        for (what, tampered) in tamperings(&proof) {
            assert_refused(reader.verify(&writer, &tampered), what, &tampered);
        }

        let full = Reader::at(&writer, writer.length());
        let proof = writer.prove(&full.block(index % writer.length()));
        full.verify(&writer, &proof).unwrap();
        for (what, tampered) in tamperings(&proof) {
            assert_refused(full.verify(&writer, &tampered), what, &tampered);
        }
    }
}

#[test]
fn a_proof_of_another_feed_is_refused() {
    let (writer, other) = (Writer::new(blocks(9)), Writer::of_seed(8, blocks(9)));
    let proof = writer.prove(&Reader::default().upgrade(9));
    assert_refused(
        Reader::default().verify(&other, &proof),
        "other signer",
        &proof,
    );

    let reader = Reader::at(&writer, 9);
    let mut changed = blocks(9);
    changed[4] = Bytes::from_static(b"foreign");
    let proof = Writer::new(changed).prove(&reader.block(4));
    assert_refused(reader.verify(&writer, &proof), "other block", &proof);
}

#[test]
fn a_tampered_manifest_never_gives_a_verifier() {
    let manifest = Manifest::single(KeyPair::from_seed(&[7; 32]).public_key());
    let (key, encoded) = (manifest.key(), manifest.encode());
    for at in 0..encoded.len() {
        for bit in 0..8 {
            let mut tampered = encoded.clone();
            tampered[at] ^= 1 << bit;
            let accepted = Manifest::decode(&tampered)
                .ok()
                .filter(|manifest| Verifier::new(key, manifest).is_ok());
            assert_eq!(accepted, None, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_proof_that_ends_at_an_unknown_node_is_parked_not_blamed() {
    let writer = Writer::new(blocks(16));
    let reader = Reader::at(&writer, 16);
    // As if the answer for block 1 had come before the one for block 0 that it builds on.
    let request = ProofRequest {
        block: Some(BlockRequest { index: 1, nodes: 0 }),
        ..ProofRequest::default()
    };
    let proof = writer.prove(&request);
    let outcome = reader.verify(&writer, &proof);
    assert_eq!(
        outcome,
        Err(VerifyError::MissingAnchor {
            block: Some(1),
            node: 2
        })
    );

    let mut reader = reader;
    reader.take(&writer, &reader.block(0)).unwrap();
    let verified = reader.verify(&writer, &proof).unwrap();
    assert_eq!((verified.block, verified.nodes), (Some(1), vec![]));
}

#[test]
fn nodes_above_a_trusted_node_are_folded_too() {
    let writer = Writer::new(blocks(16));
    let mut reader = Reader::at(&writer, 16);
    let whole = reader.block(1);
    reader.take(&writer, &reader.block(0)).unwrap();
    let proof = writer.prove(&whole);
    assert_eq!(proof.block.as_ref().unwrap().nodes.len(), 4);
    let verified = reader.verify(&writer, &proof).unwrap();
    assert_eq!((verified.block, verified.nodes), (Some(1), vec![]));
    // Fewer nodes end at a lower node that is known too: that is no tampering.
    for (what, tampered) in tamperings(&proof)
        .into_iter()
        .filter(|(what, _)| *what != "node left out")
    {
        assert_refused(reader.verify(&writer, &tampered), what, &tampered);
    }
}

#[test]
fn nodes_above_our_head_do_not_hide_a_trusted_node_below() {
    let writer = Writer::new(blocks(16));
    let mut reader = Reader::default();
    let proof = writer.prove_at(8, &reader.upgrade(8));
    reader.store(&reader.verify(&writer, &proof).unwrap());
    let request = ProofRequest {
        block: Some(BlockRequest { index: 5, nodes: 4 }),
        ..ProofRequest::default()
    };
    let verified = reader.verify(&writer, &writer.prove(&request)).unwrap();
    assert_eq!(verified.block, Some(5));
    assert!(writer.has(&verified.nodes));
    assert!(
        verified.nodes.iter().all(|node| node.index < 15),
        "{:?}",
        verified.nodes
    );
}

#[test]
fn a_head_that_is_not_longer_is_stale() {
    let writer = Writer::new(blocks(9));
    let reader = Reader::at(&writer, 9);
    // The root of eight blocks is one of the roots of nine.
    let older = writer.prove_at(8, &Reader::default().upgrade(8));
    let expected = Err(VerifyError::Stale {
        start: 0,
        length: 8,
        ours: 9,
    });
    assert_eq!(reader.verify(&writer, &older), expected);
    // The roots of five are not known to who holds nothing but the head.
    let unknown = writer.prove_at(5, &Reader::default().upgrade(5));
    let expected = Err(VerifyError::Unlinked { length: 5, ours: 9 });
    assert_eq!(reader.verify(&writer, &unknown), expected);
    let same = writer.prove(&Reader::default().upgrade(9));
    let expected = Err(VerifyError::Stale {
        start: 0,
        length: 9,
        ours: 9,
    });
    assert_eq!(reader.verify(&writer, &same), expected);
}

#[test]
fn a_block_that_came_with_a_stale_head_still_counts() {
    let writer = Writer::new(blocks(9));
    let reader = Reader::at(&writer, 9);
    let request = ProofRequest {
        block: Some(BlockRequest { index: 3, nodes: 0 }),
        ..Reader::default().upgrade(9)
    };
    let verified = reader.verify(&writer, &writer.prove(&request)).unwrap();
    assert_eq!((verified.block, verified.upgrade), (Some(3), None));
    assert!(writer.has(&verified.nodes));
}

#[test]
fn an_upgrade_that_starts_above_our_head_waits_for_the_one_before() {
    let writer = Writer::new(blocks(9));
    let mut reader = Reader::default();
    let later = UpgradeRequest {
        start: 4,
        length: 5,
    };
    let later = writer.prove(&ProofRequest {
        upgrade: Some(later),
        ..ProofRequest::default()
    });
    let outcome = reader.verify(&writer, &later);
    assert!(
        matches!(outcome, Err(VerifyError::MissingAnchor { .. })),
        "{outcome:?}"
    );
    let proof = writer.prove_at(4, &reader.upgrade(4));
    reader.store(&reader.verify(&writer, &proof).unwrap());
    assert_eq!(
        reader
            .verify(&writer, &later)
            .unwrap()
            .upgrade
            .unwrap()
            .head
            .length,
        9
    );
}

#[test]
fn a_second_history_of_the_writer_is_a_conflict_with_both_hashes() {
    let writer = Writer::new(blocks(8));
    let mut forked = blocks(11);
    forked[6] = Bytes::from_static(b"another block 6");
    let forked = Writer::new(forked);
    let mut reader = Reader::default();
    let proof = writer.prove_at(8, &reader.upgrade(8));
    reader.store(&reader.verify(&writer, &proof).unwrap());

    // Over our roots its signature cannot hold: this alone does not tell who is to blame.
    let proof = forked.prove(&reader.upgrade(11));
    let error = reader.verify(&writer, &proof).unwrap_err();
    assert!(error.may_be_conflict(), "{error:?}");

    // Asked for its way to our length it shows its own roots, and the writer is caught.
    let proof = forked.prove(&Reader::default().upgrade(8));
    let Err(VerifyError::Conflict(conflict)) = reader.verify(&writer, &proof) else {
        panic!("two signed histories are a conflict");
    };
    assert_eq!(conflict.at, 8);
    assert_eq!(conflict.ours, writer.heads[8].tree_hash());
    assert_eq!(conflict.other, forked.heads[8].tree_hash());
    assert_eq!(conflict.theirs.head, *forked.heads.last().unwrap());
    let theirs = &conflict.theirs;
    let valid = writer
        .verifier
        .verify(&theirs.tree_hash, 11, 0, &theirs.signature);
    assert_eq!(valid, Ok(()), "the conflict carries its own evidence");

    // A shorter second history shows as soon as its roots are known here.
    let shorter = forked.prove_at(7, &Reader::default().upgrade(7));
    let outcome = reader.verify(&writer, &shorter);
    assert!(
        matches!(outcome, Err(VerifyError::Unlinked { .. })),
        "{outcome:?}"
    );
    reader.take(&writer, &reader.block(6)).unwrap();
    reader.take(&writer, &reader.block(4)).unwrap();
    reader.take(&writer, &reader.block(0)).unwrap();
    let outcome = reader.verify(&writer, &shorter);
    assert!(
        matches!(outcome, Err(VerifyError::Conflict(_))),
        "{outcome:?}"
    );

    // The same nodes without the writer's signature are a lie of the peer.
    let mut lie = forked.prove(&Reader::default().upgrade(8));
    lie.upgrade.as_mut().unwrap().signature = Bytes::from(vec![0; 68]);
    assert_refused(reader.verify(&writer, &lie), "unsigned history", &lie);
}

#[test]
fn a_continuation_is_accepted_from_zero_when_it_shows_our_length() {
    let writer = Writer::new(blocks(21));
    let mut reader = Reader::default();
    let proof = writer.prove_at(8, &reader.upgrade(8));
    reader.store(&reader.verify(&writer, &proof).unwrap());
    let proof = writer.prove(&Reader::default().upgrade(8));
    let verified = reader.verify(&writer, &proof).unwrap();
    assert_eq!(
        verified.upgrade.unwrap().head,
        *writer.heads.last().unwrap()
    );
    assert!(writer.has(&verified.nodes));
    // Without our length in it nothing links it to what we hold.
    let proof = writer.prove(&Reader::default().upgrade(21));
    let outcome = reader.verify(&writer, &proof);
    assert!(
        matches!(
            outcome,
            Err(VerifyError::Unlinked {
                length: 21,
                ours: 8
            })
        ),
        "{outcome:?}"
    );
}

#[test]
fn additional_nodes_lead_to_the_head_that_is_signed() {
    let writer = Writer::new(blocks(11));
    for end in 1..=11 {
        let proof = writer.prove(&Reader::default().upgrade(end));
        let verified = Reader::default().verify(&writer, &proof).unwrap();
        assert_eq!(
            verified.upgrade.unwrap().head,
            *writer.heads.last().unwrap(),
            "via {end}"
        );
        assert!(writer.has(&verified.nodes) && writer.has(&verified.unsized_pairs));
    }
}

#[test]
fn bytes_shifted_between_two_bare_siblings_are_not_trusted() {
    // Leaf 4 comes as a root of length 3, leaf 6 as an additional node: of their sizes only the sum
    // is signed.
    let writer = Writer::new(blocks(4));
    let honest = writer.prove(&Reader::default().upgrade(3));
    let mut shifted = honest.clone();
    let upgrade = shifted.upgrade.as_mut().unwrap();
    upgrade.nodes.last_mut().unwrap().size += 1;
    upgrade.additional_nodes[0].size -= 1;
    for proof in [&honest, &shifted] {
        let verified = Reader::default().verify(&writer, proof).unwrap();
        assert!(writer.has(&verified.nodes), "{:?}", verified.nodes);
        let open: Vec<u64> = verified
            .unsized_pairs
            .iter()
            .map(|node| node.index)
            .collect();
        assert_eq!(open, [4, 6]);
    }
}

#[test]
fn bytes_shifted_between_two_bare_siblings_make_no_conflict() {
    let writer = Writer::new(blocks(4));
    let mut reader = Reader::default();
    let proof = writer.prove_at(3, &reader.upgrade(3));
    reader.store(&reader.verify(&writer, &proof).unwrap());
    // The writer's own later head, shown so that its way to our length seems to differ from ours.
    let mut shifted = writer.prove(&Reader::default().upgrade(3));
    let upgrade = shifted.upgrade.as_mut().unwrap();
    upgrade.nodes.last_mut().unwrap().size += 1;
    upgrade.additional_nodes[0].size -= 1;
    let verified = reader.verify(&writer, &shifted).unwrap();
    assert_eq!(verified.upgrade.unwrap().head, writer.heads[4]);
    assert!(writer.has(&verified.nodes), "{:?}", verified.nodes);
}

#[test]
fn other_forks_are_told_apart_and_new_readers_take_any() {
    let writer = Writer::new(blocks(5));
    let reader = Reader::at(&writer, 3);
    let mut head = writer.heads[5].clone();
    head.fork = 2;
    let signature = writer
        .verifier
        .sign(&writer.pair, &head.tree_hash(), 5, 2)
        .unwrap();
    let proof = prove(
        &head,
        &writer.nodes,
        &Reader::default().upgrade(5),
        &signature,
    )
    .unwrap();
    let outcome = reader.verify(&writer, &proof);
    assert_eq!(
        outcome,
        Err(VerifyError::NotForThisFork {
            expected: 0,
            actual: 2
        })
    );
    let verified = Reader::default().verify(&writer, &proof).unwrap();
    assert_eq!(verified.upgrade.unwrap().head.fork, 2);
}

#[test]
fn the_key_names_the_rules_for_signatures() {
    let pair = KeyPair::from_seed(&[7; 32]);
    let key = FeedKey(pair.public_key().0);
    let compat = Verifier::new(key, &Manifest::compat(pair.public_key())).unwrap();
    let head = Writer::new(blocks(3)).heads[3].clone();
    let signature = compat.sign(&pair, &head.tree_hash(), 3, 0).unwrap();
    assert_eq!(signature.len(), 64);
    assert_eq!(compat.verify_head(&head, &signature), Ok(()));
    let manifest = Manifest::single(pair.public_key());
    let modern = Verifier::new(manifest.key(), &manifest).unwrap();
    assert!(modern.verify_head(&head, &signature).is_err());
}

#[test]
fn oversize_lists_are_refused_before_they_are_walked() {
    let writer = Writer::new(blocks(5));
    let mut proof = writer.prove(&Reader::default().upgrade(5));
    let node = proof.upgrade.as_ref().unwrap().nodes[0];
    proof.upgrade.as_mut().unwrap().nodes = vec![node; 129];
    let outcome = Reader::default().verify(&writer, &proof);
    let expected = Fault::AboveLimit {
        what: "upgrade nodes",
        limit: 128,
        actual: 129,
    };
    assert_eq!(
        outcome,
        Err(VerifyError::BadData {
            block: None,
            fault: expected
        })
    );
}
/// Numbers from a seed (splitmix64), so that a failure can be run again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Small numbers, numbers near every power of two, and any number at all.
    fn number(&mut self) -> u64 {
        let near = (1u64 << (self.next() % 64))
            .wrapping_add(self.next() % 5)
            .wrapping_sub(2);
        [self.next() % 40, near, self.next()][(self.next() % 3) as usize]
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.next().is_multiple_of(many)
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Numbers) -> T) -> Option<T> {
        self.one_in(2).then(|| make(self))
    }

    fn bytes(&mut self, most: u64) -> Bytes {
        (0..self.next() % (most + 1))
            .map(|_| self.next() as u8)
            .collect::<Vec<u8>>()
            .into()
    }

    /// Nodes that lead upwards from a number, ones of the feed, and ones of nowhere.
    fn nodes(&mut self, writer: &Writer, from: u64) -> Vec<Node> {
        let mut at = from & ((1 << 53) - 1);
        let count = if self.one_in(50) {
            130
        } else {
            self.next() % 6
        };
        (0..count)
            .map(|_| {
                let index = match self.next() % 4 {
                    0 => self.number(),
                    _ => flat_tree::sibling(at),
                };
                at = flat_tree::parent(at) & ((1 << 53) - 1);
                let strange = Node {
                    index,
                    size: self.number(),
                    hash: Hash([index as u8; 32]),
                };
                *writer.nodes.get(&index).unwrap_or(&strange)
            })
            .collect()
    }

    fn request(&mut self) -> ProofRequest {
        ProofRequest {
            block: self.maybe(|n| BlockRequest {
                index: n.number(),
                nodes: n.number(),
            }),
            hash: self.maybe(|n| HashRequest {
                index: n.number(),
                nodes: n.number(),
            }),
            seek: self.maybe(|n| SeekRequest {
                bytes: n.number(),
                padding: n.number(),
            }),
            upgrade: self.maybe(|n| UpgradeRequest {
                start: n.number(),
                length: n.number(),
            }),
        }
    }

    fn proof(&mut self, writer: &Writer) -> Proof {
        Proof {
            fork: if self.one_in(4) { self.number() } else { 0 },
            block: self.maybe(|n| {
                let index = n.number();
                let nodes = n.nodes(writer, index.saturating_mul(2));
                let own = writer
                    .blocks
                    .get(index as usize)
                    .filter(|_| n.one_in(2))
                    .cloned();
                let value = own.unwrap_or_else(|| n.bytes(20));
                BlockProof {
                    index,
                    value,
                    nodes,
                }
            }),
            hash: self.maybe(|n| {
                let index = n.number();
                HashProof {
                    index,
                    nodes: n.nodes(writer, index),
                }
            }),
            seek: self.maybe(|n| {
                let from = n.number();
                SeekProof {
                    bytes: n.number(),
                    nodes: n.nodes(writer, from),
                }
            }),
            upgrade: self.maybe(|n| {
                let (start, length) = (n.number(), n.number());
                let nodes = n.nodes(writer, start.saturating_mul(2));
                let additional_nodes = n.nodes(writer, start.saturating_add(length));
                let signature = n.bytes(80);
                UpgradeProof {
                    start,
                    length,
                    nodes,
                    additional_nodes,
                    signature,
                }
            }),
            ..Proof::default()
        }
    }
}

#[test]
fn proofs_and_requests_of_nonsense_neither_panic_nor_teach_anything() {
    let writer = Writer::new(blocks(13));
    let readers = [Reader::default(), Reader::at(&writer, 13), {
        let mut reader = Reader::at(&writer, 13);
        for index in [0, 5, 12] {
            reader.take(&writer, &reader.block(index)).unwrap();
        }
        reader
    }];
    let mut accepted = 0;
    for seed in 0..100_000 {
        let mut numbers = Numbers(seed);
        let proof = numbers.proof(&writer);
        for reader in &readers {
            if let Ok(verified) = reader.verify(&writer, &proof) {
                assert_eq!(
                    verified.upgrade, None,
                    "seed {seed}: no signature is made here"
                );
                assert!(writer.has(&verified.nodes), "seed {seed}: {proof:?}");
                accepted += usize::from(verified != Verified::default());
                if let Some(index) = verified.block {
                    let value = &proof.block.as_ref().unwrap().value;
                    assert_eq!(value, &writer.blocks[index as usize], "seed {seed}");
                }
            }
        }
        let request = numbers.request();
        let head = writer.heads.last().unwrap();
        if let Ok(proof) = prove(head, &writer.nodes, &request, &[]) {
            let lists = [
                proof.block.map(|block| block.nodes),
                proof.hash.map(|hash| hash.nodes),
                proof.seek.map(|seek| seek.nodes),
            ];
            assert!(
                lists.into_iter().flatten().all(|nodes| writer.has(&nodes)),
                "seed {seed}"
            );
        }
    }
    assert!(
        accepted > 100,
        "{accepted} of them hold true parts of the feed"
    );
}
