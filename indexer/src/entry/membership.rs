//! One device of an agent in a room: everything that has to agree before it is one.

use bytes::Bytes;
use kinlog_feeds::crypto::{
    AgentId, DeviceKey, FeedKey, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError,
    namespace::{self, Namespace},
    verify,
};
use kinlog_feeds::encoding::Writer;
use kinlog_feeds::manifest::Manifest;
use prost::Message as _;

use crate::RoomId;
use crate::entry::BodyError;
use crate::entry::body::fixed;
use crate::entry::claim::{ClaimScope, FeedClaim, FeedClaimError};
use crate::generated::kinlog_entry_v1 as wire;
use crate::identity::{Device, IdentityError, IdentitySet};
use crate::limits::IDENTITY_SET_BYTES_MAX;

/// A membership that its own agent and device do not vouch for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// The identity set does not hold.
    #[error("identity set of {agent}")]
    Identity {
        agent: AgentId,
        source: IdentityError,
    },
    /// The identity set does not know the device.
    #[error("agent {agent} has no device {device}")]
    UnknownDevice { agent: AgentId, device: DeviceKey },
    /// The device may not write: it lacks the power, or a directory.
    #[error("device {device} of agent {agent} may not write")]
    NoWriter { agent: AgentId, device: DeviceKey },
    /// The device did not sign for these feeds in this room.
    #[error("claim of device {device} to its feeds in room {room}")]
    Claim {
        room: RoomId,
        device: DeviceKey,
        source: SignatureError,
    },
    /// A feed does not say that it is the device's.
    #[error("feed of the membership")]
    Feed(#[from] FeedClaimError),
}

/// One device of an agent in a room, with its two feeds there.
///
/// The device signs for both feeds, each feed for the device, and the agent's identity set for the
/// device; so nobody is made a member with feeds that are not theirs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Membership {
    /// The member.
    pub agent: AgentId,
    /// The member's encoded [`IdentitySet`].
    pub identity_set: Bytes,
    /// The device.
    pub device: DeviceKey,
    /// Its entries feed in the room.
    pub entries_feed: FeedKey,
    /// That feed's word that it is the device's.
    pub entries_claim: FeedClaim,
    /// Its blobs feed in the room.
    pub blobs_feed: FeedKey,
    /// That feed's word that it is the device's.
    pub blobs_claim: FeedClaim,
    /// The device's signature over room, agent, feeds and the hash of the identity set.
    pub claim: [u8; SIGNATURE_BYTES],
}

impl Membership {
    /// Makes and signs the membership of the own device `device` in `room`, with the key pairs of
    /// its two feeds there.
    pub fn sign(
        room: &RoomId,
        agent: AgentId,
        identity_set: Bytes,
        device: &KeyPair,
        entries: &KeyPair,
        blobs: &KeyPair,
    ) -> Self {
        let scope = ClaimScope::Room(*room);
        let key = DeviceKey(device.public_key().0);
        let claim = |feed| FeedClaim::sign(feed, &scope, &agent, &key);
        let mut membership = Membership {
            agent,
            identity_set,
            device: key,
            entries_feed: Manifest::single(entries.public_key()).key(),
            entries_claim: claim(entries),
            blobs_feed: Manifest::single(blobs.public_key()).key(),
            blobs_claim: claim(blobs),
            claim: [0; SIGNATURE_BYTES],
        };
        membership.claim = device.sign(&membership.claim_bytes(room));
        membership
    }

    /// Verifies that the agent has the device, and that device and feeds claim each other in `room`.
    pub fn verify(&self, room: &RoomId) -> Result<Device, MembershipError> {
        let identity = IdentitySet::decode(&self.identity_set)
            .and_then(|set| set.verify(&self.agent))
            .map_err(|source| MembershipError::Identity {
                agent: self.agent,
                source,
            })?;
        let device =
            identity
                .device(&self.device)
                .cloned()
                .ok_or(MembershipError::UnknownDevice {
                    agent: self.agent,
                    device: self.device,
                })?;
        if !device.writes() {
            let (agent, device) = (self.agent, self.device);
            return Err(MembershipError::NoWriter { agent, device });
        }
        verify(
            &PublicKey(self.device.0),
            &self.claim_bytes(room),
            &self.claim,
        )
        .map_err(|source| MembershipError::Claim {
            room: *room,
            device: self.device,
            source,
        })?;
        let scope = ClaimScope::Room(*room);
        let feeds = [
            (&self.entries_feed, &self.entries_claim),
            (&self.blobs_feed, &self.blobs_claim),
        ];
        for (feed, claim) in feeds {
            claim.verify(feed, &scope, &self.agent, &self.device)?;
        }
        Ok(device)
    }

