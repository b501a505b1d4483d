//! Messages of `kinlog/feed/1`: their bytes, every one goes out and comes back the same, and bytes that
//! are none never panic.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)] // tests; sets of one run

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::Hash;
use kinlog_feeds::bitfield::Bitfield;
use kinlog_feeds::limits::{SET_BLOCKS_MAX, UINT_MAX};
use kinlog_feeds::text::encode_hex;
use kinlog_feeds::tree::{BlockSet, BlocksProof, Group, Head, Node, append, prove_blocks};
use kinlog_feeds::wire::hypercore::{self, Synchronize};
use kinlog_feeds::wire::kinlog::{
    FeedMessage, GroupHeads, GroupMessage, Held, Message, SetAnswer, SetRequest, Watch,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn encoded(message: &Message) -> Bytes {
    let mut out = Vec::new();
    message.encode(&mut out);
    assert_eq!(out.len(), message.encoded_len());
    out.into()
}

fn decoded(message: &Message) -> Message {
    Message::decode(message.message_type(), &encoded(message))
        .unwrap()
        .unwrap()
}

fn set(groups: &[(u64, Vec<Range<u64>>)]) -> BlockSet {
    let group = |(depth, runs): &(u64, Vec<Range<u64>>)| Group::new(*depth, runs.clone()).unwrap();
    BlockSet::new(groups.iter().map(group).collect()).unwrap()
}

/// The proof of a set in a feed of blocks of these sizes.
fn proof(sizes: &[usize], set: &BlockSet) -> BlocksProof {
    let block = |(number, size): (usize, &usize)| Bytes::from(vec![number as u8; *size]);
    let blocks: Vec<Bytes> = sizes.iter().enumerate().map(block).collect();
    let appended = append(&Head::default(), &blocks).unwrap();
    let all = appended.leaves.iter().chain(&appended.parents);
    let nodes: std::collections::BTreeMap<u64, Node> =
        all.map(|node| (node.index, *node)).collect();
    let mut proof = prove_blocks(&appended.head, &nodes, set).unwrap();
    proof.values = set
        .blocks()
        .map(|block| blocks[block as usize].clone())
        .collect();
    proof
}

#[test]
fn messages_have_their_bytes() {
    let two = set(&[(3, vec![2..3, 5..7]), (0, vec![9..10])]);
    let hash = |index: u64, sizes: &[usize]| {
        let nodes = proof(sizes, &two).nodes;
        encode_hex(
            &nodes
                .iter()
                .find(|node| node.index == index)
                .unwrap()
                .hash
                .0,
        )
    };
    let answer = |sizes: &[usize]| {
        let answer = SetAnswer::new(7, 0, proof(sizes, &two));
        Message::Feed(5, FeedMessage::Set(answer))
    };
    let hashes = |sizes: &[usize]| [1, 6, 8, 14].map(|index| hash(index, sizes)).concat();
    let mut sizes = [2; 10];
    let alike = hashes(&sizes);
    let values = "0202050506060909";
    let first = answer(&sizes);
    sizes[3] = 3;
    let listed = hashes(&sizes);
    let second = answer(&sizes);
    let ask = SetRequest {
        id: 7,
        fork: 0,
        is_urgent: true,
        set: two.clone(),
    };
    let held = Held {
        blocks: 64..96,
        runs: vec![64..65, 70..80],
    };
    let watch = Watch {
        blocks: 64..364,
        seconds: 120,
    };
    let heads = GroupHeads {
        downloading: true,
        has_manifest: false,
        allows_pushes: true,
        digest: Hash([0xab; 32]),
    };
    let sync = Synchronize {
        length: 9,
        can_upgrade: true,
        ..Synchronize::default()
    };
    let golden = [
        (
            Message::List {
                wanted: true,
                feeds: vec![[0xab; 16]],
            },
            0,
            format!("0101{}", "ab".repeat(16)),
        ),
        (Message::Unlist(vec![3, 300]), 1, "0203fd2c01".to_owned()),
        (Message::Want(vec![3]), 5, "0103".to_owned()),
        (Message::Unwant(vec![]), 6, "00".to_owned()),
        (
            Message::Feed(5, FeedMessage::AskSet(ask)),
            2,
            "05 070001 02 030202000201 00010200".replace(' ', ""),
        ),
        (
            first,
            3,
            format!("05 0700 01 04 04 02 {alike} {values}").replace(' ', ""),
        ),
        (
            second,
            3,
            format!("05 0700 00 04 04 02020202 04030202 {listed} {values}").replace(' ', ""),
        ),
        (
            Message::Group(vec![3, 4, 5, 300], GroupMessage::Heads(heads)),
            8,
            format!("02 03 02 fd2601 00 05 {}", "ab".repeat(32)).replace(' ', ""),
        ),
        (
            Message::Group(vec![0], GroupMessage::Differ),
            9,
            "01 00 00".replace(' ', ""),
        ),
        (
            Message::Feed(5, FeedMessage::Held(held)),
            4,
            "0540200200 01050a".replace(' ', ""),
        ),
        (
            Message::Feed(5, FeedMessage::Watch(watch)),
            7,
            "05 40fd2c01 78".replace(' ', ""),
        ),
        (
            Message::Feed(
                5,
                FeedMessage::Hypercore(hypercore::Message::Synchronize(sync)),
            ),
            16,
            "0501000900".to_owned(),
        ),
    ];
    for (message, kind, bytes) in golden {
        assert_eq!(message.message_type(), kind, "{message:?}");
        assert_eq!(encode_hex(&encoded(&message)), bytes, "{message:?}");
        assert_eq!(decoded(&message), message);
    }
}

fn uint() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, 0..100_000u64, 0..=UINT_MAX]
}

