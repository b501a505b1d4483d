//! Full-jitter back-off: a wait drawn evenly from zero to a bound that doubles.

use std::time::Duration;

use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX};

/// The waits between attempts. Deterministic in its seed.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    random: u64,
    attempts: u32,
}

impl Backoff {
    /// Returns a back-off at its first step.
    pub(super) fn new(seed: u64) -> Self {
        Backoff {
            random: seed,
            attempts: 0,
        }
    }

    /// Counts a failed attempt and returns the wait before the next one.
    pub(super) fn next_wait(&mut self) -> Duration {
        let doubled = BACKOFF_FIRST.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        self.jitter(doubled.min(BACKOFF_MAX))
    }

    /// Returns a duration drawn evenly from zero to `bound`.
    pub(super) fn jitter(&mut self, bound: Duration) -> Duration {
        let bound_us = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.draw() % (bound_us + 1))
    }

    /// Returns the attempts since [`forgive`](Self::forgive).
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts again from the first step.
    pub(super) fn forgive(&mut self) {
        self.attempts = 0;
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, and good enough to spread waits.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_spread_over_a_bound_that_doubles_to_thirty_seconds() {
        for step in 0..12u32 {
            let bound = (BACKOFF_FIRST * (1 << step)).min(BACKOFF_MAX);
            let waits: Vec<Duration> = (0..200)
                .map(|seed| {
                    let mut backoff = Backoff::new(seed);
                    for _ in 0..step {
                        backoff.next_wait();
                    }
                    backoff.next_wait()
                })
                .collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "step {step}");
            assert!(waits.iter().any(|wait| *wait < bound / 4), "step {step}");
            assert!(
                waits.iter().any(|wait| *wait > bound * 3 / 4),
                "step {step}"
            );
        }
    }

    #[test]
    fn a_million_failures_do_not_overflow() {
        let mut backoff = Backoff::new(1);
        backoff.attempts = u32::MAX;
        assert!(backoff.next_wait() <= BACKOFF_MAX);
    }
}
