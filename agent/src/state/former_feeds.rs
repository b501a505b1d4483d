//! Feeds that earlier devices of this home wrote: read and served for ever, signed by nobody.

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};

use crate::links::FeedPath;
use crate::state::own_feeds::content_text;
use crate::state::{OwnFeed, State, StateError, fixed};
use crate::vault::SecretPlace;

/// A feed of an earlier device of this home.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FormerFeed {
    pub(crate) key: FeedKey,
    pub(crate) device: DeviceKey,
    pub(crate) path: Option<FeedPath>,
    pub(crate) is_entries: bool,
    pub(crate) is_plain: bool,
    /// Sealed, and listed in the private directory alone.
    pub(crate) is_private: bool,
    /// Blocks it had when the device was renewed.
    pub(crate) length: u64,
    /// Blocks that were shown to peers before: these are the path's. Those behind are written again.
    pub(crate) published: u64,
    /// The feed that continues its path.
    pub(crate) successor: Option<FeedKey>,
    /// It is known from a backup: how far it came since, others have to tell.
    pub(crate) is_restored: bool,
}

impl FormerFeed {
    /// Returns whether it has blocks that no peer was shown: another copy of the device may have
    /// signed others in their place, so they are never shown.
    pub(crate) fn has_unpublished(&self) -> bool {
        self.length > self.published
    }

    /// Returns whether peers have to tell where it ended before its path goes on.
    pub(crate) fn awaits_peers(&self) -> bool {
        self.is_restored && self.successor.is_some()
    }
}

/// What takes the place of the device in a home.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    pub(crate) agent: AgentId,
    pub(crate) device: DeviceKey,
    /// The identity set with the new device in it.
    pub(crate) identity_set: Vec<u8>,
    /// The new directory, and a feed for each path.
    pub(crate) own: Vec<OwnFeed>,
    /// The feeds of the old device.
    pub(crate) former: Vec<FormerFeed>,
}

impl State {
    /// Puts a new device in place of the old one: all of it or nothing.
    pub(crate) fn renew(&self, renewal: &Renewal) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for feed in &renewal.former {
            let (clear, sealed) =
                self.path_columns(former_path(&feed.key), feed.path.as_ref(), feed.is_private)?;
            transaction.execute(
                "INSERT OR REPLACE INTO former_feeds
                 (feed_key, device, path, content, plain, length, published, successor, private,
                  restored, private_path)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                (
                    feed.key.as_bytes(),
                    feed.device.as_bytes(),
                    clear,
                    content_text(feed.is_entries),
                    feed.is_plain,
                    feed.length,
                    feed.published,
                    feed.successor.as_ref().map(FeedKey::as_bytes),
                    feed.is_private,
                    feed.is_restored,
                    sealed,
                ),
            )?;
        }
        transaction.execute("DELETE FROM own_feeds", [])?;
        for feed in &renewal.own {
            self.insert_own_feed(&transaction, feed)?;
        }
        // What the old device asked for it would have to sign again.
        transaction.execute("DELETE FROM joins", [])?;
        transaction.execute(
            "UPDATE identities SET identity_set = ?2 WHERE agent = ?1",
            (renewal.agent.as_bytes(), &renewal.identity_set),
        )?;
        transaction.execute(
            "INSERT OR REPLACE INTO single (name, value) VALUES ('device', ?1)",
            [renewal.device.as_bytes()],
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Returns the feeds of earlier devices, by key.
    pub(crate) fn former_feeds(&self) -> Result<Vec<FormerFeed>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT feed_key, device, path, content, plain, length, published, successor, private,
                    restored, private_path
             FROM former_feeds ORDER BY feed_key",
        )?;
        let rows = statement.query_map([], |row| {
            let path: (Option<String>, String) = (row.get(2)?, row.get(10)?);
            let content: String = row.get(3)?;
            let has_successor = row.get::<_, Option<Vec<u8>>>(7)?.is_some();
            let feed = FormerFeed {
                key: FeedKey(fixed(row, 0)?),
                device: DeviceKey(fixed(row, 1)?),
                path: None,
                is_entries: content == content_text(true),
                is_plain: row.get(4)?,
                is_private: row.get(8)?,
                length: row.get(5)?,
                published: row.get(6)?,
                successor: has_successor
                    .then(|| fixed(row, 7).map(FeedKey))
                    .transpose()?,
                is_restored: row.get(9)?,
            };
            Ok((feed, path))
        })?;
        rows.map(|row| {
            let (feed, path) = row?;
            let path = self.path_of(former_path(&feed.key), path)?;
            Ok(FormerFeed { path, ..feed })
        })
        .collect()
    }

    /// Writes down how far a restored feed had come in truth: there its path is continued.
    pub(crate) fn confirm_restored(&self, key: &FeedKey, length: u64) -> Result<(), StateError> {
        self.lock().execute(
            "UPDATE former_feeds SET length = ?2, published = ?2, restored = 0
             WHERE feed_key = ?1 AND restored = 1",
            (key.as_bytes(), length),
        )?;
        Ok(())
    }

    /// Remembers how many blocks of own feeds peers were shown; fewer than before changes nothing.
    pub(crate) fn note_published(
        &self,
        lengths: impl IntoIterator<Item = (FeedKey, u64)>,
    ) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for (key, length) in lengths {
            transaction.execute(
                "UPDATE own_feeds SET published = max(published, ?2) WHERE feed_key = ?1",
                (key.as_bytes(), length),
            )?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Returns how many blocks of each own feed peers were shown.
    pub(crate) fn published(&self) -> Result<Vec<(FeedKey, u64)>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT feed_key, published FROM own_feeds")?;
        let rows = statement.query_map([], |row| Ok((FeedKey(fixed(row, 0)?), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn former_path(feed: &FeedKey) -> SecretPlace<'_> {
    SecretPlace::new("former_feeds", "private_path", feed.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn a_renewal_takes_the_place_of_everything_own() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let own = |number: u8| OwnFeed {
            key: FeedKey([number; 32]),
            id: [number; 16],
            path: Some("/notes".parse().unwrap()),
            is_entries: false,
            is_plain: false,
            is_private: true,
            kind: kinlog_indexer::entry::PathKind::Shared,
        };
        state.add_own_feed(&own(1)).unwrap();
        state.note_published([(own(1).key, 5)]).unwrap();
        state.note_published([(own(1).key, 3)]).unwrap();
        assert_eq!(state.published().unwrap(), [(own(1).key, 5)]);
        let former = FormerFeed {
            key: own(1).key,
            device: DeviceKey([8; 32]),
            path: own(1).path,
            is_entries: false,
            is_plain: false,
            is_private: true,
            length: 7,
            published: 5,
            successor: Some(own(2).key),
            is_restored: false,
        };
        assert!(former.has_unpublished());
        let renewal = Renewal {
            agent: AgentId([3; 32]),
            device: DeviceKey([9; 32]),
            identity_set: vec![1],
            own: vec![own(2)],
            former: vec![former.clone()],
        };
        state.renew(&renewal).unwrap();
        state.renew(&renewal).unwrap();
        assert_eq!(state.own_feeds().unwrap(), [own(2)]);
        assert_eq!(state.published().unwrap(), [(own(2).key, 0)]);
        assert_eq!(state.former_feeds().unwrap(), [former]);
        assert_eq!(state.value("device").unwrap().unwrap(), [9; 32]);
    }
}
