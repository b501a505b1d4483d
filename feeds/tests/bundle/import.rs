//! Bundles taken into a store.

use std::io::Cursor;
use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::store::{ApplyError, ImportError, Kind, Role};
use proptest::prelude::*;

use crate::support::{append, assert_holds, author, block, bundle, import, store, whole, writer};

#[test]
fn a_whole_feed_moves_to_another_store() {
    for length in [1, 7, 512, 1300, 5000] {
        let (here, there) = (store(), store());
        let feed = author(&here, Kind::Kinlog, length);
        let imported = import(&there, &whole(&feed)).unwrap();
        assert!(imported.created);
        assert_eq!((imported.length_before, imported.length), (0, length));
        assert_eq!(imported.blocks_new, length);
        assert_eq!(imported.bytes_new, feed.head().byte_length);
        let copy = there.feed(&feed.key()).unwrap();
        assert_eq!(copy.signed_head(), feed.signed_head());
        assert_eq!((copy.role(), copy.kind()), (Role::Followed, Kind::Plain));
        assert_holds(&copy, &[0..length]);
        // What was brought can be brought on, byte for byte.
        assert_eq!(whole(&copy), whole(&feed));
    }
}

#[test]
fn two_parts_make_the_union_in_either_order() {
    let here = store();
    let feed = author(&here, Kind::Kinlog, 2000);
    let one = bundle(&feed, &[0..700, 1999..2000]);
    let other = bundle(&feed, &[600..900, 1500..1501]);
    for parts in [[&one, &other], [&other, &one]] {
        let there = store();
        let results = parts.map(|part| import(&there, part).unwrap());
        assert_eq!(results[0].blocks_new + results[1].blocks_new, 902);
        assert_eq!(results[1].blocks_held, 100);
        assert_eq!((results[0].created, results[1].created), (true, false));
        let copy = there.feed(&feed.key()).unwrap();
        assert_holds(&copy, &[0..900, 1500..1501, 1999..2000]);
    }
}

