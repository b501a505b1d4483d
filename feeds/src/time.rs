//! Time as the state machines see it: a number that comes in from outside.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds since a start that the driver chose.
///
/// The cores never read a clock; a driver maps a monotonic clock to this, a simulation counts it.
/// Wall time, where one is needed, comes in as a second value.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(pub u64);

impl Time {
    /// The start that the driver chose.
    pub const ZERO: Time = Time(0);

    /// Returns the time that has passed since `earlier`, zero if it lies in the future.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, rhs: Duration) -> Time {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(micros))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;

    fn sub(self, rhs: Time) -> Duration {
        self.since(rhs)
    }
}
