//! Appends that return before they are durable: never shown before, told when lost.

use std::sync::Arc;

use kinlog_feeds::store::{AppendError, MemoryDisk, Options, Store, StoreError};
use testkit::disk::{CrashDisk, CrashPolicy, Cuts, Fault, FaultDisk};

use crate::support::*;

#[test]
fn relaxed_appends_follow_each_other_and_are_durable_after_a_sync() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    for number in 0..200 {
        let appended = feed
            .append_batch_relaxed(&writer(), &blocks(number..number + 1))
            .unwrap();
        assert_eq!((appended.start, appended.length), (number, number + 1));
    }
    // One that waits stands behind them, and has them made durable with it.
    let appended = feed.append_batch(&writer(), &blocks(200..201)).unwrap();
    assert_eq!(appended.start, 200);
    assert_holds(&feed, 201);
    feed.append_batch_relaxed(&writer(), &blocks(201..203))
        .unwrap();
    store.sync().unwrap();
    assert_holds(&feed, 203);
    feed.append_batch_relaxed(&writer(), &blocks(203..204))
        .unwrap();
    store.close().unwrap();
    drop((store, feed));
    assert_holds(&open(&disk).feeds()[0], 204);
}

#[test]
fn nothing_is_visible_that_a_power_cut_could_take() {
    let disk = CrashDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    for number in 0..200 {
        feed.append_batch_relaxed(&writer(), &blocks(number..number + 1))
            .unwrap();
        disk.mark(feed.head().length);
    }
    store.sync().unwrap();
    disk.mark(200);
    let mut cuts = Cuts::new(&disk);
    let mut judged = 0;
    while cuts.advance() {
        let visible = cuts.mark();
        if visible == 0 {
            continue;
        }
        let store = open(&cuts.image(CrashPolicy::DropPending, 0));
        let found = store.feeds()[0].head().length;
        assert!(
            found >= visible,
            "{found} left of {visible} that were visible"
        );
        judged += 1;
    }
    assert!(judged > 0);
}

#[test]
fn a_full_disk_takes_relaxed_appends_and_says_so_once() {
    let disk = FaultDisk::new(MemoryDisk::new().as_disk());
    let store = Store::open(Arc::new(disk.clone()), small()).unwrap();
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..3)).unwrap();
    disk.refuse_growth(Fault::NoSpace);
    let told = loop {
        match feed.append_batch_relaxed(&writer(), &blocks(0..40)) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let full = |error: &StoreError| matches!(error, StoreError::DiskFull { .. });
    assert!(
        matches!(&told, AppendError::Store(error) if full(error)),
        "{told:?}"
    );
    // What was taken between the loss and its telling is lost or durable, and told of too.
    let _ = store.sync();
    store.sync().unwrap();
    let length = feed.head().length;
    disk.heal();
    feed.append_batch_relaxed(&writer(), &blocks(0..2)).unwrap();
    store.sync().unwrap();
    assert_eq!(feed.head().length, length + 2);
    assert_eq!(feed.verify().unwrap().problems, vec![]);
}

#[test]
fn a_refused_sync_loses_relaxed_appends_and_every_later_call_says_so() {
    let disk = FaultDisk::new(MemoryDisk::new().as_disk());
    let store = Store::open(Arc::new(disk.clone()), Options::new([7; 16])).unwrap();
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..3)).unwrap();
    disk.refuse(disk.operations() + 1, Fault::Io, false);
    feed.append_batch_relaxed(&writer(), &blocks(3..4)).unwrap();
    let stopped = |error: &StoreError| matches!(error, StoreError::WriterStopped { .. });
    assert!(stopped(&store.sync().unwrap_err()));
    let again = feed.append_batch_relaxed(&writer(), &blocks(3..4));
    assert!(
        matches!(&again, Err(AppendError::Store(error)) if stopped(error)),
        "{again:?}"
    );
    assert_holds(&feed, 3);
}
