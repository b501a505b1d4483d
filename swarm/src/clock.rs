//! The one clock of a node: monotonic time as its state machines take it.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kinlog_feeds::Time;
use tokio::time::Instant;

/// Maps the runtime's clock to [`Time`]; copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    rate: NonZeroU32,
}

impl Clock {
    /// Starts a clock that runs `rate` times as fast as the runtime's.
    pub(crate) fn start(rate: NonZeroU32) -> Self {
        Clock {
            start: Instant::now(),
            rate,
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed() * self.rate.get()
    }

    /// Sleeps until `at`, for ever when there is nothing to wait for.
    pub(crate) async fn sleep_until(&self, at: Option<Time>) {
        match at {
            Some(at) => {
                let wait = at.since(Time::ZERO) / self.rate.get();
                tokio::time::sleep_until(self.start + wait).await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Returns the wall time in seconds since 1970, by which topics roll.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
