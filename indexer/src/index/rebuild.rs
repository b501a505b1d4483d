//! Everything from the feeds again.

use kinlog_feeds::crypto::FeedKey;

use crate::Index;
use crate::index::state::State;
use crate::index::{Block, BlockSource, IndexError, RebuildReport, schema};
use crate::limits::{REBUILD_BATCH_BLOCKS, REBUILD_BATCH_BYTES};

impl Index {
    /// Forgets everything and reads it again from `source`: feeds, keys, blocks.
    ///
    /// Commits in batches; broken off, it goes on from its checkpoints with
    /// [`catch_up`](Self::catch_up) or starts anew.
    pub fn rebuild(&mut self, source: &mut dyn BlockSource) -> Result<RebuildReport, IndexError> {
        let transaction = self.connection.transaction()?;
        schema::clear(&transaction)?;
        transaction.commit()?;
        self.keys.clear();
        self.state = State::default();
        self.catch_up(source)
    }

    /// Takes the feeds and keys of `source` and reads those of its blocks that are not indexed yet.
    pub fn catch_up(&mut self, source: &mut dyn BlockSource) -> Result<RebuildReport, IndexError> {
        let mut report = RebuildReport::default();
        for (room, key) in source.keys().map_err(IndexError::Source)? {
            report.entries += self.put_epoch_key(room, key)?.entries;
        }
        let feeds = source.feeds().map_err(IndexError::Source)?;
        for feed in &feeds {
            self.put_feed(*feed)?;
        }
        for feed in &feeds {
            self.read_feed(&feed.key, source, &mut report)?;
            report.feeds += 1;
        }
        Ok(report)
    }

    fn read_feed(
        &mut self,
        feed: &FeedKey,
        source: &mut dyn BlockSource,
        report: &mut RebuildReport,
    ) -> Result<(), IndexError> {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for range in source.held(feed).map_err(IndexError::Source)? {
            for index in range {
                if self.state.indexed(&(*feed, index)) {
                    continue;
                }
                let block = source.block(feed, index).map_err(IndexError::Source)?;
                let Some(bytes) = block else { continue };
                batch_bytes += bytes.len();
                batch.push(Block {
                    feed: *feed,
                    index,
                    bytes,
                });
                if batch.len() >= REBUILD_BATCH_BLOCKS || batch_bytes >= REBUILD_BATCH_BYTES {
                    self.read_batch(&mut batch, report)?;
                    batch_bytes = 0;
                }
            }
        }
        self.read_batch(&mut batch, report)
    }

    fn read_batch(
        &mut self,
        batch: &mut Vec<Block>,
        report: &mut RebuildReport,
    ) -> Result<(), IndexError> {
        if !batch.is_empty() {
            report.blocks += batch.len() as u64;
            report.entries += self.ingest(batch)?.entries;
            batch.clear();
        }
        Ok(())
    }
}
