//! What givers of seed grants said is cleared of the feeds that are kept for them.

use std::collections::BTreeMap;
use std::ops::Range;

use kinlog_feeds::crypto::{DeviceKey, FeedKey};
use rusqlite::params;

use crate::state::{State, StateError, fixed};

/// Cleared blocks by the device that said so and by feed, ascending and apart.
pub(crate) type GivenClearings = BTreeMap<DeviceKey, BTreeMap<FeedKey, Vec<Range<u64>>>>;

impl State {
    /// Keeps what a device said of a feed, in the place of what it said before.
    pub(crate) fn put_given_clearing(
        &self,
        giver: &DeviceKey,
        feed: &FeedKey,
        ranges: &[Range<u64>],
    ) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute(
            "DELETE FROM grant_cleared WHERE device = ?1 AND feed_key = ?2",
            params![giver.0, feed.as_bytes()],
        )?;
        for range in ranges {
            transaction
                .prepare_cached("INSERT INTO grant_cleared VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![giver.0, feed.as_bytes(), range.start, range.end])?;
        }
        Ok(transaction.commit()?)
    }

    /// Forgets everything that a device said.
    pub(crate) fn drop_given_clearings(&self, giver: &DeviceKey) -> Result<(), StateError> {
        self.lock()
            .execute("DELETE FROM grant_cleared WHERE device = ?1", [giver.0])?;
        Ok(())
    }

    /// Returns everything that was said.
    pub(crate) fn given_clearings(&self) -> Result<GivenClearings, StateError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT * FROM grant_cleared ORDER BY device, feed_key, start_idx")?;
        let rows = statement.query_map([], |row| {
            let (device, feed) = (DeviceKey(fixed(row, 0)?), FeedKey(fixed(row, 1)?));
            Ok((device, feed, row.get(2)?..row.get(3)?))
        })?;
        let mut said = GivenClearings::new();
        for row in rows {
            let (device, feed, range) = row?;
            let of = said.entry(device).or_default().entry(feed).or_default();
            of.push(range);
        }
        Ok(said)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of one run
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn what_givers_said_comes_back_until_they_are_forgotten() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let [one, other] = [1, 2].map(|number| DeviceKey([number; 32]));
        let feed = FeedKey([7; 32]);
        state.put_given_clearing(&one, &feed, &[0..9]).unwrap();
        state
            .put_given_clearing(&one, &feed, &[0..1, 3..4])
            .unwrap();
        state.put_given_clearing(&other, &feed, &[5..6]).unwrap();
        let of_one = BTreeMap::from([(feed, vec![0..1, 3..4])]);
        assert_eq!(state.given_clearings().unwrap()[&one], of_one);
        state.drop_given_clearings(&other).unwrap();
        assert_eq!(state.given_clearings().unwrap(), [(one, of_one)].into());
    }
}
