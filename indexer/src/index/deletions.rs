//! Deletions: what they end leaves no text behind, and the same tables whether it was seen or not.
//!
//! A deletion says everything of the entry that it ends but its body. Where it counts, the entry's
//! fact is what the deletion says, without a body (`facts.state` 3), and its block is not indexed: so
//! who has it, who had it and who never saw it have the same rows. What becomes of the block is the
//! host's affair ([`IngestReport::deleted`](crate::index::IngestReport)).
//! A deletion that says of a held entry what is not true counts for nothing, so nobody makes another's
//! act disappear by calling it a message.
//!
//! Whether a deletion counts can change for as long as acts arrive. A block that was read and whose
//! deletion counts no more is one that was not read: it is named (`IngestReport::undone`), and read
//! again from the store or from whoever has it.

use std::ops::Range;

use kinlog_feeds::crypto::{AgentId, FeedKey, blake2b_256};
use rusqlite::{OptionalExtension, params};

use crate::Clock;
use crate::entry::{Body, Deleted, Envelope, File, LinkScope, Links, Message, Ref, Tombstone, tag};
use crate::index::kept::read_kept;
use crate::index::links::{HeldHashes, links_from_sql, links_to_sql};
use crate::index::state::{Place, State, parse};
use crate::index::writer::{Placed, Writer};
use crate::index::{Ended, HeadHash, Index, IndexError, Reader, Scope};
use crate::limits::{DELETED_MAX, SCRUB_PIECE_BYTES};
use crate::mistake::{Mistake, makes};

/// `facts.state` of what was deleted.
pub(super) const DELETED: i64 = 3;

const SCRUB_BEGIN: &str = "CREATE TABLE scrub (zeros BLOB)";

/// Takes away the table that was filled with zeros; one who was cut off in between left it.
pub(super) const SCRUB_END: &str = "DROP TABLE IF EXISTS scrub";

/// A deletion that counts.
#[derive(Debug)]
struct Ending {
    by: String,
    ms: u64,
    head: Envelope,
}

/// What is held of an entry but its body.
struct HeldHead {
    state: i64,
    head: Envelope,
}

