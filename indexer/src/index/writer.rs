//! Stage one: blocks become facts, links find their targets, depths and the frontier follow.
//!
//! Everything here gives the same tables in whatever order blocks arrive: what depends on two
//! entries is done when the second of them comes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_feeds::limits::UINT_MAX;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::RoomId;
use crate::clock::Clock;
use crate::entry::{
    Body, BodyError, EntryError, Envelope, LINK_HASH_BYTES, Link, LinkScope, LinkTag, OPEN_BLOCK,
};
use crate::index::state::{FeedState, Place, State, read_frontier, scope_columns, scope_to_sql};
use crate::index::{Block, FeedContext, IndexError, IngestReport, Scope, TreeHashes};
use crate::limits::LINKS_MAX;
use crate::seal::{ContentKey, EpochId, SEALED_BLOCK, SealedBlock, open_with_id};

/// Epoch keys by room and epoch.
pub(super) type Keys = BTreeMap<(RoomId, EpochId), ContentKey>;

/// Bytes of a link as `facts.links` has it: tag, index, hash.
const LINK_BYTES: usize = 8 + 8 + LINK_HASH_BYTES;

/// Where an entry stands in its timeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) feed: FeedKey,
    pub(super) index: u64,
    pub(super) depth: u64,
    pub(super) clock: Clock,
}

/// One transaction of the index: facts, views and checkpoint together.
pub(super) struct Writer<'a> {
    pub(super) db: &'a Connection,
    pub(super) state: &'a mut State,
    keys: &'a Keys,
    trees: Option<&'a dyn TreeHashes>,
    pub(super) report: IngestReport,
    pub(super) hot: HotStatements<'a>,
    tallies: BTreeMap<&'static str, i64>,
    touched_feeds: BTreeSet<FeedKey>,
    frontier_changes: HashMap<(LinkScope, Place), Option<u64>>,
    /// Newest clock by room feed, to be written once.
    pub(super) last_seen: BTreeMap<FeedKey, u64>,
    /// Rooms whose members are to be counted again.
    pub(super) stale_rooms: BTreeSet<RoomId>,
    /// Members, by room and agent as tables have them, whose row is to be written again.
    pub(super) stale_members: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Agents whose directory is to be made again.
    pub(super) stale_directories: BTreeSet<AgentId>,
}

/// Statements that every entry or message runs, looked up once a transaction.
pub(super) struct HotStatements<'a> {
    insert_fact: CachedStatement<'a>,
    fact_depth: CachedStatement<'a>,
    await_link: CachedStatement<'a>,
    awaiting: CachedStatement<'a>,
    pub(super) insert_message: CachedStatement<'a>,
    pub(super) insert_words: CachedStatement<'a>,
}