    /// Encodes the membership as a join request carries it.
    pub fn encode(&self) -> Bytes {
        wire::Membership::from(self).encode_to_vec().into()
    }

    /// Decodes what [`encode`](Self::encode) wrote; verifies nothing.
    pub fn decode(bytes: &Bytes) -> Result<Self, BodyError> {
        wire::Membership::decode(bytes.clone())
            .map_err(|error| BodyError::Protobuf {
                tag: 0,
                reason: error.to_string(),
            })?
            .try_into()
    }

    fn claim_bytes(&self, room: &RoomId) -> Vec<u8> {
        self.named_bytes(namespace::ROOM_CLAIM, room)
    }

    /// Returns what the key of an invite signs: `NS("join-request") || room || agent || device ||
    /// entries feed || blobs feed || hash of the identity set`. The device signs the same under
    /// `NS("room-claim")`: so nobody puts an older set, or another spelling of it, in its place.
    pub(super) fn join_bytes(&self, room: &RoomId) -> Vec<u8> {
        self.named_bytes(namespace::JOIN_REQUEST, room)
    }

    fn named_bytes(&self, namespace: Namespace, room: &RoomId) -> Vec<u8> {
        let mut out = Vec::with_capacity(7 * 32);
        out.put_raw(&namespace.hash());
        out.put_raw(room.as_bytes());
        out.put_raw(self.agent.as_bytes());
        out.put_raw(self.device.as_bytes());
        out.put_raw(self.entries_feed.as_bytes());
        out.put_raw(self.blobs_feed.as_bytes());
        out.put_raw(&IdentitySet::hash_of(&self.identity_set).0);
        out
    }
}

impl TryFrom<wire::Membership> for Membership {
    type Error = BodyError;

    fn try_from(body: wire::Membership) -> Result<Self, BodyError> {
        Ok(Membership {
            agent: AgentId(fixed("agent", &body.agent)?),
            identity_set: identity_set(&body.identity_set)?,
            device: DeviceKey(fixed("device_key", &body.device_key)?),
            entries_feed: FeedKey(fixed("entries_feed", &body.entries_feed)?),
            entries_claim: body
                .entries_claim
                .ok_or(BodyError::Missing {
                    field: "entries_claim",
                })?
                .try_into()?,
            blobs_feed: FeedKey(fixed("blobs_feed", &body.blobs_feed)?),
            blobs_claim: body
                .blobs_claim
                .ok_or(BodyError::Missing {
                    field: "blobs_claim",
                })?
                .try_into()?,
            claim: fixed("claim", &body.claim)?,
        })
    }
}

/// Returns an identity set that an act carries: a copy, since a slice would keep the whole block alive for
/// as long as the act.
pub(super) fn identity_set(bytes: &Bytes) -> Result<Bytes, BodyError> {
    let actual = bytes.len();
    if actual > IDENTITY_SET_BYTES_MAX {
        return Err(BodyError::Length {
            field: "identity_set",
            expected: IDENTITY_SET_BYTES_MAX,
            actual,
        });
    }
    Ok(Bytes::copy_from_slice(bytes))
}

impl From<&Membership> for wire::Membership {
    fn from(body: &Membership) -> Self {
        wire::Membership {
            agent: body.agent.0.to_vec().into(),
            identity_set: body.identity_set.clone(),
            device_key: body.device.0.to_vec().into(),
            entries_feed: body.entries_feed.0.to_vec().into(),
            blobs_feed: body.blobs_feed.0.to_vec().into(),
            claim: body.claim.to_vec().into(),
            entries_claim: Some((&body.entries_claim).into()),
            blobs_claim: Some((&body.blobs_claim).into()),
        }
    }
}
