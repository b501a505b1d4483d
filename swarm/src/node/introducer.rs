//! Whom this node tells of whom: the introducer's rules, sans-IO.
//!
//! Peers that this node has open sessions with about one meeting know the meeting's key all of them, so
//! each of them may hear of the others; of other meetings nothing is told. Who asks is told of all, and from
//! then on of who comes and goes. Signals between two of them are handed on, a bounded number of them.
//!
//! **Drain rule.** After each `handle_*` call [`poll_found`](Introducer::poll_found) until it gives
//! `None`, and again at [`poll_timeout`](Introducer::poll_timeout).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use super::introductions::MeetingKey;
use crate::limits::{INTRODUCED_PER_MINUTE, PEER_QUERY_INTERVAL, PEERS_TOLD_AFTER, PEERS_TOLD_MAX};
use crate::session::{FoundPeer, Label, MeshMessage, SessionId};

/// Somebody to introduce.
#[derive(Debug)]
struct Member {
    meeting: MeetingKey,
    peer: PublicKey,
    can_relay: bool,
    since: Time,
    /// It has asked: since then it is told.
    asked: bool,
    /// Its query that is not answered yet, 0 for none.
    query: u64,
    told: BTreeSet<PublicKey>,
    told_at: Option<Time>,
    due: Option<Time>,
    carried: u32,
    carried_since: Time,
}

/// What was done for others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counted {
    /// Signals handed on.
    pub(crate) carried: u64,
    /// Signals and queries beyond what one peer may ask for.
    pub(crate) surplus: u64,
}

/// All peers that introduce and are introduced.
#[derive(Debug, Default)]
pub(crate) struct Introducer {
    members: BTreeMap<SessionId, Member>,
    counted: Counted,
}

/// Returns whether peers that met under this label are introduced to each other: a spoken code or an invite
/// is for one pair.
pub(crate) fn introduces(label: Label) -> bool {
    !matches!(label, Label::Invite | Label::Code)
}

impl Introducer {
    /// A session opened whose other side introduces, too.
    pub(crate) fn handle_open(
        &mut self,
        now: Time,
        session: SessionId,
        meeting: MeetingKey,
        peer: PublicKey,
        can_relay: bool,
    ) {
        let member = Member {
            meeting,
            peer,
            can_relay,
            since: now,
            asked: false,
            query: 0,
            told: BTreeSet::new(),
            told_at: None,
            due: None,
            carried: 0,
            carried_since: now,
        };
        self.members.insert(session, member);
        self.tell_later(now, &meeting);
    }

    /// A session ended.
    pub(crate) fn handle_closed(&mut self, now: Time, session: SessionId) {
        if let Some(gone) = self.members.remove(&session) {
            self.tell_later(now, &gone.meeting);
        }
    }

    /// The other side of a session asks whom this node has there.
    pub(crate) fn handle_query(&mut self, now: Time, session: SessionId, request_id: u64) {
        let Some(member) = self.members.get_mut(&session) else {
            return;
        };
        if member.query != 0 {
            self.counted.surplus += 1;
        }
        member.asked = true;
        member.query = request_id.max(1);
        let soonest = member.told_at.map_or(now, |at| at + PEER_QUERY_INTERVAL);
        member.due = Some(soonest.max(now));
    }

    /// A session asks to carry a signal to `peer`; returns by which session, and of whom it is.
    pub(crate) fn carry(
        &mut self,
        now: Time,
        session: SessionId,
        peer: PublicKey,
    ) -> Option<(SessionId, PublicKey)> {
        let to = self.between(session, peer)?;
        let member = self.members.get_mut(&session)?;
        if now.since(member.carried_since) >= Duration::from_secs(60) {
            member.carried_since = now;
            member.carried = 0;
        }
        if member.carried >= INTRODUCED_PER_MINUTE {
            self.counted.surplus += 1;
            return None;
        }
        member.carried += 1;
        self.counted.carried += 1;
        Some((to, member.peer))
    }

