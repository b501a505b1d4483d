//! A disk that refuses an operation: a typed error, no further writes, nothing lost.

use std::sync::Arc;

use kinlog_feeds::store::{AppendError, Disk as _, Feed, MemoryDisk, Options, Store, StoreError};
use testkit::disk::{Fault, FaultDisk};

use crate::support::*;

/// Runs a workload until the first error; returns what was acknowledged of both feeds.
fn run(disk: &FaultDisk) -> (u64, Vec<u64>, Option<(Store, Feed, AppendError)>) {
    let other = open(&MemoryDisk::new());
    let source_writer = kinlog_feeds::KeyPair::from_seed(&[2; 32]);
    let source = own_feed(&other, &source_writer);
    source.append_batch(&source_writer, &blocks(0..20)).unwrap();

    let (mut length, mut held) = (0, Vec::new());
    let options = small().checkpoint_every(6 * 1024);
    let Ok(store) = Store::open(Arc::new(disk.clone()), options) else {
        return (length, held, None);
    };
    let manifest = kinlog_feeds::manifest::Manifest::single(writer().public_key());
    use kinlog_feeds::store::{Kind, Role};
    let Ok(feed) = store.create_feed(&manifest, Role::Own, Kind::Kinlog) else {
        return (length, held, None);
    };
    let Ok(following) = store.create_unknown(source.key(), Role::Followed, Kind::Kinlog) else {
        return (length, held, None);
    };
    if following.apply(&[upgrade_item(&source, 0)]).is_err() {
        return (length, held, None);
    }
    for step in 0..12 {
        match feed.append_batch(&writer(), &blocks(length..length + 2)) {
            Ok(appended) => length = appended.length,
            Err(error) => return (length, held, Some((store, feed, error))),
        }
        match following.apply(&[block_item(&source, step)]) {
            Ok(results) => {
                assert!(results[0].is_ok());
                held.push(step);
            }
            Err(_) => return (length, held, None),
        }
    }
    let _ = store.close();
    (length, held, None)
}

fn check(disk: &MemoryDisk, length: u64, held: &[u64], what: &str) {
    let store = open(disk);
    let feeds = store.feeds();
    if length > 0 {
        let feed = &feeds[0];
        let found = feed.head().length;
        assert!(found >= length, "{what}: {found} of {length}");
        for index in 0..found {
            assert_eq!(feed.get(index).unwrap(), Some(block(index)), "{what}");
        }
        feed.append_batch(&writer(), &blocks(found..found + 1))
            .unwrap();
        assert_eq!(feed.verify().unwrap().problems, vec![], "{what}");
    }
    for index in held {
        assert_eq!(feeds[1].get(*index).unwrap(), Some(block(*index)), "{what}");
    }
}

#[test]
fn every_refused_operation_is_an_error_that_loses_nothing() {
    let healthy = FaultDisk::new(MemoryDisk::new().as_disk());
    let (length, held, _) = run(&healthy);
    assert_eq!((length, held.len()), (24, 12));
    let operations = healthy.operations();
    assert!(operations > 60, "the workload is long enough: {operations}");
    for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite] {
        for persistent in [false, true] {
            for at in 0..operations {
                let memory = MemoryDisk::new();
                let disk = FaultDisk::new(memory.as_disk());
                disk.refuse(at, fault, persistent);
                let (length, held, stopped) = run(&disk);
                let what = format!("{fault:?} at {at}, persistent {persistent}");
                assert!(disk.fired(), "{what}");
                if let Some((store, feed, error)) = stopped {
                    assert!(matches!(error, AppendError::Store(_)), "{what}: {error:?}");
                    disk.heal();
                    assert_eq!(
                        feed.head().length,
                        length,
                        "{what}: nothing of it is visible"
                    );
                    if let AppendError::Store(StoreError::DiskFull { .. }) = error {
                        assert_ne!(fault, Fault::Io, "{what}");
                        let again = feed.append_batch(&writer(), &blocks(length..length + 2));
                        assert_eq!(again.unwrap().start, length, "{what}: there is room again");
                        store.close().unwrap();
                        check(&memory, length + 2, &held, &what);
                        continue;
                    }
                    let again = feed.append_batch(&writer(), &blocks(0..1));
                    assert!(
                        matches!(
                            again,
                            Err(AppendError::Store(StoreError::WriterStopped { .. }))
                        ),
                        "{what}: the writer stays stopped: {again:?}"
                    );
                    assert_eq!(
                        feed.head().length,
                        length,
                        "{what}: nothing more is visible"
                    );
                    for index in 0..length {
                        assert_eq!(feed.get(index).unwrap(), Some(block(index)), "{what}");
                    }
                    assert!(store.close().is_err(), "{what}");
                }
                check(&memory, length, &held, &what);
            }
        }
    }
}

