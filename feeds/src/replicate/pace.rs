//! What a peer has been seen to deliver: how soon an answer comes, and how much in a second.
//!
//! A rate is measured from one answer to the latest before it was asked for, as congestion control
//! by delivery rate does it (BBR): answers that arrive in a heap show no rate that was not there.

use std::time::Duration;

use crate::Time;
use crate::limits::{
    DELAY_PERIOD, IN_FLIGHT_BYTES_MAX, PATIENCE_MAX, PATIENCE_MIN, RATE_PERIOD, WINDOW_BYTES_FIRST,
    WINDOW_BYTES_MIN, WINDOW_BYTES_OF_WAY, WINDOW_OF_WAYS, WINDOW_SLACK,
};

/// Rates and delays of one peer.
#[derive(Debug)]
pub(super) struct Pace {
    /// By how many ways at once its answers come.
    ways: usize,
    /// Bytes of all answers.
    delivered: u64,
    /// When the latest of them came, or the first request after a pause left.
    delivered_at: Time,
    /// Most bytes a second.
    rate: Lately<u64>,
    /// Shortest delay in microseconds, turned round so that the most is the best.
    delay: Lately<std::cmp::Reverse<u64>>,
    /// Usual delay and how far it strays, in microseconds.
    usual: Option<(u64, u64)>,
}

/// What is noted with a request, to learn from its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Departure {
    delivered: u64,
    delivered_at: Time,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            ways: 1,
            delivered: 0,
            delivered_at: Time::ZERO,
            rate: Lately::default(),
            delay: Lately::default(),
            usual: None,
        }
    }
}

impl Pace {
    /// Answers come by so many ways at once from now on, each of which may stand still by itself.
    pub(super) fn set_ways(&mut self, ways: usize) {
        self.ways = ways.max(1);
    }

    /// A request leaves; `idle` says that none was on its way.
    pub(super) fn departs(&mut self, now: Time, idle: bool) -> Departure {
        if idle {
            self.delivered_at = now;
        }
        Departure {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
        }
    }

    /// The answer to a request arrives, with `bytes` of block data.
    pub(super) fn arrives(&mut self, now: Time, sent: Time, departure: Departure, bytes: usize) {
        self.delivered += bytes as u64;
        self.delivered_at = now;
        let delay = micros(now.since(sent)).max(1);
        self.delay.note(now, std::cmp::Reverse(delay), DELAY_PERIOD);
        let (usual, strays) = self.usual.unwrap_or((delay, delay / 2));
        let off = usual.abs_diff(delay);
        self.usual = Some(((7 * usual + delay) / 8, (3 * strays + off) / 4));
        let took = micros(now.since(departure.delivered_at)).max(1);
        let rate = (self.delivered - departure.delivered).saturating_mul(1_000_000) / took;
        if rate > 0 {
            self.rate.note(now, rate, RATE_PERIOD);
        }
    }

    /// Returns how many bytes on their way keep the peer and the path to it busy, and little more:
    /// what waits in between delays everything that comes later.
    pub(super) fn window(&self) -> usize {
        let (Some(rate), Some(std::cmp::Reverse(delay))) = (self.rate.best(), self.delay.best())
        else {
            return WINDOW_BYTES_FIRST;
        };
        let within = |micros: u64| {
            let bytes = u128::from(rate) * u128::from(micros) / 1_000_000;
            usize::try_from(bytes).unwrap_or(usize::MAX)
        };
        let path = within(delay + delay / 2 + micros(WINDOW_SLACK));
        // One way that stands still keeps its part for a second; and what is lost on one is noticed by
        // what comes behind it.
        let ways = match self.ways {
            1 => 0,
            ways => within(micros(WINDOW_OF_WAYS))
                .clamp(ways * WINDOW_BYTES_MIN, ways * WINDOW_BYTES_OF_WAY),
        };
        path.max(ways).clamp(WINDOW_BYTES_MIN, IN_FLIGHT_BYTES_MAX)
    }

    /// Returns whether anything was brought.
    pub(super) fn is_measured(&self) -> bool {
        self.rate.best().is_some()
    }

    /// Returns how long `bytes` asked for now would take, those on their way among them.
    pub(super) fn time_for(&self, bytes: usize) -> Duration {
        let delay = self.delay.best().map_or(DELAY_ASSUMED, |delay| delay.0);
        let rate = self.rate.best().unwrap_or(RATE_ASSUMED).max(1);
        let queue = u128::from(bytes as u64) * 1_000_000 / u128::from(rate);
        Duration::from_micros(delay.saturating_add(u64::try_from(queue).unwrap_or(u64::MAX)))
    }

    /// Returns how long an answer may take before somebody else is asked.
    pub(super) fn patience(&self) -> Duration {
        let Some((usual, strays)) = self.usual else {
            return PATIENCE_MAX;
        };
        Duration::from_micros(2 * usual + 4 * strays).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }
}

