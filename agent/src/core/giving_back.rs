//! Giving space back: what nothing asks for any more goes from the store.

use std::ops::Range;

use kinlog_feeds::FeedKey;
use kinlog_feeds::store::{Feed, Role};

use crate::api::Error;
use crate::core::Core;
use crate::pins::{Plan, blocks};

/// What went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GivenBack {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

impl Core {
    /// Takes out what a plan asked for and the one of now does not; what this device signs stays.
    pub(crate) fn give_back(&self, before: &Plan) -> Result<GivenBack, Error> {
        let mut given = GivenBack::default();
        for key in before.asked.keys() {
            let Some(feed) = self.store.feed(key).filter(|feed| feed.role() != Role::Own) else {
                continue;
            };
            let held = feed.info();
            if self.plan().interests.contains_key(key) {
                let unwanted = self.unwanted(key, &feed);
                for range in &unwanted {
                    feed.clear(range.clone())?;
                }
                if unwanted.is_empty() {
                    continue;
                }
                self.stored(key)?;
                let left = feed.info();
                given.blocks += held.blocks_held - left.blocks_held;
                given.bytes += held.bytes_held - left.bytes_held;
            } else {
                self.forget_feed(key)?;
                given.blocks += held.blocks_held;
                given.bytes += held.bytes_held;
            }
        }
        Ok(given)
    }

    /// Takes a feed out of the store, and tells network and index.
    pub(crate) fn forget_feed(&self, key: &FeedKey) -> Result<(), Error> {
        self.store.drop_feed(key)?;
        self.stored(key)
    }

    /// Returns the held blocks of a feed that nothing asks for any more.
    fn unwanted(&self, key: &FeedKey, feed: &Feed) -> Vec<Range<u64>> {
        let plan = self.plan();
        let length = feed.head().length;
        let asked = plan.asked.get(key).into_iter().flatten();
        let mut wanted: Vec<Range<u64>> = asked.map(|one| blocks(&one.selection, length)).collect();
        wanted.sort_by_key(|range| range.start);
        let (mut at, mut gaps) = (0, Vec::new());
        for range in wanted {
            if range.start > at {
                gaps.push(at..range.start.min(length));
            }
            at = at.max(range.end);
        }
        gaps.push(at.min(length)..length);
        let have = feed.have();
        gaps.retain(|gap| !gap.is_empty() && have.count_range(gap.clone()) > 0);
        gaps
    }
}
