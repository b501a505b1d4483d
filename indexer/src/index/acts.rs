//! What the agent reads of a room beside its views: keys that entries hand on, where messages stand.

use kinlog_feeds::crypto::{AgentId, FeedKey};
use rusqlite::params;

use crate::entry::{Body, EpochKeys, tag};
use crate::index::kept::read_kept;
use crate::index::state::parse;
use crate::index::{IndexError, Reader};
use crate::limits::QUERY_ROWS_MAX;
use crate::{Index, RoomId};

impl Index {
    /// Returns the keys of earlier epochs that entries of a room hand on; whether anybody might is
    /// another question.
    pub fn epoch_keys(&self, room: &RoomId) -> Result<Vec<EpochKeys>, IndexError> {
        let kept: Vec<(FeedKey, u64, Vec<u8>)> = self.all(
            "SELECT f.feed, f.idx, f.body FROM feeds s
             JOIN facts f INDEXED BY facts_rare ON f.feed = s.feed AND f.tag = 30
                 AND f.tag <> 18
             WHERE s.room_id = ?1 AND f.state = 0 ORDER BY f.feed, f.idx LIMIT ?2",
            params![room.to_string(), QUERY_ROWS_MAX as i64],
            |row| Ok((FeedKey(row.get(0)?), row.get(1)?, row.get(2)?)),
        )?;
        let keys = kept.into_iter().filter_map(|(feed, index, kept)| {
            let place = (feed, index);
            match read_kept(&self.state, &self.keys, place, tag::EPOCH_KEYS, kept.into()) {
                Some(Body::EpochKeys(keys)) => Some(keys),
                _ => None,
            }
        });
        Ok(keys.collect())
    }
}

impl Reader {
    /// Returns where every message of a room that is shown stands, and whose it is, in the order of
    /// the timeline.
    pub fn message_places(
        &self,
        room: &RoomId,
    ) -> Result<Vec<(FeedKey, u64, AgentId)>, IndexError> {
        self.all(
            "SELECT feed, idx, user_id FROM messages WHERE room_id = ?1
             ORDER BY depth, ms, counter, feed, idx",
            params![room.to_string()],
            |row| Ok((FeedKey(row.get(0)?), row.get(1)?, parse(row, 2)?)),
        )
    }
}
