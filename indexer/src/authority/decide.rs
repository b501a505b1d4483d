//! Which authorised acts of a set count: one pass in the order of their rank.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};

use crate::authority::bits::Bits;
use crate::authority::carried::DevicesOf;
use crate::authority::graph::{Graph, Number, Order};
use crate::authority::held::What;
use crate::authority::state::State;
use crate::authority::verdict::{Void, VoidReason};
use crate::entry::Role;
use crate::limits::ROOM_PASSES_MAX;
use crate::mistake::{Mistake, makes};

/// What does not count of the authorised acts of a set.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) void: HashMap<Number, Void>,
    /// Endings of an owner's role that are set aside, so that an owner is left.
    pub(super) aside: Vec<Number>,
    /// Arrivals of devices that were never one, with the acts that say so.
    pub(super) never: HashMap<Number, Vec<Number>>,
}

impl Graph {
    /// Decides an act and its past, whose outcome is `before`.
    pub(super) fn decide_after(
        &self,
        set: &Bits,
        devices_of: DevicesOf,
        before: &Outcome,
    ) -> Arc<Outcome> {
        Arc::new(Pass::over(self, set, before.aside.clone(), devices_of))
    }

    /// Decides the acts of a set that holds the past of each; `nothing` is the outcome where
    /// nothing is contested.
    pub(super) fn decide(
        &self,
        set: &Bits,
        devices_of: DevicesOf,
        nothing: &Arc<Outcome>,
    ) -> Arc<Outcome> {
        let Some(last) = set.last_common(&self.authorised) else {
            return nothing.clone();
        };
        if set.common_is_within(&self.authorised, &self.node(last).past, last) {
            return self.node(last).after.clone();
        }
        let any = |list: &[Number]| list.iter().any(|number| set.contains(*number));
        let with_aside = any(&self.with_aside);
        let mut settled = None;
        let mut aside = Vec::new();
        if with_aside {
            settled = self.last_settled(set);
            aside = settled.map_or_else(Vec::new, |at| self.node(at).after.aside.clone());
        }
        let outcome = if with_aside || any(&self.contested) {
            Arc::new(Pass::over(self, set, aside.clone(), devices_of))
        } else {
            nothing.clone()
        };
        if State::new(self, set, &outcome).has_owner() || makes(Mistake::NoOwner) {
            return outcome;
        }
        let Some(settled) = settled.or_else(|| self.last_settled(set)) else {
            return outcome;
        };
        let mut before = self.node(settled).past.clone();
        before.insert(settled);
        let then = State::new(self, &before, &self.node(settled).after);
        if let Some(owner) = then.first_owner() {
            let endings = self.about.get(&owner).into_iter().flatten().copied();
            aside.extend(endings.filter(|ending| {
                set.contains(*ending)
                    && !before.contains(*ending)
                    && self.given_role(*ending) < Some(Role::Owner)
            }));
        }
        Arc::new(Pass::over(self, set, aside, devices_of))
    }

    /// Returns the last authorised act that every other of the set is before or after.
    fn last_settled(&self, set: &Bits) -> Option<Number> {
        let acts: Vec<Number> = set
            .iter()
            .filter(|number| self.authorised.contains(*number))
            .collect();
        let settles = |at: Number| !acts.iter().any(|other| self.are_concurrent(at, *other));
        let mut latest = acts.iter().rev().copied();
        latest.find(|at| settles(*at))
    }
}

/// One pass over what is contested.
struct Pass<'a> {
    graph: &'a Graph,
    set: &'a Bits,
    void: HashMap<Number, Void>,
    decided: HashSet<Number>,
    /// What own words take back, and what a removal knew as void, when its turn comes.
    own_word: HashMap<Number, Vec<OwnWord>>,
    /// What nothing but own words took back in its turn.
    open: Vec<Number>,
    never: HashMap<Number, Vec<Number>>,
    /// Whose turn it is; `None` before and after all.
    turn: Option<Order>,
    found: Found,
}

