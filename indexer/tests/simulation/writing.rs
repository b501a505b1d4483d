//! What writers append.

use bytes::Bytes;
use kinlog_feeds::replicate::HeadState;
use kinlog_feeds::store::AppendError;
use kinlog_indexer::entry::{Entry, LinkScope};
use kinlog_indexer::index::{Block, StoreTrees, TreeHashes};
use kinlog_indexer::seal::seal_entry;

use crate::rooms;
use crate::truth::pair_of;
use crate::world::World;

impl World {
    pub(crate) fn append(&mut self, writer: usize) {
        let book = &self.truth.books[&rooms::room_feed(writer)];
        let running = self.nodes[writer].running.as_ref();
        let can_write = running.is_some_and(|running| !running.has_failed);
        if !can_write || book.is_retired || !book.attempt.is_empty() || self.left == 0 {
            return;
        }
        let count = match self.random.below(6) {
            0 => 1 + self.random.below(8),
            _ => 1 + self.random.below(3),
        };
        let count = count.min(self.left);
        self.left -= count;
        if self.plan.has_index {
            for _ in 0..count {
                self.write_entry(writer);
            }
        } else {
            let blocks: Vec<Bytes> = (0..count)
                .map(|_| {
                    let bytes = match self.random.below(8) {
                        0 => 0,
                        1 => 4_000 + self.random.index(2_000),
                        _ => self.random.index(300),
                    };
                    self.random.bytes(bytes).into()
                })
                .collect();
            self.append_blocks(writer, &blocks);
        }
        self.drain(writer);
    }

    /// Writes an entry as an agent does: after what its index knows, and indexed at once.
    pub(crate) fn write_entry(&mut self, writer: usize) {
        let key = rooms::room_feed(writer);
        let now_ms = (self.now.0 / 1_000) as i64 + 1_700_000_000_000;
        let node = &mut self.nodes[writer];
        let wall_ms = (now_ms + node.skew_ms) as u64;
        let room = self.room.as_ref().unwrap();
        let Some(running) = node.running.as_mut().filter(|running| !running.has_failed) else {
            return;
        };
        running.catch_up();
        let index = running.index.as_mut().unwrap();
        let scope = LinkScope::Room(room.room);
        let trees = StoreTrees::of(running.store.clone());
        let frontier = index.frontier(scope, &key).unwrap();
        let (links, depth) = frontier.next(&key, |feed, length| trees.tree_hash(feed, length));
        let number = self.random.below(1_000_000);
        let entry = Entry {
            links,
            depth,
            clock: self.clocks[writer].tick(wall_ms),
            body: rooms::message(&format!("message {number} of {writer}")),
        };
        let at = running.feeds[&key].head().length;
        let nonce: [u8; 24] = self.random.bytes(24).try_into().unwrap();
        let entry = entry.encode().unwrap();
        let block = seal_entry(&room.key, &key, at, &nonce, &entry).unwrap();
        self.append_blocks(writer, std::slice::from_ref(&block));
        let running = self.nodes[writer].running.as_mut().unwrap();
        if running.has_failed {
            return;
        }
        let block = Block {
            feed: key,
            index: at,
            bytes: block,
        };
        running.index.as_mut().unwrap().ingest(&[block]).unwrap();
    }

    pub(crate) fn append_blocks(&mut self, writer: usize, blocks: &[Bytes]) {
        let key = rooms::room_feed(writer);
        let running = self.nodes[writer].running.as_mut().unwrap();
        let feed = running.feeds[&key].clone();
        match feed.append_batch(&pair_of(writer), blocks) {
            Ok(_) => {
                let head = HeadState::from(&feed.info());
                self.truth.acknowledged(&key, blocks, &head);
                self.outcome.appended += blocks.len() as u64;
                running.replicator.handle_appended(self.now, &key, &head);
                let new = head.length - blocks.len() as u64..head.length;
                self.note_appended(writer, key, new);
            }
            Err(AppendError::Conflict { .. }) => {}
            Err(_) => {
                let book = self.truth.books.get_mut(&key).unwrap();
                assert_eq!(
                    feed.head().length,
                    book.blocks.len() as u64,
                    "more is visible than is durable at node {writer}"
                );
                book.attempt = blocks.to_vec();
                running.has_failed = true;
                self.restart_soon(writer);
            }
        }
    }
}
