//! Second histories of a feed: noticed by comparing heads, told from lies by asking for the way from
//! nothing, and passed on as a proof to every peer of the feed that speaks Kinlog.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::crypto::Hash;
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::{CONFLICT_PROOF_BYTES_MAX, UNANCHORED_PROOFS_MAX};
use crate::replicate::channel::{Asked, What};
use crate::replicate::feed::{Feed, Origin};
use crate::replicate::flow::Context;
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::{
    ApplyFailure, FeedEvent, FeedKind, Incoming, Output, PeerId, ProtocolViolation,
};
use crate::tree::{ProofRequest, UpgradeRequest};
use crate::wire::hypercore::{Message, Request};

/// Name of the extension message that says which tree the sender has: fork, length, tree hash. Only
/// Kinlog peers are told; a difference is looked into before it is believed.
pub(super) const HEAD_EXTENSION: &[u8] = b"kinlog/head";

/// Name of the extension message that carries a
/// [`ConflictProof`](crate::conflict::ConflictProof). Only Kinlog peers are told.
pub(super) const CONFLICT_EXTENSION: &[u8] = b"kinlog/conflict";

/// A history that could not be compared with ours.
#[derive(Debug)]
pub(super) struct Contender {
    peer: PeerId,
    /// Length to which it was asked for.
    length: u64,
    shown: Incoming,
    /// Those here who were asked for the way to that length, or showed it.
    asked: BTreeSet<PeerId>,
}