/// What an agent says of what it did itself, or what another's removal of it knew of that.
#[derive(Clone, Copy)]
struct OwnWord {
    agent: AgentId,
    by: Number,
    why: VoidReason,
}

/// What the passes before found.
#[derive(Default)]
struct Found {
    /// Acts that counted in the end, though own words took them back in their turn.
    freed: HashSet<Number>,
    /// Revocations by a device of its agent's other devices, with another's revocation of that device.
    dropped: BTreeMap<Number, Number>,
    /// What agents said of themselves, was set aside for want of another owner, and is in the past of what
    /// they did since.
    stayed: BTreeSet<Number>,
}

impl<'a> Pass<'a> {
    fn over(graph: &'a Graph, set: &'a Bits, aside: Vec<Number>, devices_of: DevicesOf) -> Outcome {
        let mut pass = Pass {
            graph,
            set,
            void: HashMap::new(),
            decided: HashSet::new(),
            own_word: HashMap::new(),
            open: Vec::new(),
            turn: None,
            never: HashMap::new(),
            found: Found::default(),
        };
        let contested = graph.contested.iter().copied();
        let contested: Vec<Number> = contested.filter(|number| set.contains(*number)).collect();
        for number in &aside {
            pass.take_back(*number, None, VoidReason::LastOwner);
        }
        for number in &contested {
            let sayers = pass.sayers(*number, devices_of);
            if !sayers.is_empty() {
                pass.never.insert(*number, sayers);
            }
        }
        // What is in line of the feeds that were asked about.
        let mut lines = HashMap::new();
        for number in &contested {
            if let Some((by, why)) = pass.fails_alone(*number, &mut lines, devices_of) {
                pass.take_back(*number, by, why);
            }
        }
        let own = |number: &Number| graph.is_own_revocation(*number);
        let (mut own, others): (Vec<Number>, Vec<Number>) = contested.into_iter().partition(own);
        let latest = |number: &Number, device: &DeviceKey| {
            let agent = &graph.standing(*number).agent;
            let devices = graph.devices_in(agent, set, None, devices_of);
            devices.revoked.iter().position(|other| other == device)
        };
        if own.len() > 1 {
            own.sort_by_cached_key(|number| latest(number, &graph.standing(*number).device));
        }
        let before = pass.void.clone();
        let of_no_device = pass.of_no_device(&others);
        pass.own_word.clone_from(&of_no_device);
        pass.run(&own, &others);
        for _ in 1..ROOM_PASSES_MAX {
            if !pass.find(&own, &latest) {
                break;
            }
            pass.void.clone_from(&before);
            pass.decided.clear();
            pass.own_word.clone_from(&of_no_device);
            for number in pass.found.stayed.clone() {
                pass.take_back(number, None, VoidReason::LastOwner);
            }
            for (number, by) in pass.found.dropped.clone() {
                pass.take_back(number, Some(by), VoidReason::Revoked);
            }
            pass.run(&own, &others);
        }
        let (void, never) = (pass.void, pass.never);
        Outcome { void, aside, never }
    }

    /// Decides one after another, in the order of rank.
    fn run(&mut self, own: &[Number], others: &[Number]) {
        for number in own.iter().chain(others) {
            if !self.void.contains_key(number) {
                self.turn = Some(self.graph.standing(*number).order);
                self.decide(*number);
            }
        }
        self.turn = None;
        for number in self.open.clone() {
            if !self.void.contains_key(&number) {
                self.decide(number);
            }
        }
    }

