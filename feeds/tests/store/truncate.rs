//! Plain feeds that become shorter: cut by their writer, followed by readers, as it was after any
//! crash.

use bytes::Bytes;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::replicate::{Reorg, ReorgStep};
use kinlog_feeds::store::{
    ApplyError, Feed, Incoming, Kind, MemoryDisk, Options, Role, Store, TruncateError,
};
use proptest::prelude::*;
use testkit::disk::{CrashDisk, CrashPolicy, Cuts};

use crate::support::*;

fn plain(store: &Store) -> Feed {
    let manifest = Manifest::single(writer().public_key());
    store
        .create_feed(&manifest, Role::Own, Kind::Plain)
        .unwrap()
}

/// Block `index` as it was written in round `round`.
fn content(round: u64, index: u64) -> Bytes {
    Bytes::from(format!("round {round} block {index} ").repeat(1 + index as usize % 300))
}

fn append(feed: &Feed, round: u64, count: u64) {
    let start = feed.head().length;
    let blocks: Vec<_> = (start..start + count)
        .map(|index| content(round, index))
        .collect();
    feed.append_batch(&writer(), &blocks).unwrap();
}

/// Asserts that the feed holds these rounds' blocks, serves them, and verifies.
fn assert_is(feed: &Feed, fork: u64, rounds: &[u64]) {
    let info = feed.info();
    assert_eq!((info.fork, info.length), (fork, rounds.len() as u64));
    let mut bytes = 0;
    for (index, round) in (0..).zip(rounds) {
        let expected = content(*round, index);
        bytes += expected.len() as u64;
        assert_eq!(feed.get(index).unwrap(), Some(expected), "block {index}");
        block_proof(feed, index);
    }
    assert_eq!((info.byte_length, info.bytes_held), (bytes, bytes));
    assert_eq!(info.blocks_held, info.length);
    assert_eq!(feed.get(info.length).unwrap(), None);
    assert_eq!(feed.verify().unwrap().problems, vec![]);
}

#[test]
fn a_plain_feed_is_cut_and_goes_on_as_the_next_fork() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = plain(&store);
    append(&feed, 0, 20);
    let signed = feed.truncate(&writer(), 7).unwrap();
    assert_eq!((signed.head.fork, signed.head.length), (1, 7));
    assert_eq!(feed.signed_head(), Some(signed));
    let cut: Vec<u64> = vec![0; 7];
    assert_is(&feed, 1, &cut);
    append(&feed, 1, 9);
    let longer = [vec![0; 7], vec![1; 9]].concat();
    assert_is(&feed, 1, &longer);
    feed.truncate(&writer(), 0).unwrap();
    assert_is(&feed, 2, &[]);
    append(&feed, 2, 3);
    assert_is(&feed, 2, &[2, 2, 2]);

    let key = feed.key();
    drop((feed, store));
    let store = open(&disk);
    assert_is(&store.feed(&key).unwrap(), 2, &[2, 2, 2]);
    store.close().unwrap();
    drop(store);
    assert_is(&open(&disk).feed(&key).unwrap(), 2, &[2, 2, 2]);
}

#[test]
fn what_cannot_be_cut_is_refused_with_the_reason() {
    let store = open(&MemoryDisk::new());
    let own = own_feed(&store, &kinlog_feeds::KeyPair::from_seed(&[2; 32]));
    let refused = own.truncate(&kinlog_feeds::KeyPair::from_seed(&[2; 32]), 0);
    assert!(
        matches!(refused, Err(TruncateError::NotPlain { feed }) if feed == own.key()),
        "{refused:?}"
    );
    let feed = plain(&store);
    append(&feed, 0, 5);
    let refused = feed.truncate(&writer(), 6);
    let expected = (6, 5);
    assert!(
        matches!(refused, Err(TruncateError::TooShort { length, actual, .. }) if (length, actual) == expected),
        "{refused:?}"
    );
    let stranger = kinlog_feeds::KeyPair::from_seed(&[3; 32]);
    let refused = feed.truncate(&stranger, 2);
    assert!(
        matches!(refused, Err(TruncateError::NotWritable { .. })),
        "{refused:?}"
    );
    assert_is(&feed, 0, &[0; 5]);
}

#[test]
fn the_record_has_these_bytes() {
    let disk = MemoryDisk::new();
    let store = Store::open(disk.as_disk(), Options::new([7; 16]).segments(8192, 512)).unwrap();
    let feed = plain(&store);
    feed.append_batch(&writer(), &blocks(0..6)).unwrap();
    let start = store.stat().unwrap().log_bytes as usize;
    feed.truncate(&writer(), 3).unwrap();
    let end = store.stat().unwrap().log_bytes as usize;
    drop((feed, store));
    let log = disk.to_files().remove("log-00000000").unwrap();
    let hex = kinlog_feeds::text::encode_hex(&log[start..end]);
    let golden: String = include_str!("truncate.hex").split_whitespace().collect();
    assert_eq!(hex, golden);
}

