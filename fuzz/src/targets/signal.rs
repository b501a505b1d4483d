//! What clients and signal servers say to each other.

use bytes::Bytes;
use kinlog_feeds::PublicKey;
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
        },
        ClientMessage::Leave { topic },
        ClientMessage::Send {
            topic,
            to: PublicKey([4; 32]),
            kind: SignalKind::Offer,
            body: Bytes::from_static(b"v=0"),
        },
        ClientMessage::Ping,
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
    ];
    messages
        .iter()
        .map(|message| message.encode().to_vec())
        .collect()
}
