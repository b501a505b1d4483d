//! What the index keeps in memory between calls: a copy of small tables, nothing else.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, Row};

use crate::RoomId;
use crate::authority::RoomActs;
use crate::entry::{LinkScope, LinkTag};
use crate::index::depths::Depths;
use crate::index::directory::{Claims, Folded, WrittenPaths};
use crate::index::key_map::{KeyMap, KeySet};
use crate::index::room_acts::Written;
use crate::index::runs::Runs;
use crate::index::{HeadHash, Scope};

/// An entry's place: feed and block index.
pub(super) type Place = (FeedKey, u64);

/// Feeds by their link tag.
#[derive(Clone, Debug, Default)]
pub(super) struct Tags(KeyMap<(LinkScope, LinkTag), Vec<FeedKey>>);

impl Tags {
    /// Returns the feed that a tag names in a scope; one tag of two feeds names neither.
    pub(super) fn get(&self, link: &(LinkScope, LinkTag)) -> Option<FeedKey> {
        match self.0.get(link).map(Vec::as_slice) {
            Some([feed]) => Some(*feed),
            _ => None,
        }
    }

    /// Forgets that a tag names a feed; returns whether it names another in the same scope.
    fn remove(&mut self, link: &(LinkScope, LinkTag), key: &FeedKey) -> bool {
        let Some(named) = self.0.get_mut(link) else {
            return false;
        };
        named.retain(|other| other != key);
        !named.is_empty()
    }

    /// Adds a feed; returns whether its tag was another feed's in the same scope.
    fn add(&mut self, link: (LinkScope, LinkTag), key: FeedKey) -> bool {
        let named = self.0.entry(link).or_default();
        if !named.contains(&key) {
            named.push(key);
        }
        named.len() > 1
    }
}

/// What is known of one feed.
#[derive(Clone, Debug)]
pub(super) struct FeedState {
    pub(super) scope: Scope,
    pub(super) link: Option<(LinkScope, LinkTag)>,
    pub(super) runs: Runs,
    /// The room's id as tables have it.
    pub(super) room: Option<Arc<str>>,
    /// The member whose room feed it is, as tables have it; `None` while it does not count.
    pub(super) member: Option<Arc<str>>,
    /// The block from which on its entries are hidden, unless they are acts.
    pub(super) shown_below: u64,
    /// The length at which it was cut, to be compared with its tree.
    pub(super) cut_at: Option<u64>,
}

impl FeedState {
    pub(super) fn new(key: &FeedKey, scope: Scope) -> Self {
        let link = scope.link_scope().map(|link| (link, link.tag(key)));
        let room = match scope {
            Scope::Room(room) => Some(room.to_string().into()),
            _ => None,
        };
        FeedState {
            scope,
            link,
            runs: Runs::default(),
            room,
            member: None,
            shown_below: 0,
            cut_at: None,
        }
    }
}

/// The state of all feeds; lost on a failed transaction and then loaded again.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) feeds: KeyMap<FeedKey, FeedState>,
    /// Scopes of feeds that were read in another one: they stand there when the index is opened again.
    pub(super) moved: KeyMap<FeedKey, Scope>,
    /// Feeds by their link tag; whoever opens blocks beside the writer looks there too.
    pub(super) tags: Arc<Tags>,
    /// Acts of the rooms touched so far.
    pub(super) acts: RefCell<HashMap<RoomId, RoomActs>>,
    /// What the tables of a room were last written from.
    pub(super) written: HashMap<RoomId, Written>,
    /// Frontiers of the scopes touched so far, with the depth of each entry.
    pub(super) frontiers: KeyMap<LinkScope, BTreeMap<Place, u64>>,
    /// Links that wait for their target, by scope.
    pub(super) awaited: KeyMap<LinkScope, u64>,
    /// Claims in directories that were looked at.
    pub(super) claims: Claims,
    /// The rows of public paths, by agent, as they stand in their table.
    pub(super) paths: HashMap<AgentId, WrittenPaths>,
    /// Directories as far as they were read.
    pub(super) folds: HashMap<FeedKey, Folded>,
    /// Messages that edits or deletions name, whether they are held or not.
    pub(super) marked: KeySet<Place>,
    pub(super) depths: Depths,
    /// Entries that were deleted: facts without a body, whose blocks are not indexed.
    pub(super) deleted: KeySet<Place>,
    /// Of those the blocks that were read since the start, and what they are but their bodies.
    pub(super) seen: BTreeMap<Place, HeadHash>,
    /// The same of blocks that the host says it has no more.
    pub(super) gone: BTreeMap<Place, HeadHash>,
}

