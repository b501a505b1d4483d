//! Many threads on many feeds, with whatever order the machine gives them, on a disk that refuses:
//! nothing acknowledged is lost, nothing is shown before it is durable, nothing after a refusal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use kinlog_feeds::KeyPair;
use kinlog_feeds::store::{AppendError, Disk, Feed, ReadError, Store, StoreError};
use testkit::disk::{CrashDisk, CrashPolicy, Cuts, Fault, FaultDisk};
use testkit::random::Random;

use crate::support::*;

const THREADS: u64 = 8;
const FEEDS: u64 = 3;
const CALLS: u64 = 12;

/// Runs of each kind, each with a seed of its own.
const RUNS: u64 = 40;

fn author(feed: u64) -> KeyPair {
    KeyPair::from_seed(&[feed as u8 + 1; 32])
}

/// A store under test and what its callers were told.
struct Trial {
    disk: CrashDisk,
    faults: FaultDisk,
    store: Store,
    feeds: Vec<Feed>,
    /// Blocks of returned calls, of all feeds.
    acknowledged: AtomicU64,
}

/// A block that a call returned for: feed, index, content.
type Acknowledged = BTreeMap<(u64, u64), Bytes>;

impl Trial {
    fn new() -> Trial {
        let disk = CrashDisk::new();
        let faults = FaultDisk::new(disk.as_disk());
        let store = Store::open(faults.as_disk(), small()).unwrap();
        let feeds = (0..FEEDS)
            .map(|feed| own_feed(&store, &author(feed)))
            .collect();
        Trial {
            disk,
            faults,
            store,
            feeds,
            acknowledged: AtomicU64::new(0),
        }
    }

    /// Appends from all threads; `judge` looks at each refusal. Returns what was acknowledged.
    fn run(&self, seed: u64, judge: &(dyn Fn(&mut Random, &StoreError) + Sync)) -> Acknowledged {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| scope.spawn(move || self.caller(seed, thread, judge)))
                .collect();
            let mut all = Acknowledged::new();
            for thread in threads {
                for (place, content) in thread.join().unwrap() {
                    let other = all.insert(place, content);
                    assert_eq!(other, None, "seed {seed}: two calls were given {place:?}");
                }
            }
            all
        })
    }

    fn caller(
        &self,
        seed: u64,
        thread: u64,
        judge: &(dyn Fn(&mut Random, &StoreError) + Sync),
    ) -> Acknowledged {
        let mut random = Random::new(seed * THREADS + thread);
        let mut acknowledged = Acknowledged::new();
        for call in 0..CALLS {
            let number = random.below(FEEDS);
            let feed = &self.feeds[number as usize];
            let batch: Vec<Bytes> = (0..1 + random.below(4))
                .map(|at| {
                    format!("{thread} {call} {at} ")
                        .repeat(random.index(60) + 1)
                        .into()
                })
                .collect();
            match feed.append_batch(&author(number), &batch) {
                Ok(appended) => {
                    // Returned, so visible.
                    assert!(feed.head().length >= appended.length, "seed {seed}");
                    for (index, block) in (appended.start..).zip(&batch) {
                        match feed.get(index) {
                            Ok(found) => assert_eq!(found.as_ref(), Some(block), "seed {seed}"),
                            // The read itself was the operation refused.
                            Err(ReadError::Store(StoreError::Io { .. })) => {}
                            Err(error) => panic!("seed {seed}: {error:?}"),
                        }
                        acknowledged.insert((number, index), block.clone());
                    }
                    let blocks = batch.len() as u64;
                    let before = self.acknowledged.fetch_add(blocks, Ordering::SeqCst);
                    self.disk.mark(before + blocks);
                }
                Err(AppendError::Store(error)) => judge(&mut random, &error),
                Err(error) => panic!("seed {seed}: {error:?}"),
            }
        }
        acknowledged
    }

    fn lengths(&self) -> Vec<u64> {
        let heads = self.feeds.iter().map(|feed| feed.head().length);
        heads.collect()
    }
}

/// Asserts that a store opened from `disk` holds what was acknowledged; returns its lengths.
fn assert_kept(disk: Arc<dyn Disk>, acknowledged: &Acknowledged, seed: u64) -> Vec<u64> {
    let store = Store::open(disk, small()).unwrap();
    let feeds = store.feeds();
    for ((feed, index), content) in acknowledged {
        let found = feeds[*feed as usize].get(*index).unwrap();
        assert_eq!(found.as_ref(), Some(content), "seed {seed}: {feed} {index}");
    }
    for feed in &feeds {
        assert_eq!(feed.verify().unwrap().problems, vec![], "seed {seed}");
    }
    feeds.iter().map(|feed| feed.head().length).collect()
}

