//! Which blocks of a feed somebody means, and how they write it.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Which blocks of a feed: `all`, `A..B` (half-open), `A..`, `last:N`, `since:DATE` or `bytes:N`.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum Selection {
    /// Every block, also those to come.
    #[default]
    All,
    /// Blocks `start..end`.
    Range(Range<u64>),
    /// The newest `n` blocks.
    Last(u64),
    /// Blocks from this one on, also those to come.
    From(u64),
    /// Blocks since a time (milliseconds since 1970), as the author's directory dates them: at most a
    /// minute's worth too many.
    Since(u64),
    /// As many of the newest blocks as have this many bytes together.
    Newest(u64),
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Text that names no blocks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} names no blocks: expected A..B with A < B, A.., last:N with N > 0, since:YYYY-MM-DD, \
     bytes:N or all"
)]
pub struct SelectionError {
    text: String,
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::All => f.write_str("all"),
            Selection::Range(range) => write!(f, "{}..{}", range.start, range.end),
            Selection::Last(count) => write!(f, "last:{count}"),
            Selection::From(start) => write!(f, "{start}.."),
            Selection::Since(ms) if ms % DAY_MS == 0 => {
                let (year, month, day) = date(ms / DAY_MS);
                write!(f, "since:{year:04}-{month:02}-{day:02}")
            }
            Selection::Since(ms) => write!(f, "since:{ms}"),
            Selection::Newest(bytes) => write!(f, "bytes:{bytes}"),
        }
    }
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        let error = || SelectionError {
            text: text.to_owned(),
        };
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| error());
        if text == "all" {
            return Ok(Selection::All);
        }
        if let Some(count) = text.strip_prefix("last:") {
            return Some(number(count)?)
                .filter(|n| *n > 0)
                .map(Selection::Last)
                .ok_or_else(error);
        }
        if let Some(since) = text.strip_prefix("since:") {
            let ms = since.parse().ok().or_else(|| Some(days(since)? * DAY_MS));
            return ms.map(Selection::Since).ok_or_else(error);
        }
        if let Some(bytes) = text.strip_prefix("bytes:") {
            let (digits, unit) = match bytes.strip_suffix(['K', 'M', 'G']) {
                None => (bytes, 1),
                Some(digits) if bytes.ends_with('K') => (digits, 1 << 10),
                Some(digits) if bytes.ends_with('M') => (digits, 1 << 20),
                Some(digits) => (digits, 1 << 30),
            };
            let bytes = number(digits)?.checked_mul(unit).filter(|bytes| *bytes > 0);
            return bytes.map(Selection::Newest).ok_or_else(error);
        }
        let (start, end) = text.split_once("..").ok_or_else(error)?;
        if end.is_empty() {
            return number(start).map(Selection::From);
        }
        let range = number(start)?..number(end)?;
        if range.is_empty() {
            Err(error())
        } else {
            Ok(Selection::Range(range))
        }
    }
}

/// Returns the days since 1970 of a date such as `2026-01-31`.
fn days(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, '-');
    let mut next = |digits| {
        let part = parts.next().filter(|part: &&str| part.len() == digits)?;
        part.parse::<u64>().ok()
    };
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    let before = (month as usize).checked_sub(1)?;
    let in_month = month_days(year).get(before).copied()?;
    let count = days_before(year) + month_days(year)[..before].iter().sum::<u64>();
    (year >= 1970 && (1..=in_month).contains(&day)).then(|| count + day - 1)
}

/// Returns year, month and day of a count of days since 1970.
fn date(mut days: u64) -> (u64, usize, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    days -= days_before(year);
    let mut month = 0;
    while days >= month_days(year)[month] {
        days -= month_days(year)[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

/// Returns the days from 1970 to the beginning of a year.
fn days_before(year: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let years = year.saturating_sub(1970);
    365 * years + leap_days(year.max(1970) - 1) - leap_days(1969)
}

fn month_days(year: u64) -> [u64; 12] {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_round_trip() {
        for text in [
            "all",
            "0..1",
            "5..900",
            "last:7",
            "12..",
            "since:2026-11-21",
            "since:1999-12-31",
            "since:2024-02-29",
            "since:1970-01-01",
            "since:1700000000123",
            "bytes:5000",
        ] {
            assert_eq!(text.parse::<Selection>().expect("valid").to_string(), text);
        }
        assert_eq!("bytes:3K".parse(), Ok(Selection::Newest(3072)));
        assert_eq!(
            "since:2026-11-21".parse(),
            Ok(Selection::Since(1_795_219_200_000))
        );
    }

    #[test]
    fn empty_and_damaged_selections_are_refused() {
        for text in [
            "",
            "5..5",
            "6..5",
            "last:0",
            "last:",
            "a..b",
            "..",
            "..2",
            "-1..2",
            "1...2",
            "bytes:0",
            "bytes:M",
            "since:",
            "since:2026-13-01",
            "since:2026-02-29",
            "since:1969-12-31",
            "since:26-1-1",
            "since:2026-00-01",
            "since:2026-01-00",
        ] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }
}
