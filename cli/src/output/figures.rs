//! Numbers and keys as people read them.

use std::time::Duration;

/// Returns a size: `12 B`, `3.4 MB` (decimal units).
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// Returns a speed: `143 MB/s`.
pub(crate) fn rate(amount: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64().max(0.001);
    format!("{}/s", bytes((amount as f64 / seconds) as u64))
}

/// Returns a number with its noun: `1 block`, `2 blocks`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// Returns the first characters of a key, enough to tell a few keys apart.
pub(crate) fn short_key(key: &impl ToString) -> String {
    let text = key.to_string();
    match text.char_indices().nth(8) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Returns how long something has lasted: `40 s`, `12 min`, `3 h`, `2 days`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => count(seconds / 86_400, "day"),
    }
}

/// Returns a text in at most so many characters, the last one an ellipsis where some are missing.
pub(crate) fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        None => text.to_owned(),
        Some(_) => {
            let kept = text.chars().take(characters_max.saturating_sub(1));
            kept.chain(['…']).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_unit() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (86_399, "23 h"),
            (86_400, "1 day"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn a_text_that_is_cut_shows_it() {
        assert_eq!(cut("Adele", 5), "Adele");
        assert_eq!(cut("Adelheid", 5), "Adel…");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn sizes_read_naturally() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (65_536, "66 kB"),
            (153_621_360, "154 MB"),
        ];
        for (value, text) in cases {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(bytes(999_999), "1.0 MB");
    }

    #[test]
    fn rates_survive_no_time_at_all() {
        assert_eq!(rate(1_000, Duration::ZERO), "1.0 MB/s");
        assert_eq!(rate(150_000_000, Duration::from_secs(1)), "150 MB/s");
    }
}
