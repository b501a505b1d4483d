//! Who is to be connected to, when, and by whom: the rules of introductions, sans-IO.
//!
//! A signal server introduces, and so does a peer that this node has a session with ([`Via`]). Of two
//! peers the one with the smaller key offers: the client key towards a server, the Noise static where a
//! peer introduces. The other one, when it has no session and no offer comes, *knocks*: it asks for one,
//! because it may have lost a session that the offering side still believes in (a process that was killed and
//! came back). A knock never ends a session: a new one does, once it has proved that it knows the topic's key.
//!
//! One peer may be shown by several introducers. A peer names it by its Noise static, so that one with a
//! session is never dialled again; behind a server it is known once a session has opened. Of the
//! paths to one peer one is tried at a time. What an introducer shows may be invented: it gets few dials at once,
//! and rests after too many that led nowhere.
//!
//! **Drain rule.** After each `handle_*` call [`poll_change`](Introductions::poll_change) and
//! [`poll_action`](Introductions::poll_action) until they give `None`, and again at
//! [`poll_timeout`](Introductions::poll_timeout).

mod path;
mod peer_state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};
use kinlog_signal::Topic;

use crate::limits::{
    CANDIDATES_PER_MINUTE, CIRCUIT_RETRY_AFTER, CIRCUIT_RETRY_AFTER_MAX, CIRCUIT_WAIT_MAX,
    DIALS_BY_INTRODUCER_MAX, DIALS_MAX, FAILURES_BEFORE_RELAY, INCOMING_BY_INTRODUCER_MAX,
    INCOMING_NEGOTIATIONS_MAX, INTRODUCED_AFTER, INTRODUCER_FAILURES_MAX, INTRODUCER_REST,
    KNOCK_AFTER, KNOCKS_UNANSWERED, PEERS_KNOWN_MAX, PEERS_TOLD_MAX, RETRY_AFTER, RETRY_AFTER_MAX,
};
use crate::session::SessionId;
use path::{CircuitState, Introduction, State};
pub(crate) use path::{MeetingKey, PeerPath, Via};
pub use peer_state::PeerState;

/// What the node is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Make an offer with this attempt number.
    Offer { path: PeerPath, attempt: u64 },
    /// Ask the other side for an offer.
    Knock { path: PeerPath },
    /// Ask the introducer for a circuit with this number.
    Circuit { path: PeerPath, number: u64 },
}

/// What is due with a peer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Due {
    /// It is asked for an offer, or made one.
    Dial,
    /// A circuit to it is asked for.
    Circuit,
    /// A circuit that was asked for has not come.
    GiveUp,
}

/// It is further with a peer, or less far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Change {
    pub(crate) meeting: MeetingKey,
    pub(crate) path: PeerPath,
    pub(crate) from: PeerState,
    pub(crate) to: PeerState,
}

/// A session that is open, and who is at its other side.
#[derive(Clone, Copy, Debug)]
struct Open {
    meeting: MeetingKey,
    peer: PublicKey,
    relayed: bool,
}

/// How far one peer that introduces is to be believed.
#[derive(Clone, Copy, Debug, Default)]
struct Trust {
    failures: u32,
    rests_until: Option<Time>,
    relays: bool,
}

/// How it is with one peer of a meeting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PeerView {
    pub(crate) meeting: MeetingKey,
    /// Its Noise static where that is known, else its client key.
    pub(crate) peer: PublicKey,
    pub(crate) state: PeerState,
    pub(crate) failures: u32,
    pub(crate) session: Option<SessionId>,
    /// Who shows it.
    pub(crate) via: Vec<Via>,
}

/// All peers of all topics.
#[derive(Debug)]
pub(crate) struct Introductions {
    peers: BTreeMap<PeerPath, Introduction>,
    open: BTreeMap<SessionId, Open>,
    trust: BTreeMap<SessionId, Trust>,
    changes: VecDeque<Change>,
    random: u64,
}

