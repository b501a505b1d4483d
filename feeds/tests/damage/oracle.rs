//! What may be seen of an altered store.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::store::{Feed, OpenError, Options, ReadError, Store};
use kinlog_feeds::tree::SignedHead;
use testkit::disk::CrashDisk;
use testkit::soak::Stopwatch;

use crate::ALLOCATOR;
use crate::stores::options;
use crate::support::*;

/// Memory that opening and reading a store may take beside twice its files, 2 MiB: windows of
/// 256 KiB, the tables of empty caches, and the disk of the test itself.
const MEMORY_BESIDE: usize = 2 * 1024 * 1024;

/// Time that one case may take: a hundred times what it does.
const TIME_MAX: Duration = Duration::from_secs(1);

/// What an alteration may have done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Allowed {
    /// A typed error that names the feed and block, or all of the content. What is missing without
    /// an error was told of as a dropped tail.
    Told,
    /// The same, or a valid shorter history: what was cut off or is older than it should be cannot
    /// be told from a log that ended there, where no index vouches for more.
    Shorter,
    /// The checks were made to hold: anything but other bytes of a block.
    Forged,
}

/// What a store holds before it is altered.
pub(crate) struct Content {
    feeds: BTreeMap<FeedKey, Holding>,
    options: Options,
    files_bytes: usize,
}

struct Holding {
    signed: Option<SignedHead>,
    manifest: Option<Manifest>,
    blocks: Vec<Option<Bytes>>,
}

impl Content {
    /// Takes down what an unaltered store holds.
    pub(crate) fn of(disk: &CrashDisk) -> Content {
        Content::with(disk, options())
    }

    /// Takes down what it holds, to be compared with altered stores that are opened like this.
    pub(crate) fn with(disk: &CrashDisk, options: Options) -> Content {
        let disk = disk.fork();
        let files_bytes = disk.to_files().values().map(Vec::len).sum();
        let store = Store::open(disk.as_disk(), options.clone()).unwrap();
        assert_eq!(store.open_report().tail_dropped, None);
        let feeds = store.feeds().into_iter().map(|feed| {
            let blocks = (0..feed.head().length).map(|index| feed.get(index).unwrap());
            let holding = Holding {
                signed: feed.signed_head(),
                manifest: feed.manifest(),
                blocks: blocks.collect(),
            };
            (feed.key(), holding)
        });
        Content {
            feeds: feeds.collect(),
            options,
            files_bytes,
        }
    }

    /// Opens and reads an altered store; returns whether that was an error somewhere.
    pub(crate) fn check(&self, altered: &CrashDisk, allowed: Allowed, what: &str) -> bool {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let watch = Stopwatch::new();
        let erred = self.read(altered, allowed, what);
        let (took, peak) = (watch.elapsed(), ALLOCATOR.peak_usage() - before);
        assert!(took < TIME_MAX, "{what}: took {took:?}");
        let limit = 2 * self.files_bytes + MEMORY_BESIDE;
        assert!(
            peak < limit,
            "{what}: {peak} bytes of memory, {limit} allowed"
        );
        erred
    }

    fn read(&self, altered: &CrashDisk, allowed: Allowed, what: &str) -> bool {
        let store = match Store::open(altered.as_disk(), self.options.clone()) {
            Ok(store) => store,
            Err(error) => {
                assert!(
                    !matches!(error, OpenError::Locked { .. }),
                    "{what}: {error:?}"
                );
                return true;
            }
        };
        let missing_is_told =
            store.open_report().tail_dropped.is_some() || allowed != Allowed::Told;
        let mut erred = false;
        for (key, holding) in &self.feeds {
            match store.feed(key) {
                Some(feed) => erred |= self.read_feed(&feed, holding, missing_is_told, what),
                None => assert!(missing_is_told, "{what}: feed {key} is gone"),
            }
        }
        let unknown = |feed: &Feed| !self.feeds.contains_key(&feed.key());
        if allowed == Allowed::Told {
            assert!(
                missing_is_told || !store.feeds().iter().any(unknown),
                "{what}: a feed more"
            );
        }
        erred
    }

    fn read_feed(&self, feed: &Feed, holding: &Holding, missing_is_told: bool, what: &str) -> bool {
        let key = feed.key();
        let length = feed.head().length;
        if !missing_is_told {
            assert_eq!(feed.signed_head(), holding.signed, "{what}: feed {key}");
            assert_eq!(feed.manifest(), holding.manifest, "{what}: feed {key}");
        }
        let mut erred = false;
        for (index, expected) in (0..).zip(&holding.blocks) {
            match feed.get(index) {
                // Also one that was cleared: the record that says so may be the one that is gone.
                Ok(Some(value)) if expected.is_none() => {
                    assert!(missing_is_told, "{what}: block {index} came back");
                    assert_eq!(value.len(), block(index).len(), "{what}: block {index}");
                }
                Ok(found @ Some(_)) => {
                    assert!(found == *expected, "{what}: feed {key} block {index}")
                }
                Ok(None) => assert!(
                    expected.is_none() || missing_is_told,
                    "{what}: feed {key} block {index} is gone"
                ),
                Err(ReadError::Damaged {
                    feed: named, block, ..
                }) => {
                    assert_eq!((named, block), (key, index), "{what}");
                    erred = true;
                }
                Err(error) => panic!("{what}: feed {key} block {index}: {error:?}"),
            }
        }
        assert!(
            length <= holding.blocks.len() as u64 || missing_is_told,
            "{what}: {length}"
        );
        if erred {
            let report = feed.verify().unwrap();
            assert!(report.problem_count > 0, "{what}: verify is silent");
        }
        erred
    }
}
