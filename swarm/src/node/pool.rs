//! How many sessions a node keeps, and which: the pool, sans-IO (R177, R181).
//!
//! Those that are used most are **active**; a number of others is on **standby**, kept alive and asked for nothing
//! until there is something to ask; beyond both a session is closed at the next cleanup, the least useful first, and its peer
//! is **remembered** for a while: neither side dials it, unless it is needed. A session that carries something, or that is the
//! only one of its meeting, is never closed, so that there may be more of them than the limits say.
//!
//! **Drain rule.** After each `handle_*` call [`poll_close`](Pool::poll_close) until it gives `None`, and again at
//! [`poll_timeout`](Pool::poll_timeout).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kinlog_feeds::{PublicKey, Time};
use serde::Serialize;

use super::introductions::MeetingKey;
use crate::limits::{
    PEERS_KNOWN_MAX, POOL_ACTIVE, POOL_CLEANUP_INTERVAL, POOL_IN_USE, POOL_REMEMBERED, POOL_REST,
    POOL_STANDBY, POOL_USE_BYTES, SESSIONS_MAX,
};
use crate::session::SessionId;

/// How many sessions are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Sessions that are used. Default: 5.
    pub active: usize,
    /// Sessions beside them that are kept alive. Default: 10.
    pub standby: usize,
    /// Peers that are remembered beyond both. Default: 50.
    pub remembered: usize,
}

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig {
            active: POOL_ACTIVE,
            standby: POOL_STANDBY,
            remembered: POOL_REMEMBERED,
        }
    }
}

impl PoolConfig {
    /// Returns the limits of a seeder, which is there for many: as many sessions as a node may have at all.
    pub fn seeder() -> Self {
        PoolConfig {
            active: SESSIONS_MAX / 2,
            standby: SESSIONS_MAX / 2,
            remembered: PEERS_KNOWN_MAX / 4,
        }
    }

    /// Returns them with so many active sessions.
    pub fn active(mut self, active: usize) -> Self {
        self.active = active;
        self
    }

    /// Returns them with so many sessions on standby.
    pub fn standby(mut self, standby: usize) -> Self {
        self.standby = standby;
        self
    }

    /// Returns them with so many peers remembered.
    pub fn remembered(mut self, remembered: usize) -> Self {
        self.remembered = remembered;
        self
    }
}

/// What a session is in the pool.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// It is among those that are used most.
    Active,
    /// It is kept alive, and used as soon as something is asked of it.
    Standby,
}

impl Standing {
    /// Returns its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Standing::Active => "active",
            Standing::Standby => "standby",
        }
    }
}

/// A peer in a meeting.
type Peer = (MeetingKey, PublicKey);

#[derive(Debug)]
struct Member {
    peer: Peer,
    used_at: Time,
    /// Bytes that went through it, when it was looked at last.
    bytes: u64,
    /// It came back though it was parted from: the other side needs it.
    kept_until: Time,
}

/// A session that is too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Surplus {
    pub(crate) session: SessionId,
    pub(crate) meeting: MeetingKey,
    pub(crate) peer: PublicKey,
}

/// All sessions with peers that were met.
#[derive(Debug)]
pub(crate) struct Pool {
    config: PoolConfig,
    members: BTreeMap<SessionId, Member>,
    /// Peers whose session was closed as one too many, the newest last, and when.
    parted: VecDeque<(Peer, Time)>,
    /// Sessions that are being closed.
    closing: BTreeSet<SessionId>,
    cleanup_at: Option<Time>,
    closed: u64,
}

impl Pool {
    pub(crate) fn new(config: PoolConfig) -> Self {
        Pool {
            config,
            members: BTreeMap::new(),
            parted: VecDeque::new(),
            closing: BTreeSet::new(),
            cleanup_at: None,
            closed: 0,
        }
    }

    /// Keeps to these limits from the next cleanup on.
    pub(crate) fn set_config(&mut self, config: PoolConfig) {
        self.config = config;
        self.forget_beyond();
    }

