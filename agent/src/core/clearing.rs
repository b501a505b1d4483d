//! Blocks of paths that their agent cleared for everybody, as its directories say.
//!
//! From the moment this device hears of it they are neither fetched nor in the index. A day later they are
//! emptied, as what was deleted in a room is: until then a device of the agent that was stolen can be
//! revoked with a cut before what it said, and nothing is lost. What this device writes itself goes by
//! its own word alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::AgentId;
use kinlog_indexer::Index;
use kinlog_indexer::entry::{Body, Cleared};
use kinlog_indexer::index::IndexError;
use kinlog_indexer::limits::{CLEARED_FEEDS_MAX, CLEARED_RANGES_MAX};

use crate::api::{Error, ErrorKind};
use crate::block_ranges::{minus, union};
use crate::core::{Core, lock};
use crate::limits::{CLEARED_NOTED_MAX, EMPTY_AFTER};
use crate::state::{ClearedBlocks, ClearedBy, ClearedFeed};

/// What is cleared of feeds.
pub(crate) type Ranges = BTreeMap<FeedKey, Vec<Range<u64>>>;

impl Core {
    /// Says of blocks of an own path, whichever own device writes it, that everybody is to drop them.
    pub(crate) fn clear_everywhere(&self, key: &FeedKey, range: Range<u64>) -> Result<(), Error> {
        let is_private = self.knowledge(|knowledge| {
            let own = knowledge.agents.get(&self.agent);
            let is_public = own.is_some_and(|own| own.lines.iter().any(|line| line.key == *key));
            match (
                is_public,
                knowledge.private_line(key),
                knowledge.room_of(key),
            ) {
                (true, ..) => Ok(false),
                (_, Some(_), _) => Ok(true),
                (.., Some(room)) => {
                    let message = format!("feed {key} belongs to room {}", room.label());
                    Err(Error::usage(message)
                        .hint("`kinlog delete ROOM MESSAGE` deletes for everybody in the room"))
                }
                (false, None, None) => Err(Error::permission(format!(
                    "no directory of this agent lists feed {key}: nobody would heed it"
                ))
                .hint("without --everywhere its blocks are given up here alone")),
            }
        })?;
        let _turn = lock(&self.settling);
        let device = self.keys.device();
        let said = self.index(|index| index.cleared(&self.agent, is_private))?;
        let mut said = said.into_iter().filter(|(by, _)| *by == device);
        let others = said.clone().filter(|(_, one)| one.feed() != *key).count();
        let mut ranges = said
            .find(|(_, one)| one.feed() == *key)
            .map_or_else(Vec::new, |(_, one)| one.ranges().to_vec());
        if others >= CLEARED_FEEDS_MAX {
            let message =
                format!("this device says of {others} feeds that blocks of them were cleared");
            return Err(Error::new(ErrorKind::Quota, message)
                .hint("`kinlog path retire` takes a path out of the directory as a whole"));
        }
        ranges.push(range);
        let ranges = union(ranges);
        if ranges.len() > CLEARED_RANGES_MAX {
            let count = ranges.len();
            let message = format!(
                "feed {key} would have {count} cleared ranges, at most {CLEARED_RANGES_MAX} are told"
            );
            return Err(Error::new(ErrorKind::Quota, message)
                .hint("clear what lies between some of them, too"));
        }
        let cleared = Cleared::new(*key, ranges)
            .map_err(|error| Error::usage(format!("blocks of feed {key}: {error}")))?;
        self.write_to_directory(is_private, vec![Body::Cleared(cleared)])?;
        self.replan()
    }

