//! Token buckets in whole microtokens: exact, and without a clock of their own.

use std::time::Duration;

use kinlog_feeds::Time;

use crate::limits::Rate;

/// Microtokens in a token; a rate of 1 token/s gains one of them each microsecond.
const MICRO: i64 = 1_000_000;

/// A reserve of tokens that refills at a rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    microtokens: i64,
    refilled: Time,
}

impl Bucket {
    /// Returns a full bucket.
    pub(crate) fn new(rate: Rate, now: Time) -> Self {
        Bucket {
            rate,
            microtokens: i64::from(rate.burst) * MICRO,
            refilled: now,
        }
    }

    /// Takes `cost` tokens, into debt if need be, and returns how long the debt lasts.
    pub(crate) fn charge(&mut self, now: Time, cost: u32) -> Duration {
        self.refill(now);
        self.microtokens = self.microtokens.saturating_sub(i64::from(cost) * MICRO);
        self.wait_for(0)
    }

    /// Takes one token, or returns after how long there will be one.
    pub(crate) fn take_one(&mut self, now: Time) -> Result<(), Duration> {
        self.refill(now);
        if self.microtokens < MICRO {
            return Err(self.wait_for(MICRO));
        }
        self.microtokens -= MICRO;
        Ok(())
    }

    /// Returns whether the reserve is whole, so that forgetting the bucket changes nothing.
    pub(crate) fn is_full(&mut self, now: Time) -> bool {
        self.refill(now);
        self.microtokens >= i64::from(self.rate.burst) * MICRO
    }

    fn refill(&mut self, now: Time) {
        let passed = i64::try_from(now.since(self.refilled).as_micros()).unwrap_or(i64::MAX);
        let gained = passed.saturating_mul(i64::from(self.rate.per_second));
        let full = i64::from(self.rate.burst) * MICRO;
        self.microtokens = self.microtokens.saturating_add(gained).min(full);
        self.refilled = self.refilled.max(now);
    }

    fn wait_for(&self, microtokens: i64) -> Duration {
        let missing = u64::try_from(microtokens.saturating_sub(self.microtokens)).unwrap_or(0);
        Duration::from_micros(missing.div_ceil(u64::from(self.rate.per_second).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 20,
    };

    #[test]
    fn a_debt_lasts_as_long_as_its_tokens_take() {
        let mut bucket = Bucket::new(RATE, Time::ZERO);
        assert_eq!(bucket.charge(Time::ZERO, 20), Duration::ZERO);
        assert_eq!(bucket.charge(Time::ZERO, 5), Duration::from_millis(500));
        assert_eq!(bucket.charge(Time(500_000), 0), Duration::ZERO);
        assert_eq!(bucket.charge(Time(500_000), 1), Duration::from_millis(100));
    }

    #[test]
    fn the_reserve_stops_at_the_burst_and_time_never_runs_back() {
        let mut bucket = Bucket::new(RATE, Time(9_000_000));
        assert_eq!(bucket.charge(Time(1_000_000_000), 20), Duration::ZERO);
        assert_eq!(bucket.charge(Time(0), 1), Duration::from_millis(100));
        assert!(!bucket.is_full(Time(1_000_000_000)));
        assert!(bucket.is_full(Time(1_003_000_000)));
    }

    #[test]
    fn taking_one_says_when_the_next_one_comes() {
        let mut bucket = Bucket::new(
            Rate {
                per_second: 10,
                burst: 1,
            },
            Time::ZERO,
        );
        assert_eq!(bucket.take_one(Time::ZERO), Ok(()));
        assert_eq!(
            bucket.take_one(Time(40_000)),
            Err(Duration::from_millis(60))
        );
        assert_eq!(bucket.take_one(Time(100_000)), Ok(()));
    }
}
