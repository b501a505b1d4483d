//! 10,000 random alterations of what is stored or received, each of which must be noticed: reported
//! with feed and block, never returned, never served, never stored. The same routine with
//! verification switched off shows that it would notice if they were not.
#![allow(clippy::unwrap_used, clippy::panic)] // Tests fail by panicking.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{
    ApplyError, Feed, Incoming, Kind, MemoryDisk, Mistake, Options, ProblemPlace, Role, Store,
    VerifyReport,
};
use kinlog_feeds::tree::{BlockRequest, Node, Proof, ProofRequest, UpgradeRequest};
use testkit::random::{self, Random};

const TAMPERINGS: u64 = 10_000;
const LENGTH: u64 = 13;

/// Place of the followed feed in the store; the own one comes first.
const FOLLOWED: usize = 1;

/// What an alteration that went unnoticed led to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Violation {
    NotReported,
    Returned,
    Served,
    Stored,
    NotNamed,
}

fn options(verification: bool) -> Options {
    let options = Options::new([7; 16])
        .segments(16 * 1024, 1024)
        .without_keeper();
    if verification {
        options
    } else {
        options.mistaken(Mistake::SkipVerification)
    }
}

fn open(files: &BTreeMap<String, Vec<u8>>, verification: bool) -> Store {
    let disk = MemoryDisk::from_files(files.clone());
    Store::open(Arc::new(disk), options(verification)).unwrap()
}

fn writer() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn upgrade(feed: &Feed) -> ProofRequest {
    let upgrade = UpgradeRequest {
        start: 0,
        length: feed.head().length,
    };
    ProofRequest {
        upgrade: Some(upgrade),
        ..ProofRequest::default()
    }
}

fn block(feed: &Feed, index: u64) -> ProofRequest {
    let roots = feed.head().roots;
    let depth = |root: u64| u64::from((root + 1).trailing_zeros());
    let root = roots.iter().map(|root| root.index).find(|root| {
        let reach = 1 << depth(*root);
        (root + 1 - reach..root + reach).contains(&(2 * index))
    });
    let nodes = depth(root.unwrap());
    ProofRequest {
        block: Some(BlockRequest { index, nodes }),
        ..ProofRequest::default()
    }
}

/// Everything that can be asked of a feed, with the right answers.
struct Truth {
    blocks: Vec<Bytes>,
    proofs: Vec<(ProofRequest, Proof)>,
    nodes: Vec<Node>,
    signature: Bytes,
    manifest: Bytes,
}

/// A store with a feed of our own and one that was followed, closed; and what is in them.
struct Original {
    files: BTreeMap<String, Vec<u8>>,
    feeds: Vec<Truth>,
}

fn append(feed: &Feed, signer: &KeyPair, random: &mut Random) -> Vec<Bytes> {
    let mut all = Vec::new();
    for count in [5, 1, 7] {
        let sizes = (0..count).map(|at| if at == 3 { 4200 } else { 24 + random.index(60) });
        let sizes: Vec<usize> = sizes.collect();
        let blocks: Vec<Bytes> = sizes
            .into_iter()
            .map(|size| random.bytes(size).into())
            .collect();
        feed.append_batch(signer, &blocks).unwrap();
        all.extend(blocks);
    }
    assert_eq!(all.len() as u64, LENGTH);
    all
}

fn truth(feed: &Feed, blocks: Vec<Bytes>) -> Truth {
    let mut requests = vec![upgrade(feed)];
    requests.extend((0..LENGTH).map(|index| block(feed, index)));
    let proofs = requests
        .into_iter()
        .map(|request| (request, feed.prove(&request).unwrap()))
        .collect();
    let nodes = (0..2 * LENGTH)
        .filter_map(|index| feed.node(index).unwrap())
        .collect();
    let signature = feed.signed_head().unwrap().signature;
    let manifest = feed.manifest().unwrap().encode().into();
    Truth {
        blocks,
        proofs,
        nodes,
        signature,
        manifest,
    }
}

