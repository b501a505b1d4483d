//! What stops a feed for ever: the proof that its writer contradicted itself.

use bytes::Bytes;

use crate::conflict::{ConflictProof, Contradiction};
use crate::crypto::FeedKey;
use crate::replicate::Incoming;
use crate::store::apply::NoNodes;
use crate::store::body::Body;
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::feed::Feed;
use crate::store::heads::Heads;
use crate::store::log::Commit;
use crate::store::mistake::Mistake;
use crate::store::state::{FeedEntry, Kind};
use crate::tree::{self, Head, Verified, VerifyError};

/// Why a proof does not stop a feed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepConflictError {
    /// It is about another feed.
    #[error("the proof is about feed {actual}, not {expected}")]
    OtherFeed {
        /// The feed.
        expected: FeedKey,
        /// The proof's.
        actual: FeedKey,
    },
    /// Heads of two forks are no conflict on a plain feed: it was truncated.
    #[error("feed {feed} is a plain feed, and may have heads of several forks")]
    MayFork {
        /// The feed.
        feed: FeedKey,
    },
    /// The disk's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Feed {
    /// Returns whether the feed was stopped by a conflict: nothing is added to it any more.
    pub fn is_stopped(&self) -> bool {
        self.entry.read().conflict.is_some()
    }

    /// Returns the proof of the conflict that stopped the feed.
    ///
    /// # Errors
    ///
    /// Damage of the record that holds it: the feed stays stopped.
    pub fn conflict(&self) -> Result<Option<ConflictProof>, StoreError> {
        self.conflict_from(&self.inner.heads)
    }

    pub(super) fn conflict_from(&self, heads: &Heads) -> Result<Option<ConflictProof>, StoreError> {
        let Some(place) = self.entry.read().conflict else {
            return Ok(None);
        };
        let head = heads.get(place)?;
        let proof = match &head.body {
            Body::Conflict { proof } if head.header.feed == self.entry.number => {
                ConflictProof::decode(proof).ok()
            }
            _ => None,
        };
        match proof.filter(|proof| proof.feed() == self.key()) {
            Some(proof) => Ok(Some(proof)),
            None => Err(Damage {
                place,
                what: DamageKind::Index,
            }
            .into()),
        }
    }

    /// Keeps a proof that somebody else found, durably, and stops the feed; returns whether it was
    /// not stopped before. A proof that is kept is never replaced.
    pub fn keep_conflict(&self, proof: &ConflictProof) -> Result<bool, KeepConflictError> {
        let (expected, actual) = (self.key(), proof.feed());
        if expected != actual {
            return Err(KeepConflictError::OtherFeed { expected, actual });
        }
        if self.kind() == Kind::Plain && proof.contradiction() == Contradiction::Fork {
            return Err(KeepConflictError::MayFork { feed: expected });
        }
        let mut writer = self.live_writer()?;
        if self.is_stopped() {
            return Ok(false);
        }
        self.tell_guard_of(self.foreign_length(proof));
        writer.settle(&self.inner.log)?;
        let ticket = self.inner.log.submit(vec![self.commit_conflict(proof)])?;
        writer.ticket = ticket.clone();
        self.inner.log.wait(&ticket)?;
        Ok(true)
    }

    /// Compares two histories that were shown from nothing, where what is held can be compared with
    /// neither; if they contradict each other, keeps the proof and stops the feed.
    ///
    /// Returns whether the feed is stopped. What does not verify contradicts nothing.
    pub fn contest(&self, [one, other]: &[Incoming; 2]) -> Result<bool, StoreError> {
        let Some(known) = self.entry.read().manifest.clone() else {
            return Ok(self.is_stopped());
        };
        let verify = |head: &Head, shown: &Incoming| {
            tree::verify(head, &NoNodes, &known.verifier, &shown.proof)
        };
        let first = Head {
            fork: one.proof.fork,
            ..Head::default()
        };
        let Ok(Verified {
            upgrade: Some(ours),
            ..
        }) = verify(&first, one)
        else {
            return Ok(self.is_stopped());
        };
        let Err(VerifyError::Conflict(conflict)) = verify(&ours.head, other) else {
            return Ok(self.is_stopped());
        };
        let (feed, manifest) = (self.key(), &known.manifest);
        let made = ConflictProof::between(feed, manifest, Some(&ours), &NoNodes, &conflict)?;
        match made.map(|proof| self.keep_conflict(&proof)) {
            Some(Err(KeepConflictError::Store(error))) => Err(error),
            _ => Ok(self.is_stopped()),
        }
    }

    /// Returns the length of the longest head of a proof that is not the one held.
    pub(super) fn foreign_length(&self, proof: &ConflictProof) -> u64 {
        let ours = self.entry.read().signed.clone();
        let foreign = proof
            .heads()
            .into_iter()
            .filter(|signed| ours.as_deref() != Some(*signed));
        foreign.map(|signed| signed.head.length).max().unwrap_or(0)
    }

    /// Puts a proof into the form that the log takes.
    pub(super) fn commit_conflict(&self, proof: &ConflictProof) -> Commit {
        let body = match self.inner.options.makes(Mistake::ForgetConflict) {
            true => Body::Cleared { ranges: Vec::new() },
            false => Body::Conflict {
                proof: Bytes::from(proof.encode()),
            },
        };
        let entry = self.entry.clone();
        let publish = Box::new(move |place| entry.stop(place));
        self.inner.commit(&body, self.entry.number, publish)
    }
}

impl FeedEntry {
    /// The record at `place` stops the feed, unless an earlier one did.
    pub(super) fn stop(&self, place: Place) {
        self.write().conflict.get_or_insert(place);
    }
}