/// Follows `source` onto its fork; returns how much stayed and how many answers it took.
fn follow(reader: &Feed, source: &Feed) -> (u64, usize) {
    let head = source.head();
    let mut reorg = Reorg::new(head.fork, head.length);
    for answers in 1.. {
        let request = upgrade_request(reorg.start(), head.length);
        let answer = Incoming {
            proof: source.prove(&request).unwrap(),
            manifest: None,
        };
        match reader.reorganise(reorg, answer).unwrap().unwrap() {
            ReorgStep::Ask(next) => reorg = *next,
            ReorgStep::Done { common } => return (common, answers),
        }
    }
    unreachable!("a search ends")
}

/// A reader that holds everything of `source`.
fn whole_reader(store: &Store, source: &Feed) -> Feed {
    let reader = follower(store, source);
    catch_up(&reader, source);
    reader
}

fn catch_up(reader: &Feed, source: &Feed) {
    let (from, length) = (reader.head().length, source.head().length);
    if from < length {
        let applied = reader.apply(&[upgrade_item(source, from)]).unwrap();
        assert!(applied[0].is_ok(), "{applied:?}");
    }
    let missing = (0..length).filter(|block| !reader.has(*block));
    let items: Vec<_> = missing.map(|block| block_item(source, block)).collect();
    let applied = reader.apply(&items).unwrap();
    assert!(applied.iter().all(Result::is_ok), "{applied:?}");
}

#[test]
fn a_reader_follows_onto_a_fork_and_keeps_exactly_what_stayed() {
    for (length, cut, more) in [
        (1, 0, 1),
        (8, 8, 3),
        (8, 7, 1),
        (9, 8, 0),
        (100, 64, 0),
        (100, 63, 40),
        (100, 99, 1),
        (100, 1, 200),
        (33, 17, 16),
    ] {
        let what = format!("{length} cut to {cut}, then {more} more");
        let (source_store, reader_store) = (open(&MemoryDisk::new()), open(&MemoryDisk::new()));
        let source = plain(&source_store);
        append(&source, 0, length);
        let reader = whole_reader(&reader_store, &source);
        source.truncate(&writer(), cut).unwrap();
        append(&source, 1, more);
        if source.head().length == 0 {
            continue;
        }
        let (common, answers) = follow(&reader, &source);
        assert_eq!(common, cut, "{what}");
        assert!(answers <= 9, "{what}: {answers} answers");
        assert_eq!(reader.signed_head(), source.signed_head(), "{what}");
        assert_eq!(reader.have().count(), cut, "{what}");
        for block in 0..cut {
            block_proof(&reader, block);
        }
        assert_eq!(reader.verify().unwrap().problems, vec![], "{what}");
        catch_up(&reader, &source);
        assert_is(
            &reader,
            1,
            &[vec![0; cut as usize], vec![1; more as usize]].concat(),
        );
    }
}

#[test]
fn a_reader_with_gaps_follows_and_serves_what_it_kept() {
    let (source_store, reader_store) = (open(&MemoryDisk::new()), open(&MemoryDisk::new()));
    let source = plain(&source_store);
    append(&source, 0, 200);
    let reader = follower(&reader_store, &source);
    reader.apply(&[upgrade_item(&source, 0)]).unwrap();
    for block in [3, 77, 130, 131, 180] {
        reader.apply(&[block_item(&source, block)]).unwrap();
    }
    source.truncate(&writer(), 150).unwrap();
    append(&source, 1, 90);
    let (common, _) = follow(&reader, &source);
    assert!((132..=150).contains(&common), "{common}");
    assert_eq!(reader.signed_head(), source.signed_head());
    for block in [3, 77, 130, 131] {
        assert_eq!(reader.get(block).unwrap(), Some(content(0, block)));
        block_proof(&reader, block);
    }
    assert!(!reader.has(180));
    assert_eq!(reader.verify().unwrap().problems, vec![]);
    catch_up(&reader, &source);
    assert_is(&reader, 1, &[vec![0; 150], vec![1; 90]].concat());
}

#[test]
fn an_answer_that_the_writer_did_not_sign_moves_nothing() {
    let (source_store, reader_store) = (open(&MemoryDisk::new()), open(&MemoryDisk::new()));
    let source = plain(&source_store);
    append(&source, 0, 30);
    let reader = whole_reader(&reader_store, &source);
    let before = reader.signed_head();
    let lie = source.prove(&upgrade_request(0, 30)).unwrap();
    for fork in [0, 1, 7] {
        let mut proof = lie.clone();
        proof.fork = fork;
        let manifest = None;
        let outcome = reader
            .reorganise(Reorg::new(fork, 30), Incoming { proof, manifest })
            .unwrap();
        assert!(
            matches!(
                outcome,
                Err(ApplyError::BadData { .. } | ApplyError::OtherFork { .. })
            ),
            "{outcome:?}"
        );
    }
    assert_eq!(reader.signed_head(), before);
    assert_eq!(reader.have().count(), 30);
}

