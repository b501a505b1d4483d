//! An agent's paths, from the directories of its devices.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, SIGNATURE_BYTES};
use rusqlite::{Connection, OptionalExtension, params};

use crate::directory::{Directory, Listed as ListedLine, PageFault, page_fault};
use crate::entry::{Body, DirectoryLine, FeedClaim, PathKind, Snapshot, SnapshotPage, Stands, tag};
use crate::index::state::{FeedState, State};
use crate::index::writer::Writer;
use crate::index::{IndexError, Scope};
use crate::limits::CLAIMS_REMEMBERED_MAX;
use crate::{BODY_FORMAT, Clock};

/// Where an entry of a directory stands among those of all directories of its agent.
type Order = (u64, Clock, FeedKey, u64);

/// A feed under its label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Listed {
    pub(super) line: DirectoryLine,
    /// Device whose directory lists it.
    pub(super) device: DeviceKey,
    pub(super) is_retired: bool,
    /// Place among the feeds of its label.
    pub(super) position: u64,
    /// Blocks of it that are the path's, when another feed goes on after it.
    pub(super) cut: Option<u64>,
}

/// What directories say, put together.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) lines: BTreeMap<FeedKey, Listed>,
    pub(super) redirects: BTreeMap<String, String>,
    /// Feeds in the order of their first lines.
    order: Vec<FeedKey>,
}

/// Claims that were looked at: whether they hold does not change.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<(FeedKey, DeviceKey, ClaimBytes), bool>);

/// A claim as tables have it: public key, signature.
type ClaimBytes = [u8; 32 + SIGNATURE_BYTES];

impl Claims {
    fn hold(&mut self, line: &DirectoryLine, agent: &AgentId, device: &DeviceKey) -> bool {
        self.make_room();
        *self
            .0
            .entry((line.feed, *device, claim_bytes(&line.claim)))
            .or_insert_with(|| line.verify(agent, device).is_ok())
    }

    /// Takes one that was verified by an earlier run.
    fn remember(&mut self, feed: FeedKey, device: DeviceKey, claim: ClaimBytes) {
        self.make_room();
        self.0.insert((feed, device, claim), true);
    }

    fn make_room(&mut self) {
        if self.0.len() >= CLAIMS_REMEMBERED_MAX {
            self.0.clear();
        }
    }
}

fn claim_bytes(claim: &FeedClaim) -> ClaimBytes {
    let mut bytes = [0; 32 + SIGNATURE_BYTES];
    bytes[..32].copy_from_slice(&claim.public_key.0);
    bytes[32..].copy_from_slice(&claim.signature);
    bytes
}

/// What of a directory changed since its agent's paths were written.
#[derive(Debug)]
enum Touched {
    /// Nobody knows what did not.
    All,
    Some {
        feeds: BTreeSet<FeedKey>,
        redirects: bool,
    },
}

impl Touched {
    const NOTHING: Touched = Touched::Some {
        feeds: BTreeSet::new(),
        redirects: false,
    };

    /// Notes what an entry may change.
    fn note(&mut self, body: &Body) {
        let Touched::Some { feeds, redirects } = self else {
            return;
        };
        match body {
            Body::DirectoryLine(line) => _ = feeds.insert(line.feed),
            Body::DirectoryRename(rename) => _ = feeds.insert(rename.feed),
            Body::DirectoryRetire(retire) => _ = feeds.insert(retire.feed),
            Body::DirectoryRedirect(_) => *redirects = true,
            _ => {}
        }
    }
}

/// What is known of a directory, put together up to an entry.
#[derive(Debug)]
pub(super) struct Folded {
    pub(super) directory: Directory,
    touched: Touched,
    /// The first block that is not in it.
    next: u64,
    /// Pages that are not what their root says.
    pub(super) faults: Vec<PageFault>,
}

impl Default for Folded {
    fn default() -> Self {
        Folded {
            directory: Directory::default(),
            touched: Touched::All,
            next: 0,
            faults: Vec::new(),
        }
    }
}

impl State {
    /// A block of a directory came: what was put together beyond it is to be put together anew.
    pub(super) fn unfold(&mut self, feed: &FeedKey, index: u64) {
        if self.folds.get(feed).is_some_and(|known| index < known.next) {
            self.folds.remove(feed);
        }
    }

