//! Circuits: what an introducer relays where no direct way has led to a peer.

use kinlog_feeds::{PublicKey, Time};

use super::path::{CircuitState, Introduction, State};
use super::{Due, Introductions, MeetingKey, PeerPath};
use crate::limits::{
    CIRCUIT_RETRY_AFTER, CIRCUIT_RETRY_AFTER_MAX, FAILURES_BEFORE_RELAY, RETRY_AFTER,
};
use crate::node::connects::ConnectFailure;
use crate::session::SessionId;

impl Introductions {
    /// A peer asks for a circuit by the introducer; returns whether to accept it.
    pub(crate) fn handle_circuit_open(
        &mut self,
        now: Time,
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
        self.begin(now, &path);
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
            self.count_failure(&path, ConnectFailure::Circuit);
            self.end_circuit(now, &path, true);
        }
    }

    /// Returns what is due with the circuit to a peer. One is asked for once direct ways have failed, by the side that offers
    /// those, too.
    pub(super) fn circuit_due(&self, path: &PeerPath, peer: &Introduction) -> Option<(Time, Due)> {
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
    pub(super) fn end_circuit(&mut self, now: Time, path: &PeerPath, failed: bool) {
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
}
