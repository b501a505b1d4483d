//! Which meeting points of the local network to join, sans-IO.
//!
//! All nodes see the same others, more or less, and join those with the [`NEIGHBOUR_POINTS`] smallest
//! names: so all meet at the first, and when it is gone at the next, with a few connections each. Names
//! are random for each process. A machine that wants to be chosen can be; at most one name of an
//! address is, and beside the chosen ones each node joins one of the others, another one each
//! [`WANDER_INTERVAL`], so that who looks for somebody finds them however the chosen ones behave.
//!
//! **Drain rule.** After each `handle_*` call [`poll_action`](Neighbourhood::poll_action) until it gives
//! `None`, and call [`handle_timeout`](Neighbourhood::handle_timeout) at
//! [`poll_timeout`](Neighbourhood::poll_timeout).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use kinlog_feeds::Time;

use crate::limits::{
    LAN_DIALS_PER_MINUTE, NEIGHBOUR_ADDRESSES_MAX, NEIGHBOUR_POINTS, NEIGHBOURS_MAX,
    NEIGHBOURS_PER_ADDRESS_MAX, PASSED_OVER_FIRST, PASSED_OVER_MAX, WANDER_INTERVAL,
};

const MINUTE: Duration = Duration::from_secs(60);

/// The name a node has on the local network while its process lives: eight random bytes in hex.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Instance(pub(crate) [u8; 8]);

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Instance {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(is_hex) {
            return Err(());
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| ())?;
        Ok(Instance(number.to_be_bytes()))
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Join the meeting point at this address.
    Join(SocketAddr),
    /// Leave it.
    Leave(SocketAddr),
}

#[derive(Debug)]
struct Neighbour {
    addresses: Vec<SocketAddr>,
    /// The address in use, or used next.
    at: usize,
    failures: u32,
    passed_over_until: Option<Time>,
}

/// Every other node that is seen, and which are joined.
#[derive(Debug)]
pub(crate) struct Neighbourhood {
    own: Instance,
    known: BTreeMap<Instance, Neighbour>,
    joined: BTreeMap<Instance, SocketAddr>,
    /// When the last few were dialled, oldest first.
    dials: VecDeque<Time>,
    actions: VecDeque<Action>,
}

