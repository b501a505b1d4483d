//! Rowids that follow the date, so that the newest messages with a word are found first.
//!
//! A rowid says nothing and is in no dump: where a date is taken the place beside it does, further
//! off the more there are of one date, so that nobody's dates make anybody search for long.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use kinlog_feeds::crypto::FeedKey;
use rusqlite::ErrorCode;

use crate::Clock;

/// Rowids count in units of 16 ms: few digits for the full-text table, and dates in a talk differ.
const UNIT_BITS: u32 = 4;

/// Each attempt looks among 16 times as many rowids, up to 2^40.
const SPREAD_BITS: u32 = 4;
const SPREAD_BITS_MAX: u32 = 40;

/// Attempts after which something else is wrong: the last ones look among 2^40 rowids each.
const ATTEMPTS_MAX: u32 = 32;

/// Unknown to whoever writes entries, so that nobody makes them collide.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Gives `insert` rowids until one was free, and returns that.
pub(super) fn find(
    clock: &Clock,
    feed: &FeedKey,
    index: u64,
    mut insert: impl FnMut(i64) -> rusqlite::Result<usize>,
) -> rusqlite::Result<i64> {
    let first = clock.ms >> UNIT_BITS;
    let mut attempt = 0;
    loop {
        let spread = (attempt * SPREAD_BITS).min(SPREAD_BITS_MAX);
        let off = if attempt == 0 {
            0
        } else {
            HASHER.hash_one((feed.0, index, attempt)) >> (64 - spread)
        };
        let row = i64::try_from(first + off).expect("clocks are below 2^53");
        match insert(row) {
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == ErrorCode::ConstraintViolation && attempt < ATTEMPTS_MAX =>
            {
                attempt += 1;
            }
            done => return done.map(|_| row),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ten_thousand_messages_of_one_date_find_room_near_it() {
        let taken = || {
            rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT_ROWID),
                None,
            )
        };
        let (mut rows, mut attempts) = (BTreeSet::new(), 0);
        let clock = Clock {
            ms: 1_700_000_000_000,
            counter: 0,
        };
        for index in 0..10_000 {
            let row = find(&clock, &FeedKey([1; 32]), index, |row| {
                attempts += 1;
                if rows.insert(row) {
                    Ok(1)
                } else {
                    Err(taken())
                }
            });
            let off = row.unwrap() - (1_700_000_000_000 >> UNIT_BITS);
            assert!((0..1 << 24).contains(&off), "{off}");
        }
        assert!(attempts < 60_000, "{attempts}");
    }
}
