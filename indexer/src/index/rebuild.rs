//! Everything from the feeds again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use crate::Index;
use crate::index::opening::Opening;
use crate::index::reading::{Plan, Read};
use crate::index::state::State;
use crate::index::{BlockSource, IndexError, RebuildReport, schema};
use crate::limits::{
    REBUILD_COMMIT_BLOCKS, REBUILD_COMMIT_BYTES, REBUILD_FIRST_COMMIT_BLOCKS, REBUILD_PARTS_AHEAD,
};

impl Index {
    /// Forgets everything and reads it again from `source`: feeds, keys, blocks.
    ///
    /// Commits in batches; broken off, it goes on from its checkpoints with
    /// [`catch_up`](Self::catch_up) or starts anew.
    pub fn rebuild(&mut self, source: &mut dyn BlockSource) -> Result<RebuildReport, IndexError> {
        let transaction = self.reader.connection.transaction()?;
        schema::clear(&transaction)?;
        transaction.commit()?;
        self.keys = Arc::default();
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
        self.write(|writer| feeds.iter().try_for_each(|feed| writer.put_feed(*feed)))?;
        report.feeds = feeds.len() as u64;
        // What one part deleted and a later one let stand is read once more: all acts are here then.
        while self.read_all(source, &mut report)? {}
        Ok(report)
    }

    /// Reads what is not indexed yet: one thread reads and opens, this one writes. Returns whether
    /// something is to be read again.
    fn read_all(
        &mut self,
        source: &mut dyn BlockSource,
        report: &mut RebuildReport,
    ) -> Result<bool, IndexError> {
        let plan = Plan::new(&self.state, source).map_err(IndexError::Source)?;
        let (keys, tags, trees) = (
            self.keys.clone(),
            self.state.tags.clone(),
            self.trees.clone(),
        );
        thread::scope(|scope| {
            let (to, parts) = sync_channel(REBUILD_PARTS_AHEAD);
            let reading = scope.spawn(move || {
                let opening = Opening {
                    keys: &keys,
                    tags: &tags,
                    trees: trees.as_deref(),
                };
                plan.read(source, opening, |part| to.send(part).is_ok())
            });
            let is_undone = self.write_all(parts, report)?;
            let read = reading.join();
            read.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .map_err(IndexError::Source)?;
            Ok(is_undone)
        })
    }

    /// Writes parts as they come, several in one transaction. Returns whether something that was read is
    /// to be read again.
    fn write_all(
        &mut self,
        parts: Receiver<Vec<Read>>,
        report: &mut RebuildReport,
    ) -> Result<bool, IndexError> {
        let mut is_undone = false;
        let mut most = REBUILD_FIRST_COMMIT_BLOCKS;
        while let Ok(first) = parts.recv() {
            let (mut blocks, mut bytes, mut next) = (0, 0, Some(first));
            let written = self.write(|writer| {
                while let Some(part) = next.take() {
                    blocks += part.len();
                    bytes += part
                        .iter()
                        .map(|(block, _)| block.bytes.len())
                        .sum::<usize>();
                    writer.add_read(part)?;
                    if blocks < most && bytes < REBUILD_COMMIT_BYTES {
                        next = parts.recv().ok();
                    }
                }
                Ok(())
            })?;
            report.blocks += blocks as u64;
            report.entries += written.entries;
            is_undone |= !written.undone.is_empty();
            report.deleted.extend(written.deleted);
            report
                .deleted
                .retain(|place, _| !written.undone.contains(place));
            most = (2 * most).min(REBUILD_COMMIT_BLOCKS);
        }
        Ok(is_undone)
    }
}
