//! Which bulk message goes by which further association, and what is sent again when one ends.
//!
//! A message goes by the one that has least on its way; what stands still takes no more, so the others
//! carry on. Messages are kept until the other side says that it has them: nothing is lost with an
//! association, and nothing arrives twice.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kinlog_feeds::Time;

use crate::limits::{ASSOCIATION_BYTES_MAX, ASSOCIATION_STUCK};

/// A message of `kinlog/feed/1`, encoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Bulk {
    pub(crate) kind: u64,
    pub(crate) body: Bytes,
}

/// More was said to have come than was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NeverSent;

#[derive(Debug)]
struct Way {
    takes: bool,
    /// Sent and not known to have come, oldest first.
    kept: VecDeque<Bulk>,
    kept_bytes: usize,
    /// How many of them came.
    received: u64,
    /// Since when it has brought nothing although something is on its way.
    since: Option<Time>,
}

impl Way {
    fn take_off(&mut self, received: u64) -> Result<(), NeverSent> {
        let newly = received.checked_sub(self.received).ok_or(NeverSent)?;
        if newly > self.kept.len() as u64 {
            return Err(NeverSent);
        }
        for _ in 0..newly {
            if let Some(bulk) = self.kept.pop_front() {
                self.kept_bytes -= bulk.body.len();
            }
        }
        self.received = received;
        Ok(())
    }
}

/// Everything that goes by further associations of one session.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    ways: BTreeMap<u64, Way>,
    waiting: VecDeque<Bulk>,
    waiting_bytes: usize,
}

impl Spread {
    /// An association carries from now on.
    pub(crate) fn handle_open(&mut self, id: u64) {
        let way = Way {
            takes: true,
            kept: VecDeque::new(),
            kept_bytes: 0,
            received: 0,
            since: None,
        };
        self.ways.insert(id, way);
    }

    /// An association takes nothing more; what it still brings is told.
    pub(crate) fn handle_gone(&mut self, id: u64) {
        if let Some(way) = self.ways.get_mut(&id) {
            way.takes = false;
            way.since = None;
        }
    }

    /// The other side has the first so many messages that went by an association.
    pub(crate) fn handle_received(
        &mut self,
        now: Time,
        id: u64,
        received: u64,
    ) -> Result<(), NeverSent> {
        let Some(way) = self.ways.get_mut(&id) else {
            return Ok(());
        };
        way.take_off(received)?;
        way.since = (way.takes && !way.kept.is_empty()).then_some(now);
        Ok(())
    }

    /// The other side gets nothing more by an association, of which it has the first so many messages:
    /// the others go before all that waits.
    pub(crate) fn handle_closed(&mut self, id: u64, received: u64) -> Result<(), NeverSent> {
        let Some(mut way) = self.ways.remove(&id) else {
            return Ok(());
        };
        way.take_off(received)?;
        self.waiting_bytes += way.kept_bytes;
        way.kept.append(&mut self.waiting);
        self.waiting = way.kept;
        Ok(())
    }

    /// Adds a message.
    pub(crate) fn push(&mut self, bulk: Bulk) {
        self.waiting_bytes += bulk.body.len();
        self.waiting.push_back(bulk);
    }

    /// Returns the next message and the association it goes by. Call until `None` after every
    /// `handle_*` and [`push`](Self::push).
    pub(crate) fn poll(&mut self, now: Time) -> Option<(u64, Bulk)> {
        self.waiting.front()?;
        let ways = self.ways.iter_mut();
        let takes =
            |(_, way): &(&u64, &mut Way)| way.takes && way.kept_bytes < ASSOCIATION_BYTES_MAX;
        let (id, way) = ways.filter(takes).min_by_key(|(_, way)| way.kept_bytes)?;
        let bulk = self.waiting.pop_front()?;
        self.waiting_bytes -= bulk.body.len();
        way.kept_bytes += bulk.body.len();
        way.kept.push_back(bulk.clone());
        way.since.get_or_insert(now);
        Some((*id, bulk))
    }

    /// Returns the next message that the first association is to carry, as there is no other.
    pub(crate) fn poll_back(&mut self) -> Option<Bulk> {
        if self.takes() {
            return None;
        }
        let bulk = self.waiting.pop_front()?;
        self.waiting_bytes -= bulk.body.len();
        Some(bulk)
    }

    /// Returns whether any association takes messages.
    pub(crate) fn takes(&self) -> bool {
        self.ways.values().any(|way| way.takes)
    }

    /// Returns how many bytes wait for an association.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Returns an association that has brought nothing for too long: it is to be given up.
    pub(crate) fn stuck(&self, now: Time) -> Option<u64> {
        let is_stuck = |way: &Way| way.since.is_some_and(|at| now >= at + ASSOCIATION_STUCK);
        let mut ways = self.ways.iter();
        ways.find(|(_, way)| is_stuck(way)).map(|(id, _)| *id)
    }

    /// Returns when [`stuck`](Self::stuck) may have something to tell.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let since = self.ways.values().filter_map(|way| way.since).min();
        since.map(|at| at + ASSOCIATION_STUCK)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn bulk(number: u64, bytes: usize) -> Bulk {
        let body = Bytes::from(vec![0; bytes]);
        Bulk { kind: number, body }
    }

    fn at(millis: u64) -> Time {
        Time(millis * 1000)
    }

    fn two_ways() -> Spread {
        let mut spread = Spread::default();
        spread.handle_open(1);
        spread.handle_open(2);
        spread
    }

