//! Whom this node tells of whom: the introducer's rules, sans-IO.
//!
//! Peers that this node has open sessions with about one meeting know the meeting's key all of them, so
//! each of them may hear of the others; of other meetings nothing is told. Who asks is told of all, and from
//! then on of who comes and goes; every 30 s, while something changes, it is told again what changed since the last
//! time, so that who missed something is right again. Signals between two of them are handed on, a bounded number
//! of them.
//!
//! Who asks [further](Reach::Further) is told of those, too, whom its peers' peers have, and by whom they are
//! connected: what [`further`](further) asks on, once, and no farther.
//!
//! **Drain rule.** After each `handle_*` call [`poll_found`](Introducer::poll_found) until it gives
//! `None`, and again at [`poll_timeout`](Introducer::poll_timeout).

mod further;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use super::introductions::MeetingKey;
use crate::limits::{
    COORDINATORS_TOLD_MAX, INTRODUCED_PER_MINUTE, NETWORK_STATE_INTERVAL, PEER_QUERY_INTERVAL,
    PEERS_TOLD_AFTER, PEERS_TOLD_MAX,
};
use crate::session::{FoundPeer, Label, MeshMessage, Reach, SessionId};
use further::Further;

/// Somebody to introduce.
#[derive(Debug)]
struct Member {
    meeting: MeetingKey,
    peer: PublicKey,
    can_relay: bool,
    /// Its device, where everybody of the meeting shows one.
    device: Option<PublicKey>,
    since: Time,
    /// It has asked: since then it is told.
    asked: bool,
    /// Its query that is not answered yet, 0 for none.
    query: u64,
    told: Known,
    told_at: Option<Time>,
    due: Option<Time>,
    /// What it was told of by the last state.
    stated: Known,
    state_due: Option<Time>,
    carried: u32,
    carried_since: Time,
}

/// Whom somebody was told of, with the device that was named.
type Known = BTreeMap<PublicKey, Option<PublicKey>>;

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
    further: Further,
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
            device: None,
            since: now,
            asked: false,
            query: 0,
            told: Known::new(),
            told_at: None,
            due: None,
            stated: Known::new(),
            state_due: None,
            carried: 0,
            carried_since: now,
        };
        self.members.insert(session, member);
        self.tell_later(now, &meeting);
    }

    /// A session ended.
    pub(crate) fn handle_closed(&mut self, now: Time, session: SessionId) {
        self.further.handle_closed(session);
        if let Some(gone) = self.members.remove(&session) {
            self.tell_later(now, &gone.meeting);
        }
    }

    /// The other side of a session has shown a certificate: in meetings whose members all do, others hear who it
    /// is.
    pub(crate) fn handle_device(&mut self, now: Time, session: SessionId, device: PublicKey) {
        if let Some(member) = self.members.get_mut(&session)
            && member.meeting.0.is_private()
            && member.device != Some(device)
        {
            member.device = Some(device);
            let meeting = member.meeting;
            self.tell_later(now, &meeting);
        }
    }

    /// The other side of a session asks whom this node has there.
    pub(crate) fn handle_query(
        &mut self,
        now: Time,
        session: SessionId,
        request_id: u64,
        reach: Reach,
    ) {
        match reach {
            Reach::Near => {}
            Reach::Further => self.ask_on(now, session, request_id),
            Reach::Forwarded => return self.answer_forwarded(now, session, request_id),
        }
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

    /// Returns the next thing to tell, and to whom. `wall_s` is the time of day, in seconds since 1970.
    pub(crate) fn poll_found(
        &mut self,
        now: Time,
        wall_s: u64,
    ) -> Option<(SessionId, MeshMessage)> {
        let asked_on = self.further.poll_send(now);
        let found = asked_on.or_else(|| self.poll_change(now));
        found.or_else(|| self.poll_state(now, wall_s))
    }

    /// Returns what came and went with somebody, or the answer to its query.
    fn poll_change(&mut self, now: Time) -> Option<(SessionId, MeshMessage)> {
        loop {
            let due = |member: &Member| member.due.is_some_and(|at| at <= now);
            let (session, _) = self.members.iter().find(|(_, member)| due(member))?;
            let session = *session;
            let present = self.others(now, session);
            let member = self.members.get_mut(&session)?;
            member.due = None;
            let request_id = std::mem::take(&mut member.query);
            let (come, gone) = changes(&member.told, &present);
            if request_id == 0 && come.is_empty() && gone.is_empty() {
                continue;
            }
            // Who asks hears of all that are there, and still of those who went since it was told of them.
            let come = match request_id {
                0 => come,
                _ => present.values().copied().collect(),
            };
            member.told = named(&present);
            member.told_at = Some(now);
            if request_id == 0 {
                member.state_due.get_or_insert(now + NETWORK_STATE_INTERVAL);
            } else {
                // Whoever asks has just heard everything.
                member.stated = named(&present);
            }
            let found = MeshMessage::Found {
                request_id,
                peers: come,
                gone,
            };
            return Some((session, found));
        }
    }

    /// Returns what changed for somebody since the last state.
    fn poll_state(&mut self, now: Time, wall_s: u64) -> Option<(SessionId, MeshMessage)> {
        loop {
            let due = |member: &Member| member.state_due.is_some_and(|at| at <= now);
            let (session, _) = self.members.iter().find(|(_, member)| due(member))?;
            let session = *session;
            let present = self.others(now, session);
            let member = self.members.get_mut(&session)?;
            member.state_due = None;
            let (peers, mut gone) = changes(&member.stated, &present);
            // Somebody may have come after the last state and be gone before this one.
            let (_, went) = changes(&member.told, &present);
            gone.extend(
                went.into_iter()
                    .filter(|peer| !member.stated.contains_key(peer)),
            );
            if peers.is_empty() && gone.is_empty() {
                continue;
            }
            member.stated = named(&present);
            member.told = named(&present);
            // As many as a message names; of the others it is told next.
            for peer in gone.split_off(gone.len().min(PEERS_TOLD_MAX)) {
                member.told.insert(peer, None);
                member.due.get_or_insert(now + PEERS_TOLD_AFTER);
            }
            let mut relays: Vec<&FoundPeer> =
                present.values().filter(|peer| peer.can_relay).collect();
            relays.sort_by_key(|peer| (std::cmp::Reverse(peer.connected_s), peer.peer));
            relays.truncate(COORDINATORS_TOLD_MAX);
            let state = MeshMessage::State {
                peers,
                gone,
                coordinators: relays.into_iter().map(|peer| peer.peer).collect(),
                timestamp_s: wall_s,
            };
            return Some((session, state));
        }
    }

    /// Returns when [`poll_found`](Self::poll_found) has something to tell.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let members = self.members.values();
        let due = members.flat_map(|member| [member.due, member.state_due]);
        due.flatten().chain(self.further.poll_timeout()).min()
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
                device: member.device,
                via: None,
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

/// Returns who came or is known better than before, and who went.
fn changes(
    before: &Known,
    present: &BTreeMap<PublicKey, FoundPeer>,
) -> (Vec<FoundPeer>, Vec<PublicKey>) {
    let is_new = |found: &&FoundPeer| before.get(&found.peer) != Some(&found.device);
    let come = present.values().filter(is_new).copied().collect();
    let is_gone = |peer: &&PublicKey| !present.contains_key(*peer);
    let gone = before.keys().filter(is_gone).copied().collect();
    (come, gone)
}

fn named(present: &BTreeMap<PublicKey, FoundPeer>) -> Known {
    let present = present.iter();
    present.map(|(peer, found)| (*peer, found.device)).collect()
}
