//! What a peer sends: messages, proofs in them, the bytes of a connection.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::limits::BITFIELD_WORDS_MAX;
use kinlog_feeds::manifest::Verifier;
use kinlog_feeds::tree::{
    BlockRequest, BlockSet, Group, HashRequest, Head, Node, Proof, ProofRequest, SeekRequest,
    UpgradeRequest, verify,
};
use kinlog_feeds::wire::hypercore::{Data, Message, message_type};
use kinlog_feeds::wire::kinlog::{
    self, FeedMessage, GroupHeads, GroupMessage, Held, Opening, SetAnswer, SetRequest, Watch,
    heads_digest,
};
use kinlog_feeds::wire::{Config, Connection, Role};
use kinlog_feeds::{Bitfield, Hash, Time};

use crate::targets::golden::{LENGTH, block, golden};

/// Decodes a message: its type, then its body.
pub(super) fn message(bytes: &[u8]) -> bool {
    let Some((kind, body)) = bytes.split_first() else {
        return false;
    };
    let body = Bytes::copy_from_slice(body);
    let Ok(Some(message)) = Message::decode(u64::from(*kind), &body) else {
        return false;
    };
    let mut again = Vec::new();
    message.encode(&mut again);
    assert_eq!(again.len(), message.encoded_len());
    let decoded = Message::decode(message.message_type(), &again.into());
    assert_eq!(decoded, Ok(Some(message)));
    true
}

pub(super) fn message_seeds() -> Vec<Vec<u8>> {
    let mut seeds = proof_seeds();
    for seed in &mut seeds {
        seed.insert(0, message_type::DATA as u8);
    }
    for (kind, body) in [
        (message_type::SYNCHRONIZE, &[1, 5, 7, 9, 3][..]),
        (message_type::REQUEST, &[2, 1, 0, 3, 4, 5]),
        (message_type::CANCEL, &[7]),
        (message_type::WANT, &[0, 253, 0, 16]),
        (message_type::RANGE, &[0, 4, 9]),
        (message_type::EXTENSION, &[0, 3, 4, 5]),
    ] {
        let seed = [&[kind as u8], body].concat();
        if message(&seed) {
            seeds.push(seed);
        }
    }
    seeds
}

/// Verifies a proof as a reader without anything and as one with a head of five blocks would:
/// whatever is accepted is what was signed.
pub(super) fn proof(bytes: &[u8]) -> bool {
    let Ok(Some(Message::Data(data))) =
        Message::decode(message_type::DATA, &Bytes::copy_from_slice(bytes))
    else {
        return false;
    };
    let feed = &golden().feed;
    let manifest = feed.manifest().unwrap();
    let verifier = Verifier::new(feed.key(), &manifest).unwrap();
    let signed = feed.signed_head().unwrap();
    let roots: BTreeMap<u64, Node> = signed
        .head
        .roots
        .iter()
        .map(|root| (root.index, *root))
        .collect();
    check(&Head::default(), &BTreeMap::new(), &verifier, &data.proof);
    check(&signed.head, &roots, &verifier, &data.proof);
    true
}

fn check(head: &Head, known: &BTreeMap<u64, Node>, verifier: &Verifier, proof: &Proof) {
    let Ok(verified) = verify(head, known, verifier, proof) else {
        return;
    };
    let feed = &golden().feed;
    if let Some(index) = verified.block {
        let value = &proof.block.as_ref().unwrap().value;
        assert_eq!(*value, block(index), "block {index}");
    }
    if let Some(upgrade) = verified.upgrade {
        // The author signed at nine blocks and at the last.
        assert!([9, LENGTH].contains(&upgrade.head.length));
    }
    for node in verified.nodes {
        assert_eq!(feed.node(node.index).unwrap(), Some(node));
    }
}

pub(super) fn proof_seeds() -> Vec<Vec<u8>> {
    let upgrade = |start, length| Some(UpgradeRequest { start, length });
    let requests = [
        ProofRequest {
            upgrade: upgrade(0, LENGTH),
            ..ProofRequest::default()
        },
        ProofRequest {
            block: Some(BlockRequest { index: 6, nodes: 4 }),
            ..ProofRequest::default()
        },
        ProofRequest {
            block: Some(BlockRequest {
                index: 20,
                nodes: 0,
            }),
            upgrade: upgrade(0, LENGTH),
            ..ProofRequest::default()
        },
        ProofRequest {
            hash: Some(HashRequest { index: 9, nodes: 2 }),
            seek: Some(SeekRequest {
                bytes: 30,
                padding: 0,
            }),
            ..ProofRequest::default()
        },
    ];
    let feed = &golden().feed;
    let manifest = feed.manifest().unwrap().encode();
    let made = requests
        .iter()
        .filter_map(|request| feed.prove(request).ok());
    let messages = made.enumerate().map(|(number, proof)| {
        let data = Data {
            request: number as u64,
            proof,
            manifest: (number == 0).then(|| manifest.clone().into()),
        };
        let mut out = Vec::new();
        Message::Data(data).encode(&mut out);
        out
    });
    messages.collect()
}

