//! The guard of a store's owner: asked before every signature, told of those that others made.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::store::{
    AppendError, ApplyError, Incoming, MemoryDisk, SignGuard, SignRefused, Store,
    limits::RECORD_BLOCKS_MAX,
};

use crate::support::*;

/// Allows so many signatures, and remembers what it was told.
#[derive(Debug, Default)]
struct Count {
    left: AtomicI64,
    asked_at: Mutex<Vec<u64>>,
    foreign: Mutex<Vec<(FeedKey, u64)>>,
}

impl SignGuard for Count {
    fn before_signature(
        &self,
        _feed: &FeedKey,
        synced: &dyn Fn() -> u64,
    ) -> Result<(), SignRefused> {
        self.asked_at.lock().unwrap().push(synced());
        if self.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Ok(());
        }
        let reason = "no more than that".to_owned();
        Err(SignRefused::NotCertain { reason })
    }

    fn handle_foreign_head(&self, feed: &FeedKey, length: u64) {
        self.foreign.lock().unwrap().push((*feed, length));
    }
}

fn guarded(disk: &MemoryDisk, signatures: i64) -> (Store, Arc<Count>) {
    let guard = Arc::new(Count {
        left: AtomicI64::new(signatures),
        ..Count::default()
    });
    let store = Store::open(disk.as_disk(), small().guarded(guard.clone())).unwrap();
    (store, guard)
}

#[test]
fn a_refused_signature_leaves_nothing_and_the_writer_usable() {
    let disk = MemoryDisk::new();
    let (store, guard) = guarded(&disk, 2);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..3)).unwrap();
    let before = store.synced_sequence();
    feed.append_batch(&writer(), &blocks(3..4)).unwrap();
    let refused = feed.append_batch(&writer(), &blocks(4..5)).unwrap_err();
    assert!(
        matches!(&refused, AppendError::Refused { feed: key, refused: SignRefused::NotCertain { reason } }
            if *key == feed.key() && reason == "no more than that"),
        "{refused:?}"
    );
    assert_eq!(feed.head().length, 4);
    guard.left.store(1, Ordering::Relaxed);
    feed.append_batch(&writer(), &blocks(4..5)).unwrap();
    // The sequence it was shown is that of what was durable then.
    assert_eq!(guard.asked_at.lock().unwrap()[1], before);
    let (id, synced) = (store.id(), store.synced_sequence());
    drop((feed, store));
    let store = open(&disk);
    assert_eq!((store.id(), store.synced_sequence()), (id, synced));
    assert_holds(&store.feeds()[0], 5);
}

#[test]
fn each_signed_head_asks_once() {
    let (store, guard) = guarded(&MemoryDisk::new(), 100);
    let feed = own_feed(&store, &writer());
    let asked = || guard.asked_at.lock().unwrap().len();
    feed.append_batch(&writer(), &blocks(0..50)).unwrap();
    assert_eq!(asked(), 1, "one head for the batch");
    let many = vec![Bytes::new(); RECORD_BLOCKS_MAX + 1];
    feed.append_batch(&writer(), &many).unwrap();
    assert_eq!(asked(), 3, "two heads for a batch of two records");
    feed.append_batch(&writer(), &[]).unwrap();
    assert_eq!(asked(), 3, "nothing was signed");
}

#[test]
fn heads_that_others_signed_with_our_key_are_told() {
    let newer = open(&MemoryDisk::new());
    let newer = own_feed(&newer, &writer());
    newer.append_batch(&writer(), &blocks(0..9)).unwrap();

    let (store, guard) = guarded(&MemoryDisk::new(), 100);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &blocks(0..4)).unwrap();
    let told = || std::mem::take(&mut *guard.foreign.lock().unwrap());
    assert!(feed.apply(&[upgrade_item(&newer, 4)]).unwrap()[0].is_ok());
    assert_eq!(told(), [(feed.key(), 9)]);

    let (store, guard) = guarded(&MemoryDisk::new(), 100);
    let feed = own_feed(&store, &writer());
    feed.append_batch(&writer(), &[Bytes::from_static(b"another first block")])
        .unwrap();
    // As the head of another history is asked for: from nothing to our length.
    let probe = Incoming {
        proof: newer.prove(&upgrade_request(0, 1)).unwrap(),
        manifest: None,
    };
    let results = feed.apply(&[probe]).unwrap();
    assert!(
        matches!(results[0], Err(ApplyError::Conflict { .. })),
        "{results:?}"
    );
    assert_eq!(*guard.foreign.lock().unwrap(), [(feed.key(), 9)]);

    // What others sign is no matter of the guard.
    let (store, guard) = guarded(&MemoryDisk::new(), 100);
    let followed = follower(&store, &newer);
    assert!(followed.apply(&[upgrade_item(&newer, 0)]).unwrap()[0].is_ok());
    assert_eq!(*guard.foreign.lock().unwrap(), []);
}