    /// Returns the next thing to tell, and to whom.
    pub(crate) fn poll_found(&mut self, now: Time) -> Option<(SessionId, MeshMessage)> {
        loop {
            let due = |member: &Member| member.due.is_some_and(|at| at <= now);
            let (session, _) = self.members.iter().find(|(_, member)| due(member))?;
            let session = *session;
            let present = self.others(now, session);
            let member = self.members.get_mut(&session)?;
            member.due = None;
            let request_id = std::mem::take(&mut member.query);
            if request_id != 0 {
                member.told.clear();
            }
            let is_new = |found: &&FoundPeer| !member.told.contains(&found.peer);
            let come: Vec<FoundPeer> = present.values().filter(is_new).copied().collect();
            let is_gone = |peer: &&PublicKey| !present.contains_key(*peer);
            let gone: Vec<PublicKey> = member.told.iter().filter(is_gone).copied().collect();
            if request_id == 0 && come.is_empty() && gone.is_empty() {
                continue;
            }
            member.told = present.into_keys().collect();
            member.told_at = Some(now);
            let found = MeshMessage::Found {
                request_id,
                peers: come,
                gone,
            };
            return Some((session, found));
        }
    }

    /// Returns when [`poll_found`](Self::poll_found) has something to tell.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.members.values().filter_map(|member| member.due).min()
    }

    /// Returns the session with `peer` in the meeting of `session`.
    pub(crate) fn between(&self, session: SessionId, peer: PublicKey) -> Option<SessionId> {
        let meeting = self.members.get(&session)?.meeting;
        let is_it = |(id, member): &(&SessionId, &Member)| {
            **id != session && member.meeting == meeting && member.peer == peer
        };
        // Of two with one peer the newer one: the other is about to end.
        self.members.iter().rev().find(is_it).map(|(id, _)| *id)
    }

    /// Returns who is at the other side of a session.
    pub(crate) fn peer(&self, session: SessionId) -> Option<PublicKey> {
        self.members.get(&session).map(|member| member.peer)
    }

    /// Returns what was done for others.
    pub(crate) fn counted(&self) -> Counted {
        self.counted
    }

    fn others(&self, now: Time, session: SessionId) -> BTreeMap<PublicKey, FoundPeer> {
        let Some(asking) = self.members.get(&session) else {
            return BTreeMap::new();
        };
        let is_other =
            |member: &&Member| member.meeting == asking.meeting && member.peer != asking.peer;
        let others = self.members.values().filter(is_other).map(|member| {
            let found = FoundPeer {
                peer: member.peer,
                can_relay: member.can_relay,
                connected_s: u32::try_from(now.since(member.since).as_secs()).unwrap_or(u32::MAX),
            };
            (member.peer, found)
        });
        others.take(PEERS_TOLD_MAX).collect()
    }

    fn tell_later(&mut self, now: Time, meeting: &MeetingKey) {
        for member in self.members.values_mut() {
            if member.asked && member.meeting == *meeting {
                let soonest = member.told_at.map_or(now, |at| at + PEERS_TOLD_AFTER);
                member
                    .due
                    .get_or_insert(soonest.max(now + PEERS_TOLD_AFTER / 4));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEETING: MeetingKey = (Label::Feed, [1; 32]);
    const OTHER: MeetingKey = (Label::Feed, [2; 32]);

    fn at(millis: u64) -> Time {
        Time(millis * 1000)
    }

    fn peer(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    /// An introducer with these peers, each by the session with its number.
    fn with(peers: &[u8]) -> Introducer {
        let mut introducer = Introducer::default();
        for number in peers {
            let session = SessionId(u64::from(*number));
            introducer.handle_open(at(0), session, MEETING, peer(*number), *number == 1);
        }
        introducer
    }

    /// Everything told at `now`, by session: who came and who went.
    fn told(introducer: &mut Introducer, now: Time) -> Vec<(u64, u64, Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some((session, message)) = introducer.poll_found(now) {
            let MeshMessage::Found {
                request_id,
                peers,
                gone,
            } = message
            else {
                unreachable!("nothing else is told");
            };
            let peers = peers.iter().map(|found| found.peer.0[0]).collect();
            let gone = gone.iter().map(|gone| gone.0[0]).collect();
            all.push((session.0, request_id, peers, gone));
        }
        all
    }

    #[test]
    fn nobody_is_told_of_anything_before_it_asks() {
        let mut introducer = with(&[1, 2, 3]);
        assert_eq!(introducer.poll_timeout(), None);
        introducer.handle_query(at(0), SessionId(2), 9);
        assert_eq!(
            told(&mut introducer, at(0)),
            [(2, 9, vec![1, 3], Vec::new())]
        );
        assert_eq!(introducer.poll_timeout(), None);
    }

    #[test]
    fn who_asked_hears_of_who_comes_and_goes_and_of_nothing_twice() {
        let mut introducer = with(&[1, 2]);
        introducer.handle_query(at(0), SessionId(1), 1);
        told(&mut introducer, at(0));
        introducer.handle_open(at(5000), SessionId(3), MEETING, peer(3), false);
        introducer.handle_closed(at(5001), SessionId(2));
        // Both at once, a little later.
        assert!(told(&mut introducer, at(5001)).is_empty());
        let due = introducer.poll_timeout().unwrap();
        assert!(due <= at(5000) + PEERS_TOLD_AFTER);
        assert_eq!(told(&mut introducer, due), [(1, 0, vec![3], vec![2])]);
        // Come and gone before it was told: nothing to tell.
        introducer.handle_open(at(9000), SessionId(4), MEETING, peer(4), false);
        introducer.handle_closed(at(9001), SessionId(4));
        assert!(told(&mut introducer, at(20_000)).is_empty());
        assert_eq!(introducer.poll_timeout(), None);
    }

    #[test]
    fn changes_are_told_together_and_not_too_often() {
        let mut introducer = with(&[1]);
        introducer.handle_query(at(0), SessionId(1), 1);
        let mut messages = told(&mut introducer, at(0)).len();
        for millis in 1..10_000 {
            let session = SessionId(millis + 10);
            let number = u8::try_from(millis % 200).unwrap() + 2;
            introducer.handle_open(at(millis), session, MEETING, peer(number), false);
            introducer.handle_closed(at(millis), SessionId(millis + 9));
            messages += told(&mut introducer, at(millis)).len();
        }
        let most = 10_000 / u64::try_from(PEERS_TOLD_AFTER.as_millis()).unwrap() + 2;
        assert!((2..=most).contains(&(messages as u64)), "{messages}");
    }

    #[test]
    fn nothing_is_told_or_carried_across_meetings() {
        let mut introducer = with(&[1, 2]);
        introducer.handle_open(at(0), SessionId(7), OTHER, peer(7), true);
        introducer.handle_query(at(0), SessionId(7), 1);
        introducer.handle_query(at(0), SessionId(1), 1);
        let all = told(&mut introducer, at(0));
        assert_eq!(
            all,
            [(1, 1, vec![2], Vec::new()), (7, 1, Vec::new(), Vec::new())]
        );
        assert_eq!(introducer.carry(at(0), SessionId(7), peer(1)), None);
        let carried = introducer.carry(at(0), SessionId(1), peer(2));
        assert_eq!(carried, Some((SessionId(2), peer(1))));
    }

    #[test]
    fn surplus_of_signals_and_queries_is_dropped_and_counted() {
        let mut introducer = with(&[1, 2]);
        let carry = |introducer: &mut Introducer, now: u64| {
            (0..1000)
                .filter(|_| introducer.carry(at(now), SessionId(1), peer(2)).is_some())
                .count()
        };
        assert_eq!(carry(&mut introducer, 0), INTRODUCED_PER_MINUTE as usize);
        assert_eq!(carry(&mut introducer, 59_000), 0);
        assert_eq!(
            carry(&mut introducer, 61_000),
            INTRODUCED_PER_MINUTE as usize
        );
        // The other one is not held up by it.
        assert!(introducer.carry(at(1), SessionId(2), peer(1)).is_some());
        let before = introducer.counted().surplus;
        for request in 1..=100 {
            introducer.handle_query(at(70_000), SessionId(1), request);
        }
        assert_eq!(introducer.counted().surplus, before + 99);
        assert_eq!(told(&mut introducer, at(70_000)).len(), 1);
        introducer.handle_query(at(70_001), SessionId(1), 101);
        assert!(told(&mut introducer, at(70_001)).is_empty(), "later");
    }

    #[test]
    fn of_two_sessions_with_one_peer_it_is_told_once_and_the_newer_carries() {
        let mut introducer = with(&[1, 2]);
        introducer.handle_open(at(1), SessionId(9), MEETING, peer(2), false);
        introducer.handle_query(at(1), SessionId(1), 1);
        assert_eq!(told(&mut introducer, at(1)), [(1, 1, vec![2], Vec::new())]);
        assert_eq!(
            introducer.between(SessionId(1), peer(2)),
            Some(SessionId(9))
        );
        introducer.handle_closed(at(2), SessionId(2));
        assert!(told(&mut introducer, at(9_000)).is_empty());
    }
}
