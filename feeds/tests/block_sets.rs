//! Many blocks under one proof: what it proves is what a proof for each block proves, with fewer
//! nodes; and whatever is changed on the way is refused.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)] // a writer of ours fails its test; groups of one run

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::manifest::{Manifest, Verifier};
use kinlog_feeds::tree::{
    BlockRequest, BlockSet, BlocksProof, Group, Head, Node, Proof, ProofRequest, Verified,
    VerifyError, append, prove, prove_blocks, verify,
};
use proptest::prelude::*;
use testkit::random::Random;

type Nodes = BTreeMap<u64, Node>;

struct Writer {
    verifier: Verifier,
    blocks: Vec<Bytes>,
    nodes: Nodes,
    head: Head,
}

impl Writer {
    fn new(sizes: &[usize]) -> Writer {
        let manifest = Manifest::single(KeyPair::from_seed(&[7; 32]).public_key());
        let block = |(number, size): (usize, &usize)| Bytes::from(vec![number as u8; *size]);
        let blocks: Vec<Bytes> = sizes.iter().enumerate().map(block).collect();
        let appended = append(&Head::default(), &blocks).unwrap();
        let all = appended.leaves.iter().chain(&appended.parents);
        Writer {
            verifier: Verifier::new(manifest.key(), &manifest).unwrap(),
            nodes: all.map(|node| (node.index, *node)).collect(),
            head: appended.head,
            blocks,
        }
    }

    fn prove(&self, set: &BlockSet) -> Proof {
        let mut blocks = prove_blocks(&self.head, &self.nodes, set).unwrap();
        blocks.values = set
            .blocks()
            .map(|block| self.blocks[block as usize].clone())
            .collect();
        Proof {
            blocks: Some(Box::new(blocks)),
            ..Proof::default()
        }
    }

    fn prove_one(&self, index: u64, levels: u64) -> Proof {
        let block = Some(BlockRequest {
            index,
            nodes: levels,
        });
        let request = ProofRequest {
            block,
            ..ProofRequest::default()
        };
        let mut proof = prove(&self.head, &self.nodes, &request, &[]).unwrap();
        proof.block.as_mut().unwrap().value = self.blocks[index as usize].clone();
        proof
    }
}

/// Somebody who trusts the roots, and what was verified.
#[derive(Clone)]
struct Reader<'a> {
    writer: &'a Writer,
    nodes: Nodes,
}

impl Reader<'_> {
    fn new(writer: &Writer) -> Reader<'_> {
        Reader {
            writer,
            nodes: Nodes::new(),
        }
    }

    fn verify(&self, proof: &Proof) -> Result<Verified, VerifyError<Infallible>> {
        verify(&self.writer.head, &self.nodes, &self.writer.verifier, proof)
    }

    fn take(&mut self, proof: &Proof) -> Verified {
        let verified = self.verify(proof).unwrap();
        self.nodes
            .extend(verified.nodes.iter().map(|node| (node.index, *node)));
        verified
    }

    /// Returns the levels from a block up to the first node that is trusted.
    fn levels(&self, block: u64) -> u64 {
        let (mut at, mut levels) = (2 * block, 0);
        while self.writer.head.root(at).is_none() && !self.nodes.contains_key(&at) {
            at = flat_tree::parent(at);
            levels += 1;
        }
        levels
    }

    fn set(&self, blocks: &BTreeSet<u64>) -> BlockSet {
        let mut groups: Vec<(u64, u64, Vec<Range<u64>>)> = Vec::new();
        for block in blocks {
            let depth = self.levels(*block);
            let one = *block..*block + 1;
            match groups.last_mut() {
                Some((top, at, runs)) if *at == block >> depth && *top == depth => {
                    match runs.last_mut() {
                        Some(run) if run.end == *block => run.end += 1,
                        _ => runs.push(one),
                    }
                }
                _ => groups.push((depth, block >> depth, vec![one])),
            }
        }
        let groups = groups
            .into_iter()
            .map(|(depth, _, runs)| Group::new(depth, runs).unwrap());
        BlockSet::new(groups.collect()).unwrap()
    }
}