/// Decodes a message of `kinlog/feed/1`: its type, then its body.
pub(super) fn kinlog_message(bytes: &[u8]) -> bool {
    let Some((kind, body)) = bytes.split_first() else {
        return false;
    };
    if let Ok(opening) = Opening::decode(body) {
        assert_eq!(Opening::decode(&opening.encode()), Ok(opening));
    }
    let body = Bytes::copy_from_slice(body);
    let Ok(Some(message)) = kinlog::Message::decode(u64::from(*kind), &body) else {
        return false;
    };
    let mut again = Vec::new();
    message.encode(&mut again);
    assert_eq!(again.len(), message.encoded_len());
    let decoded = kinlog::Message::decode(message.message_type(), &again.into());
    assert_eq!(decoded, Ok(Some(message)));
    true
}

/// The head of the golden feed, as a group of one says it.
fn golden_heads() -> Hash {
    let head = golden().feed.head();
    heads_digest([(head.fork, head.length, head.tree_hash())])
}

pub(super) fn kinlog_message_seeds() -> Vec<Vec<u8>> {
    let held = Held {
        blocks: 64..4096,
        runs: vec![65..70, 1000..4096],
    };
    let of_feed = |message| kinlog::Message::Feed(3, message);
    let mut messages = vec![
        kinlog::Message::List {
            wanted: true,
            feeds: vec![[1; 16], [2; 16]],
        },
        kinlog::Message::Unlist(vec![0, 300]),
        kinlog::Message::Want(vec![4]),
        kinlog::Message::Unwant(vec![5]),
        of_feed(FeedMessage::Held(held)),
        kinlog::Message::Group(vec![0, 1, 2, 9, 300], GroupMessage::Differ),
        kinlog::Message::Group(
            (3..67).collect(),
            GroupMessage::Heads(GroupHeads {
                downloading: true,
                has_manifest: true,
                allows_pushes: true,
                digest: golden_heads(),
            }),
        ),
    ];
    for set in sets() {
        let proof = golden().feed.prove_blocks(&set).unwrap();
        let answer = SetAnswer::new(9, 0, *proof.blocks.unwrap());
        messages.push(of_feed(FeedMessage::Set(answer)));
        messages.push(of_feed(FeedMessage::AskSet(SetRequest {
            id: 9,
            fork: 0,
            is_urgent: false,
            set,
        })));
    }
    let encode = |message: kinlog::Message| {
        let mut out = vec![message.message_type() as u8];
        message.encode(&mut out);
        out
    };
    let mut seeds: Vec<Vec<u8>> = messages.into_iter().map(encode).collect();
    for mut seed in message_seeds() {
        if let Some(kind) = seed.first_mut() {
            *kind += 16;
        }
        seed.insert(1, 3);
        seeds.push(seed);
    }
    let watch = Watch {
        blocks: 7..70_000,
        seconds: 600,
    };
    seeds.push(encode(of_feed(FeedMessage::Watch(watch))));
    seeds
}

/// Sets of blocks of the golden feed, which lead to its roots.
fn sets() -> Vec<BlockSet> {
    let head = golden().feed.head();
    let mut start = 0;
    let every_other = head.roots.iter().map(|root| {
        let depth = root.index.trailing_ones();
        let end = start + (1 << depth);
        let runs = (start..end).step_by(2).map(|block| block..block + 1);
        start = end;
        Group::new(u64::from(depth), runs.collect()).unwrap()
    });
    let all = BlockSet::new(every_other.collect()).unwrap();
    let one = all.prefix(1).unwrap();
    vec![all, one]
}