    /// Returns what is known of a directory of `device`, up to its newest entry held.
    pub(super) fn fold(
        &mut self,
        db: &Connection,
        key: &FeedKey,
        agent: &AgentId,
        device: &DeviceKey,
    ) -> rusqlite::Result<&Folded> {
        let mut folded = self.folds.remove(key).unwrap_or_default();
        let whole_below = self.feeds.get(key).map_or(0, |feed| {
            let first = feed.runs.ranges().next().filter(|run| run.start == 0);
            first.map_or(0, |run| run.end)
        });
        let claims = &mut self.claims;
        let mut holds = |line: &DirectoryLine| claims.hold(line, agent, device);
        // The last word on the tag names the partial index.
        let mut statement = db.prepare_cached(
            "SELECT tag, order_depth, ms, counter, idx, body FROM facts
             WHERE feed = ?1 AND tag IN (2, 3, 4, 8, 9) AND tag <> 18 AND state = 0
                 AND idx >= ?2 ORDER BY idx",
        )?;
        let mut rows = statement.query(params![key.0, folded.next])?;
        while let Some(row) = rows.next()? {
            let at = Stands {
                depth: row.get(1)?,
                clock: Clock {
                    ms: row.get(2)?,
                    counter: row.get(3)?,
                },
                index: row.get(4)?,
            };
            folded.next = at.index + 1;
            let bytes = Bytes::copy_from_slice(row.get_ref(5)?.as_blob()?);
            match Body::decode(row.get(0)?, u64::from(BODY_FORMAT), &bytes) {
                // Who holds everything before it learns nothing from a snapshot.
                Ok(Body::Snapshot(_)) if at.index < whole_below => {}
                Ok(Body::Snapshot(root)) => {
                    folded.touched = Touched::All;
                    take_pages(db, key, at.index, &root, &mut folded, &mut holds)?;
                }
                Ok(body) => {
                    folded.touched.note(&body);
                    folded.directory.take(at, body, &mut holds);
                }
                Err(_) => {}
            }
        }
        drop(rows);
        Ok(self.folds.entry(*key).or_insert(folded))
    }
}

