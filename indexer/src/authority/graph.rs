//! The acts of a room whose pasts are held whole, each with its past, and the lists by which those
//! that have to do with each other are found.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, PublicKey};

use crate::authority::bits::Bits;
use crate::authority::carried::Carried;
use crate::authority::decide::Outcome;
use crate::authority::held::{HeldAct, What};
use crate::entry::{ActHash, Role};
use crate::seal::EpochId;

/// An act of the graph: what it reaches has smaller numbers.
pub(super) type Number = u32;

/// An act whose past is held.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) act: HeldAct,
    /// 1 + the greatest depth among the parents.
    pub(super) depth: u32,
    /// Every act that it reaches.
    pub(super) past: Bits,
    /// What its past makes of it.
    pub(super) standing: Standing,
    /// What does not count of its past.
    pub(super) before: Arc<Outcome>,
    /// What does not count of its past and itself.
    pub(super) after: Arc<Outcome>,
}

/// What an authorised act stands on.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) agent: AgentId,
    pub(super) device: DeviceKey,
    /// What gave its author's agent the role; itself for the genesis.
    pub(super) giver: Number,
    /// What brought in its author's device; itself for the genesis.
    pub(super) brought: Number,
    /// The invite whom it admits had.
    pub(super) invite: Option<Number>,
    /// How many were admitted by that invite before.
    pub(super) used_before: u32,
    /// It admits somebody who was no member.
    pub(super) begins: bool,
    /// Admissions of the agent whose role it changes that hold in its past.
    pub(super) confirms: Vec<Number>,
    /// The grants that it ends.
    pub(super) ends: Vec<Number>,
    pub(super) order: Order,
}

/// In which order acts are decided: the smallest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Order {
    /// Genesis, revocations of own devices, everything else.
    pub(super) sort: u8,
    pub(super) role: Reverse<Role>,
    pub(super) giver: (u32, ActHash),
    /// Whether it is none of the endings of the own role: these go first.
    pub(super) goes_on: bool,
    pub(super) own: (u32, ActHash),
}

/// Numbers by a key.
pub(super) type Lists<K> = HashMap<K, Vec<Number>>;

/// Acts of one feed, in the order of their places.
type InFeed = BTreeMap<(u64, ActHash), Number>;

/// Authorised acts whose pasts are held.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) by_hash: HashMap<ActHash, Number>,
    pub(super) genesis: Option<Number>,
    /// Everything authorised.
    pub(super) authorised: Bits,
    /// By the feed they stand in.
    pub(super) in_feed: HashMap<FeedKey, InFeed>,
    /// The same, as a set.
    pub(super) of_feed: HashMap<FeedKey, Bits>,
    /// By feed and how many acts it has before them.
    pub(super) at_seq: Lists<(FeedKey, u64)>,
    /// What is in line, by feed: see [`Graph::line`].
    pub(super) lines: Lists<FeedKey>,
    /// Feeds of which two acts do not know each other.
    branched: HashSet<FeedKey>,
    /// Authorised acts, by their author's agent.
    pub(super) by_agent: Lists<AgentId>,
    /// What decides an agent's role: genesis, admissions that begin a membership, roles, removals,
    /// leavings.
    pub(super) about: Lists<AgentId>,
    /// What brought a feed in, by entries feed.
    pub(super) admissions: Lists<FeedKey>,
    /// What brought an agent's devices in.
    pub(super) arrivals: Lists<AgentId>,
    pub(super) revokes: Lists<(AgentId, DeviceKey)>,
    pub(super) invites: Lists<PublicKey>,
    /// Admissions and revocations, by the act that made the invite.
    pub(super) invite_uses: Lists<ActHash>,
    pub(super) invite_revokes: Lists<ActHash>,
    /// Announcements, by both ids.
    pub(super) epochs: Lists<EpochId>,
    pub(super) grants: Lists<Hash>,
    /// By the act that gave the grant.
    pub(super) grant_revokes: Lists<ActHash>,
    /// The identity sets that acts carry.
    pub(super) carried: Carried,
    /// Agents that were owners at any time.
    pub(super) ever_owners: Vec<AgentId>,
    /// What stands on an act; void with it.
    pub(super) stands: Vec<Vec<Number>>,
    /// What has to be decided again when an act is contested, and is not void with it.
    watches: Vec<Vec<Number>>,
    /// Acts that something concurrent may take back, or that take back, in the order of deciding.
    pub(super) contested: Vec<Number>,
    pub(super) is_contested: Bits,
    /// Acts after which a leaving is set aside.
    pub(super) with_aside: Vec<Number>,
}

