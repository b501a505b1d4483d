//! The tables.
//!
//! They are made in an empty file alone. A file that another build left is thrown away whole: what would
//! be in new columns is in the feeds, not in the old ones.
//!
//! No table holds a rowid, an arrival time or a local name: what stands here follows from entries,
//! feeds and keys alone. Full-text tables point to the hidden rowid of their content table, so the
//! file is never vacuumed.

use std::path::Path;

use rusqlite::Connection;

use crate::FORMAT;
use crate::index::OpenError;
use crate::index::deletions::SCRUB_END;
use crate::limits::PREPARED_STATEMENTS_MAX;

/// Raised with every change of [`SCHEMA`], and costs every index a rebuild.
const SCHEMA_VERSION: u32 = 14;

/// Name of the tally of feeds that were found to belong elsewhere than they were read.
pub(super) const MOVED: &str = "moved";

const SCHEMA: &str = r"
-- Feeds as they were told of. scope: 0 unknown, 1 directory, 2 author, 3 room,
-- 4 private directory, 5 private path.
CREATE TABLE feeds (
    feed BLOB PRIMARY KEY, scope INTEGER NOT NULL, room_id TEXT, author TEXT, device TEXT
) WITHOUT ROWID;
CREATE INDEX feeds_author ON feeds (author, scope);
CREATE INDEX feeds_room ON feeds (room_id);

-- Runs of blocks that are indexed: start .. checkpoint.
CREATE TABLE meta (
    feed BLOB, start INTEGER, checkpoint INTEGER NOT NULL, PRIMARY KEY (feed, start)
) WITHOUT ROWID;

