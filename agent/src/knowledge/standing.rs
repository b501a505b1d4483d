//! What the acts of a room that count come to: who is in it, which epochs there are, which invites and
//! grants are open.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, PublicKey};
use kinlog_indexer::entry::{ActHash, Cut, Grant, History, Role};
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
    /// Epochs whose announcement is void: nobody begins to write in them, and what was written before
    /// everybody knew is read.
    pub(crate) lapsed: BTreeMap<EpochId, Announced>,
    /// Invites that admit somebody yet, their expiry apart.
    pub(crate) invites: BTreeMap<PublicKey, OpenInvite>,
    /// Every act that made an invite that was not revoked: several may have brought one key.
    pub(crate) invite_acts: BTreeMap<ActHash, PublicKey>,
    /// Grants that were not revoked, their expiry apart.
    pub(crate) grants: BTreeMap<(Hash, AgentId), Granted>,
    /// Grants that were revoked.
    pub(crate) revoked_grants: BTreeSet<(Hash, AgentId)>,
    /// How much is accepted of feeds that are cut.
    pub(crate) cuts: BTreeMap<FeedKey, Cut>,
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

/// An epoch that counts, or did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Announced {
    /// The act that announces it; the first epoch has none of its own.
    pub(crate) act: Option<ActHash>,
    pub(crate) act_id: Option<EpochId>,
    /// What the announcement commits the secret to.
    pub(crate) commitment: Option<EpochCommitment>,
    /// Act ids and commitments of other acts that announce the same id: somebody copied it.
    pub(crate) copies: Vec<(EpochId, EpochCommitment)>,
    /// Depth and name of the oldest act that announces it.
    pub(crate) oldest: Option<(u32, ActHash)>,
    pub(crate) parents: Vec<EpochId>,
    /// Devices that were given its secret, as any announcement says.
    pub(crate) recipients: BTreeSet<DeviceKey>,
    /// Those to whom the oldest announcement, or an admission, gave it: nobody else gets it by asking.
    pub(crate) entitled: BTreeSet<DeviceKey>,
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

    /// Returns whether a device gets the secret of an epoch when it asks: whoever announced it first meant it
    /// to have it. Who copies an id, which stands in the act for all to see, is meant by nobody.
    pub(crate) fn is_entitled(&self, id: &EpochId, device: &DeviceKey) -> bool {
        let first = self.announcements(id).min_by_key(|one| one.oldest);
        first.is_some_and(|first| first.entitled.contains(device))
    }

    /// Returns the announcements of an epoch, counting or lapsed.
    pub(crate) fn announcements(&self, id: &EpochId) -> impl Iterator<Item = &Announced> {
        let counting = self.epochs.get(id).into_iter();
        counting.chain(self.lapsed.get(id))
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
        let id = secret.epoch_id();
        let mut announced = self.announcements(&id).peekable();
        match announced.peek() {
            Some(_) => Some(announced.any(|one| one.commits_to(secret))),
            None => {
                (self.genesis_act_id == act_id).then_some(self.genesis_commitment == commitment)
            }
        }
    }

    /// Returns those of given keys that are of epochs which count, or did: secrets that the announcements
    /// commit to, act keys with announced ids. Whoever gives others is not believed.
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
        let lapsed = self.lapsed.values().flat_map(Announced::act_ids);
        let act_ids: BTreeSet<EpochId> = self.act_ids().chain(lapsed).collect();
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

    /// Returns the newest epochs that `is_held`, at most `max`: those first that exactly the members' devices
    /// have, then those that nobody else has; of these the deepest first. So whoever leaves takes what it
    /// announced out of everybody's way, however much it is.
    pub(crate) fn newest_epochs(
        &self,
        max: usize,
        is_held: impl Fn(&EpochId) -> bool,
    ) -> Vec<EpochId> {
        let held = self.epochs.keys().filter(|id| is_held(id));
        let mut newest: Vec<EpochId> = held.copied().collect();
        self.put_newest_first(&mut newest);
        newest.truncate(max);
        newest
    }

    /// Returns the newest held epochs on each way back from `heads`, in the same order, without those that
    /// others of them follow.
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
            next.extend(self.parents(&id).filter(|parent| seen.insert(*parent)));
        }
        let mut followed: BTreeSet<EpochId> = BTreeSet::new();
        let mut next = held.clone();
        while let Some(id) = next.pop() {
            next.extend(self.parents(&id).filter(|parent| followed.insert(*parent)));
        }
        held.retain(|id| !followed.contains(id));
        self.put_newest_first(&mut held);
        held
    }

    fn put_newest_first(&self, epochs: &mut [EpochId]) {
        let members: BTreeSet<DeviceKey> = self.devices().map(|(_, device, _)| *device).collect();
        epochs.sort_by_cached_key(|id| {
            let epoch = self.epochs.get(id);
            let given = epoch.map(|epoch| &epoch.recipients);
            let to_all = given == Some(&members);
            let to_others = !given.is_some_and(|given| given.is_subset(&members));
            let oldest = epoch.and_then(|epoch| epoch.oldest);
            (!to_all, to_others, Reverse(oldest), *id)
        });
    }

    fn parents(&self, id: &EpochId) -> impl Iterator<Item = EpochId> {
        let epoch = self.epochs.get(id);
        epoch
            .into_iter()
            .flat_map(|epoch| epoch.parents.iter().copied())
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
    fn who_copies_an_epochs_id_gets_no_secret_by_asking() {
        let (maker, copier, late) = (1, 2, 3);
        let devices = |all: &[u8]| all.iter().map(|one| DeviceKey([*one; 32])).collect();
        let said = |depth, entitled: &[u8]| Announced {
            oldest: Some((depth, ActHash::default())),
            recipients: devices(&[maker, copier]),
            entitled: devices(entitled),
            ..Announced::default()
        };
        let epoch = id(9);
        let mut standing = Standing::default();
        let is_entitled =
            |standing: &Standing, one: u8| standing.is_entitled(&epoch, &DeviceKey([one; 32]));
        assert!(
            !is_entitled(&standing, maker),
            "of no epoch that was announced"
        );
        // The first announcement came to be void; who joined later copied what it says.
        standing.lapsed.insert(epoch, said(3, &[maker]));
        standing.epochs.insert(epoch, said(8, &[copier]));
        assert!(is_entitled(&standing, maker));
        assert!(!is_entitled(&standing, copier) && !is_entitled(&standing, late));
    }

    fn id(number: u8) -> EpochId {
        EpochId([number; 16])
    }

    fn epoch(parents: &[u8], depth: u32, recipients: &[u8]) -> Announced {
        let recipients = recipients.iter().map(|number| DeviceKey([*number; 32]));
        Announced {
            parents: parents.iter().map(|number| id(*number)).collect(),
            oldest: Some((depth, ActHash::default())),
            recipients: recipients.collect(),
            ..Announced::default()
        }
    }

    /// A room in which one agent has these devices.
    fn members(devices: &[u8]) -> Standing {
        let device = MemberDevice {
            entries: FeedKey([0; 32]),
            blobs: FeedKey([0; 32]),
            x25519: [0; 32],
        };
        let devices = devices.iter().map(|one| (DeviceKey([*one; 32]), device));
        let member = Member {
            role: Role::Owner,
            devices: devices.collect(),
        };
        let members = BTreeMap::from([(AgentId([1; 32]), member)]);
        Standing {
            members,
            ..Standing::default()
        }
    }

    #[test]
    fn whatever_a_guest_announces_stands_before_no_epoch_that_is_held() {
        let mut standing = members(&[1, 2]);
        standing.epochs.insert(id(100), epoch(&[], 1, &[1, 2]));
        standing.epochs.insert(id(200), epoch(&[100], 2, &[1, 2]));
        // As many as anybody takes, after the true head, or after what is before it.
        for number in 1..40 {
            let parent = if number % 2 == 0 { 200 } else { 100 };
            standing
                .epochs
                .insert(id(number), epoch(&[parent], 3, &[1]));
        }
        let is_held = |one: &EpochId| [id(100), id(200)].contains(one);
        assert_eq!(standing.newest_epochs(8, is_held), [id(200), id(100)]);
        let heads = standing.heads();
        assert!(heads.len() == 39 && !heads.contains(&id(200)));
        // What the other one follows is not joined beside it.
        assert_eq!(standing.held_before(&heads, is_held), [id(200)]);
    }

    #[test]
    fn the_keys_of_epochs_that_a_member_made_and_left_behind_are_nobodys_first() {
        // Device 3 announced twenty to everybody, all of them held, and left.
        let mut standing = members(&[1, 2]);
        standing.epochs.insert(id(100), epoch(&[], 1, &[1, 2, 3]));
        for number in 1..21 {
            let depth = 1 + u32::from(number);
            let made = epoch(&[100], depth, &[1, 2, 3]);
            standing.epochs.insert(id(number), made);
        }
        let all = |_: &EpochId| true;
        // Sixteen of them are joined by the next epoch; four more heads stay beside it.
        let joined = standing.held_before(&standing.heads(), all);
        assert_eq!(joined[..2], [id(20), id(19)]);
        let joined: Vec<u8> = joined[..16].iter().map(|id| id.0[0]).collect();
        standing.epochs.insert(id(250), epoch(&joined, 40, &[1, 2]));
        assert_eq!(standing.heads().len(), 5);
        assert_eq!(standing.newest_epochs(2, all), [id(250), id(20)]);
        // A member who gives one to some of the members alone does not get ahead of it either.
        standing.epochs.insert(id(9), epoch(&[250], 50, &[1]));
        assert_eq!(standing.newest_epochs(2, all), [id(250), id(9)]);
    }
}
