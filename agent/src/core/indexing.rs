//! Feeding the index: every verified block of every feed of entries, once, and what follows from it.

use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::store::Store;
use kinlog_indexer::RoomId;
use kinlog_indexer::index::{Block, BlockSource, FeedContext, IngestReport, Scope, SourceError};
use kinlog_indexer::seal::ContentKey;

use crate::api::Error;
use crate::core::{Core, lock};
use crate::knowledge::Knowledge;
use crate::limits::{INDEX_BATCH_BLOCKS, INDEX_BATCH_BYTES};

impl Core {
    /// Brings the index up to date with everything held, and what is known with the index.
    pub(crate) fn catch_up(&self) -> Result<(), Error> {
        let feeds = self.knowledge(|knowledge| contexts(knowledge));
        self.put_epoch_keys()?;
        self.index_feeds(feeds)
    }

    /// Brings the index up to date with one feed, if it is one of entries.
    pub(crate) fn catch_up_feed(&self, key: &FeedKey) -> Result<(), Error> {
        let feeds = self.knowledge(|knowledge| contexts(knowledge));
        self.index_feeds(feeds.into_iter().filter(|feed| feed.key == *key).collect())
    }

    /// Returns whether the index reads a feed.
    pub(crate) fn is_indexed_feed(&self, key: &FeedKey) -> bool {
        lock(&self.indexed).contains(key)
    }

    /// Forgets the index and reads everything again.
    pub(crate) fn rebuild_index(&self) -> Result<(), Error> {
        let feeds = self.knowledge(|knowledge| contexts(knowledge));
        let keys = self.knowledge(|knowledge| epoch_keys(knowledge));
        let mut source = Held {
            store: &self.store,
            feeds,
            keys,
        };
        self.index(|index| index.rebuild(&mut source))?;
        lock(&self.indexed).clear();
        let (agents, rooms) = self.knowledge(|knowledge| {
            let agents: Vec<_> = knowledge.agents.keys().copied().collect();
            (agents, knowledge.rooms.keys().copied().collect::<Vec<_>>())
        });
        for agent in &agents {
            self.learn_agent(agent)?;
        }
        for room in &rooms {
            self.learn_room(room)?;
        }
        Ok(())
    }

    /// Gives the index the keys of all epochs; it keeps them in memory only.
    fn put_epoch_keys(&self) -> Result<(), Error> {
        for (room, key) in self.knowledge(|knowledge| epoch_keys(knowledge)) {
            let report = self.index(|index| index.put_epoch_key(room, key))?;
            self.take_in(&report)?;
        }
        Ok(())
    }

    fn index_feeds(&self, mut feeds: Vec<FeedContext>) -> Result<(), Error> {
        // Each round may tell of feeds (a line of a directory, a member's) that the next reads.
        while !feeds.is_empty() {
            for feed in &feeds {
                if lock(&self.indexed).insert(feed.key) {
                    let report = self.index(|index| index.put_feed(*feed))?;
                    self.take_in(&report)?;
                    self.know_again(feed)?;
                }
                self.index_feed(&feed.key)?;
            }
            let told = lock(&self.indexed).clone();
            feeds = self.knowledge(|knowledge| contexts(knowledge));
            feeds.retain(|feed| !told.contains(&feed.key));
        }
        Ok(())
    }

    /// Learns, at the first sight of a feed since the start, what an earlier run indexed of it.
    fn know_again(&self, feed: &FeedContext) -> Result<(), Error> {
        match feed.scope {
            Scope::Directory { author, .. } => self.learn_agent(&author),
            Scope::Room(room) => self.learn_room(&room),
            Scope::Author { .. } | Scope::Unknown => Ok(()),
        }
    }

    fn index_feed(&self, key: &FeedKey) -> Result<(), Error> {
        let Some(feed) = self.store.feed(key) else {
            return Ok(());
        };
        let have = feed.have();
        let length = feed.head().length;
        let indexed = self.index(|index| index.indexed(key))?;
        let mut batch = Batch::new(self);
        for gap in gaps(&indexed, length) {
            for index in have.runs(gap).flatten() {
                // A block that went away, or is damaged, is not indexed; `feed verify` tells.
                match feed.get(index) {
                    Ok(Some(bytes)) => batch.push(Block {
                        feed: *key,
                        index,
                        bytes,
                    })?,
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%key, index, %error, "block is not indexed"),
                }
            }
        }
        batch.flush()
    }

    /// Learns what a report says has changed.
    fn take_in(&self, report: &IngestReport) -> Result<(), Error> {
        for agent in &report.agents {
            self.learn_agent(agent)?;
        }
        for room in &report.rooms {
            self.learn_room(room)?;
        }
        Ok(())
    }
}

