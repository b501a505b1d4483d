//! A path as its readers see it: the feeds of it, one continuing the other, as one row of blocks.

use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::store::Feed;
use kinlog_indexer::entry::{Envelope, OPEN_BLOCK, PathKind};

use crate::api::Error;
use crate::core::Core;
use crate::knowledge::Line;
use crate::links::FeedName;

/// The feeds of a path that are here.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    core: &'a Core,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    feed: Feed,
    /// Block of the path that is the feed's first.
    start: u64,
    /// Blocks of the path behind the feed's last.
    end: u64,
}

impl Chain<'_> {
    /// Returns the key of the feed that the path goes on in.
    pub(crate) fn key(&self) -> FeedKey {
        self.newest().feed.key()
    }

    /// Returns how many blocks the path has.
    pub(crate) fn length(&self) -> u64 {
        self.newest().end
    }

    /// Returns how many blocks of a range are held.
    pub(crate) fn count_held(&self, range: Range<u64>) -> u64 {
        let held = |part: &Part| {
            let start = range.start.max(part.start) - part.start;
            let end = range.end.min(part.end).saturating_sub(part.start);
            part.feed.have().count_range(start..end.max(start))
        };
        self.parts.iter().map(held).sum()
    }

    /// Returns the first blocks of a range that are not held, at most `max`, each as a block of its feed.
    pub(crate) fn lacking(&self, range: Range<u64>, max: usize) -> Vec<(FeedKey, u64)> {
        let lacking = self.parts.iter().flat_map(|part| {
            let start = range.start.max(part.start) - part.start;
            let end = range.end.min(part.end).saturating_sub(part.start);
            let key = part.feed.key();
            let have = part.feed.have();
            let lacking = (start..end).filter(move |index| !have.get(*index));
            lacking.map(move |index| (key, index))
        });
        lacking.take(max).collect()
    }

    /// Returns a block of the path, `None` when it is not held. One of a private path is opened.
    pub(crate) fn get(&self, index: u64) -> Result<Option<Bytes>, Error> {
        let mut parts = self.parts.iter();
        match parts.find(|part| (part.start..part.end).contains(&index)) {
            Some(part) => {
                let (key, index) = (part.feed.key(), index - part.start);
                let block = part.feed.get(index)?;
                match self.core.is_private(&key) {
                    true => block
                        .map(|block| self.core.open_private(&key, index, &block))
                        .transpose(),
                    false => Ok(block),
                }
            }
            None => Ok(None),
        }
    }

    fn newest(&self) -> &Part {
        self.parts
            .last()
            .expect("a chain is made of one feed at least")
    }
}

impl Core {
    /// Returns the feeds behind what people call a feed: a key, a path of ours, a link.
    pub(crate) fn chain(&self, name: &str) -> Result<Chain<'_>, Error> {
        let newest = self.feed_key(name)?;
        let lines = self.lines_before(name, &newest)?;
        let mut parts = Vec::with_capacity(lines.len() + 1);
        for line in &lines {
            let feed = self.store.feed(&line.key);
            parts.extend(feed.map(|feed| Part {
                feed,
                start: line.start,
                end: line.start + line.cut.unwrap_or(0),
            }));
        }
        let feed = self.feed(&newest)?;
        let start = lines
            .last()
            .map_or(0, |line| line.start + line.cut.unwrap_or(0));
        let accepted = self.knowledge(|knowledge| knowledge.accepted(&newest));
        let end = start + feed.head().length.min(accepted.unwrap_or(u64::MAX));
        parts.push(Part { feed, start, end });
        Ok(Chain { core: self, parts })
    }

    /// Returns what is held of a shared path, the feeds of all devices as one: entries in the order of
    /// their timeline, raw blocks a device after the other. `None` for anything else.
    pub(crate) fn union(&self, name: &str) -> Result<Option<Vec<Bytes>>, Error> {
        let (agent, path) = match name.parse::<FeedName>()? {
            FeedName::Key(_) => return Ok(None),
            FeedName::Own(path) => (self.agent, path),
            FeedName::Of(agent, path) => (agent, path),
        };
        let lines: Vec<Line> = self.knowledge(|knowledge| {
            let public = knowledge.agents.get(&agent).into_iter();
            let public = public.flat_map(|known| &known.lines);
            let private = knowledge
                .private_lines
                .iter()
                .filter(|_| agent == knowledge.agent);
            let lines = public.chain(private);
            let meant = lines.filter(|line| line.is_called(&path) && line.kind == PathKind::Shared);
            meant.cloned().collect()
        });
        if lines.is_empty() {
            return Ok(None);
        }
        let mut blocks = Vec::new();
        for line in &lines {
            let Some(feed) = self.store.feed(&line.key) else {
                continue;
            };
            let have = feed.have();
            for index in have.runs(0..feed.head().length).flatten() {
                let Some(mut block) = feed.get(index)? else {
                    continue;
                };
                if self.is_private(&line.key) {
                    block = self.open_private(&line.key, index, &block)?;
                }
                let order = match line.is_entries {
                    false => (0, 0, 0),
                    true => {
                        let open = block.first() == Some(&OPEN_BLOCK);
                        let entry = if open {
                            block.slice(1..)
                        } else {
                            block.clone()
                        };
                        let envelope = Envelope::decode(&entry).ok();
                        envelope.map_or((0, 0, 0), |one| {
                            (one.depth, one.clock.ms, one.clock.counter)
                        })
                    }
                };
                blocks.push((order, line.key, index, block));
            }
        }
        blocks.sort_by_key(|(order, key, index, _)| (*order, *key, *index));
        Ok(Some(
            blocks.into_iter().map(|(_, _, _, block)| block).collect(),
        ))
    }

    /// Returns the lines of a path that the feed `newest` continues.
    fn lines_before(&self, name: &str, newest: &FeedKey) -> Result<Vec<Line>, Error> {
        let (agent, path) = match name.parse::<FeedName>()? {
            FeedName::Key(_) => return Ok(Vec::new()),
            FeedName::Own(path) => (self.agent, path),
            FeedName::Of(agent, path) => (agent, path),
        };
        Ok(self.knowledge(|knowledge| {
            let public = knowledge.agents.get(&agent).into_iter();
            let public = public.flat_map(|known| &known.lines);
            let private = knowledge
                .private_lines
                .iter()
                .filter(|_| agent == knowledge.agent);
            let is_log = |line: &&Line| line.is_called(&path) && line.kind == PathKind::Log;
            let lines = match knowledge.is_private(newest) {
                true => private.filter(is_log).cloned().collect::<Vec<_>>(),
                false => public.filter(is_log).cloned().collect(),
            };
            let before = lines.into_iter().take_while(|line| line.key != *newest);
            before.collect()
        }))
    }
}