impl Writer<'_> {
    /// Takes a deletion; `is_act` where its author's role is what makes it count.
    pub(super) fn add_tombstone(
        &mut self,
        placed: &Placed,
        room: &str,
        member: &str,
        tombstone: &Tombstone,
        is_act: bool,
    ) -> Result<(), IndexError> {
        for one in tombstone.deleted() {
            let Ref { feed, index } = one.entry;
            self.db
                .prepare_cached(
                    "INSERT INTO tombstones VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    feed.0,
                    index,
                    placed.feed.0,
                    placed.index,
                    room,
                    member,
                    placed.clock.ms,
                    tombstone.reason.as_str(),
                    is_act,
                    &one.head()[..]
                ])?;
            self.state.marked.insert((feed, index));
            self.stale_deletions.insert((feed, index));
        }
        Ok(())
    }

    /// Judges the deletions in a room again: what their acts come to may have changed.
    pub(super) fn refresh_tombstones(&mut self, room: &str) -> Result<(), IndexError> {
        if makes(Mistake::DeletionForgotten) {
            return Ok(());
        }
        let targets: Vec<Place> = self
            .db
            .prepare_cached(
                "SELECT DISTINCT target_feed, target_idx FROM tombstones WHERE room_id = ?1",
            )?
            .query_map([room], |row| Ok((FeedKey(row.get(0)?), row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        self.stale_deletions.extend(targets);
        Ok(())
    }

    /// Judges the deletions of a feed's entries: it is known now.
    pub(super) fn refresh_deletions_of(&mut self, feed: &FeedKey) -> Result<(), IndexError> {
        let targets: Vec<Place> = self
            .db
            .prepare_cached("SELECT DISTINCT target_idx FROM tombstones WHERE target_feed = ?1")?
            .query_map([feed.0], |row| Ok((*feed, row.get(0)?)))?
            .collect::<rusqlite::Result<_>>()?;
        self.stale_deletions.extend(targets);
        Ok(())
    }

    /// Brings the fact at a place to what the deletions of it say.
    pub(super) fn settle_deletion(&mut self, place: Place) -> Result<(), IndexError> {
        if !self.state.feeds.contains_key(&place.0) {
            return Ok(());
        }
        let endings = endings(self.db, place)?;
        self.undo(place, &endings);
        let held = held_head(self.db, place)?;
        match (endings.first(), held) {
            (None, Some(held)) if held.state == DELETED => self.unmake(place, &held)?,
            (None, _) => {}
            (Some(first), None) => self.stand_in(place, &first.head)?,
            (Some(first), Some(held)) if held.state == DELETED => {
                if held.head != first.head {
                    self.unmake(place, &held)?;
                    self.stand_in(place, &first.head)?;
                }
            }
            (Some(first), Some(held)) => {
                if endings.iter().all(|ending| ending.head != held.head) {
                    return Ok(());
                }
                let body = self.kept_file(place, &held)?;
                self.report_deleted(place, &held.head, body.as_ref())?;
                // One that could not be read stands in no view yet, and does once it is deleted: as with
                // those who never had it.
                if held.head == first.head && held.state == 0 {
                    self.empty(place, &held)?;
                } else {
                    self.unmake(place, &held)?;
                    self.stand_in(place, &first.head)?;
                }
            }
        }
        self.refresh_message(place)
    }

    /// Tells of a block that was read as deleted, once no deletion that counts says what it is.
    fn undo(&mut self, place: Place, endings: &[Ending]) {
        let read = self.state.seen.get(&place);
        let Some(read) = read.or_else(|| self.state.gone.get(&place)).copied() else {
            return;
        };
        if endings.iter().any(|ending| hash(&ending.head) == read) {
            return;
        }
        self.state.seen.remove(&place);
        self.state.gone.remove(&place);
        let (feed, index) = place;
        let entry = Ref { feed, index };
        self.report.deleted.remove(&entry);
        self.report.undone.insert(entry);
    }

    /// Returns who deleted what stands at a place, and the clock of that, ms.
    pub(super) fn ended(&mut self, place: Place) -> Result<Option<(u64, String)>, IndexError> {
        if !self.state.deleted.contains(&place) {
            return Ok(None);
        }
        let first = endings(self.db, place)?.into_iter().next();
        Ok(first.map(|ending| (ending.ms, ending.by)))
    }

    /// Takes a block that a deletion stands in for; returns whether it is the one that was deleted.
    /// Another one is taken like any block: the deletion says what is not true.
    pub(super) fn is_deleted_again(
        &mut self,
        place: Place,
        envelope: &Envelope,
        body: Option<&Body>,
    ) -> Result<bool, IndexError> {
        if !self.state.deleted.contains(&place) {
            return Ok(false);
        }
        let head = without_body(envelope);
        let endings = endings(self.db, place)?;
        if endings.iter().any(|ending| ending.head == head) {
            self.state.forget_run(place);
            self.report_deleted(place, &head, body)?;
            return Ok(true);
        }
        if let Some(held) = held_head(self.db, place)? {
            self.unmake(place, &held)?;
            if let Some(feed) = self.state.feeds.get_mut(&place.0) {
                feed.runs.insert(place.1);
            }
        }
        Ok(false)
    }

    /// Shows that something was deleted.
    pub(super) fn apply_deleted(&mut self, placed: &Placed, tag: u64) -> Result<(), IndexError> {
        let Some(feed) = self.state.feeds.get(&placed.feed) else {
            return Ok(());
        };
        let (Scope::Room(id), Some(room), Some(member)) =
            (feed.scope, feed.room.clone(), feed.member.clone())
        else {
            return Ok(());
        };
        let seen = self.last_seen.entry(placed.feed).or_default();
        *seen = placed.clock.ms.max(*seen);
        self.report.rooms.insert(id);
        if tag == tag::MESSAGE {
            let nothing = Message::new(Default::default());
            self.add_message(placed, &room, &member, &nothing)?;
        }
        Ok(())
    }

    /// Puts what a deletion says in the place of an entry that is not held.
    fn stand_in(&mut self, place: Place, head: &Envelope) -> Result<(), IndexError> {
        self.state.deleted.insert(place);
        let depth = self.place_among_links(place, head, &HeldHashes::default())?;
        self.hot.insert_fact.execute(params![
            place.0.0,
            place.1,
            head.tag,
            head.format,
            DELETED,
            head.flags,
            head.depth,
            depth,
            head.clock.ms,
            head.clock.counter,
            links_to_sql(head.links.as_slice()),
            &[][..],
        ])?;
        self.tally("entries", 1);
        self.state.depths.remember(place, head.depth);
        let placed = Placed {
            feed: place.0,
            index: place.1,
            depth,
            clock: head.clock,
        };
        self.check_cut((&place.0, place.1));
        self.apply_deleted(&placed, head.tag)
    }

    /// Takes the text out of a held entry.
    fn empty(&mut self, place: Place, held: &HeldHead) -> Result<(), IndexError> {
        let (feed, index) = place;
        self.db
            .prepare_cached("UPDATE facts SET state = ?3, body = x'' WHERE feed = ?1 AND idx = ?2")?
            .execute(params![feed.0, index, DELETED])?;
        self.tally_unread(held.state, 1);
        self.state.forget_run(place);
        self.state.deleted.insert(place);
        self.touched_feeds.insert(feed);
        if held.head.tag == tag::FILE {
            self.db
                .prepare_cached("DELETE FROM files WHERE feed = ?1 AND idx = ?2")?
                .execute(params![feed.0, index])?;
        }
        if held.head.tag == tag::EDIT {
            let target: Option<Place> = self
                .db
                .prepare_cached(
                    "DELETE FROM edits WHERE feed = ?1 AND idx = ?2
                     RETURNING target_feed, target_idx",
                )?
                .query_row(params![feed.0, index], |row| {
                    Ok((FeedKey(row.get(0)?), row.get(1)?))
                })
                .optional()?;
            if let Some(target) = target {
                self.refresh_message(target)?;
            }
        }
        Ok(())
    }

    /// Forgets a fact; what hung on it is made anew.
    fn unmake(&mut self, place: Place, held: &HeldHead) -> Result<(), IndexError> {
        let (feed, index) = place;
        self.db
            .prepare_cached("DELETE FROM facts WHERE feed = ?1 AND idx = ?2")?
            .execute(params![feed.0, index])?;
        self.tally("entries", -1);
        self.tally_unread(held.state, 1);
        self.state.depths.forget(&feed);
        // The run of one that was read and deleted is gone; of one that was only told of it is that of a
        // block which waits for its key.
        if !self.state.deleted.remove(&place) {
            self.state.forget_run(place);
        }
        self.touched_feeds.insert(feed);
        let scope = self.state.feeds.get(&feed).map(|feed| feed.scope);
        if let Some(Scope::Room(room)) = scope {
            self.stale_links.insert(LinkScope::Room(room));
        }
        Ok(())
    }

    /// Takes facts out of the tally of those that are not read.
    pub(super) fn tally_unread(&mut self, state: i64, count: i64) {
        match state {
            1 => self.tally("newer", -count),
            2 => self.tally("malformed", -count),
            _ => {}
        }
    }

    fn report_deleted(
        &mut self,
        place: Place,
        head: &Envelope,
        body: Option<&Body>,
    ) -> Result<(), IndexError> {
        let (feed, index) = place;
        let content = match body {
            Some(Body::File(file)) => self.content(place, file)?,
            _ => None,
        };
        let head = hash(head);
        self.state.seen.insert(place, head);
        self.touched_feeds.insert(feed);
        let entry = Ref { feed, index };
        self.report.undone.remove(&entry);
        self.report.deleted.insert(entry, Ended { head, content });
        Ok(())
    }

    /// Returns what a held entry says, if that is a file.
    fn kept_file(&self, (feed, index): Place, held: &HeldHead) -> Result<Option<Body>, IndexError> {
        if held.head.tag != tag::FILE || held.state != 0 {
            return Ok(None);
        }
        let kept: Vec<u8> = self
            .db
            .prepare_cached("SELECT body FROM facts WHERE feed = ?1 AND idx = ?2")?
            .query_row(params![feed.0, index], |row| row.get(0))?;
        let place = (feed, index);
        Ok(read_kept(
            self.state,
            self.keys,
            place,
            tag::FILE,
            kept.into(),
        ))
    }

    /// Returns the blocks of a file, if they are in the feed of blobs that goes with the entry's and
    /// no other entry tells of any.
    fn content(
        &self,
        (feed, index): Place,
        file: &File,
    ) -> Result<Option<(FeedKey, Range<u64>)>, IndexError> {
        let blocks = file.first_block..file.first_block.saturating_add(file.blocks);
        let is_own: bool = self
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM member_feeds WHERE feed = ?1 AND blobs_feed = ?2)
                 AND NOT EXISTS (SELECT 1 FROM files WHERE blobs_feed = ?2 AND first_block < ?4
                     AND first_block + blocks > ?3 AND NOT (feed = ?1 AND idx = ?5))",
            )?
            .query_row(
                params![feed.0, file.blobs_feed.0, blocks.start, blocks.end, index],
                |row| row.get(0),
            )?;
        Ok((is_own && !blocks.is_empty()).then_some((file.blobs_feed, blocks)))
    }
}

