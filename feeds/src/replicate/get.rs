//! A single block that somebody waits for: it comes, or it is said that it will not.

use crate::Time;
use crate::limits::WANT_SETTLE;
use crate::replicate::channel::Channel;
use crate::replicate::feed::Feed;
use crate::replicate::flow::Context;
use crate::replicate::{FeedEvent, Interest, Output};

/// A block that was asked for by [`get`](crate::replicate::Replicator::get).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GetId(pub u64);

/// How asking for a block ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GetEnd {
    /// It is held, verified and durable.
    Held,
    /// Every connected peer has told what it holds, and none of them can give it.
    NobodyHas,
    /// The deadline is past; peers that may have it have not answered.
    TimedOut,
}

/// Why a block is not asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GetRefused {
    /// The replicator does not know the feed.
    #[error("the feed is not known here")]
    UnknownFeed,
    /// Too many are waited for.
    #[error("{limit} blocks are waited for already")]
    TooMany { limit: usize },
}

/// A block that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Getting {
    block: u64,
    deadline: Option<Time>,
    asked: Time,
}

impl Getting {
    pub(super) fn block(&self) -> u64 {
        self.block
    }
}

impl Feed {
    /// Wants a block, beside everything else that is wanted.
    pub(super) fn get(&mut self, now: Time, id: GetId, block: u64, deadline: Option<Time>) {
        let getting = Getting {
            block,
            deadline,
            asked: now,
        };
        self.gets.insert(id, getting);
        self.head_wanted |= block >= self.length;
        self.told_nobody = None;
        self.want_gets();
    }

    pub(super) fn cancel_get(&mut self, id: GetId) {
        if self.gets.remove(&id).is_some() {
            self.want_gets();
        }
    }

    pub(super) fn want_gets(&mut self) {
        let blocks = self.gets.values().map(|getting| getting.block);
        self.wanted.set_single(blocks.collect());
    }

    /// Tells who waits for a block how it ended. Returns whether somebody waits on.
    pub(super) fn end_gets(&mut self, cx: &mut Context<'_>) -> bool {
        let ended: Vec<(GetId, u64, GetEnd)> = self
            .gets
            .iter()
            .filter_map(|(id, getting)| Some((*id, getting.block, self.end_of(cx.now, getting)?)))
            .collect();
        for (id, block, end) in &ended {
            self.gets.remove(id);
            cx.outputs.push_back(Output::Got {
                id: *id,
                key: self.key,
                block: *block,
                end: *end,
            });
        }
        if !ended.is_empty() {
            self.want_gets();
        }
        !self.gets.is_empty()
    }

    fn end_of(&self, now: Time, getting: &Getting) -> Option<GetEnd> {
        if self.have.get(getting.block) {
            return Some(GetEnd::Held);
        }
        if getting.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(GetEnd::TimedOut);
        }
        let may_come = |channel: &Channel| {
            let Some(remote) = &channel.remote else {
                return true; // it has not said anything yet
            };
            let settles = channel.wants_settle_at(WANT_SETTLE);
            let has = channel.remote_have.get(getting.block);
            let has_head = getting.block >= self.length
                && remote.length > getting.block
                && channel.upgrade_refused != Some(remote.length);
            remote.uploading && (has || has_head) || settles.is_some_and(|settles| settles > now)
        };
        let settled = now >= getting.asked + WANT_SETTLE;
        let on_its_way = self.planned.get(getting.block) || self.upgrading.is_some();
        let nobody = !on_its_way && !self.channels.values().any(may_come);
        (self.stopped || (settled && nobody)).then_some(GetEnd::NobodyHas)
    }

    /// Says what is wanted until a time comes, unless that is said again.
    pub(super) fn set_interest_until(&mut self, interest: Interest, until: Time) {
        self.set_interest(interest);
        self.interest_until = Some(until);
    }

    /// Ends an interest whose time is past. Returns whether there is one with a time.
    pub(super) fn end_interest(&mut self, cx: &mut Context<'_>) -> bool {
        if self
            .interest_until
            .take_if(|until| cx.now >= *until)
            .is_some()
        {
            self.set_interest(Interest::default());
            cx.outputs.push_back(self.event(FeedEvent::InterestEnded));
        }
        self.interest_until.is_some()
    }
}