    /// Takes in what an agent's directories say was cleared of its paths: of what this device writes
    /// only what it said itself.
    pub(super) fn learn_cleared(&self, index: &Index, agent: &AgentId) -> Result<(), IndexError> {
        let public = index.cleared(agent, false)?.into_iter();
        let private = match *agent == self.agent {
            true => index.cleared(agent, true)?,
            false => Vec::new(),
        };
        let private = private.into_iter().map(|said| (said, true));
        let device = self.keys.device();
        self.knowledge(|knowledge| {
            let known = knowledge.agents.get(agent).into_iter();
            let public_feeds: BTreeSet<FeedKey> = known
                .flat_map(|known| &known.lines)
                .map(|line| line.key)
                .collect();
            let private_feeds: BTreeSet<FeedKey> = knowledge
                .private_lines
                .iter()
                .map(|line| line.key)
                .collect();
            let mut said = Ranges::new();
            for ((by, cleared), is_private) in public.map(|said| (said, false)).chain(private) {
                let feed = cleared.feed();
                let is_listed = match is_private {
                    true => private_feeds.contains(&feed),
                    false => public_feeds.contains(&feed),
                };
                let is_written_here = knowledge.own.contains_key(&feed);
                if is_listed && (by == device || !is_written_here) {
                    let ranges = said.entry(feed).or_default();
                    ranges.extend(cleared.ranges().iter().cloned());
                }
            }
            for ranges in said.values_mut() {
                *ranges = union(std::mem::take(ranges));
            }
            match said.is_empty() {
                true => knowledge.said_cleared.remove(agent),
                false => knowledge.said_cleared.insert(*agent, said),
            };
        });
        Ok(())
    }

    /// Notes what is said to be cleared, and reads nothing more of it. What is not said any more is
    /// forgotten only where `is_settled`: when everything that is held has been read.
    pub(super) fn heed_cleared(&self, is_settled: bool) -> Result<(), Error> {
        let now = self.emptying_ms();
        let (changed, all) = self.knowledge(|knowledge| {
            let mut said = Ranges::new();
            for (feed, ranges) in knowledge.said_cleared.values().flatten() {
                said.entry(*feed)
                    .or_default()
                    .extend(ranges.iter().cloned());
            }
            let noted = knowledge.cleared.iter();
            let noted = noted.filter(|(_, one)| one.by == ClearedBy::Agent);
            let feeds: BTreeSet<FeedKey> = said
                .keys()
                .chain(noted.map(|(feed, _)| feed))
                .copied()
                .collect();
            let mut changed = BTreeMap::new();
            for feed in feeds {
                let known = knowledge.cleared.get(&feed);
                let known = known.map_or(&[][..], |known| &known.blocks);
                let said = union(said.remove(&feed).unwrap_or_default());
                let blocks = noted_again(known, &said, now, !is_settled);
                if blocks != known {
                    let by = ClearedBy::Agent;
                    changed.insert(feed, ClearedFeed { by, blocks });
                }
            }
            (
                changed,
                knowledge.cleared.keys().copied().collect::<BTreeSet<_>>(),
            )
        });
        for (feed, noted) in &changed {
            self.note_cleared(feed, noted.clone())?;
        }
        for feed in all.iter().chain(changed.keys()) {
            self.forget_cleared(feed)?;
        }
        for feed in changed.keys() {
            self.catch_up_feed(feed)?;
        }
        Ok(())
    }

    /// Takes out of the index what it read of a feed before it was cleared.
    fn forget_cleared(&self, feed: &FeedKey) -> Result<(), Error> {
        let cleared = self.knowledge(|knowledge| knowledge.cleared_of(feed));
        let report = self.index(|index| {
            let indexed = index.indexed(feed)?;
            match minus(&indexed, &cleared) == indexed {
                true => Ok(None),
                false => index.forget_blocks(feed, &cleared).map(Some),
            }
        })?;
        report.map_or(Ok(()), |report| self.take_in(&report))
    }

    /// Writes down what was cleared of a feed, in the place of what was known.
    pub(crate) fn note_cleared(&self, feed: &FeedKey, noted: ClearedFeed) -> Result<(), Error> {
        let noted = (!noted.blocks.is_empty()).then_some(noted);
        self.state.put_cleared(feed, noted.as_ref())?;
        self.knowledge(|knowledge| match noted {
            Some(noted) => knowledge.cleared.insert(*feed, noted),
            None => knowledge.cleared.remove(feed),
        });
        Ok(())
    }

