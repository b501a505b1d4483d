//! How fast one device writes messages into a room.

use crate::limits::{MESSAGES_A_SECOND, MESSAGES_AT_ONCE};

/// A bucket of tokens, one a message: full at first, filled at a steady rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Thousandths of tokens.
    milli: u64,
    at_ms: u64,
}

impl Rate {
    /// Returns a full bucket.
    pub(crate) const fn new(now_ms: u64) -> Self {
        Rate {
            milli: MESSAGES_AT_ONCE * 1000,
            at_ms: now_ms,
        }
    }

    /// Takes a token; else returns in how many milliseconds there is one.
    pub(crate) fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        // A clock that is set back fills nothing.
        let passed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms;
        let filled = passed.saturating_mul(MESSAGES_A_SECOND);
        self.milli = self
            .milli
            .saturating_add(filled)
            .min(MESSAGES_AT_ONCE * 1000);
        match self.milli.checked_sub(1000) {
            Some(left) => {
                self.milli = left;
                Ok(())
            }
            None => Err((1000 - self.milli).div_ceil(MESSAGES_A_SECOND)),
        }
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
