//! Links find their targets; depths and the frontier follow.
//!
//! Everything here gives the same tables in whatever order entries arrive: what depends on two of
//! them is done when the second comes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashSet};

use kinlog_feeds::crypto::FeedKey;
use kinlog_feeds::limits::UINT_MAX;
use rusqlite::{Connection, OptionalExtension, params};

use crate::entry::{Envelope, LINK_HASH_BYTES, Link, LinkScope, LinkTag};
use crate::index::state::{Place, State, Tags, read_frontier, scope_to_sql};
use crate::index::writer::Writer;
use crate::index::{IndexError, TreeHashes};
use crate::limits::LINKS_MAX;
use crate::mistake::{Mistake, makes};

/// What a link states of a tree.
type LinkHash = [u8; LINK_HASH_BYTES];

/// Bytes of a link as `facts.links` has it: tag, index, hash.
const LINK_BYTES: usize = 8 + 8 + LINK_HASH_BYTES;

/// What a transaction did to an entry of a frontier, as its table has to hear.
#[derive(Clone, Copy, Debug)]
pub(super) enum FrontierChange {
    /// It came, with this depth, and is in no table yet.
    Came(u64),
    /// It has this depth now; the table may have it.
    Moved(u64),
    /// It is in the table and goes.
    Went,
}

