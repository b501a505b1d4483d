//! Snapshots of directories: which one is the newest, what of it is held, and what the next says.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash};
use rusqlite::{OptionalExtension, params};

use crate::directory::{Held, NextSnapshot, PageFault, cut_into_pages};
use crate::entry::{Body, Head, LinkTag, Snapshot, SnapshotPage, tag};
use crate::index::IndexError;
use crate::index::clearing::newest_cleared;
use crate::index::directory::{directories, page_at};
use crate::index::links::links_from_sql;
use crate::limits::{SNAPSHOT_EVERY, SNAPSHOT_EVERY_BYTES, SNAPSHOT_KEPT_MAX};
use crate::{BODY_FORMAT, Index};

/// What is known of one directory's snapshots.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SnapshotState {
    /// The newest entry held.
    pub newest: Option<u64>,
    /// Block of the root that it names, or is.
    pub root: Option<u64>,
    /// The root, when it is held and one.
    pub snapshot: Option<Snapshot>,
    /// Its pages that are not what it says.
    pub faults: Vec<PageFault>,
}

impl SnapshotState {
    /// Returns it as a reader asks with it.
    pub fn held(&self) -> Held<'_> {
        Held {
            newest: self.newest,
            root: self.root,
            snapshot: self.snapshot.as_ref(),
        }
    }
}

impl Index {
    /// Returns what is known of a directory's snapshots.
    pub fn snapshot_state(&self, directory: &FeedKey) -> Result<SnapshotState, IndexError> {
        let Some((newest, mut root)) = self.newest_and_root(directory)? else {
            return Ok(SnapshotState::default());
        };
        let snapshot = match root {
            Some(root) => self.root_at(directory, root)?,
            None => None,
        };
        // What is named and is no root leads nowhere: such a directory is read whole.
        if snapshot.is_none() && root.is_some_and(|root| self.is_indexed(directory, root)) {
            root = None;
        }
        let folded = self.state.folds.get(directory);
        Ok(SnapshotState {
            newest: Some(newest),
            root,
            snapshot,
            faults: folded.map_or_else(Vec::new, |folded| folded.faults.clone()),
        })
    }

    /// Returns the block of the root that the newest entry held of a directory names, or is.
    pub fn snapshot_root(&self, directory: &FeedKey) -> Result<Option<u64>, IndexError> {
        let known = self.newest_and_root(directory)?;
        Ok(known.and_then(|(_, root)| root))
    }

    /// Returns the labels of an agent's public directories that lead to each other, both ways: by a
    /// redirect, and by a line whose feed goes on after one that stands elsewhere.
    pub fn leads(&mut self, agent: &AgentId) -> Result<Vec<(String, String)>, IndexError> {
        let mut leads = Vec::new();
        for (key, device) in directories(&self.state, agent, false) {
            let folded = self
                .state
                .fold(&self.reader.connection, &key, agent, &device)?;
            for (from, to, _) in folded.directory.redirects() {
                leads.push((from.to_owned(), to.to_owned()));
                leads.push((to.to_owned(), from.to_owned()));
            }
            for (_, listed) in folded.directory.lines() {
                if listed.line.continues.is_some() && listed.first_label != listed.line.label {
                    let first = listed.first_label.to_string();
                    leads.push((listed.line.label.to_string(), first));
                }
            }
        }
        leads.sort_unstable();
        leads.dedup();
        Ok(leads)
    }