    /// Finds what is decided otherwise from the start in the next pass; returns whether there is any.
    /// `latest` is the place of a device among those of an act's agent that are revoked.
    fn find(
        &mut self,
        own: &[Number],
        latest: &impl Fn(&Number, &DeviceKey) -> Option<usize>,
    ) -> bool {
        let graph = self.graph;
        let mut found = false;
        for number in std::mem::take(&mut self.open) {
            found |= self.decided.contains(&number) && self.found.freed.insert(number);
        }
        for number in own.iter().filter(|number| self.decided.contains(number)) {
            let What::DeviceRevoke { device, .. } = graph.what(*number) else {
                continue;
            };
            let by = graph.standing(*number);
            let ends = graph.revokes.get(&(by.agent, by.device));
            let mut ends = ends.into_iter().flatten().filter(|end| {
                graph.standing(**end).agent != by.agent
                    && self.decided.contains(end)
                    && graph.are_concurrent(**end, *number)
            });
            if let Some(end) = ends.next()
                && latest(number, device) < latest(number, &by.device)
            {
                self.found.dropped.insert(*number, *end);
                found = true;
            }
        }
        let after = graph
            .with_aside
            .iter()
            .filter(|number| self.set.contains(**number) && !self.void.contains_key(number));
        for number in after {
            let agent = &graph.standing(*number).agent;
            for aside in &graph.node(*number).before.aside {
                if graph.standing(*aside).agent == *agent && graph.is_about_oneself(*aside) {
                    found |= self.found.stayed.insert(*aside);
                }
            }
        }
        found
    }

    /// Returns why an act does not hold whatever else does: it is not in line in its
    /// feed, its revocation is not what the statements say, or retires a device of an agent whose
    /// its own never was.
    fn fails_alone(
        &self,
        number: Number,
        lines: &mut HashMap<FeedKey, Vec<Number>>,
        devices_of: DevicesOf,
    ) -> Option<(Option<Number>, VoidReason)> {
        let graph = self.graph;
        let node = graph.node(number);
        let feed = node.act.feed;
        let set = self.set;
        let line = lines.entry(feed);
        let line = line.or_insert_with(|| graph.line(&feed, set));
        let skipped = (!line.contains(&number)).then(|| {
            let mut line = line.iter().copied();
            line.find(|other| !graph.is_past(*other, number))
        });
        let skipped = skipped.flatten();
        if skipped.is_some() && !makes(Mistake::BothBranches) {
            return Some((skipped, VoidReason::Skips));
        }
        if let What::DeviceRevoke { agent, device, .. } = &node.act.what {
            let revoked = !graph.is_mixed(agent) || {
                let devices = graph.devices_in(agent, self.set, None, devices_of);
                devices.revoked.contains(device)
            };
            if !revoked {
                return Some((None, VoidReason::NotRevoked));
            }
            if graph.is_own_revocation(number) {
                let word = self.unknowing(number).into_iter().next()?;
                return Some((Some(word.by), word.why));
            }
        }
        None
    }

    /// Returns the words on what an act brings in, and on its author's device, that it never was one, of
    /// those that do not know the act: the oldest first.
    fn unknowing(&self, number: Number) -> Vec<OwnWord> {
        let graph = self.graph;
        let mut words = Vec::new();
        for arrival in [number, graph.standing(number).brought] {
            let Some(joining) = graph.what(arrival).joining() else {
                continue;
            };
            let sayers = self.never.get(&arrival).into_iter().flatten().copied();
            let sayers = sayers.filter(|by| !graph.is_past(number, *by));
            words.extend(sayers.map(|by| OwnWord {
                agent: joining.agent,
                by,
                why: VoidReason::NeverDevice,
            }));
        }
        words.sort_by_key(|word| graph.age(word.by));
        words
    }

    /// Returns what devices did that never were one, and what brought them in, with the words that say
    /// so.
    fn of_no_device(&self, others: &[Number]) -> HashMap<Number, Vec<OwnWord>> {
        if self.never.is_empty() {
            return HashMap::new();
        }
        let words = others
            .iter()
            .map(|number| (*number, self.unknowing(*number)));
        words.filter(|(_, words)| !words.is_empty()).collect()
    }

