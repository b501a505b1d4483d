//! An act as it is held: where it stands, and what of it matters here.

use std::cmp::Reverse;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, PublicKey};

use crate::RoomId;
use crate::entry::{
    Act, ActHash, Cut, Deed, Genesis, Grant, History, Invite, Membership, Role, RoleChange,
};
use crate::identity::{IdentitySet, VerifiedSet};
use crate::seal::{EpochCommitment, EpochId};

/// An act of a room, with the verdict on what it carries.
#[derive(Clone, Debug)]
pub struct HeldAct {
    pub(super) hash: ActHash,
    pub(super) feed: FeedKey,
    pub(super) index: u64,
    pub(super) dated_ms: u64,
    pub(super) sealed_by: Option<EpochId>,
    pub(super) verifies: bool,
    pub(super) seq: u64,
    pub(super) tag: u64,
    pub(super) parents: Vec<ActHash>,
    pub(super) what: What,
}

/// A device that comes into the room, with its feeds.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    pub(super) agent: AgentId,
    pub(super) device: DeviceKey,
    pub(super) feed: FeedKey,
    pub(super) blobs_feed: FeedKey,
    pub(super) set: Bytes,
}

/// An invite, by its key and the act that made it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InviteName {
    pub(super) key: PublicKey,
    pub(super) act: ActHash,
}

/// What is done, without what only readers of the entry need.
#[derive(Clone, Debug)]
pub(super) enum What {
    Genesis {
        name: String,
        history: History,
        commitment: EpochCommitment,
        owner: Joining,
    },
    NewerGenesis {
        rules: u32,
    },
    Admit {
        joining: Joining,
        role: Role,
        invite: Option<InviteName>,
        epochs: Vec<EpochId>,
    },
    DeviceJoin {
        joining: Joining,
        epochs: Vec<EpochId>,
    },
    Invite(Invite),
    Role(RoleChange),
    Remove {
        agent: AgentId,
        cuts: Vec<Cut>,
        reason: String,
    },
    Leave(Vec<Cut>),
    DeviceRevoke {
        agent: AgentId,
        device: DeviceKey,
        set: Bytes,
        cuts: Vec<Cut>,
    },
    InviteRevoke(InviteName),
    Epoch {
        id: EpochId,
        act_id: EpochId,
        commitment: EpochCommitment,
        parents: Vec<EpochId>,
        devices: Vec<DeviceKey>,
    },
    Grant(Grant),
    GrantRevoke(Hash),
    /// Of a refused act, of which it does not matter.
    Forgotten,
    Delete,
}

/// Where an act stands and when it is dated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ActPlace {
    /// Feed.
    pub feed: FeedKey,
    /// Block index.
    pub index: u64,
    /// Its author's clock, ms.
    pub dated_ms: u64,
    /// The id of the key that opened it; `None` for an open block.
    pub sealed_by: Option<EpochId>,
}

impl HeldAct {
    /// Takes an act off its `entry` (the plain bytes from the version byte on) and verifies what it
    /// carries: memberships, the join request of an invite, identity sets.
    pub fn verify(room: &RoomId, place: ActPlace, entry: &[u8], act: &Act) -> Self {
        let hash = ActHash::of(room, &place.feed, place.index, entry);
        HeldAct::verified(hash, place, act, carried_holds(room, &place, act))
    }

    /// Takes an act of which somebody found out before whether what it carries `verifies`.
    pub fn verified(hash: ActHash, place: ActPlace, act: &Act, verifies: bool) -> Self {
        HeldAct {
            hash,
            feed: place.feed,
            index: place.index,
            dated_ms: place.dated_ms,
            sealed_by: place.sealed_by,
            verifies,
            seq: act.seq,
            tag: act.deed.tag(),
            parents: act.parents.as_slice().to_vec(),
            what: what(&act.deed),
        }
    }

    /// Returns whether it is a beginning of the room.
    pub(super) fn is_genesis(&self) -> bool {
        self.verifies && matches!(self.what, What::Genesis { .. })
    }

    /// Returns where it stands in its feed; of a feed that forked the hash decides.
    pub(super) fn place(&self) -> (u64, ActHash) {
        (self.index, self.hash)
    }

    /// Returns the act's name.
    pub fn hash(&self) -> ActHash {
        self.hash
    }

    /// Returns whether what the act carries verifies.
    pub fn verifies(&self) -> bool {
        self.verifies
    }
}

fn carried_holds(room: &RoomId, place: &ActPlace, act: &Act) -> bool {
    match &act.deed {
        Deed::Genesis(genesis) => is_genesis(room, place, act, genesis),
        Deed::NewerGenesis(newer) => place.index == 0 && newer.room == *room,
        Deed::Admit(admit) => {
            let asked = admit.invite.is_none_or(|invite| {
                let asked = invite.verify(room, &admit.member);
                asked.is_ok()
            });
            asked && admit.member.verify(room).is_ok()
        }
        Deed::DeviceJoin(join) => join.device.verify(room).is_ok(),
        Deed::DeviceRevoke(revoke) => {
            let set = IdentitySet::decode(&revoke.identity_set);
            let identity = set.and_then(|set| set.verify(&revoke.agent));
            identity.is_ok_and(|identity| identity.revoked(&revoke.device).is_some())
        }
        _ => true,
    }
}

