//! Blocks that are asked of a Kinlog peer together: one request, one answer, one proof.
//!
//! Each block is still planned, timed and given up by itself, as if it had been asked for alone; only
//! what travels is joined. An answer brings the first blocks of a set, as many as the peer has and fit
//! into a message; the others are open again. An answer without blocks says that the first one is not
//! to be had.

use bytes::Bytes;

use crate::limits::{
    BLOCK_BYTES_COUNTED_MIN, LATE_SETS_MAX, SET_BLOCK_BYTES_ASSUMED, SET_BLOCK_BYTES_COUNTED,
    SET_BLOCKS_MAX, SET_BYTES, SET_NODE_BYTES,
};
use crate::replicate::channel::{Asked, Gathered, What};
use crate::replicate::feed::receive::count_unasked;
use crate::replicate::feed::{Feed, Item, Origin};
use crate::replicate::flow::Context;
use crate::replicate::{Incoming, Output, PeerId, ProtocolViolation};
use crate::tree::{BlockRequest, BlockSet, Group, Proof, ProofRequest};
use crate::wire::hypercore::{Message, Request};
use crate::wire::kinlog::{FeedMessage, SetAnswer, SetRequest};

/// A set on its way.
#[derive(Debug)]
pub(in crate::replicate) struct AskedSet {
    pub(in crate::replicate) set: BlockSet,
    /// Request of each block, in the order of the blocks.
    pub(in crate::replicate) ids: Vec<u64>,
}

impl Feed {
    /// Sends what planning gathered for each peer, in as few requests as may be.
    pub(in crate::replicate) fn send_gathered(&mut self, cx: &mut Context<'_>) {
        let due: Vec<PeerId> = self
            .channels
            .iter()
            .filter(|(_, channel)| !channel.gathered.is_empty())
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            let Some(channel) = self.channels.get_mut(&peer) else {
                continue;
            };
            let mut gathered = &std::mem::take(&mut channel.gathered)[..];
            while let Some(first) = gathered.first() {
                let (these, later) = gathered.split_at(self.fitting(gathered));
                gathered = later;
                match (these.len() > 1).then(|| join(these)).flatten() {
                    Some(asked) => self.send_set(cx, peer, asked, first),
                    None => these
                        .iter()
                        .for_each(|one| cx.outputs.push_back(self.send(peer, one.alone()))),
                }
            }
        }
    }

    /// Returns how many of the blocks will fit into one answer, at least one.
    fn fitting(&self, gathered: &[Gathered]) -> usize {
        let block_bytes = match self.block_bytes {
            Some(_) => self.expected_block_bytes(),
            None => SET_BLOCK_BYTES_ASSUMED,
        };
        let (mut bytes, first) = (0, gathered.first());
        let fits = gathered.iter().take(SET_BLOCKS_MAX).take_while(|one| {
            bytes += block_bytes + SET_NODE_BYTES * one.nodes as usize;
            bytes <= SET_BYTES && first.is_some_and(|first| one.is_like(first))
        });
        fits.count().max(1)
    }

    fn send_set(&mut self, cx: &mut Context<'_>, to: PeerId, asked: AskedSet, like: &Gathered) {
        let (Some(channel), Some(known)) = (self.channels.get_mut(&to), cx.peers.get_mut(&to))
        else {
            return;
        };
        known.last_set += 1;
        let request = SetRequest {
            id: known.last_set,
            fork: like.fork,
            is_urgent: like.is_urgent,
            set: asked.set.clone(),
        };
        channel.sets.insert(request.id, asked);
        cx.outputs.push_back(Output::SendKinlog {
            peer: to,
            key: self.key,
            message: FeedMessage::AskSet(request),
            urgent: true,
        });
    }

    /// The answer to a set.
    pub(in crate::replicate) fn handle_set(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        answer: SetAnswer,
    ) -> Result<(), ProtocolViolation> {
        let (key, request) = (self.key, answer.id);
        let Some(channel) = self.channels.get_mut(&peer) else {
            return Ok(());
        };
        let Some(AskedSet { set, ids }) = channel.sets.remove(&request) else {
            let is_late = channel.late_sets.remove(&request) || request <= channel.first_set;
            return if is_late {
                Ok(())
            } else {
                count_unasked(cx, peer)
            };
        };
        let brought = answer.values.len().min(ids.len());
        let mut order = None;
        let mut others = Vec::new();
        for (number, (block, id)) in set.blocks().zip(ids).enumerate() {
            let Some(channel) = self.channels.get_mut(&peer) else {
                return Ok(());
            };
            // One that was taken back meanwhile comes as well as any; it may have come from elsewhere.
            let Ok(asked) = channel.answer(cx.now, id) else {
                continue;
            };
            let value = answer.values.get(number).map_or(0, Bytes::len);
            let known = cx.peers.get_mut(&peer);
            if let Some(known) = known.filter(|_| number < brought) {
                let bytes = value.max(BLOCK_BYTES_COUNTED_MIN);
                known
                    .pace
                    .arrives(cx.now, asked.sent, asked.departure, bytes);
            }
            cx.flow.done(cx.peers.get_mut(&peer), &asked);
            if number < brought && asked.fork == answer.fork {
                self.end_hedge(cx, peer, block);
                order = Some(order.unwrap_or(asked.order).min(asked.order));
            } else {
                others.push((block, asked));
            }
        }
        self.reopen(peer, brought == 0, &others);
        let Some(order) = order else {
            return Ok(()); // nothing came, or nothing that is still to come
        };
        let fork = answer.fork;
        let Some(blocks) = answer.into_proof(&set) else {
            set.blocks()
                .take(brought)
                .for_each(|block| self.release(block));
            return Err(ProtocolViolation::WrongAnswer { key, request });
        };
        let proof = Proof {
            fork,
            blocks: Some(Box::new(blocks)),
            ..Proof::default()
        };
        self.receive_set(cx, peer, order, proof)
    }

    /// Blocks of a set that did not come: the peer lacks the first, or they did not fit.
    fn reopen(&mut self, peer: PeerId, lacks_first: bool, blocks: &[(u64, Asked)]) {
        for (number, (block, asked)) in blocks.iter().enumerate() {
            if number == 0 && lacks_first {
                self.decline(peer, asked);
            } else if !(self.hedged.remove(block) && self.is_asked(*block)) {
                self.release(*block);
            }
        }
    }

    fn receive_set(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        order: u64,
        proof: Proof,
    ) -> Result<(), ProtocolViolation> {
        let Some(blocks) = proof.blocks.as_deref().filter(|_| !self.stopped) else {
            return Ok(());
        };
        let limit = self.block_bytes_max();
        let sizes = blocks.values.iter().map(Bytes::len);
        let too_large = blocks
            .set
            .blocks()
            .zip(sizes)
            .find(|(_, size)| *size > limit);
        if let Some((block, actual)) = too_large {
            blocks.set.blocks().for_each(|block| self.release(block));
            return self.refuse_block(cx, peer, What::Block(block), actual, limit);
        }
        let mut bytes = 0;
        for value in &blocks.values {
            self.received += 1;
            self.learn_size(value.len());
            bytes += value.len() + SET_BLOCK_BYTES_COUNTED;
        }
        let what = What::Block(blocks.set.blocks().next().unwrap_or_default());
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
                proof,
                manifest: None,
            },
        });
        Ok(())
    }
}

