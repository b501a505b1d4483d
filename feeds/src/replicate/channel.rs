//! One feed between this process and one peer: what the peer holds, what was asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use crate::Time;
use crate::bitfield::Bitfield;
use crate::limits::{
    CANCELLED_REQUESTS_MAX, REMOTE_PAGES_MAX, REQUEST_TIMEOUT, REQUEST_TIMEOUT_MAX, SNUB_TIME,
    SNUB_TIME_MAX, UINT_MAX, WANT_REGION_BLOCKS,
};
use crate::replicate::feed::sets::AskedSet;
use crate::replicate::groups::Grouped;
use crate::replicate::holders::Watched;
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::pace::Departure;
use crate::replicate::shown::Shown;
use crate::tree::Proof;
use crate::wire::hypercore::{self, Synchronize};
use crate::wire::kinlog::Held;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// A block.
    Block(u64),
    /// Nothing: a block came unasked, as it may.
    Push(u64),
    /// The head at this length or beyond.
    Upgrade(u64),
    /// What tells another history from the lie that the peer is accused of.
    Probe,
    /// The same, of a peer that is accused of nothing.
    Look,
    /// The way to the peer's head on a higher fork.
    Reorg,
}

impl What {
    /// Returns the block that it is about.
    pub(super) fn block(self) -> Option<u64> {
        match self {
            What::Block(index) | What::Push(index) => Some(index),
            What::Upgrade(_) | What::Probe | What::Look | What::Reorg => None,
        }
    }

    /// Returns whether it asks for the way from nothing.
    pub(super) fn is_whole_history(self) -> bool {
        matches!(self, What::Probe | What::Look)
    }

    /// Returns whether `proof` holds what was asked for and nothing else: a part that was not asked
    /// for would be stored although nothing here wants it.
    pub(super) fn is_answered_by(self, proof: &Proof) -> bool {
        let tree_only = proof.hash.is_some() || proof.seek.is_some();
        if makes(Mistake::AnswerUnchecked) {
            return true;
        }
        !tree_only
            && match self {
                What::Block(index) => {
                    proof.upgrade.is_none()
                        && proof
                            .block
                            .as_ref()
                            .is_some_and(|block| block.index == index)
                }
                What::Push(_) => false,
                What::Probe | What::Look => {
                    let upgrade = proof.upgrade.as_ref();
                    upgrade.is_some_and(|upgrade| upgrade.start == 0) && proof.block.is_none()
                }
                What::Upgrade(_) | What::Reorg => proof.upgrade.is_some() && proof.block.is_none(),
            }
    }
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) what: What,
    /// Bytes it counts for in the window.
    pub(super) bytes: usize,
    pub(super) sent: Time,
    /// Order over all requests of the process.
    pub(super) order: u64,
    /// Fork that it is about.
    pub(super) fork: u64,
    /// What its answer will be measured by.
    pub(super) departure: Departure,
    /// Another peer was asked for the same.
    pub(super) hedged: bool,
    /// Whether it is a block of a set.
    pub(super) in_set: bool,
}

/// A block to be asked for with others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathered {
    pub(super) id: u64,
    pub(super) block: u64,
    /// Levels up to a node that will be known.
    pub(super) nodes: u64,
    pub(super) fork: u64,
    pub(super) is_urgent: bool,
}