    /// A session with a peer that was met is open.
    pub(crate) fn handle_open(
        &mut self,
        now: Time,
        session: SessionId,
        meeting: MeetingKey,
        peer: PublicKey,
    ) {
        let peer = (meeting, peer);
        let parted = self.parted.iter().position(|(one, _)| *one == peer);
        let came_back = parted.and_then(|place| self.parted.remove(place)).is_some();
        let member = Member {
            peer,
            used_at: now,
            bytes: 0,
            kept_until: match came_back {
                true => now + POOL_REST,
                false => now,
            },
        };
        self.members.insert(session, member);
        self.cleanup_at.get_or_insert(now + POOL_CLEANUP_INTERVAL);
    }

    /// A session ended.
    pub(crate) fn handle_closed(&mut self, session: SessionId) {
        self.members.remove(&session);
        self.closing.remove(&session);
    }

    /// Something is asked of the other side of a session: it is active at once.
    pub(crate) fn handle_use(&mut self, now: Time, session: SessionId) {
        if let Some(member) = self.members.get_mut(&session) {
            member.used_at = now;
        }
    }

    /// So many bytes went through a session by now, in and out: said every second. What keeps a session alive is
    /// no use of it.
    pub(crate) fn handle_traffic(&mut self, now: Time, session: SessionId, bytes: u64) {
        if let Some(member) = self.members.get_mut(&session) {
            let before = std::mem::replace(&mut member.bytes, bytes);
            if bytes.saturating_sub(before) >= POOL_USE_BYTES {
                member.used_at = now;
            }
        }
    }

    /// The other side of a session says that it parts.
    pub(crate) fn handle_parted(&mut self, now: Time, session: SessionId) -> Option<Surplus> {
        let peer = self.members.get(&session)?.peer;
        if !self.has_others(session, &peer.0) {
            return None;
        }
        self.part(now, peer);
        Some(Surplus {
            session,
            meeting: peer.0,
            peer: peer.1,
        })
    }

    /// Returns the next session to close: beyond the limits, once a minute, the least useful first.
    pub(crate) fn poll_close(&mut self, now: Time) -> Option<Surplus> {
        if self.cleanup_at.is_none_or(|at| now < at) {
            return None;
        }
        let most = self.config.active.saturating_add(self.config.standby);
        let kept = self.members.len().saturating_sub(self.closing.len());
        let found = match kept > most {
            true => self.least_useful(now),
            false => None,
        };
        let Some(session) = found else {
            self.parted.retain(|(_, at)| now < *at + POOL_REST);
            let is_empty = self.members.is_empty() && self.parted.is_empty();
            self.cleanup_at = (!is_empty).then(|| now + POOL_CLEANUP_INTERVAL);
            return None;
        };
        let peer = self.members.get(&session)?.peer;
        self.closing.insert(session);
        self.closed += 1;
        self.part(now, peer);
        Some(Surplus {
            session,
            meeting: peer.0,
            peer: peer.1,
        })
    }

