//! Everything from the feeds again.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::Index;
use crate::index::reading::Plan;
use crate::index::state::State;
use crate::index::{BlockSource, IndexError, RebuildReport, schema};
use crate::limits::REBUILD_BATCHES_AHEAD;

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
        self.read_all(source, &mut report)?;
        Ok(report)
    }

    /// Reads what is not indexed yet: one thread reads and opens, this one writes.
    fn read_all(
        &mut self,
        source: &mut dyn BlockSource,
        report: &mut RebuildReport,
    ) -> Result<(), IndexError> {
        let plan = Plan::new(&self.state, source).map_err(IndexError::Source)?;
        let keys = self.keys.clone();
        thread::scope(|scope| {
            let (to, batches) = sync_channel(REBUILD_BATCHES_AHEAD);
            let reading =
                scope.spawn(move || plan.read(source, &keys, |batch| to.send(batch).is_ok()));
            for batch in batches {
                report.blocks += batch.len() as u64;
                report.entries += self.write(|writer| writer.add_read(batch))?.entries;
            }
            let read = reading.join();
            read.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .map_err(IndexError::Source)
        })
    }
}
