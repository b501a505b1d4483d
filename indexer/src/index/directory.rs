//! An agent's paths, from the directories of its devices.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, SIGNATURE_BYTES};
use rusqlite::{Connection, params};

use crate::BODY_FORMAT;
use crate::entry::{Body, DirectoryLine, FeedClaim, PathKind, SnapshotRow};
use crate::index::state::State;
use crate::index::writer::Writer;
use crate::index::{IndexError, Scope};
use crate::limits::CLAIMS_REMEMBERED_MAX;

/// A directory entry where its timeline puts it: depth, clock and counter, feed, index.
type Order = (u64, u64, u64, FeedKey, u64);

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

impl Listing {
    /// Puts the entries of an agent's directories together, in the order of their timeline.
    ///
    /// The first line of a feed fixes its kind, content and id; later lines, renames and pages of
    /// snapshots change the label only. A line whose claim does not hold is none.
    fn of(
        agent: &AgentId,
        bodies: impl IntoIterator<Item = (DeviceKey, Body)>,
        claims: &mut Claims,
    ) -> Self {
        let mut listing = Listing::default();
        for (device, body) in bodies {
            match body {
                Body::DirectoryLine(line) => {
                    listing.list(agent, device, line, false, claims);
                }
                Body::SnapshotPage(page) => {
                    for row in page.rows() {
                        match row {
                            SnapshotRow::Line {
                                line, is_retired, ..
                            } => listing.list(agent, device, (**line).clone(), *is_retired, claims),
                            SnapshotRow::Redirect(redirect) => {
                                let (from, to) = (redirect.from.clone(), redirect.to.clone());
                                listing
                                    .redirects
                                    .insert(from.into_string(), to.into_string());
                            }
                        }
                    }
                }
                Body::DirectoryRename(rename) => {
                    if let Some(listed) = listing.lines.get_mut(&rename.feed) {
                        listed.line.label = rename.label;
                    }
                }
                Body::DirectoryRetire(retire) => {
                    if let Some(listed) = listing.lines.get_mut(&retire.feed) {
                        listed.is_retired = true;
                    }
                }
                Body::DirectoryRedirect(redirect) => {
                    let (from, to) = (redirect.from.into_string(), redirect.to.into_string());
                    listing.redirects.insert(from, to);
                }
                _ => {}
            }
        }
        listing.connect();
        listing
    }

    fn list(
        &mut self,
        agent: &AgentId,
        device: DeviceKey,
        line: DirectoryLine,
        is_retired: bool,
        claims: &mut Claims,
    ) {
        if !claims.hold(&line, agent, &device) {
            return;
        }
        if let Some(known) = self.lines.get_mut(&line.feed) {
            known.line.label = line.label;
            known.is_retired |= is_retired;
            return;
        }
        self.order.push(line.feed);
        let listed = Listed {
            line,
            device,
            is_retired,
            position: 0,
            cut: None,
        };
        self.lines.insert(listed.line.feed, listed);
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
    let mut bodies: BTreeMap<Order, (DeviceKey, Body)> = BTreeMap::new();
    // The longer list of tags names the partial index.
    let mut statement = db.prepare_cached(
        "SELECT tag, order_depth, ms, counter, idx, body FROM facts
         WHERE feed = ?1 AND tag IN (2, 3, 4, 7, 8, 9, 12, 13, 15, 38)
             AND tag IN (2, 3, 4, 7, 9) AND state = 0",
    )?;
    for (key, feed) in &state.feeds {
        let device = match feed.scope {
            Scope::Directory { author, device } if author == *agent && !is_private => device,
            Scope::PrivateDirectory { author, device } if author == *agent && is_private => device,
            _ => continue,
        };
        let mut rows = statement.query([key.0])?;
        while let Some(row) = rows.next()? {
            let order = (row.get(1)?, row.get(2)?, row.get(3)?, *key, row.get(4)?);
            let bytes = Bytes::copy_from_slice(row.get_ref(5)?.as_blob()?);
            if let Ok(body) = Body::decode(row.get(0)?, u64::from(BODY_FORMAT), &bytes) {
                bodies.insert(order, (device, body));
            }
        }
    }
    Ok(Listing::of(agent, bodies.into_values(), &mut state.claims))
}

impl Writer<'_> {
    /// Makes an agent's public paths anew from everything its directories say. As long as the
    /// directory: 10,000 paths take some 20 ms, their claims at first sight half a second.
    pub(super) fn remake_directory(&mut self, agent: &AgentId) -> Result<(), IndexError> {
        let user = agent.to_string();
        let known = self.known_rows(&user)?;
        let listing = listing(self.db, self.state, agent, false)?;
        for feed in known
            .keys()
            .filter(|feed| !listing.lines.contains_key(feed))
        {
            self.db
                .prepare_cached("DELETE FROM directory WHERE user_id = ?1 AND feed = ?2")?
                .execute(params![user, feed.0])?;
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
            if known.get(feed) == Some(&row) {
                continue;
            }
            self.db
                .prepare_cached(
                    "INSERT OR REPLACE INTO directory
                     (user_id, feed, label, kind, content, feed_id, device, position, cut, claim,
                      retired) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?
                .execute(params![
                    user, feed.0, row.0, row.1, row.2, row.3, row.4, row.5, row.6, row.7, row.8
                ])?;
        }
        for (label, target) in &listing.redirects {
            self.db
                .prepare_cached("INSERT OR REPLACE INTO redirects VALUES (?1, ?2, ?3)")?
                .execute(params![user, label, target])?;
        }
        Ok(())
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