impl Introductions {
    /// `seed` makes attempts and waits unlike those of other nodes.
    pub(crate) fn new(seed: u64) -> Self {
        Introductions {
            peers: BTreeMap::new(),
            open: BTreeMap::new(),
            trust: BTreeMap::new(),
            changes: VecDeque::new(),
            random: seed | 1,
        }
    }

    /// A topic was entered, or entered again: these peers are in it and no others.
    pub(crate) fn handle_joined(
        &mut self,
        now: Time,
        server: usize,
        topic: Topic,
        meeting: MeetingKey,
        own: PublicKey,
        peers: &[PublicKey],
    ) {
        let present: BTreeSet<PublicKey> = peers.iter().copied().collect();
        let via = Via::Signal { server, topic };
        for path in self.paths(|path| path.via == via && !present.contains(&path.peer)) {
            self.handle_peer_left(path);
        }
        for peer in present {
            let path = PeerPath { via, peer };
            self.handle_peer_joined(now, path, meeting, own);
        }
    }

    /// A session opened whose other side introduces: whether it relays to those whom it shows.
    pub(crate) fn handle_introducer(&mut self, session: SessionId, relays: bool) {
        self.trust.entry(session).or_default().relays = relays;
    }

    /// A peer is in a topic, or a session's other side has one with it.
    pub(crate) fn handle_peer_joined(
        &mut self,
        now: Time,
        path: PeerPath,
        meeting: MeetingKey,
        own: PublicKey,
    ) {
        if path.peer == own || self.is_full(&path) {
            return;
        }
        let mut wait = Duration::ZERO;
        if path.introducer().is_some() && self.may_be_behind_a_server(&meeting) {
            wait += INTRODUCED_AFTER;
        }
        if own > path.peer {
            wait += self.jitter(KNOCK_AFTER);
        }
        let peer = self
            .peers
            .entry(path)
            .or_insert_with(|| Introduction::new(&path, meeting, own));
        peer.present = true;
        let identity = peer.identity;
        if let State::Idle { try_at } = &mut peer.state {
            peer.failures = 0;
            *try_at = Some(now + wait);
            if path.introducer().is_some()
                && let Some(session) = self.direct_with(&meeting, identity)
            {
                self.set_state(&path, State::Connected { session });
            }
        }
        self.settle(&path);
    }

    /// A peer left a topic, or the introducer; a session with it goes on.
    pub(crate) fn handle_peer_left(&mut self, path: PeerPath) {
        let Some(peer) = self.peers.get_mut(&path) else {
            return;
        };
        peer.present = false;
        // An offer that an introducer cannot hand on any more is not waited for.
        let is_over = match peer.state {
            State::Idle { .. } => true,
            State::Negotiating {
                offered: true,
                described: false,
                ..
            } => path.introducer().is_some(),
            State::Negotiating { .. } | State::Connected { .. } => false,
        };
        if is_over {
            self.remove(&path);
        }
    }

    /// A server is lost: who is in its topics is not known until it is back.
    pub(crate) fn handle_server_lost(&mut self, server: usize) {
        let is_of =
            |path: &PeerPath| matches!(path.via, Via::Signal { server: of, .. } if of == server);
        for path in self.paths(is_of) {
            self.handle_peer_left(path);
        }
    }

    /// A topic was left on purpose.
    pub(crate) fn handle_topic_left(&mut self, server: usize, topic: Topic) {
        let via = Via::Signal { server, topic };
        for path in self.paths(|path| path.via == via) {
            self.handle_peer_left(path);
        }
    }

