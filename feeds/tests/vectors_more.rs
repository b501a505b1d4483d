//! `vectors/hypercore-v11-more.json`: every kind of manifest with signatures that npm hypercore made
//! and judged, and which nodes it sends in answer to several hundred requests.
#![allow(clippy::unwrap_used)] // a vector that is missing or malformed fails its test

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::manifest::{Manifest, Multisig, PartialSignature, Verifier};
use kinlog_feeds::tree::{
    BlockRequest, HashRequest, Head, Node, Proof, ProofRequest, SeekRequest, UpgradeRequest,
    append, prove,
};
use kinlog_feeds::{FeedKey, Hash, KeyPair, text};
use serde_json::{Map, Value, json};

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/hypercore-v11-more.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    text::decode_hex(value.as_str().unwrap()).unwrap()
}

fn hash(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn node(value: &Value) -> Node {
    let number = |field: &str| value[field].as_u64().unwrap();
    Node {
        index: number("index"),
        size: number("size"),
        hash: Hash(hash(&value["hash"])),
    }
}

fn head(vector: &Value) -> Head {
    let roots = vector["roots"]
        .as_array()
        .unwrap()
        .iter()
        .map(node)
        .collect();
    let head = Head::from_roots(0, roots).unwrap();
    assert_eq!(head.length, vector["length"].as_u64().unwrap());
    assert_eq!(head.tree_hash(), Hash(hash(&vector["treeHash"])));
    head
}

#[test]
fn every_kind_of_manifest_is_read_and_judged_as_javascript_does() {
    let vectors = vectors()["signatures"].as_array().unwrap().clone();
    assert_eq!(vectors.len(), 21);
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let manifest = Manifest::decode(&bytes(&vector["manifest"])).unwrap();
        let key = FeedKey(hash(&vector["key"]));
        assert_eq!(manifest.encode(), bytes(&vector["manifest"]), "{name}");
        assert_eq!(manifest.key(), key, "{name}");
        let verifier = Verifier::new(key, &manifest).unwrap();
        let judged = verifier.verify_head(&head(&vector), &bytes(&vector["signature"]));
        assert_eq!(
            judged.is_ok(),
            vector["accepted"] == true,
            "{name}: {judged:?}"
        );
    }
}

#[test]
fn signatures_of_several_signers_are_made_as_javascript_does() {
    let vector = vectors()["signatures"]
        .as_array()
        .unwrap()
        .iter()
        .find(|vector| vector["name"] == "v1 two of three")
        .unwrap()
        .clone();
    let manifest = Manifest::decode(&bytes(&vector["manifest"])).unwrap();
    let verifier = Verifier::new(manifest.key(), &manifest).unwrap();
    let head = head(&vector);
    let proofs = [1, 3].map(|seed| {
        let pair = KeyPair::from_seed(&[seed; 32]);
        let signed = verifier
            .sign_partially(&pair, &head.tree_hash(), head.length, 0)
            .unwrap();
        PartialSignature {
            signer: signed.0,
            signature: signed.1,
            patch: 0,
        }
    });
    let field = Multisig {
        proofs: proofs.to_vec(),
        patch: Vec::new(),
    };
    assert_eq!(field.encode(), bytes(&vector["signature"]));
    // One of them alone cannot sign, a stranger not at all.
    for seed in [1, 9] {
        let pair = KeyPair::from_seed(&[seed; 32]);
        assert!(
            verifier
                .sign(&pair, &head.tree_hash(), head.length, 0)
                .is_err()
        );
    }
}

#[test]
fn a_changed_byte_of_a_patched_signature_is_refused() {
    for vector in vectors()["signatures"].as_array().unwrap() {
        if vector["accepted"] != true || vector["name"] == "one more than needed" {
            continue; // of more signatures than needed the last ones are not looked at
        }
        let manifest = Manifest::decode(&bytes(&vector["manifest"])).unwrap();
        let verifier = Verifier::new(manifest.key(), &manifest).unwrap();
        let (head, signature) = (head(vector), bytes(&vector["signature"]));
        for at in 0..signature.len() {
            let mut tampered = signature.clone();
            tampered[at] ^= 1;
            let name = &vector["name"];
            let judged = verifier.verify_head(&head, &tampered);
            // Version 0 says twice where a patch starts; only its length and nodes are used.
            if manifest.version > 0 {
                assert!(judged.is_err(), "{name} byte {at}");
            }
        }
    }
}

