//! Questions about paths: what directories list, public and private.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash};
use rusqlite::params;

use crate::entry::{Body, Content, OwnEpoch, Ref, RoomKeys, tag};
use crate::index::directory::listing;
use crate::index::kept::read_kept;
use crate::index::state::{damaged, parse};
use crate::index::{DirectoryRow, HeadRow, IndexError, Scope};
use crate::limits::{DIRECTORY_ROWS_MAX, QUERY_ROWS_MAX};
use crate::{Clock, Index};

/// An entry of a private directory with its place.
struct Told {
    device: DeviceKey,
    body: Body,
}

impl Index {
    /// Returns up to [`DIRECTORY_ROWS_MAX`] public feeds of an agent, by label; those of one label in
    /// the order in which they continue each other.
    pub fn directory(&self, agent: &AgentId) -> Result<Vec<DirectoryRow>, IndexError> {
        self.all(
            "SELECT label, kind, content, feed, feed_id, device, cut FROM directory
             WHERE user_id = ?1 AND retired = 0 ORDER BY label, position, feed LIMIT ?2",
            params![agent.to_string(), DIRECTORY_ROWS_MAX as i64],
            |row| {
                let content: String = row.get(2)?;
                Ok(DirectoryRow {
                    label: row.get(0)?,
                    kind: row.get(1)?,
                    content: match content.as_str() {
                        "entries" => Content::Entries,
                        "bytes" => Content::Bytes,
                        _ => return Err(damaged(2, "content")),
                    },
                    feed: FeedKey(row.get(3)?),
                    feed_id: row.get(4)?,
                    device: parse(row, 5)?,
                    cut: row.get(6)?,
                })
            },
        )
    }

    /// Returns the private feeds of an agent whose devices' private directories are told of, in the
    /// order of [`directory`](Self::directory), and where old labels lead.
    pub fn private_directory(
        &mut self,
        agent: &AgentId,
    ) -> Result<(Vec<DirectoryRow>, BTreeMap<String, String>), IndexError> {
        let listing = listing(&self.reader.connection, &mut self.state, agent, true)?;
        let mut listed: Vec<_> = listing.lines.into_values().collect();
        listed.retain(|one| !one.is_retired);
        listed.sort_by(|one, other| {
            let key = |one: &crate::index::directory::Listed| {
                (
                    one.line.label.clone().into_string(),
                    one.position,
                    one.line.feed,
                )
            };
            key(one).cmp(&key(other))
        });
        let rows = listed.into_iter().map(|one| DirectoryRow {
            label: one.line.label.into_string(),
            kind: one.line.kind.into_string(),
            content: one.line.content,
            feed: one.line.feed,
            feed_id: one.line.feed_id,
            device: one.device,
            cut: one.cut,
        });
        let rows = rows.take(DIRECTORY_ROWS_MAX).collect();
        Ok((rows, listing.redirects))
    }

    /// Returns the agents whose directories list `feed`.
    pub fn authors_of(&self, feed: &FeedKey) -> Result<Vec<AgentId>, IndexError> {
        self.all(
            "SELECT user_id FROM directory WHERE feed = ?1 AND retired = 0
             ORDER BY user_id LIMIT ?2",
            params![feed.0, QUERY_ROWS_MAX as i64],
            |row| parse(row, 0),
        )
    }

    /// Returns the label that an old label of an agent leads to.
    pub fn redirect(&self, agent: &AgentId, label: &str) -> Result<Option<String>, IndexError> {
        let found = self.all(
            "SELECT target FROM redirects WHERE user_id = ?1 AND label = ?2",
            params![agent.to_string(), label],
            |row| row.get(0),
        );
        Ok(found?.pop())
    }

    /// Returns where old labels of an agent lead.
    pub fn redirects(&self, agent: &AgentId) -> Result<BTreeMap<String, String>, IndexError> {
        let rows = self.all(
            "SELECT label, target FROM redirects WHERE user_id = ?1 ORDER BY label LIMIT ?2",
            params![agent.to_string(), DIRECTORY_ROWS_MAX as i64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(rows.into_iter().collect())
    }

    /// Returns the longest head of `feed` that a directory of `agent` vouches for.
    pub fn vouched_head(
        &self,
        agent: &AgentId,
        feed: &FeedKey,
    ) -> Result<Option<HeadRow>, IndexError> {
        let found = self.all(
            "SELECT feed, length, tree_hash FROM heads WHERE user_id = ?1 AND feed = ?2",
            params![agent.to_string(), feed.0],
            |row| {
                let (feed, tree_hash) = (FeedKey(row.get(0)?), Hash(row.get(2)?));
                Ok(HeadRow {
                    feed,
                    length: row.get(1)?,
                    tree_hash,
                })
            },
        );
        Ok(found?.pop())
    }

    /// Returns how many blocks `feed` had for certain at a time, as directories committed to it:
    /// those before that are older.
    pub fn length_at(&self, feed: &FeedKey, ms: u64) -> Result<u64, IndexError> {
        let found = self
            .connection
            .prepare_cached("SELECT max(length) FROM lengths WHERE feed = ?1 AND ms <= ?2")?
            .query_row(params![feed.0, ms], |row| row.get::<_, Option<u64>>(0))?;
        Ok(found.unwrap_or(0))
    }

    /// Returns the epochs of an agent's own devices, each with the device that wrote it down.
    pub fn own_epochs(&self, agent: &AgentId) -> Result<Vec<(DeviceKey, OwnEpoch)>, IndexError> {
        let told = self.told(agent, tag::OWN_EPOCH)?.into_iter();
        let epoch = |told: Told| match told.body {
            Body::OwnEpoch(epoch) => Some((told.device, epoch)),
            _ => None,
        };
        Ok(told.filter_map(epoch).collect())
    }

    /// Returns what the own devices need of rooms, each with the device that wrote it down, oldest
    /// first.
    pub fn room_keys(&self, agent: &AgentId) -> Result<Vec<(DeviceKey, RoomKeys)>, IndexError> {
        let told = self.told(agent, tag::ROOM_KEYS)?.into_iter();
        let keys = |told: Told| match told.body {
            Body::RoomKeys(keys) => Some((told.device, keys)),
            _ => None,
        };
        Ok(told.filter_map(keys).collect())
    }

    /// Reads the entries with one tag in an agent's private directories, in their timeline.
    fn told(&self, agent: &AgentId, tag: u64) -> Result<Vec<Told>, IndexError> {
        // The last word on the tag names the partial index.
        let mut statement = self.connection.prepare_cached(
            "SELECT order_depth, ms, counter, idx, body FROM facts
             WHERE feed = ?1 AND tag = ?2 AND tag <> 18 AND state = 0",
        )?;
        let mut told = BTreeMap::new();
        for (key, feed) in &self.state.feeds {
            let Scope::PrivateDirectory { author, device } = feed.scope else {
                continue;
            };
            if author != *agent {
                continue;
            }
            let mut rows = statement.query(params![key.0, tag])?;
            while let Some(row) = rows.next()? {
                let at = Ref {
                    feed: *key,
                    index: row.get(3)?,
                };
                let clock = Clock {
                    ms: row.get(1)?,
                    counter: row.get(2)?,
                };
                let bytes = Bytes::copy_from_slice(
                    row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?,
                );
                if let Some(body) = read_kept(&self.state, &self.keys, (*key, at.index), tag, bytes)
                {
                    let one = Told { device, body };
                    told.insert((row.get::<_, u64>(0)?, clock, at), one);
                }
            }
        }
        Ok(told.into_values().collect())
    }
}