impl State {
    /// Reads the state from the tables.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut state = State::default();
        let mut feeds =
            connection.prepare("SELECT feed, scope, room_id, author, device FROM feeds")?;
        let mut rows = feeds.query([])?;
        while let Some(row) = rows.next()? {
            let key = FeedKey(row.get(0)?);
            let scope = match row.get::<_, i64>(1)? {
                1 => Scope::Directory {
                    author: parse(row, 3)?,
                    device: parse(row, 4)?,
                },
                2 => Scope::Author {
                    author: parse(row, 3)?,
                    device: parse(row, 4)?,
                },
                3 => Scope::Room(parse::<RoomId>(row, 2)?),
                4 => Scope::PrivateDirectory {
                    author: parse(row, 3)?,
                    device: parse(row, 4)?,
                },
                5 => Scope::Private {
                    author: parse(row, 3)?,
                    device: parse(row, 4)?,
                },
                _ => Scope::Unknown,
            };
            state.add_feed(key, FeedState::new(&key, scope));
        }
        let mut members = connection.prepare(
            "SELECT m.feed, m.room_id, m.user_id, m.shown_below, c.length FROM member_feeds m
             LEFT JOIN cuts c ON c.room_id = m.room_id AND c.feed = m.feed",
        )?;
        let mut rows = members.query([])?;
        while let Some(row) = rows.next()? {
            let room: RoomId = parse(row, 1)?;
            if let Some(feed) = state.feeds.get_mut(&FeedKey(row.get(0)?))
                && feed.scope == Scope::Room(room)
            {
                feed.member = Some(row.get(2)?);
                feed.shown_below = row.get(3)?;
                feed.cut_at = row.get(4)?;
            }
        }
        let mut runs = connection.prepare("SELECT feed, start, checkpoint FROM meta")?;
        let mut rows = runs.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(feed) = state.feeds.get_mut(&FeedKey(row.get(0)?)) {
                feed.runs.load(row.get(1)?, row.get(2)?);
            }
        }
        let mut awaited =
            connection.prepare("SELECT scope, count(*) FROM awaited GROUP BY scope")?;
        let mut rows = awaited.query([])?;
        while let Some(row) = rows.next()? {
            state
                .awaited
                .insert(scope_from_sql(&row.get::<_, Vec<u8>>(0)?)?, row.get(1)?);
        }
        let mut marked = connection.prepare(
            "SELECT target_feed, target_idx FROM edits
             UNION SELECT target_feed, target_idx FROM tombstones",
        )?;
        let mut rows = marked.query([])?;
        while let Some(row) = rows.next()? {
            state.marked.insert((FeedKey(row.get(0)?), row.get(1)?));
        }
        let mut deleted = connection.prepare("SELECT feed, idx FROM facts WHERE state = 3")?;
        let mut rows = deleted.query([])?;
        while let Some(row) = rows.next()? {
            state.deleted.insert((FeedKey(row.get(0)?), row.get(1)?));
        }
        Ok(state)
    }

    /// Forgets by which link a feed is named, before it gets another scope; returns the scope in which
    /// the link names another feed now.
    pub(super) fn forget_link(&mut self, key: &FeedKey) -> Option<LinkScope> {
        let link = self.feeds.get(key)?.link?;
        let named = Arc::make_mut(&mut self.tags).remove(&link, key);
        named.then_some(link.0)
    }

    /// Adds a feed; returns whether its tag was another feed's in the same scope.
    pub(super) fn add_feed(&mut self, key: FeedKey, feed: FeedState) -> bool {
        let collides = feed
            .link
            .is_some_and(|link| Arc::make_mut(&mut self.tags).add(link, key));
        self.feeds.insert(key, feed);
        collides
    }

    /// Returns whether a block was indexed or deleted; it need not be an entry.
    pub(super) fn indexed(&self, place: &Place) -> bool {
        let (feed, index) = place;
        let feed = self.feeds.get(feed);
        feed.is_some_and(|feed| feed.runs.contains(*index)) || self.deleted.contains(place)
    }

    /// Returns the blocks of a feed that were read and found to be deleted.
    pub(super) fn deleted_of(&self, feed: &FeedKey) -> impl Iterator<Item = u64> {
        let range = (*feed, 0)..=(*feed, u64::MAX);
        self.seen.range(range).map(|((_, index), _)| *index)
    }

    /// Returns the frontier of a scope, read from its table at first.
    pub(super) fn frontier(
        &mut self,
        connection: &Connection,
        scope: LinkScope,
    ) -> rusqlite::Result<&mut BTreeMap<Place, u64>> {
        use std::collections::hash_map::Entry;
        match self.frontiers.entry(scope) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(read_frontier(connection, &scope)?)),
        }
    }
}