    /// Returns the acts that say of the device that an act brings in that it was never its agent's:
    /// by the identity sets in their pasts, their own, and the one that the device came with. None
    /// where all the sets together say that it is, or was.
    fn sayers(&self, arrival: Number, devices_of: DevicesOf) -> Vec<Number> {
        let graph = self.graph;
        let Some(joining) = graph.what(arrival).joining() else {
            return Vec::new();
        };
        let agent = &joining.agent;
        if !graph.is_mixed(agent) || makes(Mistake::StolenAddition) {
            return Vec::new();
        }
        let together = graph.devices_in(agent, self.set, None, devices_of);
        if together.know(&joining.device) {
            return Vec::new();
        }
        let others = graph.carriers(agent).filter(|other| {
            self.set.contains(*other) && *other != arrival && !graph.is_past(*other, arrival)
        });
        let says = |other: &Number| graph.says_never(*other, arrival, joining, devices_of);
        others.filter(says).collect()
    }

    fn decide(&mut self, number: Number) {
        let graph = self.graph;
        if !self.decided.contains(&number) {
            if let Some(void) = self.taken_back_by(number) {
                if self.turn.is_some() {
                    return self.open.push(number);
                }
                self.void.insert(number, void);
                return;
            }
            if let Some((by, why)) = self.taken(number) {
                return self.take_back(number, by, why);
            }
            if let Some(void) = self.unconfirmed(number) {
                self.put(number, void);
                return self.take_what_stands_on(number);
            }
            self.count(number);
        }
        match graph.what(number) {
            What::Role(change) => {
                self.confirm(number);
                self.take_from(number, &change.agent, VoidReason::Demoted);
                self.leave_void(number, &change.agent);
            }
            What::Leave(_) => {
                let author = graph.standing(number).agent;
                self.take_from(number, &author, VoidReason::Left);
            }
            What::Remove { .. } if makes(Mistake::WeakRemoval) => {}
            What::DeviceRevoke { .. } if makes(Mistake::WeakRevocation) => {}
            What::Remove { agent, .. } => {
                self.take_from(number, agent, VoidReason::Removed);
                self.leave_void(number, agent);
            }
            What::DeviceRevoke { agent, device, .. } => {
                let done = graph.by_agent.get(agent).into_iter().flatten().copied();
                let done = done.filter(|done| {
                    graph.standing(*done).device == *device && graph.are_concurrent(*done, number)
                });
                let own = |done: &Number| graph.is_own_revocation(*done);
                let (own, others): (Vec<Number>, Vec<Number>) = done.partition(own);
                if graph.is_own_revocation(number) {
                    self.take_hard(number, own, VoidReason::Revoked);
                } else {
                    let of_no_device = self.told_of_no_device(number, agent);
                    self.take_hard(number, of_no_device, VoidReason::NeverDevice);
                }
                self.take_all(number, others, VoidReason::Revoked);
            }
            What::InviteRevoke(invite) => {
                let uses = graph
                    .invite_uses
                    .get(&invite.act)
                    .into_iter()
                    .flatten()
                    .copied();
                let uses = uses.filter(|at| graph.are_concurrent(*at, number));
                self.take_all(number, uses.collect(), VoidReason::InviteRevoked);
            }
            _ => {}
        }
    }

    /// Returns what a revocation by another says that no device of the agent did, or brought in.
    fn told_of_no_device(&self, by: Number, agent: &AgentId) -> Vec<Number> {
        let graph = self.graph;
        let says = |arrival: &Number| {
            let sayers = self.never.get(arrival);
            sayers.is_some_and(|sayers| sayers.contains(&by))
        };
        let arrivals = graph.arrivals.get(agent).into_iter().flatten().copied();
        let done = graph.by_agent.get(agent).into_iter().flatten().copied();
        let done = done.filter(|done| says(&graph.standing(*done).brought));
        let all = arrivals.filter(says).chain(done);
        all.filter(|done| !graph.is_past(*done, by)).collect()
    }

    /// Decides that an act counts; whoever is given a rank by it is not judged by lower ones that did
    /// not know of it.
    fn count(&mut self, number: Number) {
        let graph = self.graph;
        self.decided.insert(number);
        let Some(agent) = graph.raised(number) else {
            return;
        };
        let lifted = graph.about.get(&agent).into_iter().flatten().copied();
        let lifted = lifted.filter(|below| graph.lifts(number, *below));
        self.take_hard(number, lifted.collect(), VoidReason::Lifted);
    }