impl Graph {
    /// Takes an act that was judged, and finds what it contests.
    pub(super) fn insert(&mut self, node: Node) -> Number {
        let number = self.nodes.len() as Number;
        self.by_hash.insert(node.act.hash, number);
        self.stands.push(Vec::new());
        self.watches.push(Vec::new());
        let standing = node.standing.clone();
        self.nodes.push(node);
        self.authorised.insert(number);
        self.list(number, &standing);
        self.support(number, &standing);
        self.contest(number, &standing);
        number
    }

    pub(super) fn node(&self, number: Number) -> &Node {
        &self.nodes[number as usize]
    }

    pub(super) fn what(&self, number: Number) -> &What {
        &self.node(number).act.what
    }

    pub(super) fn hash(&self, number: Number) -> ActHash {
        self.node(number).act.hash
    }

    /// Returns what an authorised act stands on.
    pub(super) fn standing(&self, number: Number) -> &Standing {
        &self.node(number).standing
    }

    /// Returns the acts of a feed that are in line among those of `set`: from its first place on
    /// each that has the last one before it in its past.
    pub(super) fn line(&self, feed: &FeedKey, set: &Bits) -> Vec<Number> {
        let mut line: Vec<Number> = Vec::new();
        let acts = self.in_feed.get(feed).into_iter().flat_map(InFeed::values);
        for number in acts.copied().filter(|number| set.contains(*number)) {
            if line.last().is_none_or(|last| self.is_past(*last, number)) {
                line.push(number);
            }
        }
        line
    }

    /// Returns the acts that are in line, and all that they reach.
    pub(super) fn in_line(&self) -> Bits {
        if self.branched.is_empty() {
            return self.authorised.clone();
        }
        let mut lines: Vec<Number> = self.lines.values().flatten().copied().collect();
        lines.sort_unstable();
        let mut reached = Bits::default();
        for number in lines.into_iter().rev() {
            if !reached.contains(number) {
                reached.add(&self.node(number).past);
                reached.insert(number);
            }
        }
        reached
    }

    /// Returns the order among acts of the same rank, and of givers.
    pub(super) fn age(&self, number: Number) -> (u32, ActHash) {
        (self.node(number).depth, self.hash(number))
    }

    pub(super) fn is_past(&self, earlier: Number, later: Number) -> bool {
        self.node(later).past.contains(earlier)
    }

    pub(super) fn are_concurrent(&self, one: Number, other: Number) -> bool {
        one != other && !self.is_past(one, other) && !self.is_past(other, one)
    }

    /// Returns the role that an act about an agent gives; `None`: none at all.
    pub(super) fn given_role(&self, number: Number) -> Option<Role> {
        match self.what(number) {
            What::Genesis { .. } => Some(Role::Owner),
            What::Admit { role, .. } => Some(*role),
            What::Role(change) => Some(change.role),
            _ => None,
        }
    }

    /// Returns whether an act revokes a device of its own author.
    pub(super) fn is_own_revocation(&self, number: Number) -> bool {
        let own = &self.standing(number).agent;
        matches!(self.what(number), What::DeviceRevoke { agent, .. } if agent == own)
    }

    /// Returns whether an act takes back what its own author, or one of the author's devices, said.
    pub(super) fn is_own_word(&self, number: Number) -> bool {
        let agent = self.standing(number).agent;
        match self.what(number) {
            What::InviteRevoke(invite) => {
                let made = self.by_hash.get(&invite.act);
                made.is_some_and(|made| self.standing(*made).agent == agent)
            }
            _ => self.is_about_oneself(number) || self.is_own_revocation(number),
        }
    }

