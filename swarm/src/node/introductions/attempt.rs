//! One attempt to connect to a peer: offers, answers, knocks and candidates, and how it ends.

use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use super::path::{Introduction, State};
use super::{Introductions, MeetingKey, PeerPath, Via};
use crate::limits::{
    CANDIDATES_PER_MINUTE, INCOMING_BY_INTRODUCER_MAX, INCOMING_NEGOTIATIONS_MAX,
    INTRODUCER_FAILURES_MAX, INTRODUCER_REST, KNOCK_AFTER, LADDER_HOLD_MAX, RETRY_AFTER,
    RETRY_AFTER_MAX,
};
use crate::node::connects::{ConnectFailure, Search};
use crate::session::SessionId;

/// A peer that is dialled later than this after it was shown was not only held for earlier steps.
const HELD_MAX: Duration = LADDER_HOLD_MAX.saturating_add(KNOCK_AFTER);

impl Introductions {
    /// A peer made an offer; returns whether to answer it. An attempt already under way gives way.
    pub(crate) fn handle_offer(
        &mut self,
        now: Time,
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
        self.begin(now, &path);
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
            if let Some(peer) = self.peers.get_mut(&path) {
                peer.is_new = false;
                peer.knocked = true;
            }
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

    /// An attempt by a path begins.
    pub(super) fn begin(&mut self, now: Time, path: &PeerPath) {
        let step = self.step_of(path);
        if let Some(peer) = self.peers.get_mut(path) {
            // What the ladder held back was waited for, too; what rested was not.
            let held = peer.is_new && peer.present && now.since(peer.shown_at) <= HELD_MAX;
            let since = if held { peer.shown_at } else { now };
            peer.search.get_or_insert(Search::begin(since));
            peer.is_new = false;
            peer.knocked = false;
            peer.began = Some(now);
            peer.dialled_at = now;
            self.ladder.handle_try(&peer.meeting, step);
        }
    }

    /// An attempt has led to no link, for this reason; [`handle_failed`](Self::handle_failed) says what follows.
    pub(crate) fn handle_unconnected(
        &mut self,
        path: &PeerPath,
        attempt: u64,
        why: ConnectFailure,
    ) {
        if self.is_current(path, attempt) {
            self.count_failure(path, why);
        }
    }

    /// An attempt has led to no session.
    pub(super) fn count_failure(&mut self, path: &PeerPath, why: ConnectFailure) {
        let is_connected = self.peers.get(path).is_some_and(|peer| {
            let with = |relayed| self.session_with(&peer.meeting, peer.identity, relayed);
            with(false).or(with(true)).is_some()
        });
        let peer = self.peers.get_mut(path).filter(|_| !is_connected);
        let search = peer.and_then(|peer| peer.search.as_mut());
        self.connects.handle_failed(why, search);
    }

    /// A peer is connected by another way: it is searched for no more.
    pub(super) fn end_search(&mut self, path: &PeerPath) {
        if let Some(peer) = self.peers.get_mut(path) {
            peer.search = None;
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

    pub(super) fn mark_unreached(&mut self, path: &PeerPath) {
        if let Some(peer) = self.peers.get_mut(path) {
            peer.unreached = true;
        }
    }

    /// Counts a failure against the peer that introduced, unless a session with the one that was tried runs.
    pub(super) fn distrust(&mut self, now: Time, path: &PeerPath) {
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

    pub(super) fn retry(&mut self, now: Time, path: PeerPath) {
        let Some(peer) = self.peers.get(&path) else {
            return;
        };
        let (failures, meeting, identity) = (peer.failures, peer.meeting, peer.identity);
        if let Some(session) = self.direct_with(&peer.meeting, peer.identity) {
            self.end_search(&path);
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
            peer.is_new = false;
            peer.began = None;
        }
        let rests = identity.and_then(|one| self.parted.get(&(meeting, one)));
        let try_at = Some(rests.map_or(now + wait, |until| (now + wait).max(*until)));
        self.set_state(&path, State::Idle { try_at });
    }
}
