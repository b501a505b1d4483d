//! Queries that are asked on: two hops, and no more.
//!
//! Whoever asks further is answered by this node first. A few others of the meeting are asked for it, each
//! once, and their answers are handed on with their names. A question that was asked on already is answered and goes
//! nowhere else, and the same question that comes by two ways is answered once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use super::Introducer;
use crate::limits::{
    FORWARDED_PER_MINUTE, FURTHER_ASKED_MAX, FURTHER_INTERVAL, FURTHER_WAIT_MAX,
    FURTHER_WAITING_MAX, QUERIES_SEEN_MAX,
};
use crate::session::{FoundPeer, MeshMessage, Reach, SessionId};

/// A question that was asked on.
#[derive(Debug)]
struct Asking {
    by: SessionId,
    until: Time,
    /// Who has not answered yet.
    unanswered: Vec<SessionId>,
}

/// All questions that are asked on.
#[derive(Debug, Default)]
pub(super) struct Further {
    asking: BTreeMap<u64, Asking>,
    /// Questions of others that were answered, the newest few.
    seen: VecDeque<u64>,
    /// When each session asked further last.
    asked_at: BTreeMap<SessionId, Time>,
    /// Since when, and how often, each session asked on behalf of others.
    forwarded: BTreeMap<SessionId, (Time, u32)>,
    sends: VecDeque<(SessionId, MeshMessage)>,
}

impl Further {
    pub(super) fn handle_closed(&mut self, session: SessionId) {
        self.asked_at.remove(&session);
        self.forwarded.remove(&session);
        self.sends.retain(|(to, _)| *to != session);
        self.asking.retain(|_, asking| {
            asking.unanswered.retain(|one| *one != session);
            asking.by != session && !asking.unanswered.is_empty()
        });
    }

    pub(super) fn poll_send(&mut self, now: Time) -> Option<(SessionId, MeshMessage)> {
        self.asking.retain(|_, asking| asking.until > now);
        self.sends.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (!self.sends.is_empty()).then_some(Time::ZERO)
    }

    /// Returns whether a question is new, and remembers it.
    fn is_new(&mut self, request_id: u64) -> bool {
        if self.seen.contains(&request_id) {
            return false;
        }
        if self.seen.len() >= QUERIES_SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(request_id);
        true
    }
}

impl Introducer {
    /// Asks others of the meeting on behalf of a session.
    pub(super) fn ask_on(&mut self, now: Time, session: SessionId, request_id: u64) {
        let Some(asking) = self.members.get(&session) else {
            return;
        };
        let last = self.further.asked_at.get(&session);
        let is_too_soon = last.is_some_and(|at| now < *at + FURTHER_INTERVAL);
        if is_too_soon
            || self.further.asking.len() >= FURTHER_WAITING_MAX
            || !self.further.is_new(request_id)
        {
            self.counted.surplus += 1;
            return;
        }
        let others = self.members.iter().filter(|(id, member)| {
            **id != session && member.meeting == asking.meeting && member.peer != asking.peer
        });
        let others: Vec<SessionId> = others.map(|(id, _)| *id).take(FURTHER_ASKED_MAX).collect();
        self.further.asked_at.insert(session, now);
        if others.is_empty() {
            return;
        }
        for other in &others {
            let query = MeshMessage::Query {
                request_id,
                reach: Reach::Forwarded,
            };
            self.further.sends.push_back((*other, query));
        }
        let asking = Asking {
            by: session,
            until: now + FURTHER_WAIT_MAX,
            unanswered: others,
        };
        self.further.asking.insert(request_id, asking);
    }

    /// Answers a question that was asked on, once.
    pub(super) fn answer_forwarded(&mut self, now: Time, session: SessionId, request_id: u64) {
        if !self.members.contains_key(&session) {
            return;
        }
        let (since, count) = self.further.forwarded.entry(session).or_insert((now, 0));
        if now.since(*since) >= Duration::from_secs(60) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > FORWARDED_PER_MINUTE || !self.further.is_new(request_id) {
            self.counted.surplus += 1;
            return;
        }
        let answer = MeshMessage::Found {
            request_id,
            peers: self.others(now, session).into_values().collect(),
            gone: Vec::new(),
        };
        self.further.sends.push_back((session, answer));
    }

    /// Somebody answered; returns whether it was a question that was asked on for somebody else. What is new to
    /// whoever asked is handed on, with the name of who has it.
    pub(crate) fn handle_answer(
        &mut self,
        now: Time,
        session: SessionId,
        request_id: u64,
        peers: &[FoundPeer],
    ) -> bool {
        let Some(asking) = self.further.asking.get_mut(&request_id) else {
            return false;
        };
        let Some(place) = asking.unanswered.iter().position(|one| *one == session) else {
            return false;
        };
        asking.unanswered.swap_remove(place);
        let by = asking.by;
        if asking.unanswered.is_empty() {
            self.further.asking.remove(&request_id);
        }
        let (Some(via), Some(asker)) = (self.peer(session), self.peer(by)) else {
            return true;
        };
        let near = self.others(now, by);
        let is_far = |found: &&FoundPeer| {
            found.peer != asker && found.via.is_none() && !near.contains_key(&found.peer)
        };
        let far: Vec<FoundPeer> = peers
            .iter()
            .filter(is_far)
            .map(|found| FoundPeer {
                via: Some(via),
                ..*found
            })
            .collect();
        if !far.is_empty() {
            let found = MeshMessage::Found {
                request_id,
                peers: far,
                gone: Vec::<PublicKey>::new(),
            };
            self.further.sends.push_back((by, found));
        }
        true
    }
}
