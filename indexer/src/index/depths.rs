//! Stated depths of entries met lately, so that no table is asked for those that the next ones link to.

use kinlog_feeds::crypto::FeedKey;

use crate::index::key_map::KeyMap;
use crate::index::state::Place;
use crate::limits::DEPTHS_REMEMBERED_MAX;

/// Of each feed a run of entries, as long as they come in their order.
#[derive(Debug, Default)]
pub(super) struct Depths {
    runs: KeyMap<FeedKey, Run>,
    count: usize,
}

#[derive(Debug, Default)]
struct Run {
    start: u64,
    depths: Vec<u64>,
}

impl Depths {
    /// Returns the stated depth of an entry met lately; one never changes.
    pub(super) fn get(&self, (feed, index): &Place) -> Option<u64> {
        let run = self.runs.get(feed)?;
        let at = usize::try_from(index.checked_sub(run.start)?).ok()?;
        run.depths.get(at).copied()
    }

    /// Remembers the stated depth of an entry; whatever of its feed is no run with it is forgotten.
    pub(super) fn remember(&mut self, (feed, index): Place, depth: u64) {
        if self.count >= DEPTHS_REMEMBERED_MAX {
            self.runs.clear();
            self.count = 0;
        }
        let run = self.runs.entry(feed).or_default();
        if index != run.start + run.depths.len() as u64 {
            self.count -= run.depths.len();
            run.depths.clear();
            run.start = index;
        }
        run.depths.push(depth);
        self.count += 1;
    }

    /// Forgets what is known of a feed: an entry of it is one no more.
    pub(super) fn forget(&mut self, feed: &FeedKey) {
        if let Some(run) = self.runs.remove(feed) {
            self.count -= run.depths.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const ONE: FeedKey = FeedKey([1; 32]);

    #[test]
    fn a_run_is_remembered_and_what_follows_a_gap_begins_another() {
        let mut depths = Depths::default();
        for index in 5..9 {
            depths.remember((ONE, index), 100 + index);
        }
        let known = |depths: &Depths| {
            (0..20)
                .filter_map(|index| depths.get(&(ONE, index)))
                .collect::<Vec<_>>()
        };
        assert_eq!(known(&depths), [105, 106, 107, 108]);
        depths.remember((ONE, 12), 7);
        assert_eq!(known(&depths), [7]);
        depths.forget(&ONE);
        assert_eq!(known(&depths), Vec::<u64>::new());
        assert_eq!(depths.count, 0);
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let mut depths = Depths::default();
        for index in 0..DEPTHS_REMEMBERED_MAX as u64 {
            depths.remember((ONE, index), index);
        }
        assert_eq!(depths.get(&(ONE, 0)), Some(0));
        depths.remember((FeedKey([2; 32]), 0), 3);
        assert_eq!(depths.get(&(ONE, 0)), None);
        assert_eq!(depths.get(&(FeedKey([2; 32]), 0)), Some(3));
        assert_eq!(depths.count, 1);
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_was_said(
            said in proptest::collection::vec((0u8..3, 0u64..12), 0..80),
        ) {
            let (mut depths, mut model) = (Depths::default(), BTreeMap::new());
            for (feed, index) in said {
                // A stated depth never changes.
                let (place, depth) = ((FeedKey([feed; 32]), index), u64::from(feed) * 50 + index);
                depths.remember(place, depth);
                model.insert(place, depth);
                prop_assert_eq!(depths.get(&place), Some(depth));
                for feed in 0..3 {
                    for index in 0..13 {
                        let place = (FeedKey([feed; 32]), index);
                        let known = depths.get(&place);
                        prop_assert!(known.is_none() || known == model.get(&place).copied());
                    }
                }
            }
            let count: usize = depths.runs.values().map(|run| run.depths.len()).sum();
            prop_assert_eq!(depths.count, count);
        }
    }
}
