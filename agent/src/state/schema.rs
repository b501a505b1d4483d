//! The tables, as a list of steps that only grows.

use rusqlite::Connection;

use crate::state::StateError;

const STEPS: &[&str] = &["
    CREATE TABLE single (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE own_feeds (
        feed_key BLOB PRIMARY KEY,
        feed_id BLOB NOT NULL UNIQUE,
        path TEXT UNIQUE,
        content TEXT NOT NULL,
        plain INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE identities (agent BLOB PRIMARY KEY, identity_set BLOB NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE pins (
        id INTEGER PRIMARY KEY,
        agent BLOB,
        path TEXT,
        feed_key BLOB,
        selection TEXT NOT NULL,
        live INTEGER NOT NULL,
        tier TEXT NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;

    CREATE TABLE rooms (
        id BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        entries_id BLOB NOT NULL,
        blobs_id BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE epochs (
        id BLOB PRIMARY KEY,
        room BLOB NOT NULL REFERENCES rooms (id),
        secret BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE room_feeds (
        room BLOB NOT NULL REFERENCES rooms (id),
        feed_key BLOB NOT NULL,
        agent BLOB NOT NULL,
        device BLOB NOT NULL,
        content TEXT NOT NULL,
        PRIMARY KEY (room, feed_key)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE invites (
        public_key BLOB PRIMARY KEY,
        room BLOB NOT NULL REFERENCES rooms (id),
        seed BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE joins (
        room BLOB PRIMARY KEY,
        invite TEXT NOT NULL,
        entries_id BLOB NOT NULL,
        blobs_id BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE signals (url TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

    CREATE TABLE peer_routes (
        user_id BLOB NOT NULL,
        peer_id BLOB NOT NULL,
        signal_address TEXT NOT NULL,
        last_seen INTEGER NOT NULL,
        success_rate REAL NOT NULL,
        connection_path TEXT NOT NULL,
        PRIMARY KEY (user_id, peer_id, signal_address)
    ) STRICT, WITHOUT ROWID;
", "
    ALTER TABLE own_feeds ADD COLUMN published INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE former_feeds (
        feed_key BLOB PRIMARY KEY,
        device BLOB NOT NULL,
        path TEXT,
        content TEXT NOT NULL,
        plain INTEGER NOT NULL,
        length INTEGER NOT NULL,
        published INTEGER NOT NULL,
        successor BLOB
    ) STRICT, WITHOUT ROWID;
", "
    ALTER TABLE own_feeds ADD COLUMN private INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE own_feeds ADD COLUMN kind TEXT NOT NULL DEFAULT 'log';
    ALTER TABLE former_feeds ADD COLUMN private INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE own_epochs (id BLOB PRIMARY KEY, secret BLOB NOT NULL) STRICT, WITHOUT ROWID;
", "
    ALTER TABLE pins ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
", "
    ALTER TABLE former_feeds ADD COLUMN restored INTEGER NOT NULL DEFAULT 0;
", "
    -- record: NULL while it is only asked for.
    CREATE TABLE sign_ins (
        agent BLOB PRIMARY KEY,
        meet_key BLOB NOT NULL,
        record BLOB
    ) STRICT, WITHOUT ROWID;
", "
    -- sort: 0 the secret, 1 the act key alone.
    ALTER TABLE epochs ADD COLUMN sort INTEGER NOT NULL DEFAULT 0;

    -- The other agent of a direct room.
    ALTER TABLE rooms ADD COLUMN direct BLOB;

    -- What members answered to a join, kept apart until the room itself says that it is true.
    -- id: the room's and the device's.
    CREATE TABLE join_answers (
        id BLOB PRIMARY KEY,
        room BLOB NOT NULL,
        keys BLOB NOT NULL,
        feeds BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
", "
    CREATE TABLE grants_held (
        number INTEGER NOT NULL UNIQUE,
        hash BLOB PRIMARY KEY,
        bytes BLOB NOT NULL,
        ended INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE grants_given (
        number INTEGER NOT NULL UNIQUE,
        hash BLOB PRIMARY KEY,
        room BLOB NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;
", "
    CREATE TABLE left_rooms (room BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
", "
    -- Sealed. Of a private feed the column `path` is empty.
    ALTER TABLE own_feeds ADD COLUMN private_path TEXT NOT NULL DEFAULT '';
    ALTER TABLE former_feeds ADD COLUMN private_path TEXT NOT NULL DEFAULT '';

    -- place: random, what the sealed path belongs to. path: only until it is sealed.
    ALTER TABLE pins RENAME TO pins_before;
    CREATE TABLE pins (
        place BLOB PRIMARY KEY,
        number INTEGER NOT NULL UNIQUE,
        agent BLOB,
        path TEXT,
        feed_key BLOB,
        selection TEXT NOT NULL,
        live INTEGER NOT NULL,
        tier TEXT NOT NULL,
        reason TEXT NOT NULL,
        depth INTEGER NOT NULL,
        private_path TEXT NOT NULL DEFAULT ''
    ) STRICT, WITHOUT ROWID;
    INSERT INTO pins (place, number, agent, path, feed_key, selection, live, tier, reason, depth)
        SELECT randomblob(16), id, agent, path, feed_key, selection, live, tier, reason, depth
        FROM pins_before;
    DROP TABLE pins_before;
", "
    -- For this device alone; the others stand in `/settings`, too.
    ALTER TABLE pins ADD COLUMN is_local INTEGER NOT NULL DEFAULT 0;
", "
    -- Blocks that were read and deleted. stage: 0 hidden, 1 being emptied, 2 emptied, 3 undone after that.
    CREATE TABLE deletions (
        feed_key BLOB NOT NULL,
        idx INTEGER NOT NULL,
        head BLOB NOT NULL,
        seen_ms INTEGER NOT NULL,
        stage INTEGER NOT NULL,
        content_key BLOB,
        content_start INTEGER,
        content_end INTEGER,
        PRIMARY KEY (feed_key, idx)
    ) STRICT, WITHOUT ROWID;
", "
    -- Blocks that are asked for no more. said_by: 0 the agent whose path it is, 1 who gave a seed grant.
    CREATE TABLE cleared (
        feed_key BLOB NOT NULL,
        start_idx INTEGER NOT NULL,
        end_idx INTEGER NOT NULL,
        seen_ms INTEGER NOT NULL,
        emptied INTEGER NOT NULL,
        said_by INTEGER NOT NULL,
        PRIMARY KEY (feed_key, start_idx)
    ) STRICT, WITHOUT ROWID;
", "
    -- What devices that gave seed grants said is cleared of what these name.
    CREATE TABLE grant_cleared (
        device BLOB NOT NULL,
        feed_key BLOB NOT NULL,
        start_idx INTEGER NOT NULL,
        end_idx INTEGER NOT NULL,
        PRIMARY KEY (device, feed_key, start_idx)
    ) STRICT, WITHOUT ROWID;
", "
    -- Devices that introduced or relayed, or keep a room as seeders: others are met at their meeting points.
    CREATE TABLE coordinators (peer_id BLOB PRIMARY KEY, last_seen INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"];

/// Brings the schema up to date, each step in a transaction with its number.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StateError> {
    let known = STEPS.len() as u32;
    let actual: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if actual > known {
        return Err(StateError::Newer { actual, known });
    }
    for (step, number) in STEPS.iter().zip(1u32..).skip(actual as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}