-- Stage one. state: 0 read, 1 newer than this build, 2 malformed body, 3 deleted, with an empty body.
-- depth is stated, order_depth follows from the entries held.
CREATE TABLE facts (
    feed BLOB, idx INTEGER, tag INTEGER NOT NULL, format INTEGER NOT NULL, state INTEGER NOT NULL,
    flags INTEGER NOT NULL, depth INTEGER NOT NULL, order_depth INTEGER NOT NULL,
    ms INTEGER NOT NULL, counter INTEGER NOT NULL, links BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (feed, idx)
) WITHOUT ROWID;
-- Everything but messages, in one index: a list of tags in its condition made SQLite build a table of
-- that list for each message.
CREATE INDEX facts_rare ON facts (feed, tag, idx) WHERE tag <> 18;
CREATE INDEX facts_deleted ON facts (feed, idx) WHERE state = 3;
CREATE TABLE pending (
    feed BLOB, idx INTEGER, epoch BLOB NOT NULL, block BLOB NOT NULL, PRIMARY KEY (feed, idx)
) WITHOUT ROWID;
CREATE INDEX pending_epoch ON pending (epoch);
CREATE TABLE skipped (
    feed BLOB, idx INTEGER, reason TEXT NOT NULL, PRIMARY KEY (feed, idx)
) WITHOUT ROWID;
CREATE TABLE tallies (sort TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;

-- Links whose target is not held; entries that nothing held links to; links that disagree.
CREATE TABLE awaited (
    scope BLOB, tag BLOB, idx INTEGER, feed BLOB, by_idx INTEGER, hash BLOB,
    PRIMARY KEY (scope, tag, idx, feed, by_idx, hash)
) WITHOUT ROWID;
CREATE TABLE frontier (
    scope BLOB, feed BLOB, idx INTEGER, depth INTEGER NOT NULL, PRIMARY KEY (scope, feed, idx)
) WITHOUT ROWID;
CREATE TABLE link_conflicts (
    feed BLOB, idx INTEGER, target BLOB, target_idx INTEGER, stated BLOB, held BLOB NOT NULL,
    PRIMARY KEY (feed, idx, target, target_idx, stated)
) WITHOUT ROWID;

-- Stage two: rooms.
CREATE TABLE rooms (
    id TEXT PRIMARY KEY, room_code TEXT NOT NULL, name TEXT NOT NULL, created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL, feed BLOB NOT NULL,
    history TEXT NOT NULL DEFAULT 'full', history_days INTEGER
) WITHOUT ROWID;
CREATE INDEX rooms_code ON rooms (room_code);

-- Every feed that was authorised to come in. role: its agent's now, '' for none. shown_below: the
-- block from which on its entries are hidden, unless they are acts. void: why it never counted.
CREATE TABLE member_feeds (
    room_id TEXT REFERENCES rooms (id), feed BLOB, blobs_feed BLOB NOT NULL, user_id TEXT NOT NULL,
    device TEXT NOT NULL, role TEXT NOT NULL, joined_at INTEGER NOT NULL, last_seen_at INTEGER,
    shown_below INTEGER NOT NULL DEFAULT 0, admitted_by BLOB NOT NULL DEFAULT x'', void TEXT,
    PRIMARY KEY (room_id, feed)
) WITHOUT ROWID;
CREATE INDEX member_feeds_user ON member_feeds (user_id, room_id);
CREATE TABLE room_members (
    room_id TEXT REFERENCES rooms (id), user_id TEXT, display_name TEXT,
    joined_at INTEGER NOT NULL, left_at INTEGER, last_seen_at INTEGER,
    role TEXT, ended TEXT, ended_by TEXT, ended_act BLOB, reason TEXT,
    PRIMARY KEY (room_id, user_id)
) WITHOUT ROWID;

-- Messages. Rowids follow their dates, so that a full-text table yields the newest first; entries of one
-- depth are of different feeds. What they answer, and what became of them: edited, deleted (text is
-- empty then).
CREATE TABLE messages (
    room_id TEXT NOT NULL, depth INTEGER NOT NULL, ms INTEGER NOT NULL, counter INTEGER NOT NULL,
    feed BLOB NOT NULL, idx INTEGER NOT NULL, user_id TEXT NOT NULL, text TEXT NOT NULL,
    reply_feed BLOB, reply_idx INTEGER, edited_at INTEGER, deleted_at INTEGER, deleted_by TEXT
);
CREATE INDEX messages_timeline ON messages (room_id, depth);
CREATE VIRTUAL TABLE messages_search USING fts5 (
    text, content = 'messages', columnsize = 0,
    tokenize = 'unicode61 remove_diacritics 2 categories ''L* N* Co M*'''
);
INSERT INTO messages_search (messages_search, rank) VALUES ('secure-delete', 1);

-- Reactions that stand, and entries that took some back (they may come first).
CREATE TABLE reactions (
    target_feed BLOB, target_idx INTEGER, feed BLOB, idx INTEGER, room_id TEXT NOT NULL,
    user_id TEXT NOT NULL, emoji TEXT NOT NULL, ms INTEGER NOT NULL,
    PRIMARY KEY (target_feed, target_idx, feed, idx)
) WITHOUT ROWID;
CREATE TABLE reaction_ends (
    reaction_feed BLOB, reaction_idx INTEGER, feed BLOB, idx INTEGER, target_feed BLOB NOT NULL,
    target_idx INTEGER NOT NULL, room_id TEXT NOT NULL, user_id TEXT NOT NULL,
    PRIMARY KEY (reaction_feed, reaction_idx, feed, idx)
) WITHOUT ROWID;

-- Edits by members, whether they count or not.
CREATE TABLE edits (
    target_feed BLOB, target_idx INTEGER, feed BLOB, idx INTEGER, room_id TEXT NOT NULL,
    user_id TEXT NOT NULL, depth INTEGER NOT NULL, ms INTEGER NOT NULL, counter INTEGER NOT NULL,
    text TEXT NOT NULL, PRIMARY KEY (target_feed, target_idx, feed, idx)
) WITHOUT ROWID;

-- Deletions, whether they count or not. head: what the deleted entry was but its body. is_act: by an
-- admin.
CREATE TABLE tombstones (
    target_feed BLOB, target_idx INTEGER, feed BLOB, idx INTEGER, room_id TEXT NOT NULL,
    user_id TEXT NOT NULL, ms INTEGER NOT NULL, reason TEXT NOT NULL, is_act INTEGER NOT NULL,
    head BLOB NOT NULL, PRIMARY KEY (target_feed, target_idx, feed, idx)
) WITHOUT ROWID;
CREATE INDEX tombstones_room ON tombstones (room_id);

-- Whom messages name.
CREATE TABLE mentions (
    feed BLOB, idx INTEGER, user_id TEXT, room_id TEXT NOT NULL, PRIMARY KEY (feed, idx, user_id)
) WITHOUT ROWID;
CREATE INDEX mentions_user ON mentions (user_id, room_id);

-- No key stands here: bodies that carry some are kept as the sealed blocks that they came in.
CREATE TABLE files (
    id TEXT PRIMARY KEY, room_id TEXT NOT NULL REFERENCES rooms (id), uploader_id TEXT NOT NULL,
    filename TEXT NOT NULL, mime_type TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    storage_key TEXT NOT NULL, checksum TEXT NOT NULL, created_at INTEGER NOT NULL,
    depth INTEGER NOT NULL, counter INTEGER NOT NULL, feed BLOB NOT NULL, idx INTEGER NOT NULL,
    blake3 BLOB NOT NULL, blobs_feed BLOB NOT NULL, first_block INTEGER NOT NULL,
    blocks INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX files_room ON files (room_id, depth, created_at, counter, feed, idx);

-- Acts of rooms. verifies: what it carries does. verdict, why, voided_by: what it comes to.
CREATE TABLE acts (
    room_id TEXT, hash BLOB, feed BLOB NOT NULL, idx INTEGER NOT NULL, tag INTEGER NOT NULL,
    sealed_by BLOB, verifies INTEGER NOT NULL, depth INTEGER NOT NULL, user_id TEXT,
    verdict TEXT NOT NULL, why TEXT NOT NULL, voided_by BLOB, PRIMARY KEY (room_id, hash)
) WITHOUT ROWID;
CREATE INDEX acts_place ON acts (feed, idx);

-- How much of a feed is accepted, and who says so; trees that are not what a cut names.
CREATE TABLE cuts (
    room_id TEXT, feed BLOB, length INTEGER NOT NULL, tree_hash BLOB NOT NULL, sort TEXT NOT NULL,
    user_id TEXT NOT NULL, act BLOB NOT NULL, PRIMARY KEY (room_id, feed)
) WITHOUT ROWID;
CREATE TABLE disputes (
    room_id TEXT, feed BLOB, idx INTEGER NOT NULL, stated BLOB NOT NULL, held BLOB NOT NULL,
    act BLOB NOT NULL, PRIMARY KEY (room_id, feed)
) WITHOUT ROWID;

CREATE TABLE invites (
    room_id TEXT, act BLOB, public_key BLOB NOT NULL, user_id TEXT NOT NULL, role TEXT NOT NULL,
    expires_at INTEGER, uses INTEGER, used INTEGER NOT NULL, revoked_by BLOB,
    PRIMARY KEY (room_id, act)
) WITHOUT ROWID;
CREATE TABLE epochs (
    room_id TEXT, epoch BLOB, act_id BLOB NOT NULL, act BLOB NOT NULL, user_id TEXT NOT NULL,
    ms INTEGER NOT NULL, parents BLOB NOT NULL, is_head INTEGER NOT NULL,
    PRIMARY KEY (room_id, epoch)
) WITHOUT ROWID;
CREATE TABLE epoch_devices (
    room_id TEXT, epoch BLOB, device TEXT, PRIMARY KEY (room_id, epoch, device)
) WITHOUT ROWID;
CREATE TABLE grants (
    room_id TEXT, grant_hash BLOB, act BLOB NOT NULL, user_id TEXT NOT NULL, seeder TEXT NOT NULL,
    expires_at INTEGER NOT NULL, quota_class INTEGER NOT NULL, revoked_by BLOB,
    PRIMARY KEY (room_id, grant_hash, act)
) WITHOUT ROWID;

-- Stage two: what agents say in the open. profiles.room_id is '' there, else the room.
CREATE TABLE profiles (
    user_id TEXT, room_id TEXT, name TEXT NOT NULL, about TEXT NOT NULL, ms INTEGER NOT NULL,
    counter INTEGER NOT NULL, feed BLOB NOT NULL, idx INTEGER NOT NULL,
    PRIMARY KEY (user_id, room_id)
) WITHOUT ROWID;
CREATE TABLE documents (
    feed BLOB NOT NULL, idx INTEGER NOT NULL, author TEXT, title TEXT NOT NULL, mime TEXT NOT NULL,
    language TEXT NOT NULL, text TEXT NOT NULL, created_at INTEGER NOT NULL,
    PRIMARY KEY (feed, idx)
);
-- Feeds of one label, oldest first: a later device continues a path. cut: the length that it accepts.
-- claim: public key and signature of the feed. retired: listed no more.
CREATE TABLE directory (
    user_id TEXT, feed BLOB, label TEXT NOT NULL, kind TEXT NOT NULL, content TEXT NOT NULL,
    feed_id BLOB NOT NULL, device TEXT NOT NULL,
    position INTEGER NOT NULL DEFAULT 0, cut INTEGER, claim BLOB NOT NULL DEFAULT x'',
    retired INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, feed)
) WITHOUT ROWID;
CREATE INDEX directory_feed ON directory (feed);
CREATE TABLE redirects (
    user_id TEXT, label TEXT, target TEXT NOT NULL, PRIMARY KEY (user_id, label)
) WITHOUT ROWID;
CREATE TABLE heads (
    user_id TEXT, feed BLOB, length INTEGER NOT NULL, tree_hash BLOB NOT NULL,
    PRIMARY KEY (user_id, feed)
) WITHOUT ROWID;

-- When feeds had how many blocks, as directories committed to it.
CREATE TABLE lengths (
    feed BLOB, ms INTEGER, length INTEGER NOT NULL, PRIMARY KEY (feed, ms, length)
) WITHOUT ROWID;

CREATE VIRTUAL TABLE documents_search USING fts5 (
    title, text, content = 'documents',
    tokenize = 'unicode61 remove_diacritics 2 categories ''L* N* Co M*'''
);
INSERT INTO documents_search (documents_search, rank) VALUES ('secure-delete', 1);

-- Writes of registers and which of them stand; the writes that each names as replaced. sort: profile,
-- setting, contact, preference, vouch. room_id is '' outside of rooms.
CREATE TABLE register_writes (
    sort TEXT, user_id TEXT, room_id TEXT, name TEXT, feed BLOB, idx INTEGER,
    depth INTEGER NOT NULL, ms INTEGER NOT NULL, counter INTEGER NOT NULL,
    is_head INTEGER NOT NULL, PRIMARY KEY (sort, user_id, room_id, name, feed, idx)
) WITHOUT ROWID;
CREATE INDEX register_heads ON register_writes (sort, user_id, room_id, name) WHERE is_head = 1;
CREATE TABLE register_replaced (
    sort TEXT, user_id TEXT, room_id TEXT, name TEXT, feed BLOB, idx INTEGER,
    by_feed BLOB, by_idx INTEGER,
    PRIMARY KEY (sort, user_id, room_id, name, feed, idx, by_feed, by_idx)
) WITHOUT ROWID;

-- Registers with several heads that do not say the same, one row a head.
CREATE TABLE conflicts (
    sort TEXT, user_id TEXT, room_id TEXT, name TEXT, feed BLOB, idx INTEGER,
    ms INTEGER NOT NULL, counter INTEGER NOT NULL, is_shown INTEGER NOT NULL, value TEXT,
    PRIMARY KEY (sort, user_id, room_id, name, feed, idx)
) WITHOUT ROWID;

-- What an agent keeps for itself: what it calls others, what it likes.
CREATE TABLE contacts (
    owner_id TEXT, user_id TEXT, petname TEXT NOT NULL, note TEXT NOT NULL,
    updated_at INTEGER NOT NULL, feed BLOB NOT NULL, idx INTEGER NOT NULL,
    PRIMARY KEY (owner_id, user_id)
) WITHOUT ROWID;
CREATE TABLE preferences (
    user_id TEXT, name TEXT, value TEXT NOT NULL, updated_at INTEGER NOT NULL,
    feed BLOB NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (user_id, name)
) WITHOUT ROWID;

-- What agents say in the open of each other, and of entries.
CREATE TABLE vouches (
    user_id TEXT, about_id TEXT, trusted INTEGER NOT NULL, reason TEXT NOT NULL,
    updated_at INTEGER NOT NULL, feed BLOB NOT NULL, idx INTEGER NOT NULL,
    PRIMARY KEY (user_id, about_id)
) WITHOUT ROWID;
CREATE INDEX vouches_about ON vouches (about_id);
CREATE TABLE attests (
    feed BLOB, idx INTEGER, user_id TEXT NOT NULL, about_id TEXT NOT NULL, text TEXT NOT NULL,
    created_at INTEGER NOT NULL, PRIMARY KEY (feed, idx)
) WITHOUT ROWID;
CREATE INDEX attests_about ON attests (about_id);
CREATE TABLE witnesses (
    feed BLOB, idx INTEGER, user_id TEXT NOT NULL, about_feed BLOB NOT NULL,
    about_idx INTEGER NOT NULL, text TEXT NOT NULL, created_at INTEGER NOT NULL,
    PRIMARY KEY (feed, idx)
) WITHOUT ROWID;
CREATE INDEX witnesses_about ON witnesses (about_feed, about_idx);
";

/// Marks the file as an index (`kl`) of this format.
const APPLICATION_ID: u32 = 0x6b6c_0000 | FORMAT as u32;

/// Checks the file behind a fresh connection, sets it up, and makes the tables in an empty one.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let fault = |source| OpenError::of(path, source);
    // NORMAL loses the newest commits at a power cut, never consistency: rows and checkpoint go
    // together, and what is lost is read again from the feeds. Facts have some 500 B: on pages of
    // 8 KiB (only a new file takes them) trees are balanced half as often as on SQLite's own 4.
    connection
        .execute_batch(
            "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32768;
             PRAGMA wal_autocheckpoint = 4096; PRAGMA secure_delete = FAST;",
        )
        .map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS_MAX);
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(fault)?;
    if verdict != "ok" {
        return Err(OpenError::Damaged {
            path: path.into(),
            reason: verdict,
        });
    }
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let version = number("user_version").map_err(fault)?;
    let application = number("application_id").map_err(fault)?;
    let expected = SCHEMA_VERSION;
    if version > 0 && (version != expected || application != APPLICATION_ID) {
        let (expected, actual) = match version == expected {
            true => (APPLICATION_ID, application),
            false => (expected, version),
        };
        return Err(OpenError::OtherSchema {
            path: path.into(),
            expected,
            actual,
        });
    }
    if version == expected {
        connection.execute_batch(SCRUB_END).map_err(fault)?;
        return leave_moved(connection).map_err(fault);
    }
    let transaction = connection.transaction().map_err(fault)?;
    transaction.execute_batch(SCHEMA).map_err(fault)?;
    transaction
        .pragma_update(None, "user_version", expected)
        .map_err(fault)?;
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(fault)?;
    transaction.commit().map_err(fault)
}

