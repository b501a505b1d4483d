//! The acts of a room as they come, in any order.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};

use crate::authority::aside::Aside;
use crate::authority::bits::Bits;
use crate::authority::carried::DevicesOf;
use crate::authority::decide::Outcome;
use crate::authority::graph::{Graph, Node, Number};
use crate::authority::held::{HeldAct, devices_of};
use crate::authority::judge::Judge;
use crate::authority::state::State;
use crate::authority::view::Authority;
use crate::authority::{Refusal, Verdict};
use crate::entry::{ActHash, Parents, Role};
use crate::limits::{ROOM_ACT_PARENTS_MAX, ROOM_ACTS_HELD_MAX, ROOM_ACTS_MAX};
use crate::mistake::{Mistake, makes};

/// Depth and name.
type Age = (u32, ActHash);

/// What the next act of a writer goes after.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ActHeads {
    /// Counting acts that no counting act reaches, by their hashes.
    pub heads: Vec<ActHash>,
    /// The writer's own act before, where none of the heads that are named reaches it.
    pub own: Option<ActHash>,
    /// How many authorised acts the writer's feed has.
    pub seq: u64,
}

impl ActHeads {
    /// Returns what the act names as seen.
    pub fn parents(&self) -> Parents {
        Parents::new(self.heads.iter().copied(), self.own)
    }
}

/// The acts of one room.
///
/// What is evaluated are the authorised acts that are in line in their feeds, and what they reach: at
/// most [`ROOM_ACTS_MAX`]. Of more the first by depth, then hash; the others are
/// [`Verdict::Beyond`], the same ones everywhere. What is refused, and what is out of line, is of no
/// weight there, however much of it there is.
#[derive(Debug)]
pub struct RoomActs {
    graph: Graph,
    devices_of: DevicesOf,
    limit: usize,
    /// Acts by name, with parents that are not held.
    waiting: HashMap<ActHash, HeldAct>,
    /// Who waits for an act.
    awaited: HashMap<ActHash, Vec<ActHash>>,
    aside: Aside,
    /// The depth and name of the last act that is evaluated, once there may be more.
    full_at: Option<Age>,
    /// The greatest depth and name of an act that is not refused.
    last: Option<Age>,
    /// No others are in line, or reached from there.
    counted: Bits,
    /// What is evaluated has to be chosen anew.
    is_out_of_order: bool,
    /// What is evaluated.
    all: Bits,
    /// Acts in line that no act in line reaches.
    heads: Vec<Number>,
    nothing: Arc<Outcome>,
    outcome: Option<Arc<Outcome>>,
}

impl Default for RoomActs {
    fn default() -> Self {
        RoomActs::new(devices_of, ROOM_ACTS_MAX)
    }
}

impl RoomActs {
    /// Returns a room without acts, which evaluates identity sets by `devices_of` and at most `limit`
    /// acts; [`default`](Self::default) is what everybody does.
    pub fn new(devices_of: DevicesOf, limit: usize) -> Self {
        RoomActs {
            graph: Graph::default(),
            devices_of,
            limit,
            waiting: HashMap::new(),
            awaited: HashMap::new(),
            aside: Aside::default(),
            full_at: None,
            last: None,
            counted: Bits::default(),
            is_out_of_order: false,
            all: Bits::default(),
            heads: Vec::new(),
            nothing: Arc::default(),
            outcome: None,
        }
    }

    /// Takes an act; one that is known changes nothing. Returns whether it was new.
    pub fn add(&mut self, act: HeldAct) -> bool {
        let hash = act.hash;
        if self.is_held(&hash) || self.waiting.contains_key(&hash) {
            return false;
        }
        let mut ready = vec![act];
        while let Some(act) = ready.pop() {
            let hash = act.hash;
            let missing = act.parents.iter().find(|parent| !self.is_held(parent));
            if let Some(missing) = missing {
                self.awaited.entry(*missing).or_default().push(hash);
                self.waiting.insert(hash, act);
                continue;
            }
            self.take(act);
            let waiting = self.awaited.remove(&hash).unwrap_or_default();
            ready.extend(waiting.iter().filter_map(|hash| self.waiting.remove(hash)));
        }
        true
    }

    /// Returns what follows from the acts.
    pub fn authority(&mut self) -> Authority {
        let outcome = self.evaluate();
        let state = State::new(&self.graph, &self.all, &outcome);
        let mut authority = Authority::of(&self.graph, state);
        for (hash, act) in &self.waiting {
            let parents = act.parents.iter().copied();
            let missing = parents.filter(|parent| !self.is_held(parent)).collect();
            authority.add_act(*hash, act, 0, Verdict::Waits(missing));
        }
        let nodes = self.graph.nodes.iter().zip(0..);
        let out_of_line = nodes.filter(|(_, number)| !self.all.contains(*number));
        let out_of_line = out_of_line.map(|(node, _)| (&node.act, node.depth));
        for (act, depth, verdict) in self.aside.verdicts(out_of_line) {
            authority.add_act(act.hash, act, depth, verdict);
        }
        authority
    }

