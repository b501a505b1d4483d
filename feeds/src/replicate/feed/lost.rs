//! Requests that bring nothing: declined, too late, or with proofs that hang.

use std::collections::BTreeSet;

use crate::limits::{PARKED_PROOFS_MAX, PATIENCE_MAX, RETRIES_MAX, UNANCHORED_PROOFS_MAX};
use crate::replicate::channel::{Asked, What};
use crate::replicate::climb::Climb;
use crate::replicate::feed::{Feed, Item};
use crate::replicate::flow::Context;
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::{PeerId, ProtocolViolation};
use crate::wire::hypercore::{Message, NoData};

impl Feed {
    /// A request that the peer will not answer.
    pub(in crate::replicate) fn handle_no_data(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        no_data: &NoData,
    ) {
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
    pub(super) fn decline(&mut self, peer: PeerId, asked: &Asked) {
        if let Some(channel) = self.channels.get_mut(&peer) {
            // A peer that moved to another fork declines what was asked of the one before.
            let moved = channel
                .remote
                .is_some_and(|remote| remote.fork != asked.fork);
            match asked.what {
                What::Block(_) | What::Push(_) if moved => {}
                What::Block(index) | What::Push(index) => {
                    channel.remote_have.set(index, false);
                }
                What::Upgrade(_) => channel.upgrade_refused = Some(channel.remote_length()),
                What::Probe | What::Look | What::Reorg => {}
            }
        }
        self.give_up(peer, asked);
    }

    /// A request will bring nothing: what it was for is open again.
    pub(in crate::replicate) fn give_up(&mut self, peer: PeerId, asked: &Asked) {
        match asked.what {
            // The other peer that was asked for it may still bring it.
            What::Block(index) if self.hedged.remove(&index) && self.is_asked(index) => {}
            What::Block(index) | What::Push(index) => {
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

    pub(super) fn end_upgrade(&mut self, peer: PeerId) {
        if self
            .upgrading
            .is_some_and(|upgrading| upgrading.peer == peer && !upgrading.is_pushed)
        {
            self.upgrading = None;
        }
    }

    /// Asks the peer for no head until it tells of a longer one.
    pub(super) fn refuse_upgrades(&mut self, peer: PeerId) {
        self.end_upgrade(peer);
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.upgrade_refused = Some(channel.remote_length());
        }
    }

    pub(in crate::replicate) fn release(&mut self, block: u64) {
        if !self.have.get(block) {
            self.planned.set(block, false);
            for channel in self.channels.values_mut() {
                channel.own.set(block, false);
            }
        }
    }

    /// Takes back requests that stayed unanswered too long: soon where somebody else can answer.
    pub(in crate::replicate) fn time_out(&mut self, cx: &mut Context<'_>) {
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
                    What::Block(index) | What::Push(index) => channel.remote_have.get(index),
                    What::Upgrade(_) => {
                        channel.remote_length() > self.length
                            && channel.upgrade_refused != Some(channel.remote_length())
                    }
                    What::Probe | What::Look | What::Reorg => false,
                }
        })
    }

    /// Keeps the parked proofs within their bound, the oldest go first.
    pub(super) fn trim_parked(&mut self, cx: &mut Context<'_>) -> Vec<(PeerId, ProtocolViolation)> {
        let over = self.parked.len().saturating_sub(PARKED_PROOFS_MAX);
        let dropped: Vec<Item> = self.parked.drain(..over).collect();
        self.drop_parked(cx, dropped)
    }

    /// Lets go of proofs that hang: their blocks are asked for again, up to a root.
    pub(in crate::replicate) fn drop_parked(
        &mut self,
        cx: &mut Context<'_>,
        dropped: Vec<Item>,
    ) -> Vec<(PeerId, ProtocolViolation)> {
        let mut violations = Vec::new();
        for Item { origin, incoming } in dropped {
            cx.flow.applied(origin.bytes);
            match origin.what {
                What::Block(_) | What::Push(_) => {}
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
}
