use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{
    AppendError, FileDisk, Kind, MemoryDisk, Options, Role, Store, StoreError,
};
use kinlog_feeds::{FeedKey, KeyPair};

use crate::support::*;

#[test]
fn appended_blocks_are_there_after_a_clean_stop() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    assert!(store.open_report().created);
    let feed = own_feed(&store, &writer());
    let appended = feed.append_batch(&writer(), &blocks(0..50)).unwrap();
    assert_eq!((appended.start, appended.length), (0, 50));
    let appended = feed.append_batch(&writer(), &blocks(50..120)).unwrap();
    assert_eq!((appended.start, appended.length), (50, 120));
    assert_eq!(appended.byte_length, feed.head().byte_length);
    assert!(
        store.stat().unwrap().segments > 1,
        "the test crosses segments"
    );
    let head = feed.signed_head();
    store.close().unwrap();

    let store = open(&disk);
    let report = store.open_report();
    assert_eq!((report.records_scanned, report.index_rebuilt), (0, false));
    let feed = store.feed(&feed.key()).unwrap();
    assert_eq!(feed.signed_head(), head);
    assert_holds(&feed, 120);
    feed.append_batch(&writer(), &blocks(120..130)).unwrap();
    assert_holds(&feed, 130);
}

#[test]
fn appended_blocks_are_there_without_a_clean_stop_and_without_index() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    for start in 0..60 {
        feed.append_batch(&writer(), &blocks(start * 2..start * 2 + 2))
            .unwrap();
    }
    let (key, info) = (feed.key(), feed.info());
    drop((feed, store));

    let store = open(&disk);
    assert!(store.open_report().index_rebuilt);
    assert_eq!(store.open_report().tail_dropped, None);
    let feed = store.feed(&key).unwrap();
    assert_eq!(feed.info(), info);
    assert_holds(&feed, 120);
    store.close().unwrap();

    let mut files = disk.to_files();
    let index = files.get_mut("index").unwrap();
    // The root is the last of it.
    *index.last_mut().unwrap() ^= 1;
    let store = open(&disk_of(&files));
    assert!(store.open_report().index_rebuilt);
    assert_holds(&store.feed(&key).unwrap(), 120);
}

#[test]
fn feeds_of_32767_32768_and_32769_blocks_reopen() {
    for length in [32_767u64, 32_768, 32_769] {
        for clean in [true, false] {
            let disk = MemoryDisk::new();
            let options = Options::new([7; 16]);
            let store = Store::open(disk.as_disk(), options.clone()).unwrap();
            let feed = own_feed(&store, &writer());
            let small: Vec<Bytes> = (0..length)
                .map(|index| Bytes::from(index.to_le_bytes().to_vec()))
                .collect();
            feed.append_batch(&writer(), &small).unwrap();
            if clean {
                store.close().unwrap();
            }
            let key = feed.key();
            drop((feed, store));

            let store = Store::open(disk.as_disk(), options.clone()).unwrap();
            let feed = store.feed(&key).unwrap();
            assert_eq!(feed.head().length, length);
            assert_eq!(feed.have().contiguous_length(), length);
            for index in [0, 1, 32_765, 32_766, length - 1] {
                assert_eq!(
                    feed.get(index).unwrap().as_ref(),
                    Some(&small[index as usize])
                );
            }
            feed.append_batch(&writer(), &small[..10]).unwrap();
            assert_eq!(feed.info().blocks_held, length + 10);
            if clean && length == 32_769 {
                assert_eq!(feed.verify().unwrap().problems, vec![]);
            }
        }
    }
}

/// Also a block that is less than a page is overwritten, and its neighbours still prove themselves.
#[test]
fn what_was_cleared_is_not_in_the_files() {
    let folder = testkit::process::Folder::new("cleared-bytes");
    let path = folder.join("store");
    let disk = FileDisk::new(&path).unwrap();
    let store = Store::open(Arc::new(disk), small()).unwrap();
    let feed = own_feed(&store, &writer());
    let long = [b"behind the green door ".repeat(900), vec![1]].concat();
    let blocks = [&b"one"[..], b"under the flowerpot", b"two", &long, b"three"];
    let blocks: Vec<Bytes> = blocks.iter().map(|one| one.to_vec().into()).collect();
    feed.append_batch(&writer(), &blocks).unwrap();
    let is_in_files = |text: &[u8]| {
        std::fs::read_dir(&path).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes.windows(text.len()).any(|window| window == text)
        })
    };
    for text in [&b"under the flowerpot"[..], b"green door"] {
        assert!(is_in_files(text));
    }
    feed.clear(1..2).unwrap();
    feed.clear(3..4).unwrap();
    feed.append_batch(&writer(), &[Bytes::new()]).unwrap();
    feed.clear(5..6).unwrap();
    for text in [&b"under the flowerpot"[..], b"green door"] {
        assert!(!is_in_files(text), "{}", String::from_utf8_lossy(text));
    }
    let store = {
        drop((store, feed));
        let disk = FileDisk::new(&path).unwrap();
        Store::open(Arc::new(disk), small()).unwrap()
    };
    let feed = store.feeds().pop().unwrap();
    assert!(feed.verify().unwrap().problems.is_empty());
    let other = open(&MemoryDisk::new());
    let follower = follower(&other, &feed);
    let items = [0, 2, 4].map(|index| block_item(&feed, index));
    follower.apply(&[upgrade_item(&feed, 0)]).unwrap();
    assert!(follower.apply(&items).unwrap().iter().all(Result::is_ok));
    assert!(feed.get(1).unwrap().is_none() && feed.get(3).unwrap().is_none());
}

