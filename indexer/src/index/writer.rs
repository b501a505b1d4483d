//! Stage one: blocks become facts, in one transaction with all that follows from them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::RoomId;
use crate::clock::Clock;
use crate::entry::{Body, BodyError, Envelope, LinkScope};
use crate::index::kept::kept_body;
use crate::index::key_map::KeyMap;
use crate::index::links::{FrontierChange, HeldHashes, links_to_sql};
use crate::index::message_words::WordChanges;
use crate::index::opening::{Belonging, Opened, Opening, open, open_all};
use crate::index::reading::Read;
use crate::index::room_acts::ActBytes;
use crate::index::schema::MOVED;
use crate::index::state::{FeedState, Place, State, scope_columns, scope_to_sql};
use crate::index::{Block, FeedContext, IndexError, IngestReport, Scope, TreeHashes};
use crate::mistake::{Mistake, makes};
use crate::register::Register;
use crate::seal::{ContentKey, EpochId};

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
    pub(super) keys: &'a Keys,
    pub(super) trees: Option<&'a dyn TreeHashes>,
    pub(super) report: IngestReport,
    pub(super) hot: HotStatements<'a>,
    tallies: BTreeMap<&'static str, i64>,
    pub(super) touched_feeds: BTreeSet<FeedKey>,
    pub(super) frontier_changes: KeyMap<(LinkScope, Place), FrontierChange>,
    /// Newest clock by room feed, to be written once.
    pub(super) last_seen: BTreeMap<FeedKey, u64>,
    /// Rooms whose members are to be counted again.
    pub(super) stale_rooms: BTreeSet<RoomId>,
    /// Members, by room and agent as tables have them, whose row is to be written again.
    pub(super) stale_members: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Agents whose directory is to be made again.
    pub(super) stale_directories: BTreeSet<AgentId>,
    /// Registers whose rows are to be written again.
    pub(super) stale_registers: BTreeSet<Register>,
    /// Entries whose deletions are to be judged.
    pub(super) stale_deletions: BTreeSet<Place>,
    /// Scopes whose links are to be followed anew.
    pub(super) stale_links: BTreeSet<LinkScope>,
    /// Words of messages that come and go, for their full-text table.
    pub(super) words: WordChanges,
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
            insert_message: db.prepare_cached(
                "INSERT INTO messages (rowid, room_id, depth, ms, counter, feed, idx, user_id, text,
                 reply_feed, reply_idx) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?,
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
            frontier_changes: KeyMap::default(),
            last_seen: BTreeMap::new(),
            stale_rooms: BTreeSet::new(),
            stale_members: BTreeSet::new(),
            stale_directories: BTreeSet::new(),
            stale_registers: BTreeSet::new(),
            stale_deletions: BTreeSet::new(),
            stale_links: BTreeSet::new(),
            words: WordChanges::default(),
        })
    }

    /// Takes a feed, or the author of one that was unknown.
    pub(super) fn put_feed(&mut self, context: FeedContext) -> Result<(), IndexError> {
        let FeedContext { key, scope } = context;
        let moved = self.state.moved.get(&key).copied();
        let known = moved.or_else(|| self.state.feeds.get(&key).map(|feed| feed.scope));
        match known {
            Some(known) if known == scope || scope == Scope::Unknown => return Ok(()),
            None => {}
            Some(known) if known.precedence() < scope.precedence() => {
                return Err(IndexError::OtherScope { feed: key });
            }
            Some(known) => self.leave_scope(&key, known, scope)?,
        }
        let (number, room, author, device) = scope_columns(&scope);
        self.db
            .prepare_cached("INSERT OR REPLACE INTO feeds VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![key.0, number, room, author, device])?;
        if self.state.moved.contains_key(&key) {
            self.tally(MOVED, 1);
            return Ok(());
        }
        let mut feed = FeedState::new(&key, scope);
        if let Some(before) = self.state.feeds.get_mut(&key) {
            feed.runs = std::mem::take(&mut before.runs);
        }
        if let Some(room) = &feed.room {
            let shown: Option<(Arc<str>, u64)> = self
                .db
                .prepare_cached(
                    "SELECT user_id, shown_below FROM member_feeds
                     WHERE room_id = ?1 AND feed = ?2",
                )?
                .query_row(params![room, key.0], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if let Some((member, below)) = shown {
                (feed.member, feed.shown_below) = (Some(member), below);
            }
        }
        let collides = self.state.add_feed(key, feed);
        self.refresh_deletions_of(&key)?;
        if let Some(link) = scope.link_scope()
            && (collides || known.is_some())
        {
            self.relink(link)?;
        }
        Ok(())
    }

    /// Takes a feed out of a scope that gives way to `to`. What was read of it in another scope than that
    /// of nobody is read again when the index is opened the next time; till then it stands
    /// where it stood.
    fn leave_scope(&mut self, key: &FeedKey, from: Scope, to: Scope) -> Result<(), IndexError> {
        let feed = self.state.feeds.get(key);
        let is_read = feed.is_some_and(|feed| feed.runs.ranges().next().is_some());
        let gets_author = from == Scope::Unknown && to.author().is_some();
        if is_read && !gets_author {
            self.state.moved.insert(*key, to);
            return Ok(());
        }
        match self.state.forget_link(key) {
            Some(link) => self.relink(link),
            None => Ok(()),
        }
    }

    /// Takes verified blocks.
    pub(super) fn add_blocks(&mut self, blocks: &[Block]) -> Result<(), IndexError> {
        let mut feeds = KeyMap::default();
        for block in blocks {
            if let Entry::Vacant(unmet) = feeds.entry(block.feed)
                && let Some(feed) = self.state.feeds.get(&block.feed)
            {
                unmet.insert(Belonging::of(&feed.scope));
            }
        }
        let tags = self.state.tags.clone();
        let opening = Opening {
            keys: self.keys,
            tags: &tags,
            trees: self.trees,
        };
        open_all(blocks, opening, &feeds, |block, opened| {
            self.add_block(block, opened)
        })
    }

    /// Takes verified blocks that were opened.
    pub(super) fn add_read(&mut self, blocks: Vec<Read>) -> Result<(), IndexError> {
        blocks
            .into_iter()
            .try_for_each(|(block, opened)| self.add_block(&block, opened))
    }

    fn add_block(&mut self, block: &Block, opened: Opened) -> Result<(), IndexError> {
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
        self.state.unfold(feed, *index);
        self.check_cut((feed, *index));
        self.add_opened((*feed, *index), bytes, opened)
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
            self.state.unfold(&place.0, place.1);
            let block = block.into();
            let opened = open(self.keys, Some(room), &place.0, place.1, &block);
            self.add_opened(place, &block, opened)?;
        }
        if makes(Mistake::LateKey) {
            self.stale_rooms.clear();
        }
        Ok(())
    }

    /// Writes what was gathered; returns the feeds whose checkpoint has to go with it.
    pub(super) fn finish(mut self) -> Result<(IngestReport, BTreeSet<FeedKey>), IndexError> {
        self.finish_views()?;
        self.words.write(self.db)?;
        for (&(scope, (feed, index)), change) in &self.frontier_changes {
            let scope = scope_to_sql(&scope);
            match change {
                FrontierChange::Came(depth) | FrontierChange::Moved(depth) => self
                    .db
                    .prepare_cached("INSERT OR REPLACE INTO frontier VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![scope, feed.0, index, depth])?,
                FrontierChange::Went => self
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

    fn add_opened(
        &mut self,
        place: Place,
        block: &Bytes,
        opened: Opened,
    ) -> Result<(), IndexError> {
        match opened {
            Opened::Entry {
                envelope,
                body,
                act,
                held,
            } => self.add_entry(place, block, &envelope, &body, act.as_ref(), &held),
            Opened::Waits(epoch) => {
                self.tally("pending", 1);
                self.report.pending += 1;
                self.db
                    .prepare_cached("INSERT INTO pending VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![place.0.0, place.1, epoch.0, &block[..]])?;
                Ok(())
            }
            Opened::Skipped(reason) => {
                self.report.newer += u64::from(reason == "newer");
                self.skip(place, reason)
            }
        }
    }

    fn add_entry(
        &mut self,
        place: Place,
        block: &Bytes,
        envelope: &Envelope,
        body: &Result<Body, BodyError>,
        act: Option<&ActBytes>,
        held: &HeldHashes,
    ) -> Result<(), IndexError> {
        if self.is_deleted_again(place, envelope, body.as_ref().ok())? {
            return Ok(());
        }
        let state = match body {
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
        let depth = self.place_among_links(place, envelope, held)?;
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
            &kept_body(envelope, block)[..],
        ])?;
        self.tally("entries", 1);
        self.report.entries += 1;
        self.state.depths.remember(place, envelope.depth);
        let (feed, index) = place;
        let placed = Placed {
            feed,
            index,
            depth,
            clock: envelope.clock,
        };
        if let (Ok(Body::Act(act)), Some(bytes)) = (body, act) {
            self.add_act(&placed, act, bytes)?;
        }
        if self.state.marked.contains(&place) {
            self.stale_deletions.insert(place);
        }
        self.apply(&placed, body.as_ref().ok())
    }

    /// A cut is compared with the tree again when its last block comes, whatever that is.
    pub(super) fn check_cut(&mut self, (feed, index): (&FeedKey, u64)) {
        let Some(feed) = self.state.feeds.get(feed) else {
            return;
        };
        if let (Scope::Room(room), Some(length)) = (feed.scope, feed.cut_at)
            && length == index + 1
            && !makes(Mistake::DisputeForgotten)
        {
            self.stale_rooms.insert(room);
        }
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
