//! Every value of `vectors/hypercore-v11.json` that belongs to encoding, hashes, keys, manifests,
//! signatures and proofs, reproduced by our own code and accepted by our own verification. The wire
//! half of the file (`wire`, `noiseXX`, `capability`, `wireRequest`, `wireData`) has its own test.
#![allow(clippy::unwrap_used)] // a vector that is missing or malformed fails its test

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use kinlog_feeds::crypto::namespace::hypercore_namespace;
use kinlog_feeds::encoding::{Reader, Writer};
use kinlog_feeds::manifest::{Manifest, Multisig, Verifier, signable, signable_compat};
use kinlog_feeds::tree::{
    BlockRequest, HashRequest, Head, Node, Proof, ProofRequest, SeekRequest, UpgradeRequest,
    append, prove, root_indexes, verify,
};
use kinlog_feeds::{FeedKey, Hash, KeyPair, PublicKey, text};
use serde_json::{Value, json};

fn vectors() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/hypercore-v11.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    text::decode_hex(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    json!(text::encode_hex(bytes.as_ref()))
}

fn node(value: &Value) -> Node {
    Node {
        index: value["index"].as_u64().unwrap(),
        size: value["size"].as_u64().unwrap(),
        hash: Hash(array(&value["hash"])),
    }
}

fn node_json(node: &Node) -> Value {
    json!({ "index": node.index, "size": node.size, "hash": hex(node.hash) })
}

fn nodes_json(nodes: &[Node]) -> Value {
    nodes.iter().map(node_json).collect()
}

/// A proof in the form of the vectors.
fn proof_json(proof: &Proof) -> Value {
    json!({
        "fork": proof.fork,
        "block": proof.block.as_ref().map(|block| json!({
            "index": block.index,
            "value": hex(&block.value),
            "nodes": nodes_json(&block.nodes),
        })),
        "hash": proof.hash.as_ref().map(|hash| json!({
            "index": hash.index,
            "nodes": nodes_json(&hash.nodes),
        })),
        "seek": proof.seek.as_ref().map(|seek| json!({
            "bytes": seek.bytes,
            "nodes": nodes_json(&seek.nodes),
        })),
        "upgrade": proof.upgrade.as_ref().map(|upgrade| json!({
            "start": upgrade.start,
            "length": upgrade.length,
            "nodes": nodes_json(&upgrade.nodes),
            "additionalNodes": nodes_json(&upgrade.additional_nodes),
            "signature": hex(&upgrade.signature),
        })),
    })
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
        seek: number("seek", "bytes").map(|bytes| SeekRequest {
            bytes,
            padding: number("seek", "padding").unwrap(),
        }),
        upgrade: number("upgrade", "start").map(|start| UpgradeRequest {
            start,
            length: number("upgrade", "length").unwrap(),
        }),
    }
}

/// One core of the vectors, appended again by our own code.
struct Core {
    value: Value,
    blocks: Vec<Bytes>,
    key: FeedKey,
    manifest: Manifest,
    verifier: Verifier,
    pair: KeyPair,
    nodes: BTreeMap<u64, Node>,
    heads: Vec<Head>,
}

impl Core {
    fn all() -> Vec<Core> {
        let cores = vectors()["cores"].as_array().unwrap().clone();
        assert_eq!(cores.len(), 4);
        cores.into_iter().map(Core::new).collect()
    }