fn sets() -> impl Strategy<Value = BlockSet> {
    let group = (0u64..12, 0u64..1 << 30, btree_set(0u64..4096, 1..20));
    vec(group, 1..8).prop_map(|mut groups| {
        // Apart: each in a part of 2^12 blocks of its own.
        let mut seen = BTreeSet::new();
        groups.retain(|(_, place, _)| seen.insert(*place));
        groups.sort_by_key(|(_, place, _)| *place);
        let groups = groups.into_iter().map(|(depth, place, picks)| {
            let start = place << 12;
            let mut runs: Vec<Range<u64>> = Vec::new();
            for pick in picks {
                let block = start + (pick & ((1 << depth) - 1));
                match runs.last_mut() {
                    Some(run) if run.contains(&block) => {}
                    Some(run) if run.end == block => run.end += 1,
                    Some(run) if run.start > block => {}
                    _ => runs.push(block..block + 1),
                }
            }
            Group::new(depth, runs).unwrap()
        });
        BlockSet::new(groups.collect()).unwrap()
    })
}

proptest! {
    #[test]
    fn requests_for_sets_come_back(
        id in uint(),
        fork in uint(),
        is_urgent in any::<bool>(),
        set in sets(),
    ) {
        let request = SetRequest { id, fork, is_urgent, set };
        let message = Message::Feed(7, FeedMessage::AskSet(request));
        prop_assert_eq!(decoded(&message), message);
    }

    #[test]
    fn watches_come_back(start in uint(), end in uint(), seconds in uint()) {
        let blocks = start.min(end)..start.max(end);
        let message = Message::Feed(7, FeedMessage::Watch(Watch { blocks, seconds }));
        prop_assert_eq!(decoded(&message), message);
    }

    #[test]
    fn answers_come_back_as_the_proof_that_was_sent(
        size in 0usize..300,
        odd in proptest::option::of((0usize..60, 0usize..300)),
        picks in btree_set(0u64..60, 1..30),
        fewer in 0usize..30,
        id in uint(),
    ) {
        let mut sizes = vec![size; 60];
        if let Some((at, size)) = odd {
            sizes[at] = size;
        }
        let mut runs: Vec<Range<u64>> = Vec::new();
        for block in picks {
            match runs.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        // 60 blocks have roots over 32, 16, 8 and 4: each run leads to its own leaf's root.
        let blocks = runs.into_iter().flatten();
        let asked = set(&blocks.map(|block| (0, vec![block..block + 1])).collect::<Vec<_>>());
        let answered = asked.prefix(asked.count().saturating_sub(fewer).max(1)).unwrap();
        let proof = proof(&sizes, &answered);
        let answer = SetAnswer::new(id, 0, proof.clone());
        let message = Message::Feed(1, FeedMessage::Set(answer));
        let again = decoded(&message);
        prop_assert_eq!(&again, &message);
        let Message::Feed(1, FeedMessage::Set(answer)) = again else { unreachable!() };
        prop_assert_eq!(answer.into_proof(&asked), Some(proof));
    }

    #[test]
    fn bits_come_back_from_runs(
        start in 0u64..100,
        words in vec(prop_oneof![Just(0u32), Just(u32::MAX), any::<u32>()], 0..40),
    ) {
        let start = 32 * start;
        let held = Held::from_words(start, &words).unwrap();
        let message = Message::Feed(9, FeedMessage::Held(held.clone()));
        prop_assert_eq!(decoded(&message), message);
        let mut bits = Bitfield::new();
        bits.set_words(start, &words);
        let end = start + 32 * words.len() as u64;
        prop_assert_eq!(held.blocks, start..end);
        prop_assert_eq!(held.runs, bits.runs(start..end).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_of_strangers_decode_or_fail(kind in 0u64..28, body in vec(any::<u8>(), 0..80)) {
        if let Ok(Some(message)) = Message::decode(kind, &body.into()) {
            prop_assert_eq!(decoded(&message), message);
        }
    }
}

#[test]
fn a_bitfield_leaves_as_runs_when_that_is_shorter() {
    let bits = |words| hypercore::Message::Bitfield { start: 0, words };
    let shortest = FeedMessage::shortest(bits(vec![u32::MAX; 1024]));
    let FeedMessage::Held(held) = shortest else {
        unreachable!("{shortest:?}");
    };
    assert_eq!(held.runs, [0..32 * 1024]);
    let scattered = bits(vec![0x5555_5555; 1024]);
    let shortest = FeedMessage::shortest(scattered.clone());
    assert_eq!(shortest, FeedMessage::Hypercore(scattered));
}

#[test]
fn counts_above_their_limits_are_refused_before_anything_is_made_of_them() {
    let huge = [0xfe, 0xff, 0xff, 0xff, 0x7f];
    let bodies: [(u64, Vec<u8>); 6] = [
        (0, [&[1][..], &huge].concat()),
        (1, huge.to_vec()),
        (2, [&[0, 0, 0][..], &huge].concat()),
        (3, [&[0, 0, 0, 1][..], &huge].concat()),
        (3, [&[0, 0, 0, 1, 1][..], &huge].concat()),
        (4, [&[0, 0][..], &huge, &huge].concat()),
    ];
    for (kind, body) in bodies {
        let result = Message::decode(kind, &body.into());
        assert!(result.is_err(), "{kind}: {result:?}");
    }
}

#[test]
fn an_answer_that_is_none_to_what_was_asked_makes_no_proof() {
    let asked = set(&[(3, vec![2..3, 5..7])]);
    let answer = |set: &BlockSet| SetAnswer::new(1, 0, proof(&[5; 16], set));
    assert!(answer(&asked).into_proof(&asked).is_some());
    let longer = set(&[(3, vec![2..3, 4..8])]);
    assert_eq!(
        answer(&longer).into_proof(&asked),
        None,
        "more blocks than asked for"
    );
    let other = set(&[(2, vec![4..7])]);
    assert_eq!(answer(&other).into_proof(&asked), None, "other nodes");
    let full = set(&[(12, vec![0..SET_BLOCKS_MAX as u64])]);
    assert_eq!(answer(&asked).into_proof(&full), None);
}
