//! The rules among several instances: who is where, who yields, what is passed on.
//!
//! Every instance knows who is in which topic with every other, so that a newcomer is told of all.
//! A key is in a topic once: of two joins the later counts, at one moment that of the larger
//! instance id, and every instance comes to the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kinlog_feeds::{PublicKey, Time};

use crate::bus::{BusEvent, Change, InstanceId, Passed};
use crate::rules::core::Rules;
use crate::rules::topics::Seat;
use crate::{ServerMessage, Topic};

/// What other instances are to hear.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BusOutput {
    /// A membership of ours began or ended.
    Change(Change),
    /// A signal for a client of another instance.
    Pass(PassOn),
}

/// A signal on its way to another instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PassOn {
    pub(crate) instance: InstanceId,
    pub(crate) passed: Passed,
}

/// What is known of the other instances.
#[derive(Debug)]
pub(super) struct Cluster {
    own: InstanceId,
    /// Milliseconds since 1970 at [`Time::ZERO`].
    started_ms: u64,
    reachable: bool,
    memberships: BTreeMap<InstanceId, Memberships>,
    outputs: VecDeque<BusOutput>,
}

#[derive(Debug, Default)]
struct Memberships {
    held: BTreeSet<(Topic, PublicKey)>,
    /// While it tells all: what it has not named again yet.
    unconfirmed: BTreeSet<(Topic, PublicKey)>,
}

impl Rules {
    /// Makes this one of several instances; `started_ms` is the clock (since 1970) at
    /// [`Time::ZERO`].
    pub fn join_cluster(&mut self, own: InstanceId, started_ms: u64) {
        self.cluster = Some(Cluster {
            own,
            started_ms,
            reachable: false,
            memberships: BTreeMap::new(),
            outputs: VecDeque::new(),
        });
    }

    /// Takes note whether other instances are reached; while not, their clients are no peers.
    pub fn handle_bus(&mut self, reachable: bool) {
        if let Some(cluster) = &mut self.cluster {
            cluster.reachable = reachable;
            if !reachable {
                cluster.outputs.clear();
            }
        }
    }

    /// Takes what another instance said; [`BusEvent::AllWanted`] is for who drives the bus.
    pub fn handle_bus_event(&mut self, now: Time, event: BusEvent) {
        match event {
            BusEvent::Changes { instance, changes } => self.handle_changes(now, instance, &changes),
            BusEvent::AllBegins { instance } => self.handle_all_begins(instance),
            BusEvent::AllEnds { instance } => self.handle_all_ends(instance),
            BusEvent::Gone { instance } => self.handle_instance_gone(instance),
            BusEvent::Signal(signal) => self.handle_passed(signal.0),
            BusEvent::AllWanted => {}
        }
    }

    /// Takes changes of another instance's memberships.
    fn handle_changes(&mut self, now: Time, instance: InstanceId, changes: &[Change]) {
        for change in changes {
            if change.joined {
                self.joined_there(now, instance, change);
            } else {
                self.left_there(instance, &change.topic, &change.key);
            }
        }
    }

    /// Takes note that an instance tells all its memberships now.
    fn handle_all_begins(&mut self, instance: InstanceId) {
        if let Some(cluster) = &mut self.cluster {
            let known = cluster.memberships.entry(instance).or_default();
            known.unconfirmed = known.held.clone();
        }
    }

    /// Takes note that an instance told all: what it did not name is over.
    fn handle_all_ends(&mut self, instance: InstanceId) {
        let known = self.cluster.as_mut();
        let known = known.and_then(|cluster| cluster.memberships.get_mut(&instance));
        let over = known.map(|known| std::mem::take(&mut known.unconfirmed));
        for (topic, key) in over.unwrap_or_default() {
            self.left_there(instance, &topic, &key);
        }
    }

    /// Takes note that an instance is gone with all its clients.
    fn handle_instance_gone(&mut self, instance: InstanceId) {
        let known = self.cluster.as_mut();
        let known = known.and_then(|cluster| cluster.memberships.remove(&instance));
        for (topic, key) in known.map(|known| known.held).unwrap_or_default() {
            self.left_there(instance, &topic, &key);
        }
    }

    /// Delivers a signal that another instance passed on; nobody there any more is no error: the
    /// sender's instance hears of that by itself.
    fn handle_passed(&mut self, passed: Passed) {
        if let Some(Seat::Here(receiver, _)) = self.topics.member(&passed.topic, &passed.to) {
            let message = ServerMessage::Signal {
                topic: passed.topic,
                from: passed.from,
                kind: passed.kind,
                body: passed.body,
            };
            self.send(receiver, &message);
        }
    }