/// Opens what a power cut right now leaves if nothing pending survives.
fn cut_now(disk: &CrashDisk) -> CrashDisk {
    let mut cuts = Cuts::new(disk);
    while cuts.advance() {}
    cuts.image(CrashPolicy::DropPending, 0)
}

#[test]
fn what_was_acknowledged_is_durable_at_every_moment_of_a_concurrent_run() {
    let trial = Trial::new();
    let acknowledged = trial.run(1, &|_, error| panic!("{error:?}"));
    assert!(acknowledged.len() as u64 >= THREADS * CALLS);
    let mut cuts = Cuts::new(&trial.disk);
    let mut judged = 0;
    while cuts.advance() {
        let told = cuts.mark();
        if told == 0 {
            continue;
        }
        let image = cuts.image(CrashPolicy::DropPending, 0);
        let lengths = assert_kept(image.as_disk(), &Acknowledged::new(), 1);
        let left: u64 = lengths.iter().sum();
        assert!(
            left >= told,
            "{left} of {told} acknowledged blocks are left"
        );
        judged += 1;
    }
    assert!(judged > THREADS, "several groups were cut: {judged}");
}

#[test]
fn a_refused_operation_stops_all_feeds_and_takes_nothing_acknowledged() {
    let mut refused = 0;
    for seed in 0..RUNS {
        let trial = Trial::new();
        let at = trial.faults.operations() + Random::new(seed).below(60);
        let fault = [Fault::Io, Fault::ShortWrite][seed as usize % 2];
        trial.faults.refuse(at, fault, seed % 3 == 0);
        let acknowledged = trial.run(seed, &|_, error| {
            let known = matches!(
                error,
                StoreError::WriterStopped { .. } | StoreError::DiskFull { .. }
            );
            assert!(known, "seed {seed}: {error:?}");
        });
        let visible = trial.lengths();
        trial.faults.heal();
        let stopped = trial.store.sync().is_err();
        refused += u64::from(stopped);
        if stopped {
            // What is visible stays as it was at the refusal.
            for (number, feed) in (0..).zip(&trial.feeds) {
                let again = feed.append_batch(&author(number), &blocks(1..2));
                assert!(again.is_err(), "seed {seed}: the writer stays stopped");
            }
            assert_eq!(trial.lengths(), visible, "seed {seed}");
        }
        let durable = assert_kept(cut_now(&trial.disk).as_disk(), &acknowledged, seed);
        for (durable, visible) in durable.iter().zip(&visible) {
            assert!(
                durable >= visible,
                "seed {seed}: {visible} shown, {durable} durable"
            );
        }
        let _ = trial.store.close();
    }
    assert!(
        refused > RUNS / 4,
        "faults hit the writer: {refused} of {RUNS}"
    );
}

#[test]
fn a_disk_that_is_full_now_and_then_loses_nothing_and_stops_nobody() {
    let mut full = AtomicU64::new(0);
    for seed in 0..RUNS {
        let trial = Trial::new();
        trial.faults.refuse_growth(Fault::ShortWrite);
        let acknowledged = trial.run(seed, &|random, error| {
            assert!(
                matches!(error, StoreError::DiskFull { .. }),
                "seed {seed}: {error:?}"
            );
            full.fetch_add(1, Ordering::Relaxed);
            // Room comes and goes while others write.
            match random.below(2) {
                0 => trial.faults.heal(),
                _ => trial.faults.refuse_growth(Fault::NoSpace),
            }
        });
        trial.faults.heal();
        for (number, feed) in (0..).zip(&trial.feeds) {
            let length = feed.head().length;
            let appended = feed.append_batch(&author(number), &blocks(1..3)).unwrap();
            assert_eq!(
                appended.start, length,
                "seed {seed}: it goes on where it was"
            );
        }
        let visible = trial.lengths();
        let kept = assert_kept(cut_now(&trial.disk).as_disk(), &acknowledged, seed);
        assert_eq!(kept, visible, "seed {seed}");
    }
    assert!(
        *full.get_mut() > RUNS,
        "the disk was full now and then: {full:?}"
    );
}