fn original() -> Original {
    let mut random = Random::new(1);
    let disk = MemoryDisk::new();
    let store = Store::open(Arc::new(disk.clone()), options(true)).unwrap();
    let manifest = Manifest::single(writer().public_key());
    let own = store
        .create_feed(&manifest, Role::Own, Kind::Kinlog)
        .unwrap();
    let own_blocks = append(&own, &writer(), &mut random);

    let other = Store::open(Arc::new(MemoryDisk::new()), options(true)).unwrap();
    let author = KeyPair::from_seed(&[2; 32]);
    let manifest = Manifest::single(author.public_key());
    let source = other
        .create_feed(&manifest, Role::Own, Kind::Kinlog)
        .unwrap();
    let source_blocks = append(&source, &author, &mut random);
    let followed = store
        .create_unknown(source.key(), Role::Followed, Kind::Kinlog)
        .unwrap();
    let manifest = Some(Bytes::from(manifest.encode()));
    let mut items = vec![Incoming {
        proof: source.prove(&upgrade(&source)).unwrap(),
        manifest,
    }];
    items.extend((0..LENGTH).map(|index| Incoming {
        proof: source.prove(&block(&source, index)).unwrap(),
        manifest: None,
    }));
    assert!(followed.apply(&items).unwrap().iter().all(Result::is_ok));
    let feeds = vec![truth(&own, own_blocks), truth(&followed, source_blocks)];
    store.close().unwrap();
    Original {
        files: disk.to_files(),
        feeds,
    }
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Block(u64),
    Node(u64),
    Signature,
    Manifest,
}

fn target(truth: &Truth, random: &mut Random) -> (Target, Vec<u8>) {
    match random.below(8) {
        0..3 => {
            let index = random.below(LENGTH);
            (Target::Block(index), truth.blocks[index as usize].to_vec())
        }
        3..6 => {
            let node = truth.nodes[random.index(truth.nodes.len())];
            (Target::Node(node.index), node.hash.0.to_vec())
        }
        6 => (Target::Signature, truth.signature.to_vec()),
        _ => (Target::Manifest, truth.manifest.to_vec()),
    }
}

/// Alters one stored byte and asks everything of the store.
fn tamper_stored(original: &Original, random: &mut Random, verification: bool) -> Vec<Violation> {
    let at_feed = random.index(original.feeds.len());
    let truth = &original.feeds[at_feed];
    let (target, bytes) = target(truth, random);
    let mut files = original.files.clone();
    let log = files.get_mut("log-00000000").unwrap();
    let start = log
        .windows(bytes.len())
        .position(|window| window == bytes)
        .unwrap();
    // A node's size stands before its hash, save for leaves of own appends.
    let before = match target {
        Target::Node(index) if at_feed == FOLLOWED || index % 2 == 1 => 8,
        _ => 0,
    };
    log[start - before + random.index(before + bytes.len())] ^= 1 + random.below(255) as u8;

    let store = open(&files, verification);
    let feed = &store.feeds()[at_feed];
    let mut violations = Vec::new();
    if !is_reported(&feed.verify().unwrap(), feed, target) {
        violations.push(Violation::NotReported);
    }
    for (index, right) in (0..).zip(&truth.blocks) {
        if matches!(feed.get(index), Ok(found) if found.as_ref() != Some(right)) {
            violations.push(Violation::Returned);
        }
    }
    for (request, right) in &truth.proofs {
        if matches!(feed.prove(request), Ok(proof) if proof != *right) {
            violations.push(Violation::Served);
        }
    }
    violations
}

/// Returns whether the report names the feed, and the block or what else was altered.
fn is_reported(report: &VerifyReport, feed: &Feed, target: Target) -> bool {
    report.problems.iter().any(|problem| {
        let right_place = match target {
            Target::Block(index) => problem.block() == index,
            Target::Node(index) => problem.at == ProblemPlace::Node(index),
            Target::Signature => matches!(problem.at, ProblemPlace::Head(LENGTH)),
            Target::Manifest => problem.at == ProblemPlace::Manifest,
        };
        problem.feed == feed.key() && right_place
    })
}

/// Followers of the first feed, before and after its head arrived.
struct Followers {
    store: Store,
    feeds: [Feed; 2],
    manifest: Bytes,
    upgrade: Proof,
    blocks: Vec<Proof>,
}

impl Followers {
    fn new(original: &Original, verification: bool) -> Self {
        let truth = &original.feeds[0];
        let key = open(&original.files, true).feeds()[0].key();
        let store = Store::open(Arc::new(MemoryDisk::new()), options(verification)).unwrap();
        let upgraded = store
            .create_unknown(key, Role::Followed, Kind::Kinlog)
            .unwrap();
        let second = Store::open(Arc::new(MemoryDisk::new()), options(verification)).unwrap();
        let empty = second
            .create_unknown(key, Role::Followed, Kind::Kinlog)
            .unwrap();
        let manifest = truth.manifest.clone();
        let upgrade = truth.proofs[0].1.clone();
        let item = Incoming {
            proof: upgrade.clone(),
            manifest: Some(manifest.clone()),
        };
        assert!(upgraded.apply(&[item]).unwrap()[0].is_ok());
        let blocks = truth.proofs[1..]
            .iter()
            .map(|(_, proof)| proof.clone())
            .collect();
        Followers {
            store,
            feeds: [empty, upgraded],
            manifest,
            upgrade,
            blocks,
        }
    }
}