    /// Returns all memberships of ours.
    pub fn all_memberships(&self) -> Vec<Change> {
        let all = self.topics.all_here();
        all.map(|(topic, key, since_ms)| Change {
            joined: true,
            topic,
            key,
            since_ms,
        })
        .collect()
    }

    /// Returns the next thing that other instances are to hear.
    pub fn poll_bus_output(&mut self) -> Option<BusOutput> {
        self.cluster.as_mut()?.outputs.pop_front()
    }

    fn unix_ms(&self, now: Time) -> u64 {
        let passed = now.since(Time::ZERO).as_millis();
        let started = self.cluster.as_ref().map_or(0, |known| known.started_ms);
        started.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Returns since when a key that joins now is in a topic: later than where it was before, also when
    /// that is with an instance whose clock is ahead.
    pub(super) fn since_ms(&self, now: Time, topic: &Topic, key: &PublicKey) -> u64 {
        let before = match self.topics.member(topic, key) {
            Some(Seat::Here(_, since_ms) | Seat::There(_, since_ms)) => since_ms,
            None => return self.unix_ms(now),
        };
        self.unix_ms(now).max(before.saturating_add(1))
    }

    pub(super) fn reaches_instances(&self) -> bool {
        self.cluster.as_ref().is_some_and(|known| known.reachable)
    }

    /// Tells other instances of a membership of ours; `since_ms` is `None` when it ended.
    pub(super) fn tell_instances(&mut self, topic: Topic, key: PublicKey, since_ms: Option<u64>) {
        let change = Change {
            joined: since_ms.is_some(),
            topic,
            key,
            since_ms: since_ms.unwrap_or_default(),
        };
        self.tell(BusOutput::Change(change));
    }

    pub(super) fn pass_to_instance(&mut self, instance: InstanceId, passed: Passed) {
        self.tell(BusOutput::Pass(PassOn { instance, passed }));
    }

    /// What cannot be told now is told with everything else on connecting.
    fn tell(&mut self, output: BusOutput) {
        if let Some(cluster) = self.cluster.as_mut().filter(|known| known.reachable) {
            cluster.outputs.push_back(output);
        }
    }

    /// Forgets that a membership is with an instance, not the membership.
    pub(super) fn forget_there(&mut self, instance: InstanceId, topic: &Topic, key: &PublicKey) {
        let known = self.cluster.as_mut();
        if let Some(known) = known.and_then(|known| known.memberships.get_mut(&instance)) {
            known.held.remove(&(*topic, *key));
            known.unconfirmed.remove(&(*topic, *key));
        }
    }

    fn joined_there(&mut self, now: Time, instance: InstanceId, change: &Change) {
        let (topic, key, since_ms) = (change.topic, change.key, change.since_ms);
        let Some(own) = self.cluster.as_ref().map(|cluster| cluster.own) else {
            return;
        };
        let held = self.topics.member(&topic, &key);
        let later = match held {
            None => true,
            Some(Seat::Here(_, ours)) => (since_ms, instance) > (ours, own),
            Some(Seat::There(other, known)) => {
                other == instance || (since_ms, instance) > (known, other)
            }
        };
        if !later || !self.topics.enter_there(now, topic, key, instance, since_ms) {
            return;
        }
        match held {
            Some(Seat::There(other, _)) if other == instance => {}
            Some(Seat::There(other, _)) => self.forget_there(other, &topic, &key),
            Some(Seat::Here(replaced, _)) => self.replace(replaced, topic, key),
            None => {}
        }
        if let Some(cluster) = &mut self.cluster {
            let known = cluster.memberships.entry(instance).or_default();
            known.held.insert((topic, key));
            known.unconfirmed.remove(&(topic, key));
        }
        // Told again, or with another instance now: for the peers here nothing changed.
        if !matches!(held, Some(Seat::There(..))) {
            self.tell_others(
                &topic,
                &key,
                &ServerMessage::PeerJoined { topic, peer: key },
            );
        }
    }

    fn left_there(&mut self, instance: InstanceId, topic: &Topic, key: &PublicKey) {
        self.forget_there(instance, topic, key);
        let seat = self.topics.member(topic, key);
        if !matches!(seat, Some(Seat::There(held, _)) if held == instance) {
            return;
        }
        self.topics.exit(topic, key);
        let message = ServerMessage::PeerLeft {
            topic: *topic,
            peer: *key,
        };
        self.tell_others(topic, key, &message);
    }
}
