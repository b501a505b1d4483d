//! A feed whose writer contradicted itself: stopped for good, and nothing of it lost.

use kinlog_feeds::KeyPair;
use kinlog_feeds::conflict::{ConflictProof, Contradiction};
use kinlog_feeds::manifest::{Manifest, Verifier};
use kinlog_feeds::store::Incoming;
use kinlog_feeds::store::{
    AppendError, ApplyError, Feed, KeepConflictError, Kind, MemoryDisk, Options, Role, Store,
};
use testkit::disk::{CrashDisk, CrashPolicy, Cuts};

use crate::support::*;

/// A second history of the tests' writer: it differs from the first in every block from 4 on.
fn second_history(kind: Kind, length: u64) -> (Store, Feed) {
    let store = open(&MemoryDisk::new());
    let manifest = Manifest::single(writer().public_key());
    let feed = store.create_feed(&manifest, Role::Own, kind).unwrap();
    let mut history = blocks(0..4);
    history.extend(blocks(104..100 + length));
    feed.append_batch(&writer(), &history).unwrap();
    (store, feed)
}

/// What `other` shows of itself to somebody who holds `length` blocks.
fn shown(other: &Feed, length: u64) -> Incoming {
    Incoming {
        proof: other.prove(&upgrade_request(0, length)).unwrap(),
        manifest: None,
    }
}

fn proof_of_two(length: u64) -> ConflictProof {
    let (_store, other) = second_history(Kind::Kinlog, length);
    let store = open(&MemoryDisk::new());
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..9)).unwrap();
    feed.apply(&[shown(&other, length.min(9))]).unwrap();
    feed.conflict().unwrap().unwrap()
}

fn assert_stopped(feed: &Feed, proof: &ConflictProof) {
    assert!(feed.is_stopped());
    assert_eq!(feed.conflict().unwrap().as_ref(), Some(proof));
    assert_holds(feed, 9);
    let outcome = feed.append_batch(&writer(), &blocks(9..10));
    assert!(
        matches!(&outcome, Err(AppendError::Conflict { proof: named, .. }) if **named == *proof),
        "{outcome:?}"
    );
    let (_store, other) = second_history(Kind::Kinlog, 30);
    let outcome = feed.apply(&[shown(&other, 9)]).unwrap();
    assert!(
        matches!(&outcome[..], [Err(ApplyError::Conflict { proof: named, .. })] if **named == *proof),
        "{outcome:?}"
    );
    assert_eq!(
        feed.conflict().unwrap().as_ref(),
        Some(proof),
        "never replaced"
    );
    assert_eq!(feed.head().length, 9);
    assert_eq!(feed.verify().unwrap().problems, vec![]);
    for index in 0..9 {
        block_proof(feed, index);
    }
}

#[test]
fn a_conflict_stops_the_feed_for_good_and_what_is_held_stays() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..9)).unwrap();
    let (_other_store, other) = second_history(Kind::Kinlog, 12);
    let results = feed.apply(&[shown(&other, 9), shown(&other, 9)]).unwrap();
    let proofs: Vec<_> = results
        .iter()
        .map(|result| match result {
            Err(ApplyError::Conflict { proof, .. }) => proof.encode(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(proofs[0], proofs[1]);
    let proof = ConflictProof::decode(&proofs[0]).unwrap();
    assert_eq!(proof.heads()[0], &feed.signed_head().unwrap());
    assert_eq!(proof.heads()[1], &other.signed_head().unwrap());
    assert_stopped(&feed, &proof);

    let key = feed.key();
    drop((feed, store));
    let store = open(&disk);
    assert_stopped(&store.feed(&key).unwrap(), &proof);
    store.close().unwrap();
    drop(store);
    let store = open(&disk);
    assert_eq!(store.open_report().records_scanned, 0, "from the index");
    assert_stopped(&store.feed(&key).unwrap(), &proof);
    drop(store);
    let mut files = disk.to_files();
    files.remove("index");
    let store = open(&disk_of(&files));
    assert_stopped(&store.feed(&key).unwrap(), &proof);
}

#[test]
fn a_proof_that_somebody_else_found_stops_the_feed_too() {
    let proof = proof_of_two(12);
    let store = open(&MemoryDisk::new());
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..9)).unwrap();
    assert!(feed.keep_conflict(&proof).unwrap());
    assert!(!feed.keep_conflict(&proof).unwrap());
    assert!(!feed.keep_conflict(&proof_of_two(20)).unwrap());
    assert_stopped(&feed, &proof);

    let other = own_feed(&store, &KeyPair::from_seed(&[2; 32]));
    let outcome = other.keep_conflict(&proof);
    assert!(
        matches!(outcome, Err(KeepConflictError::OtherFeed { expected, .. }) if expected == other.key()),
        "{outcome:?}"
    );
    assert!(!other.is_stopped());
}