    /// A peer made an offer; returns whether to answer it. An attempt already under way gives way.
    pub(crate) fn handle_offer(
        &mut self,
        path: PeerPath,
        meeting: MeetingKey,
        own: PublicKey,
        attempt: u64,
    ) -> bool {
        // The side with the smaller key offers; anything else is an introducer or peer making things up.
        if path.peer >= own || self.is_full(&path) {
            return false;
        }
        let incoming = |by: Option<Via>| {
            let is_by = |(path, peer): &(&PeerPath, &Introduction)| {
                peer.is_incoming() && by.is_none_or(|via| path.via == via)
            };
            self.peers.iter().filter(is_by).count()
        };
        if incoming(None) >= INCOMING_NEGOTIATIONS_MAX {
            return false;
        }
        if path.introducer().is_some() {
            // It is this very process that the session is with: an introducer that says otherwise is not
            // to end it, and one that is broken ends by itself.
            if incoming(Some(path.via)) >= INCOMING_BY_INTRODUCER_MAX
                || self.direct_with(&meeting, Some(path.peer)).is_some()
            {
                return false;
            }
        }
        let peer = self
            .peers
            .entry(path)
            .or_insert_with(|| Introduction::new(&path, meeting, own));
        // Another peer says itself whom it has, and who is gone: of one that was gone before it was told of
        // nothing follows.
        peer.present |= path.introducer().is_none();
        let state = State::Negotiating {
            attempt,
            offered: false,
            described: false,
        };
        self.set_state(&path, state);
        true
    }

    /// An answer to our offer came.
    pub(crate) fn handle_answer(&mut self, path: PeerPath, attempt: u64) {
        if let Some(peer) = self.peers.get_mut(&path)
            && let State::Negotiating {
                attempt: current,
                described,
                ..
            } = &mut peer.state
            && *current == attempt
        {
            *described = true;
            self.settle(&path);
        }
    }

    /// A peer asks for an offer: it has no session with us, whatever we believe. Of a peer that another
    /// one shows it is not believed while a direct session runs: that ends by itself when it is broken.
    pub(crate) fn handle_knock(&mut self, now: Time, path: PeerPath) {
        let Some(peer) = self.peers.get(&path) else {
            return;
        };
        let is_connected =
            path.introducer().is_some() && self.direct_with(&peer.meeting, peer.identity).is_some();
        if peer.own < path.peer && !is_connected && !matches!(peer.state, State::Negotiating { .. })
        {
            self.set_state(&path, State::Idle { try_at: Some(now) });
        }
    }

