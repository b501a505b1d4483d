//! Peers that slip in what nobody asked for: only blocks that were asked for reach the store.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::bitfield::Bitfield;
use kinlog_feeds::replicate::{
    Config, FeedKind, FeedState, HeadState, Incoming, Interest, Output, PeerId, Replicator, Want,
};
use kinlog_feeds::tree::{BlockProof, HashRequest, Proof, ProofRequest, SeekRequest, UpgradeProof};
use kinlog_feeds::wire::hypercore::{self, Data, Message, NoDataReason, Request, Synchronize};
use kinlog_feeds::{FeedKey, Hash, Time};

const KEY: FeedKey = FeedKey([7; 32]);
const PEER: PeerId = PeerId(1);

/// A follower of blocks 0..2 of a feed, whose only peer is hostile.
struct Follower {
    replicator: Replicator,
    now: Time,
    requests: Vec<Request>,
    answers: Vec<Message>,
    applies: Vec<Incoming>,
    reads: Vec<ProofRequest>,
}

impl Follower {
    /// Its head is at `length`; the peer claims a head of 10 and all blocks.
    fn at(length: u64) -> Follower {
        let mut replicator = Replicator::new(Config::default());
        let state = FeedState {
            kind: FeedKind::Kinlog,
            manifest_known: true,
            head: head(length),
            conflict: None,
            have: Bitfield::new(),
        };
        replicator.add_feed(KEY, state);
        let now = Time::ZERO;
        let interest = Interest {
            want: Want::Range(0..2),
            live: true,
        };
        replicator.set_interest(now, &KEY, interest);
        replicator.handle_channel_open(now, PEER, KEY);
        let mut follower = Follower {
            replicator,
            now,
            requests: Vec::new(),
            answers: Vec::new(),
            applies: Vec::new(),
            reads: Vec::new(),
        };
        follower.say(Message::Synchronize(Synchronize {
            fork: 0,
            length: 10,
            remote_length: length,
            can_upgrade: true,
            uploading: true,
            downloading: false,
            has_manifest: true,
            allow_push: false,
        }));
        follower.say(Message::Range(hypercore::Range {
            drop: false,
            start: 0,
            length: 10,
        }));
        follower
    }

    fn say(&mut self, message: Message) {
        let _ = self
            .replicator
            .handle_message(self.now, PEER, &KEY, message);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.replicator.poll_output() {
            match output {
                Output::Send {
                    message: Message::Request(request),
                    ..
                } => self.requests.push(request),
                Output::Send { message, .. } => self.answers.push(message),
                Output::Apply { items, .. } => self.applies.extend(items.iter().cloned()),
                Output::Read { request, .. } => self.reads.push(request),
                _ => {}
            }
        }
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.replicator.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.replicator.handle_timeout(at);
            self.drain();
        }
        self.now = end;
    }

    fn request(&self, wanted: impl Fn(&ProofRequest) -> bool) -> Request {
        let found = self.requests.iter().find(|request| wanted(&request.proof));
        *found.unwrap()
    }

    fn blocks_to_store(&self) -> Vec<u64> {
        let blocks = self
            .applies
            .iter()
            .filter_map(|item| item.proof.block.as_ref());
        blocks.map(|block| block.index).collect()
    }
}

fn head(length: u64) -> HeadState {
    HeadState {
        fork: 0,
        length,
        byte_length: length * 100,
        tree_hash: Hash([0; 32]),
    }
}

fn block(index: u64) -> Option<BlockProof> {
    let value = Bytes::from_static(b"block");
    Some(BlockProof {
        index,
        value,
        nodes: Vec::new(),
    })
}

fn upgrade(start: u64) -> Option<UpgradeProof> {
    Some(UpgradeProof {
        start,
        length: 10 - start,
        nodes: Vec::new(),
        additional_nodes: Vec::new(),
        signature: Bytes::from_static(b"signature"),
    })
}

fn answer(request: u64, proof: Proof) -> Message {
    Message::Data(Data {
        request,
        proof,
        manifest: None,
    })
}

#[test]
fn a_block_that_comes_with_a_head_is_not_stored() {
    let mut follower = Follower::at(0);
    let asked = follower.request(|proof| proof.upgrade.is_some());
    let proof = Proof {
        block: block(9),
        upgrade: upgrade(0),
        ..Proof::default()
    };
    follower.say(answer(asked.id, proof));
    assert!(follower.blocks_to_store().is_empty());

    let mut follower = Follower::at(0);
    let proof = Proof {
        upgrade: upgrade(0),
        ..Proof::default()
    };
    follower.say(answer(asked.id, proof));
    assert_eq!(follower.applies.len(), 1, "the head alone is taken");
}

