//! The acts of a room as they come, in any order.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kinlog_feeds::crypto::{AgentId, FeedKey};

use crate::authority::bits::Bits;
use crate::authority::decide::Outcome;
use crate::authority::graph::{DevicesOf, Graph, Node, Number};
use crate::authority::held::{HeldAct, devices_of};
use crate::authority::judge::Judge;
use crate::authority::state::State;
use crate::authority::view::Authority;
use crate::authority::{Refusal, Verdict};
use crate::entry::{ActHash, Parents, Role};
use crate::limits::{ROOM_ACT_PARENTS_MAX, ROOM_ACTS_MAX};

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
/// At most [`ROOM_ACTS_MAX`] are evaluated, the first by depth, then hash: the others are
/// [`Verdict::Beyond`], the same ones everywhere.
#[derive(Debug)]
pub struct RoomActs {
    graph: Graph,
    devices_of: DevicesOf,
    limit: usize,
    /// Acts by name, with parents that are not held.
    waiting: HashMap<ActHash, HeldAct>,
    /// Who waits for an act.
    awaited: HashMap<ActHash, Vec<ActHash>>,
    /// Acts beyond the limit, with their depths.
    beyond: HashMap<ActHash, (HeldAct, u32)>,
    /// An act beyond the limit goes before one that is evaluated.
    is_out_of_order: bool,
    all: Bits,
    /// Authorised acts that no authorised act reaches.
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
            beyond: HashMap::new(),
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
        for (hash, (act, depth)) in &self.beyond {
            authority.add_act(*hash, act, *depth, Verdict::Beyond);
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
        let own = self.graph.in_feed.get(own).into_iter().flatten().copied();
        let own = own.max_by_key(|number| self.graph.node(*number).act.index);
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

    /// Returns why an act is not authorised; `None` where it is, or waits, or is not known.
    pub fn refusal(&self, act: &ActHash) -> Option<&Refusal> {
        let number = self.graph.by_hash.get(act)?;
        self.graph.node(*number).judged.as_ref().err()
    }

    /// Returns how many acts are held, of all sorts.
    pub fn len(&self) -> usize {
        self.graph.nodes.len() + self.waiting.len() + self.beyond.len()
    }

    /// Returns whether no act is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_held(&self, hash: &ActHash) -> bool {
        self.graph.by_hash.contains_key(hash) || self.beyond.contains_key(hash)
    }

    /// Takes an act whose parents are held.
    fn take(&mut self, act: HeldAct) {
        let depths = act.parents.iter().map(|parent| {
            let number = self.graph.by_hash.get(parent);
            match number {
                Some(number) => self.graph.node(*number).depth,
                None => self.beyond.get(parent).map_or(0, |(_, depth)| *depth),
            }
        });
        let depth = 1 + depths.max().unwrap_or_default();
        // Of two beginnings that make one id the smaller one is the room's.
        let genesis = self.graph.genesis.map(|genesis| self.graph.hash(genesis));
        if act.is_genesis() && genesis.is_some_and(|genesis| act.hash < genesis) {
            self.is_out_of_order = true;
            self.beyond.insert(act.hash, (act, depth));
            return;
        }
        let is_beyond = act
            .parents
            .iter()
            .any(|parent| self.beyond.contains_key(parent));
        if is_beyond || self.graph.nodes.len() >= self.limit {
            let age = (depth, act.hash);
            let numbers = 0..self.graph.nodes.len() as Number;
            let is_last = numbers
                .into_iter()
                .all(|number| self.graph.age(number) < age);
            self.is_out_of_order |= !is_last;
            self.beyond.insert(act.hash, (act, depth));
            return;
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
        let judged = judge.judge(number);
        let is_authorised = judged.is_ok();
        let carries = act.what.set().map(|(agent, _)| agent);
        if is_authorised {
            self.heads.retain(|head| !past.contains(*head));
            self.heads.push(number);
        }
        let mut with_itself = past.clone();
        with_itself.insert(number);
        let node = Node {
            act,
            depth,
            past,
            judged,
            after: outcome,
        };
        self.graph.insert(node);
        self.all.insert(number);
        // Another identity set may change what the sets before it said together.
        if is_authorised && carries.is_some_and(|agent| self.graph.is_mixed(&agent)) {
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
            self.sort_again();
        }
        if let Some(outcome) = &self.outcome {
            return outcome.clone();
        }
        let outcome = self.graph.decide(&self.all, self.devices_of, &self.nothing);
        self.outcome = Some(outcome.clone());
        outcome
    }

    /// Begins anew with those acts that go first.
    fn sort_again(&mut self) {
        let mut room = RoomActs::new(self.devices_of, self.limit);
        let graph = std::mem::take(&mut self.graph);
        let held = graph.nodes.into_iter().map(|node| (node.act, node.depth));
        let beyond = std::mem::take(&mut self.beyond);
        let mut acts: Vec<(HeldAct, u32)> = held.chain(beyond.into_values()).collect();
        acts.sort_unstable_by_key(|(act, depth)| (*depth, act.hash));
        room.waiting = std::mem::take(&mut self.waiting);
        room.awaited = std::mem::take(&mut self.awaited);
        for (act, _) in acts {
            room.take(act);
        }
        *self = room;
    }
}
