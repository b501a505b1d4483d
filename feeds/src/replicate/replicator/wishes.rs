//! What is wanted: by interest, of single blocks, and to be known.

use std::ops::Range;

use crate::Time;
use crate::crypto::FeedKey;
use crate::limits::{GETS_MAX, WATCHES_MAX};
use crate::replicate::flow::Context;
use crate::replicate::{GetId, GetRefused, Holder, Interest, Pushes, Replicator};

impl Replicator {
    /// Says what is wanted of a feed. What is on its way is still taken.
    pub fn set_interest(&mut self, now: Time, key: &FeedKey, interest: Interest) {
        self.now = now;
        with_feed!(self, key, |feed, _cx| feed.set_interest(interest));
        self.touch(key);
    }

    /// Says whether peers may send blocks of a feed before they are asked for.
    pub fn set_pushes(&mut self, now: Time, key: &FeedKey, pushes: Pushes) {
        self.now = now;
        with_feed!(self, key, |feed, _cx| feed.pushes = pushes);
        self.touch(key);
    }

    /// Says what is wanted of a feed until `until`: then nothing is, unless it was said again, and
    /// [`FeedEvent::InterestEnded`](crate::replicate::FeedEvent::InterestEnded) tells of it.
    pub fn set_interest_until(
        &mut self,
        now: Time,
        key: &FeedKey,
        interest: Interest,
        until: Time,
    ) {
        self.now = now;
        with_feed!(self, key, |feed, _cx| feed
            .set_interest_until(interest, until));
        self.touch(key);
    }

    /// Asks for one block beside what is wanted; [`Output::Got`] tells how it ends. Without a deadline
    /// that is when it comes, or when no connected peer has it. Cancelled or late, what is on its way is
    /// still taken.
    ///
    /// # Errors
    ///
    /// [`GetRefused`]: the feed is not known, or [`GETS_MAX`] are waited for.
    pub fn get(
        &mut self,
        now: Time,
        key: &FeedKey,
        block: u64,
        deadline: Option<Time>,
    ) -> Result<GetId, GetRefused> {
        self.now = now;
        if self.gets.len() >= GETS_MAX {
            return Err(GetRefused::TooMany { limit: GETS_MAX });
        }
        let feed = self.feeds.get_mut(key).ok_or(GetRefused::UnknownFeed)?;
        self.last_get += 1;
        let id = GetId(self.last_get);
        feed.get(now, id, block, deadline);
        self.gets.insert(id, *key);
        self.touch(key);
        Ok(id)
    }

    /// Nobody waits for that block any more; [`Output::Got`] does not come.
    pub fn cancel_get(&mut self, now: Time, id: GetId) {
        self.now = now;
        if let Some(key) = self.gets.remove(&id) {
            with_feed!(self, &key, |feed, _cx| feed.cancel_get(id));
            self.touch(&key);
        }
    }

    /// Says of which blocks of a feed it is to be known who holds them, `None` of none any more.
    /// [`FeedEvent::HoldersChanged`](crate::replicate::FeedEvent::HoldersChanged) tells when to look. Of more
    /// than [`WATCHES_MAX`] feeds the one watched longest is watched no longer.
    pub fn watch(&mut self, now: Time, key: &FeedKey, blocks: Option<Range<u64>>) {
        self.now = now;
        self.watched.retain(|watched| watched != key);
        if blocks.is_some() {
            self.watched.push_back(*key);
        }
        if self.watched.len() > WATCHES_MAX
            && let Some(oldest) = self.watched.pop_front()
        {
            with_feed!(self, &oldest, |feed, cx| feed.set_watch(cx, None));
            self.touch(&oldest);
        }
        with_feed!(self, key, |feed, cx| feed.set_watch(cx, blocks));
        self.touch(key);
    }

    /// Returns what connected peers say to hold of these blocks, durably. Of blocks that are held here
    /// too only those that are [watched](Self::watch) are told of by everybody.
    pub fn holders(&self, key: &FeedKey, blocks: &Range<u64>) -> Vec<Holder> {
        let feed = self.feeds.get(key);
        feed.map_or_else(Vec::new, |feed| feed.holders(blocks))
    }
}
