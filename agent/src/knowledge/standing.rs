//! What the acts of a room that count come to: who is in it, which epochs there are, which invites and
//! grants are open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, PublicKey};
use kinlog_indexer::entry::{ActHash, Grant, History, Role};
use kinlog_indexer::seal::{ContentKey, EpochCommitment, EpochId, EpochSecret};

use crate::rooms::{RoomId, stored_keys};
use crate::state::StoredEpoch;

/// A room as its acts have it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) name: String,
    /// `None` until the genesis is here.
    pub(crate) history: Option<History>,
    /// Rules that this build does not have: the room was made by a newer one.
    pub(crate) newer_rules: Option<u32>,
    /// Act id of the epoch that the genesis is sealed in.
    pub(crate) genesis_act_id: Option<EpochId>,
    /// What the genesis commits that epoch's secret to.
    pub(crate) genesis_commitment: Option<EpochCommitment>,
    pub(crate) members: BTreeMap<AgentId, Member>,
    /// Members, the highest rank first.
    pub(crate) by_rank: Vec<AgentId>,
    /// Who was in the room and is no more.
    pub(crate) gone: BTreeMap<AgentId, Gone>,
    pub(crate) epochs: BTreeMap<EpochId, Announced>,
    /// Invites that admit somebody yet, their expiry apart.
    pub(crate) invites: BTreeMap<PublicKey, OpenInvite>,
    /// Every act that made an invite that was not revoked: several may have brought one key.
    pub(crate) invite_acts: BTreeMap<ActHash, PublicKey>,
    /// Grants that were not revoked, their expiry apart.
    pub(crate) grants: BTreeMap<(Hash, AgentId), Granted>,
    /// Grants that were revoked.
    pub(crate) revoked_grants: BTreeSet<(Hash, AgentId)>,
}

/// A member and its devices in the room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) devices: BTreeMap<DeviceKey, MemberDevice>,
}

/// A device in the room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MemberDevice {
    pub(crate) entries: FeedKey,
    pub(crate) blobs: FeedKey,
    /// Key to which secrets are sealed.
    pub(crate) x25519: [u8; 32],
}

/// How somebody went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Gone {
    /// Who removed it; itself where it left.
    pub(crate) by: AgentId,
    pub(crate) reason: String,
}

/// An epoch that counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Announced {
    /// The act that announces it; the first epoch has none of its own.
    pub(crate) act: Option<ActHash>,
    pub(crate) act_id: Option<EpochId>,
    /// What the announcement commits the secret to.
    pub(crate) commitment: Option<EpochCommitment>,
    /// Act ids and commitments of other acts that announce the same id: somebody copied it.
    pub(crate) copies: Vec<(EpochId, EpochCommitment)>,
    pub(crate) parents: Vec<EpochId>,
    /// Devices that were given its secret.
    pub(crate) recipients: BTreeSet<DeviceKey>,
    /// Clock of the act that announces it, ms.
    pub(crate) at_ms: u64,
}

impl Announced {
    /// Returns the act id, and those of copies.
    pub(crate) fn act_ids(&self) -> impl Iterator<Item = EpochId> {
        let copies = self.copies.iter().map(|(act_id, _)| *act_id);
        self.act_id.into_iter().chain(copies)
    }

    /// Returns whether an announcement commits to a secret.
    pub(crate) fn commits_to(&self, secret: &EpochSecret) -> bool {
        let own = self.act_id.zip(self.commitment);
        let said = (secret.act_key().epoch_id(), secret.commitment());
        own == Some(said) || self.copies.contains(&said)
    }
}

/// An invite of the room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OpenInvite {
    pub(crate) role: Role,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) uses: Option<u32>,
    pub(crate) used: u32,
    /// Who invites.
    pub(crate) by: AgentId,
    /// The act that made it.
    pub(crate) act: ActHash,
}

