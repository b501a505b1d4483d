//! Handing what arrived to the store, and what follows from its answer: the feed is longer, a proof has to
//! wait, somebody lied.

use std::ops::Range;
use std::sync::Arc;

use crate::limits::APPLY_BYTES_MAX;
use crate::replicate::channel::What;
use crate::replicate::feed::{Feed, Item, Origin};
use crate::replicate::flow::Context;
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::{
    Applied, ApplyFailure, ApplyId, FeedEvent, Incoming, Output, PeerId, ProtocolViolation,
};

/// What the store is verifying and writing.
#[derive(Debug)]
pub(super) struct Applying {
    pub(super) id: ApplyId,
    pub(super) items: Arc<Vec<Incoming>>,
    pub(super) origins: Vec<Origin>,
}

impl Feed {
    /// Gives the store everything that arrived, if it is not busy with this feed.
    pub(in crate::replicate) fn start_apply(
        &mut self,
        cx: &mut Context<'_>,
        next: &mut u64,
    ) -> Option<ApplyId> {
        if self.applying.is_some() || self.incoming.is_empty() || self.stopped {
            return None;
        }
        let mut arrived = std::mem::take(&mut self.incoming);
        // In the order of asking each proof finds the nodes that it was planned upon.
        arrived.sort_by_key(|item| item.origin.order);
        let mut bytes = 0;
        let fits = arrived
            .iter()
            .take_while(|item| {
                bytes += item.origin.bytes;
                bytes <= APPLY_BYTES_MAX
            })
            .count();
        self.incoming = arrived.split_off(fits.max(1));
        let mut origins = Vec::with_capacity(arrived.len());
        let mut items = Vec::with_capacity(arrived.len());
        for item in arrived {
            origins.push(item.origin);
            items.push(item.incoming);
        }
        if makes(Mistake::AnnouncedEarly) {
            let blocks = origins.iter().filter_map(|origin| match origin.what {
                What::Block(block) => Some(block),
                _ => None,
            });
            self.announce(cx, &join_runs(blocks.collect()));
        }
        let (items, key) = (Arc::new(items), self.key);
        let id = ApplyId(*next);
        *next += 1;
        cx.outputs.push_back(Output::Apply {
            id,
            key,
            items: Arc::clone(&items),
        });
        self.applying = Some(Applying { id, items, origins });
        Some(id)
    }

    /// The store's answer. Returns the peers that are to be cut.
    pub(in crate::replicate) fn handle_applied(
        &mut self,
        cx: &mut Context<'_>,
        id: ApplyId,
        results: Vec<Result<Applied, ApplyFailure>>,
    ) -> Vec<(PeerId, ProtocolViolation)> {
        let Some(Applying { items, origins, .. }) = self.applying.take_if(|apply| apply.id == id)
        else {
            return Vec::new();
        };
        let mut violations = Vec::new();
        let mut stored = Vec::new();
        let mut upgraded = false;
        let results = results.into_iter().map(Some).chain(std::iter::repeat(None));
        for ((origin, incoming), result) in origins.into_iter().zip(items.iter()).zip(results) {
            let mut result = result.unwrap_or(Err(ApplyFailure::Store));
            let is_of_this_fork = self.length == 0 || incoming.proof.fork == self.fork;
            if result == Err(ApplyFailure::MissingAnchor) && !is_of_this_fork {
                // We have moved to another fork meanwhile.
                result = Err(ApplyFailure::Stale);
            }
            if result != Err(ApplyFailure::MissingAnchor) {
                cx.flow.applied(origin.bytes);
                match origin.what {
                    What::Upgrade(_) => self.end_upgrade(origin.peer),
                    What::Probe | What::Look => self.end_probe(origin.peer),
                    What::Block(_) | What::Push(_) | What::Reorg => {}
                }
            }
            if let What::Push(_) = origin.what {
                self.end_pushed_head(origin.peer);
            }
            match result {
                Ok(applied) => {
                    stored.extend(now_held(&applied, incoming));
                    upgraded |= self.take_applied(&applied, incoming, origin.peer);
                }
                Err(ApplyFailure::MissingAnchor) => {
                    let parked_at = Some(origin.parked_at.unwrap_or(cx.now));
                    let origin = Origin {
                        parked_at,
                        ..origin
                    };
                    self.parked.push(Item {
                        origin,
                        incoming: incoming.clone(),
                    });
                }
                Err(failure) => {
                    violations.extend(self.handle_failure(cx, &origin, incoming, failure));
                }
            }
        }
        if upgraded {
            cx.outputs.push_back(self.event(FeedEvent::Upgraded {
                length: self.length,
            }));
            self.synchronize(cx);
        }
        let runs = join_runs(stored);
        for range in &runs {
            let range = range.clone();
            cx.outputs
                .push_back(self.event(FeedEvent::BlocksStored { range }));
        }
        self.announce(cx, &runs);
        if upgraded || !runs.is_empty() {
            self.incoming.append(&mut self.parked);
            self.told_nobody = None;
        }
        violations.extend(self.trim_parked(cx));
        violations
    }

