//! What is done in a room that decides who is in it and what counts.
//!
//! Acts name the acts their author had seen, so that authority is decided from them alone
//! (`docs/design/0015-identity-and-authority.md`, "Rooms: acts").

use std::fmt;

use kinlog_feeds::crypto::{
    AgentId, DeviceKey, FeedKey, Hash, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError,
    blake2b_256, namespace, verify,
};
use kinlog_feeds::text;

use crate::entry::{Cut, Genesis, Membership, NewerGenesis, Tombstone, tag};
use crate::limits::{REASON_BYTES_MAX, ROOM_ACT_PARENTS_MAX};
use crate::seal::{EpochCommitment, EpochId, SEALED_SECRET_BYTES};
use crate::{RoomId, Text};

/// The name of an act: `H(NS("act-hash") || room || feed key || u64 index || entry)`.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ActHash(pub [u8; 32]);

impl ActHash {
    /// Returns the name of the act that stands at block `index` of `feed` in `room` as `entry`,
    /// which is the plain entry from its version byte on.
    pub fn of(room: &RoomId, feed: &FeedKey, index: u64, entry: &[u8]) -> Self {
        ActHash(blake2b_256(&[
            &namespace::ACT_HASH.hash(),
            room.as_bytes(),
            feed.as_bytes(),
            &index.to_le_bytes(),
            entry,
        ]))
    }

    /// Returns the raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ActHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(&self.0))
    }
}

impl fmt::Debug for ActHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActHash({})", &self.to_string()[..8])
    }
}

/// What a member may do, from least to most.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Reads and writes.
    Guest,
    /// Also invites, and admits who was invited.
    Member,
    /// Also admits without an invite, removes, gives roles up to its own.
    Admin,
    /// Also over other owners; there is always one.
    Owner,
}

impl Role {
    /// Every role, from least to most.
    pub const ALL: [Role; 4] = [Role::Guest, Role::Member, Role::Admin, Role::Owner];

    /// Returns the word that `index.db` and people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Guest => "guest",
            Role::Member => "member",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }
}

/// The heads of the acts that an author had seen, ascending and each once, at most
/// [`ROOM_ACT_PARENTS_MAX`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parents(Vec<ActHash>);

impl Parents {
    /// Takes hashes in any order; of more than fit the first by hash are kept, the own previous
    /// act must be among them and is given apart.
    pub fn new(heads: impl IntoIterator<Item = ActHash>, own: Option<ActHash>) -> Self {
        let mut all: Vec<ActHash> = heads
            .into_iter()
            .filter(|hash| Some(*hash) != own)
            .collect();
        all.sort_unstable();
        all.dedup();
        all.truncate(ROOM_ACT_PARENTS_MAX - usize::from(own.is_some()));
        all.extend(own);
        all.sort_unstable();
        Parents(all)
    }

    /// Takes hashes that are in order already; `None` where they are not, or are too many.
    pub fn from_canonical(hashes: Vec<ActHash>) -> Option<Self> {
        let in_order = hashes.windows(2).all(|pair| pair[0] < pair[1]);
        (in_order && hashes.len() <= ROOM_ACT_PARENTS_MAX).then_some(Parents(hashes))
    }

    /// Returns the hashes.
    pub fn as_slice(&self) -> &[ActHash] {
        &self.0
    }
}

/// An act: what was seen, and what is done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Act {
    /// What its author had seen; nothing for the genesis.
    pub parents: Parents,
    /// How many authorised acts its feed has before it.
    pub seq: u64,
    /// What is done.
    pub deed: Deed,
}

/// What an act does.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Deed {
    /// The room begins.
    Genesis(Genesis),
    /// A room begins whose acts are decided by other rules than this build has.
    NewerGenesis(NewerGenesis),
    /// An agent becomes a member, with its first device.
    Admit(Admit),
    /// Whoever holds the seed of a key may be admitted.
    Invite(Invite),
    /// A member gets another role.
    Role(RoleChange),
    /// A member is removed.
    Remove(Remove),
    /// The author's agent leaves.
    Leave(Leave),
    /// Another device of the author's agent.
    DeviceJoin(DeviceJoin),
    /// A device is its agent's no more.
    DeviceRevoke(DeviceRevoke),
    /// Nobody is admitted by an invite any more.
    InviteRevoke(InviteRevoke),
    /// A new epoch.
    Epoch(Epoch),
    /// A seeder may keep the room's feeds.
    Grant(Grant),
    /// It may no more.
    GrantRevoke(GrantRevoke),
    /// What others said is deleted.
    Delete(Tombstone),
}

