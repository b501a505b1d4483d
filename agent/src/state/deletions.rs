//! Blocks that were read and deleted: since when, and what has become of them here.

use std::collections::BTreeMap;
use std::ops::Range;

use kinlog_feeds::crypto::FeedKey;
use kinlog_indexer::entry::Ref;
use kinlog_indexer::index::HeadHash;
use rusqlite::params;

use crate::state::{State, StateError, fixed};

/// A block that was read and that a deletion ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Deletion {
    /// What it was but its body.
    pub(crate) head: HeadHash,
    /// The blocks of the file that it told of.
    pub(crate) content: Option<(FeedKey, Range<u64>)>,
    /// When this device first saw the deletion count, wall clock in ms.
    pub(crate) seen_ms: u64,
    pub(crate) stage: Stage,
}

/// What has become of a deleted block here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// It is hidden, and still in the store.
    Hidden,
    /// It is out of the store, or about to be: what the files held of it may not be overwritten yet.
    Emptying,
    /// Nothing of it is left here.
    Emptied,
    /// It was emptied, and the deletion counts no more: it is to be fetched again.
    Undone,
}

impl Deletion {
    /// Returns whether the block is out of the store for good.
    pub(crate) const fn is_gone(&self) -> bool {
        matches!(self.stage, Stage::Emptying | Stage::Emptied)
    }
}

impl Stage {
    const ALL: [Stage; 4] = [
        Stage::Hidden,
        Stage::Emptying,
        Stage::Emptied,
        Stage::Undone,
    ];
}

impl State {
    /// Notes what has become of a deleted block.
    pub(crate) fn put_deletion(&self, block: &Ref, deletion: &Deletion) -> Result<(), StateError> {
        let content = deletion.content.as_ref();
        self.lock().execute(
            "INSERT OR REPLACE INTO deletions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                block.feed.as_bytes(),
                block.index,
                deletion.head.0,
                deletion.seen_ms,
                deletion.stage as u8,
                content.map(|(feed, _)| feed.as_bytes()),
                content.map(|(_, blocks)| blocks.start),
                content.map(|(_, blocks)| blocks.end),
            ],
        )?;
        Ok(())
    }

    /// Forgets that a block was deleted.
    pub(crate) fn remove_deletion(&self, block: &Ref) -> Result<(), StateError> {
        self.lock().execute(
            "DELETE FROM deletions WHERE feed_key = ?1 AND idx = ?2",
            params![block.feed.as_bytes(), block.index],
        )?;
        Ok(())
    }

    /// Returns everything that was noted.
    pub(crate) fn deletions(&self) -> Result<BTreeMap<Ref, Deletion>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT * FROM deletions")?;
        let rows = statement.query_map([], |row| {
            let block = Ref {
                feed: FeedKey(fixed(row, 0)?),
                index: row.get(1)?,
            };
            let content = match row.get::<_, Option<u64>>(6)? {
                Some(start) => Some((FeedKey(fixed(row, 5)?), start..row.get(7)?)),
                None => None,
            };
            let stage = Stage::ALL.get(row.get::<_, usize>(4)?).copied();
            let deletion = Deletion {
                head: HeadHash(fixed(row, 2)?),
                content,
                seen_ms: row.get(3)?,
                // Of a stage that this build does not know the block is looked at again.
                stage: stage.unwrap_or(Stage::Hidden),
            };
            Ok((block, deletion))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn what_became_of_deleted_blocks_comes_back() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let block = |index| Ref {
            feed: FeedKey([7; 32]),
            index,
        };
        let mut noted = BTreeMap::new();
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            let deletion = Deletion {
                head: HeadHash([index as u8; 32]),
                content: (index % 2 == 0).then_some((FeedKey([8; 32]), 3..9)),
                seen_ms: 1_000 + index as u64,
                stage,
            };
            state.put_deletion(&block(index as u64), &deletion).unwrap();
            noted.insert(block(index as u64), deletion);
        }
        assert_eq!(state.deletions().unwrap(), noted);
        state.remove_deletion(&block(2)).unwrap();
        noted.remove(&block(2));
        assert_eq!(state.deletions().unwrap(), noted);
    }
}
