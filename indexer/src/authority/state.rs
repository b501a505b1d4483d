//! What a set of acts says: who is in, as what, and by which act.

use std::cmp::Reverse;

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};

use crate::authority::bits::Bits;
use crate::authority::decide::Outcome;
use crate::authority::graph::{Graph, Number};
use crate::authority::held::What;
use crate::authority::verdict::Void;
use crate::entry::{ActHash, Role};

/// A set of acts that holds the past of each, and what of it does not count.
#[derive(Clone, Copy)]
pub(super) struct State<'a> {
    graph: &'a Graph,
    set: &'a Bits,
    outcome: &'a Outcome,
}

/// A role and what gave it: of two the smaller ranks higher.
pub(super) type Rank = (Reverse<Role>, (u32, ActHash));

impl<'a> State<'a> {
    pub(super) fn new(graph: &'a Graph, set: &'a Bits, outcome: &'a Outcome) -> Self {
        State {
            graph,
            set,
            outcome,
        }
    }

    pub(super) fn holds(&self, number: Number) -> bool {
        self.set.contains(number)
    }

    /// Returns the acts of the set.
    pub(super) fn acts(&self) -> impl Iterator<Item = Number> + use<'a> {
        self.set.iter()
    }

    pub(super) fn counts(&self, number: Number) -> bool {
        self.holds(number) && !self.outcome.void.contains_key(&number)
    }

    /// Returns why an authorised act does not count.
    pub(super) fn void(&self, number: Number) -> Option<Void> {
        self.outcome.void.get(&number).copied()
    }

    /// Returns those of a list that count.
    pub(super) fn counting(
        &self,
        list: Option<&'a Vec<Number>>,
    ) -> impl DoubleEndedIterator<Item = Number> + use<'a> {
        let state = *self;
        let list = list.into_iter().flatten().copied();
        list.filter(move |number| state.counts(*number))
    }

    /// Returns the counting acts about an agent's role that are in the past of no other.
    pub(super) fn newest(&self, agent: &AgentId) -> Vec<Number> {
        let mut newest: Vec<Number> = Vec::new();
        // An act has a greater number than what it reaches.
        for number in self.counting(self.graph.about.get(agent)).rev() {
            if !newest
                .iter()
                .any(|later| self.graph.is_past(number, *later))
            {
                newest.push(number);
            }
        }
        for arrival in self.counting(self.graph.about.get(agent)) {
            let over = self.over_before(agent, arrival);
            if !over.is_empty() {
                newest.retain(|number| !self.is_of_stay_before(*number, arrival, &over));
            }
        }
        newest
    }

    /// Returns the removals and leavings of an agent that the admission of one of its devices knows.
    fn over_before(&self, agent: &AgentId, arrival: Number) -> Vec<Number> {
        if self.graph.what(arrival).joining().is_none() {
            return Vec::new();
        }
        let about = self.counting(self.graph.about.get(agent));
        let over = about.filter(|ending| {
            self.graph.is_past(*ending, arrival)
                && matches!(
                    self.graph.what(*ending),
                    What::Remove { .. } | What::Leave(_)
                )
        });
        over.collect()
    }

    /// Returns whether an act, a change of role or a leaving, is about a stay that is over where
    /// `arrival` begins: it does not know of an ending that the arrival knows, one of `over`.
    fn is_of_stay_before(&self, number: Number, arrival: Number, over: &[Number]) -> bool {
        let graph = self.graph;
        matches!(graph.what(number), What::Role(_) | What::Leave(_))
            && !graph.is_past(arrival, number)
            && over
                .iter()
                .any(|ending| graph.are_concurrent(*ending, number))
    }

    /// Returns the role of an agent and the act that gives it.
    pub(super) fn role(&self, agent: &AgentId) -> Option<(Role, Number)> {
        let begins = |number: &Number| self.graph.what(*number).joining().is_some();
        let (admissions, changes): (Vec<Number>, Vec<Number>) =
            self.newest(agent).into_iter().partition(begins);
        let given = |number: &Number| self.graph.given_role(*number);
        let role = if changes.is_empty() {
            admissions.iter().map(given).max()??
        } else {
            changes.iter().map(given).min()??
        };
        let from = if changes.is_empty() {
            admissions
        } else {
            changes
        };
        let givers = from
            .into_iter()
            .filter(|number| given(number) == Some(role));
        let giver = givers.min_by_key(|number| self.graph.age(*number))?;
        Some((role, giver))
    }

    pub(super) fn rank(&self, (role, giver): (Role, Number)) -> Rank {
        (Reverse(role), self.graph.age(giver))
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = (AgentId, Number)> {
        let ever = self.graph.ever_owners.iter();
        ever.filter_map(|agent| match self.role(agent)? {
            (Role::Owner, giver) => Some((*agent, giver)),
            _ => None,
        })
    }

    pub(super) fn has_owner(&self) -> bool {
        self.owners().next().is_some()
    }

    /// Returns the owner of the highest rank.
    pub(super) fn first_owner(&self) -> Option<AgentId> {
        let first = self
            .owners()
            .min_by_key(|(_, giver)| self.graph.age(*giver));
        first.map(|(agent, _)| agent)
    }

    /// Returns what brought a feed in: of several admissions of one device the oldest.
    pub(super) fn admission(&self, feed: &FeedKey) -> Option<Number> {
        let admissions = self.counting(self.graph.admissions.get(feed));
        admissions.min_by_key(|number| self.graph.age(*number))
    }

    /// Returns the counting acts that end what `admission` brought: removals and leavings of the
    /// agent, revocations of the device, acts that say that it never was one, none of which the
    /// admission follows.
    pub(super) fn endings(&self, admission: Number) -> Vec<Number> {
        let Some(joining) = self.graph.what(admission).joining() else {
            return Vec::new();
        };
        let over = self.over_before(&joining.agent, admission);
        let of_agent = self.counting(self.graph.about.get(&joining.agent));
        let of_agent = of_agent.filter(|number| {
            let what = self.graph.what(*number);
            matches!(what, What::Remove { .. } | What::Leave(_))
                && !self.is_of_stay_before(*number, admission, &over)
        });
        let device = (joining.agent, joining.device);
        let all = of_agent.chain(self.counting(self.graph.revokes.get(&device)));
        let never = self.outcome.never.get(&admission).into_iter().flatten();
        let all = all.chain(never.copied());
        all.filter(|ending| !self.graph.is_past(*ending, admission))
            .collect()
    }

    /// Returns those of its [`endings`](Self::endings) whose cuts hold: where the agent itself ends the
    /// device, what others say of the device's feeds does not matter.
    pub(super) fn cutting(&self, admission: Number) -> Vec<Number> {
        let mut endings = self.endings(admission);
        let Some(joining) = self.graph.what(admission).joining() else {
            return endings;
        };
        let is_own = |ending: &Number| self.graph.standing(*ending).agent == joining.agent;
        let of_device = |ending: &Number| {
            let what = self.graph.what(*ending);
            !matches!(what, What::Remove { .. } | What::Leave(_))
        };
        if endings
            .iter()
            .any(|ending| of_device(ending) && is_own(ending))
        {
            endings.retain(|ending| !of_device(ending) || is_own(ending));
        }
        endings
    }

    /// Returns whether an agent may still say how much of a device's feeds is its own: the device came in
    /// at some time, and nobody but others revoked it. What it did in a stay that is over can be taken
    /// back like anything else.
    pub(super) fn may_cut(&self, agent: &AgentId, device: &DeviceKey) -> bool {
        let revoked = self.graph.revokes.get(&(*agent, *device));
        let by_others = |revoke: Number| self.graph.standing(revoke).agent != *agent;
        let mut arrivals = self.counting(self.graph.arrivals.get(agent));
        self.counting(revoked).all(by_others)
            && arrivals.any(|number| {
                let joining = self.graph.what(number).joining();
                joining.is_some_and(|joining| joining.device == *device)
            })
    }

    /// Returns the admissions of an agent whose feeds are in the room and not cut.
    pub(super) fn live(&self, agent: &AgentId) -> Vec<Number> {
        let arrivals = self.counting(self.graph.arrivals.get(agent));
        arrivals
            .filter(|number| self.endings(*number).is_empty())
            .collect()
    }

    /// Returns whether a device has a feed in the room that is not cut.
    pub(super) fn has_device(&self, agent: &AgentId, device: &DeviceKey) -> bool {
        self.live(agent).into_iter().any(|number| {
            let joining = self.graph.what(number).joining();
            joining.is_some_and(|joining| joining.device == *device)
        })
    }
}