/// Blocks on their way to the index, in transactions of bounded size.
struct Batch<'a> {
    core: &'a Core,
    blocks: Vec<Block>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(core: &'a Core) -> Self {
        Batch {
            core,
            blocks: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, block: Block) -> Result<(), Error> {
        self.bytes += block.bytes.len();
        self.blocks.push(block);
        if self.blocks.len() >= INDEX_BATCH_BLOCKS || self.bytes >= INDEX_BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let report = self.core.index(|index| index.ingest(&self.blocks))?;
        self.blocks.clear();
        self.bytes = 0;
        self.core.take_in(&report)
    }
}

/// Returns every feed of entries that is known, with its place.
fn contexts(knowledge: &Knowledge) -> Vec<FeedContext> {
    let mut feeds = Vec::new();
    for (author, known) in &knowledge.agents {
        for device in &known.identity.devices {
            let scope = Scope::Directory {
                author: *author,
                device: device.key,
            };
            feeds.push(FeedContext {
                key: device.directory,
                scope,
            });
        }
        for line in known.lines.iter().filter(|line| line.is_entries) {
            let scope = Scope::Author {
                author: *author,
                device: line.device,
            };
            feeds.push(FeedContext {
                key: line.key,
                scope,
            });
        }
    }
    for room in knowledge.rooms.values() {
        let entries = room.feeds.values().filter(|feed| feed.is_entries);
        feeds.extend(entries.map(|feed| FeedContext {
            key: feed.key,
            scope: Scope::Room(room.id),
        }));
    }
    feeds
}

fn epoch_keys(knowledge: &Knowledge) -> Vec<(RoomId, ContentKey)> {
    let rooms = knowledge.rooms.values();
    rooms
        .flat_map(|room| {
            room.epochs
                .values()
                .map(|epoch| (room.id, epoch.content_key()))
        })
        .collect()
}

/// Returns what of `0..length` is not in `ranges`, which are in order.
fn gaps(ranges: &[Range<u64>], length: u64) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in ranges {
        if range.start > at {
            gaps.push(at..range.start.min(length));
        }
        at = at.max(range.end);
    }
    gaps.push(at.min(length)..length);
    gaps.retain(|gap| !gap.is_empty());
    gaps
}

/// Everything the index follows from, for a rebuild.
struct Held<'a> {
    store: &'a Store,
    feeds: Vec<FeedContext>,
    keys: Vec<(RoomId, ContentKey)>,
}

impl BlockSource for Held<'_> {
    fn feeds(&mut self) -> Result<Vec<FeedContext>, SourceError> {
        Ok(self.feeds.clone())
    }

    fn keys(&mut self) -> Result<Vec<(RoomId, ContentKey)>, SourceError> {
        Ok(self.keys.clone())
    }

    fn held(&mut self, feed: &FeedKey) -> Result<Vec<Range<u64>>, SourceError> {
        let Some(feed) = self.store.feed(feed) else {
            return Ok(Vec::new());
        };
        Ok(feed.have().runs(0..feed.head().length).collect())
    }

    fn block(&mut self, feed: &FeedKey, index: u64) -> Result<Option<Bytes>, SourceError> {
        let Some(feed) = self.store.feed(feed) else {
            return Ok(None);
        };
        Ok(feed.get(index)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_not_indexed_yet() {
        let of = |ranges: &[(u64, u64)], length| {
            let ranges: Vec<Range<u64>> = ranges.iter().map(|(start, end)| *start..*end).collect();
            let gaps = gaps(&ranges, length).into_iter();
            gaps.map(|gap| (gap.start, gap.end)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[], 3), [(0, 3)]);
        assert_eq!(of(&[(0, 3)], 3), []);
        assert_eq!(of(&[(0, 2), (4, 5)], 7), [(2, 4), (5, 7)]);
        assert_eq!(of(&[(1, 2)], 7), [(0, 1), (2, 7)]);
        assert_eq!(of(&[(0, 9)], 7), []);
    }
}
