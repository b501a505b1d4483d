//! Who is to be connected to, when, and by whom: the rules of introductions, sans-IO.
//!
//! A signal server introduces, and so does a peer that this node has a session with ([`Via`]). Of two
//! peers the one with the smaller key offers: the client key towards a server, the Noise static where a
//! peer introduces. The other one, when it has no session and no offer comes, *knocks*: it asks for one,
//! because it may have lost a session that the offering side still believes in (a process that was killed and
//! came back). A knock never ends a session: a new one does, once it has proved that it knows the topic's key.
//!
//! Which of several ways is used goes by the [ladder](super::ladder): what a later step shows waits for
//! its first dial while an earlier one may lead to the same peer.
//!
//! One peer may be shown by several introducers. A peer names it by its Noise static, so that one with a
//! session is never dialled again; behind a server it is known once a session has opened. Of the
//! paths to one peer one is tried at a time. What an introducer shows may be invented: it gets few dials at once,
//! and rests after too many that led nowhere.
//!
//! **Drain rule.** After each `handle_*` call [`poll_change`](Introductions::poll_change) and
//! [`poll_action`](Introductions::poll_action) until they give `None`, and again at
//! [`poll_timeout`](Introductions::poll_timeout).

mod attempt;
mod circuit;
mod climb;
mod due;
mod open;
mod path;
mod peer_state;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};
use kinlog_signal::Topic;

use super::connects::Connects;
use super::ladder::{Ladder, LadderStep};
use crate::limits::{
    FURTHER_INTERVAL, FURTHER_KEPT, FURTHER_KNOWN_MAX, KNOCK_AFTER, PEERS_KNOWN_MAX, PEERS_TOLD_MAX,
};
use crate::session::SessionId;
pub use climb::StepState;
pub(crate) use climb::StepView;
use path::{Introduction, State};
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
    /// By which step the peer was found; nothing where the caller made the link.
    step: Option<LadderStep>,
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
    /// Its device, as whoever introduces it says.
    pub(crate) device: Option<PublicKey>,
    /// Whoever is connected with it, where whoever shows it is not.
    pub(crate) beyond: Option<PublicKey>,
}

/// A peer of a peer's peer.
#[derive(Clone, Copy, Debug)]
struct Far {
    at: Time,
    via: PublicKey,
    device: Option<PublicKey>,
}