/// One step of a plain feed's life.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(u64),
    Truncate(u64),
    Reopen,
    Close,
    Clear(u64),
    Follow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..40u64).prop_map(Step::Append),
        3 => (0..1000u64).prop_map(Step::Truncate),
        1 => Just(Step::Reopen),
        1 => Just(Step::Close),
        1 => (0..1000u64).prop_map(Step::Clear),
        3 => Just(Step::Follow),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_life_of_a_plain_feed_is_that_of_a_vector(steps in prop::collection::vec(step(), 1..30)) {
        let disk = MemoryDisk::new();
        let mut store = open(&disk);
        let mut feed = plain(&store);
        let key = feed.key();
        let reader_disk = MemoryDisk::new();
        let reader_store = open(&reader_disk);
        let reader = reader_store.create_unknown(key, Role::Followed, Kind::Plain).unwrap();
        // By block, the round it was written in, if it is held.
        let mut model: Vec<(u64, bool)> = Vec::new();
        let mut fork = 0;
        for (round, step) in (0..).zip(steps) {
            match step {
                Step::Append(count) => {
                    append(&feed, round, count);
                    model.extend((0..count).map(|_| (round, true)));
                }
                Step::Truncate(at) => {
                    let length = at % (model.len() as u64 + 1);
                    feed.truncate(&writer(), length).unwrap();
                    model.truncate(length as usize);
                    fork += 1;
                }
                Step::Clear(at) if !model.is_empty() => {
                    let start = at % model.len() as u64;
                    let end = (start + 3).min(model.len() as u64);
                    feed.clear(start..end).unwrap();
                    model[start as usize..end as usize].iter_mut().for_each(|block| block.1 = false);
                }
                Step::Clear(_) => {}
                Step::Reopen | Step::Close => {
                    if matches!(step, Step::Close) {
                        store.close().unwrap();
                    }
                    drop((feed, store));
                    store = open(&disk);
                    feed = store.feed(&key).unwrap();
                }
                Step::Follow if !model.is_empty() => {
                    if reader.head().length > 0 && reader.head().fork < fork {
                        follow(&reader, &feed);
                    } else if reader.head().length < model.len() as u64 {
                        let from = reader.head().length;
                        let applied = reader.apply(&[upgrade_item(&feed, from)]).unwrap();
                        prop_assert!(applied[0].is_ok(), "{:?}", applied);
                    }
                    prop_assert_eq!(reader.signed_head(), feed.signed_head());
                    for (block, (round, held)) in (0..).zip(&model) {
                        if *held {
                            reader.apply(&[block_item(&feed, block)]).unwrap();
                        }
                        if let Some(value) = reader.get(block).unwrap() {
                            prop_assert_eq!(value, content(*round, block));
                            block_proof(&reader, block);
                        } else {
                            prop_assert!(!held);
                        }
                    }
                    prop_assert_eq!(reader.verify().unwrap().problems, vec![]);
                }
                Step::Follow => {}
            }
            let info = feed.info();
            prop_assert_eq!((info.fork, info.length), (fork, model.len() as u64));
            let held = model.iter().filter(|block| block.1).count() as u64;
            prop_assert_eq!(info.blocks_held, held);
            let mut bytes = 0;
            for (block, (round, held)) in (0..).zip(&model) {
                let value = held.then(|| content(*round, block));
                bytes += value.as_ref().map_or(0, |value| value.len() as u64);
                prop_assert_eq!(feed.get(block).unwrap(), value);
            }
            prop_assert_eq!(info.bytes_held, bytes);
        }
        prop_assert_eq!(feed.verify().unwrap().problems, vec![]);
    }
}

#[test]
fn a_truncation_is_there_or_not_after_a_power_cut_at_any_operation() {
    let disk = CrashDisk::new();
    let store = open(&disk);
    let feed = plain(&store);
    append(&feed, 0, 12);
    disk.mark(1);
    feed.truncate(&writer(), 5).unwrap();
    disk.mark(2);
    append(&feed, 1, 6);
    disk.mark(3);
    feed.truncate(&writer(), 8).unwrap();
    disk.mark(4);
    store.close().unwrap();
    let key = feed.key();
    let states = [
        (0, vec![]),
        (0, vec![0; 12]),
        (1, vec![0; 5]),
        (1, [vec![0; 5], vec![1; 6]].concat()),
        (2, [vec![0; 5], vec![1; 3]].concat()),
    ];
    let mut seen = [0; 5];
    let mut cuts = Cuts::new(&disk);
    let honest = |policy: &CrashPolicy| *policy != CrashPolicy::LyingSync;
    while cuts.advance() {
        for policy in CrashPolicy::ALL.into_iter().filter(honest) {
            for seed in 0..3 {
                let what = format!("cut {} {policy:?} seed {seed}", cuts.position());
                let store = open(&cuts.image(policy, seed));
                let Some(feed) = store.feed(&key) else {
                    assert_eq!(cuts.mark(), 0, "{what}");
                    continue;
                };
                let info = feed.info();
                let state = states
                    .iter()
                    .position(|(fork, rounds)| {
                        (info.fork, info.length) == (*fork, rounds.len() as u64)
                    })
                    .unwrap_or_else(|| panic!("{what}: {info:?}"));
                assert!(state as u64 >= cuts.mark(), "{what}: {info:?}");
                assert_is(&feed, states[state].0, &states[state].1);
                seen[state] += 1;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
}
