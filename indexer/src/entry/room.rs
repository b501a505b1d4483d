//! How a room begins and who is in it.

use bytes::Bytes;
use kinlog_feeds::crypto::{
    AgentId, DeviceKey, FeedKey, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError, blake2b_256,
    namespace, verify,
};
use kinlog_feeds::encoding::Writer;
use prost::Message as _;

use crate::entry::BodyError;
use crate::entry::body::{fixed, text};
use crate::generated::kinlog_entry_v0 as wire;
use crate::identity::{Device, IdentityError, IdentitySet};
use crate::limits::{IDENTITY_SET_BYTES_MAX, NAME_BYTES_MAX};
use crate::{RoomId, Text};

/// What those who join later may read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum History {
    /// Everything.
    Full,
    /// What is written after they joined.
    FromJoin,
    /// The last so many days.
    Days(u32),
}

/// What a member may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Reads, writes, admits.
    Member,
    /// Made the room.
    Owner,
}

impl Role {
    /// Returns the word that `index.db` and people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Owner => "owner",
        }
    }
}

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
    /// The device did not sign for these feeds in this room.
    #[error("claim of device {device} to its feeds in room {room}")]
    Claim {
        room: RoomId,
        device: DeviceKey,
        source: SignatureError,
    },
}

/// One device of an agent in a room, with its two feeds there.
///
/// The device signs for both feeds, and the agent's identity set for the device; so nobody is
/// made a member with feeds that are not theirs.
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
    /// Its blobs feed in the room.
    pub blobs_feed: FeedKey,
    /// The device's signature over room, agent and feeds.
    pub claim: [u8; SIGNATURE_BYTES],
}

impl Membership {
    /// Makes and signs the membership of the own device `device` in `room`.
    pub fn sign(
        room: &RoomId,
        agent: AgentId,
        identity_set: Bytes,
        device: &KeyPair,
        entries_feed: FeedKey,
        blobs_feed: FeedKey,
    ) -> Self {
        let mut membership = Membership {
            agent,
            identity_set,
            device: DeviceKey(device.public_key().0),
            entries_feed,
            blobs_feed,
            claim: [0; SIGNATURE_BYTES],
        };
        membership.claim = device.sign(&membership.claim_bytes(room));
        membership
    }

    /// Verifies that the agent has the device and the device claims the feeds in `room`.
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
        let mut out = Vec::with_capacity(6 * 32);
        out.put_raw(&namespace::ROOM_CLAIM.hash());
        out.put_raw(room.as_bytes());
        out.put_raw(self.agent.as_bytes());
        out.put_raw(self.device.as_bytes());
        out.put_raw(self.entries_feed.as_bytes());
        out.put_raw(self.blobs_feed.as_bytes());
        out
    }
}

/// The first entry of the owner's room feed; everything but the claim makes the room's id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Genesis {
    /// Name of the room.
    pub name: Text<NAME_BYTES_MAX>,
    /// What later members may read.
    pub history: History,
    /// Makes the id unguessable and unique.
    pub random: [u8; 32],
    /// The owner and the device that made the room.
    pub owner: Membership,
}

impl Genesis {
    /// Makes a room of the own device `device`; `random` is 32 fresh random bytes.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one field of the genesis"
    )]
    pub fn sign(
        name: Text<NAME_BYTES_MAX>,
        history: History,
        random: [u8; 32],
        agent: AgentId,
        identity_set: Bytes,
        device: &KeyPair,
        entries_feed: FeedKey,
        blobs_feed: FeedKey,
    ) -> (Self, RoomId) {
        let owner = Membership {
            agent,
            identity_set,
            device: DeviceKey(device.public_key().0),
            entries_feed,
            blobs_feed,
            claim: [0; SIGNATURE_BYTES],
        };
        let mut genesis = Genesis {
            name,
            history,
            random,
            owner,
        };
        let room = genesis.room_id();
        genesis.owner.claim = device.sign(&genesis.owner.claim_bytes(&room));
        (genesis, room)
    }

    /// Returns the room's id: `H(NS("genesis") || name || history || random || owner)`, the owner
    /// as agent, identity set hash, device and feeds.
    pub fn room_id(&self) -> RoomId {
        let (history, days) = history_numbers(self.history);
        let mut out = Vec::with_capacity(512);
        out.put_raw(&namespace::GENESIS.hash());
        out.put_buffer(self.name.as_bytes());
        out.push(history);
        out.put_raw(&days.to_le_bytes());
        out.put_raw(&self.random);
        out.put_raw(self.owner.agent.as_bytes());
        out.put_raw(&IdentitySet::hash_of(&self.owner.identity_set).0);
        out.put_raw(self.owner.device.as_bytes());
        out.put_raw(self.owner.entries_feed.as_bytes());
        out.put_raw(self.owner.blobs_feed.as_bytes());
        RoomId(blake2b_256(&[&out]))
    }
}

