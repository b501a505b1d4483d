//! How fast one device writes messages into a room, or is heard.

use crate::limits::{MESSAGES_A_SECOND, MESSAGES_AT_ONCE};

/// A bucket of tokens, one a message: full at first, filled at a steady rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    at_once: u64,
    a_second: u64,
    /// Thousandths of tokens.
    milli: u64,
    at_ms: u64,
}

impl Rate {
    /// Returns a full bucket for messages.
    pub(crate) const fn new(now_ms: u64) -> Self {
        Rate::of(MESSAGES_AT_ONCE, MESSAGES_A_SECOND, now_ms)
    }

    /// Returns a full bucket of so many tokens, filled with so many a second, not zero.
    pub(crate) const fn of(at_once: u64, a_second: u64, now_ms: u64) -> Self {
        Rate {
            at_once,
            a_second,
            milli: at_once * 1000,
            at_ms: now_ms,
        }
    }

    /// Takes a token; else returns in how many milliseconds there is one.
    pub(crate) fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        self.fill(now_ms);
        match self.milli.checked_sub(1000) {
            Some(left) => {
                self.milli = left;
                Ok(())
            }
            None => Err((1000 - self.milli).div_ceil(self.a_second)),
        }
    }

    /// Returns whether it is as a new one is.
    pub(crate) fn is_full(&mut self, now_ms: u64) -> bool {
        self.fill(now_ms);
        self.milli == self.at_once * 1000
    }

    fn fill(&mut self, now_ms: u64) {
        // A clock that is set back fills nothing.
        let passed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms;
        let filled = passed.saturating_mul(self.a_second);
        self.milli = self.milli.saturating_add(filled).min(self.at_once * 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_a_steady_rate() {
        let mut rate = Rate::new(0);
        for _ in 0..MESSAGES_AT_ONCE {
            assert_eq!(rate.take(0), Ok(()));
        }
        let wait = 1000 / MESSAGES_A_SECOND;
        assert_eq!(rate.take(0), Err(wait));
        assert_eq!(rate.take(wait), Ok(()));
        assert_eq!(rate.take(wait), Err(wait));
    }

    #[test]
    fn a_long_pause_fills_no_more_than_a_burst_and_a_clock_set_back_nothing() {
        let mut rate = Rate::new(1_000_000);
        assert_eq!(rate.take(0), Ok(()));
        let mut taken = 0;
        while rate.take(u64::MAX).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, MESSAGES_AT_ONCE);
        assert!(rate.take(5).is_err());
    }
}