impl Feed {
    /// The peer speaks Kinlog: it is told what stopped the feed.
    pub(super) fn handle_kinlog(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.is_kinlog = true;
        }
        self.pass_on(cx);
        self.tell_heads(cx);
    }

    /// Tells peers which tree we have, where neither side would find a difference by itself: they
    /// are as long as we are, or longer and not followed. Who gets its head from the other one
    /// checks it against its own tree anyway.
    pub(super) fn tell_heads(&mut self, cx: &mut Context<'_>) {
        if self.stopped || self.length == 0 || self.withheld {
            return;
        }
        let follows = self.interest.live || self.head_wanted;
        for (peer, channel) in &mut self.channels {
            let tells = channel.is_kinlog && !channel.shown.is_nothing();
            let Some(remote) = channel.remote.filter(|_| tells) else {
                continue;
            };
            let unseen = remote.length == self.length || (remote.length > self.length && !follows);
            if remote.fork != self.fork || !unseen || channel.head_told >= self.length {
                continue;
            }
            channel.head_told = self.length;
            let mut payload = Vec::with_capacity(50);
            payload.put_uint(self.fork);
            payload.put_uint(self.length);
            payload.put_raw(&self.tree_hash.0);
            let message = Message::Extension {
                name: Bytes::from_static(HEAD_EXTENSION),
                payload: payload.into(),
            };
            let (peer, key) = (*peer, self.key);
            cx.outputs.push_back(Output::Send {
                peer,
                key,
                message,
                urgent: true,
            });
        }
    }

    /// The peer says which tree it has. One that is not longer than ours is compared; a shorter one
    /// by its nodes, as its writer's head is not kept here.
    pub(super) fn handle_head(&mut self, cx: &mut Context<'_>, peer: PeerId, payload: &[u8]) {
        let Ok((fork, length, tree_hash)) = decode_head(payload) else {
            return;
        };
        let same = length == self.length && tree_hash == self.tree_hash;
        if fork == self.fork && (1..=self.length).contains(&length) && !same {
            self.look(cx, peer, What::Look, fork, length);
        }
    }

    /// A peer on a fork above 0 of a feed that has fork 0 for ever shows a conflict.
    pub(super) fn look_at_forks(&mut self, cx: &mut Context<'_>) {
        if self.kind != FeedKind::Kinlog {
            return;
        }
        let due: Vec<_> = self
            .channels
            .iter()
            .filter_map(|(peer, channel)| {
                let remote = channel.remote.as_ref()?;
                let news = remote.fork > channel.fork_seen && remote.length > 0;
                news.then_some((*peer, remote.fork, remote.length))
            })
            .collect();
        for (peer, fork, length) in due {
            if self.look(cx, peer, What::Look, fork, length)
                && let Some(channel) = self.channels.get_mut(&peer)
            {
                channel.fork_seen = fork;
            }
        }
    }

    /// Asks peers of a feed that is withheld for heads that are not longer than ours: a longer one is
    /// asked for anyway, and whoever has one of another history would be shown ours first.
    pub(super) fn look_while_withheld(&mut self, cx: &mut Context<'_>) {
        if !self.withheld {
            return;
        }
        let due: Vec<_> = self
            .channels
            .iter()
            .filter_map(|(peer, channel)| {
                let remote = channel.remote.as_ref()?;
                let is_due = remote.fork == self.fork
                    && remote.length > channel.looked_at
                    && remote.length <= self.length;
                is_due.then_some((*peer, remote.fork, remote.length))
            })
            .collect();
        for (peer, fork, length) in due {
            if self.look(cx, peer, What::Look, fork, length)
                && let Some(channel) = self.channels.get_mut(&peer)
            {
                channel.looked_at = length;
            }
        }
    }

    /// Asks the peer, whose data does not fit our tree, for the way to our length: another history
    /// shows itself there, a liar does not. Returns whether the question is on its way.
    pub(super) fn accuse(&mut self, cx: &mut Context<'_>, peer: PeerId) -> bool {
        let Some(channel) = self.channels.get(&peer) else {
            return false;
        };
        let length = match channel.accused_again {
            true => channel.remote_length(),
            false => self.length.min(channel.remote_length()),
        };
        self.look(cx, peer, What::Probe, self.fork, length)
    }

    /// Asks for the way from nothing to `length`.
    fn look(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        what: What,
        fork: u64,
        length: u64,
    ) -> bool {
        let (key, stopped) = (self.key, self.stopped);
        let manifest = !self.manifest_known;
        let Some(channel) = self.channels.get_mut(&peer) else {
            return false;
        };
        if stopped || length == 0 {
            return false;
        }
        if channel.probing.is_some() {
            // One answer tells all; a peer that is accused meanwhile has to give it.
            if what == What::Probe {
                channel.accuse();
            }
            return true;
        }
        channel.probing = Some(what);
        let known = cx.peers.get_mut(&peer);
        let departure = known.map(|known| cx.flow.asked(cx.now, known, 0));
        let id = channel.ask(Asked {
            what,
            bytes: 0,
            sent: cx.now,
            order: cx.flow.next_order(),
            fork,
            departure: departure.unwrap_or_default(),
            hedged: false,
            in_set: false,
        });
        let upgrade = Some(UpgradeRequest { start: 0, length });
        let proof = ProofRequest {
            upgrade,
            ..ProofRequest::default()
        };
        let message = Message::Request(Request {
            id,
            fork,
            proof,
            manifest,
            priority: 0,
        });
        cx.outputs.push_back(Output::Send {
            peer,
            key,
            message,
            urgent: true,
        });
        true
    }

    /// Compares what the peer showed with a history that could not be compared with ours. That one stays
    /// what others are compared with if this one cannot be compared with ours either: both are signed,
    /// and whoever is in line with it need not be compared with this one, too.
    pub(super) fn contest(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        incoming: &Incoming,
        failure: ApplyFailure,
    ) {
        let key = self.key;
        let is_rival =
            |first: &&mut Contender| first.peer != peer && first.length == shown_length(incoming);
        let Some(first) = self.contender.as_mut().filter(is_rival) else {
            return;
        };
        first.asked.insert(peer);
        let shown = Box::new([first.shown.clone(), incoming.clone()]);
        cx.outputs.push_back(Output::Contest { key, shown });
        if failure != ApplyFailure::Unlinked {
            self.contender = None;
        }
    }

    /// Ours cannot be compared with what the peer showed, for want of nodes at its length: whoever
    /// has them is asked for the same way, to compare the two.
    pub(super) fn handle_unlinked(
        &mut self,
        origin: &Origin,
        incoming: &Incoming,
    ) -> Option<(PeerId, ProtocolViolation)> {
        let (key, peer) = (self.key, origin.peer);
        if self
            .contender
            .as_ref()
            .is_none_or(|first| first.peer == peer)
        {
            self.contender = Some(Contender {
                peer,
                length: shown_length(incoming),
                shown: incoming.clone(),
                asked: BTreeSet::new(),
            });
        }
        if origin.what != What::Probe {
            return None;
        }
        // It may be right, and is of no use here; often is too often.
        let channel = self.channels.get_mut(&peer)?;
        channel.unanchored += 1;
        let count = channel.unanchored;
        (count > UNANCHORED_PROOFS_MAX)
            .then_some((peer, ProtocolViolation::Unanchored { key, count }))
    }

    /// Asks peers whose head is long enough for the way to the length of a history that could not be
    /// compared with ours, each once.
    pub(super) fn seek_rival(&mut self, cx: &mut Context<'_>) {
        let Some(contender) = &self.contender else {
            return;
        };
        let (length, fork) = (contender.length, self.fork);
        let rival = self.channels.iter().find(|(peer, channel)| {
            let usable = channel.is_usable(cx.now, fork) && channel.probing.is_none();
            let is_new = **peer != contender.peer && !contender.asked.contains(peer);
            is_new && usable && channel.remote_length() >= length
        });
        let Some(peer) = rival.map(|(peer, _)| *peer) else {
            return;
        };
        if self.look(cx, peer, What::Look, fork, length)
            && let Some(contender) = &mut self.contender
        {
            contender
                .asked
                .retain(|peer| self.channels.contains_key(peer));
            contender.asked.insert(peer);
        }
    }

    /// The peer gives no answer to a question of ours: if it was accused, that is one.
    pub(super) fn unanswered(&mut self, peer: PeerId) {
        let probing = self
            .channels
            .get_mut(&peer)
            .and_then(|channel| channel.probing.take());
        let Some(channel) = self.channels.get_mut(&peer) else {
            return;
        };
        if probing != Some(What::Probe) {
            return;
        }
        // Who holds a few blocks only may lack nodes at our length, but none of its own roots.
        if !std::mem::replace(&mut channel.accused_again, true) {
            return;
        }
        let (key, block) = (self.key, None);
        self.convicted
            .push((peer, ProtocolViolation::BadData { key, block }));
    }

    /// A proof of a peer, for the store to check. One at a time, and none once the feed is stopped.
    pub(super) fn handle_proof(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        proof: Bytes,
    ) -> Result<(), ProtocolViolation> {
        let key = self.key;
        let Some(channel) = self.channels.get_mut(&peer) else {
            return Ok(());
        };
        if proof.len() > CONFLICT_PROOF_BYTES_MAX {
            return Err(ProtocolViolation::BadConflict { key });
        }
        let waits = std::mem::replace(&mut channel.knows_conflict, true);
        if self.conflict.is_none() && !waits {
            cx.outputs
                .push_back(Output::KeepConflict { peer, key, proof });
        }
        Ok(())
    }

    /// The feed is stopped, durably: everybody who can be told is told.
    pub(super) fn handle_conflict(&mut self, cx: &mut Context<'_>, proof: Bytes) {
        if self.conflict.is_none() {
            self.conflict = Some(proof);
            self.stop(cx, FeedEvent::Conflict);
        }
        self.pass_on(cx);
    }

    pub(super) fn pass_on(&mut self, cx: &mut Context<'_>) {
        // The proof holds our head, which is shown to nobody while the feed is withheld.
        let Some(proof) = self.conflict.as_ref().filter(|_| !self.withheld) else {
            return;
        };
        for (peer, channel) in &mut self.channels {
            let is_told = !makes(Mistake::ProofUntold) && channel.is_kinlog;
            if !is_told || channel.knows_conflict || channel.shown.is_nothing() {
                continue;
            }
            channel.knows_conflict = true;
            let message = Message::Extension {
                name: Bytes::from_static(CONFLICT_EXTENSION),
                payload: proof.clone(),
            };
            let (peer, key) = (*peer, self.key);
            cx.outputs.push_back(Output::Send {
                peer,
                key,
                message,
                urgent: true,
            });
        }
    }
}

fn shown_length(incoming: &Incoming) -> u64 {
    let upgrade = incoming.proof.upgrade.as_ref();
    upgrade.map_or(0, |upgrade| upgrade.length)
}

fn decode_head(payload: &[u8]) -> Result<(u64, u64, Hash), DecodeError> {
    let mut reader = Reader::new(payload);
    Ok((reader.uint()?, reader.uint()?, Hash(reader.fixed()?)))
}