    /// Takes note of what is durable now; returns whether the head is longer.
    fn take_applied(&mut self, applied: &Applied, incoming: &Incoming, from: PeerId) -> bool {
        for block in now_held(applied, incoming) {
            self.have.set(block, true);
            self.planned.set(block, true);
            self.retry.remove(&block);
        }
        self.manifest_known |= incoming.manifest.is_some();
        let Some(head) = applied.head.filter(|head| head.length > self.length) else {
            return false;
        };
        self.fork = head.fork;
        self.length = head.length;
        self.tree_hash = head.tree_hash;
        self.manifest_known = true;
        self.learn_block_bytes(&head);
        if let Some(channel) = self.channels.get_mut(&from) {
            channel.head_told = head.length;
        }
        self.told_complete = false;
        if !self.interest.live {
            self.head_wanted = false;
        }
        true
    }

    fn handle_failure(
        &mut self,
        cx: &mut Context<'_>,
        origin: &Origin,
        incoming: &Incoming,
        failure: ApplyFailure,
    ) -> Option<(PeerId, ProtocolViolation)> {
        let peer = origin.peer;
        let block = match origin.what {
            What::Block(block) | What::Push(block) => {
                incoming.blocks().for_each(|block| self.release(block));
                Some(block)
            }
            What::Upgrade(_) | What::Probe | What::Look | What::Reorg => None,
        };
        let bad = ProtocolViolation::BadData {
            key: self.key,
            block,
        };
        if origin.what.is_whole_history()
            && matches!(failure, ApplyFailure::Stale | ApplyFailure::Unlinked)
        {
            self.contest(cx, peer, incoming, failure);
        }
        match failure {
            ApplyFailure::MissingAnchor => None,
            ApplyFailure::BadData | ApplyFailure::OtherTree
                if self.is_push_without_ground(origin.what, incoming) =>
            {
                None
            }
            ApplyFailure::Unlinked if origin.what.is_whole_history() => {
                self.handle_unlinked(origin, incoming)
            }
            ApplyFailure::Stale if origin.what == What::Probe => Some((peer, bad)),
            // Somebody else brought it first, or the head has moved on.
            ApplyFailure::Stale | ApplyFailure::Unlinked => {
                if let What::Upgrade(_) = origin.what {
                    self.refuse_upgrades(peer);
                }
                None
            }
            ApplyFailure::OtherTree if !origin.what.is_whole_history() => {
                let asked = self.accuse(cx, peer);
                (!asked).then_some((peer, bad))
            }
            ApplyFailure::BadData | ApplyFailure::OtherTree => Some((peer, bad)),
            ApplyFailure::TooLarge => {
                if let (Some(block), Some(channel)) = (block, self.channels.get_mut(&peer)) {
                    channel.remote_have.set(block, false);
                }
                None
            }
            ApplyFailure::Conflict => {
                self.stop(cx, FeedEvent::Conflict);
                None
            }
            ApplyFailure::Store => {
                self.stop(cx, FeedEvent::StoreFailed);
                None
            }
        }
    }
}

/// Returns the blocks that are held now: the one that the store names, or all of a set.
fn now_held(applied: &Applied, incoming: &Incoming) -> impl Iterator<Item = u64> {
    let set = incoming.proof.blocks.iter();
    applied
        .block
        .into_iter()
        .chain(set.flat_map(|blocks| blocks.set.blocks()))
}

/// Returns the runs that the blocks make up.
fn join_runs(mut blocks: Vec<u64>) -> Vec<Range<u64>> {
    blocks.sort_unstable();
    let mut runs: Vec<Range<u64>> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some(run) if run.end >= block => run.end = run.end.max(block + 1),
            _ => runs.push(block..block + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_join_to_runs_in_any_order() {
        assert_eq!(join_runs(vec![4, 2, 3, 9, 3]), [2..5, 9..10]);
        assert!(join_runs(Vec::new()).is_empty());
    }
}