    /// Returns what takes an act back when the turn of `number`, which stands on it, comes: an own word where
    /// no removal or demotion of whose it is knew that the act counts, or that it was void where such a one
    /// knew it, and did not know that `number` counts.
    fn said_back(&self, act: Number, number: Number) -> Option<Void> {
        let graph = self.graph;
        if self.found.freed.contains(&act) {
            return None;
        }
        let is_sealed = |word: &OwnWord| {
            let mut about = graph.about.get(&word.agent).into_iter().flatten();
            about.any(|ending| {
                let order = graph.standing(*ending).order;
                let is_decided = match graph.is_contested.contains(*ending) {
                    true => self.decided.contains(ending),
                    false => self.turn.is_none_or(|turn| order < turn),
                };
                // Of two who knew it otherwise the higher rank is right.
                let is_right =
                    word.why != VoidReason::WasVoid || order < graph.standing(word.by).order;
                is_decided
                    && is_right
                    && self.set.contains(*ending)
                    && !self.void.contains_key(ending)
                    && graph.seals(*ending, act, word.by, &word.agent)
            })
        };
        let words = self.own_word.get(&act).into_iter().flatten();
        let words =
            words.filter(|word| !is_sealed(word) && !graph.knew_as_counting(word.by, number));
        let word = words.min_by_key(|word| word.why == VoidReason::WasVoid)?;
        Some(Void {
            by: Some(graph.hash(word.by)),
            why: word.why,
            stands_on: false,
        })
    }

    /// Returns whose own word takes an act back, or what it stands on.
    fn taken_back_by(&self, number: Number) -> Option<Void> {
        if self.own_word.is_empty() {
            return None;
        }
        let mut next = vec![number];
        let mut seen = HashSet::new();
        while let Some(at) = next.pop() {
            // What nothing contests is nothing that anybody took back.
            let is_decided = self.decided.contains(&at) || !self.graph.is_contested.contains(at);
            if is_decided || !seen.insert(at) {
                continue;
            }
            if let Some(void) = self.said_back(at, number) {
                let stands_on = void.stands_on || at != number;
                return Some(Void { stands_on, ..void });
            }
            next.extend(self.graph.supports(at));
        }
        None
    }

    /// Returns what of the acts decided before leaves no room for this one.
    fn taken(&self, number: Number) -> Option<(Option<Number>, VoidReason)> {
        let graph = self.graph;
        let standing = graph.standing(number);
        let beside = |others: Option<&Vec<Number>>| -> Vec<Number> {
            let others = others.into_iter().flatten().copied();
            let others = others.filter(|other| {
                self.decided.contains(other) && graph.are_concurrent(*other, number)
            });
            others.collect()
        };
        let first = |others: Vec<Number>| {
            let order = |other: &Number| graph.standing(*other).order;
            let first = others.into_iter().min_by_key(order);
            first.map(|other| (Some(other), VoidReason::Taken))
        };
        if let Some(joining) = graph.what(number).joining() {
            let mut others = beside(graph.admissions.get(&joining.feed));
            others.retain(|other| {
                let other = graph.what(*other).joining();
                other.is_some_and(|other| {
                    (other.agent, other.device) != (joining.agent, joining.device)
                })
            });
            if let Some(taken) = first(others) {
                return Some(taken);
            }
        }
        match graph.what(number) {
            What::Admit {
                invite: Some(named),
                ..
            } => {
                let What::Invite(invite) = graph.what(standing.invite?) else {
                    return None;
                };
                let beside = beside(graph.invite_uses.get(&named.act)).len() as u32;
                let used = standing.used_before.saturating_add(beside);
                let used_up = invite.uses.is_some_and(|uses| used >= uses);
                let used_up = used_up && !makes(Mistake::InviteWithoutEnd);
                used_up.then_some((None, VoidReason::InviteUsedUp))
            }
            _ => None,
        }
    }