    /// Returns the snapshot that a directory of `device` is to append now; `None` before
    /// [`SNAPSHOT_EVERY`] entries or [`SNAPSHOT_EVERY_BYTES`] bytes of them came after the last one.
    /// To be asked by the device that writes it, which holds all of it.
    pub fn next_snapshot(
        &mut self,
        agent: &AgentId,
        device: &DeviceKey,
        directory: &FeedKey,
    ) -> Result<Option<NextSnapshot>, IndexError> {
        let known = self.snapshot_state(directory)?;
        let first = known.root.map_or(0, |root| root + 1);
        let (entries, bytes): (u64, Option<u64>) = self
            .connection
            .prepare_cached(
                "SELECT count(*), sum(length(body) + length(links)) FROM facts
                 WHERE feed = ?1 AND idx >= ?2",
            )?
            .query_row(params![directory.0, first], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        if entries < SNAPSHOT_EVERY && bytes.unwrap_or(0) < SNAPSHOT_EVERY_BYTES {
            return Ok(None);
        }
        let heads = self.heads_of(agent)?;
        let folded = (self.state).fold(&self.reader.connection, directory, agent, device)?;
        let rows = folded.directory.rows(&heads);
        let mut before: Vec<(_, SnapshotPage)> = Vec::new();
        if let Some(snapshot) = known.snapshot {
            for page in snapshot.pages() {
                let held = page_at(&self.connection, directory, page.index)?;
                before.extend(held.map(|held| (page.clone(), held)));
            }
            if before.len() != snapshot.pages().len() {
                before.clear();
            }
        }
        let cleared = newest_cleared(&self.connection, directory)?.into_iter();
        let mut kept: Vec<u64> = cleared.map(|(index, _)| index).collect();
        let others = SNAPSHOT_KEPT_MAX - kept.len();
        kept.extend(self.all(
            "SELECT idx FROM facts WHERE feed = ?1 AND tag NOT IN (2, 3, 4, 5, 7, 8, 9, 38)
             AND state = 0 ORDER BY idx DESC LIMIT ?2",
            params![directory.0, others as i64],
            |row| row.get::<_, u64>(0),
        )?);
        Ok(cut_into_pages(rows, &before, kept))
    }

    fn newest_and_root(
        &self,
        directory: &FeedKey,
    ) -> Result<Option<(u64, Option<u64>)>, IndexError> {
        let newest: Option<(u64, u64, Vec<u8>)> = self
            .connection
            .prepare_cached(
                "SELECT idx, tag, links FROM facts WHERE feed = ?1 ORDER BY idx DESC LIMIT 1",
            )?
            .query_row([directory.0], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let own = self.state.feeds.get(directory).and_then(|feed| feed.link);
        Ok(newest.map(|(newest, newest_tag, links)| {
            let root = match newest_tag {
                tag::SNAPSHOT => Some(newest),
                _ => own.and_then(|(_, tag)| root_named(&links, tag)),
            };
            (newest, root)
        }))
    }

    fn root_at(&self, directory: &FeedKey, root: u64) -> Result<Option<Snapshot>, IndexError> {
        let body: Option<Vec<u8>> = self
            .connection
            .prepare_cached(
                "SELECT body FROM facts WHERE feed = ?1 AND idx = ?2 AND tag = 8 AND state = 0",
            )?
            .query_row(params![directory.0, root], |row| row.get(0))
            .optional()?;
        Ok(body.and_then(|body| {
            match Body::decode(tag::SNAPSHOT, u64::from(BODY_FORMAT), &Bytes::from(body)) {
                Ok(Body::Snapshot(snapshot)) => Some(snapshot),
                _ => None,
            }
        }))
    }

    /// Returns the longest heads that an agent's directories committed to.
    fn heads_of(&self, agent: &AgentId) -> Result<BTreeMap<FeedKey, Head>, IndexError> {
        let heads = self.all(
            "SELECT feed, length, tree_hash FROM heads WHERE user_id = ?1",
            params![agent.to_string()],
            |row| {
                Ok(Head {
                    feed: FeedKey(row.get(0)?),
                    length: row.get(1)?,
                    tree_hash: Hash(row.get(2)?),
                })
            },
        )?;
        Ok(heads.into_iter().map(|head| (head.feed, head)).collect())
    }
}

fn root_named(links: &[u8], own: LinkTag) -> Option<u64> {
    let mut named = links_from_sql(links).into_iter();
    named.find(|link| link.tag == own).map(|link| link.index)
}
