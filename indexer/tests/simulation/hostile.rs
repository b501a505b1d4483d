//! What hostile nodes send instead of what their replicator says, and beside it.

use bytes::Bytes;
use kinlog_feeds::Hash;
use kinlog_feeds::store::Feed;
use kinlog_feeds::tree::{BlockProof, BlockRequest, Node, Proof, ProofRequest, UpgradeRequest};
use kinlog_feeds::wire::hypercore::{self, Data, Message, NoData, Request, Synchronize};
use kinlog_feeds::wire::kinlog::{self, FeedMessage};
use testkit::random::Random;

use crate::network::Encoded;
use crate::plan::Trick;

/// Returns a message as it is on the wire of `kinlog/feed/1`, which carries those of
/// `hypercore/alpha`, too.
pub(crate) fn encode(message: FeedMessage) -> Encoded {
    let message = kinlog::Message::Feed(0, message);
    let mut body = Vec::with_capacity(message.encoded_len());
    message.encode(&mut body);
    (message.message_type(), body.into())
}

/// Returns what a hostile node sends in the place of a message.
pub(crate) fn tamper(
    tricks: &[Trick],
    random: &mut Random,
    mut message: FeedMessage,
) -> Vec<Encoded> {
    let does = |trick| tricks.contains(&trick);
    let mut flips = does(Trick::FlipBits) && random.below(64) == 0;
    let answers = match &mut message {
        FeedMessage::Hypercore(Message::Data(data)) => {
            if does(Trick::ChangeFields) && random.below(8) == 0 {
                change(data, random);
            }
            true
        }
        FeedMessage::Set(_) => {
            flips |= does(Trick::ChangeFields) && random.below(4) == 0;
            true
        }
        _ => false,
    };
    if answers && does(Trick::Withhold) && random.below(2) == 0 {
        return Vec::new();
    }
    let mut encoded = encode(message);
    if flips && !encoded.1.is_empty() {
        let mut bytes = encoded.1.to_vec();
        let at = random.index(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        encoded.1 = bytes.into();
    }
    if does(Trick::Unasked) && random.below(4) == 0 && answers {
        return vec![encoded.clone(), encoded];
    }
    vec![encoded]
}

fn flip(bytes: &mut Bytes, random: &mut Random) {
    let mut changed = bytes.to_vec();
    if !changed.is_empty() {
        let at = random.index(changed.len());
        changed[at] ^= 1 << random.below(8);
    }
    *bytes = changed.into();
}

/// Changes one field of an answer.
pub(crate) fn change(data: &mut Data, random: &mut Random) {
    let mut edit = |nodes: &mut Vec<Node>| {
        if nodes.is_empty() {
            return;
        }
        let at = random.index(nodes.len());
        let kind = random.below(5);
        match kind {
            0 => nodes[at].hash.0[random.index(32)] ^= 1,
            1 => nodes[at].size += 1,
            2 => nodes[at].index ^= 2,
            3 => drop(nodes.remove(at)),
            _ => nodes.push(nodes[at]),
        }
    };
    match &mut data.proof {
        Proof {
            block: Some(block), ..
        } => {
            edit(&mut block.nodes);
            match random.below(4) {
                0 => flip(&mut block.value, random),
                1 => block.index ^= 1 << random.below(6),
                2 => block.value = random.bytes(100).into(),
                _ => {}
            }
        }
        Proof {
            upgrade: Some(upgrade),
            ..
        } => {
            edit(&mut upgrade.nodes);
            match random.below(4) {
                0 => flip(&mut upgrade.signature, random),
                1 => upgrade.length = upgrade.length.saturating_sub(1),
                2 => upgrade.start += 1,
                _ => {}
            }
        }
        _ => {}
    }
    if random.below(16) == 0 {
        data.proof.fork += 1;
    }
    if let Some(manifest) = &mut data.manifest {
        flip(manifest, random);
    }
}

/// Small numbers, numbers near every power of two, and the largest the wire can carry.
fn number(random: &mut Random) -> u64 {
    let most = (1 << 53) - 1;
    match random.below(3) {
        0 => random.below(200),
        1 => ((1u64 << random.below(53)) + random.below(3)).min(most),
        _ => most - random.below(3),
    }
}

/// Returns a message that means little.
pub(crate) fn nonsense(random: &mut Random) -> Message {
    let (start, length) = (number(random), number(random));
    let flag = random.below(2) == 0;
    match random.below(8) {
        0 => Message::Synchronize(Synchronize {
            fork: random.below(2),
            length,
            remote_length: start,
            can_upgrade: flag,
            uploading: flag,
            downloading: !flag,
            has_manifest: flag,
            allow_push: !flag,
        }),
        1 => Message::Range(hypercore::Range {
            drop: flag,
            start,
            length,
        }),
        2 => Message::Want(hypercore::Want {
            start,
            length,
            any: flag,
        }),
        3 => Message::Bitfield {
            start: start / 32 * 32,
            words: (0..random.below(70))
                .map(|_| random.next_u64() as u32)
                .collect(),
        },
        4 => request(random.below(9), start, Some(length)),
        5 => Message::Cancel(random.below(9)),
        6 => Message::NoData(NoData {
            request: random.below(9),
            reason: None,
        }),
        _ => {
            let nodes = vec![Node {
                index: start,
                size: length,
                hash: Hash([1; 32]),
            }];
            let block = BlockProof {
                index: start,
                value: Bytes::new(),
                nodes,
            };
            Message::Data(Data {
                request: random.below(9),
                proof: Proof {
                    block: Some(block),
                    ..Proof::default()
                },
                manifest: None,
            })
        }
    }
}

/// Returns a request of a block, and of the head if `upgrade` names its length.
pub(crate) fn request(id: u64, index: u64, upgrade: Option<u64>) -> Message {
    Message::Request(Request {
        id,
        proof: ProofRequest {
            block: Some(BlockRequest { index, nodes: 0 }),
            upgrade: upgrade.map(|length| UpgradeRequest { start: 0, length }),
            ..ProofRequest::default()
        },
        ..Request::default()
    })
}

/// Returns a block of the feed with its proof, as the answer to a request that nobody made.
pub(crate) fn unasked_block(feed: &Feed, random: &mut Random) -> Option<Message> {
    let length = feed.head().length;
    let block = (length > 0).then(|| BlockRequest {
        index: random.below(length),
        nodes: 0,
    });
    let request = ProofRequest {
        block: Some(block?),
        ..ProofRequest::default()
    };
    answer(feed.prove(&request).ok()?, 1_000 + random.below(1_000))
}

/// Returns the way from nothing to the head of the feed.
pub(crate) fn whole_history(feed: &Feed) -> Option<Message> {
    let length = feed.head().length;
    let request = ProofRequest {
        upgrade: (length > 0).then_some(UpgradeRequest { start: 0, length }),
        ..ProofRequest::default()
    };
    request.upgrade?;
    answer(feed.prove(&request).ok()?, 0)
}

fn answer(proof: Proof, request: u64) -> Option<Message> {
    Some(Message::Data(Data {
        request,
        proof,
        manifest: None,
    }))
}