/// Takes the pages of a snapshot that are held.
fn take_pages(
    db: &Connection,
    key: &FeedKey,
    index: u64,
    root: &Snapshot,
    folded: &mut Folded,
    holds: &mut dyn FnMut(&DirectoryLine) -> bool,
) -> rusqlite::Result<()> {
    folded.faults.clear();
    for (number, page) in root.pages().iter().enumerate() {
        let held = match fact_tag(db, key, page.index)? {
            Some(tag::SNAPSHOT_PAGE) => page_at(db, key, page.index)?,
            None if page.index < index => continue,
            _ => None,
        };
        match (page_fault(index, root.pages(), number, held.as_ref()), held) {
            (Some(fault), _) => folded.faults.push(fault),
            (None, Some(page)) => {
                let pages = root.pages();
                folded.directory.take_page(pages, number, &page, holds);
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn fact_tag(db: &Connection, key: &FeedKey, index: u64) -> rusqlite::Result<Option<u64>> {
    db.prepare_cached("SELECT tag FROM facts WHERE feed = ?1 AND idx = ?2")?
        .query_row(params![key.0, index], |row| row.get(0))
        .optional()
}

/// Returns the page that a block of a directory is.
pub(super) fn page_at(
    db: &Connection,
    key: &FeedKey,
    index: u64,
) -> rusqlite::Result<Option<SnapshotPage>> {
    let body: Option<Vec<u8>> = db
        .prepare_cached("SELECT body FROM facts WHERE feed = ?1 AND idx = ?2 AND state = 0")?
        .query_row(params![key.0, index], |row| row.get(0))
        .optional()?;
    let body = body.and_then(|body| {
        Body::decode(tag::SNAPSHOT_PAGE, u64::from(BODY_FORMAT), &body.into()).ok()
    });
    Ok(match body {
        Some(Body::SnapshotPage(page)) => Some(page),
        _ => None,
    })
}

impl Listing {
    /// Puts the directories of an agent together: of several lines of a feed the first one counts, of
    /// several redirects of a label the last, in the order of the timeline. With `only` these feeds
    /// alone, which are to be all of their labels and of the chains that they stand in.
    fn of<'a>(
        directories: impl Iterator<Item = (FeedKey, DeviceKey, &'a Directory)>,
        only: Option<&BTreeSet<FeedKey>>,
    ) -> Self {
        let mut first: BTreeMap<FeedKey, (Order, DeviceKey, &ListedLine)> = BTreeMap::new();
        let mut last: BTreeMap<&str, (Order, &str)> = BTreeMap::new();
        for (key, device, directory) in directories {
            let order = |at: &Stands| (at.depth, at.clock, key, at.index);
            let mut take = |feed: &FeedKey, listed: &'a ListedLine| {
                let (order, of) = (order(&listed.at), first.get(feed));
                if of.is_none_or(|(known, ..)| order < *known) {
                    first.insert(*feed, (order, device, listed));
                }
            };
            match only {
                None => directory
                    .lines()
                    .for_each(|(feed, listed)| take(feed, listed)),
                Some(only) => {
                    let listed = |feed| Some((feed, directory.line(feed)?));
                    let listed = only.iter().filter_map(listed);
                    listed.for_each(|(feed, listed)| take(feed, listed));
                }
            }
            for (from, to, at) in directory.redirects() {
                let (order, of) = (order(at), last.get(from));
                if of.is_none_or(|(known, _)| order > *known) {
                    last.insert(from, (order, to));
                }
            }
        }
        let mut order: Vec<_> = first.iter().map(|(feed, (at, ..))| (*at, *feed)).collect();
        order.sort_unstable();
        let redirects = last.into_iter();
        let redirects = redirects.map(|(from, (_, to))| (from.to_owned(), to.to_owned()));
        let listed = |(feed, (_, device, listed)): (FeedKey, (Order, DeviceKey, &ListedLine))| {
            let listed = Listed {
                line: listed.line.clone(),
                device,
                is_retired: listed.is_retired,
                position: 0,
                cut: None,
            };
            (feed, listed)
        };
        let mut listing = Listing {
            redirects: redirects.collect(),
            order: order.into_iter().map(|(_, feed)| feed).collect(),
            lines: first.into_iter().map(listed).collect(),
        };
        listing.connect();
        listing
    }

    /// Connects feeds that go on after each other: label and end of the last are those of all.
    ///
    /// Of several that go on after one feed the one listed last is the path. Of several logs under
    /// one label that know nothing of each other, too.
    fn connect(&mut self) {
        let mut next: BTreeMap<FeedKey, (FeedKey, u64)> = BTreeMap::new();
        for feed in &self.order {
            let Some(cut) = self.lines[feed].line.continues else {
                continue;
            };
            if self.lines.contains_key(&cut.feed) && !leads_to(&next, *feed, cut.feed) {
                next.insert(cut.feed, (*feed, cut.length));
            }
        }
        let before: BTreeMap<FeedKey, FeedKey> = next
            .iter()
            .map(|(feed, (next, _))| (*next, *feed))
            .collect();
        let mut positions: BTreeMap<String, u64> = BTreeMap::new();
        let mut newest: BTreeMap<String, FeedKey> = BTreeMap::new();
        let ends: Vec<FeedKey> = self.order.clone();
        for end in ends.iter().filter(|feed| !next.contains_key(*feed)) {
            let last = &self.lines[end];
            let (label, is_retired) = (last.line.label.clone(), last.is_retired);
            let mut chain = vec![*end];
            while let Some(feed) = before.get(&chain[chain.len() - 1]) {
                chain.push(*feed);
            }
            let position = positions.entry(label.to_string()).or_default();
            for feed in chain.iter().rev() {
                if let Some(listed) = self.lines.get_mut(feed) {
                    listed.line.label = label.clone();
                    listed.is_retired = is_retired;
                    listed.position = *position;
                    listed.cut = next.get(feed).map(|(_, length)| *length);
                    *position += 1;
                }
            }
            if is_retired {
                continue;
            }
            // Nothing of an older one is the path's.
            if let Some(older) = newest.insert(label.into_string(), *end)
                && let Some(older) = self.lines.get_mut(&older)
                && PathKind::of(&older.line.kind) == PathKind::Log
            {
                older.cut = Some(0);
            }
        }
    }
}

/// Returns whether a feed is found by going on from another.
fn leads_to(next: &BTreeMap<FeedKey, (FeedKey, u64)>, from: FeedKey, to: FeedKey) -> bool {
    let mut at = from;
    loop {
        if at == to {
            return true;
        }
        match next.get(&at) {
            Some((feed, _)) => at = *feed,
            None => return false,
        }
    }
}

/// Reads what all directories of an agent say: the public ones, or with `is_private` the private.
pub(super) fn listing(
    db: &Connection,
    state: &mut State,
    agent: &AgentId,
    is_private: bool,
) -> rusqlite::Result<Listing> {
    let directories = directories(state, agent, is_private);
    fold_all(db, state, agent, &directories)?;
    Ok(Listing::of(folded(state, &directories), None))
}

fn fold_all(
    db: &Connection,
    state: &mut State,
    agent: &AgentId,
    directories: &[(FeedKey, DeviceKey)],
) -> rusqlite::Result<()> {
    for (key, device) in directories {
        state.fold(db, key, agent, device)?;
    }
    Ok(())
}

/// Returns directories that were put together.
fn folded<'a>(
    state: &'a State,
    directories: &'a [(FeedKey, DeviceKey)],
) -> impl Iterator<Item = (FeedKey, DeviceKey, &'a Directory)> {
    directories.iter().filter_map(|(key, device)| {
        let folded = state.folds.get(key)?;
        Some((*key, *device, &folded.directory))
    })
}

pub(super) fn directories(
    state: &State,
    agent: &AgentId,
    is_private: bool,
) -> Vec<(FeedKey, DeviceKey)> {
    let feeds = state.feeds.iter();
    let directory = |(key, feed): (&FeedKey, &FeedState)| match feed.scope {
        Scope::Directory { author, device } if author == *agent && !is_private => {
            Some((*key, device))
        }
        Scope::PrivateDirectory { author, device } if author == *agent && is_private => {
            Some((*key, device))
        }
        _ => None,
    };
    feeds.filter_map(directory).collect()
}

impl Writer<'_> {
    /// Brings an agent's public paths up to date with what its directories say: where only single lines
    /// changed, the paths of their labels. Else all of them: 10,000 take some 20 ms, their claims at
    /// first sight half a second.
    pub(super) fn remake_directory(&mut self, agent: &AgentId) -> Result<(), IndexError> {
        let user = agent.to_string();
        let directories = directories(self.state, agent, false);
        fold_all(self.db, self.state, agent, &directories)?;
        let (mut feeds, mut redirects, mut is_all) = (BTreeSet::new(), false, false);
        for (key, _) in &directories {
            let Some(folded) = self.state.folds.get_mut(key) else {
                continue;
            };
            match std::mem::replace(&mut folded.touched, Touched::NOTHING) {
                Touched::All => is_all = true,
                Touched::Some {
                    feeds: touched,
                    redirects: led,
                } => {
                    feeds.extend(touched);
                    redirects |= led;
                }
            }
        }
        let mut written = match self.state.paths.remove(agent) {
            Some(written) => written,
            None => {
                is_all = true;
                WrittenPaths::of(self.known_rows(&user)?)
            }
        };
        let only = match is_all {
            true => None,
            false => written.apart(feeds, folded(self.state, &directories)),
        };
        let listing = Listing::of(folded(self.state, &directories), only.as_ref());
        let mut is_changed = self.write_paths(&user, &mut written, &listing, only)?;
        if is_all || redirects {
            is_changed |= self.write_redirects(&user, &listing.redirects)?;
        }
        self.state.paths.insert(*agent, written);
        self.report.change(*agent).paths |= is_changed;
        Ok(())
    }

    /// Writes the rows of `only` these feeds, or of all, as far as they changed; returns whether any did.
    fn write_paths(
        &mut self,
        user: &str,
        written: &mut WrittenPaths,
        listing: &Listing,
        only: Option<BTreeSet<FeedKey>>,
    ) -> Result<bool, IndexError> {
        let mut is_changed = false;
        let stood = match only {
            Some(only) => only.into_iter().collect(),
            None => written.rows.keys().copied().collect::<Vec<_>>(),
        };
        for feed in stood {
            if !listing.lines.contains_key(&feed) && written.remove(&feed) {
                is_changed = true;
                self.db
                    .prepare_cached("DELETE FROM directory WHERE user_id = ?1 AND feed = ?2")?
                    .execute(params![user, feed.0])?;
            }
        }
        for (feed, listed) in &listing.lines {
            let line = &listed.line;
            let row: Stored = (
                line.label.to_string(),
                line.kind.to_string(),
                line.content.as_str().to_owned(),
                line.feed_id,
                listed.device.to_string(),
                listed.position,
                listed.cut,
                claim_bytes(&line.claim),
                listed.is_retired,
            );
            if let Some(cut) = line.continues {
                written.chained.extend([*feed, cut.feed]);
            }
            if written.rows.get(feed) == Some(&row) {
                continue;
            }
            is_changed = true;
            self.db
                .prepare_cached(
                    "INSERT OR REPLACE INTO directory
                     (user_id, feed, label, kind, content, feed_id, device, position, cut, claim,
                      retired) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?
                .execute(params![
                    user, feed.0, row.0, row.1, row.2, row.3, row.4, row.5, row.6, row.7, row.8
                ])?;
            written.put(*feed, row);
        }
        Ok(is_changed)
    }

    /// Writes where labels lead, as far as that changed; returns whether any did.
    fn write_redirects(
        &mut self,
        user: &str,
        redirects: &BTreeMap<String, String>,
    ) -> Result<bool, IndexError> {
        let known: BTreeMap<String, String> = self
            .db
            .prepare_cached("SELECT label, target FROM redirects WHERE user_id = ?1")?
            .query_map([user], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut is_changed = false;
        for label in known.keys().filter(|label| !redirects.contains_key(*label)) {
            is_changed = true;
            self.db
                .prepare_cached("DELETE FROM redirects WHERE user_id = ?1 AND label = ?2")?
                .execute(params![user, label])?;
        }
        for (label, target) in redirects {
            if known.get(label) == Some(target) {
                continue;
            }
            is_changed = true;
            self.db
                .prepare_cached("INSERT OR REPLACE INTO redirects VALUES (?1, ?2, ?3)")?
                .execute(params![user, label, target])?;
        }
        Ok(is_changed)
    }

    /// Reads the rows of an agent, whose claims were verified when they were written.
    fn known_rows(&mut self, user: &str) -> rusqlite::Result<BTreeMap<FeedKey, Stored>> {
        let known: BTreeMap<FeedKey, Stored> = self
            .db
            .prepare_cached(
                "SELECT feed, label, kind, content, feed_id, device, position, cut, claim, retired
                 FROM directory WHERE user_id = ?1",
            )?
            .query_map([user], |row| {
                let stored = (
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                    row.get(7)?,
                    row.get(8)?,
                    row.get(9)?,
                );
                Ok((FeedKey(row.get(0)?), stored))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (feed, row) in &known {
            if let Ok(device) = row.4.parse() {
                self.state.claims.remember(*feed, device, row.7);
            }
        }
        Ok(known)
    }
}

/// The rows of an agent's public paths as they stand in their table.
#[derive(Debug, Default)]
pub(super) struct WrittenPaths {
    rows: BTreeMap<FeedKey, Stored>,
    labels: BTreeSet<(String, FeedKey)>,
    /// Feeds that go on after others, or are said to be gone on with: known once all were looked at.
    chained: BTreeSet<FeedKey>,
}

impl WrittenPaths {
    fn of(rows: BTreeMap<FeedKey, Stored>) -> Self {
        let labels = rows.iter().map(|(feed, row)| (row.0.clone(), *feed));
        WrittenPaths {
            labels: labels.collect(),
            rows,
            chained: BTreeSet::new(),
        }
    }

    fn put(&mut self, feed: FeedKey, row: Stored) {
        self.labels.insert((row.0.clone(), feed));
        if let Some(before) = self.rows.insert(feed, row)
            && before.0 != self.rows[&feed].0
        {
            self.labels.remove(&(before.0, feed));
        }
    }

    fn remove(&mut self, feed: &FeedKey) -> bool {
        let Some(row) = self.rows.remove(feed) else {
            return false;
        };
        self.labels.remove(&(row.0, *feed))
    }

    /// Returns the feeds whose rows may change when lines of `touched` did: those of their labels, of
    /// now and before. `None` where a path goes on from feed to feed, and so from label to label.
    fn apart<'a>(
        &self,
        touched: BTreeSet<FeedKey>,
        directories: impl Iterator<Item = (FeedKey, DeviceKey, &'a Directory)>,
    ) -> Option<BTreeSet<FeedKey>> {
        let mut labels: BTreeSet<String> = BTreeSet::new();
        let rows = touched.iter().filter_map(|feed| self.rows.get(feed));
        labels.extend(rows.map(|row| row.0.clone()));
        for (.., directory) in directories {
            for listed in touched.iter().filter_map(|feed| directory.line(feed)) {
                if listed.line.continues.is_some() {
                    return None;
                }
                labels.insert(listed.line.label.to_string());
            }
        }
        let mut apart = touched;
        for label in labels {
            let from = (label.clone(), FeedKey([0; 32]));
            let same = self.labels.range(from..);
            let same = same.take_while(|(other, _)| *other == label);
            apart.extend(same.map(|(_, feed)| *feed));
        }
        let is_chained = apart.iter().any(|feed| self.chained.contains(feed));
        (!is_chained).then_some(apart)
    }
}

/// A row of the `directory` table: label, kind, content, feed id, device, position, cut, claim,
/// whether it is listed no more.
type Stored = (
    String,
    String,
    String,
    [u8; 16],
    String,
    u64,
    Option<u64>,
    ClaimBytes,
    bool,
);
