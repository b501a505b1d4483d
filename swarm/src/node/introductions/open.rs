//! Sessions that are open, and what they say of the paths to their peers.

use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use super::path::{CircuitState, Introduction, State};
use super::{Introductions, MeetingKey, Open, PeerPath, Via};
use crate::limits::{POOL_REST, RETRY_AFTER};
use crate::node::connects::ConnectFailure;
use crate::session::SessionId;

impl Introductions {
    /// A session proved itself: failures before it are forgotten, and whoever else shows the same peer need not
    /// introduce it any more.
    pub(crate) fn handle_session_open(
        &mut self,
        now: Time,
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
            step: path.map(|path| self.step_of(&path)),
        };
        let with = |relayed| self.session_with(&meeting, Some(peer), relayed);
        let was_connected = with(false).or(with(true)).is_some();
        self.open.insert(session, open);
        if let Some(path) = path {
            let search = self.peers.get_mut(&path).and_then(|it| it.search.take());
            if let Some(search) = search.filter(|_| !was_connected) {
                self.connects.handle_connected(now, search);
            }
            let began = self.peers.get_mut(&path).and_then(|known| {
                known.identity = Some(peer);
                known.began.take()
            });
            let took = began.map_or(Duration::ZERO, |began| now.since(began));
            let step = self.step_of(&path);
            self.ladder.handle_success(now, &meeting, step, took);
            if let Some(trust) = path.introducer().and_then(|by| self.trust.get_mut(&by)) {
                trust.failures = 0;
                trust.rests_until = None;
            }
        }
        let same: Vec<PeerPath> = self.same(&meeting, peer);
        for path in same {
            self.end_search(&path);
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

    /// The session with a peer is one too many, here or there: it is not dialled for a while, unless it is needed.
    pub(crate) fn handle_parted(&mut self, now: Time, meeting: MeetingKey, peer: PublicKey) {
        self.parted.retain(|_, until| *until > now);
        self.parted.insert((meeting, peer), now + POOL_REST);
    }

    /// There are as many sessions as are kept, or not: if so, who is known is dialled only where nobody of a
    /// meeting is connected.
    pub(crate) fn set_full(&mut self, is_full: bool) {
        self.is_full_of_sessions = is_full;
    }

    /// Nobody of a meeting is connected any more: whoever rests is dialled again.
    fn need_all(&mut self, now: Time, meeting: &MeetingKey) {
        let rest: Vec<PublicKey> = self
            .parted
            .keys()
            .filter(|(of, _)| of == meeting)
            .map(|(_, peer)| *peer)
            .collect();
        for identity in rest {
            self.parted.remove(&(*meeting, identity));
            for path in self.same(meeting, identity) {
                let try_at = Some(now + self.jitter(RETRY_AFTER));
                if let Some(peer) = self.peers.get_mut(&path)
                    && let State::Idle { try_at: at } = &mut peer.state
                {
                    *at = try_at;
                }
            }
        }
    }

    /// A session ended: those whom it introduced are not seen any more, and its peer is met again, unless there
    /// is another session with it.
    pub(crate) fn handle_session_closed(&mut self, now: Time, session: SessionId) {
        self.trust.remove(&session);
        self.ladder.handle_told(now, session);
        self.far.retain(|(by, _), _| *by != session);
        for path in self.paths(|path| path.via == Via::Peer(session)) {
            self.handle_peer_left(path);
        }
        let was_open = self.open.remove(&session);
        if let Some(open) = &was_open
            && !self
                .open
                .values()
                .any(|other| other.meeting == open.meeting)
        {
            self.ladder.handle_alone(now, &open.meeting);
            self.need_all(now, &open.meeting);
        }
        for path in self.paths(|_| true) {
            let Some(peer) = self.peers.get(&path) else {
                continue;
            };
            if peer.circuit == (CircuitState::Running { session }) {
                self.end_circuit(now, &path, false);
            } else if peer.state == (State::Connected { session }) {
                if was_open.is_none() {
                    self.count_failure(&path, ConnectFailure::Handshake);
                    self.mark_unreached(&path);
                    self.distrust(now, &path);
                }
                self.retry(now, path);
            } else if was_open.is_some_and(|open| Some(open.peer) == peer.identity) {
                self.settle(&path);
            }
        }
    }

    /// Returns the paths to one peer, as far as it is known to be the one.
    pub(super) fn same(&self, meeting: &MeetingKey, identity: PublicKey) -> Vec<PeerPath> {
        let is_same =
            |peer: &Introduction| peer.identity == Some(identity) && peer.meeting == *meeting;
        let same = self.peers.iter().filter(|(_, peer)| is_same(peer));
        same.map(|(path, _)| *path).collect()
    }

    /// Returns the newest open session with a peer that is not relayed.
    pub(super) fn direct_with(
        &self,
        meeting: &MeetingKey,
        identity: Option<PublicKey>,
    ) -> Option<SessionId> {
        self.session_with(meeting, identity, false)
    }

    pub(super) fn session_with(
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
}