/// A feed's channel with one peer.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// The peer's latest state, `None` until it told.
    pub(super) remote: Option<Synchronize>,
    /// Blocks the peer said to hold.
    pub(super) remote_have: Bitfield,
    /// What of the feed it is shown.
    pub(super) shown: Shown,
    /// The state last told to the peer.
    pub(super) told: Option<Synchronize>,
    /// Whether that was told with other feeds.
    pub(super) grouped: Grouped,
    /// The peer was answered that what it said by a digest differs.
    pub(super) differs_said: bool,
    /// Blocks being sent to the peer unasked: it is told of them once they are on their way.
    pub(super) pushing: u32,
    /// The first of them, and the length that the peer knows with them.
    pub(super) pushed: Range<u64>,
    /// Blocks that the peer sent unasked and that were taken.
    pub(super) taken_unasked: u64,
    /// Regions of which the peer wants to know what we hold.
    pub(super) remote_wants: BTreeSet<u64>,
    /// Blocks of which the peer wants to know whether they are held, for a while.
    pub(super) watched: Option<Watched>,
    /// Regions of which we asked what the peer holds, and when.
    pub(super) wants: BTreeMap<u64, Time>,
    pub(super) asked: BTreeMap<u64, Asked>,
    /// Blocks that were asked of this peer and not given up: their nodes come from it, in order.
    pub(super) own: Bitfield,
    /// Whether blocks are asked for in sets.
    pub(super) takes_sets: bool,
    /// Blocks to be asked for at the end of planning.
    pub(super) gathered: Vec<Gathered>,
    pub(super) sets: BTreeMap<u64, AskedSet>,
    /// Sets of which nothing is awaited any more.
    pub(super) late_sets: BTreeSet<u64>,
    /// Sets up to this id were of channels that are closed.
    pub(super) first_set: u64,
    /// The head length at which the peer declined to prove an upgrade.
    pub(super) upgrade_refused: Option<u64>,
    /// Proofs of this peer that led nowhere although they were asked up to a root.
    pub(super) unanchored: u32,
    /// Which way from nothing the peer was asked for.
    pub(super) probing: Option<What>,
    /// The peer could not show the way to our length; next time it is asked for its own.
    pub(super) accused_again: bool,
    /// The peer said that it speaks Kinlog.
    pub(super) is_kinlog: bool,
    /// Longest head of ours whose tree hash the peer knows, or learns by asking us.
    pub(super) head_told: u64,
    /// Fork and length of the peer to which it is not followed.
    pub(super) fork_refused: Option<(u64, u64)>,
    /// Highest fork of the peer that was looked at, on a feed that has none.
    pub(super) fork_seen: u64,
    /// Longest of its heads, not above ours, that it was asked for while the feed is withheld.
    pub(super) looked_at: u64,
    /// The peer was sent the feed's conflict proof, or sent one.
    pub(super) knows_conflict: bool,
    /// The driver was told to close it.
    pub(super) is_closing: bool,
    /// Requests up to this id were of channels that are closed.
    first_id: u64,
    last_id: u64,
    /// Ids whose answer has come.
    free_ids: BTreeSet<u64>,
    /// Requests that were taken back, and what they were for.
    cancelled: BTreeMap<u64, What>,
    heard: Time,
    snubbed_until: Time,
    snubs: u32,
}

impl Channel {
    /// `after` is the highest id in use before: a request may still be on its way to the peer when
    /// its channel closes and opens again, and the answer to it is none to a request of this one.
    pub(super) fn new(now: Time, after: u64) -> Self {
        Channel {
            heard: now,
            first_id: after,
            last_id: after,
            ..Channel::default()
        }
    }

    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    pub(super) fn is_of_an_earlier_channel(&self, request: u64) -> bool {
        (1..=self.first_id).contains(&request)
    }

    /// What the peer is being asked for decides about a lie now.
    pub(super) fn accuse(&mut self) {
        self.probing = Some(What::Probe);
        for asked in self.asked.values_mut() {
            if asked.what == What::Look {
                asked.what = What::Probe;
            }
        }
    }

    /// Notes a request and returns its id: the smallest that no answer can still come for, as
    /// small numbers take fewer bytes.
    pub(super) fn ask(&mut self, asked: Asked) -> u64 {
        let id = self.free_ids.pop_first().unwrap_or_else(|| {
            self.last_id += 1;
            self.last_id
        });
        self.asked.insert(id, asked);
        id
    }

    /// Takes the request that an answer names. Of a cancelled one, whose answer was on its way, it
    /// returns as an error what it was for; of an unknown one `None`.
    pub(super) fn answer(&mut self, now: Time, id: u64) -> Result<Asked, Option<What>> {
        self.heard = now;
        if let Some(asked) = self.asked.remove(&id) {
            self.snubs = 0;
            self.free_ids.insert(id);
            return Ok(asked);
        }
        let cancelled = self.cancelled.remove(&id);
        if cancelled.is_some() {
            self.free_ids.insert(id);
        }
        Err(cancelled)
    }

    /// Returns the requests that have waited longer than `patience`.
    pub(super) fn overdue(&self, now: Time, patience: Duration) -> Vec<(u64, Asked)> {
        let overdue = self
            .asked
            .iter()
            .filter(|(_, asked)| now.since(asked.sent) >= patience);
        overdue.map(|(id, asked)| (*id, *asked)).collect()
    }