/// Empties every table but that of feeds, where some of these were found to belong elsewhere than they
/// were read: all is read again.
fn leave_moved(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let moved: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM tallies WHERE sort = ?1)",
        [MOVED],
        |row| row.get(0),
    )?;
    if moved {
        clear_views(&transaction)?;
    }
    transaction.commit()
}

/// Empties every table.
pub(super) fn clear(connection: &Connection) -> rusqlite::Result<()> {
    clear_views(connection)?;
    connection.execute_batch("DELETE FROM feeds;")
}

fn clear_views(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "INSERT INTO messages_search (messages_search) VALUES ('delete-all');
         INSERT INTO documents_search (documents_search) VALUES ('delete-all');
         DELETE FROM room_members; DELETE FROM member_feeds; DELETE FROM files; DELETE FROM messages;
         DELETE FROM reactions; DELETE FROM reaction_ends; DELETE FROM edits; DELETE FROM tombstones;
         DELETE FROM mentions;
         DELETE FROM acts; DELETE FROM cuts; DELETE FROM disputes; DELETE FROM invites;
         DELETE FROM epochs; DELETE FROM epoch_devices; DELETE FROM grants; DELETE FROM rooms; DELETE FROM profiles; DELETE FROM documents;
         DELETE FROM directory; DELETE FROM redirects; DELETE FROM heads; DELETE FROM lengths;
         DELETE FROM link_conflicts; DELETE FROM conflicts; DELETE FROM register_writes;
         DELETE FROM register_replaced; DELETE FROM contacts; DELETE FROM preferences;
         DELETE FROM vouches; DELETE FROM attests; DELETE FROM witnesses;
         DELETE FROM frontier; DELETE FROM awaited; DELETE FROM tallies; DELETE FROM skipped;
         DELETE FROM pending; DELETE FROM facts; DELETE FROM meta;",
    )
}