/// The nodes of a patched field have one order, and none is there for nothing.
#[test]
fn other_nodes_or_another_order_are_a_second_form_and_refused() {
    let mut patched = 0;
    for vector in vectors()["signatures"].as_array().unwrap() {
        let manifest = Manifest::decode(&bytes(&vector["manifest"])).unwrap();
        let name = vector["name"].as_str().unwrap();
        if manifest.version == 0 || !name.contains("two lengths") {
            continue;
        }
        let verifier = Verifier::new(manifest.key(), &manifest).unwrap();
        let (head, signature) = (head(vector), bytes(&vector["signature"]));
        assert_eq!(verifier.verify_head(&head, &signature), Ok(()), "{name}");
        let field = Multisig::decode(&signature).unwrap();
        assert!(field.patch.len() > 1, "{name}");
        let mut others = [field.clone(), field.clone(), field.clone()];
        others[0].patch.reverse();
        others[1].patch.push(field.patch[0]);
        others[2].patch[0].index += 64;
        for other in others {
            let judged = verifier.verify_head(&head, &other.encode());
            assert!(judged.is_err(), "{name}");
        }
        patched += 1;
    }
    assert_eq!(patched, 3);
}

fn request(value: &Value) -> ProofRequest {
    let number = |part: &str, field: &str| value[part][field].as_u64();
    ProofRequest {
        block: number("block", "index").map(|index| BlockRequest {
            index,
            nodes: number("block", "nodes").unwrap(),
        }),
        hash: number("hash", "index").map(|index| HashRequest {
            index,
            nodes: number("hash", "nodes").unwrap(),
        }),
        seek: number("seek", "bytes").map(|bytes| SeekRequest { bytes, padding: 0 }),
        upgrade: number("upgrade", "start").map(|start| UpgradeRequest {
            start,
            length: number("upgrade", "length").unwrap(),
        }),
    }
}

/// The indexes of a proof's nodes in the form of the vectors.
fn indexes(proof: &Proof) -> Value {
    let list = |nodes: &[Node]| json!(nodes.iter().map(|node| node.index).collect::<Vec<u64>>());
    let mut out = Map::new();
    if let Some(block) = &proof.block {
        out.insert("block".into(), list(&block.nodes));
    }
    if let Some(hash) = &proof.hash {
        out.insert("hash".into(), list(&hash.nodes));
    }
    if let Some(seek) = &proof.seek {
        out.insert("seek".into(), list(&seek.nodes));
    }
    if let Some(upgrade) = &proof.upgrade {
        let lists = json!([list(&upgrade.nodes), list(&upgrade.additional_nodes)]);
        out.insert("upgrade".into(), lists);
    }
    Value::Object(out)
}

#[test]
fn requests_are_answered_with_the_nodes_that_javascript_sends() {
    let (mut answered, mut refused) = (0, 0);
    for feed in vectors()["proofs"].as_array().unwrap() {
        let length = feed["length"].as_u64().unwrap();
        let blocks: Vec<Bytes> = (0..length)
            .map(|at| Bytes::from(vec![at as u8; (at as usize * 7) % 11]))
            .collect();
        let appended = append(&Head::default(), &blocks).unwrap();
        let nodes: BTreeMap<u64, Node> = appended
            .leaves
            .iter()
            .chain(&appended.parents)
            .map(|node| (node.index, *node))
            .collect();
        for vector in feed["requests"].as_array().unwrap() {
            let asked = &vector["request"];
            if asked["block"]["index"]
                .as_u64()
                .is_some_and(|index| index >= length)
            {
                // JavaScript makes an empty proof and fails when it reads the block.
                assert!(prove(&appended.head, &nodes, &request(asked), &[]).is_err());
                continue;
            }
            let (first, wanted) = (appended.head.roots[0].index, request(asked));
            let target = wanted.block.map(|block| 2 * block.index);
            let target = target.or(wanted.hash.map(|hash| hash.index));
            if wanted.seek.is_some() && target > Some(flat_tree::right_span(first)) {
                // JavaScript adds a number's `size` here, gets NaN and leaves the seek out.
                continue;
            }
            let proof = prove(&appended.head, &nodes, &wanted, &[]);
            match proof {
                Ok(proof) => {
                    assert_eq!(indexes(&proof), vector["nodes"], "length {length}: {asked}");
                    answered += 1;
                }
                Err(error) => {
                    assert_eq!(
                        vector["nodes"],
                        Value::Null,
                        "length {length}: {asked}: {error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(
        answered > 300 && refused > 200,
        "{answered} answered, {refused} refused"
    );
}