#[test]
fn a_reader_that_holds_nothing_is_stopped_by_a_proof() {
    let proof = proof_of_two(12);
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = store
        .create_unknown(proof.feed(), Role::Followed, Kind::Kinlog)
        .unwrap();
    feed.keep_conflict(&proof).unwrap();
    let (_source_store, source) = second_history(Kind::Kinlog, 12);
    let outcome = feed.apply(&[upgrade_item(&source, 0)]).unwrap();
    assert!(
        matches!(outcome[0], Err(ApplyError::Conflict { .. })),
        "{outcome:?}"
    );
    assert_eq!(feed.head().length, 0);
    drop((feed, store));
    assert!(open(&disk).feed(&proof.feed()).unwrap().is_stopped());
}

#[test]
fn heads_of_two_forks_stop_kinlog_feeds_only() {
    let manifest = Manifest::single(writer().public_key());
    let (_source_store, source) = second_history(Kind::Kinlog, 9);
    let head = kinlog_feeds::tree::Head {
        fork: 1,
        ..source.head()
    };
    let verifier = Verifier::new(source.key(), &manifest).unwrap();
    let signature = verifier.sign(&writer(), &head.tree_hash(), 9, 1).unwrap();
    let mut item = upgrade_item(&source, 0);
    item.proof.fork = 1;
    item.proof.upgrade.as_mut().unwrap().signature = signature;

    let store = open(&MemoryDisk::new());
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..9)).unwrap();
    feed.apply(&[item]).unwrap();
    let proof = feed.conflict().unwrap().unwrap();
    assert_eq!(proof.contradiction(), Contradiction::Fork);
    assert_stopped(&feed, &proof);

    let plain_store = open(&MemoryDisk::new());
    let plain = plain_store
        .create_feed(&manifest, Role::Followed, Kind::Plain)
        .unwrap();
    let outcome = plain.keep_conflict(&proof);
    assert!(
        matches!(outcome, Err(KeepConflictError::MayFork { .. })),
        "{outcome:?}"
    );
    assert!(!plain.is_stopped());
    // Two trees of one fork stop any feed.
    assert!(plain.keep_conflict(&proof_of_two(12)).unwrap());
}

#[test]
fn a_feed_that_is_dropped_and_added_again_starts_anew() {
    let proof = proof_of_two(12);
    let store = open(&MemoryDisk::new());
    let feed = own_feed(&store, &writer());
    feed.keep_conflict(&proof).unwrap();
    store.drop_feed(&feed.key()).unwrap();
    assert!(!own_feed(&store, &writer()).is_stopped());
}

#[test]
fn the_record_has_these_bytes() {
    let disk = MemoryDisk::new();
    let store = Store::open(disk.as_disk(), Options::new([7; 16]).segments(8192, 512)).unwrap();
    let feed = own_feed(&store, &writer());
    let start = store.stat().unwrap().log_bytes as usize;
    let proof = proof_of_two(12);
    feed.keep_conflict(&proof).unwrap();
    let end = store.stat().unwrap().log_bytes as usize;
    drop((feed, store));
    let log = disk.to_files().remove("log-00000000").unwrap();
    let record = &log[start..end];
    let hex = kinlog_feeds::text::encode_hex(record);
    let golden: String = include_str!("conflict.hex").split_whitespace().collect();
    assert_eq!(hex, golden);
    assert_eq!(&record[36..record.len() - 16], proof.encode());
}

#[test]
fn a_damaged_proof_is_reported_and_the_feed_stays_stopped() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    feed.keep_conflict(&proof_of_two(12)).unwrap();
    let key = feed.key();
    let at = store.stat().unwrap().log_bytes as usize - 40;
    store.close().unwrap();
    drop((feed, store));
    let mut files = disk.to_files();
    files.get_mut("log-00000000").unwrap()[at] ^= 1;
    let store = open(&disk_of(&files));
    let feed = store.feed(&key).unwrap();
    assert!(feed.is_stopped());
    assert!(feed.conflict().is_err());
    assert!(feed.append_batch(&writer(), &blocks(0..1)).is_err());
    assert_eq!(feed.verify().unwrap().problem_count, 1);
}

#[test]
fn a_proof_that_was_kept_survives_a_power_cut_after_any_operation() {
    a_kept_proof_survives(small());
}

/// Cuts the power after each operation of a store that is opened like this and keeps a proof.
pub(crate) fn a_kept_proof_survives(options: Options) {
    let open = |disk: &CrashDisk| Store::open(disk.as_disk(), options.clone()).unwrap();
    let proof = proof_of_two(12);
    let disk = CrashDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..9)).unwrap();
    disk.mark(1);
    feed.keep_conflict(&proof).unwrap();
    disk.mark(2);
    let other = own_feed(&store, &KeyPair::from_seed(&[2; 32]));
    other
        .append_batch(&KeyPair::from_seed(&[2; 32]), &blocks(0..3))
        .unwrap();
    store.close().unwrap();
    let key = feed.key();
    let mut found = [0, 0];
    let mut cuts = Cuts::new(&disk);
    // A disk that lies about its syncs may lose what was kept.
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
                assert_eq!(feed.verify().unwrap().problems, vec![], "{what}");
                found[usize::from(feed.is_stopped())] += 1;
                match feed.is_stopped() {
                    true => assert_stopped(&feed, &proof),
                    false => assert!(cuts.mark() < 2, "{what}: the proof is lost"),
                }
            }
        }
    }
    assert!(found[0] > 50 && found[1] > 50, "{found:?}");
}
