//! Every message goes out and comes back the same, and bytes that are none never panic.
#![allow(clippy::unwrap_used)] // tests

use bytes::Bytes;
use kinlog_feeds::Hash;
use kinlog_feeds::limits::{PROOF_NODES_MAX, UINT_MAX};
use kinlog_feeds::tree::{
    BlockProof, BlockRequest, HashProof, HashRequest, Node, Proof, ProofRequest, SeekProof,
    SeekRequest, UpgradeProof, UpgradeRequest,
};
use kinlog_feeds::wire::hypercore::{
    Data, Message, NoData, NoDataReason, Range, Request, Synchronize, Want,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn uint() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, 0..100_000u64, 0..=UINT_MAX]
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn node() -> impl Strategy<Value = Node> {
    (uint(), uint(), any::<[u8; 32]>()).prop_map(|(index, size, hash)| Node {
        index,
        size,
        hash: Hash(hash),
    })
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    vec(node(), 0..6)
}

fn request() -> impl Strategy<Value = Message> {
    let parts = (
        option::of((uint(), uint())),
        option::of((uint(), uint())),
        option::of((uint(), uint())),
        option::of((uint(), uint())),
    );
    (uint(), uint(), parts, any::<bool>(), uint()).prop_map(
        |(id, fork, (block, hash, seek, upgrade), manifest, priority)| {
            let proof = ProofRequest {
                block: block.map(|(index, nodes)| BlockRequest { index, nodes }),
                hash: hash.map(|(index, nodes)| HashRequest { index, nodes }),
                seek: seek.map(|(bytes, padding)| SeekRequest { bytes, padding }),
                upgrade: upgrade.map(|(start, length)| UpgradeRequest { start, length }),
            };
            Message::Request(Request {
                id,
                fork,
                proof,
                manifest,
                priority,
            })
        },
    )
}

fn data() -> impl Strategy<Value = Message> {
    let block = (uint(), bytes(300), nodes()).prop_map(|(index, value, nodes)| BlockProof {
        index,
        value,
        nodes,
    });
    let hash = (uint(), nodes()).prop_map(|(index, nodes)| HashProof { index, nodes });
    let seek = (uint(), nodes()).prop_map(|(bytes, nodes)| SeekProof { bytes, nodes });
    let upgrade = (uint(), uint(), nodes(), nodes(), bytes(80)).prop_map(
        |(start, length, nodes, additional_nodes, signature)| UpgradeProof {
            start,
            length,
            nodes,
            additional_nodes,
            signature,
        },
    );
    let parts = (
        option::of(block),
        option::of(hash),
        option::of(seek),
        option::of(upgrade),
    );
    (uint(), uint(), parts, option::of(bytes(100))).prop_map(
        |(request, fork, (block, hash, seek, upgrade), manifest)| {
            let proof = Proof {
                fork,
                block,
                hash,
                seek,
                upgrade,
                ..Proof::default()
            };
            Message::Data(Data {
                request,
                proof,
                manifest,
            })
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let sync = (uint(), uint(), uint(), any::<[bool; 5]>()).prop_map(
        |(
            fork,
            length,
            remote_length,
            [
                can_upgrade,
                uploading,
                downloading,
                has_manifest,
                allow_push,
            ],
        )| {
            Message::Synchronize(Synchronize {
                fork,
                length,
                remote_length,
                can_upgrade,
                uploading,
                downloading,
                has_manifest,
                allow_push,
            })
        },
    );
    let reason = option::of(prop_oneof![
        Just(NoDataReason::NotAvailable),
        Just(NoDataReason::InvalidRequest),
        (3..UINT_MAX).prop_map(NoDataReason::Other),
    ]);
    let want = || {
        (uint(), uint(), any::<bool>()).prop_map(|(start, length, any)| Want { start, length, any })
    };
    prop_oneof![
        sync,
        request(),
        uint().prop_map(Message::Cancel),
        data(),
        (uint(), reason).prop_map(|(request, reason)| Message::NoData(NoData { request, reason })),
        want().prop_map(Message::Want),
        want().prop_map(Message::Unwant),
        (uint(), vec(any::<u32>(), 0..40))
            .prop_map(|(start, words)| Message::Bitfield { start, words }),
        (any::<bool>(), uint(), prop_oneof![Just(1), uint()]).prop_map(|(drop, start, length)| {
            Message::Range(Range {
                drop,
                start,
                length,
            })
        }),
        (bytes(20), bytes(50)).prop_map(|(name, payload)| Message::Extension { name, payload }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_as_they_were(message in message()) {
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        prop_assert_eq!(encoded.len(), message.encoded_len());
        let decoded = Message::decode(message.message_type(), &Bytes::from(encoded));
        prop_assert_eq!(decoded, Ok(Some(message)));
    }

    #[test]
    fn truncated_messages_are_errors_or_shorter_ones(message in message(), cut in any::<prop::sample::Index>()) {
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        encoded.truncate(cut.index(encoded.len() + 1));
        if let Ok(Some(shorter)) = Message::decode(message.message_type(), &Bytes::from(encoded.clone())) {
            prop_assert!(shorter.encoded_len() <= encoded.len() + 1);
        }
    }

    #[test]
    fn any_bytes_decode_or_fail(message_type in 0..12u64, bytes in bytes(400)) {
        let _ = Message::decode(message_type, &bytes);
    }
}

#[test]
fn a_block_is_a_slice_of_the_frame() {
    let block = BlockProof {
        index: 1,
        value: Bytes::from(vec![7; 1000]),
        nodes: Vec::new(),
    };
    let proof = Proof {
        block: Some(block),
        ..Proof::default()
    };
    let mut encoded = Vec::new();
    Message::Data(Data {
        request: 1,
        proof,
        manifest: None,
    })
    .encode(&mut encoded);
    let frame = Bytes::from(encoded);
    let Ok(Some(Message::Data(data))) = Message::decode(3, &frame) else {
        unreachable!("decoded as data");
    };
    let value = data.proof.block.unwrap().value;
    let inside = frame.as_ptr_range();
    assert!(inside.contains(&value.as_ptr()), "the value was copied");
}

#[test]
fn counts_above_their_limits_are_refused_before_anything_is_allocated() {
    // A data message whose block claims 2^32 - 1 nodes, and a bitfield of as many words.
    for (message_type, hex) in [(3, "0101000000feffffffff"), (7, "00feffffffff")] {
        let body = Bytes::from(kinlog_feeds::text::decode_hex(hex).unwrap());
        assert!(Message::decode(message_type, &body).is_err());
    }
    let node = Node {
        index: 1,
        size: 1,
        hash: Hash([1; 32]),
    };
    let nodes = vec![node; PROOF_NODES_MAX + 1];
    let block = BlockProof {
        index: 1,
        value: Bytes::new(),
        nodes,
    };
    let proof = Proof {
        block: Some(block),
        ..Proof::default()
    };
    let mut encoded = Vec::new();
    Message::Data(Data {
        request: 1,
        proof,
        manifest: None,
    })
    .encode(&mut encoded);
    assert!(Message::decode(3, &Bytes::from(encoded)).is_err());
}