    /// Empties what was cleared for long enough. Returns whether anything was.
    pub(crate) fn empty_cleared(&self) -> Result<bool, Error> {
        let now = self.emptying_ms();
        let after = u64::try_from(EMPTY_AFTER.as_millis()).unwrap_or(u64::MAX);
        let is_due = |by: ClearedBy, one: &ClearedBlocks| match by {
            ClearedBy::Agent => now >= one.seen_ms.saturating_add(after),
            // Whoever gave the grant waited already.
            ClearedBy::Giver => true,
        };
        let (noted, plan) = (self.knowledge(|known| known.cleared.clone()), self.plan());
        let (mut changed, mut emptied) = (BTreeSet::new(), Vec::new());
        for (key, mut noted) in noted {
            if noted.by == ClearedBy::Giver && !plan.granted_alone.contains(&key) {
                continue;
            }
            let feed = self.store.feed(&key);
            let mut is_new = false;
            for one in &mut noted.blocks {
                if !is_due(noted.by, one) {
                    continue;
                }
                if let Some(feed) = &feed
                    && feed.have().count_range(one.range.clone()) > 0
                {
                    feed.clear(one.range.clone())?;
                    changed.insert(key);
                    one.is_emptied = false;
                }
                is_new |= !one.is_emptied;
                one.is_emptied = true;
            }
            if is_new {
                emptied.push((key, noted));
            }
        }
        if emptied.is_empty() {
            return Ok(false);
        }
        // What the files of the index held of them is overwritten first: after a crash, or while
        // somebody reads older rows, it is tried again.
        let is_clean = self.index(|index| index.scrub())?;
        if is_clean {
            for (key, noted) in emptied {
                self.note_cleared(&key, noted)?;
            }
        }
        if let Some(network) = self.network() {
            for key in &changed {
                network.stored(key);
            }
        }
        if !changed.is_empty() {
            self.changed();
        }
        Ok(is_clean || !changed.is_empty())
    }
}

