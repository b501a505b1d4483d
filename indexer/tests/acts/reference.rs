//! The rules of `docs/design/0015-identity-and-authority.md` once more, as plainly as they can be
//! said and as slowly: what a set of acts comes to is found from the set alone, each time anew.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, PublicKey};
use kinlog_indexer::authority::{Devices, DevicesOf};
use kinlog_indexer::entry::{Act, ActHash, Deed, Invite, Membership, Role};
use kinlog_indexer::seal::EpochId;

pub(crate) type Set = BTreeSet<usize>;

/// Depth and name.
type Age = (usize, ActHash);

/// An act as it is held.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) hash: ActHash,
    pub(crate) feed: FeedKey,
    pub(crate) index: u64,
    pub(crate) ms: u64,
    pub(crate) sealed_by: Option<EpochId>,
    /// Whether what it carries does.
    pub(crate) verifies: bool,
    pub(crate) act: Act,
}

#[derive(Clone, Debug)]
struct Standing {
    agent: AgentId,
    device: DeviceKey,
    role: Role,
    needs: Role,
    giver: usize,
    brought: usize,
    invite: Option<usize>,
    used: usize,
    begins: bool,
    confirms: Vec<usize>,
}

/// What counts of a set, and which endings of an owner's role are set aside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) counts: Set,
    aside: Set,
    /// Acts that say of a device that it was never one, by what brought it in.
    never: BTreeMap<usize, Vec<usize>>,
}

/// What an act comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Counts,
    Void,
}

type Decided = BTreeMap<usize, Fate>;

/// What the passes before found.
#[derive(Default)]
struct Found {
    /// What own words do not take back themselves.
    freed: Set,
    /// Own revocations that another's took.
    dropped: Set,
    /// What agents said of themselves and was set aside where they went on.
    stayed: Set,
}

impl Found {
    fn len(&self) -> usize {
        self.freed.len() + self.dropped.len() + self.stayed.len()
    }
}

/// Passes over one set.
const PASSES: usize = 16;

pub(crate) struct Reference<'a> {
    acts: &'a [Told],
    devices_of: DevicesOf,
    past: Vec<Set>,
    depth: Vec<usize>,
    standings: RefCell<HashMap<usize, Option<Standing>>>,
    outcomes: RefCell<HashMap<Vec<usize>, Outcome>>,
}

impl<'a> Reference<'a> {
    /// Takes acts that stand behind those they name; every one of these is there.
    pub(crate) fn new(acts: &'a [Told], devices_of: DevicesOf) -> Self {
        let (mut past, mut depth): (Vec<Set>, Vec<usize>) = Default::default();
        let at = |hash: &ActHash| acts.iter().position(|done| done.hash == *hash).unwrap();
        for done in acts {
            let parents: Vec<usize> = done.act.parents.as_slice().iter().map(at).collect();
            let mut all: Set = parents.iter().copied().collect();
            parents.iter().for_each(|parent| all.extend(&past[*parent]));
            past.push(all);
            depth.push(
                1 + parents
                    .iter()
                    .map(|parent| depth[*parent])
                    .max()
                    .unwrap_or(0),
            );
        }
        let (standings, outcomes) = (RefCell::default(), RefCell::default());
        Reference {
            acts,
            devices_of,
            past,
            depth,
            standings,
            outcomes,
        }
    }

    /// The depth of each act.
    #[allow(dead_code, reason = "only who orders acts asks")]
    pub(crate) fn depths(&self) -> &[usize] {
        &self.depth
    }

    /// The acts of a feed that are in line among those of a set: from its first place on each that
    /// has the last one before it in its past.
    fn line(&self, set: &Set, feed: &FeedKey) -> Vec<usize> {
        let mine = |x: &usize| self.acts[*x].feed == *feed && self.is_authorised(*x);
        let mut acts: Vec<usize> = set.iter().copied().filter(mine).collect();
        acts.sort_by_key(|x| (self.acts[*x].index, self.acts[*x].hash));
        let mut line: Vec<usize> = Vec::new();
        for x in acts {
            if line.last().is_none_or(|last| self.past[x].contains(last)) {
                line.push(x);
            }
        }
        line
    }

    /// Rule 7: of all acts those that are in line, and what these reach.
    pub(crate) fn evaluated(&self) -> Set {
        let all: Set = (0..self.acts.len()).collect();
        let feeds: BTreeSet<FeedKey> = self.acts.iter().map(|one| one.feed).collect();
        let lines = feeds.iter().flat_map(|feed| self.line(&all, feed));
        let with_past = |x: usize| self.past[x].iter().copied().chain([x]);
        lines.flat_map(with_past).collect()
    }

    /// Acts that say nothing because another of their feed is in line.
    #[allow(dead_code, reason = "only who looks at each act asks")]
    pub(crate) fn out_of_line(&self) -> Set {
        let evaluated = self.evaluated();
        let mut out = Set::new();
        for x in 0..self.acts.len() {
            let after = |y: &usize| {
                let names = self.acts[x].act.parents.as_slice();
                self.acts[*y].feed == self.acts[x].feed && names.contains(&self.acts[*y].hash)
            };
            let is_out = match self.is_authorised(x) {
                true => !evaluated.contains(&x),
                false => out.iter().any(after),
            };
            if is_out {
                out.insert(x);
            }
        }
        out
    }

