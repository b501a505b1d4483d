//! Making a plain feed shorter: by its own writer, or following the writer onto another fork.
//!
//! Both are one record: the length up to which the old tree stays, the nodes that lead from there to
//! the new head, and that head. What is behind is gone with it, or nothing is.

use std::ops::Range;
use std::sync::Arc;

use crate::conflict::ConflictProof;
use crate::crypto::{FeedKey, KeyPair};
use crate::replicate::{Incoming, Reorg, ReorgStep};
use crate::store::SignRefused;
use crate::store::apply::NoNodes;
use crate::store::body::{Body, Filled, StoredHead};
use crate::store::error::{ApplyError, Place, StoreError};
use crate::store::feed::Feed;
use crate::store::heads::Heads;
use crate::store::index::{NodeRef, completed_by};
use crate::store::publish::Freed;
use crate::store::state::{FeedEntry, FeedWriter, Kind, KnownManifest};
use crate::tree::{self, Fault, Head, Node, SignedHead, VerifyError, root_indexes};

/// Why a feed is not truncated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TruncateError {
    /// The feed has fork 0 for ever: readers would find two histories, and stop.
    #[error("feed {feed} is no plain feed: what is appended to it stays")]
    NotPlain {
        /// The feed.
        feed: FeedKey,
    },
    /// The feed is not that long.
    #[error("feed {feed} has {actual} blocks, not {length}")]
    TooShort {
        /// The feed.
        feed: FeedKey,
        /// Length asked for.
        length: u64,
        /// Its length.
        actual: u64,
    },
    /// The key is not a signer of the feed.
    #[error("feed {feed}: the key given does not sign this feed")]
    NotWritable {
        /// The feed.
        feed: FeedKey,
    },
    /// A tree node at the new length is not held.
    #[error("feed {feed}: the tree at length {length} is not held")]
    NotHeld {
        /// The feed.
        feed: FeedKey,
        /// Length asked for.
        length: u64,
    },
    /// Whoever owns the store does not allow a signature.
    #[error("feed {feed} is not signed")]
    Refused {
        /// The feed.
        feed: FeedKey,
        /// Why.
        #[source]
        refused: SignRefused,
    },
    /// Its writer contradicted itself: nothing of the feed changes any more.
    #[error("feed {feed} is stopped by a conflict: {proof}")]
    Conflict {
        /// The feed.
        feed: FeedKey,
        /// Both heads, for anybody to check.
        proof: Box<ConflictProof>,
    },
    /// The disk's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Feed {
    /// Cuts a plain feed to its first `length` blocks and signs that as the next fork; durable on
    /// return. Readers follow, as those of any Hypercore do.
    ///
    /// # Errors
    ///
    /// [`TruncateError::NotPlain`] for feeds that have fork 0 for ever.
    pub fn truncate(&self, signer: &KeyPair, length: u64) -> Result<SignedHead, TruncateError> {
        let feed = self.key();
        if self.kind() != Kind::Plain {
            return Err(TruncateError::NotPlain { feed });
        }
        let known = self.entry.read().manifest.clone();
        let known = known.ok_or(TruncateError::NotWritable { feed })?;
        let mut writer = self.live_writer()?;
        if let Some(proof) = self.conflict()? {
            let proof = Box::new(proof);
            return Err(TruncateError::Conflict { feed, proof });
        }
        writer.settle(&self.inner.log)?;
        let head = self.entry.head();
        if length > head.length {
            let actual = head.length;
            return Err(TruncateError::TooShort {
                feed,
                length,
                actual,
            });
        }
        let held = Held { feed: self, head };
        let Some(tree) = held.tree_at(length)? else {
            return Err(TruncateError::NotHeld { feed, length });
        };
        self.ask_guard()
            .map_err(|refused| TruncateError::Refused { feed, refused })?;
        let head = Head {
            fork: held.head.fork + 1,
            ..tree
        };
        let tree_hash = head.tree_hash();
        let signature = known
            .verifier
            .sign(signer, &tree_hash, length, head.fork)
            .map_err(|_| TruncateError::NotWritable { feed })?;
        let signed = SignedHead {
            head,
            tree_hash,
            signature,
        };
        self.cut(&mut writer, length, Vec::new(), signed.clone())?;
        drop(writer);
        self.inner.checkpoint_if_due();
        Ok(signed)
    }

    /// Takes an answer of a peer that is on a higher fork, towards following it there.
    ///
    /// Each answer is the way from some length of ours to the peer's head; its signature holds only
    /// if the two trees are the same up to there. So the longest common beginning is found by
    /// halving, and with its answer the feed is cut there and takes the new head, in one commit.
    pub fn reorganise(
        &self,
        mut reorg: Reorg,
        answer: Incoming,
    ) -> Result<Result<ReorgStep, ApplyError>, StoreError> {
        let feed = self.key();
        let mut writer = self.live_writer()?;
        if let Some(proof) = self.conflict()? {
            let proof = Box::new(proof);
            return Ok(Err(ApplyError::Conflict { feed, proof }));
        }
        writer.settle(&self.inner.log)?;
        let held = Held {
            feed: self,
            head: self.entry.head(),
        };
        let (expected, actual) = (held.head.fork, reorg.fork());
        if self.kind() != Kind::Plain || actual <= expected {
            return Ok(Err(ApplyError::OtherFork {
                feed,
                expected,
                actual,
            }));
        }
        let Some(known) = self.entry.read().manifest.clone() else {
            return Ok(Err(ApplyError::ManifestUnknown { feed }));
        };
        let start = reorg.start();
        match held.verify(&known, &reorg, &answer)? {
            Ok((_, signed)) if start == 0 => {
                let shared = held.shared(&signed.head)?;
                if shared.start == signed.head.length {
                    return self.follow(&mut writer, shared.start, Vec::new(), signed);
                }
                reorg.agrees(signed.head.length, answer);
                reorg.lies_in(shared);
            }
            Ok((_, signed)) => reorg.agrees(signed.head.length, answer),
            Err(VerifyError::BadData {
                fault: Fault::Signature { .. },
                ..
            }) if reorg.may_differ() => reorg.differs(start),
            Err(error) => {
                return Ok(Err(ApplyError::BadData {
                    feed,
                    block: None,
                    reason: error.to_string(),
                    may_be_conflict: false,
                }));
            }
        }
        while let Some(next) = reorg.next() {
            // What is not known of our own tree cannot be compared.
            match held.tree_at(next)? {
                Some(_) => return Ok(Ok(ReorgStep::Ask(Box::new(reorg.ask(next))))),
                None => reorg.differs(next),
            }
        }
        let Some(best) = reorg.best().cloned() else {
            let common = reorg.common();
            return Ok(Ok(ReorgStep::Ask(Box::new(reorg.ask(common)))));
        };
        let common = reorg.common();
        match held.verify(&known, &reorg.ask(common), &best)? {
            Ok((nodes, signed)) => self.follow(&mut writer, common, nodes, signed),
            Err(_) => Ok(Err(ApplyError::Stale { feed })),
        }
    }

    /// Cuts the feed to `common` blocks and takes a head of another fork.
    fn follow(
        &self,
        writer: &mut FeedWriter,
        common: u64,
        nodes: Vec<Node>,
        signed: SignedHead,
    ) -> Result<Result<ReorgStep, ApplyError>, StoreError> {
        self.cut(writer, common, nodes, signed)?;
        Ok(Ok(ReorgStep::Done { common }))
    }

    /// Keeps the first `length` blocks, `nodes` and the head `signed`, durably.
    fn cut(
        &self,
        writer: &mut FeedWriter,
        length: u64,
        mut nodes: Vec<Node>,
        signed: SignedHead,
    ) -> Result<(), StoreError> {
        nodes.extend(&signed.head.roots);
        nodes.sort_unstable_by_key(|node| node.index);
        nodes.dedup_by_key(|node| node.index);
        let mut new = Vec::with_capacity(nodes.len());
        for node in nodes {
            let stays = completed_by(node.index) < length;
            if !stays || self.entry.find_node(node.index)?.is_none() {
                new.push(node);
            }
        }
        let filled = Filled {
            nodes: new,
            head: Some(StoredHead {
                fork: signed.head.fork,
                length: signed.head.length,
                tree_hash: signed.tree_hash,
                signature: signed.signature.clone(),
            }),
            ..Filled::default()
        };
        let freed = self.entry.freed_behind(&self.inner.heads, length)?;
        let head = signed.head.clone();
        let (entry, signed) = (self.entry.clone(), Arc::new(signed));
        let body = Body::Truncate {
            length,
            filled: filled.clone(),
        };
        let bytes = freed.bytes;
        let publish = Box::new(move |place| {
            entry.publish_truncated(place, length, &filled, Some(signed), bytes);
        });
        let commit = self.inner.commit(&body, self.entry.number, publish);
        let ticket = self.inner.log.submit(vec![commit])?;
        writer.head = Some(head);
        writer.ticket = ticket.clone();
        self.inner.log.wait(&ticket)?;
        self.inner.segments.add_freed(&freed);
        Ok(())
    }
}

