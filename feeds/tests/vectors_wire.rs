//! The wire against vectors made by npm `hypercore` 11.39.5 (`vectors/hypercore-v11.json`).
#![allow(clippy::unwrap_used)] // a test

use bytes::Bytes;
use kinlog_feeds::text::{decode_hex, encode_hex};
use kinlog_feeds::tree::{
    BlockProof, BlockRequest, HashProof, HashRequest, Node, Proof, ProofRequest, SeekProof,
    SeekRequest, UpgradeProof, UpgradeRequest,
};
use kinlog_feeds::wire::hypercore::{
    Data, Handshake, Message, NoData, NoDataReason, Range, Request, Synchronize, Want, capability,
    message_type,
};
use kinlog_feeds::wire::{Config, Connection, Event, Role};
use kinlog_feeds::{FeedKey, Hash, Time};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/hypercore-v11.json")).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    decode_hex(value.as_str().unwrap()).unwrap()
}

fn fixed<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn encoded(message: &Message) -> String {
    let mut out = Vec::new();
    message.encode(&mut out);
    assert_eq!(out.len(), message.encoded_len());
    encode_hex(&out)
}

fn assert_golden(golden: &Value, message: &Message) {
    assert_eq!(encoded(message), golden.as_str().unwrap());
    let body = Bytes::from(hex(golden));
    assert_eq!(
        Message::decode(message.message_type(), &body)
            .unwrap()
            .as_ref(),
        Some(message)
    );
}

#[test]
fn every_message_has_the_bytes_of_hypercore() {
    let wire = &vectors()["wire"];
    let sync = Synchronize {
        fork: 0,
        length: 5,
        remote_length: 0,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: true,
        allow_push: false,
    };
    let want = |any| Want {
        start: 0,
        length: 300,
        any,
    };
    let range = |drop, start, length| {
        Message::Range(Range {
            drop,
            start,
            length,
        })
    };
    assert_golden(&wire["sync"], &Message::Synchronize(sync));
    assert_golden(&wire["cancel"], &Message::Cancel(3));
    let invalid = NoData {
        request: 3,
        reason: Some(NoDataReason::InvalidRequest),
    };
    assert_golden(&wire["noData"], &Message::NoData(invalid));
    assert_golden(
        &wire["noDataPlain"],
        &Message::NoData(NoData {
            request: 3,
            reason: None,
        }),
    );
    assert_golden(&wire["want"], &Message::Want(want(false)));
    assert_golden(&wire["wantAny"], &Message::Want(want(true)));
    assert_golden(&wire["unwant"], &Message::Unwant(want(false)));
    let words = vec![1, u32::MAX];
    assert_golden(&wire["bitfield"], &Message::Bitfield { start: 0, words });
    assert_golden(&wire["range1"], &range(false, 7, 1));
    assert_golden(&wire["rangeN"], &range(false, 0, 1000));
    assert_golden(&wire["rangeDrop"], &range(true, 2, 3));
    let (name, payload) = (Bytes::from_static(b"x"), Bytes::from_static(b"hi"));
    assert_golden(&wire["extension"], &Message::Extension { name, payload });
    let handshake = Handshake {
        seeks: true,
        capability: [3; 32],
    };
    assert_eq!(
        encode_hex(&handshake.encode()),
        wire["handshake"].as_str().unwrap()
    );
    assert_eq!(Handshake::decode(&hex(&wire["handshake"])), Ok(handshake));
}

fn node(value: &Value) -> Node {
    Node {
        index: value["index"].as_u64().unwrap(),
        size: value["size"].as_u64().unwrap(),
        hash: Hash(fixed(&value["hash"])),
    }
}

fn nodes(value: &Value) -> Vec<Node> {
    value.as_array().unwrap().iter().map(node).collect()
}

fn present<'a>(value: &'a Value, part: &str) -> Option<&'a Value> {
    value.get(part).filter(|part| !part.is_null())
}

