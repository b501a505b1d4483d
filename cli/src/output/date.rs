//! Dates as people read them, in UTC and labelled so.

use crate::output::span;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Returns a date such as `2026-11-21 05:27Z`.
pub(crate) fn date(milliseconds: u64) -> String {
    let (year, month, day) = civil(milliseconds / DAY_MS);
    let minutes = milliseconds % DAY_MS / 60_000;
    let (hour, minute) = (minutes / 60, minutes % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}Z")
}

/// Returns the time of day, such as `05:27:41`.
pub(crate) fn time(milliseconds: u64) -> String {
    let seconds = milliseconds % DAY_MS / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// Returns how long ago something was: `3 h ago`.
pub(crate) fn ago(milliseconds: u64) -> String {
    format!("{} ago", span(now_ms().saturating_sub(milliseconds) / 1000))
}

/// Returns what the machine's clock shows.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns year, month and day of a day since 1970 (days of eras of 400 years, begun in March).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00Z");
        assert_eq!(date(951_827_696_000), "2000-02-29 12:34Z");
        assert_eq!(date(1_798_761_599_999), "2026-12-31 23:59Z");
        assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00Z");
        assert_eq!(time(951_827_696_000), "12:34:56");
        // No clock makes it fail.
        assert!(date((1 << 53) - 1).ends_with('Z') && date(u64::MAX).ends_with('Z'));
    }
}
