//! How far it is with peers, for whoever asks and as it changes.

use std::collections::BTreeMap;

use kinlog_feeds::PublicKey;
use kinlog_signal::Topic;

use super::path::{CircuitState, Introduction, State};
use super::{Change, Introductions, MeetingKey, PeerPath, PeerState, PeerView, Via};
use crate::limits::KNOCKS_UNANSWERED;

impl Introductions {
    /// Returns how it went on with a peer.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
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
            view.device = view.device.or(peer.device);
        }
        for ((session, peer), far) in &self.far {
            let Some(meeting) = self.open.get(session).map(|open| open.meeting) else {
                continue;
            };
            // Whoever is known by a shorter way is shown by that.
            let view = all.entry((meeting, *peer)).or_insert_with(|| PeerView {
                state: PeerState::Discovering,
                beyond: Some(far.via),
                ..PeerView::new(meeting, *peer)
            });
            if view.beyond.is_some() {
                view.via.push(Via::Peer(*session));
                view.device = view.device.or(far.device);
            }
        }
        all.into_values().collect()
    }

    /// Tells how far it is with a peer now.
    pub(super) fn settle(&mut self, path: &PeerPath) {
        let Some(peer) = self.peers.get(path) else {
            return;
        };
        let state = self.state_of(peer);
        self.tell_change(path, state);
    }

    pub(super) fn state_of(&self, peer: &Introduction) -> PeerState {
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

    pub(super) fn tell_change(&mut self, path: &PeerPath, state: PeerState) {
        let Some(peer) = self.peers.get_mut(path) else {
            return;
        };
        let (meeting, from) = (peer.meeting, peer.told);
        peer.told = state;
        self.push_changes(*path, meeting, from, state);
    }

    pub(super) fn tell(&mut self, path: &PeerPath, peer: &Introduction, state: PeerState) {
        self.push_changes(*path, peer.meeting, peer.told, state);
    }

    pub(super) fn push_changes(
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
            device: None,
            beyond: None,
        }
    }
}