    /// Returns why a change of role has nothing left to change: each of the admissions that it saw
    /// is void, or finds no room.
    fn unconfirmed(&self, number: Number) -> Option<Void> {
        let confirms = &self.graph.standing(number).confirms;
        let mut gone = Vec::with_capacity(confirms.len());
        for admission in confirms {
            gone.push((*admission, self.gone(*admission)?));
        }
        let first = gone.into_iter().min_by_key(|(at, _)| self.graph.age(*at));
        first.map(|(_, void)| Void {
            stands_on: true,
            ..void
        })
    }

    /// Returns why an admission does not count, or would not were it decided now.
    fn gone(&self, admission: Number) -> Option<Void> {
        if self.decided.contains(&admission) {
            return None;
        }
        let void = self.void.get(&admission).copied();
        void.or_else(|| {
            let (by, why) = self.taken(admission)?;
            Some(Void {
                by: by.map(|by| self.graph.hash(by)),
                why,
                stands_on: false,
            })
        })
    }

    /// Who gives a member a role vouches for the devices that it has in the act's past.
    fn confirm(&mut self, number: Number) {
        for admission in &self.graph.standing(number).confirms {
            if self.gone(*admission).is_none() && !self.decided.contains(admission) {
                self.count(*admission);
            }
        }
    }

    fn take_from(&mut self, sharp: Number, target: &AgentId, why: VoidReason) {
        let graph = self.graph;
        let done = graph.by_agent.get(target).into_iter().flatten().copied();
        let done = done.filter(|done| graph.takes(sharp, *done) && !graph.is_own_revocation(*done));
        self.take_all(sharp, done.collect(), why);
    }

    /// What another's removal or demotion of an agent knew as void of what that did in a greater role stays
    /// void, as if the agent itself said so.
    fn leave_void(&mut self, by: Number, agent: &AgentId) {
        let graph = self.graph;
        let done = graph.known_as_void(by, agent);
        let done: Vec<Number> = done.filter(|done| self.is_open(*done)).collect();
        let word = OwnWord {
            agent: *agent,
            by,
            why: VoidReason::WasVoid,
        };
        for done in done {
            self.own_word.entry(done).or_default().push(word);
        }
    }

    /// Takes back each of `targets` that is not decided yet, then what stands on them; by its author's
    /// own word when its turn comes.
    fn take_all(&mut self, by: Number, targets: Vec<Number>, why: VoidReason) {
        if !self.graph.is_own_word(by) {
            return self.take_hard(by, targets, why);
        }
        let agent = self.graph.standing(by).agent;
        let word = OwnWord { agent, by, why };
        for target in targets {
            if self.is_open(target) {
                self.own_word.entry(target).or_default().push(word);
            }
        }
    }

    fn take_hard(&mut self, by: Number, targets: Vec<Number>, why: VoidReason) {
        let void = Void {
            by: Some(self.graph.hash(by)),
            why,
            stands_on: false,
        };
        let mut taken = targets;
        taken.retain(|target| self.put(*target, void));
        for target in taken {
            self.take_what_stands_on(target);
        }
    }

    fn take_back(&mut self, number: Number, by: Option<Number>, why: VoidReason) {
        let void = Void {
            by: by.map(|by| self.graph.hash(by)),
            why,
            stands_on: false,
        };
        if self.put(number, void) {
            self.take_what_stands_on(number);
        }
    }

    fn take_what_stands_on(&mut self, number: Number) {
        let Some(void) = self.void.get(&number).copied() else {
            return;
        };
        let void = Void {
            stands_on: true,
            ..void
        };
        let mut next = vec![number];
        while let Some(number) = next.pop() {
            for other in &self.graph.stands[number as usize] {
                if self.put(*other, void) {
                    next.push(*other);
                }
            }
        }
    }

    /// Makes an act void that is of the set and neither void nor decided; returns whether it was.
    fn put(&mut self, number: Number, void: Void) -> bool {
        let is_open = self.is_open(number);
        if is_open {
            self.void.insert(number, void);
        }
        is_open
    }

    fn is_open(&self, number: Number) -> bool {
        self.set.contains(number)
            && !self.decided.contains(&number)
            && !self.void.contains_key(&number)
    }
}