    fn new(value: Value) -> Core {
        let blocks: Vec<Bytes> = value["blocks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| bytes(b).into())
            .collect();
        let manifest = Manifest::decode(&bytes(&value["manifestEncoded"])).unwrap();
        let key = FeedKey(array(&value["key"]));
        let verifier = Verifier::new(key, &manifest).unwrap();
        let (mut heads, mut nodes) = (vec![Head::default()], BTreeMap::new());
        for block in &blocks {
            let appended = append(heads.last().unwrap(), std::slice::from_ref(block)).unwrap();
            let new = appended.leaves.iter().chain(&appended.parents);
            nodes.extend(new.map(|node| (node.index, *node)));
            heads.push(appended.head);
        }
        let pair = KeyPair::from_seed(&array(&value["seed"]));
        Core {
            value,
            blocks,
            key,
            manifest,
            verifier,
            pair,
            nodes,
            heads,
        }
    }

    fn name(&self) -> &str {
        self.value["name"].as_str().unwrap()
    }

    fn head(&self) -> &Head {
        self.heads.last().unwrap()
    }

    fn prove(&self, request: &ProofRequest) -> Proof {
        let signature =
            bytes(&self.value["steps"].as_array().unwrap().last().unwrap()["signature"]);
        let mut proof = prove(self.head(), &self.nodes, request, &signature).unwrap();
        if let Some(block) = &mut proof.block {
            block.value = self.blocks[block.index as usize].clone();
        }
        proof
    }
}

#[test]
fn namespaces_match() {
    let expected = &vectors()["namespaces"];
    assert_eq!(hex(hypercore_namespace::tree()), expected["TREE"]);
    assert_eq!(
        hex(hypercore_namespace::replicate_initiator()),
        expected["REPLICATE_INITIATOR"]
    );
    assert_eq!(
        hex(hypercore_namespace::replicate_responder()),
        expected["REPLICATE_RESPONDER"]
    );
    assert_eq!(hex(hypercore_namespace::manifest()), expected["MANIFEST"]);
    assert_eq!(
        hex(hypercore_namespace::default_namespace()),
        expected["DEFAULT_NAMESPACE"]
    );
    assert_eq!(
        hex(hypercore_namespace::default_encryption()),
        expected["DEFAULT_ENCRYPTION"]
    );
    for number in 0..3u8 {
        let stream = hex(hypercore_namespace::secret_stream(number));
        assert_eq!(stream, expected["SECRET_STREAM"][usize::from(number)]);
    }
}

#[test]
fn integers_match() {
    let integers = vectors()["uint"].as_array().unwrap().clone();
    assert_eq!(integers.len(), 12);
    for vector in integers {
        let (value, encoded) = (vector["v"].as_u64().unwrap(), bytes(&vector["enc"]));
        let mut out = Vec::new();
        out.put_uint(value);
        assert_eq!(out, encoded);
        assert_eq!(Reader::new(&encoded).uint(), Ok(value));
    }
}

#[test]
fn hashes_match() {
    let expected = &vectors()["hash"];
    for leaf in expected["leaf"].as_array().unwrap() {
        let data = leaf["dataUtf8"].as_str().unwrap();
        assert_eq!(
            hex(Node::leaf(0, data.as_bytes()).hash),
            leaf["hash"],
            "{data}"
        );
    }
    let (left, right) = (
        node(&expected["parent"]["left"]),
        node(&expected["parent"]["right"]),
    );
    assert_eq!(
        hex(Node::parent(&left, &right).unwrap().hash),
        expected["parent"]["hash"]
    );
    assert_eq!(Node::parent(&right, &left), Node::parent(&left, &right));
    let roots: Vec<Node> = expected["tree1"]["roots"]
        .as_array()
        .unwrap()
        .iter()
        .map(node)
        .collect();
    assert_eq!(hex(Node::tree_hash(&roots)), expected["tree1"]["hash"]);
    assert_eq!(hex(Head::default().tree_hash()), expected["emptyTree"]);
}

#[test]
fn discovery_keys_match() {
    let expected = &vectors()["discoveryKey"];
    let key = FeedKey(array(&expected["key"]));
    assert_eq!(hex(key.discovery_key()), expected["discoveryKey"]);
    for core in Core::all() {
        assert_eq!(hex(core.key.discovery_key()), core.value["discoveryKey"]);
    }
}

#[test]
fn keys_and_manifests_match() {
    for core in Core::all() {
        let (value, name) = (&core.value, core.name());
        let public_key = core.pair.public_key();
        assert_eq!(hex(public_key), value["publicKey"], "{name}");
        let secret = [array::<32>(&value["seed"]), public_key.0].concat();
        assert_eq!(hex(secret), value["secretKey"], "{name}");

        let mut manifest = match value["compat"].as_bool().unwrap() {
            true => Manifest::compat(public_key),
            false => Manifest::single(public_key),
        };
        let fields = &value["manifest"];
        manifest.version = fields["version"].as_u64().unwrap() as u8;
        manifest.user_data = fields["userData"]
            .as_str()
            .map(|_| bytes(&fields["userData"]).into());
        manifest.linked = fields["linked"]
            .as_array()
            .map(|keys| keys.iter().map(|key| FeedKey(array(key))).collect());
        assert_eq!(core.manifest, manifest, "{name}");
        assert_eq!(manifest.quorum, fields["quorum"].as_u64().unwrap());
        assert_eq!(
            manifest.allow_patch,
            fields["allowPatch"].as_bool().unwrap()
        );
        for (signer, expected) in manifest
            .signers
            .iter()
            .zip(fields["signers"].as_array().unwrap())
        {
            assert_eq!(expected["signature"], "ed25519");
            assert_eq!(hex(signer.namespace), expected["namespace"]);
            assert_eq!(hex(signer.public_key), expected["publicKey"]);
        }
        assert_eq!(hex(manifest.encode()), value["manifestEncoded"], "{name}");
        assert_eq!(hex(manifest.hash()), value["manifestHash"], "{name}");
        let key = if core.value["compat"] == true {
            FeedKey(public_key.0)
        } else {
            manifest.key()
        };
        assert_eq!(hex(key), value["key"], "{name}");
        assert_eq!(manifest.is_compat(&key), value["compat"] == true, "{name}");
    }
}

#[test]
fn nodes_match_whether_appended_singly_or_in_batches() {
    for core in Core::all() {
        let expected: BTreeMap<u64, Node> = core.value["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| (value["index"].as_u64().unwrap(), node(value)))
            .collect();
        assert_eq!(core.nodes, expected, "{}", core.name());
        for split in 0..=core.blocks.len() {
            let (first, second) = core.blocks.split_at(split);
            let first = append(&Head::default(), first).unwrap();
            let second = append(&first.head, second).unwrap();
            let all = [first.leaves, first.parents, second.leaves, second.parents].concat();
            let all: BTreeMap<u64, Node> = all.into_iter().map(|node| (node.index, node)).collect();
            assert_eq!(all, expected, "{} split at {split}", core.name());
            assert_eq!(&second.head, core.head());
        }
    }
}

#[test]
fn heads_and_signatures_match_at_every_length() {
    for core in Core::all() {
        let steps = core.value["steps"].as_array().unwrap();
        assert_eq!(steps.len(), core.blocks.len());
        for step in steps {
            let length = step["length"].as_u64().unwrap();
            let head = &core.heads[length as usize];
            let roots: Vec<u64> = step["roots"]
                .as_array()
                .unwrap()
                .iter()
                .map(|root| root.as_u64().unwrap())
                .collect();
            assert_eq!(root_indexes(length), roots);
            assert_eq!(
                head.roots.iter().map(|root| root.index).collect::<Vec<_>>(),
                roots
            );
            assert_eq!(head.byte_length, step["byteLength"].as_u64().unwrap());
            assert_eq!(head.fork, step["fork"].as_u64().unwrap());
            let tree_hash = head.tree_hash();
            assert_eq!(hex(tree_hash), step["treeHash"]);

            let signed = match core.value["compat"].as_bool().unwrap() {
                true => signable_compat(&tree_hash, length, head.fork).to_vec(),
                false => signable(&core.key.0, &tree_hash, length, head.fork).to_vec(),
            };
            assert_eq!(hex(&signed), step["signable"]);
            assert_eq!(hex(core.pair.sign(&signed)), step["ed25519"]);
            let signature = core
                .verifier
                .sign(&core.pair, &tree_hash, length, head.fork)
                .unwrap();
            assert_eq!(hex(&signature), step["signature"]);
            assert_eq!(
                signature.len() as u64,
                step["signatureBytes"].as_u64().unwrap()
            );
            if core.value["compat"] == false {
                let envelope = Multisig::decode(&signature).unwrap();
                assert_eq!(envelope, Multisig::single(array(&step["ed25519"])));
            }
            assert_eq!(
                core.verifier
                    .verify(&tree_hash, length, head.fork, &signature),
                Ok(())
            );
            assert_eq!(core.verifier.verify_head(head, &signature), Ok(()));
            assert!(
                core.verifier
                    .verify(&tree_hash, length + 1, head.fork, &signature)
                    .is_err()
            );
            assert!(
                core.verifier
                    .verify(&tree_hash, length, head.fork + 1, &signature)
                    .is_err()
            );
        }
    }
}

#[test]
fn proofs_match_and_verify() {
    let mut seen = 0;
    for core in Core::all() {
        for vector in core.value["proofs"].as_array().unwrap() {
            let (request, label) = (
                request(&vector["request"]),
                vector["label"].as_str().unwrap(),
            );
            let proof = core.prove(&request);
            assert_eq!(
                proof_json(&proof),
                vector["proof"],
                "{} {label}",
                core.name()
            );

            // The reader has nothing but the roots it starts from.
            let start = request
                .upgrade
                .map_or(core.head().length, |upgrade| upgrade.start);
            let reader = &core.heads[start as usize];
            let nothing = BTreeMap::new();
            let verified = verify(reader, &nothing, &core.verifier, &proof).unwrap();
            assert_eq!(
                verified.block,
                request.block.map(|block| block.index),
                "{label}"
            );
            for node in &verified.nodes {
                assert_eq!(core.nodes.get(&node.index), Some(node), "{label}");
            }
            match (request.upgrade, verified.upgrade) {
                (Some(_), Some(upgraded)) => {
                    assert_eq!(&upgraded.head, core.head(), "{label}");
                    assert_eq!(upgraded.tree_hash, core.head().tree_hash());
                }
                (None, None) => {}
                (asked, got) => panic!("{label}: asked for {asked:?}, got {got:?}"),
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 14);
}

#[test]
fn a_manifest_of_another_key_is_refused() {
    for core in Core::all() {
        let other = Manifest::single(KeyPair::from_seed(&[2; 32]).public_key());
        assert!(Verifier::new(core.key, &other).is_err());
        let mut changed = core.manifest.clone();
        changed.signers[0].public_key = PublicKey([3; 32]);
        assert!(Verifier::new(core.key, &changed).is_err());
    }
}