#[test]
fn the_late_answer_to_a_request_counts_for_its_own_block_only() {
    for (sent, expected) in [(0, vec![0]), (9, vec![])] {
        let mut follower = Follower::at(10);
        let asked = follower.request(|proof| proof.block.is_some_and(|block| block.index == 0));
        follower.pass(Duration::from_secs(90));
        let cancelled = Message::Cancel(asked.id);
        assert!(
            follower.answers.contains(&cancelled),
            "the request was taken back"
        );
        let proof = Proof {
            block: block(sent),
            ..Proof::default()
        };
        follower.say(answer(asked.id, proof));
        assert_eq!(follower.blocks_to_store(), expected);
    }
}

#[test]
fn a_history_shown_unasked_brings_no_block() {
    let mut follower = Follower::at(10);
    let proof = Proof {
        block: block(9),
        upgrade: upgrade(0),
        ..Proof::default()
    };
    follower.say(answer(0, proof));
    assert!(follower.blocks_to_store().is_empty());
}

/// Nodes of the tree alone tell of all of a feed.
#[test]
fn hashes_and_seeks_are_answered_of_a_feed_that_is_shown_whole_and_declined_of_a_part() {
    let hash = Some(HashRequest { index: 3, nodes: 0 });
    let seek = Some(SeekRequest {
        bytes: 5,
        padding: 0,
    });
    for is_part in [false, true] {
        let mut follower = Follower::at(10);
        if is_part {
            let limits = BTreeMap::from([(KEY, Vec::from([0..4, 5..9]))]);
            follower.replicator.limit(follower.now, PEER, limits);
        }
        for (id, hash, seek) in [(1, hash, None), (2, hash, seek)] {
            let proof = ProofRequest {
                hash,
                seek,
                ..ProofRequest::default()
            };
            follower.say(Message::Request(Request {
                id,
                proof,
                ..Request::default()
            }));
            let declined = follower.answers.iter().any(|answer| {
                matches!(answer, Message::NoData(no_data)
                    if no_data.request == id && no_data.reason == Some(NoDataReason::NotAvailable))
            });
            assert_eq!(declined, is_part, "{proof:?}");
            assert_eq!(follower.reads.contains(&proof), !is_part, "{proof:?}");
        }
    }
}

#[test]
fn a_late_answer_to_a_channel_that_is_open_again_is_no_wrong_answer() {
    let (key, peer, now) = (KEY, PEER, Time::ZERO);
    let mut reader = Replicator::new(Config::default());
    let state = FeedState {
        kind: FeedKind::Kinlog,
        manifest_known: true,
        head: head(4),
        conflict: None,
        have: Bitfield::default(),
    };
    reader.add_feed(key, state);
    let (want, live) = (Want::All, true);
    reader.set_interest(now, &key, Interest { want, live });
    let open = |reader: &mut Replicator| {
        reader.handle_channel_open(now, peer, key);
        let sync = Synchronize {
            fork: 0,
            length: 4,
            remote_length: 4,
            can_upgrade: true,
            uploading: true,
            downloading: false,
            has_manifest: true,
            allow_push: false,
        };
        let range = hypercore::Range {
            drop: false,
            start: 0,
            length: 4,
        };
        for message in [Message::Synchronize(sync), Message::Range(range)] {
            reader.handle_message(now, peer, &key, message).unwrap();
        }
        let mut asked = Vec::new();
        while let Some(output) = reader.poll_output() {
            if let Output::Send {
                message: Message::Request(request),
                ..
            } = output
            {
                asked.push((request.id, request.proof.block.map(|block| block.index)));
            }
        }
        asked
    };
    let before = open(&mut reader);
    reader.handle_channel_close(now, peer, &key);
    let after = open(&mut reader);
    assert_eq!((before.len(), after.len()), (4, 4));
    for (id, block) in before {
        assert!(after.iter().all(|(other, _)| *other != id));
        let block = BlockProof {
            index: block.unwrap() ^ 1,
            value: Bytes::from_static(b"x"),
            nodes: Vec::new(),
        };
        let late = Message::Data(Data {
            request: id,
            proof: Proof {
                block: Some(block),
                ..Proof::default()
            },
            manifest: None,
        });
        reader.handle_message(now, peer, &key, late).unwrap();
    }
}
