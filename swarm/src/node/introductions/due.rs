//! What is due next, and when.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::Time;

use super::path::{CircuitState, State};
use super::{Action, Due, Introductions, PeerPath};
use crate::limits::{CIRCUIT_WAIT_MAX, DIALS_BY_INTRODUCER_MAX, DIALS_MAX, POOL_EXPLORE_INTERVAL};
use crate::node::connects::ConnectFailure;
use crate::session::SessionId;

impl Introductions {
    /// Returns the next thing to do at `now`.
    pub(crate) fn poll_action(&mut self, now: Time) -> Option<Action> {
        let path = loop {
            let (at, due, path) = self.next_due()?;
            if at > now {
                return None;
            }
            match due {
                Due::Dial => break path,
                Due::Circuit => {
                    let number = self.next_random();
                    let until = now + CIRCUIT_WAIT_MAX;
                    self.begin(now, &path);
                    if let Some(peer) = self.peers.get_mut(&path) {
                        peer.circuit = CircuitState::Opening { number, until };
                        self.settle(&path);
                    }
                    return Some(Action::Circuit { path, number });
                }
                Due::GiveUp => {
                    self.count_failure(&path, ConnectFailure::Circuit);
                    self.end_circuit(now, &path, true);
                }
            }
        };
        let attempt = self.next_random();
        let peer = self.peers.get(&path)?;
        if self.is_enough(&peer.meeting) && !peer.knocked {
            self.explore_at = now + POOL_EXPLORE_INTERVAL;
        }
        if peer.own < path.peer {
            let state = State::Negotiating {
                attempt,
                offered: true,
                described: false,
            };
            self.begin(now, &path);
            self.set_state(&path, state);
            Some(Action::Offer { path, attempt })
        } else {
            self.retry(now, path);
            if let Some(peer) = self.peers.get_mut(&path) {
                peer.dialled_at = now;
            }
            Some(Action::Knock { path })
        }
    }

    /// Returns when [`poll_action`](Self::poll_action) may have something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next_due().map(|(at, _, _)| at)
    }

    /// Returns what is due next, and when: of several paths to one peer one at a time.
    pub(super) fn next_due(&self) -> Option<(Time, Due, PeerPath)> {
        let under_way = self.under_way();
        let mut tried = BTreeSet::new();
        let mut circuits = BTreeSet::new();
        let mut dials = 0;
        let mut dials_by: BTreeMap<SessionId, usize> = BTreeMap::new();
        for (path, peer) in &self.peers {
            if matches!(peer.state, State::Negotiating { .. })
                && let Some(identity) = peer.identity
            {
                tried.insert((peer.meeting, identity));
            }
            if !matches!(peer.circuit, CircuitState::None { .. })
                && let Some(identity) = peer.identity
            {
                circuits.insert((peer.meeting, identity));
            }
            if peer.is_offered() {
                dials += 1;
                if let Some(introducer) = path.introducer() {
                    *dials_by.entry(introducer).or_default() += 1;
                }
            }
        }
        let dial = self.peers.iter().filter_map(|(path, peer)| {
            let State::Idle { try_at: Some(at) } = peer.state else {
                return None;
            };
            // Now and then somebody is dialled all the same: else many could end up in groups that know nothing
            // of each other. Who asks for an offer has no session, and is not to wait for that.
            let at = match self.is_enough(&peer.meeting) && !peer.knocked {
                true => at.max(self.explore_at),
                false => at,
            };
            let is_tried = |identity| tried.contains(&(peer.meeting, identity));
            if peer.identity.is_some_and(is_tried) {
                return None;
            }
            let offers = peer.own < path.peer;
            let held = self.held_until(path, peer, &under_way);
            let at = held.map_or(at, |until| at.max(until));
            let Some(introducer) = path.introducer() else {
                return (!offers || dials < DIALS_MAX).then_some((at, Due::Dial, *path));
            };
            let by = dials_by.get(&introducer).copied().unwrap_or_default();
            if offers && (dials >= DIALS_MAX || by >= DIALS_BY_INTRODUCER_MAX) {
                return None;
            }
            let rests = self.trust.get(&introducer).and_then(|it| it.rests_until);
            let at = rests.map_or(at, |until| at.max(until));
            Some((at, Due::Dial, *path))
        });
        let circuit = self.peers.iter().filter_map(|(path, peer)| {
            let (at, due) = self.circuit_due(path, peer)?;
            if due == Due::Circuit && self.is_enough(&peer.meeting) {
                return None;
            }
            let is_there = |identity| circuits.contains(&(peer.meeting, identity));
            let is_second = due == Due::Circuit && peer.identity.is_some_and(is_there);
            (!is_second).then_some((at, due, *path))
        });
        // Of those that are due together the one dialled longest ago: none waits for ever behind one that is
        // never reached.
        let dialled_at = |path: &PeerPath| self.peers.get(path).map(|peer| peer.dialled_at);
        let all = dial.chain(circuit);
        all.min_by_key(|(at, due, path)| (*at, *due, dialled_at(path), *path))
    }
}