    /// A candidate of a peer came; returns whether it may be used: at most
    /// [`CANDIDATES_PER_MINUTE`] of one peer, and only for the attempt under way.
    pub(crate) fn handle_candidate(&mut self, now: Time, path: PeerPath, attempt: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&path) else {
            return false;
        };
        if now.since(peer.candidates_since) >= Duration::from_secs(60) {
            peer.candidates_since = now;
            peer.candidates = 0;
        }
        peer.candidates = peer.candidates.saturating_add(1);
        peer.candidates <= CANDIDATES_PER_MINUTE && peer.is_attempt(attempt)
    }

    /// Returns whether `attempt` is the one under way with the peer.
    pub(crate) fn is_current(&self, path: &PeerPath, attempt: u64) -> bool {
        self.peers
            .get(path)
            .is_some_and(|peer| peer.is_attempt(attempt))
    }

    /// A link opened and a session runs over it.
    pub(crate) fn handle_session(&mut self, path: PeerPath, session: SessionId) {
        if let Some(State::Negotiating { described, .. }) =
            self.peers.get_mut(&path).map(|peer| &mut peer.state)
        {
            *described = true;
            self.settle(&path);
        }
        self.set_state(&path, State::Connected { session });
    }

    /// A session proved itself: failures before it are forgotten, and whoever else shows the same peer need not
    /// introduce it any more.
    pub(crate) fn handle_session_open(
        &mut self,
        path: Option<PeerPath>,
        session: SessionId,
        meeting: MeetingKey,
        peer: PublicKey,
        relayed: bool,
    ) {
        let open = Open {
            meeting,
            peer,
            relayed,
        };
        self.open.insert(session, open);
        if let Some(path) = path {
            if let Some(known) = self.peers.get_mut(&path) {
                known.identity = Some(peer);
            }
            if let Some(trust) = path.introducer().and_then(|by| self.trust.get_mut(&by)) {
                trust.failures = 0;
                trust.rests_until = None;
            }
        }
        let same: Vec<PeerPath> = self.same(&meeting, peer);
        for path in same {
            let is_begun = |known: &Introduction| match known.state {
                State::Connected { session } => !self.open.contains_key(&session),
                _ => false,
            };
            // One that begins finds out by itself which of the two stays.
            let begun = self.peers.get(&path).is_some_and(is_begun);
            if !relayed && let Some(known) = self.peers.get_mut(&path) {
                known.failures = 0;
                known.unreached = false;
                if !begun {
                    known.state = State::Connected { session };
                }
            }
            self.settle(&path);
        }
    }

    /// An attempt failed.
    pub(crate) fn handle_failed(&mut self, now: Time, path: PeerPath, attempt: u64) {
        if self.is_current(&path, attempt) {
            self.mark_unreached(&path);
            self.distrust(now, &path);
            self.retry(now, path);
        }
    }

    /// A session ended: those whom it introduced are not seen any more, and its peer is met again, unless there
    /// is another session with it.
    pub(crate) fn handle_session_closed(&mut self, now: Time, session: SessionId) {
        self.trust.remove(&session);
        for path in self.paths(|path| path.via == Via::Peer(session)) {
            self.handle_peer_left(path);
        }
        let was_open = self.open.remove(&session);
        for path in self.paths(|_| true) {
            let Some(peer) = self.peers.get(&path) else {
                continue;
            };
            if peer.circuit == (CircuitState::Running { session }) {
                self.end_circuit(now, &path, false);
            } else if peer.state == (State::Connected { session }) {
                if was_open.is_none() {
                    self.mark_unreached(&path);
                    self.distrust(now, &path);
                }
                self.retry(now, path);
            } else if was_open.is_some_and(|open| Some(open.peer) == peer.identity) {
                self.settle(&path);
            }
        }
    }

    /// A peer asks for a circuit by the introducer; returns whether to accept it.
    pub(crate) fn handle_circuit_open(
        &mut self,
        path: PeerPath,
        meeting: MeetingKey,
        own: PublicKey,
    ) -> bool {
        if path.peer >= own
            || self.is_full(&path)
            || self.direct_with(&meeting, Some(path.peer)).is_some()
        {
            return false;
        }
        self.peers
            .entry(path)
            .or_insert_with(|| Introduction::new(&path, meeting, own));
        true
    }

    /// Returns whether the circuit with this number was asked for and may be used.
    pub(crate) fn is_opening(&self, path: &PeerPath, number: u64) -> bool {
        self.peers.get(path).is_some_and(|peer| {
            matches!(peer.circuit, CircuitState::Opening { number: asked, .. } if asked == number)
        })
    }

    /// A session runs by a circuit; direct ways are tried on.
    pub(crate) fn handle_circuit_session(&mut self, path: PeerPath, session: SessionId) {
        if let Some(peer) = self.peers.get_mut(&path) {
            peer.circuit = CircuitState::Running { session };
            self.settle(&path);
        }
    }

    /// The circuit with this number was refused, or is closed before it was of use.
    pub(crate) fn handle_circuit_failed(&mut self, now: Time, path: PeerPath, number: u64) {
        if self.is_opening(&path, number) {
            self.end_circuit(now, &path, true);
        }
    }

    /// Forgets a peer that is not to be met again for a while.
    pub(crate) fn forget(&mut self, path: &PeerPath) {
        self.remove(path);
    }

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
                    if let Some(peer) = self.peers.get_mut(&path) {
                        peer.circuit = CircuitState::Opening { number, until };
                        self.settle(&path);
                    }
                    return Some(Action::Circuit { path, number });
                }
                Due::GiveUp => self.end_circuit(now, &path, true),
            }
        };
        let attempt = self.next_random();
        let peer = self.peers.get(&path)?;
        if peer.own < path.peer {
            let state = State::Negotiating {
                attempt,
                offered: true,
                described: false,
            };
            self.set_state(&path, state);
            Some(Action::Offer { path, attempt })
        } else {
            self.retry(now, path);
            Some(Action::Knock { path })
        }
    }

    /// Returns how it went on with a peer.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Returns when [`poll_action`](Self::poll_action) may have something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next_due().map(|(at, _, _)| at)
    }

    /// Returns how many peers signal servers show in the topics of a meeting, each once per server and topic.
    pub(crate) fn peers_seen(&self, meeting: &MeetingKey) -> usize {
        let is_seen = |(path, peer): &(&PeerPath, &Introduction)| {
            path.introducer().is_none() && peer.present && peer.meeting == *meeting
        };
        self.peers.iter().filter(is_seen).count()
    }

    /// Returns how many peers are seen in these topics.
    pub(crate) fn peers_in(&self, topics: &[Topic]) -> usize {
        let is_in = |path: &PeerPath| matches!(&path.via, Via::Signal { topic, .. } if topics.contains(topic));
        self.peers
            .iter()
            .filter(|(path, peer)| peer.present && is_in(path))
            .count()
    }

    /// Returns whether a meeting has nobody: none is shown there, and none connected.
    pub(crate) fn is_alone(&self, meeting: &MeetingKey) -> bool {
        let shown = |peer: &Introduction| peer.present && peer.meeting == *meeting;
        !self.peers.values().any(shown) && !self.open.values().any(|it| it.meeting == *meeting)
    }

    /// Returns all peers of all meetings, each once as far as that is known.
    pub(crate) fn view(&self) -> Vec<PeerView> {
        let mut all: BTreeMap<(MeetingKey, PublicKey), PeerView> = BTreeMap::new();
        for (id, open) in &self.open {
            let view = all
                .entry((open.meeting, open.peer))
                .or_insert_with(|| PeerView::new(open.meeting, open.peer));
            let state = match open.relayed {
                true => PeerState::Relayed,
                false => PeerState::Connected,
            };
            if state >= view.state {
                view.state = state;
                view.session = Some(*id);
            }
        }
        for (path, peer) in &self.peers {
            let name = peer.identity.unwrap_or(path.peer);
            let view = all
                .entry((peer.meeting, name))
                .or_insert_with(|| PeerView::new(peer.meeting, name));
            view.state = view.state.max(peer.told);
            view.failures = view.failures.max(peer.failures);
            view.via.push(path.via);
        }
        all.into_values().collect()
    }

    /// Returns the paths to one peer, as far as it is known to be the one.
    fn same(&self, meeting: &MeetingKey, identity: PublicKey) -> Vec<PeerPath> {
        let is_same =
            |peer: &Introduction| peer.identity == Some(identity) && peer.meeting == *meeting;
        let same = self.peers.iter().filter(|(_, peer)| is_same(peer));
        same.map(|(path, _)| *path).collect()
    }

    fn paths(&self, is: impl Fn(&PeerPath) -> bool) -> Vec<PeerPath> {
        self.peers.keys().filter(|path| is(path)).copied().collect()
    }

    /// Returns the newest open session with a peer that is not relayed.
    fn direct_with(&self, meeting: &MeetingKey, identity: Option<PublicKey>) -> Option<SessionId> {
        self.session_with(meeting, identity, false)
    }

    fn session_with(
        &self,
        meeting: &MeetingKey,
        identity: Option<PublicKey>,
        relayed: bool,
    ) -> Option<SessionId> {
        let identity = identity?;
        let is_with = |open: &Open| {
            open.relayed == relayed && open.peer == identity && open.meeting == *meeting
        };
        let mut open = self.open.iter().rev();
        open.find(|(_, open)| is_with(open)).map(|(id, _)| *id)
    }

    /// Returns whether servers show peers of the meeting of which nobody knows yet who they are, and which are
    /// still being tried.
    fn may_be_behind_a_server(&self, meeting: &MeetingKey) -> bool {
        self.peers.iter().any(|(path, peer)| {
            path.introducer().is_none()
                && peer.meeting == *meeting
                && peer.identity.is_none()
                && peer.failures < FAILURES_BEFORE_RELAY
        })
    }

    /// Returns what is due next, and when: of several paths to one peer one at a time.
    fn next_due(&self) -> Option<(Time, Due, PeerPath)> {
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
            let is_tried = |identity| tried.contains(&(peer.meeting, identity));
            if peer.identity.is_some_and(is_tried) {
                return None;
            }
            let offers = peer.own < path.peer;
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
            let is_there = |identity| circuits.contains(&(peer.meeting, identity));
            let is_second = due == Due::Circuit && peer.identity.is_some_and(is_there);
            (!is_second).then_some((at, due, *path))
        });
        dial.chain(circuit).min()
    }

    /// Returns what is due with the circuit to a peer. One is asked for once direct ways have failed, by the side that offers
    /// those, too.
    fn circuit_due(&self, path: &PeerPath, peer: &Introduction) -> Option<(Time, Due)> {
        let from = match peer.circuit {
            CircuitState::None { from } => from,
            CircuitState::Opening { until, .. } => return Some((until, Due::GiveUp)),
            CircuitState::Running { .. } => return None,
        };
        let trust = self.trust.get(&path.introducer()?)?;
        let is_wanted = trust.relays
            && peer.present
            && peer.own < path.peer
            && peer.failures >= FAILURES_BEFORE_RELAY
            && self.direct_with(&peer.meeting, peer.identity).is_none()
            && self
                .session_with(&peer.meeting, peer.identity, true)
                .is_none();
        is_wanted.then_some((from, Due::Circuit))
    }

    /// There is no circuit to a peer any more, or none has come of it.
    fn end_circuit(&mut self, now: Time, path: &PeerPath, failed: bool) {
        let Some(peer) = self.peers.get_mut(path) else {
            return;
        };
        peer.circuit_failures = if failed {
            peer.circuit_failures.saturating_add(1)
        } else {
            0
        };
        let doublings = peer.circuit_failures.saturating_sub(1).min(16);
        let wait = (CIRCUIT_RETRY_AFTER * 2u32.pow(doublings)).min(CIRCUIT_RETRY_AFTER_MAX);
        let wait = if failed { wait } else { RETRY_AFTER };
        peer.circuit = CircuitState::None { from: now + wait };
        if !peer.present && matches!(peer.state, State::Idle { .. }) {
            self.remove(path);
        } else {
            self.settle(path);
        }
    }

    fn mark_unreached(&mut self, path: &PeerPath) {
        if let Some(peer) = self.peers.get_mut(path) {
            peer.unreached = true;
        }
    }

    /// Counts a failure against the peer that introduced, unless a session with the one that was tried runs.
    fn distrust(&mut self, now: Time, path: &PeerPath) {
        let (Some(introducer), Some(peer)) = (path.introducer(), self.peers.get(path)) else {
            return;
        };
        if self
            .session_with(&peer.meeting, peer.identity, true)
            .is_some()
        {
            return;
        }
        let trust = self.trust.entry(introducer).or_default();
        trust.failures += 1;
        if trust.failures >= INTRODUCER_FAILURES_MAX {
            trust.failures = 0;
            trust.rests_until = Some(now + INTRODUCER_REST);
        }
    }

    fn retry(&mut self, now: Time, path: PeerPath) {
        let Some(peer) = self.peers.get(&path) else {
            return;
        };
        let failures = peer.failures;
        if let Some(session) = self.direct_with(&peer.meeting, peer.identity) {
            self.set_state(&path, State::Connected { session });
            return;
        }
        if !peer.present {
            self.remove(&path);
            return;
        }
        let wait = (RETRY_AFTER * 2u32.saturating_pow(failures.min(16))).min(RETRY_AFTER_MAX);
        let wait = self.jitter(wait);
        if let Some(peer) = self.peers.get_mut(&path) {
            peer.failures = failures.saturating_add(1);
        }
        let try_at = Some(now + wait);
        self.set_state(&path, State::Idle { try_at });
    }

    fn set_state(&mut self, path: &PeerPath, state: State) {
        if let Some(peer) = self.peers.get_mut(path) {
            peer.state = state;
            self.settle(path);
        }
    }

    fn remove(&mut self, path: &PeerPath) {
        if let Some(peer) = self.peers.remove(path) {
            self.tell(path, &peer, PeerState::Disconnected);
        }
    }

    /// Tells how far it is with a peer now.
    fn settle(&mut self, path: &PeerPath) {
        let Some(peer) = self.peers.get(path) else {
            return;
        };
        let state = self.state_of(peer);
        self.tell_change(path, state);
    }

    fn state_of(&self, peer: &Introduction) -> PeerState {
        if self.direct_with(&peer.meeting, peer.identity).is_some() {
            return PeerState::Connected;
        }
        if self
            .session_with(&peer.meeting, peer.identity, true)
            .is_some()
        {
            return PeerState::Relayed;
        }
        match peer.state {
            State::Connected { .. } => PeerState::Connecting,
            State::Negotiating {
                described: true, ..
            } => PeerState::Connecting,
            State::Negotiating { .. } => PeerState::Signalling,
            State::Idle { .. } if matches!(peer.circuit, CircuitState::Opening { .. }) => {
                PeerState::Signalling
            }
            State::Idle { .. } if matches!(peer.circuit, CircuitState::Running { .. }) => {
                PeerState::Connecting
            }
            State::Idle { .. } if peer.unreached || peer.failures >= KNOCKS_UNANSWERED => {
                PeerState::StoreForward
            }
            State::Idle { .. } => PeerState::Discovering,
        }
    }

    fn tell_change(&mut self, path: &PeerPath, state: PeerState) {
        let Some(peer) = self.peers.get_mut(path) else {
            return;
        };
        let (meeting, from) = (peer.meeting, peer.told);
        peer.told = state;
        self.push_changes(*path, meeting, from, state);
    }

    fn tell(&mut self, path: &PeerPath, peer: &Introduction, state: PeerState) {
        self.push_changes(*path, peer.meeting, peer.told, state);
    }

    fn push_changes(
        &mut self,
        path: PeerPath,
        meeting: MeetingKey,
        from: PeerState,
        to: PeerState,
    ) {
        let mut from = from;
        for to in from.steps_to(to) {
            self.changes.push_back(Change {
                meeting,
                path,
                from,
                to,
            });
            from = to;
        }
    }

    fn is_full(&self, path: &PeerPath) -> bool {
        if self.peers.contains_key(path) {
            return false;
        }
        let by = |introducer| {
            let is_by = |path: &&PeerPath| path.introducer() == Some(introducer);
            self.peers.keys().filter(is_by).count()
        };
        self.peers.len() >= PEERS_KNOWN_MAX
            || path
                .introducer()
                .is_some_and(|introducer| by(introducer) >= PEERS_TOLD_MAX)
    }

    /// Returns between half and all of `wait`.
    fn jitter(&mut self, wait: Duration) -> Duration {
        let half = wait / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(self.next_random() % micros)
    }

    /// Xorshift: attempts and waits only have to differ between peers, not to be unguessable.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl PeerView {
    fn new(meeting: MeetingKey, peer: PublicKey) -> Self {
        PeerView {
            meeting,
            peer,
            state: PeerState::Disconnected,
            failures: 0,
            session: None,
            via: Vec::new(),
        }
    }
}
