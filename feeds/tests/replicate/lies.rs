//! Lies told one at a time: the liar is cut where it lied about content, nothing unverified is kept,
//! and an honest peer brings the rest.

use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::limits::INVALID_REQUESTS_MAX;
use kinlog_feeds::replicate::{PeerId, ProtocolViolation, Want};
use kinlog_feeds::store::Kind;
use kinlog_feeds::tree::{BlockProof, Proof, ProofRequest, UpgradeRequest};
use kinlog_feeds::wire::hypercore::{self, Data, Message, Request, Synchronize};
use kinlog_feeds::{FeedKey, Hash};

use crate::world::{Tamper, World, assert_holds};

const LIAR: usize = 0;
const HONEST: usize = 1;
const READER: usize = 2;
const BLOCKS: u64 = 300;

/// The reader is served by a node whose answers go through `tamper`, later by an honest one.
fn lied_to(seed: u64, tamper: Tamper) -> (World, FeedKey) {
    let mut world = World::new(seed, 3);
    let key = world.create(LIAR, 1, Kind::Kinlog, BLOCKS);
    world.follow(HONEST, key, Kind::Kinlog, Want::All, true);
    world.connect(LIAR, HONEST);
    world.settle();
    world.follow(READER, key, Kind::Kinlog, Want::All, true);
    world.tamper = Some(tamper);
    world.connect(LIAR, READER);
    world.pass(Duration::from_secs(1));
    (world, key)
}

/// Changes what the liar tells the reader.
fn lie(mut change: impl FnMut(Message) -> Vec<Message> + 'static) -> Tamper {
    Box::new(move |from, to, message| {
        if (from, to) == (LIAR, READER) {
            change(message)
        } else {
            vec![message]
        }
    })
}

fn change_block(mut change: impl FnMut(&mut BlockProof) + 'static) -> Tamper {
    let mut countdown = 40;
    lie(move |mut message| {
        if let Message::Data(Data {
            proof: Proof {
                block: Some(block), ..
            },
            ..
        }) = &mut message
        {
            countdown -= 1;
            if countdown == 0 {
                change(block);
            }
        }
        vec![message]
    })
}

#[test]
fn a_lie_about_content_is_never_kept_and_cuts_the_liar() {
    let lies: Vec<(&str, Tamper)> = vec![
        (
            "bad value",
            change_block(|block| {
                let mut value = block.value.to_vec();
                value[0] ^= 1;
                block.value = value.into();
            }),
        ),
        (
            "longer value",
            change_block(|block| {
                block.value = [&block.value[..], b"!"].concat().into();
            }),
        ),
        ("other block", change_block(|block| block.index += 1)),
        (
            "oversize index",
            change_block(|block| block.index = (1 << 53) - 1),
        ),
        (
            "another node",
            change_block(|block| {
                if let Some(node) = block.nodes.first_mut() {
                    node.hash.0[0] ^= 1;
                } else {
                    block.value = Bytes::from_static(b"no node to change");
                }
            }),
        ),
        (
            "bad upgrade",
            lie(|mut message| {
                if let Message::Data(data) = &mut message
                    && let Some(upgrade) = &mut data.proof.upgrade
                    && let Some(node) = upgrade.nodes.first_mut()
                {
                    node.hash = Hash([7; 32]);
                }
                vec![message]
            }),
        ),
        (
            "bad signature",
            lie(|mut message| {
                if let Message::Data(data) = &mut message
                    && let Some(upgrade) = &mut data.proof.upgrade
                {
                    upgrade.signature = Bytes::from(vec![1; 68]);
                }
                vec![message]
            }),
        ),
        (
            "bad manifest",
            lie(|mut message| {
                if let Message::Data(data) = &mut message
                    && let Some(manifest) = &mut data.manifest
                {
                    let mut other = manifest.to_vec();
                    other[40] ^= 1;
                    *manifest = other.into();
                }
                vec![message]
            }),
        ),
    ];
    for (what, tamper) in lies {
        println!("lie: {what}");
        let (mut world, key) = lied_to(1, tamper);
        let [(peer, reason, ban)] = &world.nodes[READER].violations[..] else {
            panic!("{what}: {:?}", world.nodes[READER].violations);
        };
        assert_eq!(*peer, PeerId(LIAR as u64));
        assert!(*ban && reason.is_proven_lie(), "{what}: {reason}");
        assert!(!world.is_connected(LIAR, READER));
        let report = world.nodes[READER].feed(&key).verify().unwrap();
        assert!(report.problems.is_empty(), "{what}: {:?}", report.problems);
        world.connect(HONEST, READER);
        world.pass(Duration::from_secs(30));
        assert_holds(&world, READER, &key, 0..BLOCKS);
    }
}

#[test]
fn proofs_that_lead_nowhere_do_not_hold_up_others() {
    let (mut world, key) = lied_to(
        2,
        lie(|mut message| {
            if let Message::Data(Data {
                proof: Proof {
                    block: Some(block), ..
                },
                ..
            }) = &mut message
            {
                block.nodes.clear();
            }
            vec![message]
        }),
    );
    world.connect(HONEST, READER);
    world.pass(Duration::from_secs(60));
    assert_holds(&world, READER, &key, 0..BLOCKS);
}

#[test]
fn requests_without_meaning_are_declined_then_cut() {
    let mut world = World::new(5, 2);
    let key = world.create(0, 1, Kind::Kinlog, 10);
    world.follow(1, key, Kind::Kinlog, Want::None, false);
    world.connect(0, 1);
    world.settle();
    for id in 1..=u64::from(INVALID_REQUESTS_MAX) {
        let start = if id % 2 == 0 { 5 } else { (1 << 53) - 1 };
        let upgrade = Some(UpgradeRequest { start, length: 10 });
        let proof = ProofRequest {
            upgrade,
            ..ProofRequest::default()
        };
        world.inject(
            1,
            0,
            key,
            Message::Request(Request {
                id,
                proof,
                ..Request::default()
            }),
        );
    }
    world.settle();
    let count = INVALID_REQUESTS_MAX;
    let expected = (
        PeerId(1),
        ProtocolViolation::InvalidRequests { count },
        true,
    );
    assert_eq!(world.nodes[0].violations, [expected]);
}

#[test]
fn claims_beyond_all_measure_cost_nothing() {
    let mut world = World::new(6, 3);
    let key = world.create(LIAR, 1, Kind::Kinlog, 0);
    world.create(HONEST, 1, Kind::Kinlog, 50);
    world.follow(READER, key, Kind::Kinlog, Want::All, true);
    world.connect(LIAR, READER);
    let length = (1 << 53) - 1;
    let sync = Synchronize {
        length,
        can_upgrade: true,
        uploading: true,
        ..Synchronize::default()
    };
    world.inject(LIAR, READER, key, Message::Synchronize(sync));
    let range = hypercore::Range {
        drop: false,
        start: 0,
        length,
    };
    world.inject(LIAR, READER, key, Message::Range(range));
    // A block in every page: each would cost 4 KiB.
    for page in 0..5000u64 {
        let range = hypercore::Range {
            drop: true,
            start: page << 15,
            length: 1,
        };
        world.inject(LIAR, READER, key, Message::Range(range));
    }
    world.inject(
        LIAR,
        READER,
        key,
        Message::Bitfield {
            start: 7,
            words: vec![1; 9],
        },
    );
    let want = hypercore::Want {
        start: length,
        length,
        any: false,
    };
    world.inject(LIAR, READER, key, Message::Want(want));
    world.connect(HONEST, READER);
    world.pass(Duration::from_secs(40));
    assert_holds(&world, READER, &key, 0..50);
}
