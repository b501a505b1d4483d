//! Bitfields against a plain set of indexes, and against peers that claim everything.
#![allow(clippy::unwrap_used)] // the model holds what was put in

use std::collections::BTreeSet;
use std::ops::Range;

use kinlog_feeds::Bitfield;
use kinlog_feeds::bitfield::PAGE_BITS;
use proptest::prelude::*;

/// Indexes reach over four pages.
const REACH: u64 = 4 * PAGE_BITS;

#[derive(Clone, Debug)]
enum Op {
    Set(u64, bool),
    SetRange(Range<u64>),
    ClearRange(Range<u64>),
    SetWords(u64, Vec<u32>),
}

/// Indexes near the edges of pages and words more often than others.
fn index() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..REACH,
        (0u64..5, -3i64..4)
            .prop_map(|(page, by)| (page * PAGE_BITS).saturating_add_signed(by).min(REACH - 1)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let range = || (index(), index()).prop_map(|(one, other)| one.min(other)..one.max(other));
    let word = prop_oneof![Just(0), Just(u32::MAX), any::<u32>()];
    prop_oneof![
        (index(), any::<bool>()).prop_map(|(index, value)| Op::Set(index, value)),
        range().prop_map(Op::SetRange),
        range().prop_map(Op::ClearRange),
        (0..REACH / 32 - 8, prop::collection::vec(word, 0..8))
            .prop_map(|(word, words)| Op::SetWords(word * 32, words)),
    ]
}

fn apply(bitfield: &mut Bitfield, model: &mut BTreeSet<u64>, op: &Op) {
    match op {
        Op::Set(index, value) => {
            let changed = bitfield.set(*index, *value);
            let expected = if *value {
                model.insert(*index)
            } else {
                model.remove(index)
            };
            assert_eq!(changed, expected);
        }
        Op::SetRange(range) => {
            bitfield.set_range(range.clone());
            model.extend(range.clone());
        }
        Op::ClearRange(range) => {
            bitfield.clear_range(range.clone());
            model.retain(|index| !range.contains(index));
        }
        Op::SetWords(start, words) => {
            bitfield.set_words(*start, words);
            for (at, word) in words.iter().enumerate() {
                for bit in 0..32 {
                    let index = start + at as u64 * 32 + bit;
                    if word >> bit & 1 == 1 {
                        model.insert(index)
                    } else {
                        model.remove(&index)
                    };
                }
            }
        }
    }
}

fn first_gap(model: &BTreeSet<u64>, from: u64) -> u64 {
    (from..).find(|index| !model.contains(index)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn behaves_as_a_set(
        ops in prop::collection::vec(op(), 1..12),
        probes in prop::collection::vec((index(), index()), 8),
    ) {
        let (mut bitfield, mut model) = (Bitfield::new(), BTreeSet::new());
        for op in &ops {
            apply(&mut bitfield, &mut model, op);
        }
        prop_assert_eq!(bitfield.count(), model.len() as u64);
        prop_assert_eq!(bitfield.is_empty(), model.is_empty());
        prop_assert_eq!(bitfield.contiguous_length(), first_gap(&model, 0));
        for (one, other) in probes {
            let range = one.min(other)..one.max(other);
            prop_assert_eq!(bitfield.get(one), model.contains(&one));
            let inside = model.range(range.clone()).count() as u64;
            prop_assert_eq!(bitfield.count_range(range.clone()), inside);
            prop_assert_eq!(bitfield.any_in(range.clone()), inside > 0);
            prop_assert_eq!(bitfield.all_in(range.clone()), inside == range.end - range.start);
            prop_assert_eq!(bitfield.first_set_from(one), model.range(one..).next().copied());
            prop_assert_eq!(bitfield.first_unset_from(one), first_gap(&model, one));
            let (mut evens, whole) = (Bitfield::new(), range.start..range.start.saturating_add(200));
            whole.clone().filter(|at| at % 2 == 0).for_each(|at| { evens.set(at, true); });
            let without: Vec<u64> = bitfield.without(&evens, whole.clone()).into_iter().flatten().collect();
            let expected: Vec<u64> = model.range(whole).copied().filter(|at| at % 2 == 1).collect();
            prop_assert_eq!(without, expected);
            let start = one / 32 * 32;
            let words = bitfield.words(start, 100);
            prop_assert_eq!(words.len(), 4);
            for (at, word) in words.iter().enumerate() {
                let expected = (0..32)
                    .filter(|bit| model.contains(&(start + at as u64 * 32 + bit)))
                    .fold(0u32, |word, bit| word | 1 << bit);
                prop_assert_eq!(*word, expected);
            }
        }
        // The same set has one form, whatever led to it.
        let runs: Bitfield = bitfield.runs(0..u64::MAX).collect();
        prop_assert_eq!(runs, bitfield);
    }
}

#[test]
fn words_of_the_wire_come_back() {
    let mut bitfield = Bitfield::new();
    bitfield.set_words(64, &[1, 0xffff_ffff]);
    assert!(bitfield.get(64) && !bitfield.get(65) && bitfield.get(96) && bitfield.get(127));
    assert_eq!(bitfield.words(64, 64), [1, 0xffff_ffff]);
    assert_eq!(bitfield.count(), 33);
}

#[test]
fn a_peer_that_claims_everything_costs_next_to_nothing() {
    let mut bitfield = Bitfield::new();
    bitfield.set_range(1..u64::MAX);
    assert_eq!(bitfield.first_unset_from(1), u64::MAX);
    assert_eq!(bitfield.count_range(0..1 << 53), (1 << 53) - 1);
    assert_eq!(bitfield.first_set_from(0), Some(1));
    bitfield.set(1 << 52, false);
    assert_eq!(bitfield.first_unset_from(1), 1 << 52);
    assert_eq!(bitfield.runs(0..1 << 53).count(), 2);
    assert_eq!(
        bitfield.parts(),
        5,
        "two runs of full pages and three edges"
    );
    bitfield.clear_range(0..u64::MAX);
    assert!(bitfield.is_empty());
    assert_eq!(bitfield.first_set_from(0), None);
}

#[test]
fn the_last_index_of_all_is_an_index_too() {
    let mut bitfield = Bitfield::new();
    assert!(bitfield.set(u64::MAX, true));
    assert!(bitfield.get(u64::MAX));
    assert_eq!(bitfield.first_set_from(5), Some(u64::MAX));
    assert_eq!(bitfield.first_unset_from(u64::MAX), u64::MAX);
    assert_eq!(bitfield.words(u64::MAX - 31, 64).len(), 1);
}