    /// Returns whom an act gives a role.
    pub(super) fn raised(&self, number: Number) -> Option<AgentId> {
        match self.what(number) {
            What::Admit { joining, .. } if self.standing(number).begins => Some(joining.agent),
            What::Role(change) => Some(change.agent),
            _ => None,
        }
    }

    /// Returns whom a removal, a leaving or a change of role is about.
    pub(super) fn target(&self, number: Number) -> Option<AgentId> {
        match self.what(number) {
            What::Role(change) => Some(change.agent),
            What::Remove { agent, .. } => Some(*agent),
            What::Leave(_) => Some(self.standing(number).agent),
            _ => None,
        }
    }

    /// Returns whether another gives whom `below` is about, at the same time, a rank above the one in
    /// which `below` is done.
    pub(super) fn lifts(&self, number: Number, below: Number) -> bool {
        let target = self.target(below);
        let Some(given) = self.given_role(number).filter(|_| target.is_some()) else {
            return false;
        };
        let order = self.standing(below).order;
        self.raised(number) == target
            && Some(self.standing(number).agent) != target
            && (Reverse(given), self.age(number)) < (order.role, order.giver)
            && self.are_concurrent(number, below)
    }

    /// Returns whether an act counts in what another has in its past.
    pub(super) fn knew_as_counting(&self, later: Number, number: Number) -> bool {
        self.is_past(number, later) && !self.node(later).before.void.contains_key(&number)
    }

    /// Returns what another's removal or change of role of `target` has in its past of what that did in a
    /// greater role than it gives, and void there; of a change of role, what ends or lowers somebody. What an
    /// agent said of its own devices is decided before, and what counted where the author of `ending` got
    /// its role, that could not take back by leaving it out.
    pub(super) fn known_as_void(
        &self,
        ending: Number,
        target: &AgentId,
    ) -> impl Iterator<Item = Number> {
        let (by, gives) = (self.standing(ending), self.given_role(ending));
        let is_ending = match self.what(ending) {
            What::Role(_) | What::Remove { .. } => by.agent != *target,
            _ => false,
        };
        let goes_on = gives.is_some();
        let void = self.node(ending).before.void.keys().copied();
        void.filter(move |number| {
            let done = self.standing(*number);
            let ends_somebody = matches!(
                self.what(*number),
                What::Remove { .. } | What::Role(_) | What::DeviceRevoke { .. }
            );
            is_ending
                && done.agent == *target
                && gives < Some(done.order.role.0)
                && (ends_somebody || !goes_on)
                && !self.is_own_revocation(*number)
                && !self.knew_as_counting(by.giver, *number)
        })
    }

    /// Returns whether `ending`, a removal or demotion by another of the agent whose own word `word` is, knew
    /// an act as counting that was done in a greater role; of one's leavings and changes of the own role
    /// another leaving of one's own does the same.
    pub(super) fn seals(
        &self,
        ending: Number,
        number: Number,
        word: Number,
        agent: &AgentId,
    ) -> bool {
        let is_ending = match self.what(ending) {
            What::Role(_) | What::Remove { .. } => self.standing(ending).agent != *agent,
            What::Leave(_) => self.is_about_oneself(word),
            _ => false,
        };
        is_ending
            && self.target(ending).as_ref() == Some(agent)
            && self.given_role(ending) < Some(self.standing(number).order.role.0)
            && self.knew_as_counting(ending, number)
    }

    /// Returns what an act stands on: void with it.
    pub(super) fn supports(&self, number: Number) -> impl Iterator<Item = Number> + use<> {
        let standing = self.standing(number);
        let stands = !self.is_own_revocation(number) && self.genesis != Some(number);
        let supports = [
            Some(standing.giver),
            Some(standing.brought),
            standing.invite,
        ];
        supports.into_iter().flatten().filter(move |_| stands)
    }

    /// Returns whether an act leaves, or changes the own role.
    pub(super) fn is_about_oneself(&self, number: Number) -> bool {
        match self.what(number) {
            What::Leave(_) => true,
            What::Role(change) => change.agent == self.standing(number).agent,
            _ => false,
        }
    }

