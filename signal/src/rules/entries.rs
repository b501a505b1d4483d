//! What peers said of themselves over HTTP, until it is over: bounded in all, by network and by
//! address.

use std::collections::BTreeMap;
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use crate::Topic;
use crate::limits::{ANNOUNCED_MAX, REGISTRY_SWEEP_INTERVAL, SWEEP_INTERVAL};
use crate::rules::addresses::AddressKey;
use crate::rules::registry::CallError;

/// A peer in a network.
pub(super) type Place = (Topic, PublicKey);

/// How many there may be, beside [`ANNOUNCED_MAX`] in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) per_topic_max: usize,
    pub(super) per_address_max: usize,
    /// How long what was said holds.
    pub(super) holds: Duration,
}

/// What one peer said last.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) said: T,
    pub(super) heard: Time,
    time_s: u64,
    from: AddressKey,
}

/// What peers of all networks said.
#[derive(Debug)]
pub(super) struct Entries<T> {
    bounds: Bounds,
    held: BTreeMap<Place, Entry<T>>,
    by_address: BTreeMap<AddressKey, usize>,
    swept: Time,
}

impl<T> Entries<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Entries {
            bounds,
            held: BTreeMap::new(),
            by_address: BTreeMap::new(),
            swept: Time::ZERO,
        }
    }

    /// Takes what a peer says at `time_s`, later than what it said before. Refused, it leaves that as
    /// it is.
    pub(super) fn put(
        &mut self,
        now: Time,
        from: AddressKey,
        place: Place,
        time_s: u64,
        said: T,
    ) -> Result<(), CallError> {
        if let Err(error) = self.check(from, &place, time_s) {
            // What is over may have taken the place.
            if error == CallError::NotNewer || now < self.swept + SWEEP_INTERVAL {
                return Err(error);
            }
            self.forget(now);
            self.check(from, &place, time_s)?;
        }
        self.remove(&place);
        *self.by_address.entry(from).or_default() += 1;
        let entry = Entry {
            said,
            heard: now,
            time_s,
            from,
        };
        self.held.insert(place, entry);
        Ok(())
    }

    /// Forgets what is over, once in a while.
    pub(super) fn sweep(&mut self, now: Time) {
        if now >= self.swept + REGISTRY_SWEEP_INTERVAL {
            self.forget(now);
        }
    }

    /// Returns what a peer said, when that is not over.
    pub(super) fn get(&self, now: Time, place: &Place) -> Option<&Entry<T>> {
        let entry = self.held.get(place)?;
        (now < entry.heard + self.bounds.holds).then_some(entry)
    }

    /// Returns what is said in one network and not over.
    pub(super) fn of(
        &self,
        now: Time,
        topic: &Topic,
    ) -> impl Iterator<Item = (PublicKey, &Entry<T>)> {
        let holds = self.bounds.holds;
        let held = self.range(topic);
        held.filter(move |(_, entry)| now < entry.heard + holds)
    }

    /// Returns how many are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    fn check(&self, from: AddressKey, place: &Place, time_s: u64) -> Result<(), CallError> {
        let known = self.held.get(place);
        if known.is_some_and(|known| time_s <= known.time_s) {
            return Err(CallError::NotNewer);
        }
        // A renewal takes no place that it does not have.
        let (is_new, is_of_another) =
            (known.is_none(), known.map(|known| known.from) != Some(from));
        if is_new && self.held.len() >= ANNOUNCED_MAX {
            return Err(CallError::ServerFull);
        }
        if is_new && self.range(&place.0).count() >= self.bounds.per_topic_max {
            return Err(CallError::TopicFull);
        }
        let own = self.by_address.get(&from).copied().unwrap_or_default();
        if is_of_another && own >= self.bounds.per_address_max {
            return Err(CallError::AddressFull);
        }
        Ok(())
    }

    fn range(&self, topic: &Topic) -> impl Iterator<Item = (PublicKey, &Entry<T>)> {
        let (first, last) = (PublicKey([0; 32]), PublicKey([0xff; 32]));
        let held = self.held.range((*topic, first)..=(*topic, last));
        held.map(|((_, peer), entry)| (*peer, entry))
    }

    fn forget(&mut self, now: Time) {
        self.swept = now;
        let over = self.held.iter();
        let over = over.filter(|(_, entry)| entry.heard + self.bounds.holds <= now);
        for place in over.map(|(place, _)| *place).collect::<Vec<_>>() {
            self.remove(&place);
        }
    }

    fn remove(&mut self, place: &Place) {
        let Some(removed) = self.held.remove(place) else {
            return;
        };
        if let Some(count) = self.by_address.get_mut(&removed.from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&removed.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDS: Duration = Duration::from_secs(600);

    fn put(entries: &mut Entries<()>, now: Time, peer: u8) -> Result<(), CallError> {
        let place = (Topic([1; 32]), PublicKey([peer; 32]));
        entries.put(now, AddressKey::V4(1), place, 1, ())
    }

    /// What was over stood in the way of others until the next sweep, for five minutes.
    #[test]
    fn what_is_over_takes_no_place_for_longer_than_a_few_seconds() {
        let mut entries = Entries::new(Bounds {
            per_topic_max: 2,
            per_address_max: 9,
            holds: HOLDS,
        });
        for peer in [1, 2] {
            assert_eq!(put(&mut entries, Time::ZERO, peer), Ok(()));
        }
        let full = Err(CallError::TopicFull);
        let second = Duration::from_secs(1);
        let early = Time::ZERO + (HOLDS - second);
        assert_eq!(
            put(&mut entries, early, 3),
            full,
            "looked, and none is over"
        );
        let over = early + second;
        assert_eq!(put(&mut entries, over, 3), full, "not at every call");
        assert_eq!(put(&mut entries, early + SWEEP_INTERVAL, 3), Ok(()));
        assert_eq!(entries.len(), 1);
        assert_eq!(entries.by_address.get(&AddressKey::V4(1)), Some(&1));
    }
}
