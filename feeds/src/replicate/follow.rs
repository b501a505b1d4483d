//! Plain feeds onto another fork: following a peer there, and taking our own readers along.

use std::collections::VecDeque;

use crate::bitfield::Bitfield;
use crate::limits::UINT_MAX;
use crate::replicate::channel::What;
use crate::replicate::feed::Feed;
use crate::replicate::flow::Context;
use crate::replicate::{
    ApplyFailure, FeedEvent, FeedKind, HeadState, Incoming, Output, PeerId, ProtocolViolation,
    Reorg, ReorgStep,
};
use crate::tree::{ProofRequest, UpgradeRequest};
use crate::wire::hypercore::{self, Message};

/// A peer on a higher fork that is being followed there.
#[derive(Debug)]
pub(super) struct Following {
    peer: PeerId,
    /// The fork and length that it showed.
    shown: (u64, u64),
    /// `None` while the store looks at an answer.
    reorg: Option<Reorg>,
}

impl Feed {
    /// Begins to follow the peer with the highest fork above ours, if heads are wanted at all.
    pub(super) fn plan_reorg(&mut self, cx: &mut Context<'_>) {
        let wanted = self.interest.live || self.head_wanted;
        let is_new = self.length == 0 && self.fork == 0;
        if self.kind != FeedKind::Plain || is_new || !wanted || self.following.is_some() {
            return;
        }
        let highest = self
            .channels
            .iter()
            .filter_map(|(peer, channel)| {
                let remote = channel.remote.as_ref()?;
                let shown = (remote.fork, remote.length);
                // npm hypercore says that it can upgrade its own fork's readers only.
                let usable = channel.is_usable(cx.now, remote.fork)
                    && remote.fork > self.fork
                    && remote.length > 0
                    && channel.fork_refused != Some(shown);
                usable.then_some((shown, *peer))
            })
            .max();
        if let Some(((fork, length), peer)) = highest {
            let shown = (fork, length);
            self.following = Some(Following {
                peer,
                shown,
                reorg: None,
            });
            self.ask_reorg(cx, peer, Reorg::new(fork, length));
        }
    }

    fn ask_reorg(&mut self, cx: &mut Context<'_>, peer: PeerId, reorg: Reorg) {
        let (fork, start) = (reorg.fork(), reorg.start());
        let upgrade = UpgradeRequest {
            start,
            length: reorg.length() - start,
        };
        let proof = ProofRequest {
            upgrade: Some(upgrade),
            ..ProofRequest::default()
        };
        let Some(following) = &mut self.following else {
            return;
        };
        following.reorg = Some(reorg);
        let manifest = !self.manifest_known;
        self.ask(cx, peer, What::Reorg, 0, fork, proof, manifest, true);
    }

    /// An answer of the peer that is followed goes to the store.
    pub(super) fn receive_reorg(&mut self, cx: &mut Context<'_>, peer: PeerId, answer: Incoming) {
        let key = self.key;
        let following = self.following.as_mut().filter(|now| now.peer == peer);
        if let Some(reorg) = following.and_then(|following| following.reorg.take()) {
            cx.outputs.push_back(Output::Reorganise {
                key,
                peer,
                reorg: Box::new(reorg),
                answer: Box::new(answer),
            });
        }
    }

    /// The peer is not followed any further until it shows something else.
    pub(super) fn end_reorg(&mut self, peer: PeerId) {
        let Some(ended) = self.following.take_if(|now| now.peer == peer) else {
            return;
        };
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.fork_refused = Some(ended.shown);
        }
    }

    /// What the store made of an answer, and the head as it is now.
    pub(super) fn handle_reorganised(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        result: Result<ReorgStep, ApplyFailure>,
        head: &HeadState,
    ) -> Option<(PeerId, ProtocolViolation)> {
        let (key, block) = (self.key, None);
        match result {
            Ok(ReorgStep::Ask(reorg)) => {
                let is_there = self
                    .channels
                    .get(&peer)
                    .and_then(|channel| channel.remote)
                    .is_some_and(|remote| remote.fork == reorg.fork());
                match is_there && !self.stopped && reorg.start() < reorg.length() {
                    true => self.ask_reorg(cx, peer, *reorg),
                    false => self.following = None,
                }
            }
            Ok(ReorgStep::Done { common }) => {
                self.following = None;
                self.take_fork(cx, head, common);
            }
            Err(ApplyFailure::BadData | ApplyFailure::OtherTree) => {
                self.end_reorg(peer);
                return Some((peer, ProtocolViolation::BadData { key, block }));
            }
            Err(ApplyFailure::Conflict) => self.stop(cx, FeedEvent::Conflict),
            Err(ApplyFailure::Store) => self.stop(cx, FeedEvent::StoreFailed),
            Err(_) => self.end_reorg(peer),
        }
        None
    }

    /// The own feed was cut, and may have grown again since.
    pub(super) fn handle_truncated(&mut self, cx: &mut Context<'_>, head: &HeadState) {
        if head.length > self.length {
            self.have.set_range(self.length..head.length);
        }
        self.take_fork(cx, head, head.length);
    }

    /// The feed was cut to `common` blocks and has a head of another fork, durably.
    pub(super) fn take_fork(&mut self, cx: &mut Context<'_>, head: &HeadState, common: u64) {
        let before = self.length;
        self.fork = head.fork;
        self.length = head.length;
        self.tree_hash = head.tree_hash;
        self.have.clear_range(common..UINT_MAX);
        self.start_over(cx);
        let length = common;
        cx.outputs
            .push_back(self.event(FeedEvent::Truncated { length }));
        if head.length > common {
            let length = head.length;
            cx.outputs
                .push_back(self.event(FeedEvent::Upgraded { length }));
        }
        if !self.interest.live {
            self.head_wanted = false;
        }
        for channel in self.channels.values_mut() {
            channel.head_told = 0;
            (channel.pushing, channel.pushed) = (0, 0..0);
            // What a peer holds of another fork is something else from there on.
            if channel.remote.is_none_or(|remote| remote.fork != head.fork) {
                channel.remote_have.clear_range(common..UINT_MAX);
            }
        }
        for peer in self.channels.keys().filter(|_| before > common) {
            let gone = hypercore::Range {
                drop: true,
                start: common,
                length: before - common,
            };
            cx.outputs.push_back(self.send(*peer, Message::Range(gone)));
        }
        self.synchronize(cx);
        let held: Vec<_> = self.have.runs(0..self.length).collect();
        self.announce(cx, &held);
    }

    /// Lets go of all that was planned and received for another fork.
    fn start_over(&mut self, cx: &mut Context<'_>) {
        let mut taken_back = VecDeque::new();
        for (peer, channel) in &mut self.channels {
            for (id, asked) in channel.take_back() {
                cx.flow.done(cx.peers.get_mut(peer), &asked);
                taken_back.push_back((*peer, id));
            }
            channel.probing = None;
            channel.upgrade_refused = None;
            channel.own = Bitfield::new();
        }
        self.hedged.clear();
        for (peer, id) in taken_back {
            cx.outputs.push_back(self.send(peer, Message::Cancel(id)));
        }
        self.let_go(cx);
        self.planned = self.have.clone();
        self.upgrading = None;
        self.retry.clear();
        self.contender = None;
        self.told_complete = false;
        self.told_nobody = None;
        self.wanted = crate::replicate::ranges::Wanted::new(&self.interest);
    }
}
