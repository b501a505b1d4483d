//! One feed: what is held, what is wanted, what is on its way from whom.

mod apply;
pub(super) mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use crate::Time;
use crate::bitfield::Bitfield;
use crate::crypto::{FeedKey, Hash};
use crate::limits::{
    BLOCK_BYTES_ASSUMED, BLOCK_BYTES_COUNTED_MIN, KINLOG_BLOCK_BYTES_MAX, OVERSIZE_BLOCKS_MAX,
    PARKED_PROOFS_MAX, PATIENCE_MAX, PLAIN_BLOCK_BYTES_MAX, PROOF_BYTES_COUNTED, RETRIES_MAX,
    UNANCHORED_PROOFS_MAX, UNSOLICITED_DATA_MAX,
};
use crate::replicate::channel::{Asked, Channel, What};
use crate::replicate::climb::Climb;
use crate::replicate::contest::Contender;
use crate::replicate::feed::apply::Applying;
use crate::replicate::flow::Context;
use crate::replicate::follow::Following;
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::ranges::Wanted;
use crate::replicate::{
    FeedEvent, FeedKind, FeedState, HeadState, Incoming, Interest, Output, PeerId,
    ProtocolViolation, Want,
};
use crate::tree::UpgradeProof;
use crate::wire::hypercore::{Data, Message, NoData, Synchronize};

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
    /// Size that the next block is expected to have.
    block_bytes: usize,
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
            block_bytes: BLOCK_BYTES_ASSUMED,
        };
        feed.learn_block_bytes(&state.head);
        feed
    }

    pub(super) fn set_interest(&mut self, interest: Interest) {
        self.wanted = Wanted::new(&interest);
        self.head_wanted = interest.live || interest.want != Want::None;
        self.interest = interest;
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
        self.block_bytes.max(BLOCK_BYTES_COUNTED_MIN)
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

    /// The own feed has grown.
    pub(super) fn handle_appended(&mut self, cx: &mut Context<'_>, head: &HeadState) {
        if head.fork > self.fork {
            self.handle_truncated(cx, head);
            return;
        }
        if head.length <= self.length {
            return;
        }
        let new = self.length..head.length;
        self.length = head.length;
        self.tree_hash = head.tree_hash;
        self.manifest_known = true;
        self.have.set_range(new.clone());
        self.planned.set_range(new.clone());
        self.learn_block_bytes(head);
        self.synchronize(cx);
        self.announce(cx, &[new]);
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

    /// An answer with data.
    pub(super) fn handle_data(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        data: Data,
    ) -> Result<(), ProtocolViolation> {
        let key = self.key;
        let Some(channel) = self.channels.get_mut(&peer) else {
            return Ok(());
        };
        let request = data.request;
        let asked = match channel.answer(cx.now, request) {
            Ok(asked) => asked,
            Err(cancelled) => return self.handle_unasked(cx, peer, data, cancelled),
        };
        let value = |data: &Data| {
            data.proof
                .block
                .as_ref()
                .map_or(0, |block| block.value.len())
        };
        if let Some(known) = cx.peers.get_mut(&peer) {
            let bytes = value(&data).max(BLOCK_BYTES_COUNTED_MIN);
            known
                .pace
                .arrives(cx.now, asked.sent, asked.departure, bytes);
        }
        cx.flow.done(cx.peers.get_mut(&peer), &asked);
        if let What::Block(index) = asked.what
            && asked.what.is_answered_by(&data.proof)
        {
            self.end_hedge(cx, peer, index);
        }
        if let (What::Block(index), Some(block)) = (asked.what, &data.proof.block)
            && block.index != index
        {
            self.give_up(peer, &asked);
            return Err(ProtocolViolation::WrongAnswer { key, request });
        }
        if !asked.what.is_answered_by(&data.proof) || data.proof.fork != asked.fork {
            self.decline(peer, &asked);
            return Ok(());
        }
        if asked.what == What::Reorg {
            let Data {
                proof, manifest, ..
            } = data;
            self.receive_reorg(cx, peer, Incoming { proof, manifest });
            return Ok(());
        }
        self.receive(cx, peer, asked.what, asked.order, data)
    }

    /// Data that answers no request on its way.
    fn handle_unasked(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        data: Data,
        cancelled: Option<What>,
    ) -> Result<(), ProtocolViolation> {
        let Some(channel) = self.channels.get_mut(&peer) else {
            return Ok(());
        };
        if let Some(what) = cancelled {
            // The late answer to a request that was given up is as good as any.
            if let What::Block(index) = what
                && what.is_answered_by(&data.proof)
                && !self.have.get(index)
                && !self.is_received(index)
            {
                self.end_hedge(cx, peer, index);
                self.planned.set(index, true);
                let order = cx.flow.next_order();
                return self.receive(cx, peer, what, order, data);
            }
            return Ok(());
        }
        if channel.is_of_an_earlier_channel(data.request) {
            return Ok(());
        }
        // npm hypercore sends its whole upgrade unasked when it sees another history.
        let from_nothing = |upgrade: &UpgradeProof| upgrade.start == 0;
        let is_probe = data.request == 0
            && What::Look.is_answered_by(&data.proof)
            && data.proof.upgrade.as_ref().is_some_and(from_nothing);
        if is_probe && self.length > 0 && channel.probing.is_none() {
            channel.probing = Some(What::Look);
            let order = cx.flow.next_order();
            return self.receive(cx, peer, What::Look, order, data);
        }
        let Some(peer) = cx.peers.get_mut(&peer) else {
            return Ok(());
        };
        peer.unsolicited += 1;
        if peer.unsolicited > UNSOLICITED_DATA_MAX {
            return Err(ProtocolViolation::UnsolicitedData {
                count: peer.unsolicited,
            });
        }
        Ok(())
    }

    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        what: What,
        order: u64,
        data: Data,
    ) -> Result<(), ProtocolViolation> {
        if self.stopped {
            return Ok(()); // asked for before
        }
        let limit = match self.kind {
            FeedKind::Kinlog => KINLOG_BLOCK_BYTES_MAX,
            FeedKind::Plain => PLAIN_BLOCK_BYTES_MAX,
        };
        let value_bytes = data
            .proof
            .block
            .as_ref()
            .map_or(0, |block| block.value.len());
        if value_bytes > limit {
            return self.refuse_block(cx, peer, what, value_bytes, limit);
        }
        if let What::Block(_) = what {
            self.received += 1;
            self.block_bytes = (7 * self.block_bytes + value_bytes).div_ceil(8);
        }
        let bytes = value_bytes + PROOF_BYTES_COUNTED;
        cx.flow.received(bytes);
        self.incoming.push(Item {
            origin: Origin {
                peer,
                what,
                order,
                bytes,
                parked_at: None,
            },
            incoming: Incoming {
                proof: data.proof,
                manifest: data.manifest,
            },
        });
        Ok(())
    }

    fn refuse_block(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        what: What,
        actual: usize,
        limit: usize,
    ) -> Result<(), ProtocolViolation> {
        let What::Block(block) = what else {
            return Ok(());
        };
        self.release(block);
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.remote_have.set(block, false);
        }
        let Some(peer) = cx.peers.get_mut(&peer) else {
            return Ok(());
        };
        peer.oversize_blocks += 1;
        if peer.oversize_blocks >= OVERSIZE_BLOCKS_MAX {
            return Err(ProtocolViolation::TooLarge {
                key: self.key,
                block,
                actual,
                limit,
            });
        }
        Ok(())
    }

    /// A request that the peer will not answer.
    pub(super) fn handle_no_data(&mut self, cx: &mut Context<'_>, peer: PeerId, no_data: &NoData) {
        let Some(channel) = self.channels.get_mut(&peer) else {
            return;
        };
        if let Ok(asked) = channel.answer(cx.now, no_data.request) {
            if !makes(Mistake::WindowLeak) {
                cx.flow.done(cx.peers.get_mut(&peer), &asked);
            }
            self.decline(peer, &asked);
        }
    }

    /// The peer cannot answer: it is not asked that again until it says otherwise.
    fn decline(&mut self, peer: PeerId, asked: &Asked) {
        if let Some(channel) = self.channels.get_mut(&peer) {
            // A peer that moved to another fork declines what was asked of the one before.
            let moved = channel
                .remote
                .is_some_and(|remote| remote.fork != asked.fork);
            match asked.what {
                What::Block(_) if moved => {}
                What::Block(index) => {
                    channel.remote_have.set(index, false);
                }
                What::Upgrade(_) => channel.upgrade_refused = Some(channel.remote_length()),
                What::Probe | What::Look | What::Reorg => {}
            }
        }
        self.give_up(peer, asked);
    }

    /// A request will bring nothing: what it was for is open again.
    pub(super) fn give_up(&mut self, peer: PeerId, asked: &Asked) {
        match asked.what {
            // The other peer that was asked for it may still bring it.
            What::Block(index) if self.hedged.remove(&index) && self.is_asked(index) => {}
            What::Block(index) => {
                self.release(index);
                // What was planned with it in mind may hang: the next one leads to stored nodes.
                self.retry.entry(index).or_insert(Climb::Stored);
                if self.retry.len() > RETRIES_MAX {
                    self.retry.pop_first();
                }
            }
            What::Upgrade(_) => self.end_upgrade(peer),
            What::Probe | What::Look => self.unanswered(peer),
            What::Reorg => self.end_reorg(peer),
        }
    }

    fn end_upgrade(&mut self, peer: PeerId) {
        if self
            .upgrading
            .is_some_and(|upgrading| upgrading.peer == peer)
        {
            self.upgrading = None;
        }
    }

    /// Asks the peer for no head until it tells of a longer one.
    fn refuse_upgrades(&mut self, peer: PeerId) {
        self.end_upgrade(peer);
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.upgrade_refused = Some(channel.remote_length());
        }
    }

    pub(super) fn release(&mut self, block: u64) {
        if !self.have.get(block) {
            self.planned.set(block, false);
            for channel in self.channels.values_mut() {
                channel.own.set(block, false);
            }
        }
    }

    /// Returns whether the block has come and is not stored yet.
    fn is_received(&self, block: u64) -> bool {
        let applying = self.applying.iter();
        let applying = applying.flat_map(|applying| applying.items.iter());
        let waiting = self.incoming.iter().chain(&self.parked);
        let mut all = applying.chain(waiting.map(|item| &item.incoming));
        all.any(|incoming| incoming.blocks().any(|one| one == block))
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

    /// Takes back requests that stayed unanswered too long: soon where somebody else can answer.
    pub(super) fn time_out(&mut self, cx: &mut Context<'_>) {
        let mut overdue = Vec::new();
        for (peer, channel) in &self.channels {
            let known = cx.peers.get(peer);
            let patience = known.map_or(PATIENCE_MAX, |peer| peer.pace.patience());
            let silent = channel.is_silent(cx.now, patience);
            let waits = channel.overdue(cx.now, patience).into_iter();
            overdue.extend(waits.map(|(id, asked)| (*peer, id, asked, silent)));
        }
        let mut snubbed = BTreeSet::new();
        for (peer, id, asked, silent) in overdue {
            let elsewhere = self.is_elsewhere(cx, peer, &asked);
            let Some(channel) = self.channels.get_mut(&peer) else {
                continue;
            };
            let lost = channel.is_lost(cx.now, &asked);
            if !lost && !elsewhere {
                continue;
            }
            let Some(asked) = channel.cancel(id) else {
                continue;
            };
            if lost || silent {
                snubbed.insert(peer);
            } else if let What::Block(index) = asked.what {
                // It answers, and not this.
                channel.remote_have.set(index, false);
            }
            cx.flow.done(cx.peers.get_mut(&peer), &asked);
            self.give_up(peer, &asked);
            cx.outputs.push_back(self.send(peer, Message::Cancel(id)));
        }
        for channel in self.channels.values_mut() {
            channel.forget_sets();
        }
        for peer in snubbed {
            if let Some(channel) = self.channels.get_mut(&peer) {
                channel.snub(cx.now);
            }
        }
    }

    /// Returns whether another peer than `peer` could answer the same.
    fn is_elsewhere(&self, cx: &Context<'_>, peer: PeerId, asked: &Asked) -> bool {
        self.channels.iter().any(|(other, channel)| {
            *other != peer
                && channel.is_usable(cx.now, asked.fork)
                && match asked.what {
                    What::Block(index) => channel.remote_have.get(index),
                    What::Upgrade(_) => {
                        channel.remote_length() > self.length
                            && channel.upgrade_refused != Some(channel.remote_length())
                    }
                    What::Probe | What::Look | What::Reorg => false,
                }
        })
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

    /// Keeps the parked proofs within their bound, the oldest go first.
    fn trim_parked(&mut self, cx: &mut Context<'_>) -> Vec<(PeerId, ProtocolViolation)> {
        let over = self.parked.len().saturating_sub(PARKED_PROOFS_MAX);
        let dropped: Vec<Item> = self.parked.drain(..over).collect();
        self.drop_parked(cx, dropped)
    }

    /// Lets go of proofs that hang: their blocks are asked for again, up to a root.
    pub(super) fn drop_parked(
        &mut self,
        cx: &mut Context<'_>,
        dropped: Vec<Item>,
    ) -> Vec<(PeerId, ProtocolViolation)> {
        let mut violations = Vec::new();
        for Item { origin, incoming } in dropped {
            cx.flow.applied(origin.bytes);
            match origin.what {
                What::Block(_) => {}
                What::Upgrade(_) => {
                    self.refuse_upgrades(origin.peer);
                    continue;
                }
                What::Probe | What::Look | What::Reorg => {
                    self.unanswered(origin.peer);
                    continue;
                }
            }
            let mut was_asked_to_a_root = false;
            for block in incoming.blocks() {
                self.release(block);
                let again = self.retry.insert(block, Climb::Roots) == Some(Climb::Roots);
                // One behind our head was asked for with a longer head in mind, which did not come.
                was_asked_to_a_root |= again && block < self.length;
                if self.retry.len() > RETRIES_MAX {
                    self.retry.pop_first();
                }
            }
            if was_asked_to_a_root && let Some(channel) = self.channels.get_mut(&origin.peer) {
                channel.unanchored += 1;
                let count = channel.unanchored;
                if count > UNANCHORED_PROOFS_MAX {
                    let reason = ProtocolViolation::Unanchored {
                        key: self.key,
                        count,
                    };
                    violations.push((origin.peer, reason));
                }
            }
        }
        violations
    }

    fn learn_block_bytes(&mut self, head: &HeadState) {
        if let Some(average) = head
            .byte_length
            .checked_div(head.length)
            .filter(|average| *average > 0)
        {
            self.block_bytes = usize::try_from(average).unwrap_or(usize::MAX);
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