impl State {
    /// Makes a block one that is not indexed.
    fn forget_run(&mut self, (feed, index): Place) {
        if let Some(feed) = self.feeds.get_mut(&feed) {
            feed.runs.remove(index);
        }
    }
}

impl Reader {
    /// Returns whether a deletion that counts says of a block that it is what it was read as.
    pub fn is_deleted(&self, entry: &Ref, head: &HeadHash) -> Result<bool, IndexError> {
        let endings = endings(&self.connection, (entry.feed, entry.index))?;
        Ok(endings.iter().any(|ending| hash(&ending.head) == *head))
    }
}

impl Index {
    /// Tells of blocks that were read as deleted and are not held any more: where that is undone later
    /// they are in [`IngestReport::undone`](crate::index::IngestReport). Kept in memory only: tell again
    /// after each start and rebuild.
    pub fn put_gone(&mut self, blocks: impl IntoIterator<Item = (Ref, HeadHash)>) {
        let places = blocks.into_iter();
        let places = places.map(|(entry, head)| ((entry.feed, entry.index), head));
        self.state.gone.extend(places);
    }

    /// Overwrites what the file still holds of rows that are not there any more: in free pages and in
    /// the log. Returns whether all of it could be done: not while somebody reads rows of before.
    pub fn scrub(&self) -> Result<bool, IndexError> {
        let db = &self.reader.connection;
        let pragma = |name| db.query_row(name, [], |row| row.get::<_, i64>(0));
        let free = pragma("PRAGMA freelist_count")?;
        if free > 0 {
            // Taken into use with zeros, which are committed, and given back as they are.
            let bytes = free.saturating_mul(pragma("PRAGMA page_size")?);
            let piece = SCRUB_PIECE_BYTES.min(bytes);
            let transaction = db.unchecked_transaction()?;
            transaction.execute_batch(SCRUB_BEGIN)?;
            for _ in 0..bytes / piece {
                transaction.execute("INSERT INTO scrub VALUES (zeroblob(?1))", [piece])?;
            }
            transaction.commit()?;
            db.execute_batch(SCRUB_END)?;
        }
        let busy = pragma("PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(busy == 0)
    }

    /// Returns what is to be named so that nothing of a message, or a file, is left: it and the edits of it,
    /// each with its agent, without those that were deleted before; at most [`DELETED_MAX`].
    pub fn to_delete(&self, message: &Ref) -> Result<Vec<(AgentId, Deleted)>, IndexError> {
        let places: Vec<(Ref, AgentId)> = self.all(
            "SELECT m.feed, m.idx, m.user_id FROM messages m WHERE m.feed = ?1 AND m.idx = ?2
                 AND m.room_id = (SELECT room_id FROM feeds WHERE feed = ?1)
             UNION ALL
             SELECT feed, idx, uploader_id FROM files WHERE feed = ?1 AND idx = ?2
             UNION ALL
             SELECT feed, idx, user_id FROM edits WHERE target_feed = ?1 AND target_idx = ?2",
            params![message.feed.0, message.index],
            |row| {
                let feed = FeedKey(row.get(0)?);
                let index = row.get(1)?;
                Ok((Ref { feed, index }, parse(row, 2)?))
            },
        )?;
        let mut found = Vec::new();
        for (entry, agent) in places {
            let held = held_head(&self.connection, (entry.feed, entry.index))?;
            let Some(held) = held.filter(|held| held.state != DELETED) else {
                continue;
            };
            let deleted = held.head.encode().ok();
            let deleted = deleted.and_then(|head| Deleted::new(entry, head).ok());
            found.extend(deleted.map(|deleted| (agent, deleted)));
            if found.len() == DELETED_MAX {
                break;
            }
        }
        Ok(found)
    }
}

/// Returns the deletions of a place that count, the first one first: by the agent whose feed it is, or
/// by an act that counts.
fn endings(db: &rusqlite::Connection, (feed, index): Place) -> rusqlite::Result<Vec<Ending>> {
    let mut statement = db.prepare_cached(
        "SELECT t.user_id, t.ms, t.head FROM tombstones t
         JOIN member_feeds o ON o.room_id = t.room_id AND o.feed = t.target_feed
         JOIN member_feeds m ON m.room_id = t.room_id AND m.feed = t.feed
         WHERE t.target_feed = ?1 AND t.target_idx = ?2
         AND ((t.is_act = 0 AND t.user_id = o.user_id AND t.idx < m.shown_below)
             OR (t.is_act = 1 AND EXISTS (SELECT 1 FROM acts a
                 WHERE a.feed = t.feed AND a.idx = t.idx AND a.verdict = 'counts')))
         ORDER BY t.ms, t.feed, t.idx",
    )?;
    let mut rows = statement.query(params![feed.0, index])?;
    let mut endings = Vec::new();
    while let Some(row) = rows.next()? {
        let head = row.get::<_, Vec<u8>>(2)?;
        if let Ok(head) = Envelope::decode(&head.into()) {
            endings.push(Ending {
                by: row.get(0)?,
                ms: row.get(1)?,
                head,
            });
        }
    }
    Ok(endings)
}

/// Returns the name of what an entry is but its body.
fn hash(head: &Envelope) -> HeadHash {
    let bytes = head.encode().unwrap_or_default();
    HeadHash(blake2b_256(&[&bytes]))
}

fn without_body(envelope: &Envelope) -> Envelope {
    Envelope {
        body: Default::default(),
        ..envelope.clone()
    }
}

/// Reads everything of an entry but its body.
fn held_head(
    db: &rusqlite::Connection,
    (feed, index): Place,
) -> rusqlite::Result<Option<HeldHead>> {
    db.prepare_cached(
        "SELECT state, flags, depth, ms, counter, tag, format, links FROM facts
         WHERE feed = ?1 AND idx = ?2",
    )?
    .query_row(params![feed.0, index], |row| {
        let flags: u64 = row.get(1)?;
        let links = links_from_sql(&row.get::<_, Vec<u8>>(7)?);
        let clock = Clock {
            ms: row.get(3)?,
            counter: row.get(4)?,
        };
        let head = Envelope {
            flags,
            links: Links::new(links, flags & 1 != 0).unwrap_or_default(),
            depth: row.get(2)?,
            clock,
            tag: row.get(5)?,
            format: row.get(6)?,
            body: Default::default(),
        };
        let state = row.get(0)?;
        Ok(HeldHead { state, head })
    })
    .optional()
}
