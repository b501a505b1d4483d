//! Feeding the index: every verified block of every feed of entries, once, and what follows from it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::store::Store;
use kinlog_indexer::RoomId;
use kinlog_indexer::index::{
    Block, BlockSource, FeedContext, IndexError, IngestReport, Scope, SourceError, split_newest,
};
use kinlog_indexer::seal::ContentKey;

use crate::api::Error;
use crate::block_ranges::minus;
use crate::core::{Core, Steps, lock};
use crate::knowledge::Knowledge;
use crate::limits::{INDEX_BATCH_BLOCKS, INDEX_BATCH_BYTES, INDEX_NEWEST_BLOCKS};

impl Core {
    /// Brings the index up to date with everything held, and what is known with the index.
    pub(crate) fn catch_up(&self) -> Result<(), Error> {
        let feeds = self.knowledge(|knowledge| contexts(knowledge));
        let mut steps = Steps::default();
        steps.take("keys of epochs", self.put_epoch_keys());
        steps.take("feeds", self.index_feeds(feeds));
        steps.end()
    }

    /// Brings the index up to date with one feed, if it is one of entries.
    pub(crate) fn catch_up_feed(&self, key: &FeedKey) -> Result<(), Error> {
        let feeds = self.knowledge(|knowledge| contexts(knowledge));
        self.index_feeds(feeds.into_iter().filter(|feed| feed.key == *key).collect())
    }

    /// Returns whether the index reads a feed.
    pub(crate) fn is_indexed_feed(&self, key: &FeedKey) -> bool {
        lock(&self.indexed).contains(key)
    }

    #[cfg(test)]
    pub(crate) fn pretend_indexed(&self, key: FeedKey) {
        lock(&self.indexed).insert(key);
    }

    /// Forgets the index and reads everything again.
    pub(crate) fn rebuild_index(&self) -> Result<(), Error> {
        let feeds = self.knowledge(|knowledge| contexts(knowledge));
        let keys = self.knowledge(|knowledge| epoch_keys(knowledge));
        let cuts = self.knowledge(|knowledge| {
            let cuts = feeds.iter();
            let cut = |feed: &FeedContext| Some((feed.key, knowledge.accepted(&feed.key)?));
            cuts.filter_map(cut).collect()
        });
        let cleared = self.knowledge(|knowledge| {
            let cleared = knowledge.cleared.keys();
            cleared
                .map(|key| (*key, knowledge.cleared_of(key)))
                .collect()
        });
        let mut source = Held {
            store: &self.store,
            feeds,
            keys,
            cuts,
            cleared,
        };
        let report = self.index(|index| index.rebuild(&mut source))?;
        lock(&self.indexed).clear();
        self.note_deleted(&report.deleted)?;
        let (agents, rooms) = self.knowledge(|knowledge| {
            let agents: Vec<_> = knowledge.agents.keys().copied().collect();
            (agents, knowledge.rooms.keys().copied().collect::<Vec<_>>())
        });
        let mut steps = Steps::default();
        for agent in &agents {
            steps.take("agent", self.learn_agent(agent));
        }
        for room in &rooms {
            steps.take("room", self.learn_room(room));
        }
        steps.take("cleared", self.heed_cleared(false));
        steps.take("deletions", self.look_at_deletions());
        steps.end()
    }

    /// Gives the index the keys of all epochs; it keeps them in memory only.
    fn put_epoch_keys(&self) -> Result<(), Error> {
        for (room, key) in self.knowledge(|knowledge| epoch_keys(knowledge)) {
            let report = self.index(|index| index.put_epoch_key(room, key))?;
            self.take_in(&report)?;
        }
        Ok(())
    }

    /// One feed that is not taken in keeps no other from it: nobody tells of that again.
    fn index_feeds(&self, mut feeds: Vec<FeedContext>) -> Result<(), Error> {
        let (mut steps, mut tried) = (Steps::default(), HashSet::new());
        // Each round may tell of feeds (a line of a directory, a member's) that the next reads.
        while !feeds.is_empty() {
            for feed in &feeds {
                tried.insert(feed.key);
                steps.take("feed", self.index_one(feed));
            }
            let told = lock(&self.indexed).clone();
            feeds = self.knowledge(|knowledge| contexts(knowledge));
            feeds.retain(|feed| !told.contains(&feed.key) && !tried.contains(&feed.key));
        }
        steps.end()
    }

