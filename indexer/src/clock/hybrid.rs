//! The hybrid logical clock.

use crate::limits::{CLOCK_COUNTER_MAX, CLOCK_DRIFT_MS_MAX};

/// The date of an entry: wall milliseconds since 1970 and a counter among equals.
///
/// It is shown and breaks ties; order comes from links first.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Clock {
    /// Milliseconds since 1970, UTC.
    pub ms: u64,
    /// Place among the entries of the same millisecond.
    pub counter: u16,
}

/// The clock of one writing device: never goes back, never follows one that runs far ahead.
#[derive(Clone, Copy, Debug, Default)]
pub struct HybridClock {
    last: Clock,
}

impl HybridClock {
    /// Returns a clock that goes on after `last`, the newest date this device has written.
    pub fn after(last: Clock) -> Self {
        HybridClock { last }
    }

    /// Returns the date of the next own entry, later than every date given or adopted before.
    pub fn tick(&mut self, wall_ms: u64) -> Clock {
        self.last = if wall_ms > self.last.ms {
            Clock {
                ms: wall_ms,
                counter: 0,
            }
        } else if self.last.counter < CLOCK_COUNTER_MAX {
            Clock {
                ms: self.last.ms,
                counter: self.last.counter + 1,
            }
        } else {
            Clock {
                ms: self.last.ms.saturating_add(1),
                counter: 0,
            }
        };
        self.last
    }

    /// Takes note of a remote entry's date, so that the next own one is later.
    ///
    /// Returns whether it was adopted: a date more than 10 minutes ahead of `wall_ms` is not, else
    /// one wrong clock would move everybody's.
    pub fn observe(&mut self, remote: Clock, wall_ms: u64) -> bool {
        if remote.ms > wall_ms.saturating_add(CLOCK_DRIFT_MS_MAX) {
            return false;
        }
        self.last = self.last.max(remote);
        true
    }

    /// Returns the newest date given or adopted.
    pub fn last(&self) -> Clock {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60 * 1000;

    #[test]
    fn dates_rise_while_the_wall_stands_still_or_goes_back() {
        let mut clock = HybridClock::default();
        let mut before = clock.tick(1000);
        for wall in [1000, 1000, 400, 0, 1001, 1001] {
            let date = clock.tick(wall);
            assert!(date > before, "{date:?} after {before:?}");
            before = date;
        }
    }

    #[test]
    fn a_full_counter_moves_to_the_next_millisecond() {
        let mut clock = HybridClock::after(Clock {
            ms: 7,
            counter: u16::MAX,
        });
        assert_eq!(clock.tick(7), Clock { ms: 8, counter: 0 });
    }

    #[test]
    fn a_remote_clock_ten_minutes_ahead_is_adopted_and_one_beyond_is_not() {
        let mut clock = HybridClock::default();
        let near = Clock {
            ms: 10 * MINUTE,
            counter: 3,
        };
        assert!(clock.observe(near, 0));
        assert_eq!(
            clock.tick(0),
            Clock {
                ms: 10 * MINUTE,
                counter: 4
            }
        );
        let far = Clock {
            ms: 10 * MINUTE + 1,
            counter: 0,
        };
        assert!(!clock.observe(far, 0));
        assert_eq!(
            clock.tick(0),
            Clock {
                ms: 10 * MINUTE,
                counter: 5
            }
        );
    }
}