fn any_ranges(length: u64) -> impl Strategy<Value = Vec<Range<u64>>> {
    proptest::collection::btree_set(0..length / 2, 1..8).prop_map(|starts| {
        let starts: Vec<u64> = starts.into_iter().map(|start| 2 * start).collect();
        starts.iter().map(|start| *start..start + 1).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_two_parts_of_heads_that_tie_make_the_union(
        first_length in 2u64..200,
        more in 0u64..200,
        one in any_ranges(40),
        other in any_ranges(40),
    ) {
        let (here, there) = (store(), store());
        let feed = author(&here, Kind::Kinlog, first_length);
        let fitting = |ranges: Vec<Range<u64>>, length| -> Vec<Range<u64>> {
            ranges.into_iter().filter(|range| range.end <= length).collect()
        };
        let one = fitting(one, first_length);
        import(&there, &bundle(&feed, &one)).unwrap();
        append(&feed, first_length + more);
        // The last block of the first head ties the second head to it.
        let mut other = fitting(other, first_length - 1);
        other.retain(|range| range.end < first_length - 1);
        other.push(first_length - 1..first_length + more);
        let imported = import(&there, &bundle(&feed, &other)).unwrap();
        prop_assert_eq!(imported.blocks_untied, 0);
        let all: Vec<Range<u64>> = one.into_iter().chain(other).collect();
        let copy = there.feed(&feed.key()).unwrap();
        prop_assert_eq!(copy.head(), feed.head());
        assert_holds(&copy, &all);
    }
}

#[test]
fn what_was_appended_since_follows_in_a_second_bundle() {
    let (here, there) = (store(), store());
    let feed = author(&here, Kind::Kinlog, 100);
    import(&there, &whole(&feed)).unwrap();
    append(&feed, 300);
    let imported = import(&there, &bundle(&feed, &[100..300])).unwrap();
    assert_eq!((imported.length_before, imported.length), (100, 300));
    assert_eq!(imported.blocks_new, 200);
    assert_holds(&there.feed(&feed.key()).unwrap(), &[0..300]);
}

#[test]
fn a_head_that_nothing_ties_to_ours_is_refused() {
    let (here, there) = (store(), store());
    let feed = author(&here, Kind::Kinlog, 100);
    import(&there, &bundle(&feed, &[0..10])).unwrap();
    append(&feed, 300);
    let refused = import(&there, &bundle(&feed, &[200..300]));
    assert!(matches!(
        refused,
        Err(ImportError::NotTied {
            ours: 100,
            theirs: 300,
            ..
        })
    ));
    assert_eq!(there.feed(&feed.key()).unwrap().head().length, 100);
}

#[test]
fn blocks_of_a_shorter_head_fill_gaps() {
    let (here, there) = (store(), store());
    let feed = author(&here, Kind::Kinlog, 900);
    let earlier = bundle(&feed, &[500..600, 896..900]);
    append(&feed, 1000);
    import(&there, &bundle(&feed, &[0..10])).unwrap();
    let imported = import(&there, &earlier).unwrap();
    assert_eq!((imported.length_before, imported.length), (1000, 1000));
    // The last four hang on a root of 900 that a feed of 1000 has below another.
    assert_eq!((imported.blocks_new, imported.blocks_untied), (100, 4));
    assert_holds(&there.feed(&feed.key()).unwrap(), &[0..10, 500..600]);
}

#[test]
fn a_feed_that_holds_it_all_takes_nothing_in() {
    let (here, there) = (store(), store());
    let feed = author(&here, Kind::Kinlog, 50);
    let bytes = whole(&feed);
    import(&there, &bytes).unwrap();
    let again = import(&there, &bytes).unwrap();
    assert_eq!((again.blocks_new, again.blocks_held), (0, 50));
    // Into the author's own store too, also after it cleared some.
    feed.clear(10..20).unwrap();
    let own = import(&here, &bytes).unwrap();
    assert_eq!((own.blocks_new, own.blocks_held), (10, 40));
    assert_eq!(feed.role(), Role::Own);
    assert_holds(&feed, &[0..50]);
}

#[test]
fn an_own_feed_never_grows_by_a_bundle() {
    let (here, there) = (store(), store());
    let newer = author(&here, Kind::Kinlog, 30);
    let older = author(&there, Kind::Kinlog, 20);
    let refused = import(&there, &whole(&newer));
    assert!(matches!(
        refused,
        Err(ImportError::OwnFeedLonger {
            ours: 20,
            theirs: 30,
            ..
        })
    ));
    assert_eq!(older.head().length, 20);
    append(&older, 21);
}

#[test]
fn another_history_is_a_conflict_whichever_is_longer() {
    for kind in [Kind::Kinlog, Kind::Plain] {
        for (held, brought) in [(20, 20), (20, 12), (20, 33), (1, 2)] {
            let (one, two, there) = (store(), store(), store());
            let first = author(&one, kind, held);
            let second = author(&two, kind, 0);
            let mut blocks: Vec<Bytes> = (0..brought).map(block).collect();
            blocks[0] = Bytes::from_static(b"another beginning");
            second.append_batch(&writer(), &blocks).unwrap();
            import(&there, &whole(&first)).unwrap();
            let refused = import(&there, &whole(&second));
            match refused {
                Err(ImportError::Refused(ApplyError::Conflict { .. })) => {}
                other => panic!("{held} held, {brought} brought: {other:?}"),
            }
            let copy = there.feed(&first.key()).unwrap();
            assert_holds(&copy, &[0..held]);
            assert_eq!(copy.head().length, held);
        }
    }
}

#[test]
fn nothing_is_stored_of_a_bundle_that_does_not_hold() {
    let (here, there) = (store(), store());
    let feed = author(&here, Kind::Kinlog, 3000);
    let good = whole(&feed);
    let mut altered = good.clone();
    let last = altered.len() - 40;
    altered[last] ^= 1;
    for bad in [&altered, &good[..good.len() - 1]] {
        assert!(matches!(import(&there, bad), Err(ImportError::Bundle(_))));
        assert!(there.feed(&feed.key()).is_none());
    }
}

#[test]
fn an_import_that_is_interrupted_goes_on_where_it_was() {
    let (here, there) = (store(), store());
    let feed = author(&here, Kind::Kinlog, 10_000);
    let bytes = whole(&feed);
    let mut asked = 0;
    there
        .import_bundle(&mut Cursor::new(&bytes), Kind::Plain, &mut |at| {
            asked += 1;
            assert!(at.blocks < at.blocks_total);
            false
        })
        .unwrap();
    assert_eq!(asked, 1);
    let copy = there.feed(&feed.key()).unwrap();
    let held = copy.info().blocks_held;
    assert!(held > 0 && held < 10_000, "{held}");
    let rest = import(&there, &bytes).unwrap();
    assert_eq!((rest.blocks_held, rest.blocks_new), (held, 10_000 - held));
    assert_holds(&copy, &[0..10_000]);
}

#[test]
fn a_block_above_the_limit_of_a_kinlog_feed_is_refused() {
    let (here, there) = (store(), store());
    let feed = author(&here, Kind::Plain, 0);
    let large = Bytes::from(vec![1; 1024 * 1024 + 1]);
    feed.append_batch(&writer(), &[large]).unwrap();
    let refused = there.import_bundle(&mut Cursor::new(whole(&feed)), Kind::Kinlog, &mut |_| true);
    assert!(matches!(
        refused,
        Err(ImportError::Refused(ApplyError::TooLarge { block: 0, .. }))
    ));
    assert!(there.feed(&feed.key()).is_none());
    assert_eq!(import(&there, &whole(&feed)).unwrap().blocks_new, 1);
}