/// All peers of all topics.
#[derive(Debug)]
pub(crate) struct Introductions {
    peers: BTreeMap<PeerPath, Introduction>,
    open: BTreeMap<SessionId, Open>,
    trust: BTreeMap<SessionId, Trust>,
    /// Peers of those whom others have, by the session that told of them.
    far: BTreeMap<(SessionId, PublicKey), Far>,
    /// When the other side of a session was asked further last.
    asked_further: BTreeMap<SessionId, Time>,
    /// Peers of which there was a session too many, until when they are not dialled unless they are needed.
    parted: BTreeMap<(MeetingKey, PublicKey), Time>,
    /// There are as many sessions as are kept.
    is_full_of_sessions: bool,
    /// When somebody is dialled next although there are enough.
    explore_at: Time,
    ladder: Ladder,
    connects: Connects,
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
            far: BTreeMap::new(),
            asked_further: BTreeMap::new(),
            parted: BTreeMap::new(),
            is_full_of_sessions: false,
            explore_at: Time::ZERO,
            ladder: Ladder::default(),
            connects: Connects::default(),
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
        self.ladder.handle_entered(now, server, &meeting);
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
        let wait = match own > path.peer {
            true => self.jitter(KNOCK_AFTER),
            false => Duration::ZERO,
        };
        let peer = self
            .peers
            .entry(path)
            .or_insert_with(|| Introduction::new(&path, meeting, own));
        if !std::mem::replace(&mut peer.present, true) {
            peer.shown_at = now;
            peer.is_new = true;
        }
        let identity = peer.identity;
        if let State::Idle { try_at } = &mut peer.state {
            peer.failures = 0;
            let rests = identity.and_then(|one| self.parted.get(&(meeting, one)));
            *try_at = Some(rests.map_or(now + wait, |until| (now + wait).max(*until)));
            if path.introducer().is_some()
                && let Some(session) = self.direct_with(&meeting, identity)
            {
                self.end_search(&path);
                self.set_state(&path, State::Connected { session });
            }
        }
        self.settle(&path);
    }

    /// Returns whether a peer is shown by this path already.
    pub(crate) fn is_shown(&self, path: &PeerPath) -> bool {
        self.peers.get(path).is_some_and(|peer| peer.present)
    }

    /// Whoever introduces a peer says whose device it is.
    pub(crate) fn handle_device(&mut self, path: &PeerPath, device: Option<PublicKey>) {
        if let Some(peer) = self.peers.get_mut(path) {
            peer.device = device.or(peer.device);
        }
    }

    /// The other side of a session says whom one of its peers has.
    pub(crate) fn handle_further(
        &mut self,
        now: Time,
        session: SessionId,
        peer: PublicKey,
        via: PublicKey,
        device: Option<PublicKey>,
    ) {
        let least = (session, PublicKey([0; 32]));
        let most = (session, PublicKey([0xff; 32]));
        let is_full = self.far.range(least..=most).count() >= FURTHER_KNOWN_MAX;
        if !is_full || self.far.contains_key(&(session, peer)) {
            let far = Far {
                at: now,
                via,
                device,
            };
            self.far.insert((session, peer), far);
        }
    }

    /// Forgets whom nobody has told of for a while; returns the sessions whose other sides are to be asked further again,
    /// before that is so.
    pub(crate) fn look_further(&mut self, now: Time) -> BTreeSet<SessionId> {
        self.far.retain(|_, far| now < far.at + FURTHER_KEPT);
        let is_old = |far: &Far| now >= far.at + FURTHER_KEPT * 3 / 4;
        let old = self.far.iter().filter(|(_, far)| is_old(far));
        let old: BTreeSet<SessionId> = old.map(|((session, _), _)| *session).collect();
        // An answer takes a while, and what is gone no answer names again.
        let is_recent = |at: Time| now < at + 2 * FURTHER_INTERVAL;
        self.asked_further.retain(|_, at| is_recent(*at));
        let due = old.into_iter();
        let due: BTreeSet<SessionId> = due
            .filter(|session| !self.asked_further.contains_key(session))
            .collect();
        self.asked_further
            .extend(due.iter().map(|session| (*session, now)));
        due
    }

    /// A peer left a topic, or the introducer; a session with it goes on.
    pub(crate) fn handle_peer_left(&mut self, path: PeerPath) {
        if let Some(introducer) = path.introducer() {
            let goes = |by: &SessionId, peer: &PublicKey, far: &Far| {
                *by == introducer && (far.via == path.peer || *peer == path.peer)
            };
            self.far.retain(|(by, peer), far| !goes(by, peer, far));
        }
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
    pub(crate) fn handle_server_lost(&mut self, now: Time, server: usize) {
        self.ladder.handle_point_lost(now, server);
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

    /// Forgets a peer that is not to be met again for a while.
    pub(crate) fn forget(&mut self, path: &PeerPath) {
        self.remove(path);
    }

    /// Returns what came of connecting to peers.
    pub(crate) fn connects(&self) -> &Connects {
        &self.connects
    }

    /// Returns the step of the ladder that a path belongs to.
    fn step_of(&self, path: &PeerPath) -> LadderStep {
        match path.via {
            Via::Signal { server, .. } => self.ladder.step_of(server),
            Via::Peer(_) => LadderStep::Peers,
        }
    }

    fn paths(&self, is: impl Fn(&PeerPath) -> bool) -> Vec<PeerPath> {
        self.peers.keys().filter(|path| is(path)).copied().collect()
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
