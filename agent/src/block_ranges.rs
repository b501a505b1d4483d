//! Blocks as ranges that are ascending and apart.

use std::ops::Range;

/// Returns the blocks of any ranges.
pub(crate) fn union(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Returns the blocks of ranges that are in none of `gaps`; both are ascending and apart.
pub(crate) fn minus(ranges: &[Range<u64>], gaps: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::with_capacity(ranges.len() + gaps.len());
    for mut range in ranges.iter().cloned() {
        let first = gaps.partition_point(|gap| gap.end <= range.start);
        let within = gaps[first..].iter();
        for gap in within.take_while(|gap| gap.start < range.end) {
            left.push(range.start..gap.start);
            range.start = gap.end.max(range.start);
        }
        left.push(range);
    }
    left.retain(|range| !range.is_empty());
    left
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of one run
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(union(vec![5..7, 0..2, 3..3, 1..3]), [0..3, 5..7]);
        assert_eq!(union(vec![0..9, 2..3, 9..10]), [0..10]);
    }

    #[test]
    fn what_is_in_a_gap_is_left_out() {
        assert_eq!(minus(&[0..10], &[2..3, 4..5]), [0..2, 3..4, 5..10]);
        assert_eq!(minus(&[0..4, 6..9], &[3..7]), [0..3, 7..9]);
        assert_eq!(minus(&[3..6], &[0..1, 3..4, 6..7]), [4..6]);
        assert_eq!(minus(&[3..6], &[0..9]), []);
    }
}