    /// Returns the role of an agent.
    pub fn role(&mut self, agent: &AgentId) -> Option<Role> {
        let outcome = self.evaluate();
        let state = State::new(&self.graph, &self.all, &outcome);
        state.role(agent).map(|(role, _)| role)
    }

    /// Returns what the next act in `own` goes after.
    ///
    /// Void acts are not named: whoever does not hold them need not wait for them.
    pub fn heads(&mut self, own: &FeedKey) -> ActHeads {
        let outcome = self.evaluate();
        let state = State::new(&self.graph, &self.all, &outcome);
        let mut heads: Vec<Number> = Vec::new();
        // Void heads are stepped over.
        let mut open: BTreeSet<Number> = self.heads.iter().copied().collect();
        while let Some(number) = open.pop_last() {
            if heads
                .iter()
                .any(|later| *later == number || self.graph.is_past(number, *later))
            {
                continue;
            }
            if state.counts(number) {
                heads.push(number);
                continue;
            }
            let parents = self.graph.node(number).act.parents.iter();
            open.extend(parents.filter_map(|parent| self.graph.by_hash.get(parent)));
        }
        let own = self
            .graph
            .lines
            .get(own)
            .and_then(|line| line.last())
            .copied();
        let seq = own.map_or(0, |own| self.graph.node(own).act.seq + 1);
        // Of more heads than an act names the one that reaches it may be left out.
        let all_named = heads.len() <= ROOM_ACT_PARENTS_MAX;
        let own = own
            .filter(|own| !all_named || !heads.iter().any(|head| self.graph.is_past(*own, *head)));
        let mut heads: Vec<ActHash> = heads.into_iter().map(|at| self.graph.hash(at)).collect();
        heads.sort_unstable();
        ActHeads {
            heads,
            own: own.map(|own| self.graph.hash(own)),
            seq,
        }
    }

    /// Returns the different identity sets of an agent that the acts carry, as they are encoded.
    pub fn identity_sets(&self, agent: &AgentId) -> &[Bytes] {
        self.graph.carried.sets(agent)
    }

    /// Returns why an act is not authorised; `None` where it is, or waits, or is not known.
    pub fn refusal(&self, act: &ActHash) -> Option<&Refusal> {
        self.aside.refusal(act)
    }

    /// Returns how many acts are held, of all sorts.
    pub fn len(&self) -> usize {
        self.graph.nodes.len() + self.waiting.len() + self.aside.len()
    }