    /// Returns whether a request is to be taken back although nobody else could answer it. As long
    /// as other answers arrive it may wait longer.
    pub(super) fn is_lost(&self, now: Time, asked: &Asked) -> bool {
        let waited = now.since(asked.sent);
        waited >= REQUEST_TIMEOUT_MAX
            || (self.is_silent(now, REQUEST_TIMEOUT) && waited >= REQUEST_TIMEOUT)
    }

    /// Returns whether nothing was answered for so long.
    pub(super) fn is_silent(&self, now: Time, patience: Duration) -> bool {
        now.since(self.heard) >= patience
    }

    /// Asks nothing of the peer for a while, longer each time.
    pub(super) fn snub(&mut self, now: Time) {
        let snub = SNUB_TIME * 2u32.saturating_pow(self.snubs.min(10));
        self.snubs += 1;
        self.snubbed_until = now + snub.min(SNUB_TIME_MAX);
    }

    /// Takes back all requests.
    pub(super) fn take_back(&mut self) -> Vec<(u64, Asked)> {
        let ids: Vec<u64> = self.asked.keys().copied().collect();
        ids.into_iter()
            .filter_map(|id| Some((id, self.cancel(id)?)))
            .collect()
    }

    /// Takes back one request.
    pub(super) fn cancel(&mut self, id: u64) -> Option<Asked> {
        let asked = self.asked.remove(&id)?;
        self.cancelled.insert(id, asked.what);
        if makes(Mistake::NumberReused) {
            self.free_ids.insert(id);
        }
        if self.cancelled.len() > CANCELLED_REQUESTS_MAX {
            self.cancelled.pop_first();
        }
        Some(asked)
    }

    /// Returns whether the peer may be asked: it answers and has not gone silent.
    pub(super) fn is_usable(&self, now: Time, fork: u64) -> bool {
        now >= self.snubbed_until
            && self.probing != Some(What::Probe)
            && self
                .remote
                .is_some_and(|remote| remote.uploading && remote.fork == fork)
    }

    pub(super) fn is_snubbed(&self, now: Time) -> bool {
        now < self.snubbed_until
    }

    pub(super) fn remote_length(&self) -> u64 {
        self.remote.map_or(0, |remote| remote.length)
    }

    /// Takes note of what the peer tells of its blocks. One that could not prove its head for want of
    /// nodes can once it holds all blocks behind our `length`: it is asked again.
    pub(super) fn take_held(&mut self, length: u64, take: impl FnOnce(&mut Self)) {
        let holds_all = |channel: &Self| {
            let end = channel.remote_length();
            end > length && channel.remote_have.all_in(length..end)
        };
        let before = holds_all(self);
        take(self);
        if !before && holds_all(self) && !makes(Mistake::RefusalForEver) {
            self.upgrade_refused = None;
        }
    }

    /// Takes note of blocks that the peer holds or dropped.
    pub(super) fn handle_range(&mut self, range: &hypercore::Range) {
        let end = range.start.saturating_add(range.length).min(UINT_MAX);
        let run = range.start.min(end)..end;
        if range.drop {
            self.remote_have.clear_range(run);
        } else if self.has_room() {
            self.remote_have.set_range(run);
            // With more blocks come nodes that the way to its fork may have lacked.
            self.fork_refused = None;
        }
    }

    /// Takes note of the blocks of a region; its bits are all there is to know about them.
    pub(super) fn handle_bitfield(&mut self, start: u64, words: &[u32]) {
        if start.is_multiple_of(32) && self.has_room() {
            self.remote_have.set_words(start, words);
        }
    }

    /// The same, told as runs.
    pub(super) fn handle_held(&mut self, held: &Held) {
        self.remote_have.clear_range(held.blocks.clone());
        for run in &held.runs {
            if self.has_room() {
                self.remote_have.set_range(run.clone());
            }
        }
    }

    /// A page costs 4 KiB however few bits it has: a peer that scatters single blocks over the
    /// whole range is not followed for ever.
    fn has_room(&self) -> bool {
        self.remote_have.parts() < REMOTE_PAGES_MAX
    }

    /// Returns the region of `block` if the peer was not asked about it yet.
    pub(super) fn unasked_region(&self, block: u64) -> Option<u64> {
        let region = block / WANT_REGION_BLOCKS;
        (!self.wants.contains_key(&region)).then_some(region)
    }

    /// Returns when the answers to our wants have had their time; a peer without a block in a
    /// region answers nothing.
    pub(super) fn wants_settle_at(&self, settle: Duration) -> Option<Time> {
        self.wants.values().max().map(|asked| *asked + settle)
    }
}