/// A member lets a device in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admit {
    /// Who is let in.
    pub member: Membership,
    /// As what.
    pub role: Role,
}

/// Whoever holds the seed of `public_key` may be admitted, by any member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Invite {
    /// Public key of the invitation's own key pair.
    pub public_key: PublicKey,
}

impl TryFrom<wire::Invite> for Invite {
    type Error = BodyError;

    fn try_from(body: wire::Invite) -> Result<Self, BodyError> {
        let public_key = PublicKey(fixed("public_key", &body.public_key)?);
        Ok(Invite { public_key })
    }
}

impl From<&Invite> for wire::Invite {
    fn from(body: &Invite) -> Self {
        let public_key = body.public_key.0.to_vec().into();
        wire::Invite { public_key }
    }
}

fn history_numbers(history: History) -> (u8, u32) {
    match history {
        History::Full => (0, 0),
        History::FromJoin => (1, 0),
        History::Days(days) => (2, days),
    }
}

impl TryFrom<wire::Membership> for Membership {
    type Error = BodyError;

    fn try_from(body: wire::Membership) -> Result<Self, BodyError> {
        let actual = body.identity_set.len();
        if actual > IDENTITY_SET_BYTES_MAX {
            let (field, expected) = ("identity_set", IDENTITY_SET_BYTES_MAX);
            return Err(BodyError::Length {
                field,
                expected,
                actual,
            });
        }
        Ok(Membership {
            agent: AgentId(fixed("agent", &body.agent)?),
            // A copy: a slice would keep the whole block alive for as long as the membership.
            identity_set: Bytes::copy_from_slice(&body.identity_set),
            device: DeviceKey(fixed("device_key", &body.device_key)?),
            entries_feed: FeedKey(fixed("entries_feed", &body.entries_feed)?),
            blobs_feed: FeedKey(fixed("blobs_feed", &body.blobs_feed)?),
            claim: fixed("claim", &body.claim)?,
        })
    }
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
        }
    }
}

impl TryFrom<wire::Genesis> for Genesis {
    type Error = BodyError;

    fn try_from(body: wire::Genesis) -> Result<Self, BodyError> {
        let history = match (body.history, body.history_days) {
            (0, 0) => History::Full,
            (1, 0) => History::FromJoin,
            (2, days) => History::Days(days),
            (other, _) => {
                return Err(BodyError::Value {
                    field: "history",
                    actual: u64::from(other),
                });
            }
        };
        Ok(Genesis {
            name: text("name", body.name)?,
            history,
            random: fixed("random", &body.random)?,
            owner: body
                .owner
                .ok_or(BodyError::Missing { field: "owner" })?
                .try_into()?,
        })
    }
}

impl From<&Genesis> for wire::Genesis {
    fn from(body: &Genesis) -> Self {
        let (history, history_days) = history_numbers(body.history);
        wire::Genesis {
            name: body.name.to_string(),
            history: u32::from(history),
            history_days,
            random: body.random.to_vec().into(),
            owner: Some((&body.owner).into()),
        }
    }
}

impl TryFrom<wire::Admit> for Admit {
    type Error = BodyError;

    fn try_from(body: wire::Admit) -> Result<Self, BodyError> {
        let role = match body.role {
            0 => Role::Member,
            1 => Role::Owner,
            other => {
                return Err(BodyError::Value {
                    field: "role",
                    actual: u64::from(other),
                });
            }
        };
        let member = body
            .member
            .ok_or(BodyError::Missing { field: "member" })?
            .try_into()?;
        Ok(Admit { member, role })
    }
}

impl From<&Admit> for wire::Admit {
    fn from(body: &Admit) -> Self {
        let role = match body.role {
            Role::Member => 0,
            Role::Owner => 1,
        };
        wire::Admit {
            member: Some((&body.member).into()),
            role,
        }
    }
}