fn alter(bytes: &mut [u8], random: &mut Random) {
    let at = random.index(bytes.len());
    bytes[at] ^= 1 + random.below(255) as u8;
}

fn alter_bytes(bytes: &mut Bytes, random: &mut Random) {
    let mut altered = bytes.to_vec();
    alter(&mut altered, random);
    *bytes = altered.into();
}

fn alter_node(nodes: &mut [Node], random: &mut Random) {
    let at = random.index(nodes.len());
    let node = &mut nodes[at];
    match random.below(4) {
        0 => node.index ^= 1 << random.below(50),
        1 => node.size ^= 1 << random.below(50),
        _ => alter(&mut node.hash.0, random),
    }
}

/// Alters a proof or manifest on its way to a follower.
fn tamper_received(followers: &Followers, random: &mut Random) -> Vec<Violation> {
    let mut upgrade = followers.upgrade.clone();
    let mut manifest = followers.manifest.clone();
    let mut block = followers.blocks[random.index(followers.blocks.len())].clone();
    let at_block = block.block.as_ref().unwrap().index;
    let (feed, item, at_block) = match random.below(8) {
        0..3 => {
            alter_bytes(&mut block.block.as_mut().unwrap().value, random);
            (
                &followers.feeds[1],
                Incoming {
                    proof: block,
                    manifest: None,
                },
                Some(at_block),
            )
        }
        // The last block is a root of its own and comes without nodes.
        3..5 if !block.block.as_ref().unwrap().nodes.is_empty() => {
            alter_node(&mut block.block.as_mut().unwrap().nodes, random);
            (
                &followers.feeds[1],
                Incoming {
                    proof: block,
                    manifest: None,
                },
                Some(at_block),
            )
        }
        kind => {
            let part = upgrade.upgrade.as_mut().unwrap();
            match kind {
                6 => alter_bytes(&mut part.signature, random),
                7 => alter_bytes(&mut manifest, random),
                _ => alter_node(&mut part.nodes, random),
            }
            (
                &followers.feeds[0],
                Incoming {
                    proof: upgrade,
                    manifest: Some(manifest),
                },
                None,
            )
        }
    };
    let before = (feed.info(), feed.manifest());
    let result = feed.apply(&[item]).unwrap();
    let after = (feed.info(), feed.manifest());
    let mut violations = Vec::new();
    if result[0].is_ok() || before != after {
        violations.push(Violation::Stored);
    }
    if !is_named(&result[0], feed, at_block) {
        violations.push(Violation::NotNamed);
    }
    violations
}

/// Returns whether the refusal names the feed, and the block if one came.
fn is_named<T>(result: &Result<T, ApplyError>, feed: &Feed, at_block: Option<u64>) -> bool {
    let Err(error) = result else {
        return false;
    };
    let words = error.to_string();
    let names_block = at_block.is_none_or(|block| match error {
        ApplyError::BadData { block: named, .. } => *named == Some(block),
        // Its place in the tree was altered: where it belongs is what cannot be told.
        _ => matches!(error, ApplyError::MissingAnchor { .. }),
    });
    names_block && words.contains(&feed.key().to_string())
}

fn violations(seed: u64, count: u64, verification: bool) -> Vec<(u64, Violation)> {
    let original = original();
    let followers = Followers::new(&original, verification);
    let mut found = Vec::new();
    for number in 0..count {
        let mut random = Random::new(seed.wrapping_add(number));
        let violations = match random.below(2) {
            0 => tamper_stored(&original, &mut random, verification),
            _ => tamper_received(&followers, &mut random),
        };
        found.extend(violations.into_iter().map(|violation| (number, violation)));
    }
    followers.store.close().unwrap();
    found
}

#[test]
fn every_tampering_is_noticed() {
    let seed = random::seed();
    println!("KINLOG_SEED={seed}");
    assert_eq!(violations(seed, TAMPERINGS, true), vec![], "seed {seed}");
}

#[test]
fn without_verification_the_same_checks_fail() {
    let kinds: BTreeSet<Violation> = violations(7, 400, false)
        .into_iter()
        .map(|(_, violation)| violation)
        .collect();
    let all = [
        Violation::NotReported,
        Violation::Returned,
        Violation::Served,
        Violation::Stored,
        Violation::NotNamed,
    ];
    assert_eq!(kinds, BTreeSet::from(all));
}
