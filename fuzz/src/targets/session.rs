//! What the channel of a session carries for the agent.

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::Hash;
use kinlog_swarm::{PeerMessage, SeedClearing};

pub(super) fn peer_message(bytes: &[u8]) -> bool {
    let Ok(Some(message)) = PeerMessage::decode(Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let encoded = Bytes::from(message.clone().encode());
    assert_eq!(PeerMessage::decode(encoded), Ok(Some(message)));
    true
}

/// One of each kind.
pub(super) fn peer_message_seeds() -> Vec<Vec<u8>> {
    let (hash, bytes) = (Hash([3; 32]), Bytes::from_static(b"any bytes"));
    let cleared = SeedClearing::of(FeedKey([7; 32]), &[0..3, 5..6, 900..70_000]);
    let cleared = cleared.into_iter().map(PeerMessage::SeedCleared);
    let others = [
        PeerMessage::IdentityOffer { hash },
        PeerMessage::IdentityGet,
        PeerMessage::IdentitySet {
            bytes: bytes.clone(),
        },
        PeerMessage::JoinRequest {
            bytes: bytes.clone(),
        },
        PeerMessage::JoinResponse {
            bytes: bytes.clone(),
        },
        PeerMessage::Room {
            bytes: bytes.clone(),
        },
        PeerMessage::SeedProof {
            grant: bytes.clone(),
            identity_set: bytes.clone(),
        },
        PeerMessage::SeedRenewal {
            grant: bytes.clone(),
        },
        PeerMessage::SeedEnd { hash },
        PeerMessage::SignInGet { after: 300 },
        PeerMessage::SignInRecord { bytes },
    ];
    others
        .into_iter()
        .chain(cleared)
        .map(PeerMessage::encode)
        .collect()
}