#[test]
fn readers_go_on_when_the_writer_has_stopped() {
    let disk = FaultDisk::new(MemoryDisk::new().as_disk());
    let store = Store::open(Arc::new(disk.clone()), Options::new([7; 16])).unwrap();
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..10)).unwrap();
    // Write, then sync: the second operation from here.
    disk.refuse(disk.operations() + 1, Fault::Io, false);
    let error = feed.append_batch(&writer(), &blocks(10..11)).unwrap_err();
    let AppendError::Store(error) = error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(
            error,
            StoreError::WriterStopped { .. } | StoreError::Io { .. }
        ),
        "{error:?}"
    );
    assert_holds(&feed, 10);
    assert_eq!(block_proof(&feed, 4).block.unwrap().value, block(4));
}

/// Fills a store until its disk is full; returns it with the feed and the disk.
fn full_store(fault: Fault) -> (FaultDisk, Store, Feed) {
    let disk = FaultDisk::new(MemoryDisk::new().as_disk());
    let store = Store::open(Arc::new(disk.clone()), small()).unwrap();
    let feed = own_feed(&store, &writer());
    disk.refuse_growth(fault);
    loop {
        let length = feed.head().length;
        match feed.append_batch(&writer(), &blocks(length..length + 3)) {
            Ok(_) => {}
            Err(AppendError::Store(StoreError::DiskFull { needed, free })) => {
                assert!(needed > 0 && free == 0, "{needed} {free}");
                return (disk, store, feed);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn a_full_disk_refuses_appends_and_takes_them_again_when_there_is_room() {
    for fault in [Fault::NoSpace, Fault::ShortWrite] {
        let (disk, store, feed) = full_store(fault);
        let length = feed.head().length;
        assert!(length > 0);
        for _ in 0..3 {
            let again = feed.append_batch(&writer(), &blocks(length..length + 3));
            let full = matches!(again, Err(AppendError::Store(StoreError::DiskFull { .. })));
            assert!(full, "{again:?}");
        }
        assert_holds(&feed, length);
        disk.heal();
        feed.append_batch(&writer(), &blocks(length..length + 3))
            .unwrap();
        assert_holds(&feed, length + 3);
        store.close().unwrap();
        drop((store, feed));
        let store = Store::open(Arc::new(disk), small()).unwrap();
        assert_holds(&store.feeds()[0], length + 3);
    }
}

#[test]
fn a_full_disk_gives_back_what_it_took_of_the_zeros() {
    let (disk, store, _) = full_store(Fault::ShortWrite);
    let segment = disk.open("log-00000000", false).unwrap();
    let size = segment.size().unwrap();
    assert_eq!(
        size % 4096,
        0,
        "whole steps only, not the half of a refused one: {size}"
    );
    drop(store);
}

#[test]
fn what_was_submitted_behind_a_refused_append_is_refused_with_it() {
    use std::thread;
    let (disk, _store, feed) = full_store(Fault::NoSpace);
    let length = feed.head().length;
    // Many callers build on each other's heads while all of it is refused.
    let refused = thread::scope(|scope| {
        let callers: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| feed.append_batch(&writer(), &blocks(0..40))))
            .collect();
        let outcomes = callers.into_iter().map(|caller| caller.join().unwrap());
        outcomes.filter(Result::is_err).count()
    });
    assert_eq!(refused, 16);
    assert_eq!(feed.head().length, length);
    disk.heal();
    feed.append_batch(&writer(), &blocks(length..length + 1))
        .unwrap();
    assert_holds(&feed, length + 1);
}
