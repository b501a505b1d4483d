//! An agent's public paths, from the directories of its devices.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use rusqlite::params;

use crate::BODY_FORMAT;
use crate::entry::{Body, tag};
use crate::index::writer::Writer;
use crate::index::{IndexError, Scope};

/// A row of the `directory` table: label, kind, content, feed id, device.
type Line = (String, String, String, [u8; 16], String);

/// A directory entry where its timeline puts it: depth, clock and counter, feed, index.
type Order = (u64, u64, u64, FeedKey, u64);

impl Writer<'_> {
    /// Makes an agent's directory anew from the lines, renames and redirects of its devices.
    ///
    /// The first line of a feed fixes its kind, content and id; later lines and renames change the
    /// label only. As long as the directory: 10,000 paths take some 20 ms.
    pub(super) fn remake_directory(&mut self, agent: &AgentId) -> Result<(), IndexError> {
        let mut lines: BTreeMap<FeedKey, Line> = BTreeMap::new();
        let mut redirects: BTreeMap<String, String> = BTreeMap::new();
        for (device, body) in self.directory_bodies(agent)?.into_values() {
            match body {
                Body::DirectoryLine(line) => {
                    lines
                        .entry(line.feed)
                        .and_modify(|known| known.0 = line.label.to_string())
                        .or_insert_with(|| {
                            let content = line.content.as_str().to_owned();
                            let (label, kind) = (line.label.to_string(), line.kind.to_string());
                            (label, kind, content, line.feed_id, device)
                        });
                }
                Body::DirectoryRename(rename) => {
                    if let Some(line) = lines.get_mut(&rename.feed) {
                        line.0 = rename.label.into_string();
                    }
                }
                Body::DirectoryRedirect(redirect) => {
                    redirects.insert(redirect.from.into_string(), redirect.to.into_string());
                }
                _ => {}
            }
        }
        let user = agent.to_string();
        let known: BTreeMap<FeedKey, Line> = self
            .db
            .prepare_cached(
                "SELECT feed, label, kind, content, feed_id, device FROM directory
                 WHERE user_id = ?1",
            )?
            .query_map([&user], |row| {
                let line = (
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                );
                Ok((FeedKey(row.get(0)?), line))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (feed, line) in &lines {
            if known.get(feed) == Some(line) {
                continue;
            }
            let (label, kind, content, feed_id, device) = line;
            self.db
                .prepare_cached(
                    "INSERT OR REPLACE INTO directory VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![user, feed.0, label, kind, content, feed_id, device])?;
        }
        for (label, target) in &redirects {
            self.db
                .prepare_cached("INSERT OR REPLACE INTO redirects VALUES (?1, ?2, ?3)")?
                .execute(params![user, label, target])?;
        }
        Ok(())
    }

    fn directory_bodies(
        &self,
        agent: &AgentId,
    ) -> rusqlite::Result<BTreeMap<Order, (String, Body)>> {
        let mut bodies = BTreeMap::new();
        // `tag < 6` names the partial index.
        let mut statement = self.db.prepare_cached(
            "SELECT tag, order_depth, ms, counter, idx, body FROM facts
             WHERE feed = ?1 AND tag < 6 AND tag IN (?2, ?3, ?4) AND state = 0",
        )?;
        for (key, feed) in &self.state.feeds {
            let Scope::Directory { author, device } = feed.scope else {
                continue;
            };
            if author != *agent {
                continue;
            }
            let tags = (
                tag::DIRECTORY_LINE,
                tag::DIRECTORY_RENAME,
                tag::DIRECTORY_REDIRECT,
            );
            let mut rows = statement.query(params![key.0, tags.0, tags.1, tags.2])?;
            while let Some(row) = rows.next()? {
                let order = (row.get(1)?, row.get(2)?, row.get(3)?, *key, row.get(4)?);
                let bytes = Bytes::copy_from_slice(row.get_ref(5)?.as_blob()?);
                if let Ok(body) = Body::decode(row.get(0)?, u64::from(BODY_FORMAT), &bytes) {
                    bodies.insert(order, (device.to_string(), body));
                }
            }
        }
        Ok(bodies)
    }
}