    fn index_one(&self, feed: &FeedContext) -> Result<(), Error> {
        if lock(&self.indexed).insert(feed.key)
            && let Err(error) = self.put_feed(feed).and_then(|()| self.know_again(feed))
        {
            // The next look tells the index of it again.
            lock(&self.indexed).remove(&feed.key);
            return Err(error);
        }
        self.index_feed(&feed.key)?;
        match feed.scope {
            Scope::Room(room) => self.learn_acts(&room),
            _ => Ok(()),
        }
    }

    /// Tells the index of a feed. One that it knows from elsewhere stays there: what a later
    /// directory claims of it changes nothing, and stops nobody.
    fn put_feed(&self, feed: &FeedContext) -> Result<(), Error> {
        let report = self.index(|index| match index.put_feed(*feed) {
            Err(IndexError::OtherScope { feed: key }) => {
                tracing::warn!(%key, scope = ?feed.scope, "feed is claimed, but belongs elsewhere");
                Ok(None)
            }
            report => report.map(Some),
        })?;
        report.map_or(Ok(()), |report| self.take_in(&report))
    }

    /// Learns, at the first sight of a feed since the start, what an earlier run indexed of it.
    fn know_again(&self, feed: &FeedContext) -> Result<(), Error> {
        match feed.scope {
            Scope::Directory { author, .. } | Scope::PrivateDirectory { author, .. } => {
                self.learn_agent(&author)
            }
            Scope::Room(room) => self.learn_room(&room),
            Scope::Author { .. } | Scope::Private { .. } | Scope::Unknown => Ok(()),
        }
    }

    fn index_feed(&self, key: &FeedKey) -> Result<(), Error> {
        let Some(feed) = self.store.feed(key) else {
            return Ok(());
        };
        let have = feed.have();
        let accepted = self.knowledge(|knowledge| knowledge.accepted(key));
        let length = feed.head().length.min(accepted.unwrap_or(u64::MAX));
        let indexed = self.index(|index| index.indexed(key))?;
        let cleared = self.knowledge(|knowledge| knowledge.cleared_of(key));
        let gaps = minus(&gaps(&indexed, length), &cleared).into_iter();
        let missing = gaps.flat_map(|gap| have.runs(gap).collect::<Vec<_>>());
        let mut batch = Batch::new(self);
        for part in in_order(missing.collect()) {
            for index in part.into_iter().flatten() {
                // A block that went away, or is damaged, is not indexed; `feed verify` tells.
                match feed.get(index) {
                    Ok(Some(bytes)) => batch.push(Block {
                        feed: *key,
                        index,
                        bytes,
                    })?,
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%key, index, %error, "block is not indexed"),
                }
            }
            batch.flush()?;
        }
        Ok(())
    }

    /// Returns how many blocks are held of feeds of entries and not indexed yet.
    pub(crate) fn behind(&self) -> Result<u64, Error> {
        let told = lock(&self.indexed).clone();
        let mut behind = 0;
        for feed in told.iter().filter_map(|key| self.store.feed(key)) {
            let indexed = self.look(|index| index.indexed_runs(&feed.key()))?;
            let (have, length) = (feed.have(), feed.head().length);
            let cleared = self.knowledge(|knowledge| knowledge.cleared_of(&feed.key()));
            let gaps = minus(&gaps(&indexed, length), &cleared).into_iter();
            behind += gaps.map(|gap| have.count_range(gap)).sum::<u64>();
        }
        Ok(behind)
    }

    /// Learns what a report says has changed.
    pub(super) fn take_in(&self, report: &IngestReport) -> Result<(), Error> {
        let mut steps = Steps::default();
        for (agent, change) in &report.agents {
            steps.take("agent", self.learn_change(agent, *change));
        }
        if report.agents.values().any(|change| change.paths) {
            steps.take("cleared", self.heed_cleared(false));
        }
        for room in &report.rooms {
            steps.take("room", self.learn_room(room));
        }
        steps.take("deletions", self.take_in_deletions(report));
        steps.end()
    }
}