impl Gathered {
    /// Returns whether both can be asked for in one request.
    fn is_like(&self, other: &Gathered) -> bool {
        self.fork == other.fork && self.is_urgent == other.is_urgent
    }

    /// Returns the request for this block alone.
    fn alone(&self) -> Message {
        let block = BlockRequest {
            index: self.block,
            nodes: self.nodes,
        };
        Message::Request(Request {
            id: self.id,
            fork: self.fork,
            proof: ProofRequest {
                block: Some(block),
                ..ProofRequest::default()
            },
            manifest: false,
            priority: u64::from(self.is_urgent),
        })
    }
}

/// Joins blocks to a set. A block that leads to a node which others of the set prove belongs to their
/// group; `None` when they do not make up a set.
fn join(gathered: &[Gathered]) -> Option<AskedSet> {
    let mut tops: Vec<(u64, u64)> = Vec::new();
    let span = |(depth, number): (u64, u64)| (number << depth)..(number + 1) << depth;
    for one in gathered {
        let known = tops.iter().rev().any(|top| span(*top).contains(&one.block));
        if !known {
            tops.push((one.nodes, one.block >> one.nodes));
        }
    }
    tops.sort_by_key(|top| span(*top).start);
    let mut blocks: Vec<(u64, u64)> = gathered.iter().map(|one| (one.block, one.id)).collect();
    blocks.sort_unstable();
    let mut rest = &blocks[..];
    let mut groups = Vec::with_capacity(tops.len());
    for top in tops {
        let below = span(top);
        let (these, later) = rest.split_at(rest.partition_point(|(block, _)| *block < below.end));
        rest = later;
        let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
        for (block, _) in these {
            match runs.last_mut() {
                Some(run) if run.end == *block => run.end += 1,
                _ => runs.push(*block..*block + 1),
            }
        }
        groups.push(Group::new(top.0, runs)?);
    }
    let set = BlockSet::new(groups)?;
    let ids = blocks.into_iter().map(|(_, id)| id).collect();
    Some(AskedSet { set, ids })
}

impl crate::replicate::channel::Channel {
    /// Forgets sets of which no block is awaited any more; what still comes of them is late.
    pub(in crate::replicate) fn forget_sets(&mut self) {
        let (asked, late) = (&self.asked, &mut self.late_sets);
        self.sets.retain(|id, set| {
            let awaited = set.ids.iter().any(|id| asked.contains_key(id));
            if !awaited {
                late.insert(*id);
            }
            awaited
        });
        while late.len() > LATE_SETS_MAX {
            late.pop_first();
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // groups of one run
mod tests {
    use super::*;

    fn gathered(blocks: &[(u64, u64)]) -> Vec<Gathered> {
        let numbered = (1..).zip(blocks);
        let one = |(id, (block, nodes)): (u64, &(u64, u64))| Gathered {
            id,
            block: *block,
            nodes: *nodes,
            fork: 0,
            is_urgent: false,
        };
        numbered.map(one).collect()
    }

    #[test]
    fn blocks_that_lead_to_what_others_prove_are_in_their_group() {
        // In a tree of 16 blocks of which none is known, then block 20 below a known node.
        let asked = join(&gathered(&[(5, 4), (4, 0), (6, 1), (20, 2), (7, 0)])).unwrap();
        let groups: Vec<(u64, Vec<_>)> = asked
            .set
            .groups()
            .iter()
            .map(|group| (group.depth(), group.runs().to_vec()))
            .collect();
        assert_eq!(groups, [(4, Vec::from([4..8])), (2, Vec::from([20..21]))]);
        assert_eq!(asked.ids, [2, 1, 3, 5, 4]);
    }

    #[test]
    fn blocks_that_are_no_set_are_asked_for_one_by_one() {
        assert!(
            join(&gathered(&[(5, 0), (4, 3)])).is_none(),
            "one top above the other"
        );
        assert!(
            join(&gathered(&[(5, 0), (5, 0)])).is_none(),
            "the same twice"
        );
    }
}
