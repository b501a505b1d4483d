//! Requests that come more than once: in order by the first association, and ahead of that as copies by
//! further ones.
//!
//! A packet that the first association loses holds up all that comes behind it for a second, requests
//! too, and nobody sends what nobody asked for. Each request is therefore said again by every further
//! association, with its number. The first copy to come counts; in order each comes in any case, so a
//! copy may be dropped for any reason, and is where it makes no sense yet.

use std::collections::BTreeSet;

use super::Bulk;
use crate::limits::COPIES_AHEAD_MAX;

/// A request once more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Copied {
    /// How many requests the session carried before it.
    pub(crate) number: u64,
    pub(crate) request: Bulk,
}

/// Which requests of the other side have come.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// So many came by the first association.
    in_order: u64,
    /// Those among the next that came as copies.
    ahead: BTreeSet<u64>,
}

impl Copies {
    /// The next request came by the first association; returns whether it is new.
    pub(crate) fn handle_in_order(&mut self) -> bool {
        let is_new = !self.ahead.remove(&self.in_order);
        self.in_order += 1;
        is_new
    }

    /// A copy came; returns whether it is the first to come. Of those far ahead none is.
    pub(crate) fn handle_copy(&mut self, number: u64) -> bool {
        let end = self.in_order.saturating_add(COPIES_AHEAD_MAX);
        (self.in_order..end).contains(&number) && self.ahead.insert(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_to_come_counts_and_no_other() {
        let mut copies = Copies::default();
        assert!(copies.handle_in_order());
        assert!(!copies.handle_copy(0), "it has come");
        assert!(copies.handle_copy(2));
        assert!(!copies.handle_copy(2), "by a third association");
        assert!(copies.handle_in_order());
        assert!(!copies.handle_in_order(), "came as a copy");
        assert!(copies.handle_in_order());
        assert!(copies.ahead.is_empty());
    }

    #[test]
    fn what_is_said_to_be_far_ahead_is_not_kept() {
        let mut copies = Copies::default();
        for number in (0..3 * COPIES_AHEAD_MAX).chain([u64::MAX]) {
            copies.handle_copy(number);
        }
        assert_eq!(copies.ahead.len() as u64, COPIES_AHEAD_MAX);
        copies.in_order = u64::MAX - 1;
        assert!(copies.handle_copy(u64::MAX - 1));
    }

    proptest! {
        /// Three associations lag behind the first or lead, each as it likes, and lose what they carry
        /// when they end: each request is taken once.
        #[test]
        fn each_request_is_taken_once(steps in proptest::collection::vec((0usize..4, 1u64..9), 1..200)) {
            let mut copies = Copies::default();
            let mut taken = BTreeSet::new();
            let mut next = [0; 4];
            for (by, more) in steps {
                for _ in 0..more {
                    let number = next[by];
                    next[by] += 1;
                    let is_new = match by {
                        0 => copies.handle_in_order(),
                        // The third leaves some out.
                        3 if number % 5 == 0 => false,
                        _ => copies.handle_copy(number),
                    };
                    prop_assert!(!is_new || taken.insert(number), "{} twice", number);
                }
            }
            for _ in next[0]..2_000 {
                let number = copies.in_order;
                let is_new = copies.handle_in_order();
                prop_assert_eq!(is_new, taken.insert(number));
            }
            prop_assert!(copies.ahead.is_empty());
        }
    }
}
