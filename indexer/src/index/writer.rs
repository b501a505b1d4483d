//! Stage one: blocks become facts, in one transaction with all that follows from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::RoomId;
use crate::clock::Clock;
use crate::entry::{Body, BodyError, EntryError, Envelope, LinkScope, OPEN_BLOCK};
use crate::index::links::links_to_sql;
use crate::index::state::{FeedState, Place, State, scope_columns, scope_to_sql};
use crate::index::{Block, FeedContext, IndexError, IngestReport, Scope, TreeHashes};
use crate::seal::{ContentKey, EpochId, SEALED_BLOCK, SealedBlock, open_with_id};

/// Epoch keys by room and epoch.
pub(super) type Keys = BTreeMap<(RoomId, EpochId), ContentKey>;

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
    pub(super) trees: Option<&'a dyn TreeHashes>,
    pub(super) report: IngestReport,
    pub(super) hot: HotStatements<'a>,
    tallies: BTreeMap<&'static str, i64>,
    touched_feeds: BTreeSet<FeedKey>,
    pub(super) frontier_changes: HashMap<(LinkScope, Place), Option<u64>>,
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
    pub(super) insert_fact: CachedStatement<'a>,
    pub(super) fact_depth: CachedStatement<'a>,
    pub(super) await_link: CachedStatement<'a>,
    pub(super) awaiting: CachedStatement<'a>,
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

    /// Writes what was gathered; returns the feeds whose checkpoint has to go with it.
    pub(super) fn finish(mut self) -> Result<(IngestReport, BTreeSet<FeedKey>), IndexError> {
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
        Ok((self.report, self.touched_feeds))
    }

    fn add_sealed(&mut self, place: Place, block: &Bytes) -> Result<(), IndexError> {
        let (feed, index) = place;
        let Ok(SealedBlock { epoch }) = SealedBlock::head(block) else {
            return self.skip(place, "not_entries");
        };
        let known = self.state.feeds.get(&feed);
        let room = known.and_then(|feed| feed.scope.sealed_in());
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

    pub(super) fn tally(&mut self, sort: &'static str, count: i64) {
        *self.tallies.entry(sort).or_default() += count;
    }
}

/// Writes how far the touched feeds are indexed.
pub(super) fn write_checkpoint(
    db: &Connection,
    state: &mut State,
    touched: &BTreeSet<FeedKey>,
) -> Result<(), IndexError> {
    for key in touched {
        let Some(feed) = state.feeds.get_mut(key) else {
            continue;
        };
        for (start, end) in feed.runs.take_changes() {
            match end {
                Some(end) => db
                    .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2, ?3)")?
                    .execute(params![key.0, start, end])?,
                None => db
                    .prepare_cached("DELETE FROM meta WHERE feed = ?1 AND start = ?2")?
                    .execute(params![key.0, start])?,
            };
        }
    }
    Ok(())
}
