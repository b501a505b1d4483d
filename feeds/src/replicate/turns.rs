//! Which blocks are asked of which peer.
//!
//! Peers take turns, each of one message's worth; the next turn is of whoever will have answered
//! everything first, by what was measured of it. Blocks are taken lowest index first, or, where
//! other readers of the same feed are connected, those that fewest hold, so that readers have
//! something to give each other. At the end, when all is asked for, a peer that has time is asked
//! for what a slower one is not expected to bring soon.

use std::time::Duration;

use crate::limits::{
    BLOCKS_PER_HEDGE, HEDGE_GAIN_MIN, RARE_CANDIDATES, TURN_BYTES, URGENT_BYTES_MAX,
};
use crate::replicate::PeerId;
use crate::replicate::channel::{Asked, What};
use crate::replicate::climb::{Climb, levels};
use crate::replicate::feed::Feed;
use crate::replicate::flow::{Context, Windows};
use crate::tree::{BlockRequest, ProofRequest};
use crate::wire::hypercore::Message;

/// A peer that may be asked for blocks, and how far that is.
#[derive(Debug)]
struct Turn {
    peer: PeerId,
    fork: u64,
    /// Blocks from here on it cannot prove, or we could not check.
    end: u64,
    /// Which of the wanted runs, and the block in it, is looked at next.
    run_number: usize,
    at: u64,
    /// It goes through all that is left in order, and ends.
    is_last_round: bool,
    /// Bytes that may be on their way to it.
    share: usize,
    /// When it would have answered everything.
    ends: Duration,
}

/// How a turn ended.
enum Took {
    /// There may be more.
    Some,
    /// The peer has nothing more that is wanted.
    All,
    /// The windows allow no more.
    Full,
}

impl Feed {
    /// Asks for missing blocks, each of one peer; returns whether the windows ended it.
    pub(super) fn plan_blocks(&mut self, cx: &mut Context<'_>) -> bool {
        let length = self.plan_length();
        if self.wanted.first_missing(&self.planned, length).is_none() {
            self.hedge(cx);
            return false;
        }
        let mut turns = self.turns(cx, length);
        let alone = turns.len() == 1;
        let urgent = self.is_urgent(length);
        let scattered = !alone && !urgent && self.has_other_readers(length);
        let mut starved = false;
        let next = |turns: &[Turn]| {
            let soonest = turns.iter().enumerate().min_by_key(|(_, turn)| turn.ends);
            soonest.map(|(at, _)| at)
        };
        while let Some(at) = next(&turns) {
            let turn = &mut turns[at];
            if scattered && !turn.is_last_round {
                self.seek_rare(cx, turn);
            }
            match self.take_turn(cx, turn, alone, urgent) {
                Took::Some => {
                    let peer = cx.peers.get(&turn.peer);
                    turn.ends = peer.map_or(Duration::MAX, |peer| {
                        peer.pace.time_for(peer.in_flight_bytes)
                    });
                }
                // What lies before the place where it began may be left: once through, as what this
                // peer cannot prove stays.
                Took::All if scattered && !turn.is_last_round => {
                    turn.is_last_round = true;
                    (turn.run_number, turn.at) = (0, 0);
                }
                Took::All => {
                    turns.swap_remove(at);
                }
                Took::Full => {
                    starved = true;
                    turns.swap_remove(at);
                }
            }
        }
        starved
    }

    /// Returns the peers that can be asked.
    fn turns(&self, cx: &Context<'_>, length: u64) -> Vec<Turn> {
        let mut turns = Vec::new();
        let mut windows = Windows::default();
        for (peer, channel) in &self.channels {
            let Some(remote) = channel.remote else {
                continue;
            };
            let fork = self.fork_for(&remote);
            let Some(known) = cx.peers.get(peer) else {
                continue;
            };
            if !channel.is_usable(cx.now, fork) {
                continue;
            }
            let mut turn = Turn {
                peer: *peer,
                fork,
                // Above our head blocks lead to the roots of the head on its way: who is shorter
                // lacks them.
                end: if remote.length >= length {
                    length
                } else {
                    remote.length.min(self.length)
                },
                run_number: 0,
                at: 0,
                is_last_round: false,
                share: 0,
                ends: known.pace.time_for(known.in_flight_bytes),
            };
            // Whoever has nothing that is wanted takes nothing of the window from those who have.
            if known.in_flight > 0 || self.next_block(&mut turn).is_some() {
                windows.add(known);
            }
            (turn.run_number, turn.at) = (0, 0);
            turns.push(turn);
        }
        for turn in &mut turns {
            if let Some(peer) = cx.peers.get(&turn.peer) {
                turn.share = cx.flow.share(peer, &windows);
            }
        }
        turns
    }