/// Returns what is noted of a feed after `said`; what was noted before and is not said any more stays
/// only where that `keeps`, and there is not too much of it.
pub(crate) fn noted_again(
    noted: &[ClearedBlocks],
    said: &[Range<u64>],
    now_ms: u64,
    keeps: bool,
) -> Vec<ClearedBlocks> {
    let ranges: Vec<Range<u64>> = noted.iter().map(|one| one.range.clone()).collect();
    let mut blocks: Vec<ClearedBlocks> = Vec::with_capacity(noted.len() + said.len());
    for one in noted {
        let range = std::slice::from_ref(&one.range);
        let left = match keeps && noted.len() < CLEARED_NOTED_MAX {
            true => range.to_vec(),
            false => minus(range, &minus(range, said)),
        };
        blocks.extend(left.into_iter().map(|range| ClearedBlocks {
            range,
            ..one.clone()
        }));
    }
    let fresh = minus(said, &union(ranges)).into_iter();
    blocks.extend(fresh.map(|range| ClearedBlocks {
        range,
        seen_ms: now_ms,
        is_emptied: false,
    }));
    blocks.sort_by_key(|one| one.range.start);
    blocks
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of one run
mod tests {
    use kinlog_indexer::entry::Content;

    use super::*;
    use crate::core::own_feeds::NewPath;
    use crate::test_folder::TestFolder;

    /// An agent with three raw blocks at a public path and a private one.
    fn core_with_paths(folder: &TestFolder) -> (Core, [FeedKey; 2]) {
        let core = folder.core("ada");
        let create = |path: &str, is_private| {
            let new = NewPath {
                is_private,
                ..NewPath::public(Content::Bytes)
            };
            let own = core.create_path(&path.parse().unwrap(), new).unwrap();
            let blocks = ["one", "two", "three"].map(bytes::Bytes::from);
            core.append(&own, &blocks).unwrap();
            own.key
        };
        let feeds = [create("/log", false), create("/diary", true)];
        (core, feeds)
    }

    fn say(core: &Core, is_private: bool, feed: FeedKey) {
        let cleared = Cleared::new(feed, vec![0..1]).unwrap();
        core.write_to_directory(is_private, vec![Body::Cleared(cleared)])
            .unwrap();
    }

    #[test]
    fn a_directory_clears_what_it_may_list_and_nothing_else() {
        let folder = TestFolder::new();
        let (core, [log, diary]) = core_with_paths(&folder);
        let others = FeedKey([9; 32]);
        let directory = core.directory().unwrap().key;
        for (is_private, feed) in [
            (false, others),
            (false, directory),
            (false, diary),
            (true, log),
        ] {
            say(&core, is_private, feed);
            assert!(core.knowledge(|known| known.cleared.is_empty()));
        }
        for (is_private, feed) in [(false, log), (true, diary)] {
            say(&core, is_private, feed);
            assert_eq!(core.knowledge(|known| known.cleared_of(&feed)), [0..1]);
        }
        // Each entry says all that is cleared.
        for feed in [log, diary] {
            core.clear_everywhere(&feed, 2..3).unwrap();
            let cleared = core.knowledge(|known| known.cleared_of(&feed));
            assert_eq!(cleared, [0..1, 2..3]);
        }
        let refused = core.clear_everywhere(&others, 0..1).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Permission);
    }

    #[test]
    fn a_directory_says_it_of_so_many_feeds_and_no_more() {
        let folder = TestFolder::new();
        let (core, [log, _]) = core_with_paths(&folder);
        let others = (1..=CLEARED_FEEDS_MAX as u8).map(|number| {
            let cleared = Cleared::new(FeedKey([number; 32]), vec![0..1]);
            Body::Cleared(cleared.unwrap())
        });
        core.write_to_directory(false, others.collect()).unwrap();
        let refused = core.clear_everywhere(&log, 0..1).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Quota);
        assert!(core.knowledge(|known| known.cleared.is_empty()));
    }

    fn noted(blocks: &[(Range<u64>, u64)]) -> Vec<ClearedBlocks> {
        let blocks = blocks.iter().map(|(range, seen_ms)| ClearedBlocks {
            range: range.clone(),
            seen_ms: *seen_ms,
            is_emptied: *seen_ms < 10,
        });
        blocks.collect()
    }

    #[test]
    fn what_is_said_once_more_has_no_new_day() {
        let before = noted(&[(0..3, 1), (5..6, 20)]);
        let after = noted_again(&before, &[0..8, 9..10], 30, true);
        let expected = noted(&[(0..3, 1), (3..5, 30), (5..6, 20), (6..8, 30), (9..10, 30)]);
        assert_eq!(after, expected);
    }

    #[test]
    fn what_is_said_no_more_is_forgotten_when_all_is_read() {
        let before = noted(&[(0..3, 1), (5..6, 20)]);
        assert_eq!(noted_again(&before, &[], 30, true), before);
        assert_eq!(noted_again(&before, &[], 30, false), []);
        let left = noted_again(&before, &[1..2], 30, false);
        assert_eq!(left, noted(&[(1..2, 1)]));
    }

    #[test]
    fn who_says_something_else_each_time_fills_nothing() {
        let mut known = Vec::new();
        for number in 0..2 * CLEARED_NOTED_MAX as u64 {
            let said = 2 * number..2 * number + 1;
            if known.len() < CLEARED_NOTED_MAX {
                known.extend(noted(&[(said, 30)]));
                continue;
            }
            known = noted_again(&known, &[said], 30, true);
            assert!(known.len() <= CLEARED_NOTED_MAX);
        }
    }
}