    /// Returns whether no act is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_held(&self, hash: &ActHash) -> bool {
        self.graph.by_hash.contains_key(hash) || self.aside.holds(hash)
    }

    fn depth(&self, act: &HeldAct) -> u32 {
        let depths = act.parents.iter().map(|parent| {
            let number = self.graph.by_hash.get(parent);
            match number {
                Some(number) => self.graph.node(*number).depth,
                None => self.aside.depth(parent),
            }
        });
        1 + depths.max().unwrap_or_default()
    }

    /// Takes an act whose parents are held.
    fn take(&mut self, act: HeldAct) {
        let depth = self.depth(&act);
        let age = (depth, act.hash);
        // Of two beginnings that make one id the smaller one is the room's.
        let genesis = self.graph.genesis.map(|genesis| self.graph.hash(genesis));
        if act.is_genesis() && genesis.is_some_and(|genesis| act.hash < genesis) {
            self.is_out_of_order = true;
            return self.aside.put_beyond(act, depth);
        }
        if let Some(refused) = self.aside.refused_parent(&act) {
            let refusal = Refusal::NamesRefused { act: refused };
            return self.aside.put_refused(act, depth, refusal);
        }
        if self.aside.has_parent_beyond(&act) || self.full_at.is_some_and(|last| last < age) {
            return self.aside.put_beyond(act, depth);
        }
        self.is_out_of_order |= self.full_at.is_some();
        let is_last = self.last < Some(age);
        // Nothing that goes after what is out of line in its own feed is in line.
        if self.aside.follows_beside(&act) {
            self.last = self.last.max(Some(age));
            self.aside.put_unjudged(act, depth);
            return self.fill(age, is_last);
        }
        if self.graph.nodes.len()
            >= self
                .limit
                .saturating_mul(ROOM_ACTS_HELD_MAX / ROOM_ACTS_MAX)
        {
            self.prune();
            if self.graph.nodes.len() > self.limit {
                self.is_out_of_order = true;
                return self.aside.put_beyond(act, depth);
            }
        }
        self.reach(&act);
        if let Some(refused) = self.aside.refused_parent(&act) {
            let refusal = Refusal::NamesRefused { act: refused };
            return self.aside.put_refused(act, depth, refusal);
        }
        self.judge(act, depth);
        self.fill(age, is_last);
    }

    /// Looks whether the acts up to one are as many as are evaluated. What comes before others may
    /// change how many some of these are with all before them.
    fn fill(&mut self, age: Age, is_last: bool) {
        let held = self.graph.nodes.len() + self.aside.beside();
        if self.full_at.is_some() || held < self.limit {
            return;
        }
        if !is_last {
            self.is_out_of_order = true;
        } else if self.counted.count() >= self.limit {
            self.counted = self.in_line();
            self.full_at = (self.counted.count() >= self.limit).then_some(age);
            // What was refused after that act says nothing of it.
            self.is_out_of_order |= self.full_at.is_some();
        }
    }

    /// Takes back into the graph what was out of line, and an act of another feed reaches.
    fn reach(&mut self, act: &HeldAct) {
        for (act, depth) in self.aside.take_reached(act) {
            self.judge(act, depth);
        }
    }

    /// Judges an act by its past, which the graph holds.
    fn judge(&mut self, act: HeldAct, depth: u32) {
        if let Some(refused) = self.aside.refused_parent(&act) {
            let refusal = Refusal::NamesRefused { act: refused };
            return self.aside.put_refused(act, depth, refusal);
        }
        self.outcome = None;
        let mut past = Bits::default();
        let parents = act.parents.iter().map(|parent| self.graph.by_hash[parent]);
        let parents: Vec<Number> = parents.collect();
        for parent in &parents {
            past.add(&self.graph.node(*parent).past);
            past.insert(*parent);
        }
        let outcome = self.graph.decide(&past, self.devices_of, &self.nothing);
        let number = self.graph.nodes.len() as Number;
        let judge = Judge {
            graph: &self.graph,
            state: State::new(&self.graph, &past, &outcome),
            past: &past,
            devices_of: self.devices_of,
            act: &act,
            depth,
        };
        let standing = match judge.judge(number) {
            Ok(standing) => standing,
            Err(refusal) => return self.aside.put_refused(act, depth, refusal),
        };
        let carries = act.what.set().map(|(agent, _)| agent);
        let (feed, hash) = (act.feed, act.hash);
        let mut with_itself = past.clone();
        with_itself.insert(number);
        let node = Node {
            act,
            depth,
            past,
            standing,
            before: outcome.clone(),
            after: outcome,
        };
        self.graph.insert(node);
        self.last = self.last.max(Some((depth, hash)));
        // What is out of line is nobody's head.
        let is_in_line = self.graph.lines[&feed].last() == Some(&number);
        if is_in_line {
            self.counted.add(&with_itself);
            self.heads.retain(|head| !with_itself.contains(*head));
            self.heads.push(number);
        }
        // Another identity set may change what the sets before it said together, and who vouches for an
        // admission what something could take back by then.
        let graph = &self.graph;
        let mut vouched = graph.standing(number).confirms.iter();
        if carries.is_some_and(|agent| graph.is_mixed(&agent))
            || vouched.any(|admission| graph.is_contested.contains(*admission))
        {
            let before = self.graph.node(number).after.clone();
            let after = self
                .graph
                .decide_after(&with_itself, self.devices_of, &before);
            self.graph.nodes[number as usize].after = after;
        }
        if !self.graph.node(number).after.aside.is_empty() {
            self.graph.with_aside.push(number);
        }
    }

    fn evaluate(&mut self) -> Arc<Outcome> {
        if self.is_out_of_order {
            self.choose();
        }
        if let Some(outcome) = &self.outcome {
            return outcome.clone();
        }
        self.all = self.in_line();
        let outcome = self.graph.decide(&self.all, self.devices_of, &self.nothing);
        self.outcome = Some(outcome.clone());
        outcome
    }

    /// Returns what is in line, and what that reaches.
    fn in_line(&self) -> Bits {
        match makes(Mistake::BothBranches) {
            true => self.graph.authorised.clone(),
            false => self.graph.in_line(),
        }
    }

    /// Chooses anew what is evaluated: the first by depth, then hash, until these are as many as
    /// may be.
    fn choose(&mut self) {
        let mut room = RoomActs::new(self.devices_of, self.limit);
        let graph = mem::take(&mut self.graph);
        let held = graph.nodes.into_iter().map(|node| (node.act, node.depth));
        let mut acts = self.aside.take_all();
        acts.extend(held);
        acts.sort_unstable_by_key(|(act, depth)| (*depth, act.hash));
        let acts = acts.into_iter().map(|(act, _)| act);
        room.waiting = mem::take(&mut self.waiting);
        room.awaited = mem::take(&mut self.awaited);
        room.aside = mem::take(&mut self.aside);
        for act in acts {
            room.take(act);
        }
        room.is_out_of_order = false;
        *self = room;
    }

    /// Takes out of the graph what is out of line and nothing in line reaches.
    fn prune(&mut self) {
        let keep = self.in_line();
        let graph = mem::take(&mut self.graph);
        self.heads.clear();
        self.outcome = None;
        self.counted = Bits::default();
        for (node, number) in graph.nodes.into_iter().zip(0..) {
            match keep.contains(number) {
                true => self.judge(node.act, node.depth),
                false => self.aside.put_beside(node.act, node.depth),
            }
        }
    }
}
