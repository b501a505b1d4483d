//! Sockets whose request is not complete yet: so many in all, and of one address fewer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rules::AddressKey;

/// Counts sockets in and out.
#[derive(Debug)]
pub(super) struct Unfinished {
    max: usize,
    per_address_max: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    of: BTreeMap<AddressKey, usize>,
}

/// The place of one socket, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Unfinished>,
    address: Option<AddressKey>,
}

impl Unfinished {
    pub(super) fn new(max: usize, per_address_max: usize) -> Arc<Unfinished> {
        Arc::new(Unfinished {
            max,
            per_address_max,
            counts: Mutex::default(),
        })
    }

    /// Takes a place, when there is one. Without an address, as behind a proxy, all alone counts.
    pub(super) fn take(self: &Arc<Self>, address: Option<AddressKey>) -> Option<Place> {
        let mut counts = self.counts();
        if counts.all >= self.max {
            return None;
        }
        if let Some(address) = address {
            let same = counts.of.get(&address).copied().unwrap_or_default();
            if same >= self.per_address_max {
                return None;
            }
            counts.of.insert(address, same + 1);
        }
        counts.all += 1;
        let of = Arc::clone(self);
        Some(Place { of, address })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.counts();
        counts.all = counts.all.saturating_sub(1);
        let Some(address) = self.address else {
            return;
        };
        if let Some(same) = counts.of.get_mut(&address) {
            *same = same.saturating_sub(1);
            if *same == 0 {
                counts.of.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_places_and_others_theirs() {
        let unfinished = Unfinished::new(5, 2);
        let take = |address| unfinished.take(Some(AddressKey::V4(address)));
        let [first, second] = [1, 1].map(|it| take(it).unwrap());
        assert!(take(1).is_none());
        let _other = take(2).unwrap();
        drop(first);
        let _again = take(1).unwrap();
        assert!(take(1).is_none());
        let _proxied = [(); 2].map(|()| unfinished.take(None).unwrap());
        assert!(unfinished.take(None).is_none(), "five in all");
        assert!(take(3).is_none());
        drop(second);
        let _third = take(3).unwrap();
    }

    #[test]
    fn who_is_done_is_forgotten() {
        let unfinished = Unfinished::new(1, 1);
        for address in 0..1_000 {
            drop(unfinished.take(Some(AddressKey::V6(address))).unwrap());
        }
        assert!(unfinished.counts().of.is_empty());
        assert_eq!(unfinished.counts().all, 0);
    }
}