impl OpenInvite {
    /// Returns how far it lets in, for choosing among invites with one key: whether it admits anybody
    /// more, as what, until when, how many.
    pub(crate) fn reach(&self) -> (bool, Role, u64, u32, ActHash) {
        let left = self
            .uses
            .map_or(u32::MAX, |uses| uses.saturating_sub(self.used));
        let until_ms = self.expires_at_ms.unwrap_or(u64::MAX);
        (left > 0, self.role, until_ms, left, self.act)
    }
}

/// A grant of the room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Granted {
    pub(crate) grant: Grant,
    /// Who gave it.
    pub(crate) by: AgentId,
}

impl Standing {
    /// Returns every device of a member.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (&AgentId, &DeviceKey, &MemberDevice)> {
        let members = self.members.iter();
        members.flat_map(|(agent, member)| {
            let devices = member.devices.iter();
            devices.map(move |(key, device)| (agent, key, device))
        })
    }

    /// Returns the role of an agent that is in the room.
    pub(crate) fn role(&self, agent: &AgentId) -> Option<Role> {
        self.members.get(agent).map(|member| member.role)
    }

    /// Returns whether one member ranks above another.
    pub(crate) fn ranks_above(&self, one: &AgentId, other: &AgentId) -> bool {
        let mut by_rank = self.by_rank.iter();
        one != other && by_rank.find(|agent| [one, other].contains(agent)) == Some(one)
    }

    /// Returns whether a device is one of a member.
    pub(crate) fn has_device(&self, agent: &AgentId, device: &DeviceKey) -> bool {
        let member = self.members.get(agent);
        member.is_some_and(|member| member.devices.contains_key(device))
    }

    /// Returns the act ids of the epochs that count.
    pub(crate) fn act_ids(&self) -> impl Iterator<Item = EpochId> {
        let announced = self.epochs.values().flat_map(Announced::act_ids);
        announced.chain(self.genesis_act_id)
    }

    /// Returns whether an epoch's secret is the one that its announcement, or the genesis, commits to;
    /// `None` where nothing announces it.
    pub(crate) fn is_announced(&self, secret: &EpochSecret) -> Option<bool> {
        let act_id = Some(secret.act_key().epoch_id());
        let commitment = Some(secret.commitment());
        // Whatever somebody announces of the first one's id.
        if self.genesis_act_id == act_id && self.genesis_commitment == commitment {
            return Some(true);
        }
        match self.epochs.get(&secret.epoch_id()) {
            Some(announced) => Some(announced.commits_to(secret)),
            None => {
                (self.genesis_act_id == act_id).then_some(self.genesis_commitment == commitment)
            }
        }
    }

    /// Returns those of given keys that are of epochs which count: secrets that the announcements commit
    /// to, act keys with announced ids. Whoever gives others is not believed.
    pub(crate) fn announced_keys<'a>(
        &self,
        room: &RoomId,
        secrets: impl IntoIterator<Item = &'a EpochSecret>,
        act_keys: impl IntoIterator<Item = &'a ContentKey>,
    ) -> Vec<StoredEpoch> {
        let secrets = secrets.into_iter().filter(|secret| {
            let is_announced = self.is_announced(secret);
            if is_announced == Some(false) {
                let epoch = secret.epoch_id();
                tracing::warn!(%epoch, "secret of an epoch is not the one that its act commits to");
            }
            is_announced == Some(true)
        });
        let act_ids: BTreeSet<EpochId> = self.act_ids().collect();
        let act_keys = act_keys.into_iter();
        let act_keys = act_keys.filter(|key| act_ids.contains(&key.epoch_id()));
        stored_keys(room, secrets, act_keys)
    }

    /// Returns the epochs without a known child, ascending.
    pub(crate) fn heads(&self) -> Vec<EpochId> {
        let parents: BTreeSet<&EpochId> = self
            .epochs
            .values()
            .flat_map(|epoch| &epoch.parents)
            .collect();
        let heads = self.epochs.keys().filter(|id| !parents.contains(id));
        heads.copied().collect()
    }

    /// Returns the newest epochs that `is_held`, at most `max`: heads, then those before them. Through
    /// others it looks at what they follow: whatever somebody announces stands before nothing held.
    pub(crate) fn newest_epochs(
        &self,
        max: usize,
        is_held: impl Fn(&EpochId) -> bool,
    ) -> Vec<EpochId> {
        let mut next = VecDeque::from(self.heads());
        let mut seen: BTreeSet<EpochId> = next.iter().copied().collect();
        let mut newest = Vec::new();
        while let Some(id) = next.pop_front().filter(|_| newest.len() < max) {
            if is_held(&id) {
                newest.push(id);
            }
            let parents = self.epochs.get(&id).map(|epoch| &epoch.parents);
            let parents = parents.into_iter().flatten().copied();
            next.extend(parents.filter(|parent| seen.insert(*parent)));
        }
        newest
    }

    /// Returns the newest held epochs on each way back from `heads`.
    pub(crate) fn held_before(
        &self,
        heads: &[EpochId],
        is_held: impl Fn(&EpochId) -> bool,
    ) -> Vec<EpochId> {
        let mut next: Vec<EpochId> = heads.to_vec();
        let mut seen: BTreeSet<EpochId> = heads.iter().copied().collect();
        let mut held = Vec::new();
        while let Some(id) = next.pop() {
            if is_held(&id) {
                held.push(id);
                continue;
            }
            let parents = self.epochs.get(&id).map(|epoch| &epoch.parents);
            let parents = parents.into_iter().flatten().copied();
            next.extend(parents.filter(|parent| seen.insert(*parent)));
        }
        held.sort_unstable();
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An epoch as an act announces it that commits to `secret`.
    fn announced(secret: &EpochSecret) -> Announced {
        Announced {
            act_id: Some(secret.act_key().epoch_id()),
            commitment: Some(secret.commitment()),
            ..Announced::default()
        }
    }

    #[test]
    fn whoever_copies_an_epochs_id_takes_no_secret_from_it() {
        let (secret, other) = (EpochSecret::new([1; 32]), EpochSecret::new([2; 32]));
        let said = (other.act_key().epoch_id(), other.commitment());
        // The copy is the older one, or the younger one.
        let mut of_copy = announced(&other);
        of_copy.copies = vec![(secret.act_key().epoch_id(), secret.commitment())];
        let mut of_true = announced(&secret);
        of_true.copies = vec![said];
        for epoch in [of_copy, of_true] {
            let mut standing = Standing::default();
            standing.epochs.insert(secret.epoch_id(), epoch);
            assert_eq!(standing.is_announced(&secret), Some(true));
            let act_ids: Vec<EpochId> = standing.act_ids().collect();
            assert!(act_ids.contains(&secret.act_key().epoch_id()));
            // What the copy commits to is the secret of another id.
            assert_eq!(standing.is_announced(&other), None);
        }
        // Ids and commitment have to be of one announcement.
        let mut mixed = announced(&secret);
        mixed.commitment = Some(other.commitment());
        mixed.copies = vec![(other.act_key().epoch_id(), secret.commitment())];
        let mut standing = Standing::default();
        standing.epochs.insert(secret.epoch_id(), mixed);
        assert_eq!(standing.is_announced(&secret), Some(false));
    }

    #[test]
    fn whatever_a_guest_announces_stands_before_no_epoch_that_is_held() {
        let mut standing = Standing::default();
        let id = |number: u8| EpochId([number; 16]);
        let epoch = |parents: &[EpochId]| Announced {
            parents: parents.to_vec(),
            ..Announced::default()
        };
        standing.epochs.insert(id(100), epoch(&[]));
        standing.epochs.insert(id(200), epoch(&[id(100)]));
        // As many as anybody takes, each after the true head.
        for number in 1..40 {
            standing.epochs.insert(id(number), epoch(&[id(200)]));
        }
        let is_held = |one: &EpochId| [id(100), id(200)].contains(one);
        assert_eq!(standing.newest_epochs(8, is_held), [id(200), id(100)]);
        let heads = standing.heads();
        assert!(heads.len() == 39 && !heads.contains(&id(200)));
        assert_eq!(standing.held_before(&heads, is_held), [id(200)]);
    }
}