    /// Returns whether `sharp`, a change of role, a removal or a leaving of `done`'s author, takes it
    /// back where it is decided before. Of what one says of oneself nothing takes back another.
    pub(super) fn takes(&self, sharp: Number, done: Number) -> bool {
        let is_sharp = matches!(
            self.what(sharp),
            What::Role(_) | What::Remove { .. } | What::Leave(_)
        );
        let both_own = || self.is_about_oneself(sharp) && self.is_about_oneself(done);
        is_sharp
            && self.given_role(sharp) < Some(self.standing(done).order.role.0)
            && self.are_concurrent(sharp, done)
            && !both_own()
    }

    fn list(&mut self, number: Number, standing: &Standing) {
        let node = &self.nodes[number as usize];
        let put = |list: &mut Vec<Number>| list.push(number);
        let feed = node.act.feed;
        let in_feed = self.in_feed.entry(feed).or_default();
        in_feed.insert(node.act.place(), number);
        // What is out of line stays so: what it does not know comes no more into its past.
        let nodes = &self.nodes;
        let line = self.lines.entry(feed).or_default();
        let place = node.act.place();
        let at = line.partition_point(|other| nodes[*other as usize].act.place() < place);
        let last = at.checked_sub(1).map(|last| line[last]);
        if last.is_none_or(|last| node.past.contains(last)) {
            line.truncate(at);
            line.push(number);
        }
        self.of_feed.entry(feed).or_default().insert(number);
        put(self.at_seq.entry((feed, node.act.seq)).or_default());
        put(self.by_agent.entry(standing.agent).or_default());
        let mut owner = None;
        match &node.act.what {
            What::Genesis { owner: first, .. } => {
                self.genesis = Some(number);
                put(self.about.entry(first.agent).or_default());
                owner = Some(first.agent);
            }
            What::Admit {
                joining,
                role,
                invite,
                ..
            } => {
                if standing.begins {
                    put(self.about.entry(joining.agent).or_default());
                    owner = (*role == Role::Owner).then_some(joining.agent);
                }
                if let Some(invite) = invite {
                    put(self.invite_uses.entry(invite.act).or_default());
                }
            }
            What::Role(change) => {
                put(self.about.entry(change.agent).or_default());
                owner = (change.role == Role::Owner).then_some(change.agent);
            }
            What::Remove { agent, .. } => put(self.about.entry(*agent).or_default()),
            What::Leave(_) => put(self.about.entry(standing.agent).or_default()),
            What::DeviceRevoke { agent, device, .. } => {
                put(self.revokes.entry((*agent, *device)).or_default());
            }
            What::Invite(invite) => put(self.invites.entry(invite.public_key).or_default()),
            What::InviteRevoke(invite) => put(self.invite_revokes.entry(invite.act).or_default()),
            What::Epoch { id, act_id, .. } => {
                put(self.epochs.entry(*id).or_default());
                if act_id != id {
                    put(self.epochs.entry(*act_id).or_default());
                }
            }
            What::Grant(grant) => put(self.grants.entry(grant.hash).or_default()),
            What::GrantRevoke(_) => {
                for given in &standing.ends {
                    let given = self.nodes[*given as usize].act.hash;
                    put(self.grant_revokes.entry(given).or_default());
                }
            }
            What::DeviceJoin { .. }
            | What::NewerGenesis { .. }
            | What::Delete
            | What::Forgotten => {}
        }
        if let Some(joining) = node.act.what.joining() {
            put(self.admissions.entry(joining.feed).or_default());
            put(self.arrivals.entry(joining.agent).or_default());
        }
        if let Some((agent, set)) = node.act.what.set() {
            self.carried.insert(number, agent, set);
        }
        if let Some(owner) = owner
            && !self.ever_owners.contains(&owner)
        {
            self.ever_owners.push(owner);
        }
    }

    fn support(&mut self, number: Number, standing: &Standing) {
        for support in self.supports(number) {
            self.stands[support as usize].push(number);
        }
        for admission in &standing.confirms {
            self.watches[*admission as usize].push(number);
        }
    }