    /// Returns whether all that is missing is so little that somebody may be waiting for it: it
    /// goes ahead of transfers that take long.
    fn is_urgent(&self, length: u64) -> bool {
        let missing = self.wanted.count_missing(&self.have, length);
        missing.saturating_mul(self.expected_block_bytes() as u64) <= URGENT_BYTES_MAX as u64
    }

    /// Returns whether peers are connected that lack blocks of the feed and fetch them.
    fn has_other_readers(&self, length: u64) -> bool {
        self.channels.values().any(|channel| {
            channel.remote.is_some_and(|remote| {
                remote.downloading && remote.fork == self.fork && remote.length <= length
            }) && channel.remote_have.count() < length
        })
    }

    /// Moves a turn to the place, of some drawn by lot, that fewest peers hold.
    fn seek_rare(&self, cx: &mut Context<'_>, turn: &mut Turn) {
        let mut best: Option<(usize, (usize, u64))> = None;
        for _ in 0..RARE_CANDIDATES {
            (turn.run_number, turn.at) = (0, cx.flow.draw() % turn.end.max(1));
            let Some(block) = self.next_block(turn) else {
                continue;
            };
            let holders = self.channels.values();
            let holders = holders.filter(|channel| channel.remote_have.get(block));
            let (count, place) = (holders.count(), (turn.run_number, block));
            if best.is_none_or(|(fewest, _)| count < fewest) {
                best = Some((count, place));
            }
        }
        (turn.run_number, turn.at) = best.map_or((0, 0), |(_, place)| place);
    }

    /// Returns the next block from where the turn stands that is wanted, not planned, and held by
    /// the peer.
    fn next_block(&self, turn: &mut Turn) -> Option<u64> {
        let channel = self.channels.get(&turn.peer)?;
        loop {
            let run = self.wanted.run(turn.run_number, turn.end)?;
            turn.at = self.planned.first_unset_from(turn.at.max(run.start));
            let held = match turn.at < run.end {
                true => channel.remote_have.first_set_from(turn.at),
                false => None,
            };
            match held {
                Some(held) if held == turn.at => return Some(held),
                Some(held) if held < run.end => turn.at = held,
                _ => {
                    turn.run_number += 1;
                    if self.wanted.is_newest_first() {
                        turn.at = 0;
                    }
                }
            }
        }
    }

    fn take_turn(
        &mut self,
        cx: &mut Context<'_>,
        turn: &mut Turn,
        alone: bool,
        urgent: bool,
    ) -> Took {
        let mut left = TURN_BYTES;
        while alone || left > 0 {
            let Some(at) = self.next_block(turn) else {
                return Took::All;
            };
            let nodes = self.levels_of(turn.peer, at, alone);
            let bytes = self.counted_block_bytes(turn.peer, at, nodes);
            let allowed = cx
                .peers
                .get(&turn.peer)
                .is_some_and(|peer| cx.flow.allows(peer, bytes, turn.share, urgent));
            if !allowed {
                return Took::Full;
            }
            let subtree_end = ((at >> nodes) + 1) << nodes;
            if subtree_end > self.remote_length(turn.peer) {
                // The node it leads to lies above the peer's roots, for all blocks below it alike.
                turn.at = subtree_end;
                continue;
            }
            self.ask_block(cx, turn, at, nodes, urgent);
            left = left.saturating_sub(bytes);
        }
        Took::Some
    }

    fn ask_block(
        &mut self,
        cx: &mut Context<'_>,
        turn: &Turn,
        index: u64,
        nodes: u64,
        urgent: bool,
    ) {
        let proof = ProofRequest {
            block: Some(BlockRequest { index, nodes }),
            ..ProofRequest::default()
        };
        let bytes = self.counted_block_bytes(turn.peer, index, nodes);
        let what = What::Block(index);
        self.ask(cx, turn.peer, what, bytes, turn.fork, proof, false, urgent);
        self.planned.set(index, true);
        if let Some(channel) = self.channels.get_mut(&turn.peer) {
            channel.own.set(index, true);
        }
    }

    fn remote_length(&self, peer: PeerId) -> u64 {
        let channel = self.channels.get(&peer);
        channel.map_or(0, |channel| channel.remote_length())
    }