/// Verifies the answer to a set asked for, by the roots of the feed: a byte that says which, then the
/// answer. What is accepted is what was written.
pub(super) fn set_proof(bytes: &[u8]) -> bool {
    let Some((which, body)) = bytes.split_first() else {
        return false;
    };
    let body = Bytes::copy_from_slice(body);
    let Ok(Some(kinlog::Message::Feed(_, FeedMessage::Set(answer)))) =
        kinlog::Message::decode(3, &body)
    else {
        return false;
    };
    let sets = sets();
    let asked = &sets[usize::from(*which) % sets.len()];
    let Some(blocks) = answer.into_proof(asked) else {
        return false;
    };
    let feed = &golden().feed;
    let manifest = feed.manifest().unwrap();
    let verifier = Verifier::new(feed.key(), &manifest).unwrap();
    let proof = Proof {
        blocks: Some(Box::new(blocks)),
        ..Proof::default()
    };
    let Ok(verified) = verify(&feed.head(), &BTreeMap::new(), &verifier, &proof) else {
        return false;
    };
    let values = &proof.blocks.unwrap().values;
    for (index, value) in verified.blocks.iter().zip(values) {
        assert_eq!(*value, block(*index), "block {index}");
    }
    for node in verified.nodes {
        assert_eq!(feed.node(node.index).unwrap(), Some(node));
    }
    true
}

pub(super) fn set_proof_seeds() -> Vec<Vec<u8>> {
    let answer = |(which, set): (u8, &BlockSet)| {
        let proof = golden().feed.prove_blocks(set).unwrap();
        let answer = SetAnswer::new(1, 0, *proof.blocks.unwrap());
        let mut out = vec![which];
        kinlog::Message::Feed(0, FeedMessage::Set(answer)).encode(&mut out);
        out
    };
    (0u8..).zip(&sets()).map(answer).collect()
}

/// Puts a bitfield message into a bitfield and reads it back.
pub(super) fn bitfield(bytes: &[u8]) -> bool {
    let body = Bytes::copy_from_slice(bytes);
    let Ok(Some(Message::Bitfield { start, words })) =
        Message::decode(message_type::BITFIELD, &body)
    else {
        return false;
    };
    assert!(words.len() <= BITFIELD_WORDS_MAX);
    let start = start / 32 * 32;
    let mut bitfield = Bitfield::new();
    bitfield.set_words(start, &words);
    let ones: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
    assert_eq!(bitfield.count(), ones);
    assert_eq!(bitfield.words(start, 32 * words.len() as u64), words);
    let runs: Bitfield = bitfield.runs(0..u64::MAX).collect();
    assert_eq!(runs, bitfield);
    true
}

pub(super) fn bitfield_seeds() -> Vec<Vec<u8>> {
    [vec![1, 0, 0x8000_0000], vec![u32::MAX; 3]]
        .into_iter()
        .zip([0, 4096])
        .map(|(words, start)| {
            let mut out = Vec::new();
            Message::Bitfield { start, words }.encode(&mut out);
            out
        })
        .collect()
}

const NOW: Time = Time(1_000);

fn side(role: Role, number: u8) -> Connection {
    let config = Config::new(role, [number; 32], [number + 10; 32], [number + 20; 24]);
    Connection::new(NOW, config)
}

fn drain(connection: &mut Connection) -> Vec<u8> {
    let mut sent = Vec::new();
    while let Some(bytes) = connection.poll_transmit() {
        sent.extend_from_slice(&bytes);
    }
    sent
}

/// Gives a responder these bytes, whole and in pieces: it ends the same way, and never has more to
/// say than it was told.
pub(super) fn connection(bytes: &[u8]) -> bool {
    let outcome = |pieces: usize| {
        let mut responder = side(Role::Responder, 2);
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            let taken = responder.handle_bytes(NOW, piece).is_ok();
            let read = loop {
                match responder.poll_event() {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            if !taken || !read {
                return (false, Vec::new());
            }
        }
        (true, drain(&mut responder))
    };
    let (whole, in_pieces) = (outcome(1), outcome(7));
    assert_eq!(whole, in_pieces, "pieces mean nothing");
    let (fine, said) = whole;
    assert!(
        said.len() <= 3 * bytes.len().max(64),
        "an answer is no amplifier"
    );
    fine
}

/// The first message of a handshake, and everything that an initiator says in one.
pub(super) fn connection_seeds() -> Vec<Vec<u8>> {
    let (mut one, mut other) = (side(Role::Initiator, 1), side(Role::Responder, 2));
    let mut said = Vec::new();
    let first = drain(&mut one);
    said.extend_from_slice(&first);
    other.handle_bytes(NOW, &first).unwrap();
    while let Ok(Some(_)) = other.poll_event() {}
    let answer = drain(&mut other);
    one.handle_bytes(NOW, &answer).unwrap();
    while let Ok(Some(_)) = one.poll_event() {}
    said.extend(drain(&mut one));
    Vec::from([first, said])
}