fn is_genesis(room: &RoomId, place: &ActPlace, act: &Act, genesis: &Genesis) -> bool {
    let owner = &genesis.owner;
    place.index == 0
        && act.seq == 0
        && act.parents.as_slice().is_empty()
        && owner.entries_feed == place.feed
        && genesis.room_id() == *room
        && owner.verify(room).is_ok()
}

fn what(deed: &Deed) -> What {
    match deed {
        Deed::Genesis(genesis) => What::Genesis {
            name: genesis.name.to_string(),
            history: genesis.history,
            commitment: genesis.commitment,
            owner: joining(&genesis.owner),
        },
        Deed::NewerGenesis(newer) => What::NewerGenesis { rules: newer.rules },
        Deed::Admit(admit) => What::Admit {
            joining: joining(&admit.member),
            role: admit.role,
            invite: admit.invite.map(|invite| InviteName {
                key: invite.public_key,
                act: invite.act,
            }),
            epochs: admit.epochs.clone(),
        },
        Deed::DeviceJoin(join) => What::DeviceJoin {
            joining: joining(&join.device),
            epochs: join.epochs.clone(),
        },
        Deed::Invite(invite) => What::Invite(*invite),
        Deed::Role(change) => What::Role(*change),
        Deed::Remove(remove) => What::Remove {
            agent: remove.agent,
            cuts: remove.cuts.clone(),
            reason: remove.reason.to_string(),
        },
        Deed::Leave(leave) => What::Leave(leave.cuts.clone()),
        Deed::DeviceRevoke(revoke) => What::DeviceRevoke {
            agent: revoke.agent,
            device: revoke.device,
            set: revoke.identity_set.clone(),
            cuts: revoke.cuts.clone(),
        },
        Deed::InviteRevoke(revoke) => What::InviteRevoke(InviteName {
            key: revoke.public_key,
            act: revoke.act,
        }),
        Deed::Epoch(epoch) => What::Epoch {
            id: epoch.id,
            act_id: epoch.act_id,
            commitment: epoch.commitment,
            parents: epoch.parents.clone(),
            devices: epoch.copies.iter().map(|copy| copy.device).collect(),
        },
        Deed::Grant(grant) => What::Grant(*grant),
        Deed::GrantRevoke(revoke) => What::GrantRevoke(revoke.hash),
        Deed::Delete(_) => What::Delete,
    }
}

fn joining(member: &Membership) -> Joining {
    Joining {
        agent: member.agent,
        device: member.device,
        feed: member.entries_feed,
        blobs_feed: member.blobs_feed,
        set: member.identity_set.clone(),
    }
}

impl What {
    /// Returns the device that comes into the room by this.
    pub(super) fn joining(&self) -> Option<&Joining> {
        match self {
            What::Genesis { owner, .. } => Some(owner),
            What::Admit { joining, .. } | What::DeviceJoin { joining, .. } => Some(joining),
            _ => None,
        }
    }

    /// Returns the identity set that this carries, and whose it is.
    pub(super) fn set(&self) -> Option<(AgentId, &Bytes)> {
        match self {
            What::DeviceRevoke { agent, set, .. } => Some((*agent, set)),
            _ => self.joining().map(|joining| (joining.agent, &joining.set)),
        }
    }

    /// Returns the cuts that this names.
    pub(super) fn cuts(&self) -> &[Cut] {
        match self {
            What::Remove { cuts, .. } | What::DeviceRevoke { cuts, .. } | What::Leave(cuts) => cuts,
            _ => &[],
        }
    }
}

/// Which devices some identity sets of one agent, taken together, give and take.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Devices {
    /// Those that are the agent's and may write, in both directories.
    pub present: Vec<DeviceKey>,
    /// Those that were, and were revoked: the latest first, by the depth of the statement, then the key.
    pub revoked: Vec<DeviceKey>,
}

impl Devices {
    /// Returns whether a device is the agent's, or was.
    pub(super) fn know(&self, device: &DeviceKey) -> bool {
        let mut all = self.present.iter().chain(&self.revoked);
        all.any(|other| other == device)
    }
}

/// Evaluates encoded identity sets of one agent together: a function of their statements, in whatever order
/// they come. Their signatures are taken to hold, as those of every act that verifies do; what is no
/// set of the agent says nothing.
pub fn devices_of(agent: &AgentId, sets: &[&Bytes]) -> Devices {
    let decoded = sets.iter().filter_map(|set| {
        let set = IdentitySet::decode(set).ok()?;
        set.checked_before(agent).ok()
    });
    let decoded: Vec<VerifiedSet> = decoded.collect();
    let Ok(identity) = VerifiedSet::together(*agent, &decoded).identity() else {
        return Devices::default();
    };
    let mut revoked: Vec<_> = identity.revoked.iter().collect();
    revoked.sort_by_key(|revoked| (Reverse(revoked.depth), revoked.device.key));
    let revoked = revoked.into_iter().map(|revoked| revoked.device.key);
    let writers = identity.devices.iter().filter(|device| device.writes());
    Devices {
        present: writers.map(|device| device.key).collect(),
        revoked: revoked.collect(),
    }
}