/// Reads the frontier of a scope.
pub(super) fn read_frontier(
    connection: &Connection,
    scope: &LinkScope,
) -> rusqlite::Result<BTreeMap<Place, u64>> {
    connection
        .prepare_cached("SELECT feed, idx, depth FROM frontier WHERE scope = ?1")?
        .query_map([scope_to_sql(scope)], |row| {
            Ok(((FeedKey(row.get(0)?), row.get(1)?), row.get(2)?))
        })?
        .collect()
}

/// Returns a scope as tables have it: a letter and the key.
pub(super) fn scope_to_sql(scope: &LinkScope) -> [u8; 33] {
    let (letter, key) = match scope {
        LinkScope::Room(room) => (b'r', room.as_bytes()),
        LinkScope::Author(agent) => (b'a', agent.as_bytes()),
    };
    let mut out = [letter; 33];
    out[1..].copy_from_slice(key);
    out
}

fn scope_from_sql(bytes: &[u8]) -> rusqlite::Result<LinkScope> {
    let scope = bytes.split_first_chunk::<1>().and_then(|(letter, key)| {
        let key: [u8; 32] = key.try_into().ok()?;
        match letter {
            [b'r'] => Some(LinkScope::Room(RoomId(key))),
            [b'a'] => Some(LinkScope::Author(AgentId(key))),
            _ => None,
        }
    });
    scope.ok_or_else(|| damaged(0, "link scope"))
}

/// Reads a key that stands as text.
pub(super) fn parse<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|_| damaged(column, "key"))
}

/// Reads a key that stands as text or not at all.
pub(super) fn parse_option<T: FromStr>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    let text = row.get_ref(column)?.as_str_or_null()?;
    text.map(|text| text.parse().map_err(|_| damaged(column, "key")))
        .transpose()
}

/// Returns the error of a column that holds what this crate never writes.
pub(super) fn damaged(column: usize, what: &'static str) -> rusqlite::Error {
    let reason = FromSqlError::Other(format!("{what} is damaged").into());
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, reason.into())
}

/// Returns the columns of the `feeds` table for a scope: scope, room, author, device.
pub(super) fn scope_columns(
    scope: &Scope,
) -> (i64, Option<String>, Option<String>, Option<String>) {
    let named =
        |author: &AgentId, device: &DeviceKey| (Some(author.to_string()), Some(device.to_string()));
    match scope {
        Scope::Unknown => (0, None, None, None),
        Scope::Directory { author, device } => {
            let (author, device) = named(author, device);
            (1, None, author, device)
        }
        Scope::Author { author, device } => {
            let (author, device) = named(author, device);
            (2, None, author, device)
        }
        Scope::Room(room) => (3, Some(room.to_string()), None, None),
        Scope::PrivateDirectory { author, device } | Scope::Private { author, device } => {
            let number = match scope {
                Scope::PrivateDirectory { .. } => 4,
                _ => 5,
            };
            let room = scope.sealed_in().map(|room| room.to_string());
            let (author, device) = named(author, device);
            (number, room, author, device)
        }
    }
}