impl Writer<'_> {
    /// Connects an entry with those held that it links to and that link to it, and returns its
    /// order depth; `held` are the hashes that were found when it was opened.
    pub(super) fn place_among_links(
        &mut self,
        place: Place,
        envelope: &Envelope,
        held: &HeldHashes,
    ) -> Result<u64, IndexError> {
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
            for (number, link) in envelope.links.as_slice().iter().enumerate() {
                let held = held.of(number);
                below = below.max(self.follow_link(scope, place, link, held)?);
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
        held: Option<LinkHash>,
    ) -> Result<Option<u64>, IndexError> {
        if let Some(feed) = self.state.tags.get(&(scope, link.tag)) {
            let target = (feed, link.index);
            if let Some(depth) = self.stated_depth(&target)? {
                self.check_link(by, target, &link.hash, held)?;
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
            || self.state.tags.get(&(scope, tag)) != Some(feed)
        {
            return Ok(false);
        }
        let sql_scope = scope_to_sql(&scope);
        let waiting: Vec<(Place, LinkHash)> = self
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
            if !makes(Mistake::LinkForgotten) {
                self.raise(by, depth)?;
            }
            self.check_link(by, place, &hash, None)?;
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

    /// Compares a link with the tree of the feed it names, where that is held: `held` if it was
    /// asked for before.
    fn check_link(
        &mut self,
        by: Place,
        target: Place,
        stated: &LinkHash,
        held: Option<LinkHash>,
    ) -> Result<(), IndexError> {
        let Some(held) = held.or_else(|| held_hash(self.trees?, target)) else {
            return Ok(());
        };
        if held == *stated {
            return Ok(());
        }
        let added = self
            .db
            .prepare_cached("INSERT OR IGNORE INTO link_conflicts VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![by.0.0, by.1, target.0.0, target.1, stated, held])?;
        self.tally("conflicts", added as i64);
        self.report.conflicts += added as u64;
        Ok(())
    }

    /// Returns the stated depth of an entry, `None` if it is not held.
    pub(super) fn stated_depth(&mut self, place: &Place) -> Result<Option<u64>, IndexError> {
        if let Some(depth) = self.state.depths.get(place) {
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
        Ok(depth)
    }

    fn enter_frontier(
        &mut self,
        scope: LinkScope,
        place: Place,
        depth: u64,
    ) -> Result<(), IndexError> {
        self.state.frontier(self.db, scope)?.insert(place, depth);
        match self.frontier_changes.entry((scope, place)) {
            Entry::Vacant(change) => change.insert(FrontierChange::Came(depth)),
            Entry::Occupied(change) => {
                let change = change.into_mut();
                *change = FrontierChange::Moved(depth);
                change
            }
        };
        Ok(())
    }

    fn leave_frontier(&mut self, scope: LinkScope, place: Place) -> Result<(), IndexError> {
        if self
            .state
            .frontier(self.db, scope)?
            .remove(&place)
            .is_some()
        {
            match self.frontier_changes.entry((scope, place)) {
                // Most entries come and go in one transaction: no table hears of them.
                Entry::Occupied(change) if matches!(change.get(), FrontierChange::Came(_)) => {
                    change.remove();
                }
                Entry::Occupied(mut change) => {
                    change.insert(FrontierChange::Went);
                }
                Entry::Vacant(change) => {
                    change.insert(FrontierChange::Went);
                }
            }
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
            self.state.folds.remove(feed);
            let gone = self
                .db
                .execute("DELETE FROM link_conflicts WHERE feed = ?1", [feed.0])?;
            self.tally("conflicts", -(gone as i64));
            for (index, depth, links) in self.links_of(feed)? {
                let place = (*feed, index);
                let mut below = None;
                if let Some(previous) = index.checked_sub(1) {
                    below = self.stated_depth(&(*feed, previous))?;
                    linked.insert((*feed, previous));
                }
                for link in links_from_sql(&links) {
                    if let Some(target) = self.state.tags.get(&(scope, link.tag)) {
                        linked.insert((target, link.index));
                    }
                    below = below.max(self.follow_link(scope, place, &link, None)?);
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
}

/// Hashes of the trees that an entry's links name, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct HeldHashes(Vec<Option<LinkHash>>);

impl HeldHashes {
    /// Asks for those of all links.
    pub(super) fn ask(
        trees: &dyn TreeHashes,
        tags: &Tags,
        scope: LinkScope,
        links: &[Link],
    ) -> Self {
        let ask = |link: &Link| held_hash(trees, (tags.get(&(scope, link.tag))?, link.index));
        HeldHashes(links.iter().map(ask).collect())
    }

    fn of(&self, number: usize) -> Option<LinkHash> {
        self.0.get(number).copied().flatten()
    }
}

/// Returns what a link to an entry has to state.
fn held_hash(trees: &dyn TreeHashes, (feed, index): Place) -> Option<LinkHash> {
    let hash = trees.tree_hash(&feed, index + 1)?;
    Some(Link::truncate(&hash))
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
    let counts = |(feed, index): &Place| match scope {
        LinkScope::Author(_) => true,
        LinkScope::Room(_) => {
            let feed = state.feeds.get(feed);
            feed.is_some_and(|feed| feed.member.is_some() && *index < feed.shown_below)
        }
    };
    let mut deepest: Vec<(u64, Place)> = entries
        .into_iter()
        .filter(|(place, _)| counts(place))
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

pub(super) fn links_to_sql(links: &[Link]) -> Vec<u8> {
    let mut out = Vec::with_capacity(links.len() * LINK_BYTES);
    for link in links {
        out.extend_from_slice(&link.tag.0);
        out.extend_from_slice(&link.index.to_le_bytes());
        out.extend_from_slice(&link.hash);
    }
    out
}

pub(super) fn links_from_sql(bytes: &[u8]) -> Vec<Link> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Body, Entry, Links, Profile};
    use crate::index::state::FeedState;
    use crate::index::{Block, FeedContext, Scope};
    use crate::{Clock, Index, Text};
    use kinlog_feeds::crypto::{AgentId, DeviceKey, Hash};

    const ONE: FeedKey = FeedKey([1; 32]);
    const TWO: FeedKey = FeedKey([2; 32]);
    const TWIN: FeedKey = FeedKey([3; 32]);

    fn scope() -> Scope {
        Scope::Author {
            author: AgentId([9; 32]),
            device: DeviceKey([8; 32]),
        }
    }

    fn block(feed: FeedKey, depth: u64, links: Vec<Link>) -> Block {
        let entry = Entry {
            links: Links::new(links, false).unwrap(),
            depth,
            clock: Clock {
                ms: depth,
                counter: 0,
            },
            body: Body::Profile(Profile::named(Text::new("Ada").unwrap())),
        };
        Block {
            feed,
            index: 0,
            bytes: entry.encode_open().unwrap(),
        }
    }

    /// Makes `TWIN` a feed with the tag of `ONE`, which no key found in this test's time has.
    fn add_twin(index: &mut Index) {
        let mut twin = FeedState::new(&TWIN, scope());
        twin.link = index.state.feeds[&ONE].link;
        assert!(index.state.add_feed(TWIN, twin));
        let link = scope().link_scope().unwrap();
        index.write(|writer| writer.relink(link)).unwrap();
    }

    #[test]
    fn a_tag_that_comes_to_name_two_feeds_names_neither_whenever_it_does() {
        let link = scope().link_scope().unwrap();
        let link_to_one = Link::new(&link, &ONE, 0, &Hash::default());
        let blocks = [block(ONE, 7, Vec::new()), block(TWO, 0, vec![link_to_one])];
        let hashes: Vec<Hash> = (0..3)
            .map(|twin_at| {
                let mut index = Index::open_in_memory().unwrap();
                for key in [ONE, TWO] {
                    index
                        .put_feed(FeedContext {
                            key,
                            scope: scope(),
                        })
                        .unwrap();
                }
                for (number, block) in blocks.iter().enumerate() {
                    if number == twin_at {
                        add_twin(&mut index);
                    }
                    index.ingest(std::slice::from_ref(block)).unwrap();
                }
                let frontier = |index: &Index| index.frontier(link, &TWIN).unwrap().entries.len();
                if twin_at == 2 {
                    assert_eq!(
                        frontier(&index),
                        1,
                        "the link is followed while its tag is one's"
                    );
                    add_twin(&mut index);
                }
                assert_eq!(frontier(&index), 2);
                index.dump_hash().unwrap()
            })
            .collect();
        assert_eq!(hashes, [hashes[0]; 3]);
    }
}
