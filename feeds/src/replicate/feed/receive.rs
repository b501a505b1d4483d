//! Answers of peers: what is taken to be stored, and what is refused.

use crate::limits::{
    BLOCK_BYTES_COUNTED_MIN, OVERSIZE_BLOCKS_MAX, PROOF_BYTES_COUNTED, UNSOLICITED_DATA_MAX,
};
use crate::replicate::channel::What;
use crate::replicate::feed::{Feed, Item, Origin};
use crate::replicate::flow::Context;
use crate::replicate::{Incoming, PeerId, ProtocolViolation};
use crate::tree::UpgradeProof;
use crate::wire::hypercore::Data;

impl Feed {
    /// An answer with data.
    pub(in crate::replicate) fn handle_data(
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
        if data.request == 0 && data.proof.block.is_some() {
            return self.handle_push(cx, peer, data);
        }
        count_unasked(cx, peer)
    }

    pub(super) fn receive(
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
        let limit = self.block_bytes_max();
        let value_bytes = data
            .proof
            .block
            .as_ref()
            .map_or(0, |block| block.value.len());
        if value_bytes > limit {
            return self.refuse_block(cx, peer, what, value_bytes, limit);
        }
        if what.block().is_some() {
            self.received += 1;
            self.learn_size(value_bytes);
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

    pub(super) fn refuse_block(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        what: What,
        actual: usize,
        limit: usize,
    ) -> Result<(), ProtocolViolation> {
        let Some(block) = what.block() else {
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

    /// Returns whether the block has come and is not stored yet.
    pub(super) fn is_received(&self, block: u64) -> bool {
        let applying = self.applying.iter();
        let applying = applying.flat_map(|applying| applying.items.iter());
        let waiting = self.incoming.iter().chain(&self.parked);
        let mut all = applying.chain(waiting.map(|item| &item.incoming));
        all.any(|incoming| incoming.blocks().any(|one| one == block))
    }
}

/// Counts data that nobody asked for; so much of it costs the sender its connection.
pub(super) fn count_unasked(cx: &mut Context<'_>, peer: PeerId) -> Result<(), ProtocolViolation> {
    let Some(peer) = cx.peers.get_mut(&peer) else {
        return Ok(());
    };
    peer.unsolicited += 1;
    let count = peer.unsolicited;
    if count > UNSOLICITED_DATA_MAX {
        return Err(ProtocolViolation::UnsolicitedData { count });
    }
    Ok(())
}