    /// Marks what the new act may take back, and what may take it back.
    fn contest(&mut self, number: Number, standing: &Standing) {
        let mut marked = Vec::new();
        let node = self.node(number);
        let what = &node.act.what;
        let mut beside = |others: Option<&Vec<Number>>| {
            for other in others.into_iter().flatten() {
                if self.are_concurrent(*other, number) {
                    marked.extend([*other, number]);
                }
            }
        };
        beside(self.revokes.get(&(standing.agent, standing.device)));
        match what {
            What::Admit {
                invite: Some(invite),
                ..
            } => {
                beside(self.invite_uses.get(&invite.act));
                beside(self.invite_revokes.get(&invite.act));
            }
            What::InviteRevoke(invite) => beside(self.invite_uses.get(&invite.act)),
            What::DeviceRevoke { agent, .. } => beside(self.by_agent.get(agent)),
            _ => {}
        }
        if let Some(joining) = what.joining() {
            beside(self.admissions.get(&joining.feed));
        }
        for sharp in self.about.get(&standing.agent).into_iter().flatten() {
            if self.takes(*sharp, number) {
                marked.extend([*sharp, number]);
            }
        }
        let target = match what {
            What::Role(change) => Some(change.agent),
            What::Remove { agent, .. } => Some(*agent),
            What::Leave(_) => Some(standing.agent),
            _ => None,
        };
        if let Some(target) = target {
            for done in self.by_agent.get(&target).into_iter().flatten() {
                if self.takes(number, *done) {
                    marked.extend([*done, number]);
                }
            }
            for done in self.known_as_void(number, &target) {
                marked.extend([done, number]);
            }
        }
        for other in self.beside_in_rank(number) {
            marked.extend([other, number]);
        }
        // In some set each that follows something it does not know is out of line.
        let place = node.act.place();
        let in_feed = &self.in_feed[&node.act.feed];
        let mut before = in_feed.range(..place);
        let later = in_feed.range(place..).map(|(_, other)| *other);
        let later = later.filter(|other| *other != number);
        let follows: Vec<Number> = later.collect();
        let is_branch =
            !follows.is_empty() || before.any(|(_, other)| !self.is_past(*other, number));
        if is_branch {
            marked.push(number);
            marked.extend(follows);
        }
        if let Some((agent, _)) = what.set()
            && self.is_mixed(&agent)
        {
            marked.extend(self.carriers(&agent));
        }
        let supports = self.supports(number);
        let mut supports = supports.chain(standing.confirms.iter().copied());
        if supports.any(|support| self.is_contested.contains(support)) {
            marked.push(number);
        }
        if is_branch {
            let feed = self.node(number).act.feed;
            self.branched.insert(feed);
        }
        self.mark(marked);
    }

    /// Returns the acts that give a rank above its author's to whom an act is about, or are by such
    /// about whom it gives a rank.
    fn beside_in_rank(&self, number: Number) -> Vec<Number> {
        let of = |lists: &Lists<AgentId>, agent: Option<AgentId>| {
            let list = agent.and_then(|agent| lists.get(&agent));
            list.map_or_else(Vec::new, Vec::clone)
        };
        let lifting = of(&self.about, self.target(number)).into_iter();
        let lifting = lifting.filter(|other| self.lifts(*other, number));
        let raised = self.raised(number);
        let below = of(&self.about, raised).into_iter();
        let below = below.filter(|other| self.lifts(number, *other));
        lifting.chain(below).collect()
    }

    fn mark(&mut self, mut marked: Vec<Number>) {
        while let Some(number) = marked.pop() {
            if self.is_contested.contains(number) || self.genesis == Some(number) {
                continue;
            }
            self.is_contested.insert(number);
            let order = |number: Number| self.standing(number).order;
            let own = order(number);
            let at = self.contested.partition_point(|other| order(*other) < own);
            self.contested.insert(at, number);
            marked.extend(&self.stands[number as usize]);
            marked.extend(&self.watches[number as usize]);
        }
    }
}
