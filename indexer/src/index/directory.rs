//! An agent's public paths, from the directories of its devices.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use rusqlite::params;

use crate::BODY_FORMAT;
use crate::entry::{Body, tag};
use crate::index::writer::Writer;
use crate::index::{IndexError, Scope};

/// A row of the `directory` table: label, kind, content, feed id, device, position, cut.
type Line = (String, String, String, [u8; 16], String, u64, Option<u64>);

/// A directory entry where its timeline puts it: depth, clock and counter, feed, index.
type Order = (u64, u64, u64, FeedKey, u64);

impl Writer<'_> {
    /// Makes an agent's directory anew from the lines, renames and redirects of its devices.
    ///
    /// The first line of a feed fixes its kind, content and id; later lines and renames change the
    /// label only. Several feeds of one label are one path that later devices continue: in the order of
    /// their first lines, each but the last up to the newest head that another device committed to. As
    /// long as the directory: 10,000 paths take some 20 ms.
    pub(super) fn remake_directory(&mut self, agent: &AgentId) -> Result<(), IndexError> {
        let mut lines: BTreeMap<FeedKey, Line> = BTreeMap::new();
        let mut redirects: BTreeMap<String, String> = BTreeMap::new();
        let mut order: Vec<FeedKey> = Vec::new();
        for (device, body) in self.directory_bodies(agent)?.into_values() {
            match body {
                Body::DirectoryLine(line) => {
                    lines
                        .entry(line.feed)
                        .and_modify(|known| known.0 = line.label.to_string())
                        .or_insert_with(|| {
                            let content = line.content.as_str().to_owned();
                            let (label, kind) = (line.label.to_string(), line.kind.to_string());
                            order.push(line.feed);
                            (label, kind, content, line.feed_id, device, 0, None)
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
                Body::DirectoryHeads(heads) => {
                    for head in heads.heads() {
                        if let Some(line) = lines.get_mut(&head.feed)
                            && line.4 != device
                        {
                            line.6 = Some(head.length);
                        }
                    }
                }
                _ => {}
            }
        }
        let mut positions: BTreeMap<String, u64> = BTreeMap::new();
        for feed in &order {
            if let Some(line) = lines.get_mut(feed) {
                let position = positions.entry(line.0.clone()).or_default();
                line.5 = *position;
                *position += 1;
            }
        }
        let user = agent.to_string();
        let known: BTreeMap<FeedKey, Line> = self
            .db
            .prepare_cached(
                "SELECT feed, label, kind, content, feed_id, device, position, cut FROM directory
                 WHERE user_id = ?1",
            )?
            .query_map([&user], |row| {
                let line = (
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                    row.get(7)?,
                );
                Ok((FeedKey(row.get(0)?), line))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (feed, line) in &lines {
            if known.get(feed) == Some(line) {
                continue;
            }
            let (label, kind, content, feed_id, device, position, cut) = line;
            self.db
                .prepare_cached(
                    "INSERT OR REPLACE INTO directory VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    user, feed.0, label, kind, content, feed_id, device, position, cut
                ])?;
        }
        for (label, target) in &redirects {
            self.db
                .prepare_cached("INSERT OR REPLACE INTO redirects VALUES (?1, ?2, ?3)")?
                .execute(params![user, label, target])?;
        }
        Ok(())
    }

    /// Returns whether an agent has more than one device.
    pub(super) fn has_several_directories(&self, agent: &AgentId) -> bool {
        let feeds = self.state.feeds.values();
        let of_agent = feeds.filter(
            |feed| matches!(feed.scope, Scope::Directory { author, .. } if author == *agent),
        );
        of_agent.count() > 1
    }

    fn directory_bodies(
        &self,
        agent: &AgentId,
    ) -> rusqlite::Result<BTreeMap<Order, (String, Body)>> {
        let has_several = self.has_several_directories(agent);
        let mut bodies = BTreeMap::new();
        // `tag < 6` names the partial index.
        let mut statement = self.db.prepare_cached(
            "SELECT tag, order_depth, ms, counter, idx, body FROM facts
             WHERE feed = ?1 AND tag < 6 AND tag IN (?2, ?3, ?4, ?5) AND state = 0",
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
                // A device alone continues nobody's path: its many commitments are not read.
                if has_several {
                    tag::DIRECTORY_HEADS
                } else {
                    tag::DIRECTORY_LINE
                },
            );
            let mut rows = statement.query(params![key.0, tags.0, tags.1, tags.2, tags.3])?;
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
