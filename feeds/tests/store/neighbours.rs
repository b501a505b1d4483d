//! Blocks that are proved together are read together where they stand side by side: what comes is what
//! `get` returns for each, and what is damaged never comes.
#![allow(clippy::single_range_in_vec_init)] // sets of one run

use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::store::{Feed, Incoming, MemoryDisk, Store};
use kinlog_feeds::tree::{BlockSet, BlocksProof, Group};

use crate::support::*;

/// Blocks in batches of different sizes, so that records end in between; two of them cleared.
fn source(disk: &MemoryDisk, length: u64) -> (Store, Feed) {
    let store = open(disk);
    let feed = own_feed(&store, &writer());
    let (mut at, mut batch) = (0, 1);
    while at < length {
        let end = (at + batch).min(length);
        feed.append_batch(&writer(), &blocks(at..end)).unwrap();
        (at, batch) = (end, batch % 23 + 5);
    }
    (store, feed)
}

/// All of the runs below the root of a tree of `2^depth` blocks.
fn set(depth: u64, runs: &[Range<u64>]) -> BlockSet {
    BlockSet::new(vec![Group::new(depth, runs.to_vec()).unwrap()]).unwrap()
}

fn proved(feed: &Feed, set: &BlockSet) -> BlocksProof {
    *feed.prove_blocks(set).unwrap().blocks.unwrap()
}

/// Compares what a proof brings with the blocks as they were written; returns how many there are.
fn assert_values(proof: &BlocksProof) -> usize {
    for (index, value) in proof.set.blocks().zip(&proof.values) {
        assert_eq!(*value, block(index), "block {index}");
    }
    proof.values.len()
}

#[test]
fn sets_bring_what_was_appended_and_what_was_filled() {
    let (_source_store, source) = source(&MemoryDisk::new(), 128);
    let store = open(&MemoryDisk::new());
    let filled = follower(&store, &source);
    filled.apply(&[upgrade_item(&source, 0)]).unwrap();
    // The second half comes first, and block 70 alone before it.
    filled.apply(&[block_item(&source, 70)]).unwrap();
    for runs in [vec![64..70, 71..100], vec![100..128], vec![0..64]] {
        let proof = source.prove_blocks(&set(7, &runs)).unwrap();
        let all = runs.iter().map(|run| run.end - run.start).sum::<u64>();
        assert_eq!(proof.blocks.as_ref().unwrap().values.len() as u64, all);
        let manifest = None;
        let results = filled.apply(&[Incoming { proof, manifest }]).unwrap();
        assert!(results[0].is_ok(), "{results:?}");
    }
    for feed in [&source, &filled] {
        for start in 0..128 {
            for end in [start + 1, start + 2, start + 9, 128] {
                let end = end.min(128);
                let count = assert_values(&proved(feed, &set(7, &[start..end])));
                let bytes: usize = blocks(start..end).iter().map(Bytes::len).sum();
                let whole = bytes < 50_000;
                assert!(!whole || count as u64 == end - start, "{start}..{end}");
            }
        }
        let scattered: Vec<_> = (0..32).map(|at| 4 * at..4 * at + 3).collect();
        assert_values(&proved(feed, &set(7, &scattered)));
    }
}

#[test]
fn a_set_ends_before_what_was_cleared() {
    let (_store, feed) = source(&MemoryDisk::new(), 64);
    feed.clear(20..22).unwrap();
    assert_eq!(assert_values(&proved(&feed, &set(6, &[8..40]))), 12);
    assert_eq!(assert_values(&proved(&feed, &set(6, &[22..40]))), 18);
    assert!(feed.prove_blocks(&set(6, &[21..40])).is_err());
}

#[test]
fn no_altered_byte_of_a_log_comes_with_a_set() {
    let disk = MemoryDisk::new();
    let (store, feed) = source(&disk, 16);
    drop((feed, store));
    let files = disk.to_files();
    let (mut opened, mut shorter) = (0, 0);
    let names = files.keys().filter(|name| name.starts_with("log-"));
    for name in names {
        for at in (0..files[name].len()).step_by(5) {
            let mut altered = files.clone();
            altered.get_mut(name).unwrap()[at] ^= 0x10;
            let Ok(store) = try_open(&disk_of(&altered)) else {
                continue;
            };
            let feed = store.feeds().pop();
            let Some(feed) = feed.filter(|feed| feed.head().length == 16) else {
                continue;
            };
            opened += 1;
            for runs in [vec![0..16], vec![5..11]] {
                match feed.prove_blocks(&set(4, &runs)) {
                    Ok(proof) => {
                        shorter += usize::from(
                            (assert_values(&proof.blocks.unwrap()) as u64)
                                < runs[0].end - runs[0].start,
                        )
                    }
                    Err(_) => shorter += 1,
                }
            }
        }
    }
    println!("{opened} stores opened, {shorter} sets were cut or refused");
    assert!(opened > 100 && shorter > 50, "{opened} {shorter}");
}
