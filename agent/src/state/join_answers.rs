//! What members answered to joins, until the room itself says which answer is true.

use kinlog_feeds::crypto::DeviceKey;
use kinlog_feeds::encoding::Reader;

use crate::rooms::{RoomFeed, RoomId, RoomKeys, put_feeds, read_feeds};
use crate::state::{State, StateError, fixed};
use crate::vault::SecretPlace;

/// One answer: the keys it gave, and the feeds it named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StoredAnswer {
    pub(crate) room: RoomId,
    /// Who answered.
    pub(crate) device: DeviceKey,
    pub(crate) keys: RoomKeys,
    pub(crate) feeds: Vec<RoomFeed>,
}

/// Place of the keys, which are sealed.
fn keys_place(row: &[u8; 64]) -> SecretPlace<'_> {
    SecretPlace::new("join_answers", "keys", row)
}

fn row_of(room: &RoomId, device: &DeviceKey) -> [u8; 64] {
    let mut row = [0; 64];
    row[..32].copy_from_slice(&room.0);
    row[32..].copy_from_slice(device.as_bytes());
    row
}

impl State {
    /// Keeps a device's newest answer to a join.
    pub(crate) fn put_join_answer(&self, answer: &StoredAnswer) -> Result<(), StateError> {
        let mut feeds = Vec::new();
        put_feeds(&mut feeds, &answer.feeds);
        let row = row_of(&answer.room, &answer.device);
        let keys = self.seal(keys_place(&row), &answer.keys.encode())?;
        self.lock().execute(
            "INSERT INTO join_answers (id, room, keys, feeds) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET keys = excluded.keys, feeds = excluded.feeds",
            (row, answer.room.0, keys, feeds),
        )?;
        Ok(())
    }

    /// Forgets what a device answered.
    pub(crate) fn forget_join_answer(
        &self,
        room: &RoomId,
        device: &DeviceKey,
    ) -> Result<(), StateError> {
        self.lock().execute(
            "DELETE FROM join_answers WHERE id = ?1",
            [row_of(room, device)],
        )?;
        Ok(())
    }

    /// Forgets a join with all its answers.
    pub(crate) fn forget_join(&self, room: &RoomId) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute("DELETE FROM join_answers WHERE room = ?1", [room.0])?;
        transaction.execute("DELETE FROM joins WHERE room = ?1", [room.0])?;
        transaction.commit()?;
        Ok(())
    }

    /// Returns the answers that are kept.
    pub(crate) fn join_answers(&self) -> Result<Vec<StoredAnswer>, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT id, keys, feeds FROM join_answers ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((fixed(row, 0)?, row.get(1)?, row.get(2)?)))?;
        rows.map(|row| {
            let (row, sealed, feeds): ([u8; 64], Vec<u8>, Vec<u8>) = row?;
            let keys = self.unseal(keys_place(&row), &sealed)?;
            let (mut room, mut device) = ([0; 32], [0; 32]);
            room.copy_from_slice(&row[..32]);
            device.copy_from_slice(&row[32..]);
            let damaged = |_| StateError::Damaged {
                what: "answer to a join",
            };
            Ok(StoredAnswer {
                room: RoomId(room),
                device: DeviceKey(device),
                keys: RoomKeys::decode(&keys).map_err(damaged)?,
                feeds: read_feeds(&mut Reader::new(&feeds)).map_err(damaged)?,
            })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{AgentId, FeedKey};
    use kinlog_indexer::seal::EpochSecret;

    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn the_newest_answer_of_each_device_is_kept_until_the_join_ends() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).expect("opened");
        let room = RoomId([1; 32]);
        let answer = |device, secret| StoredAnswer {
            room,
            device: DeviceKey([device; 32]),
            keys: RoomKeys {
                secrets: vec![EpochSecret::new([secret; 32])],
                act_keys: Vec::new(),
            },
            feeds: vec![RoomFeed {
                key: FeedKey([2; 32]),
                agent: AgentId([3; 32]),
                device: DeviceKey([device; 32]),
                is_entries: true,
            }],
        };
        for one in [answer(1, 5), answer(2, 6), answer(1, 7)] {
            state.put_join_answer(&one).expect("written");
        }
        assert_eq!(
            state.join_answers().expect("read"),
            [answer(1, 7), answer(2, 6)]
        );
        state
            .forget_join_answer(&room, &DeviceKey([1; 32]))
            .expect("written");
        assert_eq!(state.join_answers().expect("read"), [answer(2, 6)]);
        state.forget_join(&room).expect("written");
        assert_eq!(state.join_answers().expect("read"), []);
    }
}
