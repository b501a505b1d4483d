//! One feed: what is held, what is wanted, what is on its way from whom.

mod apply;
mod lost;
mod push;
mod receive;
pub(super) mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use crate::Time;
use crate::bitfield::Bitfield;
use crate::crypto::{FeedKey, Hash};
use crate::limits::{
    BLOCK_BYTES_ASSUMED, BLOCK_BYTES_COUNTED_MIN, KINLOG_BLOCK_BYTES_MAX, PLAIN_BLOCK_BYTES_MAX,
    SET_BLOCK_BYTES_ASSUMED, SET_NODE_BYTES,
};
use crate::replicate::channel::{Channel, What};
use crate::replicate::climb::Climb;
use crate::replicate::contest::Contender;
use crate::replicate::feed::apply::Applying;
use crate::replicate::flow::Context;
use crate::replicate::follow::Following;
use crate::replicate::get::Getting;
use crate::replicate::holders::Watching;
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::ranges::Wanted;
use crate::replicate::{
    FeedEvent, FeedKind, FeedState, GetId, HeadState, Incoming, Interest, Output, PeerId,
    ProtocolViolation, Pushes, Want,
};
use crate::wire::hypercore::{Message, Request, Synchronize};

/// Where an unverified item came from and what it was to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) peer: PeerId,
    pub(super) what: What,
    order: u64,
    bytes: usize,
    /// When it was first found to lead to no known node.
    parked_at: Option<Time>,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) origin: Origin,
    incoming: Incoming,
}

/// A longer head that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upgrading {
    pub(super) peer: PeerId,
    pub(super) target: u64,
    /// It was not asked for: the peer sent it with a block.
    pub(super) is_pushed: bool,
}

/// A feed's replication state.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) key: FeedKey,
    pub(super) kind: FeedKind,
    pub(super) manifest_known: bool,
    pub(super) fork: u64,
    pub(super) length: u64,
    pub(super) tree_hash: Hash,
    /// Held, verified and durable.
    pub(super) have: Bitfield,
    /// Held, asked for, or received and not applied yet.
    pub(super) planned: Bitfield,
    pub(super) interest: Interest,
    pub(super) wanted: Wanted,
    /// Whether blocks may come before they are asked for.
    pub(super) pushes: Pushes,
    /// When the interest ends unless it is renewed.
    pub(super) interest_until: Option<Time>,
    /// Blocks that somebody waits for.
    pub(super) gets: BTreeMap<GetId, Getting>,
    /// Blocks whose holders are to be known.
    pub(super) watch: Option<Watching>,
    /// A head is still to be learned although later ones are not followed.
    pub(super) head_wanted: bool,
    pub(super) channels: BTreeMap<PeerId, Channel>,
    pub(super) upgrading: Option<Upgrading>,
    /// Blocks whose request failed, and how the next is to be planned.
    pub(super) retry: BTreeMap<u64, Climb>,
    /// Blocks that two peers are asked for.
    pub(super) hedged: BTreeSet<u64>,
    /// How often that was done, and how many blocks were received in all.
    pub(super) hedges: u64,
    pub(super) received: u64,
    pub(super) parked: Vec<Item>,
    pub(super) stopped: bool,
    /// Peers are asked for their heads and shown nothing of ours.
    pub(super) withheld: bool,
    /// The proof of the conflict that stopped the feed.
    pub(super) conflict: Option<Bytes>,
    /// A history that could not be compared with ours: who showed it, and until where.
    pub(super) contender: Option<Contender>,
    /// The peer that is followed onto its fork.
    pub(super) following: Option<Following>,
    /// Peers that gave no answer to what they were accused of.
    pub(super) convicted: Vec<(PeerId, ProtocolViolation)>,
    pub(super) told_complete: bool,
    pub(super) told_nobody: Option<(u64, Option<u64>)>,
    incoming: Vec<Item>,
    applying: Option<Applying>,
    /// Size that the next block is expected to have, once anything is known of it.
    block_bytes: Option<usize>,
}