/// What is held of a feed, before it is cut.
struct Held<'a> {
    feed: &'a Feed,
    head: Head,
}

type Checked = Result<(Vec<Node>, SignedHead), VerifyError<StoreError>>;

impl Held<'_> {
    /// Returns the tree of the first `length` blocks, `None` when its roots are not known.
    fn tree_at(&self, length: u64) -> Result<Option<Head>, StoreError> {
        if length > self.head.length {
            return Ok(None);
        }
        let mut roots = Vec::new();
        for index in root_indexes(length) {
            let Some(root) = self.node(index)? else {
                return Ok(None);
            };
            roots.push(root);
        }
        Ok(Head::from_roots(self.head.fork, roots))
    }

    fn node(&self, index: u64) -> Result<Option<Node>, StoreError> {
        match self.head.root(index) {
            Some(root) => Ok(Some(*root)),
            None => self.feed.entry.node(&self.feed.inner.heads, index),
        }
    }

    /// Verifies an answer as the way from our tree to the peer's head; the outer error is the disk's.
    fn verify(
        &self,
        known: &KnownManifest,
        reorg: &Reorg,
        answer: &Incoming,
    ) -> Result<Checked, StoreError> {
        let (start, fork) = (reorg.start(), reorg.fork());
        let Some(base) = self.tree_at(start)? else {
            let (length, ours) = (start, self.head.length);
            return Ok(Err(VerifyError::Unlinked { length, ours }));
        };
        let base = Head { fork, ..base };
        let is_the_way = answer
            .proof
            .upgrade
            .as_ref()
            .is_some_and(|upgrade| upgrade.start == start);
        let stale = VerifyError::Stale {
            start,
            length: reorg.length(),
            ours: self.head.length,
        };
        match tree::verify(&base, &NoNodes, &known.verifier, &answer.proof) {
            Err(VerifyError::Source(error)) => Err(error),
            Err(error) => Ok(Err(error)),
            Ok(verified) => Ok(match verified.upgrade {
                Some(signed) if is_the_way => Ok((verified.nodes, signed)),
                _ => Err(stale),
            }),
        }
    }

    /// Returns how much `other` and our tree have in common: at least the start of the range, and
    /// less than its end.
    fn shared(&self, other: &Head) -> Result<Range<u64>, StoreError> {
        let mut common = 0;
        for root in &other.roots {
            let own = self.node(root.index)?;
            let end = completed_by(root.index) + 1;
            match own {
                Some(own) if own.hash == root.hash => common = end,
                Some(_) if end <= self.head.length => return Ok(common..end),
                _ => break,
            }
        }
        Ok(common..(self.head.length + 1).min(other.length))
    }
}

impl FeedEntry {
    /// Returns the bytes of the blocks held from `length` on.
    pub(super) fn freed_behind(&self, heads: &Heads, length: u64) -> Result<Freed, StoreError> {
        self.freed(heads, &[(length, u64::MAX - length)])
    }

    /// Makes a truncation visible that stands at `record`: what was behind `length` is gone.
    pub(super) fn publish_truncated(
        &self,
        record: Place,
        length: u64,
        filled: &Filled,
        signed: Option<Arc<SignedHead>>,
        freed: u64,
    ) {
        let mut state = self.write();
        state.places.delta.truncate(length);
        state.forget_held(length..u64::MAX);
        state.bytes_held = state.bytes_held.saturating_sub(freed);
        for (ordinal, node) in (0..).zip(&filled.nodes) {
            let at = NodeRef::new(record, true, ordinal);
            state.places.delta.set_node(node.index, at);
        }
        state.set_head(signed, record);
    }
}
