//! One direction of a link: when what is sent arrives, if it does.

use std::time::Duration;

use crate::random::Random;

/// What a direction of a link is like.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Time from one end to the other, without waiting.
    pub delay: Duration,
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that wait at most in front of the link; what comes on top is lost.
    pub queue_bytes: usize,
    /// Of a million packets, how many are lost.
    pub loss_ppm: u32,
    /// Of a million packets, how many arrive late by up to another delay: others overtake them.
    pub reorder_ppm: u32,
}

impl Quality {
    /// Returns a link of this round trip and rate that loses nothing; a round trip's worth may wait.
    pub fn of(round_trip: Duration, rate: u64) -> Quality {
        let product = rate as u128 * round_trip.as_micros() / 1_000_000;
        Quality {
            delay: round_trip / 2,
            rate,
            queue_bytes: (product as usize).max(64 * 1024),
            loss_ppm: 0,
            reorder_ppm: 0,
        }
    }

    /// Returns the same with so many of a million packets lost.
    pub fn losing(mut self, loss_ppm: u32) -> Quality {
        self.loss_ppm = loss_ppm;
        self
    }

    /// Returns the same with so many of a million packets late.
    pub fn reordering(mut self, reorder_ppm: u32) -> Quality {
        self.reorder_ppm = reorder_ppm;
        self
    }
}

/// A direction of a link. Times count from any moment, the same for all calls.
#[derive(Debug)]
pub struct Path {
    quality: Quality,
    random: Random,
    /// When the last byte leaves.
    free_at: Duration,
    /// When the last packet arrives that kept its place.
    last_arrival: Duration,
}

impl Path {
    /// Returns an empty link; the seed decides what is lost and what is late.
    pub fn new(quality: Quality, seed: u64) -> Path {
        Path {
            quality,
            random: Random::new(seed),
            free_at: Duration::ZERO,
            last_arrival: Duration::ZERO,
        }
    }

    /// Sends a packet; returns when it arrives, or `None` if it is lost.
    pub fn send(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        if self.waiting(now) + bytes > self.quality.queue_bytes {
            return None;
        }
        let (lost, late) = (self.draws(), self.draws());
        self.occupy(now, bytes);
        if lost < self.quality.loss_ppm {
            return None;
        }
        let arrives = self.free_at + self.quality.delay;
        if late < self.quality.reorder_ppm {
            let micros = self.quality.delay.as_micros() as u64;
            return Some(arrives + Duration::from_micros(self.random.below(micros.max(1))));
        }
        self.last_arrival = arrives.max(self.last_arrival);
        Some(self.last_arrival)
    }

    /// Sends a piece of a stream, which always arrives: what a packet would have lost comes a round trip
    /// later, and everything behind it waits. Returns when.
    pub fn stream(&mut self, now: Duration, bytes: usize) -> Duration {
        let lost = self.draws() < self.quality.loss_ppm;
        self.occupy(now, bytes);
        let again = if lost {
            2 * self.quality.delay
        } else {
            Duration::ZERO
        };
        let arrives = self.free_at + self.quality.delay + again;
        self.last_arrival = arrives.max(self.last_arrival);
        self.last_arrival
    }

    /// Returns how many bytes wait in front of the link.
    pub fn waiting(&self, now: Duration) -> usize {
        let micros = self.free_at.saturating_sub(now).as_micros();
        (micros * u128::from(self.quality.rate) / 1_000_000) as usize
    }

    /// Returns how long a stream has to wait until there is room for `bytes`.
    pub fn room_in(&self, now: Duration, bytes: usize) -> Duration {
        let over = (self.waiting(now) + bytes).saturating_sub(self.quality.queue_bytes);
        self.takes(over)
    }

    fn occupy(&mut self, now: Duration, bytes: usize) {
        self.free_at = self.free_at.max(now) + self.takes(bytes);
    }

    fn takes(&self, bytes: usize) -> Duration {
        Duration::from_nanos((bytes as u128 * 1_000_000_000 / u128::from(self.quality.rate)) as u64)
    }

    fn draws(&mut self) -> u32 {
        self.random.below(1_000_000) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn quality() -> Quality {
        Quality::of(20 * MS, 1_000_000)
    }

    /// Sends a packet of 1,000 bytes every two milliseconds; returns when each arrived.
    fn run(quality: Quality, seed: u64, packets: u32) -> Vec<Option<Duration>> {
        let mut path = Path::new(quality, seed);
        (0..packets)
            .map(|at| path.send(2 * at * MS, 1_000))
            .collect()
    }

    #[test]
    fn a_packet_takes_its_time_on_the_link_and_the_delay() {
        let mut path = Path::new(quality(), 1);
        assert_eq!(path.send(Duration::ZERO, 1_000), Some(11 * MS));
        assert_eq!(
            path.send(Duration::ZERO, 1_000),
            Some(12 * MS),
            "it waits for the first"
        );
        assert_eq!(path.send(100 * MS, 1_000), Some(111 * MS));
    }

    #[test]
    fn what_the_queue_does_not_hold_is_lost() {
        let mut path = Path::new(quality(), 1);
        let arrived = (0..200).filter(|_| path.send(Duration::ZERO, 1_000).is_some());
        assert_eq!(arrived.count(), 64 * 1024 / 1000);
        assert!(path.send(65 * MS, 1_000).is_some(), "it has drained");
    }

    #[test]
    fn so_many_of_a_million_are_lost_and_the_same_ones_each_time() {
        let lossy = quality().losing(10_000);
        let arrived = run(lossy, 7, 20_000);
        let lost = arrived.iter().filter(|at| at.is_none()).count();
        assert!((150..250).contains(&lost), "{lost} of 20,000");
        assert_eq!(arrived, run(lossy, 7, 20_000));
        assert_ne!(arrived, run(lossy, 8, 20_000));
    }

    #[test]
    fn packets_keep_their_order_but_for_those_that_are_late() {
        let in_order = |arrived: &[Option<Duration>]| {
            let pairs = arrived.windows(2);
            pairs.filter(|pair| pair[0] > pair[1]).count()
        };
        assert_eq!(in_order(&run(quality(), 3, 5_000)), 0);
        let overtaken = in_order(&run(quality().reordering(50_000), 3, 5_000));
        assert!((100..300).contains(&overtaken), "{overtaken} of 5,000");
    }

    #[test]
    fn a_stream_loses_nothing_and_waits_a_round_trip_for_what_a_packet_would_have_lost() {
        let mut path = Path::new(quality().losing(1_000_000), 1);
        assert_eq!(path.stream(Duration::ZERO, 1_000), 31 * MS);
        let mut path = Path::new(quality().losing(100_000), 5);
        let arrives: Vec<Duration> = (0..1_000).map(|at| path.stream(at * MS, 100)).collect();
        assert!(arrives.is_sorted());
        let stalled = arrives.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(stalled > 500, "{stalled} pieces waited for another");
    }

    #[test]
    fn a_stream_is_told_when_there_is_room() {
        let mut path = Path::new(quality(), 1);
        while path.room_in(Duration::ZERO, 1_000).is_zero() {
            path.stream(Duration::ZERO, 1_000);
        }
        let wait = path.room_in(Duration::ZERO, 1_000);
        assert!(wait <= MS, "{wait:?}");
        assert!(
            path.room_in(wait + Duration::from_micros(1), 1_000)
                .is_zero()
        );
    }
}
