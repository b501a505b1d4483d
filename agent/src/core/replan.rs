//! Putting a new plan into effect: store, host, network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kinlog_feeds::FeedKey;
use kinlog_feeds::store::{Kind, Role, Store};
use kinlog_feeds::tree::Sought;

use crate::api::{Error, Selection};
use crate::core::{Core, lock};
use crate::limits::LINKS_FOLLOWED_MAX;
use crate::links::links_in;
use crate::pins::{Deep, FeedFacts, plan};
use crate::state::{Pin, PinTarget};
use crate::wall::wall_ms;

/// What the plan is told of feeds.
struct Facts<'a> {
    store: &'a Store,
    /// Where the blocks since a time begin.
    starts: BTreeMap<(FeedKey, u64), u64>,
}

impl FeedFacts for Facts<'_> {
    fn length(&self, feed: &FeedKey) -> u64 {
        self.store.feed(feed).map_or(0, |feed| feed.head().length)
    }

    fn resolve(&self, feed: &FeedKey, selection: &Selection) -> Selection {
        let start = |ms| self.starts.get(&(*feed, ms)).copied();
        resolve(self.store, feed, selection, start)
    }
}

/// Returns what a selection by time or size is in blocks of a feed; any other as it is. `start` says where
/// the blocks since a time in ms begin.
fn resolve(
    store: &Store,
    feed: &FeedKey,
    selection: &Selection,
    start: impl FnOnce(u64) -> Option<u64>,
) -> Selection {
    match selection {
        Selection::Since(ms) => Selection::From(start(*ms).unwrap_or(0)),
        Selection::Newest(bytes) => Selection::From(newest_within(store, feed, *bytes).start),
        other => other.clone(),
    }
}

impl Core {
    /// Decides anew from everything known, and puts it into effect.
    pub(crate) fn replan(&self) -> Result<(), Error> {
        let _turn = lock(&self.planning);
        let must_renew = self.guard.doubt().is_some();
        self.knowledge(|knowledge| {
            knowledge.must_renew = must_renew;
            knowledge.now_ms = wall_ms();
        });
        let facts = Facts {
            store: &self.store,
            starts: self.starts()?,
        };
        let make = |linked: &[Pin]| {
            self.knowledge(|knowledge| plan(knowledge, linked, self.switches, &facts))
        };
        let mut linked = Vec::new();
        let mut plan = make(&linked);
        // Links lead to documents whose links are followed less far: as many rounds as the deepest pin.
        while !plan.deep.is_empty() {
            let further = self.linked(&plan.deep)?;
            if further == linked {
                break;
            }
            linked = further;
            plan = make(&linked);
        }
        if self.heed_givers(&plan)? {
            plan = make(&linked);
        }
        for key in plan.interests.keys() {
            if self.store.feed(key).is_none() {
                let listed = self.knowledge(|knowledge| {
                    knowledge.listed(key).is_some()
                        || knowledge.directory_of(key).is_some()
                        || knowledge.room_of(key).is_some()
                        || knowledge.is_private(key)
                        || knowledge.is_named(key)
                        || plan.granted.contains(key)
                });
                // What no directory or room lists may follow Hypercore's looser rules.
                let kind = if listed { Kind::Kinlog } else { Kind::Plain };
                let role = match plan.roles.get(key) {
                    Some(crate::pins::Role::Seeded) => Role::Seeded,
                    _ => Role::Followed,
                };
                self.store.create_unknown(*key, role, kind)?;
            }
        }
        let mut trimmed = Vec::new();
        for (key, bytes) in &plan.bounded {
            if self.trim(key, *bytes)? {
                trimmed.push(*key);
            }
        }
        // A channel that opens for a feed that is not here stays deaf, also when the feed comes later.
        plan.view.retain(|key| self.store.feed(key).is_some());
        self.host.set_view(plan.view.clone());
        if let Some(network) = self.network() {
            network.apply(&plan);
            // After the plan: what was given up is not asked for again by the one before.
            for key in &trimmed {
                network.stored(key);
            }
        }
        *lock(&self.plan) = Arc::new(plan);
        self.changed();
        Ok(())
    }

    /// Returns what a selection by time or size is in blocks of a feed; any other as it is.
    pub(crate) fn resolve(&self, feed: &FeedKey, selection: &Selection) -> Selection {
        let start = |ms| self.index(|index| index.length_at(feed, ms)).ok();
        resolve(&self.store, feed, selection, start)
    }

    /// Returns whether it is known which blocks a selection of a feed names.
    pub(crate) fn is_resolved(&self, feed: &FeedKey, selection: &Selection) -> bool {
        match selection {
            Selection::Newest(bytes) => newest_within(&self.store, feed, *bytes).is_final,
            _ => true,
        }
    }

