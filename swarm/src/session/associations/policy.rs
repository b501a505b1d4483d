//! When a session is to have further associations: a long or lossy way, and much to carry.
//!
//! Pure: times and figures in, a number out.

use std::time::Duration;

use kinlog_feeds::Time;

use crate::limits::{
    ASSOCIATIONS_IDLE, ASSOCIATIONS_MAX, ASSOCIATIONS_RETRY, ASSOCIATIONS_RETRY_MAX, BULK_PAUSE,
    FAR_BULK_BYTES, FAR_ROUND_TRIP, ROUND_TRIP_SAMPLES, STALLS_OF_LOSS, STALLS_WITHIN,
};

/// What decides.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// Shortest round trip, and how many it was measured of.
    round_trip: Option<Duration>,
    samples: u32,
    /// Bulk data carried either way without a pause, and when it was last.
    bulk_bytes: u64,
    bulk_at: Option<Time>,
    /// When the first one stood still for a while although something waited, latest last.
    stalls: Vec<Time>,
    /// Attempts that failed one after the other, and when the next may be.
    failures: u32,
    not_before: Option<Time>,
}

impl Policy {
    /// A round trip was measured.
    pub(crate) fn handle_round_trip(&mut self, taken: Duration) {
        self.samples = self.samples.saturating_add(1);
        let before = self.round_trip.unwrap_or(Duration::MAX);
        self.round_trip = Some(before.min(taken));
    }

    /// Bulk data was sent or came.
    pub(crate) fn handle_bulk(&mut self, now: Time, bytes: u64) {
        if self.bulk_at.is_none_or(|at| now.since(at) >= BULK_PAUSE) {
            self.bulk_bytes = 0;
        }
        self.bulk_bytes = self.bulk_bytes.saturating_add(bytes);
        self.bulk_at = Some(now);
    }

    /// The first association took nothing for a while although something waited, and then went on.
    pub(crate) fn handle_stall(&mut self, now: Time) {
        self.stalls.retain(|at| now.since(*at) < STALLS_WITHIN);
        if self.stalls.len() < STALLS_OF_LOSS {
            self.stalls.push(now);
        }
    }

