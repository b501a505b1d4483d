//! What clients and signal servers say to each other, and what STUN is asked.

use std::net::SocketAddr;

use bytes::Bytes;
use kinlog_feeds::{PublicKey, Time};
use kinlog_signal::ice::{IceCredential, IceServers, IceUrl};
use kinlog_signal::stun::Responder;
use kinlog_signal::{AnnouncedLimits, ClientMessage, ServerMessage, SignalKind, Topic};

pub(super) fn client_message(bytes: &[u8]) -> bool {
    let Ok(message) = ClientMessage::decode(Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    assert_eq!(ClientMessage::decode(message.encode()), Ok(message));
    true
}

pub(super) fn client_message_seeds() -> Vec<Vec<u8>> {
    let topic = Topic([3; 32]);
    let messages = [
        ClientMessage::Join {
            topic,
            client_key: PublicKey([1; 32]),
            signature: [2; 64],
            ice_servers: true,
        },
        ClientMessage::Leave { topic },
        ClientMessage::Send {
            topic,
            to: PublicKey([4; 32]),
            kind: SignalKind::Offer,
            body: Bytes::from_static(b"v=0"),
        },
        ClientMessage::Ping,
        ClientMessage::GetIceServers { topic },
    ];
    messages
        .iter()
        .map(|message| message.encode().to_vec())
        .collect()
}

pub(super) fn server_message(bytes: &[u8]) -> bool {
    let Ok(message) = ServerMessage::decode(Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    assert_eq!(ServerMessage::decode(message.encode()), Ok(message));
    true
}

pub(super) fn server_message_seeds() -> Vec<Vec<u8>> {
    let topic = Topic([3; 32]);
    let (peer, from) = (PublicKey([1; 32]), PublicKey([2; 32]));
    let messages = [
        ServerMessage::Hello {
            nonce: [9; 32],
            version: 1,
            limits: AnnouncedLimits::default(),
        },
        ServerMessage::Joined {
            topic,
            peers: vec![peer, from],
        },
        ServerMessage::PeerLeft { topic, peer },
        ServerMessage::Signal {
            topic,
            from,
            kind: SignalKind::Candidate,
            body: Bytes::from_static(b"candidate"),
        },
        ServerMessage::Pong,
        ServerMessage::IceServers {
            topic,
            servers: IceServers {
                stun: vec![IceUrl::stun("192.0.2.1", 4848)],
                turn: "turn:turn.example:443?transport=tcp"
                    .parse()
                    .into_iter()
                    .collect(),
                username: "4600:00112233".to_owned(),
                credential: IceCredential::new("fcQM6Js=".to_owned()),
                lifetime_s: 3_600,
            },
        },
    ];
    messages
        .iter()
        .map(|message| message.encode().to_vec())
        .collect()
}

pub(super) fn stun_request(bytes: &[u8]) -> bool {
    let from = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 4000));
    let Some(answer) = Responder::default().handle_datagram(Time::ZERO, from, bytes) else {
        return false;
    };
    assert!(
        answer.len() <= bytes.len() + 44,
        "the answer is as short as promised"
    );
    let stated = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
    assert_eq!(stated + 20, answer.len(), "the answer states its length");
    assert_eq!(
        answer[4..20],
        bytes[4..20],
        "the answer repeats the transaction"
    );
    let again = Responder::default().handle_datagram(Time::ZERO, from, &answer);
    assert_eq!(again, None, "two servers do not answer each other");
    true
}

pub(super) fn stun_request_seeds() -> Vec<Vec<u8>> {
    let request = |attributes: &[u8]| {
        let mut bytes = vec![0, 1, 0, u8::try_from(attributes.len()).unwrap_or(u8::MAX)];
        bytes.extend([0x21, 0x12, 0xa4, 0x42]);
        bytes.extend(1..=12);
        bytes.extend(attributes);
        bytes
    };
    let sample = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74\
        002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020\
        000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
    vec![
        request(&[]),
        request(&[0x80, 0x22, 0, 3, b'k', b'l', b'2', 0]),
        request(&[0x00, 0x03, 0, 4, 0, 0, 0, 6]),
        kinlog_feeds::text::decode_hex(sample).unwrap_or_default(),
    ]
}
