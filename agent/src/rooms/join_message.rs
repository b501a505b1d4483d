//! What the joiner and the member who admits say to each other. Format 0, inside a session that
//! both sides' certificates are bound to.
//!
//! Request: `u16 revision | room 32 | uint length, membership | signature by the invite key 64`; the
//! membership carries the device's own signature. Signed is
//! `NS("join-request") || room || agent || device || entries feed || blobs feed`.
//! Response: `u16 revision | room 32 | sealed epoch secret 81 | uint n <= 512 | n x (feed 32 |
//! agent 32 | device 32 | u8 content)`, content 0 entries, 1 bytes.

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, KeyPair, PublicKey, SignatureError};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_indexer::FORMAT_0_REVISION;
use kinlog_indexer::entry::{BodyError, InviteUse, Membership, MembershipError};
use kinlog_indexer::seal::SEALED_SECRET_BYTES;
use kinlog_swarm::limits::JOIN_BYTES_MAX;

use crate::limits::ROOM_FEEDS_MAX;
use crate::rooms::RoomId;
use crate::state::RoomFeed;

/// A join message that is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum JoinError {
    #[error("join message")]
    Decode(#[from] DecodeError),
    #[error("join message of preview format {actual}, this build has {expected}")]
    OtherRevision { expected: u16, actual: u16 },
    #[error("membership in the join request")]
    Body(#[from] BodyError),
    #[error("membership in the join request")]
    Membership(#[from] MembershipError),
    #[error("join request for another room")]
    OtherRoom,
    #[error("join request is not signed by the invite")]
    Invite(#[from] SignatureError),
}

/// Asks to be let into a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct JoinRequest {
    pub(super) room: RoomId,
    pub(super) membership: Membership,
    pub(super) invite: InviteUse,
}

impl JoinRequest {
    pub(super) fn sign(room: RoomId, membership: Membership, invite: &KeyPair) -> Self {
        let invite = InviteUse::sign(invite, &room, &membership);
        JoinRequest {
            room,
            membership,
            invite,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = FORMAT_0_REVISION.to_le_bytes().to_vec();
        out.put_raw(self.room.as_bytes());
        out.put_buffer(&self.membership.encode());
        out.put_raw(&self.invite.signature);
        out.into()
    }

    /// Decodes and verifies a request for `room` by the invite `invite`.
    pub(super) fn verify(
        bytes: &Bytes,
        room: &RoomId,
        invite: &PublicKey,
    ) -> Result<JoinRequest, JoinError> {
        let mut reader = Reader::new(bytes);
        check_revision(&mut reader)?;
        let actual = RoomId(reader.fixed()?);
        if actual != *room {
            return Err(JoinError::OtherRoom);
        }
        let encoded = Bytes::copy_from_slice(reader.buffer("membership", JOIN_BYTES_MAX)?);
        let signature = reader.fixed()?;
        reader.finish()?;
        let membership = Membership::decode(&encoded)?;
        let invite = InviteUse {
            public_key: *invite,
            signature,
        };
        invite.verify(room, &membership)?;
        membership.verify(room)?;
        Ok(JoinRequest {
            room: *room,
            membership,
            invite,
        })
    }
}

/// Lets a device into a room: the epoch secret for it alone, and where the members' feeds are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct JoinResponse {
    pub(super) room: RoomId,
    pub(super) secret: [u8; SEALED_SECRET_BYTES],
    pub(super) feeds: Vec<RoomFeed>,
}

impl JoinResponse {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = FORMAT_0_REVISION.to_le_bytes().to_vec();
        out.put_raw(self.room.as_bytes());
        out.put_raw(&self.secret);
        let feeds = &self.feeds[..self.feeds.len().min(ROOM_FEEDS_MAX)];
        out.put_uint(feeds.len() as u64);
        for feed in feeds {
            out.put_raw(feed.key.as_bytes());
            out.put_raw(feed.agent.as_bytes());
            out.put_raw(feed.device.as_bytes());
            out.push(u8::from(!feed.is_entries));
        }
        out.into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<JoinResponse, JoinError> {
        let mut reader = Reader::new(bytes);
        check_revision(&mut reader)?;
        let room = RoomId(reader.fixed()?);
        let secret = reader.fixed()?;
        let count = reader.uint_max("feeds of the room", ROOM_FEEDS_MAX)?;
        let mut feeds = Vec::with_capacity(count);
        for _ in 0..count {
            let key = FeedKey(reader.fixed()?);
            let agent = AgentId(reader.fixed()?);
            let device = DeviceKey(reader.fixed()?);
            let at = reader.position();
            let is_entries = match reader.u8()? {
                0 => true,
                1 => false,
                other => {
                    let actual = u64::from(other);
                    return Err(DecodeError::UnknownValue {
                        what: "content",
                        at,
                        actual,
                    }
                    .into());
                }
            };
            feeds.push(RoomFeed {
                key,
                agent,
                device,
                is_entries,
            });
        }
        reader.finish()?;
        Ok(JoinResponse {
            room,
            secret,
            feeds,
        })
    }
}

fn check_revision(reader: &mut Reader<'_>) -> Result<(), JoinError> {
    let actual = u16::from_le_bytes(reader.fixed()?);
    if actual != FORMAT_0_REVISION {
        return Err(JoinError::OtherRevision {
            expected: FORMAT_0_REVISION,
            actual,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kinlog_indexer::identity::{DeviceCard, IdentitySet, Powers};

    use super::*;

    const ROOM: RoomId = RoomId([3; 32]);

    fn request(invite: &KeyPair) -> JoinRequest {
        let root = KeyPair::from_seed(&[1; 32]);
        let device = KeyPair::from_seed(&[2; 32]);
        let agent = AgentId(root.public_key().0);
        let (directory, none) = (FeedKey([5; 32]), FeedKey([0; 32]));
        let card = DeviceCard::sign(&agent, &device, [4; 32], directory, none);
        let name = "laptop".try_into().expect("short");
        let set = IdentitySet::begin(&root, card, Powers::ALL, name).encode();
        let (entries, blobs) = (KeyPair::from_seed(&[6; 32]), KeyPair::from_seed(&[7; 32]));
        let membership = Membership::sign(&ROOM, agent, set, &device, &entries, &blobs);
        JoinRequest::sign(ROOM, membership, invite)
    }

    #[test]
    fn a_request_holds_for_its_room_and_invite_only() {
        let invite = KeyPair::from_seed(&[8; 32]);
        let request = request(&invite);
        let bytes = request.encode();
        let public = invite.public_key();
        assert_eq!(JoinRequest::verify(&bytes, &ROOM, &public), Ok(request));
        let other = KeyPair::from_seed(&[9; 32]).public_key();
        assert!(matches!(
            JoinRequest::verify(&bytes, &ROOM, &other),
            Err(JoinError::Invite(_))
        ));
        assert_eq!(
            JoinRequest::verify(&bytes, &RoomId([4; 32]), &public),
            Err(JoinError::OtherRoom)
        );
    }

    #[test]
    fn every_altered_or_lost_byte_of_a_request_is_noticed() {
        let invite = KeyPair::from_seed(&[8; 32]);
        let bytes = request(&invite).encode();
        for at in 0..bytes.len() {
            let mut altered = bytes.to_vec();
            altered[at] ^= 1;
            let public = invite.public_key();
            assert!(
                JoinRequest::verify(&altered.into(), &ROOM, &public).is_err(),
                "{at}"
            );
            assert!(
                JoinRequest::verify(&bytes.slice(..at), &ROOM, &public).is_err(),
                "{at}"
            );
        }
    }

    #[test]
    fn responses_round_trip_and_lost_bytes_are_noticed() {
        let feed = |key: u8, is_entries| RoomFeed {
            key: FeedKey([key; 32]),
            agent: AgentId([1; 32]),
            device: DeviceKey([2; 32]),
            is_entries,
        };
        let response = JoinResponse {
            room: ROOM,
            secret: [9; SEALED_SECRET_BYTES],
            feeds: vec![feed(1, true), feed(2, false)],
        };
        let bytes = response.encode();
        assert_eq!(JoinResponse::decode(&bytes), Ok(response));
        for at in 0..bytes.len() {
            assert!(JoinResponse::decode(&bytes.slice(..at)).is_err(), "{at}");
        }
    }
}
