//! The identity sets that acts carry, and what they give together.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::crypto::AgentId;

use crate::authority::bits::Bits;
use crate::authority::graph::{Graph, Number};
use crate::authority::held::{Devices, Joining};
use crate::limits::ROOM_SETS_REMEMBERED_MAX;

/// Evaluates identity sets of one agent together: a function of the sets, whatever their order.
pub type DevicesOf = fn(&AgentId, &[&Bytes]) -> Devices;

/// What sets of an agent give together, by agent, places of sets among those that acts carry, and a set
/// that none carries yet.
type KnownDevices = HashMap<(AgentId, Vec<usize>, Option<Bytes>), Arc<Devices>>;

/// The identity sets that authorised acts carry.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// The different ones of each agent.
    sets: HashMap<AgentId, Vec<Bytes>>,
    /// Acts that carry one, with its place among those.
    carriers: HashMap<AgentId, Vec<(Number, usize)>>,
    /// At most [`ROOM_SETS_REMEMBERED_MAX`].
    devices: RefCell<KnownDevices>,
    /// By what brought a device in, who was asked about it: two bits for each two acts that are held, at most
    /// twice what their pasts take ([`ROOM_ACTS_HELD_MAX`](crate::limits::ROOM_ACTS_HELD_MAX)).
    words: RefCell<HashMap<Number, Words>>,
}

/// What acts say of a device that another brought in.
#[derive(Debug, Default)]
struct Words {
    asked: Bits,
    /// That the agent never had it.
    never: Bits,
}

impl Carried {
    /// Takes the set that an act carries.
    pub(super) fn insert(&mut self, number: Number, agent: AgentId, set: &Bytes) {
        let sets = self.sets.entry(agent).or_default();
        let known = sets.iter().position(|known| known == set);
        let at = known.unwrap_or_else(|| {
            sets.push(set.clone());
            sets.len() - 1
        });
        self.carriers.entry(agent).or_default().push((number, at));
    }

    /// Returns the different sets of an agent, in the order in which they came.
    pub(super) fn sets(&self, agent: &AgentId) -> &[Bytes] {
        self.sets.get(agent).map_or(&[], Vec::as_slice)
    }
}

impl Graph {
    /// Returns whether acts carry several identity sets of an agent.
    pub(super) fn is_mixed(&self, agent: &AgentId) -> bool {
        self.carried.sets(agent).len() > 1
    }

    /// Returns the acts that carry identity sets of an agent.
    pub(super) fn carriers(&self, agent: &AgentId) -> impl Iterator<Item = Number> {
        let carriers = self.carried.carriers.get(agent).into_iter().flatten();
        carriers.map(|(number, _)| *number)
    }

    /// Returns the devices of an agent as the identity sets that authorised acts of `set` carry, and
    /// `more`, give them together.
    pub(super) fn devices_in(
        &self,
        agent: &AgentId,
        set: &Bits,
        more: Option<&Bytes>,
        devices_of: DevicesOf,
    ) -> Arc<Devices> {
        let all = self.carried.sets(agent);
        let key = self.sets_in(agent, set, more);
        if let Some(devices) = self.carried.devices.borrow().get(&key) {
            return devices.clone();
        }
        let sets: Vec<&Bytes> = key.1.iter().map(|at| &all[*at]).chain(&key.2).collect();
        let devices = Arc::new(devices_of(agent, &sets));
        let mut known = self.carried.devices.borrow_mut();
        if known.len() >= ROOM_SETS_REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key, devices.clone());
        devices
    }

    /// Returns the sets of an agent that acts of `set` carry, and `more`, as they are remembered.
    fn sets_in(
        &self,
        agent: &AgentId,
        set: &Bits,
        more: Option<&Bytes>,
    ) -> (AgentId, Vec<usize>, Option<Bytes>) {
        let all = self.carried.sets(agent);
        let mut seen = vec![false; all.len()];
        for (number, at) in self.carried.carriers.get(agent).into_iter().flatten() {
            seen[*at] |= set.contains(*number);
        }
        let known = more.and_then(|more| all.iter().position(|one| one == more));
        if let Some(known) = known {
            seen[known] = true;
        }
        let carried = seen.iter().enumerate().filter(|(_, seen)| **seen);
        let carried = carried.map(|(at, _)| at).collect();
        let more = more.filter(|_| known.is_none()).cloned();
        (*agent, carried, more)
    }

    /// Returns whether the identity sets in the past of the act `by`, its own, and the one with which a
    /// device came in by the act `arrival`, say together that it was never its agent's.
    ///
    /// These are the same for ever, so each two acts are asked once.
    pub(super) fn says_never(
        &self,
        by: Number,
        arrival: Number,
        joining: &Joining,
        devices_of: DevicesOf,
    ) -> bool {
        if let Some(words) = self.carried.words.borrow().get(&arrival)
            && words.asked.contains(by)
        {
            return words.never.contains(by);
        }
        let mut known = self.node(by).past.clone();
        known.insert(by);
        let devices = self.devices_in(&joining.agent, &known, Some(&joining.set), devices_of);
        let never = !devices.know(&joining.device);
        let mut words = self.carried.words.borrow_mut();
        let words = words.entry(arrival).or_default();
        words.asked.insert(by);
        if never {
            words.never.insert(by);
        }
        never
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::DeviceKey;

    use super::*;

    #[test]
    fn what_sets_give_together_is_remembered_of_so_many_and_asked_again_of_more() {
        let graph = Graph::default();
        let agent = AgentId([1; 32]);
        let devices_of: DevicesOf = |_, sets| Devices {
            present: sets.iter().map(|set| DeviceKey([set[0]; 32])).collect(),
            ..Devices::default()
        };
        for number in 0..3 * ROOM_SETS_REMEMBERED_MAX as u64 {
            let set = Bytes::copy_from_slice(&number.to_le_bytes());
            let devices = graph.devices_in(&agent, &Bits::default(), Some(&set), devices_of);
            assert_eq!(devices.present, [DeviceKey([number as u8; 32])]);
            assert!(graph.carried.devices.borrow().len() <= ROOM_SETS_REMEMBERED_MAX);
        }
    }
}