fn sizes_and_picks() -> impl Strategy<Value = (Vec<usize>, Vec<BTreeSet<u64>>)> {
    proptest::collection::vec(0usize..40, 1..120).prop_flat_map(|sizes| {
        let blocks = 0..sizes.len() as u64;
        let pick = proptest::collection::btree_set(blocks, 1..40);
        (Just(sizes), proptest::collection::vec(pick, 1..4))
    })
}

proptest! {
    #[test]
    fn a_set_proves_what_its_blocks_prove_one_by_one_with_no_more_nodes(
        (sizes, picks) in sizes_and_picks(),
    ) {
        let writer = Writer::new(&sizes);
        let (mut together, mut apart) = (Reader::new(&writer), Reader::new(&writer));
        for blocks in picks {
            let set = together.set(&blocks);
            prop_assert!(set.blocks().eq(blocks.iter().copied()));
            let proof = writer.prove(&set);
            let sent = proof.blocks.as_ref().unwrap().nodes.len();
            prop_assert_eq!(together.take(&proof).blocks, blocks.iter().copied().collect::<Vec<_>>());
            let mut sent_apart = 0;
            for block in blocks {
                let proof = writer.prove_one(block, apart.levels(block));
                sent_apart += proof.block.as_ref().unwrap().nodes.len();
                apart.take(&proof);
            }
            prop_assert!(sent <= sent_apart, "{} nodes instead of {}", sent, sent_apart);
            prop_assert_eq!(&together.nodes, &apart.nodes);
            for node in together.nodes.values() {
                prop_assert_eq!(writer.nodes.get(&node.index), Some(node));
            }
        }
    }

    #[test]
    fn the_first_blocks_of_a_set_are_proved_as_a_set_of_their_own(
        (sizes, picks) in sizes_and_picks(),
        count in 1usize..40,
    ) {
        let writer = Writer::new(&sizes);
        let mut reader = Reader::new(&writer);
        let set = reader.set(&picks[0]);
        let first = set.prefix(count).unwrap();
        prop_assert!(first.blocks().eq(set.blocks().take(count)));
        prop_assert_eq!(reader.take(&writer.prove(&first)).blocks.len(), first.count());
    }
}

fn scattered() -> (Writer, BlockSet) {
    let writer = Writer::new(&[9; 100]);
    let set = Reader::new(&writer).set(&BTreeSet::from([0, 1, 2, 17, 40, 63, 64, 90, 97, 99]));
    (writer, set)
}

fn altered(proof: &Proof, change: impl FnOnce(&mut BlocksProof)) -> Proof {
    let mut proof = proof.clone();
    change(proof.blocks.as_mut().unwrap());
    proof
}

#[test]
fn every_flipped_bit_of_a_value_hash_or_size_is_refused() {
    let (writer, set) = scattered();
    let (reader, proof) = (Reader::new(&writer), writer.prove(&set));
    assert!(reader.verify(&proof).is_ok());
    let blocks = proof.blocks.clone().unwrap();
    let refused = |proof: &Proof, what: String| {
        let result = reader.verify(proof);
        assert!(
            matches!(result, Err(VerifyError::BadData { .. })),
            "{what}: {result:?}"
        );
    };
    for (number, value) in blocks.values.iter().enumerate() {
        for bit in 0..value.len() * 8 {
            let change = |blocks: &mut BlocksProof| {
                let mut bytes = blocks.values[number].to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                blocks.values[number] = bytes.into();
            };
            refused(
                &altered(&proof, change),
                format!("bit {bit} of value {number}"),
            );
        }
        let cut = |blocks: &mut BlocksProof| {
            blocks.values[number].truncate(value.len() - 1);
        };
        refused(&altered(&proof, cut), format!("value {number} cut"));
    }
    for number in 0..blocks.nodes.len() {
        for bit in 0..256 {
            let change = |blocks: &mut BlocksProof| {
                blocks.nodes[number].hash.0[bit / 8] ^= 1 << (bit % 8);
            };
            refused(
                &altered(&proof, change),
                format!("bit {bit} of hash {number}"),
            );
        }
        for bit in 0..64 {
            let size = |blocks: &mut BlocksProof| blocks.nodes[number].size ^= 1 << bit;
            refused(
                &altered(&proof, size),
                format!("bit {bit} of size {number}"),
            );
            let index = |blocks: &mut BlocksProof| blocks.nodes[number].index ^= 1 << bit;
            refused(
                &altered(&proof, index),
                format!("bit {bit} of index {number}"),
            );
        }
    }
}

