//! Longer variants of tests: the same test, more cases, by environment.
//!
//! `KINLOG_SOAK=1` asks for them, `KINLOG_SOAK_SECONDS` bounds those that have no end of their own.
//! `cargo xtask soak` sets both.

use std::time::{Duration, Instant};

/// How long a test without an end of its own runs when nothing else is said, in seconds.
const SECONDS: u64 = 600;

/// Returns whether the longer variants are asked for.
pub fn is_on() -> bool {
    std::env::var("KINLOG_SOAK").is_ok_and(|value| value == "1")
}

/// Returns `usual`, or `soak` when the longer variants are asked for.
pub fn choose<T>(usual: T, soak: T) -> T {
    if is_on() { soak } else { usual }
}

/// A time after which a test ends that has no end of its own.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the time `KINLOG_SOAK_SECONDS` from now.
    #[allow(clippy::new_without_default)] // It reads a clock.
    pub fn new() -> Self {
        let set = std::env::var("KINLOG_SOAK_SECONDS")
            .ok()
            .and_then(|seconds| seconds.parse().ok());
        Deadline(Instant::now() + Duration::from_secs(set.unwrap_or(SECONDS)))
    }

    /// Returns whether it is past.
    pub fn is_past(&self) -> bool {
        Instant::now() >= self.0
    }
}

/// Measures how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::new_without_default)] // It reads a clock.
    pub fn new() -> Self {
        Stopwatch(Instant::now())
    }

    /// Returns the time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