fn request_of(value: &Value) -> ProofRequest {
    let uint = |part: &Value, name: &str| part[name].as_u64().unwrap();
    ProofRequest {
        block: present(value, "block").map(|part| BlockRequest {
            index: uint(part, "index"),
            nodes: uint(part, "nodes"),
        }),
        hash: present(value, "hash").map(|part| HashRequest {
            index: uint(part, "index"),
            nodes: uint(part, "nodes"),
        }),
        seek: present(value, "seek").map(|part| SeekRequest {
            bytes: uint(part, "bytes"),
            padding: uint(part, "padding"),
        }),
        upgrade: present(value, "upgrade").map(|part| UpgradeRequest {
            start: uint(part, "start"),
            length: uint(part, "length"),
        }),
    }
}

fn proof_of(value: &Value) -> Proof {
    Proof {
        fork: value["fork"].as_u64().unwrap(),
        block: present(value, "block").map(|part| BlockProof {
            index: part["index"].as_u64().unwrap(),
            value: hex(&part["value"]).into(),
            nodes: nodes(&part["nodes"]),
        }),
        hash: present(value, "hash").map(|part| HashProof {
            index: part["index"].as_u64().unwrap(),
            nodes: nodes(&part["nodes"]),
        }),
        seek: present(value, "seek").map(|part| SeekProof {
            bytes: part["bytes"].as_u64().unwrap(),
            nodes: nodes(&part["nodes"]),
        }),
        upgrade: present(value, "upgrade").map(|part| UpgradeProof {
            start: part["start"].as_u64().unwrap(),
            length: part["length"].as_u64().unwrap(),
            nodes: nodes(&part["nodes"]),
            additional_nodes: nodes(&part["additionalNodes"]),
            signature: hex(&part["signature"]).into(),
        }),
        ..Proof::default()
    }
}

#[test]
fn requests_and_proofs_have_the_bytes_of_hypercore() {
    let vectors = vectors();
    let mut pairs = 0;
    for core in vectors["cores"].as_array().unwrap() {
        for pair in core["proofs"].as_array().unwrap() {
            let proof = request_of(&pair["request"]);
            let request = Request {
                id: 1,
                fork: 0,
                proof,
                manifest: false,
                priority: 0,
            };
            assert_golden(&pair["wireRequest"], &Message::Request(request));
            let data = Data {
                request: 1,
                proof: proof_of(&pair["proof"]),
                manifest: None,
            };
            assert_golden(&pair["wireData"], &Message::Data(data));
            pairs += 1;
        }
    }
    assert!(pairs >= 6, "only {pairs} pairs in the vectors");
}

#[test]
fn the_manifest_fills_the_rest_of_a_data_message() {
    let core = &vectors()["cores"][0];
    let manifest = Bytes::from(hex(&core["manifestEncoded"]));
    let body = format!("{}{}", "180700", "000100000140") + &"11".repeat(64);
    let mut bytes = decode_hex(&body).unwrap();
    // flags 24 = upgrade | manifest; request 7; fork 0; upgrade 0..1, no nodes; 64-byte signature.
    bytes.splice(3..9, [0, 1, 0, 0, 64]);
    bytes.extend_from_slice(&manifest);
    let Some(Message::Data(data)) =
        Message::decode(message_type::DATA, &Bytes::from(bytes)).unwrap()
    else {
        unreachable!("decoded as data");
    };
    assert_eq!(data.manifest, Some(manifest));
    assert_eq!(data.proof.upgrade.unwrap().signature.len(), 64);
}