    /// An association could not be made, or the other side wants none.
    pub(crate) fn handle_failed(&mut self, now: Time) {
        let wait = ASSOCIATIONS_RETRY * 2u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait.min(ASSOCIATIONS_RETRY_MAX));
    }

    /// An association carries.
    pub(crate) fn handle_made(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    /// Returns how many associations there should be beside the first, of which there are `now_open`.
    pub(crate) fn wanted(&self, now: Time, now_open: usize) -> usize {
        if self.is_idle(now) {
            return 0;
        }
        let may_try = self.not_before.is_none_or(|at| now >= at);
        let is_bulk = self.carries(now, FAR_BULK_BYTES);
        if self.is_far(now) && is_bulk && may_try {
            ASSOCIATIONS_MAX - 1
        } else {
            now_open
        }
    }

    /// Returns whether so much bulk data was carried, and that goes on: what the other side asks for is
    /// measured by less, as it counts what is still on its way.
    pub(crate) fn carries(&self, now: Time, bytes: u64) -> bool {
        let goes_on = self.bulk_at.is_some_and(|at| now.since(at) < BULK_PAUSE);
        goes_on && self.bulk_bytes >= bytes
    }

    /// Returns whether nothing was carried for so long that further associations are closed.
    pub(crate) fn is_idle(&self, now: Time) -> bool {
        let idle = |at: Time| now.since(at) >= ASSOCIATIONS_IDLE;
        self.bulk_at.is_none_or(idle)
    }

    /// Returns when further associations are to be closed unless something is carried.
    pub(crate) fn idle_at(&self) -> Option<Time> {
        self.bulk_at.map(|at| at + ASSOCIATIONS_IDLE)
    }

    /// Returns whether more samples of the round trip are needed before it says anything: one alone
    /// may have waited for a busy machine.
    pub(crate) fn needs_samples(&self) -> bool {
        self.samples < ROUND_TRIP_SAMPLES
    }

    /// Returns the shortest round trip measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Returns whether the way is long, or loses much.
    pub(crate) fn is_far(&self, now: Time) -> bool {
        let is_long = !self.needs_samples() && self.round_trip >= Some(FAR_ROUND_TRIP);
        let recent = |at: &&Time| now.since(**at) < STALLS_WITHIN;
        is_long || self.stalls.iter().filter(recent).count() >= STALLS_OF_LOSS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const MORE: usize = ASSOCIATIONS_MAX - 1;

    fn at(millis: u64) -> Time {
        Time(millis * 1000)
    }

    fn measured(round_trip: Duration) -> Policy {
        let mut policy = Policy::default();
        for more in [30 * MS, Duration::ZERO, 5 * MS, 90 * MS] {
            assert!(policy.needs_samples());
            policy.handle_round_trip(round_trip + more);
        }
        assert!(!policy.needs_samples());
        policy
    }

    #[test]
    fn a_long_way_with_much_to_carry_takes_all_there_may_be() {
        let mut policy = measured(FAR_ROUND_TRIP);
        assert_eq!(policy.wanted(at(0), 0), 0);
        policy.handle_bulk(at(100), FAR_BULK_BYTES - 1);
        assert_eq!(policy.wanted(at(100), 0), 0, "not enough yet");
        policy.handle_bulk(at(200), 1);
        assert_eq!(policy.wanted(at(200), 0), MORE);
        assert_eq!(policy.wanted(at(200), 2), MORE);
    }

    #[test]
    fn a_short_way_takes_one_however_much_there_is() {
        let mut policy = measured(FAR_ROUND_TRIP - MS);
        policy.handle_bulk(at(0), 1 << 40);
        assert_eq!(policy.wanted(at(0), 0), 0);
    }

    #[test]
    fn one_slow_answer_does_not_make_a_way_long() {
        let mut policy = Policy::default();
        policy.handle_round_trip(500 * MS);
        policy.handle_bulk(at(0), 1 << 40);
        assert_eq!(policy.wanted(at(0), 0), 0);
    }

    #[test]
    fn little_now_and_then_is_no_bulk() {
        let mut policy = measured(100 * MS);
        for second in 0..100 {
            policy.handle_bulk(at(5_000 * second), FAR_BULK_BYTES / 2);
            assert_eq!(policy.wanted(at(5_000 * second), 0), 0);
        }
    }

    #[test]
    fn a_lossy_way_shows_by_standing_still_again_and_again() {
        let mut policy = measured(MS);
        policy.handle_bulk(at(0), 1 << 30);
        policy.handle_stall(at(0));
        assert_eq!(policy.wanted(at(0), 0), 0, "once is chance");
        for _ in 1..STALLS_OF_LOSS {
            policy.handle_stall(at(900));
        }
        policy.handle_bulk(at(1_000), 1);
        assert_eq!(policy.wanted(at(1_000), 0), MORE);
        let later = at(1_000) + STALLS_WITHIN;
        policy.handle_bulk(later, 1 << 30);
        assert_eq!(policy.wanted(later, 0), 0, "that is over");
    }

    #[test]
    fn associations_end_when_nothing_is_carried() {
        let mut policy = measured(50 * MS);
        policy.handle_bulk(at(0), 1 << 30);
        let end = policy.idle_at().unwrap();
        assert_eq!(policy.wanted(at(0) + (end.since(at(1))), 3), 3, "kept");
        assert_eq!(policy.wanted(end, 3), 0);
    }

    #[test]
    fn who_could_make_none_tries_again_ever_more_seldom() {
        let mut policy = measured(50 * MS);
        let (mut now, mut waits) = (at(0), Vec::new());
        for _ in 0..12 {
            policy.handle_bulk(now, 1 << 30);
            assert_eq!(policy.wanted(now, 0), MORE);
            policy.handle_failed(now);
            let failed = now;
            while policy.wanted(now, 0) == 0 {
                now = now + Duration::from_secs(1);
                policy.handle_bulk(now, 1 << 30);
            }
            waits.push(now.since(failed));
        }
        assert!(waits.is_sorted(), "{waits:?}");
        assert_eq!(waits[0], ASSOCIATIONS_RETRY);
        assert_eq!(waits[11], ASSOCIATIONS_RETRY_MAX);
        policy.handle_made();
        policy.handle_failed(now);
        assert_eq!(policy.wanted(now + ASSOCIATIONS_RETRY, 1), 1);
    }
}