/// Blocks on their way to the index, in transactions of bounded size.
struct Batch<'a> {
    core: &'a Core,
    blocks: Vec<Block>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(core: &'a Core) -> Self {
        Batch {
            core,
            blocks: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, block: Block) -> Result<(), Error> {
        self.bytes += block.bytes.len();
        self.blocks.push(block);
        if self.blocks.len() >= INDEX_BATCH_BLOCKS || self.bytes >= INDEX_BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let report = self.core.index(|index| index.ingest(&self.blocks))?;
        self.blocks.clear();
        self.bytes = 0;
        self.core.take_in(&report)
    }
}

/// Returns every feed of entries that is known, each once, with its place.
///
/// A directory may name any key, also that of a room's feed or of another agent's. Where several
/// claim one feed, rooms go before directories, directories before lines, and this agent before others.
fn contexts(knowledge: &Knowledge) -> Vec<FeedContext> {
    let mut feeds = Vec::new();
    for room in knowledge.rooms.values() {
        let entries = room.feeds.values().filter(|feed| feed.is_entries);
        feeds.extend(entries.map(|feed| FeedContext {
            key: feed.key,
            scope: Scope::Room(room.id),
        }));
    }
    let own = knowledge.agents.get_key_value(&knowledge.agent);
    let others = knowledge.agents.iter();
    let others = others.filter(|(agent, _)| **agent != knowledge.agent);
    let agents: Vec<_> = own.into_iter().chain(others).collect();
    let (author, private) = (knowledge.agent, knowledge.private_directories());
    feeds.extend(private.into_iter().map(|(device, key)| FeedContext {
        key,
        scope: Scope::PrivateDirectory { author, device },
    }));
    for (author, known) in &agents {
        feeds.extend(known.writers().map(|device| FeedContext {
            key: device.directory,
            scope: Scope::Directory {
                author: **author,
                device: device.key,
            },
        }));
    }
    for (author, known) in &agents {
        let lines = known.lines.iter().filter(|line| line.is_entries);
        feeds.extend(lines.map(|line| FeedContext {
            key: line.key,
            scope: Scope::Author {
                author: **author,
                device: line.device,
            },
        }));
    }
    let private = knowledge
        .private_lines
        .iter()
        .filter(|line| line.is_entries);
    feeds.extend(private.map(|line| FeedContext {
        key: line.key,
        scope: Scope::Private {
            author,
            device: line.device,
        },
    }));
    // Of several claims of one feed the one that counts, with everybody.
    let mut first: HashMap<FeedKey, _> = HashMap::with_capacity(feeds.len());
    for feed in &feeds {
        let precedence = feed.scope.precedence();
        let known = first.entry(feed.key).or_insert(precedence);
        *known = precedence.min(*known);
    }
    feeds.retain(|feed| first.get(&feed.key) == Some(&feed.scope.precedence()));
    let mut seen = HashSet::with_capacity(feeds.len());
    feeds.retain(|feed| seen.insert(feed.key));
    feeds
}

fn epoch_keys(knowledge: &Knowledge) -> Vec<(RoomId, ContentKey)> {
    let rooms = knowledge.rooms.values();
    let of_rooms = rooms.flat_map(|room| room.keys.opening().map(|key| (room.id, key)));
    let own = RoomId::own(&knowledge.agent);
    let of_own = knowledge.own_epochs.known();
    of_rooms
        .chain(of_own.map(|(_, epoch)| (own, epoch.secret.content_key())))
        .collect()
}

/// Returns the parts of what is missing of one feed, each to be seen before the next is read: the
/// newest first where there is much.
fn in_order(missing: Vec<Range<u64>>) -> Vec<Vec<Range<u64>>> {
    let count: u64 = missing.iter().map(|range| range.end - range.start).sum();
    if count <= INDEX_BATCH_BLOCKS as u64 {
        return vec![missing];
    }
    let (rest, newest) = split_newest(missing, INDEX_NEWEST_BLOCKS);
    vec![newest, rest]
}

/// Returns what of `0..length` is not in `ranges`, which are in order.
fn gaps(ranges: &[Range<u64>], length: u64) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in ranges {
        if range.start > at {
            gaps.push(at..range.start.min(length));
        }
        at = at.max(range.end);
    }
    gaps.push(at.min(length)..length);
    gaps.retain(|gap| !gap.is_empty());
    gaps
}

