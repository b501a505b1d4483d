//! Blocks that are sent before they are asked for, between peers of which one says that it takes them
//! (`allowPush` of npm `hypercore`): a block that was just appended arrives with its head, without a
//! round trip.
//!
//! Whoever appends sends to those who allow it and had everything before. They are told of the new
//! length behind it, so that they do not ask for what is on its way. What is taken: blocks that are
//! wanted, in reply to our own word that they may come. Everything else is refused and counted.

use std::ops::Range;

use crate::bitfield::Bitfield;
use crate::limits::PUSH_BLOCKS_MAX;
use crate::replicate::announce::held;
use crate::replicate::channel::{Channel, What};
use crate::replicate::climb::levels;
use crate::replicate::feed::receive::count_unasked;
use crate::replicate::feed::{Feed, Upgrading};
use crate::replicate::flow::Context;
use crate::replicate::{FeedKind, Incoming, PeerId, ProtocolViolation, Pushes, Want};
use crate::tree::{BlockRequest, ProofRequest, UpgradeRequest};
use crate::wire::hypercore::{Data, Request};

impl Feed {
    /// Returns whether peers may send blocks unasked: where all that is appended is wanted.
    pub(in crate::replicate) fn allows_pushes(&self) -> bool {
        let wants_new = match self.interest.want {
            Want::All => true,
            Want::Last(_) => self.wanted.is_settled(),
            Want::None | Want::Range(_) | Want::Ranges(_) => false,
        };
        self.pushes != Pushes::Refused && self.interest.live && wants_new && !self.stopped
    }

    pub(in crate::replicate) fn takes_nothing_but_pushes(&self) -> bool {
        self.pushes == Pushes::Only && self.allows_pushes()
    }

    /// A block that came unasked, with or without a longer head.
    pub(super) fn handle_push(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        data: Data,
    ) -> Result<(), ProtocolViolation> {
        let Some(channel) = self.channels.get(&peer) else {
            return Ok(());
        };
        let proof = &data.proof;
        let is_first = self.length == 0 && self.kind == FeedKind::Plain;
        let block = proof.block.as_ref().map(|block| block.index);
        // One that a window leaves behind as it moves is nobody's fault.
        let may_come = |index: u64| self.wanted.contains(index) || index >= self.length;
        let block = block.filter(|index| {
            channel.told.is_some_and(|told| told.allow_push)
                && proof.hash.is_none()
                && proof.seek.is_none()
                && (is_first || proof.fork == self.fork)
                && may_come(*index)
        });
        let Some(block) = block else {
            return count_unasked(cx, peer);
        };
        let is_new = self.wanted.contains(block) && !self.planned.get(block);
        if !is_new || !cx.flow.accepts_data() {
            return Ok(()); // it is held, or on its way; or there is no room now
        }
        let upgrade = proof.upgrade.as_ref();
        if upgrade.is_some_and(|upgrade| upgrade.start > self.plan_length()) {
            return Ok(()); // one before it was dropped
        }
        let target = upgrade.map(|upgrade| upgrade.start.saturating_add(upgrade.length));
        self.planned.set(block, true);
        let order = cx.flow.next_order();
        self.receive(cx, peer, What::Push(block), order, data)?;
        if !self.planned.get(block) {
            return Ok(()); // it was too large
        }
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.taken_unasked += 1;
        }
        if let Some(target) = target.filter(|_| self.upgrading.is_none()) {
            self.upgrading = Some(Upgrading {
                peer,
                target,
                is_pushed: true,
            });
        }
        Ok(())
    }

    /// Returns whether it builds on a block sent before it that was not stored: nobody's fault.
    pub(super) fn is_push_without_ground(&self, what: What, incoming: &Incoming) -> bool {
        let upgrade = incoming.proof.upgrade.as_ref();
        matches!(what, What::Push(_)) && upgrade.is_some_and(|upgrade| upgrade.start > self.length)
    }

    /// What the peer sent unasked is stored or refused: heads are asked for again.
    pub(super) fn end_pushed_head(&mut self, peer: PeerId) {
        self.upgrading
            .take_if(|upgrading| upgrading.is_pushed && upgrading.peer == peer);
    }

    /// Returns what is sent to whom before it asks, now that `new` was appended. Those are told of it
    /// with [`end_push`](Self::end_push).
    pub(super) fn start_pushes(
        &mut self,
        cx: &mut Context<'_>,
        new: &Range<u64>,
    ) -> Vec<(PeerId, Request)> {
        let mut pushes = Vec::new();
        if self.withheld || self.stopped || new.end - new.start > PUSH_BLOCKS_MAX {
            return pushes;
        }
        for (peer, channel) in &mut self.channels {
            // One that is busy is told, and asks when it has time.
            let is_free = |peer: &crate::replicate::peer::Peer| {
                peer.writable && (channel.pushing > 0 || peer.requests.is_empty())
            };
            if !cx.peers.get(peer).is_some_and(is_free) || !takes(channel, self.fork, new) {
                continue;
            }
            if channel.pushing == 0 {
                channel.pushed = new.clone();
            }
            channel.pushed.end = new.end;
            channel.head_told = channel.head_told.max(new.end);
            let manifest = channel.remote_length() == 0;
            let mut known = Bitfield::new();
            for block in new.clone() {
                let upgrade = (block == new.start).then(|| UpgradeRequest {
                    start: new.start,
                    length: new.end - new.start,
                });
                let nodes = match upgrade {
                    Some(_) => 0,
                    None => levels(&[&known], block, new.end),
                };
                known.set(block, true);
                channel.pushing += 1;
                let request = Request {
                    fork: self.fork,
                    proof: ProofRequest {
                        block: Some(BlockRequest {
                            index: block,
                            nodes,
                        }),
                        upgrade,
                        ..ProofRequest::default()
                    },
                    manifest: manifest && upgrade.is_some(),
                    priority: 1,
                    ..Request::default()
                };
                pushes.push((*peer, request));
            }
        }
        pushes
    }

    /// A block is on its way to a peer unasked; behind the last of them it is told what there is.
    pub(in crate::replicate) fn end_push(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        let Some(channel) = self.channels.get_mut(&peer).filter(|one| one.pushing > 0) else {
            return;
        };
        channel.pushing -= 1;
        if channel.pushing > 0 {
            return;
        }
        let new = channel.pushed.start..self.length;
        let runs: Vec<Range<u64>> = channel.shown.within(new).collect();
        self.synchronize(cx);
        for run in runs {
            cx.outputs.push_back(self.send(peer, held(run)));
        }
    }
}

/// Returns whether the peer takes what follows on all it has.
fn takes(channel: &Channel, fork: u64, new: &Range<u64>) -> bool {
    let is_shown = || {
        channel
            .shown
            .within(new.clone())
            .eq(std::iter::once(new.clone()))
    };
    let known = channel.remote_length().max(channel.pushed.end);
    let allows = channel
        .remote
        .is_some_and(|remote| remote.allow_push && remote.downloading && remote.fork == fork);
    allows && known == new.start && is_shown()
}