impl Neighbourhood {
    /// Returns a state that has seen nobody.
    pub(crate) fn new(own: Instance) -> Self {
        Neighbourhood {
            own,
            known: BTreeMap::new(),
            joined: BTreeMap::new(),
            dials: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// A node was seen with these addresses, in the order in which to try them.
    pub(crate) fn handle_seen(&mut self, now: Time, instance: Instance, addresses: &[SocketAddr]) {
        let addresses = &addresses[..addresses.len().min(NEIGHBOUR_ADDRESSES_MAX)];
        if instance == self.own || addresses.is_empty() {
            return;
        }
        if let Some(known) = self.known.get_mut(&instance) {
            if known.addresses == addresses {
                return;
            }
            // Where it was is where it is first looked for.
            let at = self.joined.get(&instance);
            let at = at.and_then(|at| addresses.iter().position(|address| address == at));
            known.addresses = addresses.to_vec();
            known.at = at.unwrap_or(0);
        } else if self.has_room(instance, addresses) {
            let neighbour = Neighbour {
                addresses: addresses.to_vec(),
                at: 0,
                failures: 0,
                passed_over_until: None,
            };
            self.known.insert(instance, neighbour);
        } else {
            return;
        }
        self.choose(now);
    }

    /// A node said goodbye, or was not heard of for too long.
    pub(crate) fn handle_gone(&mut self, now: Time, instance: Instance) {
        if self.known.remove(&instance).is_some() {
            self.choose(now);
        }
    }

    /// The meeting point at an address that was joined is not reached: the node's next address is tried,
    /// and after the last it is passed over for a while.
    pub(crate) fn handle_failed(&mut self, now: Time, address: SocketAddr) {
        let joined = self.joined.iter().find(|(_, at)| **at == address);
        let Some((&instance, _)) = joined else { return };
        if let Some(neighbour) = self.known.get_mut(&instance) {
            neighbour.at += 1;
            if neighbour.at >= neighbour.addresses.len() {
                let doubled = PASSED_OVER_FIRST * 2u32.saturating_pow(neighbour.failures.min(16));
                neighbour.at = 0;
                neighbour.failures = neighbour.failures.saturating_add(1);
                neighbour.passed_over_until = Some(now + doubled.min(PASSED_OVER_MAX));
            }
        }
        self.choose(now);
    }

    /// The meeting point at an address answers.
    pub(crate) fn handle_reached(&mut self, address: SocketAddr) {
        let joined = self.joined.iter().find(|(_, at)| **at == address);
        let Some((instance, _)) = joined else { return };
        if let Some(neighbour) = self.known.get_mut(instance) {
            neighbour.failures = 0;
        }
    }

    /// Chooses anew: a turn has come, a dial is free again, or somebody is passed over no more.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.choose(now);
    }

    /// Returns the next thing to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), if anything changes by itself.
    pub(crate) fn poll_timeout(&self, now: Time) -> Option<Time> {
        let back = self.known.values().filter_map(|one| one.passed_over_until);
        let chosen = self.chosen(now);
        let waits = chosen.keys().any(|one| !self.joined.contains_key(one));
        let free = self.dials.front().map(|first| *first + MINUTE);
        let usable = self.known.values().filter(|one| one.usable(now).is_some());
        let turn = (usable.count() > chosen.len()).then(|| turn_after(now));
        back.filter(|at| *at > now)
            .chain(free.filter(|_| waits))
            .chain(turn)
            .min()
    }

    /// Returns how many other nodes are seen.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns on how many other machines they are: nodes with the same first address are on one, and those with an
    /// address of `own` on this one.
    pub(crate) fn machines(&self, own: &[IpAddr]) -> usize {
        let nodes = self.known.values();
        let others = nodes.filter(|node| !node.addresses.iter().any(|at| own.contains(&at.ip())));
        let machines: BTreeSet<IpAddr> = others
            .filter_map(|node| Some(node.addresses.first()?.ip()))
            .collect();
        machines.len()
    }

    /// Joins and leaves so that those chosen are joined. Nobody is left for somebody who cannot be dialled
    /// yet.
    fn choose(&mut self, now: Time) {
        while self.dials.front().is_some_and(|at| *at + MINUTE <= now) {
            self.dials.pop_front();
        }
        for (instance, address) in std::mem::take(&mut self.joined) {
            let known = self.known.get(&instance);
            if known.and_then(|one| one.usable(now)) == Some(address) {
                self.joined.insert(instance, address);
            } else {
                self.actions.push_back(Action::Leave(address));
            }
        }
        let chosen = self.chosen(now);
        for (instance, address) in &chosen {
            if self.joined.contains_key(instance) {
                continue;
            }
            // Under another name it is joined already.
            let joined = self.joined.iter().find(|(_, at)| *at == address);
            if let Some((&other, _)) = joined {
                self.joined.remove(&other);
                self.joined.insert(*instance, *address);
                continue;
            }
            if self.dials.len() >= LAN_DIALS_PER_MINUTE {
                return;
            }
            self.dials.push_back(now);
            self.joined.insert(*instance, *address);
            self.actions.push_back(Action::Join(*address));
        }
        let actions = &mut self.actions;
        self.joined.retain(|instance, address| {
            let stays = chosen.contains_key(instance);
            if !stays {
                actions.push_back(Action::Leave(*address));
            }
            stays
        });
    }

    /// Returns whom to be at now, each with its address.
    fn chosen(&self, now: Time) -> BTreeMap<Instance, SocketAddr> {
        let others = self.known.iter();
        let others = others.filter_map(|(instance, one)| Some((*instance, Some(one.usable(now)?))));
        // The own point is joined anyway, and is one of those that the others choose.
        let mut all: Vec<_> = others.chain([(self.own, None)]).collect();
        all.sort_unstable_by_key(|(instance, _)| *instance);
        let mut places = NEIGHBOUR_POINTS;
        let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
        let (mut chosen, mut rest) = (BTreeMap::new(), Vec::new());
        for (instance, address) in all {
            match address {
                None => places = places.saturating_sub(1),
                Some(address) if places > 0 && taken.insert(address.ip()) => {
                    places -= 1;
                    chosen.insert(instance, address);
                }
                Some(address) => rest.push((instance, address)),
            }
        }
        let turn = turn_of(now);
        let wanders_to = rest
            .into_iter()
            .filter(|(_, address)| !taken.contains(&address.ip()))
            .min_by_key(|(instance, _)| lot(&self.own, instance, turn));
        chosen.extend(wanders_to);
        chosen
    }

    /// Returns whether a node that was not seen before has a place. Of one address those with the smallest
    /// names are kept, as everybody does; where all is full, one that could not be reached gives way.
    fn has_room(&mut self, instance: Instance, addresses: &[SocketAddr]) -> bool {
        let mut given_up = Vec::new();
        for address in addresses {
            let is_there = |one: &Neighbour| one.addresses.iter().any(|at| at.ip() == address.ip());
            let there = self.known.iter().filter(|(_, one)| is_there(one));
            let there: Vec<Instance> = there.map(|(instance, _)| *instance).collect();
            match there.last() {
                Some(last) if there.len() >= NEIGHBOURS_PER_ADDRESS_MAX => {
                    if *last < instance {
                        return false;
                    }
                    given_up.push(*last);
                }
                _ => {}
            }
        }
        for one in &given_up {
            self.known.remove(one);
        }
        if self.known.len() < NEIGHBOURS_MAX {
            return true;
        }
        let unreached = self.known.iter().find(|(_, one)| one.failures > 0);
        let Some((&unreached, _)) = unreached else {
            return false;
        };
        self.known.remove(&unreached);
        true
    }
}

impl Neighbour {
    /// Returns the address to be joined at, unless it is passed over now.
    fn usable(&self, now: Time) -> Option<SocketAddr> {
        match self.passed_over_until {
            Some(until) if until > now => None,
            _ => self.addresses.get(self.at).copied(),
        }
    }
}

fn turn_of(now: Time) -> u64 {
    let interval = u64::try_from(WANDER_INTERVAL.as_micros()).unwrap_or(u64::MAX);
    now.0 / interval
}

fn turn_after(now: Time) -> Time {
    let interval = u64::try_from(WANDER_INTERVAL.as_micros()).unwrap_or(u64::MAX);
    Time((turn_of(now) + 1).saturating_mul(interval))
}

/// The lot that a node draws for another one in a turn: SplitMix64's mix, as even as need be.
fn lot(own: &Instance, other: &Instance, turn: u64) -> u64 {
    let mut mixed = u64::from_be_bytes(own.0)
        ^ u64::from_be_bytes(other.0).rotate_left(32)
        ^ turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Instance {
        Instance(number.to_be_bytes())
    }

    fn address(number: u64) -> SocketAddr {
        let [.., high, low] = number.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 40_000))
    }

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    /// Carries actions out; returns how many joins there were.
    fn drain(neighbourhood: &mut Neighbourhood, joined: &mut BTreeSet<SocketAddr>) -> usize {
        let mut joins = 0;
        while let Some(action) = neighbourhood.poll_action() {
            match action {
                Action::Join(address) => {
                    joins += 1;
                    assert!(joined.insert(address), "joined twice: {address}");
                }
                Action::Leave(address) => assert!(joined.remove(&address), "not joined: {address}"),
            }
        }
        joins
    }

    /// A node that has seen these.
    fn seen(
        own: u64,
        others: impl IntoIterator<Item = u64>,
    ) -> (Neighbourhood, BTreeSet<SocketAddr>) {
        let mut neighbourhood = Neighbourhood::new(name(own));
        for other in others {
            neighbourhood.handle_seen(at(0), name(other), &[address(other)]);
        }
        let mut joined = BTreeSet::new();
        drain(&mut neighbourhood, &mut joined);
        (neighbourhood, joined)
    }

    #[test]
    fn names_are_sixteen_digits_and_nothing_else() {
        let text = name(0x0123_4567_89ab_cdef).to_string();
        assert_eq!(text, "0123456789abcdef");
        assert_eq!(text.parse(), Ok(name(0x0123_4567_89ab_cdef)));
        let rubbish = [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
            "+123456789abcdef",
            "kitchen printer",
            "0123456789abcde\u{e9}",
        ];
        for text in rubbish {
            assert_eq!(text.parse::<Instance>(), Err(()), "{text:?}");
        }
    }

    #[test]
    fn all_nodes_of_a_network_meet_at_the_smallest_name_with_three_connections_each() {
        const NODES: u64 = 20;
        for own in 1..=NODES {
            let others = (1..=NODES).filter(|other| *other != own);
            let (_, joined) = seen(own, others);
            assert!(
                own == 1 || joined.contains(&address(1)),
                "{own}: {joined:?}"
            );
            assert!(
                own <= 2 || joined.contains(&address(2)),
                "{own}: {joined:?}"
            );
            assert!(joined.len() <= NEIGHBOUR_POINTS + 1, "{own}: {joined:?}");
        }
    }

    #[test]
    fn processes_of_one_machine_are_one_machine_and_those_of_this_one_no_other() {
        let mut node = Neighbourhood::new(name(9));
        let at_port = |number, port| SocketAddr::new(address(number).ip(), port);
        let own = [address(7).ip(), address(8).ip()];
        node.handle_seen(at(0), name(1), &[at_port(1, 40_001), at_port(2, 40_001)]);
        node.handle_seen(at(0), name(2), &[at_port(1, 40_002), at_port(2, 40_002)]);
        node.handle_seen(at(0), name(3), &[at_port(3, 40_003)]);
        node.handle_seen(at(0), name(4), &[at_port(5, 40_004), at_port(8, 40_004)]);
        assert_eq!((node.len(), node.machines(&own)), (4, 2));
        assert_eq!(node.machines(&[]), 3);
    }

    #[test]
    fn when_a_point_vanishes_the_next_takes_over() {
        let (mut node, mut joined) = seen(9, [1, 2, 3]);
        assert!(joined.contains(&address(1)) && joined.contains(&address(2)));
        node.handle_gone(at(1), name(1));
        drain(&mut node, &mut joined);
        assert!(!joined.contains(&address(1)));
        assert!(joined.contains(&address(2)) && joined.contains(&address(3)));
        // And back.
        node.handle_seen(at(2), name(1), &[address(1)]);
        drain(&mut node, &mut joined);
        assert!(joined.contains(&address(1)));
    }

    #[test]
    fn point_that_is_not_reached_is_passed_over_ever_longer() {
        let (mut node, mut joined) = seen(9, [1]);
        let mut now = at(1);
        let mut waits = Vec::new();
        for _ in 0..8 {
            node.handle_failed(now, address(1));
            drain(&mut node, &mut joined);
            assert!(joined.is_empty());
            let back = node.poll_timeout(now).unwrap();
            waits.push(back.since(now));
            now = back;
            node.handle_timeout(now);
            assert_eq!(drain(&mut node, &mut joined), 1);
        }
        assert_eq!(waits[0], PASSED_OVER_FIRST);
        assert_eq!(waits[7], PASSED_OVER_MAX);
        node.handle_reached(address(1));
        node.handle_failed(now, address(1));
        assert_eq!(node.poll_timeout(now), Some(now + PASSED_OVER_FIRST));
    }

    #[test]
    fn other_addresses_of_a_node_are_tried_first() {
        let mut node = Neighbourhood::new(name(9));
        node.handle_seen(at(0), name(1), &[address(1), address(2)]);
        let mut joined = BTreeSet::new();
        drain(&mut node, &mut joined);
        node.handle_failed(at(1), address(1));
        drain(&mut node, &mut joined);
        assert_eq!(joined, [address(2)].into());
        node.handle_failed(at(2), address(2));
        drain(&mut node, &mut joined);
        assert!(joined.is_empty());
    }

    #[test]
    fn one_machine_with_many_small_names_takes_one_place() {
        let evil = SocketAddr::from(([10, 9, 9, 9], 40_000));
        let mut node = Neighbourhood::new(name(1 << 40));
        for number in 1..=100 {
            node.handle_seen(at(0), name(number), &[evil]);
        }
        assert!(node.len() <= NEIGHBOURS_PER_ADDRESS_MAX);
        node.handle_seen(at(0), name(1 << 20), &[address(7)]);
        let mut joined = BTreeSet::new();
        drain(&mut node, &mut joined);
        assert!(joined.contains(&address(7)), "{joined:?}");
    }

    #[test]
    fn another_name_at_an_address_that_is_joined_changes_nothing() {
        let (mut node, mut joined) = seen(9, [2]);
        let before = joined.clone();
        node.handle_seen(at(1), name(1), &[address(2)]);
        assert_eq!(drain(&mut node, &mut joined), 0);
        assert_eq!(joined, before);
        node.handle_gone(at(2), name(2));
        drain(&mut node, &mut joined);
        assert_eq!(joined, before);
    }

    #[test]
    fn who_looks_long_enough_joins_everybody_however_the_chosen_places_are_held() {
        let (mut node, mut joined) = seen(9, [1, 2, 20, 21, 22, 23]);
        let mut been_at = joined.clone();
        let mut now = at(0);
        for _ in 0..60 {
            now = node.poll_timeout(now).unwrap();
            node.handle_timeout(now);
            drain(&mut node, &mut joined);
            assert!(joined.len() <= NEIGHBOUR_POINTS + 1);
            been_at.extend(&joined);
        }
        assert_eq!(been_at.len(), 6, "{been_at:?}");
    }

    #[test]
    fn a_thousand_invented_nodes_cost_a_dozen_dials_a_minute_and_bounded_memory() {
        let mut node = Neighbourhood::new(name(u64::MAX));
        let mut joined = BTreeSet::new();
        let mut dials = 0;
        // Each name is smaller than those before it, and so chosen.
        for number in 0..1_000 {
            node.handle_seen(at(0), name(1_000_000 - number), &[address(number)]);
            dials += drain(&mut node, &mut joined);
            assert!(node.len() <= NEIGHBOURS_MAX);
            assert!(joined.len() <= LAN_DIALS_PER_MINUTE);
        }
        assert_eq!(dials, LAN_DIALS_PER_MINUTE);
        // None of them answers.
        let mut now = at(0);
        let mut in_time = VecDeque::new();
        for _ in 0..1_000 {
            for address in joined.clone() {
                node.handle_failed(now, address);
                let dialled = drain(&mut node, &mut joined);
                in_time.extend(std::iter::repeat_n(now, dialled));
            }
            now = node.poll_timeout(now).unwrap();
            node.handle_timeout(now);
            let dialled = drain(&mut node, &mut joined);
            in_time.extend(std::iter::repeat_n(now, dialled));
            while in_time.front().is_some_and(|first| *first + MINUTE <= now) {
                in_time.pop_front();
            }
            assert!(in_time.len() <= LAN_DIALS_PER_MINUTE, "{in_time:?}");
        }
        // An honest node finds a place among them.
        node.handle_seen(now, name(1), &[SocketAddr::from(([10, 9, 9, 9], 40_000))]);
        let known = node.known.contains_key(&name(1));
        assert!(known, "invented nodes that were not reached give way");
    }
}