/// Everything the index follows from, for a rebuild.
struct Held<'a> {
    store: &'a Store,
    feeds: Vec<FeedContext>,
    keys: Vec<(RoomId, ContentKey)>,
    /// Feeds of which only the first blocks are accepted.
    cuts: HashMap<FeedKey, u64>,
    /// Blocks that were cleared.
    cleared: HashMap<FeedKey, Vec<Range<u64>>>,
}

impl BlockSource for Held<'_> {
    fn feeds(&mut self) -> Result<Vec<FeedContext>, SourceError> {
        Ok(self.feeds.clone())
    }

    fn keys(&mut self) -> Result<Vec<(RoomId, ContentKey)>, SourceError> {
        Ok(self.keys.clone())
    }

    fn held(&mut self, feed: &FeedKey) -> Result<Vec<Range<u64>>, SourceError> {
        let Some(feed) = self.store.feed(feed) else {
            return Ok(Vec::new());
        };
        let accepted = self.cuts.get(&feed.key()).copied().unwrap_or(u64::MAX);
        let length = feed.head().length.min(accepted);
        let held: Vec<Range<u64>> = feed.have().runs(0..length).collect();
        Ok(match self.cleared.get(&feed.key()) {
            Some(cleared) => minus(&held, cleared),
            None => held,
        })
    }

    fn block(&mut self, feed: &FeedKey, index: u64) -> Result<Option<Bytes>, SourceError> {
        let Some(feed) = self.store.feed(feed) else {
            return Ok(None);
        };
        Ok(feed.get(index)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_feed_that_is_far_behind_the_newest_blocks_are_indexed_first() {
        let many = INDEX_BATCH_BLOCKS as u64;
        assert_eq!(in_order(vec![0..3, 5..many]), [[0..3, 5..many]]);
        let newest = many + 20 - INDEX_NEWEST_BLOCKS..many + 20;
        assert_eq!(
            in_order(vec![0..3, 5..newest.end]),
            [vec![newest.clone()], vec![0..3, 5..newest.start]]
        );
    }

    #[test]
    fn what_is_held_and_not_indexed_is_counted() {
        use kinlog_feeds::KeyPair;
        use kinlog_feeds::manifest::Manifest;
        use kinlog_feeds::store::{Kind, Role};

        use crate::test_folder::TestFolder;

        let folder = TestFolder::new();
        let core = folder.core("Ada");
        assert_eq!(core.behind().unwrap(), 0);
        let signer = KeyPair::from_seed(&[7; 32]);
        let manifest = Manifest::single(signer.public_key());
        let created = core.store.create_feed(&manifest, Role::Own, Kind::Kinlog);
        let blocks = [1, 2, 3].map(|number| Bytes::from(vec![number]));
        created.unwrap().append_batch(&signer, &blocks).unwrap();
        core.pretend_indexed(manifest.key());
        assert_eq!(core.behind().unwrap(), 3);
        let feed = FeedContext {
            key: manifest.key(),
            scope: Scope::Unknown,
        };
        core.index(|index| index.put_feed(feed)).unwrap();
        core.index_feed(&manifest.key()).unwrap();
        assert_eq!(core.behind().unwrap(), 0);
    }

    #[test]
    fn a_feed_that_several_claim_is_told_once_and_a_room_goes_first() {
        use std::collections::BTreeSet;

        use kinlog_feeds::KeyPair;
        use kinlog_feeds::crypto::{AgentId, DeviceKey};
        use kinlog_feeds::manifest::Manifest;
        use kinlog_indexer::entry::PathKind;
        use kinlog_indexer::identity::{DeviceCard, IdentitySet, Powers};

        use crate::knowledge::{KnownAgent, KnownRoom, Line};
        use crate::rooms::RoomFeed;

        let pair = |number: u8| KeyPair::from_seed(&[number; 32]);
        let key = |number: u8| Manifest::single(pair(number).public_key()).key();
        let agent = |number: u8, directory: u8, lines: &[u8]| {
            let root = KeyPair::from_seed(&[number; 32]);
            let agent = AgentId(root.public_key().0);
            let signing = pair(number + 100);
            let device = DeviceKey(signing.public_key().0);
            let (public, private) = (pair(directory), pair(directory + 100));
            let card = DeviceCard::sign(&agent, &signing, [number; 32], &public, &private);
            let name = "laptop".try_into().unwrap();
            let set = IdentitySet::begin(&root, card, Powers::ALL, name);
            let mut known = KnownAgent::verify(&agent, set.encode()).unwrap();
            let line = |number: &u8| Line {
                path: format!("/{number}").parse().unwrap(),
                former: Vec::new(),
                key: key(*number),
                device,
                is_entries: true,
                kind: PathKind::Log,
                start: 0,
                cut: None,
                is_unvouched: false,
            };
            known.lines = lines.iter().map(line).collect();
            known
        };
        // Whichever of the two ids is smaller: both claim what is the other's, and a room's feed.
        for (own, liar) in [(1, 2), (2, 1)] {
            let own = agent(own, 10, &[11]);
            let liar = agent(liar, 60, &[10, 11, 61]);
            let (me, other) = (own.identity.agent, liar.identity.agent);
            let mut knowledge = Knowledge::new(me);
            knowledge.agents = [(me, own), (other, liar)].into();
            let feed = |number| RoomFeed {
                key: key(number),
                agent: me,
                device: DeviceKey([1; 32]),
                is_entries: true,
            };
            let room = KnownRoom {
                feeds: [60, 61].map(|number| (key(number), feed(number))).into(),
                ..KnownRoom::new(RoomId([5; 32]), "", key(60))
            };
            let scope = Scope::Room(room.id);
            knowledge.rooms.insert(room.id, room);
            let contexts = contexts(&knowledge);
            let keys: Vec<_> = contexts.iter().map(|feed| feed.key).collect();
            let rooms: BTreeSet<_> = keys[..2].iter().copied().collect();
            assert_eq!(rooms, [key(60), key(61)].into());
            assert_eq!(keys[2..4], [key(110), key(10)]);
            assert_eq!(keys[4..], [key(11)]);
            assert!(contexts[..2].iter().all(|feed| feed.scope == scope));
            let mine = contexts[2..].iter().map(|feed| feed.scope.author());
            // A path of both, whose claims one key has signed, is the smaller one's with everybody.
            assert!(mine.eq([Some(me), Some(me), Some(me.min(other))]));
        }
    }

    #[test]
    fn a_home_opens_though_somebody_claims_a_feed_that_the_index_knows_from_elsewhere() {
        use kinlog_feeds::crypto::{AgentId, DeviceKey};
        use kinlog_feeds::store::{Kind, Role};

        use crate::knowledge::KnownRoom;
        use crate::rooms::RoomFeed;
        use crate::test_folder::TestFolder;

        let folder = TestFolder::new();
        let core = folder.core("Ada");
        let claimed = FeedKey([7; 32]);
        core.store
            .create_unknown(claimed, Role::Followed, Kind::Kinlog)
            .unwrap();
        let (author, device) = (AgentId([8; 32]), DeviceKey([8; 32]));
        let earlier = FeedContext {
            key: claimed,
            scope: Scope::Author { author, device },
        };
        core.index(|index| index.put_feed(earlier)).unwrap();
        let feed = RoomFeed {
            key: claimed,
            agent: author,
            device,
            is_entries: true,
        };
        let room = KnownRoom {
            feeds: [(claimed, feed)].into(),
            ..KnownRoom::new(RoomId([5; 32]), "", FeedKey([6; 32]))
        };
        core.knowledge(|knowledge| knowledge.rooms.insert(room.id, room));
        core.catch_up().unwrap();
        core.rebuild_index().unwrap();
    }

    #[test]
    fn gaps_are_what_is_not_indexed_yet() {
        let of = |ranges: &[(u64, u64)], length| {
            let ranges: Vec<Range<u64>> = ranges.iter().map(|(start, end)| *start..*end).collect();
            let gaps = gaps(&ranges, length).into_iter();
            gaps.map(|gap| (gap.start, gap.end)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[], 3), [(0, 3)]);
        assert_eq!(of(&[(0, 3)], 3), []);
        assert_eq!(of(&[(0, 2), (4, 5)], 7), [(2, 4), (5, 7)]);
        assert_eq!(of(&[(1, 2)], 7), [(0, 1), (2, 7)]);
        assert_eq!(of(&[(0, 9)], 7), []);
    }
}