    /// Returns what a feed of the store is to this agent: own, or kept for somebody.
    pub(crate) fn role_of(&self, key: &FeedKey) -> &'static str {
        if self.knowledge(|knowledge| knowledge.own.contains_key(key)) {
            return "own";
        }
        let role = self.plan().roles.get(key).copied();
        role.unwrap_or(crate::pins::Role::Followed).as_str()
    }

    /// Looks up where the blocks since the times of pins begin.
    fn starts(&self) -> Result<BTreeMap<(FeedKey, u64), u64>, Error> {
        let asked: BTreeSet<(FeedKey, u64)> = self.knowledge(|knowledge| {
            let since = knowledge.pins.iter().filter_map(|pin| match pin.selection {
                Selection::Since(ms) => Some((pin, ms)),
                _ => None,
            });
            let keys = since.flat_map(|(pin, ms)| {
                let keys: Vec<FeedKey> = match &pin.target {
                    PinTarget::Feed(key) => vec![*key],
                    PinTarget::Path(agent, _) => {
                        let public = knowledge.agents.get(agent).into_iter();
                        let public = public.flat_map(|known| &known.lines);
                        let private = knowledge.private_lines.iter();
                        let private = private.filter(|_| *agent == knowledge.agent);
                        public.chain(private).map(|line| line.key).collect()
                    }
                };
                keys.into_iter().map(move |key| (key, ms))
            });
            keys.collect()
        });
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.index(|index| {
            let start = |(key, ms)| Ok(((key, ms), index.length_at(&key, ms)?));
            asked.into_iter().map(start).collect()
        })
    }

    /// Returns the pins that follow from links in documents.
    fn linked(&self, deep: &BTreeMap<FeedKey, Deep>) -> Result<Vec<Pin>, Error> {
        let mut linked: BTreeMap<PinTarget, Pin> = BTreeMap::new();
        for (feed, deep) in deep {
            let documents =
                self.index(|index| index.documents(feed, kinlog_indexer::limits::QUERY_ROWS_MAX))?;
            let links = documents
                .iter()
                .flat_map(|document| links_in(&document.text));
            for (agent, path) in links.take(LINKS_FOLLOWED_MAX) {
                if agent == self.agent {
                    continue;
                }
                let target = PinTarget::Path(agent, path);
                let pin = Pin {
                    target: target.clone(),
                    reason: format!("linked from {}", self.shown(feed)),
                    depth: deep.depth - 1,
                    ..deep.pin.clone()
                };
                let known = linked.entry(target).or_insert_with(|| pin.clone());
                if known.depth < pin.depth {
                    *known = pin;
                }
            }
        }
        Ok(linked.into_values().collect())
    }

    /// Returns what to call a feed: its path, or the start of its key.
    fn shown(&self, feed: &FeedKey) -> String {
        let path = self.knowledge(|knowledge| Some(knowledge.listed(feed)?.1.path.to_string()));
        path.unwrap_or_else(|| feed.to_string()[..8].to_owned())
    }

    /// Gives up what is held of a feed before the newest blocks of so many bytes; returns whether there
    /// was anything.
    fn trim(&self, key: &FeedKey, bytes: u64) -> Result<bool, Error> {
        let Some(feed) = self.store.feed(key) else {
            return Ok(false);
        };
        let gone = 0..newest_within(&self.store, key, bytes).too_old;
        if feed.role() == Role::Own || feed.have().count_range(gone.clone()) == 0 {
            return Ok(false);
        }
        feed.clear(gone)?;
        Ok(true)
    }
}

/// Which of the newest blocks of a feed have at most so many bytes together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Newest {
    /// The first block to ask for.
    start: u64,
    /// The blocks before this one surely do not fit.
    too_old: u64,
    /// It is known where the blocks that fit begin.
    is_final: bool,
}

/// Finds the newest blocks of a feed that have at most `bytes` together, as far as the sizes that are
/// proved tell. Where they do not, the last block of those that may be the first to fit is asked for:
/// it proves the sizes on its way, and no more than it is held too much.
fn newest_within(store: &Store, feed: &FeedKey, bytes: u64) -> Newest {
    let (start, too_old, is_final) = match store.feed(feed) {
        None => (0, 0, false),
        Some(feed) => {
            let info = feed.info();
            match info.byte_length.checked_sub(bytes) {
                None | Some(0) => (0, 0, info.length > 0),
                Some(byte) => match feed.seek(byte) {
                    Ok(Sought::At { block, offset: 0 }) => (block, block, true),
                    Ok(Sought::At { block, .. }) => (block + 1, block + 1, true),
                    Ok(Sought::Within { blocks, .. }) => (blocks.end - 1, blocks.start, false),
                    Ok(Sought::Beyond) => (info.length, info.length, true),
                    // What cannot be read is told where it is read for somebody.
                    Err(_) => (info.length, 0, false),
                },
            }
        }
    };
    Newest {
        start,
        too_old,
        is_final,
    }
}
