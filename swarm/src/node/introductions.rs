//! Who is to be connected to, when, and by whom: the rules of introductions, sans-IO.
//!
//! Of two peers in a topic the one with the smaller client key offers. The other one, when it has
//! no session and no offer comes, *knocks*: it asks for one, because it may have lost a session
//! that the offering side still believes in (a process that was killed and came back). A knock
//! never ends a session: a new one does, once it has proved that it knows the topic's key.
//!
//! **Drain rule.** After each `handle_*` call [`poll_action`](Introductions::poll_action) until it
//! gives `None`, and again at [`poll_timeout`](Introductions::poll_timeout).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};
use kinlog_signal::Topic;

use crate::limits::{
    CANDIDATES_PER_MINUTE, DIALS_MAX, INCOMING_NEGOTIATIONS_MAX, KNOCK_AFTER, PEERS_KNOWN_MAX,
    RETRY_AFTER, RETRY_AFTER_MAX,
};
use crate::session::{Label, SessionId};

/// A peer as one signal server shows it in one topic.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct PeerPath {
    /// Position of the server among those configured.
    pub(crate) server: usize,
    pub(crate) topic: Topic,
    pub(crate) peer: PublicKey,
}

/// What a topic stands for.
pub(crate) type MeetingKey = (Label, [u8; 32]);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// No session, and none under way.
    Idle { try_at: Option<Time> },
    /// An offer was made or taken.
    Negotiating { attempt: u64, offered: bool },
    /// A session runs.
    Connected { session: SessionId },
}

#[derive(Debug)]
struct Introduction {
    meeting: MeetingKey,
    own: PublicKey,
    present: bool,
    state: State,
    failures: u32,
    candidates: u32,
    candidates_since: Time,
}

/// What the node is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Make an offer with this attempt number.
    Offer { path: PeerPath, attempt: u64 },
    /// Ask the other side for an offer.
    Knock { path: PeerPath },
}

/// All peers of all topics.
#[derive(Debug)]
pub(crate) struct Introductions {
    peers: BTreeMap<PeerPath, Introduction>,
    random: u64,
}

impl Introductions {
    /// `seed` makes attempts and waits unlike those of other nodes.
    pub(crate) fn new(seed: u64) -> Self {
        Introductions {
            peers: BTreeMap::new(),
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
        let gone: Vec<PeerPath> = self
            .in_topic(server, topic)
            .filter(|(path, _)| !present.contains(&path.peer))
            .map(|(path, _)| *path)
            .collect();
        for path in gone {
            self.handle_peer_left(path);
        }
        for peer in present {
            self.handle_peer_joined(
                now,
                PeerPath {
                    server,
                    topic,
                    peer,
                },
                meeting,
                own,
            );
        }
    }

    /// A peer is in a topic.
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
        let wait = if own < path.peer {
            Duration::ZERO
        } else {
            self.jitter(KNOCK_AFTER)
        };
        let peer = self
            .peers
            .entry(path)
            .or_insert_with(|| Introduction::new(meeting, own));
        peer.present = true;
        if let State::Idle { try_at } = &mut peer.state {
            peer.failures = 0;
            *try_at = Some(now + wait);
        }
    }

    /// A peer left a topic; a session with it goes on.
    pub(crate) fn handle_peer_left(&mut self, path: PeerPath) {
        let Some(peer) = self.peers.get_mut(&path) else {
            return;
        };
        peer.present = false;
        if matches!(peer.state, State::Idle { .. }) {
            self.peers.remove(&path);
        }
    }

    /// A server is lost: who is in its topics is not known until it is back.
    pub(crate) fn handle_server_lost(&mut self, server: usize) {
        let paths: Vec<PeerPath> = self
            .peers
            .keys()
            .filter(|path| path.server == server)
            .copied()
            .collect();
        for path in paths {
            self.handle_peer_left(path);
        }
    }

