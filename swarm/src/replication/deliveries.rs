//! How long what is appended here takes to those who want it: counted, sans-IO (R188).
//!
//! An append is waited for when a connected peer takes what is appended; it is delivered when the first of them
//! says that it has it. What nobody connected wants is not waited for, and of what takes too long only the number is
//! kept.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kinlog_feeds::replicate::Reach;
use kinlog_feeds::{FeedKey, Time};

use crate::histogram::{Histogram, HistogramStatus};
use crate::limits::{DELIVERIES_WAITING_MAX, DELIVERY_WAIT_MAX};

/// Upper bounds of the buckets; R188 asks for 5 s.
const BOUNDS: [Duration; 12] = [
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// One append that has not arrived.
#[derive(Clone, Copy, Debug)]
struct Append {
    /// Length of the feed with it.
    length: u64,
    since: Time,
}

/// All appends that have not arrived, and how long the others took.
#[derive(Debug)]
pub(super) struct Deliveries {
    /// The oldest first.
    waiting: BTreeMap<FeedKey, VecDeque<Append>>,
    count: usize,
    took: Histogram,
    missed: u64,
}

impl Default for Deliveries {
    fn default() -> Self {
        Deliveries {
            waiting: BTreeMap::new(),
            count: 0,
            took: Histogram::new(&BOUNDS),
            missed: 0,
        }
    }
}

impl Deliveries {
    /// An own feed has grown to `length`. While as many wait as may, this one is not counted: it would fare
    /// like those.
    pub(super) fn handle_appended(&mut self, now: Time, key: FeedKey, length: u64, reach: Reach) {
        self.expire(now);
        if reach.takers == 0 || reach.length >= length || self.count >= DELIVERIES_WAITING_MAX {
            return;
        }
        let waiting = self.waiting.entry(key).or_default();
        if waiting.back().is_none_or(|last| last.length < length) {
            waiting.push_back(Append { length, since: now });
            self.count += 1;
        }
    }

    /// Returns whether an append to this feed has not arrived.
    pub(super) fn waits_for(&self, key: &FeedKey) -> bool {
        self.waiting.contains_key(key)
    }

    /// A peer that takes what is appended to a feed says that it has `length` blocks.
    pub(super) fn handle_reached(&mut self, now: Time, key: &FeedKey, length: u64) {
        let Some(waiting) = self.waiting.get_mut(key) else {
            return;
        };
        while let Some(first) = waiting.pop_front_if(|first| first.length <= length) {
            self.count -= 1;
            let took = now.since(first.since);
            match took < DELIVERY_WAIT_MAX {
                true => self.took.observe(took),
                false => self.missed += 1,
            }
        }
        if waiting.is_empty() {
            self.waiting.remove(key);
        }
    }

    /// A feed is gone, or begins anew: nothing of it arrives any more.
    pub(super) fn forget(&mut self, key: &FeedKey) {
        let gone = self.waiting.remove(key);
        self.count -= gone.map_or(0, |gone| gone.len());
    }

    /// Returns how long appends took, and how many did not arrive in time.
    pub(super) fn status(&mut self, now: Time) -> (HistogramStatus, u64) {
        self.expire(now);
        (self.took.status(), self.missed)
    }

    /// Gives up what waits for too long.
    fn expire(&mut self, now: Time) {
        self.waiting.retain(|_, waiting| {
            let is_over = |one: &mut Append| now.since(one.since) >= DELIVERY_WAIT_MAX;
            while waiting.pop_front_if(is_over).is_some() {
                self.count -= 1;
                self.missed += 1;
            }
            !waiting.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: FeedKey = FeedKey([1; 32]);
    const OTHER: FeedKey = FeedKey([2; 32]);

    fn at(millis: u64) -> Time {
        Time(millis * 1000)
    }

    fn taken_by(takers: usize, length: u64) -> Reach {
        let mut reach = Reach::default();
        (reach.takers, reach.length) = (takers, length);
        reach
    }

    #[test]
    fn an_append_takes_until_the_first_peer_says_that_it_has_it() {
        let mut deliveries = Deliveries::default();
        deliveries.handle_appended(at(0), FEED, 1, taken_by(2, 0));
        deliveries.handle_appended(at(100), FEED, 2, taken_by(2, 0));
        deliveries.handle_reached(at(200), &OTHER, 9);
        deliveries.handle_reached(at(200), &FEED, 1);
        assert!(deliveries.waits_for(&FEED));
        deliveries.handle_reached(at(7_000), &FEED, 2);
        deliveries.handle_reached(at(7_000), &FEED, 2);
        assert!(!deliveries.waits_for(&FEED));
        let (took, missed) = deliveries.status(at(7_000));
        let within = |millis| took.buckets.iter().find(|one| one.0 == millis);
        assert_eq!(within(250), Some(&(250, 1)));
        assert_eq!(within(5_000), Some(&(5_000, 1)), "R188: one of two");
        assert_eq!((took.count, missed), (2, 0));
        assert_eq!(took.sum_us, 200_000 + 6_900_000);
    }

    #[test]
    fn what_nobody_connected_wants_is_not_waited_for() {
        let mut deliveries = Deliveries::default();
        deliveries.handle_appended(at(0), FEED, 1, taken_by(0, 0));
        deliveries.handle_appended(at(0), FEED, 1, taken_by(1, 1));
        assert!(!deliveries.waits_for(&FEED));
        deliveries.handle_appended(at(0), FEED, 2, taken_by(1, 1));
        deliveries.forget(&FEED);
        let (took, missed) = deliveries.status(at(100_000));
        assert_eq!((took.count, missed, deliveries.count), (0, 0, 0));
    }

    #[test]
    fn what_does_not_arrive_in_time_is_missed_once() {
        let mut deliveries = Deliveries::default();
        deliveries.handle_appended(at(0), FEED, 1, taken_by(1, 0));
        deliveries.handle_appended(at(10), OTHER, 1, taken_by(1, 0));
        let over = at(10) + DELIVERY_WAIT_MAX;
        deliveries.handle_reached(over, &OTHER, 1);
        let (took, missed) = deliveries.status(over);
        assert_eq!((took.count, missed), (0, 2));
        deliveries.handle_reached(over, &FEED, 1);
        assert_eq!(deliveries.status(over).1, 2);
    }

    #[test]
    fn no_more_wait_than_may() {
        let mut deliveries = Deliveries::default();
        for length in 1..=2 * DELIVERIES_WAITING_MAX as u64 {
            deliveries.handle_appended(at(0), FEED, length, taken_by(1, 0));
        }
        assert_eq!(deliveries.count, DELIVERIES_WAITING_MAX);
        deliveries.handle_reached(at(1), &FEED, u64::MAX);
        assert_eq!(deliveries.count, 0);
        assert_eq!(
            deliveries.status(at(1)).0.count,
            DELIVERIES_WAITING_MAX as u64
        );
    }
}
