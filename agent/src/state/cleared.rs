//! Blocks that are asked for no more, as whoever may say so said: since when, and whether they are gone.

use std::collections::BTreeMap;
use std::ops::Range;

use kinlog_feeds::crypto::FeedKey;
use rusqlite::params;

use crate::state::{State, StateError, fixed};

/// Some blocks of a feed that were cleared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClearedBlocks {
    pub(crate) range: Range<u64>,
    /// When this device first heard of it, wall clock in ms.
    pub(crate) seen_ms: u64,
    /// Nothing of them is left here.
    pub(crate) is_emptied: bool,
}

/// What was cleared of a feed, ascending and apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClearedFeed {
    pub(crate) by: ClearedBy,
    pub(crate) blocks: Vec<ClearedBlocks>,
}

/// Who said it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ClearedBy {
    /// The agent whose path it is, in its directories.
    Agent,
    /// The member who gave the seed grant by which it is kept.
    Giver,
}

impl ClearedFeed {
    /// Returns the blocks; those heard of at different times may touch.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        self.blocks.iter().map(|one| one.range.clone()).collect()
    }
}

impl State {
    /// Notes what was cleared of a feed, in the place of what was noted before.
    pub(crate) fn put_cleared(
        &self,
        feed: &FeedKey,
        cleared: Option<&ClearedFeed>,
    ) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute(
            "DELETE FROM cleared WHERE feed_key = ?1",
            params![feed.as_bytes()],
        )?;
        for one in cleared.into_iter().flat_map(|cleared| &cleared.blocks) {
            let by = cleared.map_or(0, |cleared| cleared.by as u8);
            transaction
                .prepare_cached("INSERT INTO cleared VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![
                    feed.as_bytes(),
                    one.range.start,
                    one.range.end,
                    one.seen_ms,
                    one.is_emptied,
                    by
                ])?;
        }
        Ok(transaction.commit()?)
    }

    /// Returns everything that was noted.
    pub(crate) fn cleared(&self) -> Result<BTreeMap<FeedKey, ClearedFeed>, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT * FROM cleared ORDER BY feed_key, start_idx")?;
        let rows = statement.query_map([], |row| {
            let blocks = ClearedBlocks {
                range: row.get(1)?..row.get(2)?,
                seen_ms: row.get(3)?,
                is_emptied: row.get(4)?,
            };
            let by = match row.get::<_, u8>(5)? {
                0 => ClearedBy::Agent,
                _ => ClearedBy::Giver,
            };
            Ok((FeedKey(fixed(row, 0)?), by, blocks))
        })?;
        let mut feeds: BTreeMap<FeedKey, ClearedFeed> = BTreeMap::new();
        for row in rows {
            let (feed, by, blocks) = row?;
            let known = feeds.entry(feed).or_insert_with(|| ClearedFeed {
                by,
                blocks: Vec::new(),
            });
            known.blocks.push(blocks);
        }
        Ok(feeds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn what_was_cleared_comes_back_as_it_was_noted_last() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let blocks = |range: Range<u64>, is_emptied| ClearedBlocks {
            seen_ms: 1_000 + range.start,
            range,
            is_emptied,
        };
        let first = ClearedFeed {
            by: ClearedBy::Agent,
            blocks: vec![blocks(0..3, true), blocks(3..1 << 53, false)],
        };
        let second = ClearedFeed {
            by: ClearedBy::Giver,
            blocks: vec![blocks(7..9, false)],
        };
        let [one, other, gone] = [1, 2, 3].map(|number| FeedKey([number; 32]));
        state.put_cleared(&one, Some(&second)).unwrap();
        state.put_cleared(&one, Some(&first)).unwrap();
        state.put_cleared(&other, Some(&second)).unwrap();
        state.put_cleared(&gone, Some(&second)).unwrap();
        state.put_cleared(&gone, None).unwrap();
        let expected = BTreeMap::from([(one, first), (other, second)]);
        assert_eq!(state.cleared().unwrap(), expected);
    }
}