    /// A topic was left on purpose.
    pub(crate) fn handle_topic_left(&mut self, server: usize, topic: Topic) {
        let paths: Vec<PeerPath> = self
            .in_topic(server, topic)
            .map(|(path, _)| *path)
            .collect();
        for path in paths {
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
        // The side with the smaller key offers; anything else is a server or peer making things up.
        if path.peer >= own || self.is_full(&path) {
            return false;
        }
        let incoming =
            self.count(|state| matches!(state, State::Negotiating { offered: false, .. }));
        if incoming >= INCOMING_NEGOTIATIONS_MAX {
            return false;
        }
        let peer = self
            .peers
            .entry(path)
            .or_insert_with(|| Introduction::new(meeting, own));
        peer.present = true;
        peer.state = State::Negotiating {
            attempt,
            offered: false,
        };
        true
    }

    /// A peer asks for an offer: it has no session with us, whatever we believe.
    pub(crate) fn handle_knock(&mut self, now: Time, path: PeerPath) {
        let Some(peer) = self.peers.get_mut(&path) else {
            return;
        };
        if peer.own < path.peer && !matches!(peer.state, State::Negotiating { .. }) {
            peer.state = State::Idle { try_at: Some(now) };
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
        peer.candidates <= CANDIDATES_PER_MINUTE
            && matches!(peer.state, State::Negotiating { attempt: current, .. } if current == attempt)
    }

    /// Returns whether `attempt` is the one under way with the peer.
    pub(crate) fn is_current(&self, path: &PeerPath, attempt: u64) -> bool {
        self.peers.get(path).is_some_and(
            |peer| matches!(peer.state, State::Negotiating { attempt: current, .. } if current == attempt),
        )
    }

    /// A link opened and a session runs over it.
    pub(crate) fn handle_session(&mut self, path: PeerPath, session: SessionId) {
        if let Some(peer) = self.peers.get_mut(&path) {
            peer.state = State::Connected { session };
        }
    }

    /// A session proved itself: failures before it are forgotten.
    pub(crate) fn handle_session_open(&mut self, path: PeerPath) {
        if let Some(peer) = self.peers.get_mut(&path) {
            peer.failures = 0;
        }
    }

    /// An attempt failed.
    pub(crate) fn handle_failed(&mut self, now: Time, path: PeerPath, attempt: u64) {
        if self.is_current(&path, attempt) {
            self.retry(now, path);
        }
    }

    /// A session ended; `other` is one with the same peer that still runs.
    pub(crate) fn handle_session_closed(
        &mut self,
        now: Time,
        path: PeerPath,
        session: SessionId,
        other: Option<SessionId>,
    ) {
        let Some(peer) = self.peers.get_mut(&path) else {
            return;
        };
        if peer.state != (State::Connected { session }) {
            return;
        }
        match other {
            Some(session) => peer.state = State::Connected { session },
            None => self.retry(now, path),
        }
    }

    /// Forgets a peer that is not to be met again for a while.
    pub(crate) fn forget(&mut self, path: &PeerPath) {
        self.peers.remove(path);
    }

    /// Returns the next thing to do at `now`.
    pub(crate) fn poll_action(&mut self, now: Time) -> Option<Action> {
        let dials = self.count(|state| matches!(state, State::Negotiating { offered: true, .. }));
        let path = self.peers.iter().find_map(|(path, peer)| {
            let State::Idle { try_at: Some(at) } = peer.state else {
                return None;
            };
            let may = peer.own > path.peer || dials < DIALS_MAX;
            (at <= now && may).then_some(*path)
        })?;
        let attempt = self.next_random();
        let peer = self.peers.get_mut(&path)?;
        if peer.own < path.peer {
            peer.state = State::Negotiating {
                attempt,
                offered: true,
            };
            Some(Action::Offer { path, attempt })
        } else {
            self.retry(now, path);
            Some(Action::Knock { path })
        }
    }

    /// Returns when [`poll_action`](Self::poll_action) may have something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let dials = self.count(|state| matches!(state, State::Negotiating { offered: true, .. }));
        self.peers
            .iter()
            .filter_map(|(path, peer)| match peer.state {
                State::Idle { try_at } if peer.own > path.peer || dials < DIALS_MAX => try_at,
                _ => None,
            })
            .min()
    }

    /// Returns how many peers are seen in the topics of a meeting, each once per server and topic.
    pub(crate) fn peers_seen(&self, meeting: &MeetingKey) -> usize {
        self.peers
            .values()
            .filter(|peer| peer.present && peer.meeting == *meeting)
            .count()
    }

    /// Returns how many peers are seen in these topics.
    pub(crate) fn peers_in(&self, topics: &[Topic]) -> usize {
        let is_in = |path: &PeerPath| topics.contains(&path.topic);
        self.peers
            .iter()
            .filter(|(path, peer)| peer.present && is_in(path))
            .count()
    }

    fn retry(&mut self, now: Time, path: PeerPath) {
        let Some(failures) = self.peers.get(&path).map(|peer| peer.failures) else {
            return;
        };
        let wait = (RETRY_AFTER * 2u32.saturating_pow(failures.min(16))).min(RETRY_AFTER_MAX);
        let wait = self.jitter(wait);
        let Some(peer) = self.peers.get_mut(&path) else {
            return;
        };
        if !peer.present {
            self.peers.remove(&path);
            return;
        }
        peer.failures = failures.saturating_add(1);
        peer.state = State::Idle {
            try_at: Some(now + wait),
        };
    }

    fn is_full(&self, path: &PeerPath) -> bool {
        self.peers.len() >= PEERS_KNOWN_MAX && !self.peers.contains_key(path)
    }

    fn count(&self, is: impl Fn(&State) -> bool) -> usize {
        self.peers.values().filter(|peer| is(&peer.state)).count()
    }

    fn in_topic(
        &self,
        server: usize,
        topic: Topic,
    ) -> impl Iterator<Item = (&PeerPath, &Introduction)> {
        let first = PeerPath {
            server,
            topic,
            peer: PublicKey([0; 32]),
        };
        self.peers
            .range(first..)
            .take_while(move |(path, _)| path.server == server && path.topic == topic)
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

impl Introduction {
    fn new(meeting: MeetingKey, own: PublicKey) -> Self {
        Introduction {
            meeting,
            own,
            present: true,
            state: State::Idle { try_at: None },
            failures: 0,
            candidates: 0,
            candidates_since: Time::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEETING: MeetingKey = (Label::Feed, [1; 32]);
    const LOW: PublicKey = PublicKey([1; 32]);
    const HIGH: PublicKey = PublicKey([9; 32]);

    fn path(peer: PublicKey) -> PeerPath {
        PeerPath {
            server: 0,
            topic: Topic([2; 32]),
            peer,
        }
    }

    fn at(millis: u64) -> Time {
        Time(millis * 1000)
    }

    fn offer_to(introductions: &mut Introductions, now: Time) -> u64 {
        match introductions.poll_action(now) {
            Some(Action::Offer { attempt, .. }) => attempt,
            other => unreachable!("expected an offer, got {other:?}"),
        }
    }

    #[test]
    fn smaller_key_offers_and_larger_key_knocks_later() {
        let mut low = Introductions::new(1);
        low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
        offer_to(&mut low, at(0));
        assert_eq!(low.poll_action(at(0)), None);

        let mut high = Introductions::new(1);
        high.handle_joined(at(0), 0, Topic([2; 32]), MEETING, HIGH, &[LOW]);
        assert_eq!(high.poll_action(at(0)), None);
        let due = high.poll_timeout().unwrap();
        assert!(due <= at(0) + KNOCK_AFTER);
        assert_eq!(
            high.poll_action(due),
            Some(Action::Knock { path: path(LOW) })
        );
    }

    #[test]
    fn offer_of_the_larger_key_is_ignored() {
        let mut low = Introductions::new(1);
        assert!(!low.handle_offer(path(HIGH), MEETING, LOW, 5));
        let mut high = Introductions::new(1);
        assert!(high.handle_offer(path(LOW), MEETING, HIGH, 5));
        assert!(high.is_current(&path(LOW), 5));
    }

    #[test]
    fn attempt_that_outlives_its_topic_does_not_keep_the_peer_from_being_dialled_again() {
        let mut low = Introductions::new(1);
        low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
        let attempt = offer_to(&mut low, at(0));
        low.handle_topic_left(0, Topic([2; 32]));
        // It leads to a link, which nobody wants any more.
        low.handle_failed(at(300), path(HIGH), attempt);
        assert_eq!(low.poll_timeout(), None);
        low.handle_joined(at(400), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
        offer_to(&mut low, at(400));
    }

    #[test]
    fn peers_are_counted_by_topic() {
        let mut low = Introductions::new(1);
        low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
        assert_eq!(low.peers_seen(&MEETING), 1);
        assert_eq!(low.peers_in(&[Topic([3; 32])]), 0);
        assert_eq!(low.peers_in(&[Topic([2; 32]), Topic([3; 32])]), 1);
        low.handle_topic_left(0, Topic([2; 32]));
        assert_eq!(low.peers_in(&[Topic([2; 32])]), 0);
    }

    #[test]
    fn rejoining_a_server_does_not_dial_a_connected_peer_again() {
        let mut low = Introductions::new(1);
        low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
        offer_to(&mut low, at(0));
        low.handle_session(path(HIGH), SessionId(1));
        low.handle_server_lost(0);
        low.handle_joined(at(9000), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
        assert_eq!(low.poll_action(at(9000)), None);
        assert_eq!(low.poll_timeout(), None);
    }

    #[test]
    fn knock_of_a_peer_believed_connected_is_answered_with_an_offer() {
        let mut low = Introductions::new(1);
        low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
        let first = offer_to(&mut low, at(0));
        low.handle_session(path(HIGH), SessionId(1));
        low.handle_knock(at(5000), path(HIGH));
        assert_ne!(offer_to(&mut low, at(5000)), first);
        // A second knock while that offer is under way changes nothing.
        low.handle_knock(at(5001), path(HIGH));
        assert_eq!(low.poll_action(at(5001)), None);
    }

    #[test]
    fn lost_peer_is_retried_within_half_a_second_then_ever_more_slowly() {
        let mut low = Introductions::new(7);
        low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
        offer_to(&mut low, at(0));
        low.handle_session(path(HIGH), SessionId(1));
        low.handle_session_open(path(HIGH));
        low.handle_session_closed(at(1000), path(HIGH), SessionId(1), None);
        let mut now = low.poll_timeout().unwrap();
        assert!(now.since(at(1000)) <= Duration::from_millis(500));
        let mut waits = Vec::new();
        for _ in 0..12 {
            let attempt = offer_to(&mut low, now);
            low.handle_failed(now, path(HIGH), attempt);
            let next = low.poll_timeout().unwrap();
            waits.push(next.since(now));
            now = next;
        }
        assert!(waits[11] > waits[0] * 4);
        assert!(waits.iter().all(|wait| *wait <= RETRY_AFTER_MAX));
    }

    #[test]
    fn at_most_eight_dials_run_at_once() {
        let mut low = Introductions::new(1);
        let peers: Vec<PublicKey> = (10..30).map(|n| PublicKey([n; 32])).collect();
        low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &peers);
        let mut offered = Vec::new();
        while let Some(Action::Offer { path, attempt }) = low.poll_action(at(0)) {
            offered.push((path, attempt));
        }
        assert_eq!(offered.len(), DIALS_MAX);
        assert_eq!(low.poll_timeout(), None);
        low.handle_failed(at(0), offered[0].0, offered[0].1);
        assert!(low.poll_action(at(0)).is_some());
    }

    #[test]
    fn flood_of_candidates_is_cut_at_the_limit() {
        let mut high = Introductions::new(1);
        high.handle_offer(path(LOW), MEETING, HIGH, 5);
        let taken = |from: u64, high: &mut Introductions| {
            (from..from + 200)
                .filter(|n| high.handle_candidate(at(*n), path(LOW), 5))
                .count()
        };
        assert_eq!(taken(100, &mut high), CANDIDATES_PER_MINUTE as usize);
        assert_eq!(taken(61_000, &mut high), CANDIDATES_PER_MINUTE as usize);
        assert!(
            !high.handle_candidate(at(200_000), path(LOW), 6),
            "of another attempt"
        );
    }

    #[test]
    fn peer_that_left_is_not_dialled() {
        let mut low = Introductions::new(1);
        low.handle_joined(at(0), 0, Topic([2; 32]), MEETING, LOW, &[HIGH]);
        low.handle_peer_left(path(HIGH));
        assert_eq!(low.poll_action(at(0)), None);
        assert_eq!(low.peers_seen(&MEETING), 0);
    }
}