impl Feed {
    pub(super) fn new(key: FeedKey, state: FeedState) -> Self {
        let mut feed = Feed {
            key,
            kind: state.kind,
            manifest_known: state.manifest_known,
            fork: state.head.fork,
            length: state.head.length,
            tree_hash: state.head.tree_hash,
            planned: state.have.clone(),
            have: state.have,
            interest: Interest::default(),
            wanted: Wanted::default(),
            pushes: Pushes::default(),
            interest_until: None,
            gets: BTreeMap::new(),
            watch: None,
            head_wanted: false,
            channels: BTreeMap::new(),
            upgrading: None,
            retry: BTreeMap::new(),
            hedged: BTreeSet::new(),
            hedges: 0,
            received: 0,
            parked: Vec::new(),
            stopped: state.conflict.is_some(),
            withheld: false,
            conflict: state.conflict,
            contender: None,
            following: None,
            convicted: Vec::new(),
            told_complete: false,
            told_nobody: None,
            incoming: Vec::new(),
            applying: None,
            block_bytes: None,
        };
        feed.learn_block_bytes(&state.head);
        feed
    }

    pub(super) fn set_interest(&mut self, interest: Interest) {
        self.wanted = Wanted::new(&interest);
        self.head_wanted = interest.live || interest.want != Want::None;
        self.interest = interest;
        self.interest_until = None;
        let end = self
            .gets
            .values()
            .any(|getting| getting.block() >= self.length);
        self.head_wanted |= end;
        self.want_gets();
        self.told_complete = false;
        self.told_nobody = None;
    }

    /// Returns the length that blocks may be asked for: the head, or the one on its way.
    pub(super) fn plan_length(&self) -> u64 {
        self.length
            .max(self.upgrading.map_or(0, |upgrading| upgrading.target))
    }

    /// Returns the fork to be used towards a peer: a reader without a head takes the peer's.
    pub(super) fn fork_for(&self, remote: &Synchronize) -> u64 {
        if self.length == 0 && self.kind == FeedKind::Plain {
            remote.fork
        } else {
            self.fork
        }
    }

    pub(super) fn expected_block_bytes(&self) -> usize {
        let known = self.block_bytes.unwrap_or(BLOCK_BYTES_ASSUMED);
        known.max(BLOCK_BYTES_COUNTED_MIN)
    }

    /// Returns what a block counts for that is asked of a peer with so many nodes. As long as nothing is
    /// known of its size, one of a set counts for its part of an answer: that brings no more however
    /// large the blocks are.
    pub(super) fn counted_block_bytes(&self, peer: PeerId, block: u64, nodes: u64) -> usize {
        if self.block_bytes.is_some() || !self.asks_in_set(peer, block) {
            return self.expected_block_bytes();
        }
        let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
        SET_BLOCK_BYTES_ASSUMED.saturating_add(nodes.saturating_mul(SET_NODE_BYTES))
    }

    /// Returns whether a block is asked for with others: one whose request failed is asked for alone.
    pub(super) fn asks_in_set(&self, peer: PeerId, block: u64) -> bool {
        let channel = self.channels.get(&peer);
        channel.is_some_and(|channel| channel.takes_sets) && !self.retry.contains_key(&block)
    }

    /// Takes note of the size of a block that came.
    fn learn_size(&mut self, bytes: usize) {
        let usual = self.block_bytes.unwrap_or(bytes);
        self.block_bytes = Some((7 * usual + bytes).div_ceil(8));
    }

    pub(super) fn block_bytes_max(&self) -> usize {
        match self.kind {
            FeedKind::Kinlog => KINLOG_BLOCK_BYTES_MAX,
            FeedKind::Plain => PLAIN_BLOCK_BYTES_MAX,
        }
    }

    pub(super) fn is_downloading(&self) -> bool {
        let missing = || self.wanted.first_missing(&self.have, self.length).is_some();
        !self.stopped && (self.interest.live || self.head_wanted || missing())
    }

    /// Returns whether data is being verified or waits for it.
    pub(super) fn is_applying(&self) -> bool {
        self.applying.is_some() || !self.incoming.is_empty()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.channels
            .values()
            .map(|channel| channel.asked.len())
            .sum()
    }