    /// Returns when the next cleanup is due.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let most = self.config.active.saturating_add(self.config.standby);
        // While nothing is too many there is nothing to wake up for.
        let is_due = self.members.len() > most || !self.parted.is_empty();
        self.cleanup_at.filter(|_| is_due)
    }

    /// Returns whether there are as many sessions as are kept: more are opened only where they are needed.
    pub(crate) fn is_full(&self) -> bool {
        self.members.len() >= self.config.active.saturating_add(self.config.standby)
    }

    /// Returns whether a peer was parted from of late.
    #[cfg(test)]
    fn is_parted(&self, meeting: &MeetingKey, peer: &PublicKey) -> bool {
        self.parted.iter().any(|(one, _)| *one == (*meeting, *peer))
    }

    /// Returns what each session is now.
    pub(crate) fn standings(&self, now: Time) -> BTreeMap<SessionId, Standing> {
        let mut ranked: Vec<(&SessionId, &Member)> = self.members.iter().collect();
        ranked.sort_by_key(|(id, member)| (std::cmp::Reverse(member.used_at), **id));
        let standings = ranked.into_iter().enumerate().map(|(place, (id, member))| {
            let is_active = place < self.config.active || self.is_in_use(now, member);
            let standing = match is_active {
                true => Standing::Active,
                false => Standing::Standby,
            };
            (*id, standing)
        });
        standings.collect()
    }

    /// Returns how many peers are remembered, and how many sessions were closed as too many.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (self.parted.len(), self.closed)
    }

    /// Returns the limits.
    pub(crate) fn config(&self) -> PoolConfig {
        self.config
    }

    /// Returns the session that was used longest ago, of those that may be closed.
    fn least_useful(&self, now: Time) -> Option<SessionId> {
        let may_close = self.members.iter().filter(|(id, member)| {
            !self.closing.contains(id)
                && !self.is_in_use(now, member)
                && member.kept_until <= now
                && self.has_others(**id, &member.peer.0)
        });
        may_close
            .min_by_key(|(id, member)| (member.used_at, std::cmp::Reverse(**id)))
            .map(|(id, _)| *id)
    }

    fn is_in_use(&self, now: Time, member: &Member) -> bool {
        now < member.used_at + POOL_IN_USE
    }

    /// Returns whether a meeting has further sessions, which stay.
    fn has_others(&self, session: SessionId, meeting: &MeetingKey) -> bool {
        self.members.iter().any(|(id, member)| {
            *id != session && member.peer.0 == *meeting && !self.closing.contains(id)
        })
    }

    fn part(&mut self, now: Time, peer: Peer) {
        self.parted.retain(|(one, _)| *one != peer);
        self.parted.push_back((peer, now));
        self.forget_beyond();
        self.cleanup_at.get_or_insert(now + POOL_CLEANUP_INTERVAL);
    }

    fn forget_beyond(&mut self) {
        while self.parted.len() > self.config.remembered {
            self.parted.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::session::Label;

    const MEETING: MeetingKey = (Label::Room, [1; 32]);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn peer(number: u64) -> PublicKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        PublicKey(key)
    }

    /// A pool with so many sessions of one meeting, opened one a second.
    fn with(sessions: u64) -> Pool {
        let mut pool = Pool::new(PoolConfig::default());
        for number in 0..sessions {
            pool.handle_open(at(number), SessionId(number), MEETING, peer(number));
        }
        pool
    }

    fn closed(pool: &mut Pool, now: Time) -> Vec<u64> {
        let surplus = std::iter::from_fn(|| pool.poll_close(now));
        surplus.map(|surplus| surplus.session.0).collect()
    }

    /// R177, R181.
    #[test]
    fn five_are_active_ten_on_standby_and_the_rest_is_closed_within_a_minute() {
        let mut pool = with(20);
        assert!(pool.is_full());
        assert!(closed(&mut pool, at(59)).is_empty());
        assert_eq!(closed(&mut pool, at(60)), [0, 1, 2, 3, 4]);
        for number in 0..5 {
            pool.handle_closed(SessionId(number));
            assert!(pool.is_parted(&MEETING, &peer(number)));
        }
        let standings = pool.standings(at(60));
        let active = |(_, one): &(&SessionId, &Standing)| **one == Standing::Active;
        assert_eq!(standings.iter().filter(active).count(), 5);
        assert_eq!(standings.len(), 15);
        assert_eq!(pool.counts(), (5, 5));
    }

    #[test]
    fn standby_session_is_active_at_once_when_something_is_asked_of_it() {
        let mut pool = with(12);
        let now = at(100);
        assert_eq!(pool.standings(now)[&SessionId(3)], Standing::Standby);
        pool.handle_use(now, SessionId(3));
        assert_eq!(pool.standings(now)[&SessionId(3)], Standing::Active);
        pool.handle_traffic(now, SessionId(4), 7_000);
        assert_eq!(pool.standings(now)[&SessionId(4)], Standing::Active);
        // What keeps it alive is no use.
        pool.handle_traffic(at(900), SessionId(4), 7_100);
        pool.handle_use(at(900), SessionId(3));
        let active = pool.standings(at(900)).into_values();
        assert_eq!(active.filter(|one| *one == Standing::Active).count(), 5);
    }

    #[test]
    fn peer_that_comes_back_needs_the_session_and_keeps_it_for_a_while() {
        let mut pool = with(16);
        assert_eq!(closed(&mut pool, at(60)), [0]);
        pool.handle_closed(SessionId(0));
        pool.handle_open(at(61), SessionId(99), MEETING, peer(0));
        let mut all = Vec::new();
        for second in 61..600 {
            for session in closed(&mut pool, at(second)) {
                pool.handle_closed(SessionId(session));
                all.push(session);
            }
        }
        assert_eq!(all, [1], "another one goes");
    }

    #[test]
    fn only_session_of_a_meeting_stays_also_when_the_other_side_has_too_many() {
        let mut pool = Pool::new(PoolConfig::default().active(1).standby(0));
        for number in 0..40_u8 {
            let meeting = (Label::Feed, [number; 32]);
            pool.handle_open(at(0), SessionId(number.into()), meeting, peer(1));
        }
        assert!(closed(&mut pool, at(60)).is_empty());
        assert_eq!(pool.handle_parted(at(61), SessionId(3)), None);
    }

    #[test]
    fn as_many_are_remembered_as_the_limit_says_and_for_ten_minutes() {
        let mut pool = Pool::new(PoolConfig::default().active(1).standby(0).remembered(3));
        for number in 0..10 {
            pool.handle_open(at(0), SessionId(number), MEETING, peer(number));
        }
        assert_eq!(closed(&mut pool, at(60)).len(), 9);
        assert_eq!(pool.counts(), (3, 9));
        for number in 0..10 {
            pool.handle_closed(SessionId(number));
        }
        closed(&mut pool, at(60) + POOL_REST);
        assert_eq!(pool.counts().0, 0);
        assert_eq!(pool.poll_timeout(), None, "nothing wakes it any more");
    }

    proptest! {
        /// Whatever happens in whatever order: a cleanup leaves no more than the limits say but sessions that
        /// may not be closed, and closes none that is in use, is the only one of its meeting, or came back.
        #[test]
        fn limits_hold_and_nothing_in_use_is_closed(
            limits in (0usize..4, 0usize..4, 0usize..6),
            events in proptest::collection::vec((0u8..6, 0u64..12, 0u8..3, 0u64..40), 1..200)
        ) {
            let (active, standby, remembered) = limits;
            let config = PoolConfig::default().active(active).standby(standby).remembered(remembered);
            let mut pool = Pool::new(config);
            let mut now = Time::ZERO;
            let mut used: BTreeMap<u64, Time> = BTreeMap::new();
            for (what, number, meeting, seconds) in events {
                now = now + Duration::from_secs(seconds);
                let (session, meeting) = (SessionId(number), (Label::Room, [meeting; 32]));
                match what {
                    0 | 1 => {
                        pool.handle_open(now, session, meeting, peer(number));
                        used.insert(number, now);
                    }
                    2 => pool.handle_closed(session),
                    3 => {
                        pool.handle_use(now, session);
                        used.insert(number, now);
                    }
                    4 => {
                        pool.handle_parted(now, session);
                    }
                    _ => {}
                }
                let due = pool.cleanup_at.is_some_and(|at| at <= now);
                while let Some(surplus) = pool.poll_close(now) {
                    let member = &pool.members[&surplus.session];
                    prop_assert!(now >= used[&surplus.session.0] + POOL_IN_USE);
                    prop_assert!(member.kept_until <= now);
                    prop_assert!(pool.has_others(surplus.session, &surplus.meeting));
                    pool.handle_closed(surplus.session);
                }
                if due {
                    prop_assert!(
                        pool.members.len() <= active + standby || pool.least_useful(now).is_none()
                    );
                }
                prop_assert!(pool.counts().0 <= remembered);
                let standings = pool.standings(now);
                prop_assert_eq!(standings.len(), pool.members.len());
                let in_use = pool.members.values().filter(|one| pool.is_in_use(now, one)).count();
                let are_active = standings.values().filter(|one| **one == Standing::Active);
                prop_assert!(are_active.count() <= active.max(in_use));
            }
        }
    }
}