#[test]
fn messages_of_other_versions_are_decoded_leniently() {
    let decode = |number, hex| Message::decode(number, &Bytes::from(decode_hex(hex).unwrap()));
    // Hypercore 10 sends a request id and nothing else.
    let plain = NoData {
        request: 9,
        reason: None,
    };
    assert_eq!(
        decode(message_type::NO_DATA, "09"),
        Ok(Some(Message::NoData(plain)))
    );
    // A later version may set flags and append fields that this build does not know.
    let Ok(Some(Message::Synchronize(sync))) = decode(message_type::SYNCHRONIZE, "fce00005000102")
    else {
        unreachable!("decoded as synchronize");
    };
    assert_eq!((sync.fork, sync.length, sync.downloading), (0xe0, 0, true));
    assert_eq!(decode(200, "ffff"), Ok(None));
    let later = NoData {
        request: 9,
        reason: Some(NoDataReason::Other(7)),
    };
    assert_eq!(
        decode(message_type::NO_DATA, "0901070000"),
        Ok(Some(Message::NoData(later)))
    );
}

#[test]
fn capability_is_that_of_hypercore() {
    let vectors = vectors();
    let section = &vectors["capability"];
    let (key, hash) = (
        FeedKey(fixed(&section["key"])),
        fixed(&section["handshakeHash"]),
    );
    for (role, name) in [
        (Role::Initiator, "initiator"),
        (Role::Responder, "responder"),
    ] {
        assert_eq!(capability(role, &key, &hash), fixed(&section[name]));
        assert!(Handshake::new(role, &key, &hash).proves(role, &key, &hash));
        assert!(!Handshake::new(role, &key, &hash).proves(role.other(), &key, &hash));
    }
}

fn frames(connection: &mut Connection) -> Vec<Bytes> {
    std::iter::from_fn(|| connection.poll_transmit()).collect()
}

#[test]
fn handshake_transcript_is_that_of_noise_handshake() {
    let vectors = vectors();
    let section = &vectors["noiseXX"];
    let config = |role, statik: &str, ephemeral: &str| {
        Config::new(
            role,
            fixed(&section[statik]),
            fixed(&section[ephemeral]),
            [0; 24],
        )
    };
    let initiator = config(
        Role::Initiator,
        "initiatorStaticSeed",
        "initiatorEphemeralSeed",
    );
    let responder = config(
        Role::Responder,
        "responderStaticSeed",
        "responderEphemeralSeed",
    );
    let mut initiator = Connection::new(Time::ZERO, initiator);
    let mut responder = Connection::new(Time::ZERO, responder);

    let first = frames(&mut initiator);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0][..3], [32, 0, 0]);
    assert_eq!(first[0][3..], hex(&section["msg1"]));

    responder.handle_bytes(Time::ZERO, &first[0]).unwrap();
    assert_eq!(responder.poll_event(), Ok(None));
    let second = frames(&mut responder);
    assert_eq!(second.len(), 1);
    assert_eq!(second[0][3..], hex(&section["msg2"]));

    initiator.handle_bytes(Time::ZERO, &second[0]).unwrap();
    let hash: [u8; 64] = fixed(&section["handshakeHash"]);
    let Ok(Some(Event::HandshakeComplete {
        hash: initiator_hash,
        ..
    })) = initiator.poll_event()
    else {
        unreachable!("the initiator is done");
    };
    assert_eq!(initiator_hash, hash);
    let third = frames(&mut initiator);
    assert_eq!(third.len(), 2);
    assert_eq!(third[0][3..], hex(&section["msg3"]));
    assert_eq!(third[1][..3], [56, 0, 0]);
    assert_eq!(third[1][3..35], hex(&section["streamIdInitiator"]));

    responder.handle_bytes(Time::ZERO, &third.concat()).unwrap();
    let Ok(Some(Event::HandshakeComplete {
        hash: responder_hash,
        ..
    })) = responder.poll_event()
    else {
        unreachable!("the responder is done");
    };
    assert_eq!(responder_hash, hash);
    let fourth = frames(&mut responder);
    assert_eq!(fourth.len(), 1);
    assert_eq!(fourth[0][3..35], hex(&section["streamIdResponder"]));
    initiator.handle_bytes(Time::ZERO, &fourth[0]).unwrap();
    assert_eq!(initiator.poll_event(), Ok(None));
    assert_eq!(responder.poll_event(), Ok(None));
}