impl Deed {
    /// Returns the body tag.
    pub const fn tag(&self) -> u64 {
        match self {
            Deed::Genesis(_) | Deed::NewerGenesis(_) => tag::GENESIS,
            Deed::Admit(_) => tag::ADMIT,
            Deed::Invite(_) => tag::INVITE,
            Deed::Role(_) => tag::ROLE,
            Deed::Remove(_) => tag::REMOVE,
            Deed::Leave(_) => tag::LEAVE,
            Deed::DeviceJoin(_) => tag::DEVICE_JOIN,
            Deed::DeviceRevoke(_) => tag::DEVICE_REVOKE,
            Deed::InviteRevoke(_) => tag::INVITE_REVOKE,
            Deed::Epoch(_) => tag::EPOCH,
            Deed::Grant(_) => tag::GRANT,
            Deed::GrantRevoke(_) => tag::GRANT_REVOKE,
            Deed::Delete(_) => tag::DELETE,
        }
    }
}

/// The invite by which somebody is admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InviteUse {
    /// The invite's public key.
    pub public_key: PublicKey,
    /// The act that made the invite. Whoever asks to join does not know it; whoever admits does.
    pub act: ActHash,
    /// The join request's signature by the invite's key.
    pub signature: [u8; SIGNATURE_BYTES],
}

impl InviteUse {
    /// Signs that whoever holds the invite asks to be let into `room` as `member`; which act made
    /// the invite is for the member to say who admits.
    pub fn sign(invite: &KeyPair, room: &RoomId, member: &Membership) -> Self {
        InviteUse {
            public_key: invite.public_key(),
            act: ActHash::default(),
            signature: invite.sign(&member.join_bytes(room)),
        }
    }

    /// Verifies that the invite's key asked to let `member` into `room`.
    pub fn verify(&self, room: &RoomId, member: &Membership) -> Result<(), SignatureError> {
        verify(&self.public_key, &member.join_bytes(room), &self.signature)
    }
}

/// An agent becomes a member, with its first device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admit {
    /// Who is let in.
    pub member: Membership,
    /// As what.
    pub role: Role,
    /// By which invite.
    pub invite: Option<InviteUse>,
    /// Epochs whose secrets the device was given.
    pub epochs: Vec<EpochId>,
}

/// Whoever holds the seed of `public_key` may be admitted, by any member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Invite {
    /// Public key of the invitation's own key pair.
    pub public_key: PublicKey,
    /// As what.
    pub role: Role,
    /// Clock after which nobody is admitted by it, ms; `None`: never.
    pub expires_at_ms: Option<u64>,
    /// How many are admitted by it; `None`: without limit.
    pub uses: Option<u32>,
}

/// A member gets another role.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoleChange {
    /// The member.
    pub agent: AgentId,
    /// Its role from now on.
    pub role: Role,
}

/// A member is removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remove {
    /// The member.
    pub agent: AgentId,
    /// How much of its feeds is accepted; nothing of those not named.
    pub cuts: Vec<Cut>,
    /// Why, for people.
    pub reason: Text<REASON_BYTES_MAX>,
}

/// The author's agent leaves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Leave {
    /// How much of its feeds it wants accepted; nothing of those not named.
    pub cuts: Vec<Cut>,
}

/// Another device of the author's agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceJoin {
    /// The device.
    pub device: Membership,
    /// Epochs whose secrets it was given.
    pub epochs: Vec<EpochId>,
}

/// A device is its agent's no more, as the identity set says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceRevoke {
    /// The agent.
    pub agent: AgentId,
    /// Its device.
    pub device: DeviceKey,
    /// The agent's encoded identity set, which revokes the device.
    pub identity_set: bytes::Bytes,
    /// How much of its feeds is accepted; nothing of those not named.
    pub cuts: Vec<Cut>,
}

/// Nobody is admitted by this invite any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InviteRevoke {
    /// Public key of the invite.
    pub public_key: PublicKey,
    /// The act that made it.
    pub act: ActHash,
}

/// An epoch secret sealed to one device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochCopy {
    /// The device.
    pub device: DeviceKey,
    /// The secret, as [`seal_to_device`](crate::seal::seal_to_device) made it.
    pub sealed: [u8; SEALED_SECRET_BYTES],
}

/// A new epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Epoch {
    /// Commits to its content key.
    pub id: EpochId,
    /// Commits to its act key.
    pub act_id: EpochId,
    /// Commits to its secret.
    pub commitment: EpochCommitment,
    /// The epochs before it.
    pub parents: Vec<EpochId>,
    /// Its secret, for each device of a member.
    pub copies: Vec<EpochCopy>,
}

/// A seeder may keep the room's feeds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant {
    /// The seeder's agent.
    pub seeder: AgentId,
    /// Clock after which it may no more, ms.
    pub expires_at_ms: u64,
    /// What it may take of the seeder's space; the seeder knows what the classes mean.
    pub quota_class: u8,
    /// Hash of the grant's bytes.
    pub hash: Hash,
}

/// A grant ends before it expires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GrantRevoke {
    /// Hash of the grant's bytes.
    pub hash: Hash,
}