    pub(crate) fn is_authorised(&self, x: usize) -> bool {
        self.standing(x).is_some()
    }

    fn deed(&self, x: usize) -> &'a Deed {
        &self.acts[x].act.deed
    }

    fn concurrent(&self, x: usize, y: usize) -> bool {
        x != y && !self.past[x].contains(&y) && !self.past[y].contains(&x)
    }

    fn age(&self, x: usize) -> (usize, ActHash) {
        (self.depth[x], self.acts[x].hash)
    }

    fn arrival(&self, x: usize) -> Option<&'a Membership> {
        match self.deed(x) {
            Deed::Genesis(genesis) => Some(&genesis.owner),
            Deed::Admit(admit) => Some(&admit.member),
            Deed::DeviceJoin(join) => Some(&join.device),
            _ => None,
        }
    }

    fn standing(&self, x: usize) -> Option<Standing> {
        if let Some(known) = self.standings.borrow().get(&x) {
            return known.clone();
        }
        let standing = self.judge(x);
        self.standings.borrow_mut().insert(x, standing.clone());
        standing
    }

    /// Rule 1.
    fn judge(&self, x: usize) -> Option<Standing> {
        let done = &self.acts[x];
        let outcome = self.outcome(&self.past[x]);
        let now = outcome.counts.clone();
        let plain = |agent, device, role, giver, brought| Standing {
            agent,
            device,
            role,
            needs: Role::Guest,
            giver,
            brought,
            invite: None,
            used: 0,
            begins: false,
            confirms: Vec::new(),
        };
        if let Deed::Genesis(genesis) = &done.act.deed {
            let mut others = self
                .acts
                .iter()
                .filter(|one| one.verifies && matches!(one.act.deed, Deed::Genesis(_)));
            let first = done.verifies && others.all(|one| one.hash >= done.hash);
            let owner = &genesis.owner;
            let begins = Standing {
                begins: true,
                ..plain(owner.agent, owner.device, Role::Owner, x, x)
            };
            return first.then_some(begins);
        }
        let opens = |y: &usize| matches!(self.deed(*y), Deed::Epoch(epoch) if Some(epoch.act_id) == done.sealed_by);
        let genesis = self
            .acts
            .iter()
            .position(|one| matches!(one.act.deed, Deed::Genesis(_)));
        let as_genesis = genesis.is_some_and(|at| self.acts[at].sealed_by == done.sealed_by);
        let announced = done.sealed_by.is_some() && now.iter().any(opens);
        if !as_genesis && !announced {
            return None;
        }
        let brought = self.brought(&now, &done.feed)?;
        let device = self.arrival(brought)?;
        let (role, giver) = self.role(&now, &device.agent)?;
        if !self.endings(&outcome, brought).is_empty() || !done.verifies {
            return None;
        }
        let most = if role >= Role::Admin { 4096 } else { 512 };
        let own: Vec<usize> = self.past[x]
            .iter()
            .copied()
            .filter(|y| self.acts[*y].feed == done.feed)
            .collect();
        let seqs: BTreeSet<u64> = own.iter().map(|y| self.acts[*y].act.seq).collect();
        if self.past[x].iter().any(|y| !self.is_authorised(*y))
            || own.len() as u64 != done.act.seq
            || !seqs.iter().copied().eq(0..done.act.seq)
            || own.iter().any(|y| self.acts[*y].index >= done.index)
            || done.act.seq >= most && !matches!(done.act.deed, Deed::Leave(_))
        {
            return None;
        }
        let mut to = plain(device.agent, device.device, role, giver, brought);
        let mine = |y: usize| self.standing(y).is_some_and(|by| by.agent == to.agent);
        let is_last_owner = |agent: &AgentId| self.owners(&now).keys().eq([agent]);
        let of = |is: &dyn Fn(&Deed) -> bool| {
            now.iter()
                .copied()
                .filter(|y| is(self.deed(*y)))
                .collect::<Vec<_>>()
        };
        match &done.act.deed {
            Deed::Genesis(_) => return None,
            Deed::Admit(admit) => {
                self.may_arrive(x, &outcome, &admit.member)?;
                to.begins = self.role(&now, &admit.member.agent).is_none();
                if to.begins && admit.role > role {
                    return None;
                }
                to.needs = Role::Admin;
                if let Some(by) = admit.invite {
                    let (at, invite) = self.invite(&now, by.public_key, by.act)?;
                    let revoked =
                        of(&|deed| matches!(deed, Deed::InviteRevoke(end) if end.act == by.act));
                    to.used = of(&|deed| matches!(deed, Deed::Admit(other) if other.invite.is_some_and(|used| used.act == by.act))).len();
                    let used_up = invite.uses.is_some_and(|uses| to.used >= uses as usize);
                    let late = invite.expires_at_ms.is_some_and(|end| done.ms > end);
                    if admit.role > invite.role || !revoked.is_empty() || used_up || late {
                        return None;
                    }
                    (to.needs, to.invite) = (Role::Member, Some(at));
                }
                if to.begins {
                    to.needs = to.needs.max(admit.role);
                }
            }
            Deed::DeviceJoin(join) => {
                self.may_arrive(x, &outcome, &join.device)?;
                (join.device.agent == to.agent).then_some(())?;
            }
            Deed::Invite(invite) => {
                let same = of(
                    &|deed| matches!(deed, Deed::Invite(other) if other.public_key == invite.public_key),
                );
                if !same.is_empty() || invite.role > role {
                    return None;
                }
                to.needs = invite.role.max(Role::Member);
            }
            Deed::Role(change) => {
                let target = self.role(&now, &change.agent)?;
                let demotes = change.role < target.0;
                let above = target.0 == role && self.age(target.1) < self.age(giver);
                let raises = change.role > target.0;
                if change.role > role
                    || change.agent == to.agent && !demotes
                    || !raises && change.agent != to.agent && above
                    || demotes && is_last_owner(&change.agent)
                {
                    return None;
                }
                to.needs = Role::Admin.max(target.0).max(change.role);
                let live = now.iter().copied().filter(|y| {
                    self.arrival(*y)
                        .is_some_and(|one| one.agent == change.agent)
                });
                to.confirms = live
                    .filter(|y| self.endings(&outcome, *y).is_empty())
                    .collect();
            }
            Deed::Remove(remove) => {
                let target = match self.role(&now, &remove.agent) {
                    Some(target) => target,
                    None => self.left(&now, &remove.agent)?,
                };
                let above = target.0 == role && self.age(target.1) < self.age(giver);
                if remove.agent == to.agent || above || is_last_owner(&remove.agent) {
                    return None;
                }
                to.needs = Role::Admin.max(target.0);
            }
            Deed::Leave(_) => (!is_last_owner(&to.agent)).then_some(())?,
            Deed::DeviceRevoke(revoke) if revoke.agent == to.agent => {
                self.may_cut(&outcome, &to.agent, &revoke.device)
                    .then_some(())?;
            }
            Deed::DeviceRevoke(revoke) => {
                let device = (revoke.agent, revoke.device);
                let mut here = now.iter().filter(|y| {
                    let one = self.arrival(**y).map(|one| (one.agent, one.device));
                    one == Some(device) && self.endings(&outcome, **y).is_empty()
                });
                here.next()?;
                let target = self.role(&now, &revoke.agent)?;
                if target.0 == role && self.age(target.1) < self.age(giver) {
                    return None;
                }
                to.needs = Role::Admin.max(target.0);
            }
            Deed::InviteRevoke(end) => {
                let (at, _) = self.invite(&now, end.public_key, end.act)?;
                to.needs = if mine(at) { Role::Guest } else { Role::Admin };
            }
            Deed::Epoch(epoch) => {
                let ids = [epoch.id, epoch.act_id];
                let first = genesis.and_then(|at| self.acts[at].sealed_by);
                if first.is_some_and(|first| ids.contains(&first)) {
                    return None;
                }
                let same = of(
                    &|deed| matches!(deed, Deed::Epoch(one) if ids.contains(&one.id) || ids.contains(&one.act_id)),
                );
                same.is_empty().then_some(())?;
            }
            Deed::Grant(grant) => {
                let known = of(&|deed| matches!(deed, Deed::Grant(one) if one.hash == grant.hash));
                known.is_empty().then_some(())?;
                to.needs = Role::Member;
            }
            Deed::Delete(_) => to.needs = Role::Admin,
            Deed::GrantRevoke(end) => {
                let given = of(&|deed| matches!(deed, Deed::Grant(one) if one.hash == end.hash));
                given.first()?;
                let has_own = given.into_iter().any(mine);
                to.needs = if has_own { Role::Guest } else { Role::Admin };
            }
            _ => return None,
        }
        (role >= to.needs).then_some(to)
    }

    /// The invite of this key that this act made, where it counts.
    fn invite(&self, now: &Set, key: PublicKey, act: ActHash) -> Option<(usize, &'a Invite)> {
        let at = now.iter().copied().find(|y| self.acts[*y].hash == act)?;
        match self.deed(at) {
            Deed::Invite(invite) if invite.public_key == key => Some((at, invite)),
            _ => None,
        }
    }

    fn may_arrive(&self, x: usize, now: &Outcome, one: &Membership) -> Option<()> {
        let mut there = now.counts.iter().filter(|y| {
            let other = self.arrival(**y);
            let device = other.is_some_and(|o| (o.agent, o.device) == (one.agent, one.device));
            let feed = other.is_some_and(|o| o.entries_feed == one.entries_feed);
            let revoked = matches!(self.deed(**y), Deed::DeviceRevoke(r) if (r.agent, r.device) == (one.agent, one.device));
            revoked || feed || device && self.endings(now, **y).is_empty()
        });
        if there.next().is_some() {
            return None;
        }
        self.has(&self.past[x], &one.agent, &one.device, Some(one))
            .0
            .then_some(())
    }

    /// Whether the identity sets that a set's acts carry give a device, and whether they revoke it.
    fn has(
        &self,
        set: &Set,
        agent: &AgentId,
        device: &DeviceKey,
        more: Option<&Membership>,
    ) -> (bool, bool) {
        let devices = self.devices(set, agent, more);
        (
            devices.present.contains(device),
            devices.revoked.contains(device),
        )
    }

    /// The devices of an agent, as the identity sets that a set's acts carry give them.
    fn devices(&self, set: &Set, agent: &AgentId, more: Option<&Membership>) -> Devices {
        let sets = set
            .iter()
            .filter(|y| self.is_authorised(**y))
            .filter_map(|y| match self.deed(*y) {
                Deed::DeviceRevoke(revoke) if revoke.agent == *agent => Some(&revoke.identity_set),
                _ => self
                    .arrival(*y)
                    .filter(|one| one.agent == *agent)
                    .map(|one| &one.identity_set),
            });
        let sets: Vec<_> = sets.chain(more.map(|one| &one.identity_set)).collect();
        (self.devices_of)(agent, &sets)
    }

    /// Rule 3: the acts of a set that say of the device that `x` brings that it was never one, by
    /// the identity sets in their pasts, their own and the one of `x`.
    fn sayers(&self, set: &Set, x: usize) -> Vec<usize> {
        let Some(one) = self.arrival(x) else {
            return Vec::new();
        };
        let is_genesis = matches!(self.deed(x), Deed::Genesis(_));
        if is_genesis || self.has(set, &one.agent, &one.device, None) != (false, false) {
            return Vec::new();
        }
        let carries = |y: &usize| match self.deed(*y) {
            Deed::DeviceRevoke(revoke) => revoke.agent == one.agent,
            _ => self
                .arrival(*y)
                .is_some_and(|other| other.agent == one.agent),
        };
        let says = |y: &usize| {
            let mut known = self.past[*y].clone();
            known.insert(*y);
            self.has(&known, &one.agent, &one.device, Some(one)) == (false, false)
        };
        set.iter()
            .copied()
            .filter(|y| *y != x && !self.past[x].contains(y) && self.is_authorised(*y))
            .filter(carries)
            .filter(says)
            .collect()
    }

    /// The acts that say that what `x` brings, or the device that does it, never was one, and whose; of those
    /// that do not know of `x`.
    fn unknowing(&self, set: &Set, x: usize) -> Vec<(usize, AgentId)> {
        let arrivals = [x, self.standing(x).unwrap().brought].into_iter();
        let words = arrivals.flat_map(|arrival| {
            let sayers = self.sayers(set, arrival).into_iter();
            sayers.map(move |y| (y, self.arrival(arrival).unwrap().agent))
        });
        words.filter(|(y, _)| !self.past[*y].contains(&x)).collect()
    }

    fn gives(&self, x: usize) -> Option<Role> {
        match self.deed(x) {
            Deed::Genesis(_) => Some(Role::Owner),
            Deed::Admit(admit) => Some(admit.role),
            Deed::Role(change) => Some(change.role),
            _ => None,
        }
    }

    fn is_about(&self, x: usize, agent: &AgentId) -> bool {
        match self.deed(x) {
            Deed::Genesis(genesis) => genesis.owner.agent == *agent,
            Deed::Admit(admit) => admit.member.agent == *agent && self.standing(x).unwrap().begins,
            Deed::Role(change) => change.agent == *agent,
            Deed::Remove(remove) => remove.agent == *agent,
            Deed::Leave(_) => self.standing(x).unwrap().agent == *agent,
            _ => false,
        }
    }

    /// The acts about an agent's role that are in the past of no other.
    fn newest(&self, now: &Set, agent: &AgentId) -> Vec<usize> {
        let about = now.iter().copied().filter(|x| self.is_about(*x, agent));
        let about: Vec<usize> = about.collect();
        let mut newest = about.clone();
        newest.retain(|x| {
            let covers =
                |y: &usize| self.past[*y].contains(x) || self.is_of_stay_before(now, *x, *y);
            !about.iter().any(covers)
        });
        newest
    }

    /// Whether `x`, a change of role or a leaving, is about a stay that is over where `arrival` begins:
    /// it does not know of an ending that the arrival knows.
    fn is_of_stay_before(&self, now: &Set, x: usize, arrival: usize) -> bool {
        let Some(one) = self.arrival(arrival) else {
            return false;
        };
        let ends = |y: &&usize| {
            let ends = matches!(self.deed(**y), Deed::Remove(_) | Deed::Leave(_));
            ends && now.contains(*y) && self.is_about(**y, &one.agent)
        };
        let mut ends = self.past[arrival].iter().filter(ends);
        matches!(self.deed(x), Deed::Role(_) | Deed::Leave(_))
            && !self.past[x].contains(&arrival)
            && ends.any(|y| self.concurrent(x, *y))
    }

    /// Rule 4: the role of an agent among acts that count, and its giver.
    pub(crate) fn role(&self, now: &Set, agent: &AgentId) -> Option<(Role, usize)> {
        let newest = self.newest(now, agent).into_iter();
        let (first, other): (Vec<usize>, Vec<usize>) =
            newest.partition(|x| self.arrival(*x).is_some());
        let role = match other.is_empty() {
            true => first.iter().map(|x| self.gives(*x)).max()??,
            false => other.iter().map(|x| self.gives(*x)).min()??,
        };
        let from = if other.is_empty() { first } else { other };
        let givers = from.into_iter().filter(|x| self.gives(*x) == Some(role));
        Some((role, givers.min_by_key(|x| self.age(*x))?))
    }

    /// The role in which an agent left, and its giver: of several leavings the highest.
    fn left(&self, now: &Set, agent: &AgentId) -> Option<(Role, usize)> {
        let newest = self.newest(now, agent).into_iter();
        let left = newest.filter(|x| matches!(self.deed(*x), Deed::Leave(_)));
        let roles = left.map(|x| self.standing(x).unwrap());
        let roles = roles.map(|by| (by.role, by.giver));
        roles.min_by_key(|(role, giver)| (Reverse(*role), self.age(*giver)))
    }

    /// Whether an act leaves, or changes the own role.
    fn is_about_oneself(&self, x: usize) -> bool {
        match self.deed(x) {
            Deed::Leave(_) => true,
            Deed::Role(change) => change.agent == self.standing(x).unwrap().agent,
            _ => false,
        }
    }

    fn owners(&self, now: &Set) -> BTreeMap<AgentId, usize> {
        let agents: BTreeSet<AgentId> = now
            .iter()
            .filter_map(|x| Some(self.arrival(*x)?.agent))
            .collect();
        let roles = agents
            .into_iter()
            .filter_map(|agent| Some((agent, self.role(now, &agent)?)));
        roles
            .filter(|(_, (role, _))| *role == Role::Owner)
            .map(|(agent, (_, giver))| (agent, giver))
            .collect()
    }

    pub(crate) fn brought(&self, now: &Set, feed: &FeedKey) -> Option<usize> {
        let all = now.iter().copied().filter(|x| {
            self.arrival(*x)
                .is_some_and(|one| one.entries_feed == *feed)
        });
        all.min_by_key(|x| self.age(*x))
    }

    /// What ends the device that `x` brought.
    pub(crate) fn endings(&self, now: &Outcome, x: usize) -> Vec<usize> {
        let one = self.arrival(x).unwrap();
        let ends = |y: &usize| match self.deed(*y) {
            Deed::Remove(_) | Deed::Leave(_) => {
                self.is_about(*y, &one.agent) && !self.is_of_stay_before(&now.counts, *y, x)
            }
            Deed::DeviceRevoke(revoke) => (revoke.agent, revoke.device) == (one.agent, one.device),
            _ => false,
        };
        let never = now.never.get(&x).into_iter().flatten().copied();
        now.counts
            .iter()
            .copied()
            .filter(ends)
            .chain(never)
            .filter(|y| !self.past[x].contains(y))
            .collect()
    }

    /// What cuts the feeds that `x` brought: where its agent itself ends the device, what others say
    /// of that device does not matter.
    pub(crate) fn cutting(&self, now: &Outcome, x: usize) -> Vec<usize> {
        let agent = self.arrival(x).unwrap().agent;
        let of_device = |y: &usize| !matches!(self.deed(*y), Deed::Remove(_) | Deed::Leave(_));
        let is_own = |y: &usize| self.standing(*y).unwrap().agent == agent;
        let (of_device, mut cutting): (Vec<usize>, Vec<usize>) =
            self.endings(now, x).into_iter().partition(of_device);
        let has_own = of_device.iter().any(is_own);
        cutting.extend(of_device.into_iter().filter(|y| !has_own || is_own(y)));
        cutting
    }

    /// Whether an agent may still cut the feeds of one of its devices: it came in at some time, and none
    /// but others revoked it.
    fn may_cut(&self, now: &Outcome, agent: &AgentId, device: &DeviceKey) -> bool {
        let by_other = |y: &usize| self.standing(*y).unwrap().agent != *agent;
        let revokes = |y: &&usize| matches!(self.deed(**y), Deed::DeviceRevoke(r) if (r.agent, r.device) == (*agent, *device));
        let came = |y: &usize| {
            let one = self.arrival(*y);
            one.is_some_and(|one| (one.agent, one.device) == (*agent, *device))
        };
        now.counts.iter().any(came) && now.counts.iter().filter(revokes).all(by_other)
    }

    /// Whether an act revokes a device of its own author.
    fn is_own_revocation(&self, x: usize) -> bool {
        matches!(self.deed(x), Deed::DeviceRevoke(r) if r.agent == self.standing(x).unwrap().agent)
    }

    /// Whether an act takes back what its own author, or one of the author's devices, said.
    fn is_own_word(&self, x: usize) -> bool {
        let agent = self.standing(x).unwrap().agent;
        match self.deed(x) {
            Deed::InviteRevoke(end) => {
                let made = self.acts.iter().position(|one| one.hash == end.act);
                made.is_some_and(|made| self.standing(made).unwrap().agent == agent)
            }
            _ => self.is_about_oneself(x) || self.is_own_revocation(x),
        }
    }

    /// Whom a removal, a leaving or a change of role is about.
    fn target(&self, x: usize) -> Option<AgentId> {
        match self.deed(x) {
            Deed::Role(change) => Some(change.agent),
            Deed::Remove(remove) => Some(remove.agent),
            Deed::Leave(_) => Some(self.standing(x).unwrap().agent),
            _ => None,
        }
    }

    /// Whether another's `y` gave whom `x` is about, at the same time, a rank above the one in which `x`
    /// is said.
    fn lifts(&self, y: usize, x: usize) -> bool {
        let Some(target) = self.target(x) else {
            return false;
        };
        let by = self.standing(x).unwrap();
        let rank = |role, giver| (Reverse(role), self.age(giver));
        let given = self.gives(y).filter(|_| self.is_about(y, &target));
        let by_another = self.standing(y).unwrap().agent != target;
        by_another
            && given.is_some_and(|given| rank(given, y) < rank(by.role, by.giver))
            && self.concurrent(x, y)
    }

    fn knew_as_counting(&self, y: usize, x: usize) -> bool {
        self.past[y].contains(&x) && self.outcome(&self.past[y]).counts.contains(&x)
    }

    /// Whether `y`, another's removal or demotion of the author of `x`, has `x` in its past, and void there; a
    /// demotion only what ends or lowers somebody, and nothing that counted where its author got its role.
    fn knew_as_void(&self, y: usize, x: usize) -> bool {
        let by = self.standing(x).unwrap();
        let ends = match self.deed(y) {
            Deed::Remove(remove) => remove.agent == by.agent,
            Deed::Role(change) => change.agent == by.agent && change.role < by.role,
            _ => false,
        };
        let ends_somebody = matches!(
            self.deed(x),
            Deed::Remove(_) | Deed::Role(_) | Deed::DeviceRevoke(_)
        );
        let to = self.standing(y).unwrap();
        ends && to.agent != by.agent
            && (ends_somebody || matches!(self.deed(y), Deed::Remove(_)))
            && self.past[y].contains(&x)
            && !self.knew_as_counting(y, x)
            && !self.knew_as_counting(to.giver, x)
    }

    /// Whether a counting removal or demotion by another of the agent whose own word `word` is knew `x`, and
    /// that it counts: the word does not take it back.
    fn is_sealed(
        &self,
        x: usize,
        word: usize,
        agent: AgentId,
        set: &Set,
        decided: &Decided,
    ) -> bool {
        let role = self.standing(x).unwrap().role;
        let mut counting = decided.iter().filter(|(_, fate)| **fate == Fate::Counts);
        counting.any(|(y, _)| {
            let by_another = self.standing(*y).unwrap().agent != agent;
            let ends = match self.deed(*y) {
                Deed::Remove(remove) => remove.agent == agent && by_another,
                Deed::Role(change) => change.agent == agent && change.role < role && by_another,
                Deed::Leave(_) => !by_another && self.is_about_oneself(word),
                _ => false,
            };
            // Of two who knew it otherwise the higher rank is right.
            let is_right =
                !self.knew_as_void(word, x) || self.order(*y, set) < self.order(word, set);
            ends && is_right && self.knew_as_counting(*y, x)
        })
    }

    fn order(&self, x: usize, set: &Set) -> (u8, Option<usize>, Reverse<Role>, Age, bool, Age) {
        let by = self.standing(x).unwrap();
        let sort = match self.deed(x) {
            Deed::Genesis(_) => 0,
            _ if self.is_own_revocation(x) => 1,
            _ => 2,
        };
        // Devices that are revoked themselves come after those that are not, the latest first.
        let revoked = self.devices(set, &by.agent, None).revoked;
        let revoked = revoked.iter().position(|device| *device == by.device);
        let revoked = revoked.filter(|_| sort == 1);
        let goes_on = !self.is_about_oneself(x);
        (
            sort,
            revoked,
            Reverse(by.role),
            self.age(by.giver),
            goes_on,
            self.age(x),
        )
    }

    /// What a set that holds the past of each of its acts comes to; rule 6 in front.
    pub(crate) fn outcome(&self, set: &Set) -> Outcome {
        let key: Vec<usize> = set.iter().copied().collect();
        if let Some(known) = self.outcomes.borrow().get(&key) {
            return known.clone();
        }
        let acts: Vec<usize> = set
            .iter()
            .copied()
            .filter(|x| self.is_authorised(*x))
            .collect();
        // A single head is decided after all the rest; else all that is beside something else.
        let settles = |x: &&usize| acts.iter().all(|y| !self.concurrent(**x, *y));
        let settled = acts.iter().rev().find(settles).copied();
        let is_head = settled.is_some() && settled == acts.last().copied();
        let mut before = settled.map_or_else(Set::new, |x| self.past[x].clone());
        before.extend(settled.filter(|_| !is_head));
        let then = match settled {
            Some(_) => self.outcome(&before),
            None => Outcome::default(),
        };
        let mut outcome = Outcome {
            counts: self.pass(&acts, set, &then.aside),
            aside: then.aside.clone(),
            never: BTreeMap::new(),
        };
        for x in &acts {
            outcome.never.insert(*x, self.sayers(set, *x));
        }
        let first = self
            .owners(&then.counts)
            .into_iter()
            .min_by_key(|(_, giver)| self.age(*giver));
        let is_empty = !is_head && self.owners(&outcome.counts).is_empty();
        if let (true, Some((owner, _))) = (is_empty, first) {
            let ends = acts
                .iter()
                .filter(|x| !before.contains(x) && self.is_about(**x, &owner));
            outcome
                .aside
                .extend(ends.filter(|x| self.gives(**x) < Some(Role::Owner)));
            outcome.counts = self.pass(&acts, set, &outcome.aside);
        }
        self.outcomes.borrow_mut().insert(key, outcome.clone());
        outcome
    }

    /// Rules 2, 3 and 5: passes in the order of rank, until one finds nothing that is decided otherwise
    /// from the start.
    fn pass(&self, acts: &[usize], set: &Set, aside: &Set) -> Set {
        let mut order = acts.to_vec();
        order.sort_by_key(|x| self.order(*x, set));
        let mut found = Found::default();
        let mut counts = Set::new();
        for _ in 0..PASSES {
            let void = aside.iter().chain(&found.dropped).chain(&found.stayed);
            let mut decided: Decided = void.map(|x| (*x, Fate::Void)).collect();
            let mut open = Vec::new();
            for x in &order {
                self.take_turn(*x, set, &mut decided, &found, false);
                if !decided.contains_key(x) {
                    open.push(*x);
                }
            }
            for x in &open {
                self.take_turn(*x, set, &mut decided, &found, true);
            }
            counts = decided
                .into_iter()
                .filter(|(_, fate)| *fate == Fate::Counts)
                .map(|(x, _)| x)
                .collect();
            let known = found.len();
            let Found {
                freed,
                dropped,
                stayed,
            } = &mut found;
            stayed.extend(counts.iter().flat_map(|x| self.stayed_beside(*x)));
            freed.extend(open.iter().filter(|x| counts.contains(x)));
            let own = order.iter().filter(|x| counts.contains(x));
            dropped.extend(own.filter(|x| self.is_dropped(**x, set, &counts)));
            if found.len() == known {
                break;
            }
        }
        counts
    }

    /// Decides an act, and what it vouches for; what nothing but own words takes back when it is not the
    /// `end` yet stays open.
    fn take_turn(&self, x: usize, set: &Set, decided: &mut Decided, found: &Found, end: bool) {
        if !decided.contains_key(&x) {
            let Some(fate) = self.fate(x, set, decided, found, end) else {
                return;
            };
            decided.insert(x, fate);
        }
        let counts = decided[&x] == Fate::Counts;
        if let (true, Deed::Role(_)) = (counts, self.deed(x)) {
            for seen in self.standing(x).unwrap().confirms {
                let is_open = !decided.contains_key(&seen);
                let stays = !self.is_void(seen, seen, set, decided, found, false);
                if is_open && stays && self.has_room(seen, decided) {
                    decided.insert(seen, Fate::Counts);
                }
            }
        }
    }

    /// What the author of `x` said of itself that was set aside in what `x` has in its past.
    fn stayed_beside(&self, x: usize) -> Vec<usize> {
        let agent = self.standing(x).unwrap().agent;
        let aside = self.outcome(&self.past[x]).aside.into_iter();
        aside
            .filter(|y| self.is_about_oneself(*y) && self.standing(*y).unwrap().agent == agent)
            .collect()
    }

    /// Whether `x` revokes a device of its own agent, and another's counting revocation took the device by
    /// which it does: one that was revoked before the other.
    fn is_dropped(&self, x: usize, set: &Set, counts: &Set) -> bool {
        let Deed::DeviceRevoke(own) = self.deed(x) else {
            return false;
        };
        let by = self.standing(x).unwrap();
        let revoked = self.devices(set, &by.agent, None).revoked;
        let place = |device: &DeviceKey| revoked.iter().position(|other| other == device);
        let is_before = place(&own.device) < place(&by.device);
        let mut ends = counts.iter().filter(|y| {
            let ends = matches!(self.deed(**y), Deed::DeviceRevoke(r) if (r.agent, r.device) == (by.agent, by.device));
            ends && self.standing(**y).unwrap().agent != by.agent && self.concurrent(x, **y)
        });
        self.is_own_revocation(x) && is_before && ends.next().is_some()
    }

    /// What an act comes to; `None`: nothing but its authors' own words take it back, and this is not the
    /// end.
    fn fate(
        &self,
        x: usize,
        set: &Set,
        decided: &Decided,
        found: &Found,
        end: bool,
    ) -> Option<Fate> {
        let gone = |seen: &usize| {
            self.is_void(*seen, *seen, set, decided, found, false)
                || !decided.contains_key(seen) && !self.has_room(*seen, decided)
        };
        let all_gone = |seen: &[usize]| !seen.is_empty() && seen.iter().all(gone);
        if self.is_void(x, x, set, decided, found, false) {
            return Some(Fate::Void);
        }
        if self.is_void(x, x, set, decided, found, true) {
            return end.then_some(Fate::Void);
        }
        let counts = self.has_room(x, decided) && !all_gone(&self.standing(x).unwrap().confirms);
        Some(if counts { Fate::Counts } else { Fate::Void })
    }

    /// Whether `x`, on which `top` stands, or what `x` stands on, is taken back by what was decided so far, with
    /// or without what its authors themselves take back of all but some acts.
    fn is_void(
        &self,
        x: usize,
        top: usize,
        set: &Set,
        decided: &Decided,
        found: &Found,
        own_words: bool,
    ) -> bool {
        if let Some(fate) = decided.get(&x) {
            return *fate == Fate::Void;
        }
        let own_word = own_words && !found.freed.contains(&x);
        let by = self.standing(x).unwrap();
        let skips = || !self.line(set, &self.acts[x].feed).contains(&x);
        if matches!(self.deed(x), Deed::Genesis(_)) {
            return false;
        }
        if let Deed::DeviceRevoke(revoke) = self.deed(x) {
            let says_nothing = skips() || !self.has(set, &revoke.agent, &revoke.device, None).1;
            let revoked = |y: usize| {
                let device = (by.agent, by.device);
                self.is_own_revocation(y)
                    && matches!(self.deed(y), Deed::DeviceRevoke(r) if (r.agent, r.device) == device)
                    && self.concurrent(x, y)
            };
            if says_nothing || self.is_own_revocation(x) {
                let mut counting = decided.iter().filter(|(_, fate)| **fate == Fate::Counts);
                return says_nothing
                    || !self.unknowing(set, x).is_empty()
                    || counting.any(|(y, _)| revoked(*y));
            }
        }
        let words = self.unknowing(set, x);
        let never = words.iter().any(|(y, agent)| {
            let by_another = matches!(self.deed(*y), Deed::DeviceRevoke(_))
                && self.standing(*y).unwrap().agent != *agent;
            by_another && decided.get(y) == Some(&Fate::Counts)
                || own_word && !self.is_sealed(x, *y, *agent, set, decided)
        });
        let taken = |y: usize| {
            let agent = self.standing(y).unwrap().agent;
            (!self.is_own_word(y) || own_word && !self.is_sealed(x, y, agent, set, decided))
                && self.concurrent(x, y)
                && match (self.deed(y), self.deed(x)) {
                    (Deed::Remove(remove), _) => remove.agent == by.agent,
                    (Deed::Role(change), _) => {
                        change.agent == by.agent
                            && change.role < by.role
                            && !(self.is_about_oneself(x) && self.is_about_oneself(y))
                    }
                    (Deed::Leave(_), _) => {
                        self.standing(y).unwrap().agent == by.agent && !self.is_about_oneself(x)
                    }
                    (Deed::DeviceRevoke(revoke), _) => {
                        (revoke.agent, revoke.device) == (by.agent, by.device)
                    }
                    (Deed::InviteRevoke(end), Deed::Admit(admit)) => {
                        admit.invite.is_some_and(|by| by.act == end.act)
                    }
                    _ => false,
                }
        };
        let stays_void = |y: usize| {
            own_word
                && self.knew_as_void(y, x)
                && !self.knew_as_counting(y, top)
                && !self.is_sealed(x, y, by.agent, set, decided)
        };
        let mut counting = decided.iter().filter(|(_, fate)| **fate == Fate::Counts);
        let mut supports = [Some(by.giver), Some(by.brought), by.invite]
            .into_iter()
            .flatten();
        never
            || skips()
            || counting.any(|(y, _)| taken(*y) || self.lifts(*y, x) || stays_void(*y))
            || supports.any(|y| self.is_void(y, top, set, decided, found, own_words))
    }

    /// Whether what was decided so far leaves room for an invite's use, and a feed.
    fn has_room(&self, x: usize, decided: &Decided) -> bool {
        let beside = || {
            decided
                .iter()
                .filter(|(y, fate)| **fate == Fate::Counts && self.concurrent(x, **y))
                .map(|(y, _)| *y)
        };
        let other_device = |y: usize| match (self.arrival(x), self.arrival(y)) {
            (Some(one), Some(other)) => {
                one.entries_feed == other.entries_feed
                    && (one.agent, one.device) != (other.agent, other.device)
            }
            _ => false,
        };
        if beside().any(other_device) {
            return false;
        }
        let by = self.standing(x).unwrap();
        match self.deed(x) {
            Deed::Admit(admit) => {
                let Some((used, at)) = admit.invite.zip(by.invite) else {
                    return true;
                };
                let Deed::Invite(invite) = self.deed(at) else {
                    return true;
                };
                let same = |y: &usize| matches!(self.deed(*y), Deed::Admit(other) if other.invite.is_some_and(|by| by.act == used.act));
                invite
                    .uses
                    .is_none_or(|uses| by.used + beside().filter(same).count() < uses as usize)
            }
            _ => true,
        }
    }
}
