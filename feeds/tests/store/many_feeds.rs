use std::thread;

use kinlog_feeds::KeyPair;
use kinlog_feeds::store::{MemoryDisk, Options, Store};
use testkit::disk::{CrashDisk, Event};

use crate::support::*;

fn writer_of(feed: u64) -> KeyPair {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&feed.to_le_bytes());
    KeyPair::from_seed(&seed)
}

#[test]
fn a_thousand_feeds_live_in_one_store() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    for number in 0..1000 {
        let feed = own_feed(&store, &writer_of(number));
        feed.append_batch(&writer_of(number), &blocks(number..number + 2))
            .unwrap();
    }
    for clean in [false, true] {
        let store = match clean {
            false => store.clone(),
            true => {
                store.close().unwrap();
                open(&disk)
            }
        };
        let feeds = store.feeds();
        assert_eq!(feeds.len(), 1000);
        for (number, feed) in (0..).zip(&feeds) {
            assert_eq!(feed.get(0).unwrap(), Some(block(number)));
            assert_eq!(feed.get(1).unwrap(), Some(block(number + 1)));
            let found = store.feed_by_discovery(&feed.discovery_key()).unwrap();
            assert_eq!(found.key(), feed.key());
        }
        assert_eq!(store.stat().unwrap().blocks, 2000);
    }
}

#[test]
fn concurrent_appends_on_one_feed_give_each_caller_its_own_place() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    let places = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let feed = feed.clone();
                scope.spawn(move || {
                    let mut places = Vec::new();
                    for number in 0..40 {
                        let data = format!("{thread} {number}").into_bytes();
                        let appended = feed.append_batch(&writer(), &[data.into()]).unwrap();
                        places.push((appended.start, format!("{thread} {number}")));
                    }
                    places
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(feed.head().length, 320);
    for (place, data) in &places {
        assert_eq!(feed.get(*place).unwrap().unwrap(), data.as_bytes());
    }
    assert_eq!(feed.verify().unwrap().problems, vec![]);
}

#[test]
fn appends_that_wait_together_share_a_sync() {
    let disk = CrashDisk::new();
    let store = open(&disk);
    let feeds: Vec<_> = (0..16)
        .map(|number| own_feed(&store, &writer_of(number)))
        .collect();
    let before = disk.events().len();
    thread::scope(|scope| {
        for (number, feed) in (0..).zip(&feeds) {
            scope.spawn(move || {
                for _ in 0..20 {
                    feed.append_batch(&writer_of(number), &blocks(1..2))
                        .unwrap();
                }
            });
        }
    });
    let events = disk.events();
    let count = |wanted: fn(&Event) -> bool| events[before..].iter().filter(|e| wanted(e)).count();
    let syncs = count(|event| matches!(event, Event::SyncData { .. }));
    assert!(
        syncs <= 320 + 16,
        "one sync for each commit at most, with segments: {syncs}"
    );
    for feed in &feeds {
        assert_eq!(feed.head().length, 20);
        assert_eq!(feed.verify().unwrap().problems, vec![]);
    }
}

#[test]
fn nothing_is_visible_before_it_was_written_and_synced() {
    let disk = CrashDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    for number in 0..60 {
        let before = disk.events().len();
        feed.append_batch(&writer(), &blocks(number..number + 1))
            .unwrap();
        let events = disk.events();
        let last_write = events
            .iter()
            .rposition(|event| matches!(event, Event::Write { .. }))
            .unwrap();
        assert!(last_write >= before, "the append wrote");
        let Event::Write { file: written, .. } = &events[last_write] else {
            unreachable!()
        };
        let synced = events[last_write..]
            .iter()
            .any(|event| matches!(event, Event::SyncData { file } if file == written));
        assert!(
            synced,
            "the file written last was synced before the append returned"
        );
    }
    // Every file's name was made durable before the first record in it was.
    let events = disk.events();
    for (at, event) in events.iter().enumerate() {
        if let Event::Create { .. } = event {
            let next_dir = events[at..]
                .iter()
                .position(|event| *event == Event::SyncDir)
                .unwrap();
            let writes = events[at..at + next_dir]
                .iter()
                .filter(|event| matches!(event, Event::Write { .. }))
                .count();
            assert!(writes <= 1, "the header only");
        }
    }
}

#[test]
fn a_young_store_takes_little_room() {
    let disk = MemoryDisk::new();
    let store = Store::open(disk.as_disk(), Options::new([7; 16])).unwrap();
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..10)).unwrap();
    store.close().unwrap();
    let bytes: usize = disk.to_files().values().map(Vec::len).sum();
    assert!(bytes < 512 * 1024, "{bytes} bytes");
}