    /// Of one peer that is asked alone, what is on its way counts as known; of several each is held
    /// to its own, so that none waits for another.
    fn levels_of(&self, peer: PeerId, block: u64, alone: bool) -> u64 {
        let length = if block < self.length {
            self.length
        } else {
            self.plan_length()
        };
        let climb = self.retry.get(&block).copied().unwrap_or(Climb::Planned);
        match (climb, self.channels.get(&peer)) {
            (Climb::Planned, _) if alone => levels(&[&self.planned], block, length),
            (Climb::Planned, Some(channel)) => levels(&[&self.have, &channel.own], block, length),
            (Climb::Planned | Climb::Stored, _) => levels(&[&self.have], block, length),
            (Climb::Roots, _) => levels(&[], block, length),
        }
    }

    /// Asks peers that have time for blocks that a slower one will bring late.
    fn hedge(&mut self, cx: &mut Context<'_>) {
        if self.channels.len() < 2 || self.in_flight() == 0 {
            return;
        }
        let mut turns = self.turns(cx, self.plan_length());
        while self.hedges < 1 + self.received / BLOCKS_PER_HEDGE {
            let Some(late) = self.latest(cx, &turns) else {
                return;
            };
            let (asked_of, id, block, ends) = late;
            let bytes = self.expected_block_bytes();
            let quicker = turns
                .iter()
                .filter(|turn| turn.peer != asked_of && block < turn.end)
                .filter(|turn| {
                    let channel = self.channels.get(&turn.peer);
                    channel.is_some_and(|channel| channel.remote_have.get(block))
                })
                .filter_map(|turn| {
                    let peer = cx.peers.get(&turn.peer)?;
                    let fits = cx.flow.allows(peer, bytes, turn.share, true);
                    let time = peer.pace.time_for(peer.in_flight_bytes + bytes);
                    let gains = 2 * time + HEDGE_GAIN_MIN <= ends;
                    (fits && gains).then_some((time, turn.peer))
                })
                .min();
            let quicker = quicker.and_then(|(_, peer)| {
                let at = turns.iter().position(|turn| turn.peer == peer)?;
                let nodes = self.levels_of(peer, block, false);
                let reaches = ((block >> nodes) + 1) << nodes <= self.remote_length(peer);
                reaches.then_some((at, nodes))
            });
            let Some((at, nodes)) = quicker else {
                // Nobody helps this peer out; perhaps the next slowest.
                turns.retain(|turn| turn.peer != asked_of);
                if turns.len() < 2 {
                    return;
                }
                continue;
            };
            let asked = self.channels.get_mut(&asked_of);
            if let Some(asked) = asked.and_then(|channel| channel.asked.get_mut(&id)) {
                asked.hedged = true;
            }
            self.ask_block(cx, &turns[at], block, nodes, true);
            self.hedged.insert(block);
            self.hedges += 1;
        }
    }

    /// Returns the request for a block that will be answered last, and when that will be.
    fn latest(&self, cx: &Context<'_>, turns: &[Turn]) -> Option<(PeerId, u64, u64, Duration)> {
        let slowest = turns.iter().filter_map(|turn| {
            let channel = self.channels.get(&turn.peer)?;
            let last = channel.asked.iter().filter_map(|(id, asked)| {
                let What::Block(block) = asked.what else {
                    return None;
                };
                let twice = asked.hedged || self.hedged.contains(&block);
                // What is wanted may have changed since.
                let wanted = self.wanted.contains(block);
                (!twice && wanted).then_some((asked.order, *id, block))
            });
            let (_, id, block) = last.max()?;
            let peer = cx.peers.get(&turn.peer)?;
            let ends = peer.pace.time_for(peer.in_flight_bytes);
            Some((ends, turn.peer, id, block))
        });
        let (ends, peer, id, block) = slowest.max()?;
        Some((peer, id, block, ends))
    }

    /// A block arrived for which two peers were asked: the other one need not answer any more.
    pub(super) fn end_hedge(&mut self, cx: &mut Context<'_>, from: PeerId, block: u64) {
        if !self.hedged.remove(&block) {
            return;
        }
        let mut spared = Vec::new();
        for (peer, channel) in self.channels.iter_mut().filter(|(peer, _)| **peer != from) {
            let asked =
                |(id, asked): (&u64, &Asked)| (asked.what == What::Block(block)).then_some(*id);
            let Some(id) = channel.asked.iter().find_map(asked) else {
                continue;
            };
            if let Some(asked) = channel.cancel(id) {
                spared.push((*peer, id, asked));
            }
        }
        for (peer, id, asked) in spared {
            cx.flow.done(cx.peers.get_mut(&peer), &asked);
            cx.outputs.push_back(self.send(peer, Message::Cancel(id)));
        }
    }

    /// Returns whether some peer is still being asked for the block.
    pub(super) fn is_asked(&self, block: u64) -> bool {
        self.channels.values().any(|channel| {
            let mut asked = channel.asked.values();
            asked.any(|asked| asked.what == What::Block(block))
        })
    }
}
