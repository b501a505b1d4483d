//! The stores that are altered: about 64 KiB in all files, feeds of every kind.

use bytes::Bytes;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Kind, MemoryDisk, Options, Role, Store};
use kinlog_feeds::{FeedKey, KeyPair};
use testkit::disk::CrashDisk;
use testkit::random::Random;

use crate::support::*;

/// How the last process that used the store left it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// Closed: an index vouches for everything.
    Clean,
    /// Killed: the newest records stand behind the index, nothing vouches for the last.
    Killed,
}

pub(crate) fn options() -> Options {
    Options::new([7; 16])
        .segments(14 * 1024, 1024)
        .without_keeper()
        .checkpoint_every(24 * 1024)
}

/// Writes a store of at least `bytes` bytes of log on a disk that records how.
pub(crate) fn written(bytes: u64, stop: Stop) -> CrashDisk {
    let other = open(&MemoryDisk::new());
    let source_writer = KeyPair::from_seed(&[2; 32]);
    let source = own_feed(&other, &source_writer);
    source.append_batch(&source_writer, &blocks(0..32)).unwrap();

    let disk = CrashDisk::new();
    let store = Store::open(disk.as_disk(), options()).unwrap();
    let feed = own_feed(&store, &writer());
    let following = follower(&store, &source);
    following.apply(&[upgrade_item(&source, 0)]).unwrap();
    let plain_writer = KeyPair::from_seed(&[3; 32]);
    let plain_key = plain_writer.public_key();
    let plain = store
        .create_with_key(
            FeedKey(plain_key.0),
            &Manifest::compat(plain_key),
            Role::Own,
            Kind::Plain,
        )
        .unwrap();
    let dropped = own_feed(&store, &KeyPair::from_seed(&[4; 32]));
    dropped
        .append_batch(&KeyPair::from_seed(&[4; 32]), &blocks(0..3))
        .unwrap();
    store.drop_feed(&dropped.key()).unwrap();
    let mut random = Random::new(1);
    for step in 0.. {
        let length = feed.head().length;
        feed.append_batch(&writer(), &blocks(length..length + 1 + step % 3))
            .unwrap();
        let fill = step % 32;
        if !following.has(fill) {
            following.apply(&[block_item(&source, fill)]).unwrap();
        }
        if step % 4 == 0 {
            let size = random.index(9000);
            let large = Bytes::from(random.bytes(size));
            plain.append_batch(&plain_writer, &[large]).unwrap();
        }
        if step == 5 {
            feed.clear(2..5).unwrap();
        }
        if store.stat().unwrap().log_bytes >= bytes {
            break;
        }
    }
    if stop == Stop::Clean {
        store.close().unwrap();
    }
    disk
}