/// Of a peer that has answered nothing yet: it gets its share, and less than one that is quick.
const DELAY_ASSUMED: u64 = 100_000;
const RATE_ASSUMED: u64 = 1_000_000;

/// The most of the last one to two periods.
#[derive(Debug)]
struct Lately<T> {
    current: Option<T>,
    before: Option<T>,
    since: Time,
}

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Lately {
            current: None,
            before: None,
            since: Time::ZERO,
        }
    }
}

impl<T: Copy + Ord> Lately<T> {
    fn note(&mut self, now: Time, value: T, period: Duration) {
        if now.since(self.since) >= period {
            self.before = self.current.take();
            self.since = now;
        }
        self.current = self.current.max(Some(value));
    }

    fn best(&self) -> Option<T> {
        self.current.max(self.before)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path with a bottleneck, kept as full as the window allows.
    fn run(rate: u64, round_trip: Duration, block: usize, seconds: u64) -> Pace {
        let mut pace = Pace::default();
        let mut now = Time(1);
        let mut free_at = now;
        let mut flying = std::collections::VecDeque::new();
        let end = now + Duration::from_secs(seconds);
        while now < end {
            while flying.is_empty() || (flying.len() + 1) * block <= pace.window() {
                let departure = pace.departs(now, flying.is_empty());
                let starts = free_at.max(now + round_trip);
                free_at = starts + Duration::from_micros(block as u64 * 1_000_000 / rate);
                flying.push_back((now, departure, free_at));
            }
            let (sent, departure, arrives) = flying.pop_front().unwrap();
            now = now.max(arrives);
            pace.arrives(now, sent, departure, block);
        }
        pace
    }

    #[test]
    fn a_window_grows_to_what_the_path_carries_and_not_far_beyond() {
        for (rate, round_trip) in [
            (1_000_000, 20),
            (10_000_000, 20),
            (10_000_000, 100),
            (20_000_000, 100),
            (1_000_000, 1),
        ] {
            let round_trip = Duration::from_millis(round_trip);
            let pace = run(rate, round_trip, 16_384, 5);
            let measured = pace.rate.best().unwrap();
            assert!(
                measured >= rate * 9 / 10 && measured <= rate * 11 / 10,
                "{measured} of {rate}"
            );
            let product = usize::try_from(u128::from(rate) * round_trip.as_micros() / 1_000_000);
            let (window, product) = (pace.window(), product.unwrap());
            assert!(window >= product, "{window} for {product}");
            let slack = usize::try_from(u128::from(rate) * WINDOW_SLACK.as_micros() / 1_000_000);
            let most = (2 * product + 2 * slack.unwrap()).max(WINDOW_BYTES_MIN + 16_384);
            assert!(window <= most, "{window} for {product}");
        }
    }

    #[test]
    fn several_ways_have_something_behind_what_one_of_them_holds_up() {
        for (rate, least, most) in [
            (100_000, 3 * WINDOW_BYTES_MIN, 3 * WINDOW_BYTES_MIN),
            (1_000_000, 250_000, 350_000),
            (8_000_000, 3 * WINDOW_BYTES_OF_WAY, 3 * WINDOW_BYTES_OF_WAY),
            (50_000_000, 2_500_000, 4_000_000),
        ] {
            let mut pace = run(rate, Duration::from_millis(20), 16_384, 5);
            let alone = pace.window();
            pace.set_ways(3);
            let window = pace.window();
            assert!((least..=most).contains(&window), "{window} at {rate}");
            pace.set_ways(1);
            assert_eq!(pace.window(), alone);
        }
    }

    #[test]
    fn answers_in_a_heap_show_no_rate_that_was_not_there() {
        let mut pace = Pace::default();
        let start = Time(1);
        let departures: Vec<_> = (0..10).map(|at| pace.departs(start, at == 0)).collect();
        let late = start + Duration::from_millis(100);
        for departure in departures {
            pace.arrives(late, start, departure, 1000);
        }
        assert_eq!(pace.rate.best(), Some(100_000));
        assert_eq!(pace.time_for(10_000), Duration::from_millis(200));
    }

    #[test]
    fn patience_follows_the_usual_delay_within_its_bounds() {
        let mut pace = Pace::default();
        assert_eq!(pace.patience(), PATIENCE_MAX);
        let mut now = Time(1);
        for _ in 0..100 {
            let departure = pace.departs(now, true);
            pace.arrives(now + Duration::from_millis(2), now, departure, 100);
            now = now + Duration::from_millis(2);
        }
        assert_eq!(pace.patience(), PATIENCE_MIN);
        for _ in 0..100 {
            let departure = pace.departs(now, true);
            pace.arrives(now + Duration::from_secs(1), now, departure, 100);
            now = now + Duration::from_secs(1);
        }
        assert!(pace.patience() >= Duration::from_secs(2) && pace.patience() < PATIENCE_MAX);
    }
}
