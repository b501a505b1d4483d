//! Power cuts after every operation of a fixed workload, under every policy.

use std::collections::BTreeMap;

use kinlog_feeds::store::{Options, Store};
use testkit::disk::{CrashDisk, CrashPolicy};

use crate::support::*;

/// Length of the own feed at each mark, and the follower's blocks then.
struct Workload {
    disk: CrashDisk,
    /// By mark: own length acknowledged, blocks the follower was told are held, cleared ones.
    acknowledged: Vec<(u64, Vec<u64>, bool)>,
}

fn options() -> Options {
    small().checkpoint_every(8 * 1024)
}

fn run_workload() -> Workload {
    let disk = CrashDisk::new();
    let mut acknowledged = vec![(0, vec![], false)];
    let mut mark = |length: u64, held: &[u64], cleared: bool| {
        disk.mark(acknowledged.len() as u64);
        acknowledged.push((length, held.to_vec(), cleared));
    };
    let other = open(&kinlog_feeds::store::MemoryDisk::new());
    let source = own_feed(&other, &kinlog_feeds::KeyPair::from_seed(&[2; 32]));
    source
        .append_batch(&kinlog_feeds::KeyPair::from_seed(&[2; 32]), &blocks(0..30))
        .unwrap();

    let store = Store::open(disk.as_disk(), options()).unwrap();
    let feed = own_feed(&store, &writer());
    let following = follower(&store, &source);
    let mut held = Vec::new();
    let mut length = 0;
    for step in 0..24 {
        feed.append_batch(&writer(), &blocks(length..length + 1 + step % 3))
            .unwrap();
        length += 1 + step % 3;
        mark(length, &held, false);
        if step == 2 {
            assert!(following.apply(&[upgrade_item(&source, 0)]).unwrap()[0].is_ok());
        }
        if step > 2 {
            let next = [step, (step + 11) % 30];
            let items: Vec<_> = next
                .iter()
                .map(|index| block_item(&source, *index))
                .collect();
            assert!(following.apply(&items).unwrap().iter().all(Result::is_ok));
            held.extend(next);
            mark(length, &held, false);
        }
    }
    feed.clear(3..5).unwrap();
    mark(length, &held, true);
    store.close().unwrap();
    mark(length, &held, true);
    Workload { disk, acknowledged }
}

fn check(workload: &Workload, mark: u64, files: &BTreeMap<String, Vec<u8>>, what: &str) {
    let (length, held, cleared) = &workload.acknowledged[mark as usize];
    let disk = disk_of(files);
    let store = Store::open(disk.as_disk(), options()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let own = store
        .feeds()
        .into_iter()
        .find(|feed| feed.role() == kinlog_feeds::store::Role::Own);
    let Some(own) = own else {
        assert_eq!(*length, 0, "{what}: the feed is lost");
        return;
    };
    let found = own.head().length;
    assert!(
        found >= *length,
        "{what}: {found} blocks of {length} acknowledged"
    );
    for index in 0..found {
        let value = own.get(index).unwrap();
        // Acknowledged clears are cleared; others may be.
        let gone = (3..5).contains(&index);
        match value {
            Some(value) => {
                assert_eq!(value, block(index), "{what}: block {index}");
                assert!(!(gone && *cleared), "{what}: block {index} came back");
            }
            None => assert!(gone, "{what}: block {index} is gone"),
        }
    }
    assert_eq!(own.verify().unwrap().problems, vec![], "{what}");
    if let Some(following) = store
        .feeds()
        .into_iter()
        .find(|feed| feed.role() != kinlog_feeds::store::Role::Own)
    {
        for index in held {
            assert_eq!(
                following.get(*index).unwrap(),
                Some(block(*index)),
                "{what}"
            );
        }
        for index in following.have().runs(0..30).flatten() {
            assert_eq!(following.get(index).unwrap(), Some(block(index)), "{what}");
            block_proof(&following, index);
        }
        assert_eq!(following.verify().unwrap().problems, vec![], "{what}");
    } else {
        assert!(held.is_empty(), "{what}");
    }
    // The feed goes on, and what recovery did holds.
    own.append_batch(&writer(), &blocks(found..found + 1))
        .unwrap();
    let key = own.key();
    drop((own, store));
    let store = Store::open(disk.as_disk(), options()).unwrap();
    assert_eq!(
        store.open_report().tail_dropped,
        None,
        "{what}: recovered once is recovered"
    );
    let own = store.feed(&key).unwrap();
    assert_eq!(own.head().length, found + 1, "{what}");
    assert_eq!(own.get(found).unwrap(), Some(block(found)), "{what}");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_after_every_operation() {
    let workload = run_workload();
    let events = workload.disk.events().len();
    let mut images = 0;
    for cut in 0..=events {
        let mark = workload.disk.mark_before(cut).unwrap_or(0);
        for policy in CrashPolicy::ALL {
            let seeds = match policy {
                CrashPolicy::DropPending | CrashPolicy::KeepPending | CrashPolicy::NamesLost => 1,
                _ => 3,
            };
            for seed in 0..seeds {
                let files = workload.disk.image(cut, policy, seed * 7919 + cut as u64);
                check(
                    &workload,
                    mark,
                    &files,
                    &format!("cut {cut} {policy:?} seed {seed}"),
                );
                images += 1;
            }
        }
    }
    println!("{images} crash images of {events} operations");
    assert!(images > 2000, "the workload is long enough: {images}");
}

#[test]
fn a_power_cut_during_recovery_is_recovered_from() {
    let workload = run_workload();
    let events = workload.disk.events().len();
    for cut in (0..=events).step_by(9) {
        let mark = workload.disk.mark_before(cut).unwrap_or(0);
        let files = workload.disk.image(cut, CrashPolicy::TornWrite, cut as u64);
        let again = CrashDisk::from_files(&files);
        let before = again.events().len();
        let store = Store::open(again.as_disk(), options()).unwrap();
        drop(store);
        for second in before..=again.events().len() {
            for policy in CrashPolicy::ALL {
                let files = again.image(second, policy, second as u64);
                check(
                    &workload,
                    mark,
                    &files,
                    &format!("cut {cut}, then {second} {policy:?}"),
                );
            }
        }
    }
}