#[test]
fn cleared_blocks_stay_cleared_and_their_nodes_stay() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..40)).unwrap();
    feed.clear(10..20).unwrap();
    feed.clear(40..u64::MAX).unwrap();
    for clean in [false, true] {
        if clean {
            open(&disk).close().unwrap();
        }
        let store = match clean {
            true => open(&disk),
            false => store.clone(),
        };
        let feed = store.feed(&feed.key()).unwrap();
        for index in 0..40 {
            let expected = (!(10..20).contains(&index)).then(|| block(index));
            assert_eq!(feed.get(index).unwrap(), expected);
            assert_eq!(feed.has(index), expected.is_some());
            assert!(feed.node(2 * index).unwrap().is_some());
        }
        assert_eq!(feed.info().blocks_held, 30);
        assert_eq!(feed.verify().unwrap().problems, vec![]);
        feed.append_batch(&writer(), &[]).unwrap();
        if !clean {
            store.close().unwrap();
            drop(store.clone());
        }
    }
}

#[test]
fn a_batch_above_one_record_is_one_append() {
    let disk = MemoryDisk::new();
    let store = Store::open(disk.as_disk(), Options::new([7; 16])).unwrap();
    let feed = own_feed(&store, &writer());
    let many = vec![Bytes::from_static(b"block"); 20_000];
    let appended = feed.append_batch(&writer(), &many).unwrap();
    assert_eq!((appended.start, appended.length), (0, 20_000));
    let large = vec![Bytes::from(vec![3; 1024 * 1024]); 20];
    let appended = feed.append_batch(&writer(), &large).unwrap();
    assert_eq!((appended.start, appended.length), (20_000, 20_020));
    drop(store);
    assert_eq!(feed.verify().unwrap().problems, vec![]);
    assert_eq!(feed.get(20_019).unwrap().as_ref(), Some(&large[0]));
}

#[test]
fn bad_appends_name_their_reason_and_change_nothing() {
    let store = open(&MemoryDisk::new());
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..3)).unwrap();
    let head = feed.signed_head();

    let too_large = [block(3), Bytes::from(vec![0; 1024 * 1024 + 1])];
    let error = feed.append_batch(&writer(), &too_large).unwrap_err();
    assert!(matches!(
        error,
        AppendError::TooLarge {
            block: 4,
            size: 1_048_577,
            limit: 1_048_576,
            ..
        }
    ));
    let stranger = KeyPair::from_seed(&[9; 32]);
    let error = feed.append_batch(&stranger, &blocks(3..4)).unwrap_err();
    assert!(matches!(error, AppendError::NotWritable { feed: key } if key == feed.key()));
    assert_eq!(feed.signed_head(), head);

    let unknown = store
        .create_unknown(FeedKey([5; 32]), Role::Followed, Kind::Kinlog)
        .unwrap();
    let error = unknown.append_batch(&writer(), &blocks(0..1)).unwrap_err();
    assert!(matches!(error, AppendError::NotWritable { .. }));

    store.close().unwrap();
    let error = feed.append_batch(&writer(), &blocks(3..4)).unwrap_err();
    assert!(matches!(error, AppendError::Store(StoreError::Closed)));
    assert_eq!(feed.get(2).unwrap(), Some(block(2)));
}

#[test]
fn plain_feeds_take_blocks_up_to_8_mib() {
    let store = Store::open(MemoryDisk::new().as_disk(), Options::new([7; 16])).unwrap();
    let manifest = Manifest::compat(writer().public_key());
    let key = FeedKey(writer().public_key().0);
    let feed = store
        .create_with_key(key, &manifest, Role::Own, Kind::Plain)
        .unwrap();
    assert_eq!(feed.key(), key);
    let large = Bytes::from(vec![5; 8 * 1024 * 1024]);
    feed.append_batch(&writer(), std::slice::from_ref(&large))
        .unwrap();
    assert_eq!(feed.get(0).unwrap(), Some(large.clone()));
    let larger = [Bytes::from(vec![5; 8 * 1024 * 1024 + 1])];
    let error = feed.append_batch(&writer(), &larger).unwrap_err();
    assert!(matches!(
        error,
        AppendError::TooLarge {
            limit: 8_388_608,
            ..
        }
    ));
}

#[test]
fn a_dropped_feed_is_gone_and_its_number_is_not_given_again() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..5)).unwrap();
    assert!(store.drop_feed(&feed.key()).unwrap());
    assert!(!store.drop_feed(&feed.key()).unwrap());
    assert!(store.feed(&feed.key()).is_none());
    let again = own_feed(&store, &writer());
    assert_eq!(again.head().length, 0);
    // A handle from before can write nothing that would have no owner.
    let refused = feed.append_batch(&writer(), &blocks(5..6)).unwrap_err();
    assert!(matches!(
        refused,
        AppendError::Store(StoreError::FeedDropped { .. })
    ));
    assert!(feed.clear(0..1).is_err() && feed.apply(&[]).is_err());
    again.append_batch(&writer(), &blocks(0..2)).unwrap();
    drop(store);
    drop((feed, again));
    let store = open(&disk);
    assert_eq!(store.feeds().len(), 1);
    assert_holds(&store.feeds()[0], 2);
}