    /// The own feed has grown. Returns what is sent to whom before it asks.
    pub(super) fn handle_appended(
        &mut self,
        cx: &mut Context<'_>,
        head: &HeadState,
    ) -> Vec<(PeerId, Request)> {
        if head.fork > self.fork {
            self.handle_truncated(cx, head);
            return Vec::new();
        }
        if head.length <= self.length {
            return Vec::new();
        }
        let new = self.length..head.length;
        self.length = head.length;
        self.tree_hash = head.tree_hash;
        self.manifest_known = true;
        self.have.set_range(new.clone());
        self.planned.set_range(new.clone());
        self.learn_block_bytes(head);
        let pushes = self.start_pushes(cx, &new);
        self.synchronize(cx);
        self.announce(cx, &[new]);
        pushes
    }

    /// The store holds something else than what came from here: what is new is announced, what is
    /// gone is taken back.
    pub(super) fn handle_stored(
        &mut self,
        cx: &mut Context<'_>,
        head: &HeadState,
        held: &Bitfield,
    ) {
        if head.fork != self.fork {
            return;
        }
        let length = head.length;
        if length > self.length {
            self.length = length;
            self.tree_hash = head.tree_hash;
            self.manifest_known = true;
            self.learn_block_bytes(head);
            self.synchronize(cx);
        }
        for gone in self.have.without(held, 0..length) {
            self.handle_cleared(cx, gone);
        }
        let new = held.without(&self.have, 0..length);
        for range in &new {
            self.have.set_range(range.clone());
            self.planned.set_range(range.clone());
        }
        if !new.is_empty() {
            self.announce(cx, &new);
        }
    }

    /// Blocks are no longer held.
    pub(super) fn handle_cleared(&mut self, cx: &mut Context<'_>, range: Range<u64>) {
        self.have.clear_range(range.clone());
        self.planned.clear_range(range.clone());
        self.told_complete = false;
        for (peer, channel) in &self.channels {
            if makes(Mistake::DropUntold) {
                continue;
            }
            for run in channel.shown.within(range.clone()) {
                let dropped = crate::wire::hypercore::Range {
                    drop: true,
                    start: run.start,
                    length: run.end - run.start,
                };
                cx.outputs
                    .push_back(self.send(*peer, Message::Range(dropped)));
            }
        }
    }

    /// Drops the channel with a peer; what was asked of it is open again.
    pub(super) fn close_channel(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        let Some(channel) = self.channels.remove(&peer) else {
            return;
        };
        if let Some(peer) = cx.peers.get_mut(&peer) {
            peer.last_request = peer.last_request.max(channel.last_id());
        }
        for asked in channel.asked.values() {
            cx.flow.done(cx.peers.get_mut(&peer), asked);
            if !makes(Mistake::GoneWithPeer) {
                self.give_up(peer, asked);
            }
        }
    }

    /// Lets go of everything that was received, before the feed is removed.
    pub(super) fn forget(&mut self, cx: &mut Context<'_>) {
        let applying = self.applying.take().map(|applying| applying.origins);
        for origin in applying.into_iter().flatten() {
            cx.flow.applied(origin.bytes);
        }
        self.let_go(cx);
    }

    /// Lets go of what was received and is not with the store.
    pub(super) fn let_go(&mut self, cx: &mut Context<'_>) {
        for item in self.incoming.drain(..).chain(self.parked.drain(..)) {
            cx.flow.applied(item.origin.bytes);
        }
        self.upgrading.take_if(|upgrading| upgrading.is_pushed);
    }

    pub(super) fn stop(&mut self, cx: &mut Context<'_>, why: FeedEvent) {
        if !self.stopped {
            self.stopped = true;
            cx.outputs.push_back(self.event(why));
        }
        self.let_go(cx);
    }

    fn end_probe(&mut self, peer: PeerId) {
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.probing = None;
        }
    }

    fn learn_block_bytes(&mut self, head: &HeadState) {
        if let Some(average) = head
            .byte_length
            .checked_div(head.length)
            .filter(|average| *average > 0)
        {
            self.block_bytes = Some(usize::try_from(average).unwrap_or(usize::MAX));
        }
    }

    pub(super) fn event(&self, event: FeedEvent) -> Output {
        Output::Event {
            key: self.key,
            event,
        }
    }

    pub(super) fn send(&self, peer: PeerId, message: Message) -> Output {
        Output::Send {
            peer,
            key: self.key,
            message,
            urgent: true,
        }
    }
}

impl Item {
    pub(super) fn parked_at(&self) -> Option<Time> {
        self.origin.parked_at
    }
}