    fn sent(spread: &mut Spread) -> Vec<(u64, u64)> {
        let next = || spread.poll(at(0)).map(|(id, bulk)| (id, bulk.kind));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn messages_go_by_the_one_with_least_on_its_way() {
        let mut spread = two_ways();
        for (number, bytes) in [(0, 100), (1, 60), (2, 60), (3, 10)] {
            spread.push(bulk(number, bytes));
        }
        assert_eq!(sent(&mut spread), [(1, 0), (2, 1), (2, 2), (1, 3)]);
        spread.handle_received(at(1), 1, 2).unwrap();
        spread.push(bulk(4, 1));
        assert_eq!(sent(&mut spread), [(1, 4)]);
    }

    #[test]
    fn one_that_stands_still_takes_no_more_and_the_other_carries_on() {
        let mut spread = two_ways();
        let mut by_second = 0;
        for number in 0..100 {
            spread.push(bulk(number, ASSOCIATION_BYTES_MAX / 4));
            for (id, _) in sent(&mut spread) {
                if id == 2 {
                    by_second += 1;
                    spread.handle_received(at(1), 2, by_second).unwrap();
                }
            }
        }
        assert_eq!(by_second, 99);
        assert_eq!(spread.waiting_bytes(), 0);
    }

    #[test]
    fn what_an_association_did_not_bring_goes_again_and_first() {
        let mut spread = two_ways();
        (0..4).for_each(|number| spread.push(bulk(number, 10)));
        assert_eq!(sent(&mut spread), [(1, 0), (2, 1), (1, 2), (2, 3)]);
        spread.handle_gone(1);
        spread.push(bulk(4, 10));
        assert_eq!(sent(&mut spread), [(2, 4)]);
        spread.handle_closed(1, 1).unwrap();
        spread.push(bulk(5, 10));
        assert_eq!(sent(&mut spread), [(2, 2), (2, 5)]);
        assert_eq!(spread.poll_back(), None);
        spread.handle_closed(2, 2).unwrap();
        let back: Vec<u64> = std::iter::from_fn(|| spread.poll_back())
            .map(|bulk| bulk.kind)
            .collect();
        assert_eq!((back, spread.waiting_bytes()), (vec![4, 2, 5], 0));
    }

    #[test]
    fn who_says_to_have_what_was_never_sent_is_noticed() {
        let mut spread = two_ways();
        spread.push(bulk(0, 10));
        sent(&mut spread);
        assert_eq!(spread.handle_received(at(0), 1, 2), Err(NeverSent));
        assert_eq!(spread.handle_received(at(0), 1, 1), Ok(()));
        assert_eq!(spread.handle_received(at(0), 1, 0), Err(NeverSent));
        assert_eq!(spread.handle_closed(2, 1), Err(NeverSent));
        assert_eq!(spread.handle_closed(7, 1), Ok(()), "long forgotten");
    }

    #[test]
    fn one_that_brings_nothing_for_long_is_given_up() {
        let mut spread = two_ways();
        assert_eq!(spread.poll_timeout(), None);
        spread.push(bulk(0, 10));
        spread.push(bulk(1, 10));
        spread.poll(at(0)).unwrap();
        spread.poll(at(500)).unwrap();
        let late = at(0) + ASSOCIATION_STUCK;
        assert_eq!(spread.poll_timeout(), Some(late));
        assert_eq!(spread.stuck(at(500)), None);
        assert_eq!(spread.stuck(late), Some(1));
        spread.handle_received(late, 1, 1).unwrap();
        assert_eq!(spread.poll_timeout(), Some(at(500) + ASSOCIATION_STUCK));
        spread.handle_gone(2);
        assert_eq!(spread.poll_timeout(), None);
    }

    proptest! {
        /// Associations open, bring some of what they took, and end, in any order: each message comes
        /// once.
        #[test]
        fn every_message_comes_once(steps in proptest::collection::vec((0u8..4, 0u64..4), 1..200)) {
            let mut spread = Spread::default();
            let (mut number, mut next_id) = (0, 1);
            // By association: what it carries, and how much of that has come.
            let mut links: BTreeMap<u64, (Vec<u64>, usize)> = BTreeMap::new();
            let mut arrived = Vec::new();
            for (step, which) in steps {
                let chosen = links.keys().nth(which as usize % links.len().max(1)).copied();
                match (step, chosen) {
                    (0, _) if links.len() < 3 => {
                        spread.handle_open(next_id);
                        links.insert(next_id, (Vec::new(), 0));
                        next_id += 1;
                    }
                    (1, Some(id)) => {
                        let (carried, came) = links.get_mut(&id).unwrap();
                        let more = (carried.len() - *came).min(which as usize);
                        arrived.extend(carried[*came..*came + more].iter().copied());
                        *came += more;
                        spread.handle_received(at(0), id, *came as u64).unwrap();
                    }
                    (2, Some(id)) => {
                        let (_, came) = links.remove(&id).unwrap();
                        spread.handle_gone(id);
                        spread.handle_closed(id, came as u64).unwrap();
                    }
                    _ => {
                        spread.push(bulk(number, 100_000));
                        number += 1;
                    }
                }
                while let Some((id, bulk)) = spread.poll(at(0)) {
                    links.get_mut(&id).unwrap().0.push(bulk.kind);
                }
                while let Some(bulk) = spread.poll_back() {
                    arrived.push(bulk.kind);
                }
            }
            for (id, (_, came)) in links {
                spread.handle_closed(id, came as u64).unwrap();
            }
            while let Some(bulk) = spread.poll_back() {
                arrived.push(bulk.kind);
            }
            let distinct: BTreeSet<u64> = arrived.iter().copied().collect();
            prop_assert_eq!(distinct.len(), arrived.len());
            prop_assert_eq!(arrived.len() as u64, number);
        }
    }
}