#[test]
fn bytes_moved_between_siblings_are_refused() {
    let (writer, set) = scattered();
    let (reader, proof) = (Reader::new(&writer), writer.prove(&set));
    let nodes = proof.blocks.as_ref().unwrap().nodes.len();
    for number in 0..nodes - 1 {
        let shifted = altered(&proof, |blocks| {
            blocks.nodes[number].size += 1;
            blocks.nodes[number + 1].size -= 1;
        });
        assert!(reader.verify(&shifted).is_err(), "node {number}");
    }
}

#[test]
fn nodes_and_values_that_are_missing_left_over_or_in_another_order_are_refused() {
    let (writer, set) = scattered();
    let (reader, proof) = (Reader::new(&writer), writer.prove(&set));
    let changes: [fn(&mut BlocksProof); 7] = [
        |blocks| _ = blocks.nodes.pop(),
        |blocks| _ = blocks.values.pop(),
        |blocks| blocks.nodes.push(blocks.nodes[0]),
        |blocks| blocks.values.push(Bytes::new()),
        |blocks| blocks.nodes.swap(0, 1),
        |blocks| blocks.values.swap(0, 1),
        |blocks| blocks.set = blocks.set.prefix(3).unwrap(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let result = reader.verify(&altered(&proof, change));
        assert!(
            matches!(result, Err(VerifyError::BadData { .. })),
            "{number}: {result:?}"
        );
    }
}

#[test]
fn a_set_that_leads_to_an_unknown_node_waits() {
    let (writer, _) = scattered();
    let mut reader = Reader::new(&writer);
    let group = Group::new(1, vec![4..6]).unwrap();
    let proof = writer.prove(&BlockSet::new(vec![group]).unwrap());
    let waits = Err(VerifyError::MissingAnchor {
        block: Some(4),
        node: 9,
    });
    assert_eq!(reader.verify(&proof), waits);
    let set = reader.set(&BTreeSet::from([7]));
    reader.take(&writer.prove(&set));
    assert_eq!(reader.verify(&proof).unwrap().blocks, [4, 5]);
}

#[test]
fn a_set_beside_other_parts_is_refused() {
    let (writer, set) = scattered();
    let mut proof = writer.prove(&set);
    proof.block = writer.prove_one(3, 6).block;
    let result = Reader::new(&writer).verify(&proof);
    assert!(
        matches!(result, Err(VerifyError::BadData { .. })),
        "{result:?}"
    );
}

/// What a thousand random blocks of a million cost, in nodes.
#[test]
fn a_thousand_random_blocks_of_a_million_need_nine_nodes_each() {
    let mut random = Random::new(1);
    let mut picked = BTreeSet::new();
    while picked.len() < 1000 {
        picked.insert(random.below(1 << 20));
    }
    let runs = picked
        .iter()
        .fold(Vec::<Range<u64>>::new(), |mut runs, block| {
            match runs.last_mut() {
                Some(run) if run.end == *block => run.end += 1,
                _ => runs.push(*block..*block + 1),
            }
            runs
        });
    let set = BlockSet::new(vec![Group::new(20, runs).unwrap()]).unwrap();
    let nodes = set.nodes().len();
    assert!((9_000..9_300).contains(&nodes), "{nodes} nodes");
}