impl<'a> HotStatements<'a> {
    fn prepare(db: &'a Connection) -> rusqlite::Result<Self> {
        Ok(HotStatements {
            insert_fact: db.prepare_cached(
                "INSERT INTO facts (feed, idx, tag, format, state, flags, depth, order_depth, ms,
                 counter, links, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            fact_depth: db
                .prepare_cached("SELECT depth FROM facts WHERE feed = ?1 AND idx = ?2")?,
            await_link: db
                .prepare_cached("INSERT OR IGNORE INTO awaited VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            awaiting: db.prepare_cached(
                "SELECT feed, by_idx, hash FROM awaited WHERE scope = ?1 AND tag = ?2 AND idx = ?3",
            )?,
            insert_message: db
                .prepare_cached("INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?,
            insert_words: db
                .prepare_cached("INSERT INTO messages_search (rowid, text) VALUES (?1, ?2)")?,
        })
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        db: &'a Connection,
        state: &'a mut State,
        keys: &'a Keys,
        trees: Option<&'a dyn TreeHashes>,
    ) -> rusqlite::Result<Self> {
        Ok(Writer {
            db,
            state,
            keys,
            trees,
            report: IngestReport::default(),
            hot: HotStatements::prepare(db)?,
            tallies: BTreeMap::new(),
            touched_feeds: BTreeSet::new(),
            frontier_changes: HashMap::new(),
            last_seen: BTreeMap::new(),
            stale_rooms: BTreeSet::new(),
            stale_members: BTreeSet::new(),
            stale_directories: BTreeSet::new(),
        })
    }

    /// Takes a feed, or the author of one that was unknown.
    pub(super) fn put_feed(&mut self, context: FeedContext) -> Result<(), IndexError> {
        let FeedContext { key, scope } = context;
        let known = self.state.feeds.get(&key).map(|feed| feed.scope);
        match known {
            Some(known) if known == scope || scope == Scope::Unknown => return Ok(()),
            None => {}
            Some(Scope::Unknown) if scope.author().is_some() => {}
            Some(_) => return Err(IndexError::OtherScope { feed: key }),
        }
        let (number, room, author, device) = scope_columns(&scope);
        self.db
            .prepare_cached("INSERT OR REPLACE INTO feeds VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![key.0, number, room, author, device])?;
        let mut feed = FeedState::new(&key, scope);
        if let Some(before) = self.state.feeds.get_mut(&key) {
            feed.runs = std::mem::take(&mut before.runs);
        }
        if let Some(room) = &feed.room {
            feed.member = self
                .db
                .prepare_cached(
                    "SELECT user_id FROM member_feeds WHERE room_id = ?1 AND feed = ?2",
                )?
                .query_row(params![room, key.0], |row| row.get(0))
                .optional()?;
        }
        let collides = self.state.add_feed(key, feed);
        if let Some(link) = scope.link_scope()
            && (collides || known.is_some())
        {
            self.relink(link)?;
        }
        Ok(())
    }

    /// Takes a verified block.
    pub(super) fn add_block(&mut self, block: &Block) -> Result<(), IndexError> {
        let Block { feed, index, bytes } = block;
        let Some(known) = self.state.feeds.get_mut(feed) else {
            return Err(IndexError::UnknownFeed {
                feed: *feed,
                index: *index,
            });
        };
        if !known.runs.insert(*index) {
            self.report.known += 1;
            return Ok(());
        }
        self.touched_feeds.insert(*feed);
        match bytes.first() {
            Some(&OPEN_BLOCK) => self.add_entry((*feed, *index), &bytes.slice(1..)),
            Some(&SEALED_BLOCK) => self.add_sealed((*feed, *index), bytes),
            _ => self.skip((*feed, *index), "not_entries"),
        }
    }

    /// Reads the blocks that waited for an epoch's key.
    pub(super) fn open_pending(&mut self, room: RoomId, epoch: EpochId) -> Result<(), IndexError> {
        let waiting: Vec<(Place, Vec<u8>)> = self
            .db
            .prepare_cached(
                "SELECT p.feed, p.idx, p.block FROM pending p JOIN feeds f ON f.feed = p.feed
                 WHERE p.epoch = ?1 AND f.room_id = ?2 ORDER BY p.feed, p.idx",
            )?
            .query_map(params![epoch.0, room.to_string()], |row| {
                Ok(((FeedKey(row.get(0)?), row.get(1)?), row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (place, block) in waiting {
            self.db
                .prepare_cached("DELETE FROM pending WHERE feed = ?1 AND idx = ?2")?
                .execute(params![place.0.0, place.1])?;
            self.tally("pending", -1);
            self.add_sealed(place, &block.into())?;
        }
        Ok(())
    }

    /// Writes what was gathered, with the checkpoint.
    pub(super) fn finish(mut self) -> Result<IngestReport, IndexError> {
        self.finish_views()?;
        for (&(scope, (feed, index)), depth) in &self.frontier_changes {
            let scope = scope_to_sql(&scope);
            match depth {
                Some(depth) => self
                    .db
                    .prepare_cached("INSERT OR REPLACE INTO frontier VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![scope, feed.0, index, depth])?,
                None => self
                    .db
                    .prepare_cached(
                        "DELETE FROM frontier WHERE scope = ?1 AND feed = ?2 AND idx = ?3",
                    )?
                    .execute(params![scope, feed.0, index])?,
            };
        }
        for (sort, count) in &self.tallies {
            self.db
                .prepare_cached(
                    "INSERT INTO tallies VALUES (?1, ?2)
                     ON CONFLICT DO UPDATE SET count = count + excluded.count",
                )?
                .execute(params![sort, count])?;
        }
        self.db
            .prepare_cached("DELETE FROM tallies WHERE count = 0")?
            .execute([])?;
        for key in &self.touched_feeds {
            let Some(feed) = self.state.feeds.get_mut(key) else {
                continue;
            };
            for (start, end) in feed.runs.take_changes() {
                match end {
                    Some(end) => self
                        .db
                        .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2, ?3)")?
                        .execute(params![key.0, start, end])?,
                    None => self
                        .db
                        .prepare_cached("DELETE FROM meta WHERE feed = ?1 AND start = ?2")?
                        .execute(params![key.0, start])?,
                };
            }
        }
        Ok(self.report)
    }

    fn add_sealed(&mut self, place: Place, block: &Bytes) -> Result<(), IndexError> {
        let (feed, index) = place;
        let Ok(SealedBlock { epoch }) = SealedBlock::head(block) else {
            return self.skip(place, "not_entries");
        };
        let room = match self.state.feeds.get(&feed).map(|feed| feed.scope) {
            Some(Scope::Room(room)) => Some(room),
            _ => None,
        };
        let Some(key) = room.and_then(|room| self.keys.get(&(room, epoch))) else {
            self.tally("pending", 1);
            self.report.pending += 1;
            self.db
                .prepare_cached("INSERT INTO pending VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![feed.0, index, epoch.0, &block[..]])?;
            return Ok(());
        };
        match open_with_id(key, epoch, &feed, index, block) {
            Ok(entry) => self.add_entry(place, &entry),
            Err(_) => self.skip(place, "unopened"),
        }
    }

    fn add_entry(&mut self, place: Place, entry: &Bytes) -> Result<(), IndexError> {
        let envelope = match Envelope::decode(entry) {
            Ok(envelope) => envelope,
            Err(EntryError::Newer { .. }) => {
                self.report.newer += 1;
                return self.skip(place, "newer");
            }
            Err(_) => return self.skip(place, "malformed"),
        };
        let body = Body::decode(envelope.tag, envelope.format, &envelope.body);
        let state = match &body {
            Ok(_) => 0,
            Err(BodyError::Newer { .. }) => {
                self.tally("newer", 1);
                self.report.newer += 1;
                1
            }
            Err(_) => {
                self.tally("malformed", 1);
                2
            }
        };
        let depth = self.place_among_links(place, &envelope)?;
        self.hot.insert_fact.execute(params![
            place.0.0,
            place.1,
            envelope.tag,
            envelope.format,
            state,
            envelope.flags,
            envelope.depth,
            depth,
            envelope.clock.ms,
            envelope.clock.counter,
            links_to_sql(envelope.links.as_slice()),
            &envelope.body[..],
        ])?;
        self.tally("entries", 1);
        self.report.entries += 1;
        self.state.remember_depth(place, envelope.depth);
        let (feed, index) = place;
        let placed = Placed {
            feed,
            index,
            depth,
            clock: envelope.clock,
        };
        self.apply(&placed, envelope.depth, body.as_ref().ok())
    }

    fn skip(&mut self, (feed, index): Place, reason: &'static str) -> Result<(), IndexError> {
        self.tally(reason, 1);
        self.report.skipped += u64::from(reason != "newer");
        self.db
            .prepare_cached("INSERT INTO skipped VALUES (?1, ?2, ?3)")?
            .execute(params![feed.0, index, reason])?;
        Ok(())
    }

    /// Connects an entry with those held that it links to and that link to it, and returns its
    /// order depth.
    fn place_among_links(&mut self, place: Place, envelope: &Envelope) -> Result<u64, IndexError> {
        let (feed, index) = place;
        let mut below = None;
        let previous = index.checked_sub(1).map(|index| (feed, index));
        if let Some(previous) = previous {
            below = self.stated_depth(&previous)?;
        }
        let link = self.state.feeds.get(&feed).and_then(|feed| feed.link);
        if let Some((scope, own_tag)) = link {
            if let Some(previous) = previous {
                self.leave_frontier(scope, previous)?;
            }
            for link in envelope.links.as_slice() {
                below = below.max(self.follow_link(scope, place, link)?);
            }
            let reached = self.answer_awaiting(scope, own_tag, place, envelope.depth)?;
            let next = self.stated_depth(&(feed, index + 1))?.is_some();
            if !reached && !next {
                self.enter_frontier(scope, place, envelope.depth)?;
            }
        }
        self.raise((feed, index + 1), envelope.depth)?;
        Ok(order_depth(envelope.depth, below))
    }

    /// Follows a link to a held entry and returns its stated depth; else the link waits.
    fn follow_link(
        &mut self,
        scope: LinkScope,
        by: Place,
        link: &Link,
    ) -> Result<Option<u64>, IndexError> {
        if let Some(feed) = self.state.tagged(&(scope, link.tag)) {
            let target = (feed, link.index);
            if let Some(depth) = self.stated_depth(&target)? {
                self.check_link(by, target, &link.hash)?;
                self.leave_frontier(scope, target)?;
                return Ok(Some(depth));
            }
        }
        let (feed, index) = by;
        let added = self.hot.await_link.execute(params![
            scope_to_sql(&scope),
            link.tag.0,
            link.index,
            feed.0,
            index,
            link.hash
        ])?;
        *self.state.awaited.entry(scope).or_default() += added as u64;
        Ok(None)
    }

    /// Tells the entries that wait for this one; returns whether there were any.
    fn answer_awaiting(
        &mut self,
        scope: LinkScope,
        tag: LinkTag,
        place: Place,
        depth: u64,
    ) -> Result<bool, IndexError> {
        let (feed, index) = place;
        if self
            .state
            .awaited
            .get(&scope)
            .is_none_or(|count| *count == 0)
            || self.state.tagged(&(scope, tag)) != Some(feed)
        {
            return Ok(false);
        }
        let sql_scope = scope_to_sql(&scope);
        let waiting: Vec<(Place, [u8; LINK_HASH_BYTES])> = self
            .hot
            .awaiting
            .query_map(params![sql_scope, tag.0, index], |row| {
                Ok(((FeedKey(row.get(0)?), row.get(1)?), row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        if waiting.is_empty() {
            return Ok(false);
        }
        let gone = self
            .db
            .prepare_cached("DELETE FROM awaited WHERE scope = ?1 AND tag = ?2 AND idx = ?3")?
            .execute(params![sql_scope, tag.0, index])?;
        if let Some(count) = self.state.awaited.get_mut(&scope) {
            *count = count.saturating_sub(gone as u64);
        }
        for (by, hash) in waiting {
            self.raise(by, depth)?;
            self.check_link(by, place, &hash)?;
        }
        Ok(true)
    }

    /// Puts a held entry above one of stated depth `below` that it links to.
    fn raise(&mut self, place: Place, below: u64) -> Result<(), IndexError> {
        if !self.state.indexed(&place) {
            return Ok(());
        }
        let (feed, index) = place;
        let depth = order_depth(0, Some(below));
        let lower: Option<u64> = self
            .db
            .prepare_cached(
                "SELECT order_depth FROM facts WHERE feed = ?1 AND idx = ?2 AND order_depth < ?3",
            )?
            .query_row(params![feed.0, index, depth], |row| row.get(0))
            .optional()?;
        let Some(before) = lower else { return Ok(()) };
        self.db
            .prepare_cached("UPDATE facts SET order_depth = ?3 WHERE feed = ?1 AND idx = ?2")?
            .execute(params![feed.0, index, depth])?;
        self.apply_raised(place, before)
    }

    /// Compares a link with the tree of the feed it names, where that is held.
    fn check_link(
        &mut self,
        by: Place,
        target: Place,
        stated: &[u8; LINK_HASH_BYTES],
    ) -> Result<(), IndexError> {
        let held = self
            .trees
            .and_then(|trees| trees.tree_hash(&target.0, target.1 + 1));
        let Some(held) = held.map(|hash| Link::truncate(&hash)) else {
            return Ok(());
        };
        if held == *stated {
            return Ok(());
        }
        let added = self
            .db
            .prepare_cached("INSERT OR IGNORE INTO conflicts VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![by.0.0, by.1, target.0.0, target.1, stated, held])?;
        self.tally("conflicts", added as i64);
        self.report.conflicts += added as u64;
        Ok(())
    }

    /// Returns the stated depth of an entry, `None` if it is not held.
    fn stated_depth(&mut self, place: &Place) -> Result<Option<u64>, IndexError> {
        if let Some(depth) = self.state.depth(place) {
            return Ok(Some(depth));
        }
        if !self.state.indexed(place) {
            return Ok(None);
        }
        let depth = self
            .hot
            .fact_depth
            .query_row(params![place.0.0, place.1], |row| row.get(0))
            .optional()?;
        if let Some(depth) = depth {
            self.state.remember_depth(*place, depth);
        }
        Ok(depth)
    }

    fn enter_frontier(
        &mut self,
        scope: LinkScope,
        place: Place,
        depth: u64,
    ) -> Result<(), IndexError> {
        self.state.frontier(self.db, scope)?.insert(place, depth);
        self.frontier_changes.insert((scope, place), Some(depth));
        Ok(())
    }

    fn leave_frontier(&mut self, scope: LinkScope, place: Place) -> Result<(), IndexError> {
        if self
            .state
            .frontier(self.db, scope)?
            .remove(&place)
            .is_some()
        {
            self.frontier_changes.insert((scope, place), None);
        }
        Ok(())
    }

    /// Follows every link of a scope anew: when a tag came to name two feeds, or a feed came to
    /// have an author. Rare, and as long as the scope is large.
    pub(super) fn relink(&mut self, scope: LinkScope) -> Result<(), IndexError> {
        let feeds: Vec<FeedKey> = self
            .state
            .feeds
            .iter()
            .filter(|(_, feed)| feed.link.is_some_and(|(other, _)| other == scope))
            .map(|(key, _)| *key)
            .collect();
        let sql_scope = scope_to_sql(&scope);
        self.db
            .execute("DELETE FROM awaited WHERE scope = ?1", [sql_scope])?;
        self.db
            .execute("DELETE FROM frontier WHERE scope = ?1", [sql_scope])?;
        self.state.awaited.remove(&scope);
        self.state.frontiers.insert(scope, BTreeMap::new());
        self.frontier_changes
            .retain(|(other, _), _| *other != scope);
        let mut linked: HashSet<Place> = HashSet::new();
        for feed in &feeds {
            let gone = self
                .db
                .execute("DELETE FROM conflicts WHERE feed = ?1", [feed.0])?;
            self.tally("conflicts", -(gone as i64));
            for (index, depth, links) in self.links_of(feed)? {
                let place = (*feed, index);
                let mut below = None;
                if let Some(previous) = index.checked_sub(1) {
                    below = self.stated_depth(&(*feed, previous))?;
                    linked.insert((*feed, previous));
                }
                for link in links_from_sql(&links) {
                    if let Some(target) = self.state.tagged(&(scope, link.tag)) {
                        linked.insert((target, link.index));
                    }
                    below = below.max(self.follow_link(scope, place, &link)?);
                }
                self.db
                    .prepare_cached(
                        "UPDATE facts SET order_depth = ?3 WHERE feed = ?1 AND idx = ?2",
                    )?
                    .execute(params![feed.0, index, order_depth(depth, below)])?;
            }
        }
        for feed in &feeds {
            for (index, depth, _) in self.links_of(feed)? {
                if !linked.contains(&(*feed, index)) {
                    self.enter_frontier(scope, (*feed, index), depth)?;
                }
            }
        }
        self.reapply_scope(scope)
    }

    fn links_of(&self, feed: &FeedKey) -> rusqlite::Result<Vec<(u64, u64, Vec<u8>)>> {
        self.db
            .prepare_cached("SELECT idx, depth, links FROM facts WHERE feed = ?1 ORDER BY idx")?
            .query_map([feed.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect()
    }

    fn tally(&mut self, sort: &'static str, count: i64) {
        *self.tallies.entry(sort).or_default() += count;
    }
}

/// Returns what the next entry in a scope goes after.
///
/// In rooms only entries of feeds that count are linked.
pub(super) fn frontier_of(
    db: &Connection,
    state: &State,
    scope: LinkScope,
) -> rusqlite::Result<(Vec<(u64, Place)>, bool)> {
    let entries = match state.frontiers.get(&scope) {
        Some(entries) => entries.clone(),
        None => read_frontier(db, &scope)?,
    };
    let counts = |feed: &FeedKey| match scope {
        LinkScope::Author(_) => true,
        LinkScope::Room(_) => state
            .feeds
            .get(feed)
            .is_some_and(|feed| feed.member.is_some()),
    };
    let mut deepest: Vec<(u64, Place)> = entries
        .into_iter()
        .filter(|((feed, _), _)| counts(feed))
        .map(|(place, depth)| (depth, place))
        .collect();
    deepest.sort_unstable_by(|one, other| other.cmp(one));
    // One more than fits: the own feed's entry is not linked.
    let more = deepest.len() > LINKS_MAX + 1;
    deepest.truncate(LINKS_MAX + 1);
    Ok((deepest, more))
}

/// Returns `max(stated, 1 + below)`, within what the compact encoding carries.
fn order_depth(stated: u64, below: Option<u64>) -> u64 {
    below.map_or(stated, |below| {
        stated.max(below.saturating_add(1).min(UINT_MAX))
    })
}

fn links_to_sql(links: &[Link]) -> Vec<u8> {
    let mut out = Vec::with_capacity(links.len() * LINK_BYTES);
    for link in links {
        out.extend_from_slice(&link.tag.0);
        out.extend_from_slice(&link.index.to_le_bytes());
        out.extend_from_slice(&link.hash);
    }
    out
}

fn links_from_sql(bytes: &[u8]) -> Vec<Link> {
    bytes
        .chunks_exact(LINK_BYTES)
        .filter_map(|link| {
            let (tag, rest) = link.split_first_chunk()?;
            let (index, hash) = rest.split_first_chunk()?;
            let index = u64::from_le_bytes(*index);
            Some(Link {
                tag: LinkTag(*tag),
                index,
                hash: hash.try_into().ok()?,
            })
        })
        .collect()
}
