//! From pins to what the replicator is to fetch of one feed.

use std::ops::Range;

use kinlog_feeds::replicate::{Interest, Want};

use crate::api::Selection;
use crate::block_ranges::{minus, union};

/// What one pin asks of a feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    pub(crate) selection: Selection,
    pub(crate) live: bool,
}

/// Returns the union of what several pins ask of a feed of `length` blocks known so far.
///
/// `last:N` beside ranges is counted from `length`, so it is to be asked again after an upgrade.
pub(crate) fn merge(asked: &[Asked], length: u64) -> Interest {
    let live = asked
        .iter()
        .any(|one| one.live || waits_for_blocks(&one.selection, length));
    let want = match asked {
        [] => Want::None,
        [one] => match &one.selection {
            Selection::All => Want::All,
            Selection::Range(range) => Want::Range(range.clone()),
            Selection::Last(count) => Want::Last(*count),
            open => Want::Range(blocks(open, length)),
        },
        several if several.iter().any(|one| one.selection == Selection::All) => Want::All,
        several
            if several
                .iter()
                .all(|one| matches!(one.selection, Selection::Last(_))) =>
        {
            let counts = several.iter().map(|one| match one.selection {
                Selection::Last(count) => count,
                _ => 0,
            });
            Want::Last(counts.max().unwrap_or(0))
        }
        several => Want::Ranges(union(
            several
                .iter()
                .map(|one| blocks(&one.selection, length))
                .collect(),
        )),
    };
    Interest { want, live }
}

/// Returns an interest that has these blocks too, also such as are still to come.
pub(crate) fn with_blocks(interest: Interest, blocks: &[Range<u64>]) -> Interest {
    let want = match interest.want {
        Want::All => Want::All,
        Want::None | Want::Last(_) => Want::Ranges(union(blocks.to_vec())),
        Want::Range(range) => Want::Ranges(union([&[range], blocks].concat())),
        Want::Ranges(ranges) => Want::Ranges(union([&ranges, blocks].concat())),
    };
    Interest { want, ..interest }
}

/// Returns what a single ask is to the replicator, before anything of the feed is known.
pub(crate) fn interest_of(selection: &Selection, live: bool) -> Interest {
    merge(
        &[Asked {
            selection: selection.clone(),
            live,
        }],
        0,
    )
}

/// Returns the blocks that a selection names in a feed of `length` blocks; those of a time or of a
/// number of bytes are to be [resolved](crate::core::Core::resolve) first, and are all else.
pub(crate) fn blocks(selection: &Selection, length: u64) -> Range<u64> {
    match selection {
        Selection::All | Selection::Since(_) | Selection::Newest(_) => 0..length,
        Selection::From(start) => (*start).min(length)..length,
        Selection::Range(range) => range.clone(),
        Selection::Last(count) => length.saturating_sub(*count)..length,
    }
}

/// Returns whether a range reaches beyond the blocks there are.
fn waits_for_blocks(selection: &Selection, length: u64) -> bool {
    matches!(selection, Selection::Range(range) if range.end > length)
}

/// Returns an interest without the blocks that were emptied for good, which are ascending and apart.
pub(crate) fn without(interest: Interest, length: u64, emptied: &[Range<u64>]) -> Interest {
    let whole = |range| std::iter::once(range).collect();
    let ranges: Vec<Range<u64>> = match interest.want {
        Want::None => return interest,
        Want::All => whole(0..u64::MAX),
        Want::Range(range) => whole(range),
        // Counted from what is known so far: asked again after an upgrade.
        Want::Last(count) => whole(length.saturating_sub(count)..u64::MAX),
        Want::Ranges(ranges) => union(ranges),
    };
    let left = minus(&ranges, emptied);
    Interest {
        want: Want::Ranges(left),
        live: interest.live,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(selection: Selection) -> Asked {
        Asked {
            selection,
            live: false,
        }
    }

    #[test]
    fn one_pin_is_passed_on_as_it_is() {
        assert_eq!(
            merge(&[], 9),
            Interest {
                want: Want::None,
                live: false
            }
        );
        assert_eq!(merge(&[asked(Selection::Last(3))], 9).want, Want::Last(3));
        assert_eq!(
            merge(&[asked(Selection::Range(2..4))], 9).want,
            Want::Range(2..4)
        );
        let live = Asked {
            selection: Selection::All,
            live: true,
        };
        assert_eq!(
            merge(&[live], 9),
            Interest {
                want: Want::All,
                live: true
            }
        );
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // a list of one run
    fn blocks_that_are_still_to_come_are_asked_for_beside_those_there_are() {
        let of = |want| with_blocks(Interest { want, live: true }, &[7..300]);
        assert_eq!(of(Want::Range(2..9)).want, Want::Ranges(vec![2..300]));
        assert_eq!(
            of(Want::Ranges(vec![0..1, 2..9])).want,
            Want::Ranges(vec![0..1, 2..300])
        );
        assert_eq!(of(Want::All).want, Want::All);
        assert!(of(Want::None).live);
    }

    #[test]
    fn a_range_beyond_the_end_waits_for_its_blocks() {
        assert!(merge(&[asked(Selection::Range(2..10))], 9).live);
        assert!(!merge(&[asked(Selection::Range(2..9))], 9).live);
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // a list of one run
    fn what_was_emptied_is_wanted_no_more() {
        let of = |want, emptied: &[Range<u64>]| without(Interest { want, live: true }, 20, emptied);
        let of = |want, emptied: &[Range<u64>]| of(want, emptied).want;
        assert_eq!(of(Want::None, &[1..2]), Want::None);
        let most = Want::Ranges(vec![0..3, 5..u64::MAX]);
        assert_eq!(of(Want::All, &[3..4, 4..5]), most);
        let gaps = [0..1, 3..4, 6..7];
        assert_eq!(of(Want::Range(3..6), &gaps), Want::Ranges(vec![4..6]));
        let last = Want::Ranges(vec![15..16, 17..u64::MAX]);
        assert_eq!(of(Want::Last(5), &[9..11, 16..17]), last);
        let two = Want::Ranges(vec![0..4, 8..9]);
        assert_eq!(of(two, &[0..1, 2..8]), Want::Ranges(vec![1..2, 8..9]));
    }

    #[test]
    fn several_pins_want_their_union_and_no_more() {
        let pins = [
            Selection::Range(5..7),
            Selection::Range(0..2),
            Selection::Range(1..3),
        ];
        let pins: Vec<Asked> = pins.into_iter().map(asked).collect();
        assert_eq!(merge(&pins, 20).want, Want::Ranges(vec![0..3, 5..7]));
        let mixed = [asked(Selection::Range(0..2)), asked(Selection::Last(3))];
        assert_eq!(merge(&mixed, 20).want, Want::Ranges(vec![0..2, 17..20]));
        let last = [asked(Selection::Last(2)), asked(Selection::Last(3))];
        assert_eq!(merge(&last, 20).want, Want::Last(3));
        let all = [asked(Selection::Range(0..2)), asked(Selection::All)];
        assert_eq!(merge(&all, 20).want, Want::All);
    }
}
