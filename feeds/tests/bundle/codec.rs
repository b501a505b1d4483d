//! The bytes of a bundle, and that no other bytes pass for them.

use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::bundle::{BundleError, BundleReader, BundleWriter, WriteError};
use kinlog_feeds::store::Kind;
use kinlog_feeds::text;
use proptest::prelude::*;

use crate::support::{author, block, bundle, store, verify, whole, writer};

#[test]
fn bundles_have_these_bytes() {
    let store = store();
    let feed = author(&store, Kind::Kinlog, 0);
    let blocks: Vec<Bytes> = (0..6).map(|at| format!("block {at}").into()).collect();
    feed.append_batch(&writer(), &blocks).unwrap();
    let golden: Vec<Vec<u8>> = include_str!("golden.hex")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| text::decode_hex(line).unwrap())
        .collect();
    let made = [whole(&feed), bundle(&feed, &[1..3, 5..6])];
    let shown = made.each_ref().map(|bytes| text::encode_hex(bytes));
    assert!(
        made.to_vec() == golden,
        "they are now\n{}",
        shown.join("\n")
    );
}

#[test]
fn a_whole_feed_comes_back_block_by_block() {
    for length in [1, 2, 3, 511, 512, 513, 1500] {
        let store = store();
        let feed = author(&store, Kind::Kinlog, length);
        let bytes = whole(&feed);
        let mut reader = BundleReader::new(&*bytes).unwrap();
        assert!(reader.header().is_whole());
        assert_eq!(reader.header().signed, feed.signed_head().unwrap());
        let mut next = 0;
        while let Some(run) = reader.next_run().unwrap() {
            assert_eq!(run.start, next);
            for value in &run.blocks {
                assert_eq!(*value, block(next));
                next += 1;
            }
            for node in run.nodes {
                assert_eq!(feed.node(node.index).unwrap(), Some(node));
            }
        }
        assert_eq!(next, length);
    }
}

#[test]
fn a_whole_feed_of_small_blocks_costs_ten_bytes_a_block() {
    let store = store();
    let feed = author(&store, Kind::Kinlog, 8192);
    let bytes = whole(&feed).len() as u64;
    let overhead = bytes - feed.head().byte_length;
    assert!(overhead < 10 * 8192, "{overhead} bytes for 8192 blocks");
}

fn ranges(length: u64) -> impl Strategy<Value = Vec<Range<u64>>> {
    let cuts = proptest::collection::btree_set(0..=length, 0..12);
    cuts.prop_map(|cuts| {
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let pairs = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]);
        // Ranges that touch are one.
        let mut out: Vec<Range<u64>> = Vec::new();
        for range in pairs {
            match out.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => out.push(range),
            }
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_ranges_of_a_feed_are_proved((length, ranges) in (1u64..1400).prop_flat_map(|length| (Just(length), ranges(length)))) {
        let store = store();
        let feed = author(&store, Kind::Kinlog, length);
        let bytes = bundle(&feed, &ranges);
        let summary = verify(&bytes).unwrap();
        prop_assert_eq!(&summary.header.ranges, &ranges);
        let blocks: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        prop_assert_eq!(summary.blocks, blocks);
        let expected: u64 = ranges.iter().cloned().flatten().map(|at| block(at).len() as u64).sum();
        prop_assert_eq!(summary.bytes, expected);
    }
}

/// A bundle with several runs and gaps, small enough to alter every bit of it.
fn small() -> Vec<u8> {
    let store = store();
    let feed = author(&store, Kind::Kinlog, 21);
    bundle(&feed, &[0..3, 5..7, 9..10, 16..17, 20..21])
}

#[test]
fn every_flipped_bit_is_refused() {
    let good = small();
    verify(&good).unwrap();
    assert!(good.len() < 8 * 1024, "{} bytes", good.len());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut altered = good.clone();
            altered[at] ^= 1 << bit;
            verify(&altered).expect_err(&format!("bit {bit} of byte {at}"));
        }
    }
}

#[test]
fn a_flip_in_a_block_names_the_block() {
    let store = store();
    let feed = author(&store, Kind::Kinlog, 0);
    let value = |index: u64| Bytes::from(format!("block number {index} of a thousand"));
    let blocks: Vec<Bytes> = (0..1000).map(value).collect();
    feed.append_batch(&writer(), &blocks).unwrap();
    let good = whole(&feed);
    for index in [0, 1, 3, 600, 999] {
        let value = value(index);
        let found = good.windows(value.len()).position(|bytes| *bytes == *value);
        let mut altered = good.clone();
        altered[found.unwrap() + value.len() / 2] ^= 1;
        match verify(&altered).unwrap_err() {
            BundleError::Block { block, .. } => assert_eq!(block, index),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    let good = small();
    for length in 0..good.len() {
        verify(&good[..length]).expect_err(&format!("cut to {length} bytes"));
    }
    let mut longer = good;
    longer.push(0);
    assert!(matches!(verify(&longer), Err(BundleError::Trailing { .. })));
}

#[test]
fn a_cut_names_the_first_block_that_is_not_there() {
    let store = store();
    let feed = author(&store, Kind::Kinlog, 2000);
    let good = whole(&feed);
    let end = block(1998).len() + block(1999).len() + 36;
    match verify(&good[..good.len() - end - 1]).unwrap_err() {
        BundleError::Cut { block, .. } => assert_eq!(block, 1997),
        other => panic!("{other}"),
    }
}

#[test]
fn blocks_of_another_author_are_refused() {
    // Header and frames are those of a second feed with the first feed's key in their place.
    let (one, other) = (store(), store());
    let first = author(&one, Kind::Kinlog, 4);
    let second = author(&other, Kind::Kinlog, 5);
    let mut header = second.bundle_header(vec![0..5]).unwrap();
    header.signed.signature = first.signed_head().unwrap().signature;
    let mut writer = BundleWriter::new::<()>(Vec::new(), &header).unwrap();
    while writer.write_run(&second).unwrap().is_some() {}
    let forged = writer.finish::<()>().unwrap();
    assert!(matches!(
        verify(&forged),
        Err(BundleError::Signature { length: 5, .. })
    ));
}

#[test]
fn ranges_that_are_none_are_refused_before_anything_is_written() {
    let store = store();
    let feed = author(&store, Kind::Kinlog, 10);
    for wrong in [
        vec![0..0],
        vec![Range { start: 3, end: 2 }],
        vec![0..11],
        vec![4..6, 2..3],
        vec![0..4, 3..5],
        vec![0..4, 4..5],
    ] {
        let header = feed.bundle_header(wrong.clone()).unwrap();
        let mut out = Vec::new();
        let refused = BundleWriter::new::<()>(&mut out, &header).map(drop);
        assert!(
            matches!(refused, Err(WriteError::Range { .. })),
            "{wrong:?}"
        );
        assert!(out.is_empty());
    }
}

#[test]
fn a_block_that_is_not_held_ends_the_writing() {
    let store = store();
    let feed = author(&store, Kind::Kinlog, 10);
    feed.clear(4..5).unwrap();
    let header = feed.bundle_header(vec![0..10]).unwrap();
    let mut writer = BundleWriter::new::<()>(Vec::new(), &header).unwrap();
    assert!(matches!(
        writer.write_run(&feed),
        Err(WriteError::BlockMissing { block: 4 })
    ));
    // The nodes of the cleared block still prove its neighbours.
    verify(&bundle(&feed, &[0..4, 5..10])).unwrap();
}
