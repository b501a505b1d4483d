//! Carrying out what a replicator asks of a store: what a driver does, without threads.

use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::Time;
use kinlog_feeds::conflict::ConflictProof;
use kinlog_feeds::replicate::{
    Applied, ApplyFailure, ApplyId, FeedKind, FeedState, HeadState, Incoming, NotAvailable, Output,
    PeerId, ReadId, Reorg, ReorgStep, Replicator,
};
use kinlog_feeds::store::{ApplyError, Feed, KeepConflictError, Kind, ProveError, StoreError};
use kinlog_feeds::tree::{BlockSet, Proof, ProofRequest};

/// Work for the store, as an [`Output`] asks for it.
#[derive(Debug)]
pub enum Work {
    /// Make a proof.
    Read {
        id: ReadId,
        key: FeedKey,
        request: ProofRequest,
        manifest: bool,
    },
    /// Prove a set of blocks.
    ReadSet {
        id: ReadId,
        key: FeedKey,
        set: BlockSet,
    },
    /// Verify and keep.
    Apply {
        id: ApplyId,
        key: FeedKey,
        items: Arc<Vec<Incoming>>,
    },
    /// Check and keep the proof of a conflict.
    Keep {
        peer: PeerId,
        key: FeedKey,
        proof: Bytes,
    },
    /// Follow a feed onto its fork.
    Reorganise {
        peer: PeerId,
        key: FeedKey,
        reorg: Box<Reorg>,
        answer: Box<Incoming>,
    },
    /// Compare two histories.
    Contest {
        key: FeedKey,
        shown: Box<[Incoming; 2]>,
    },
}

impl Work {
    /// Returns the work that an output asks for; any other output comes back.
    #[expect(clippy::result_large_err, reason = "the output comes back as it was")]
    pub fn of(output: Output) -> Result<Work, Output> {
        Ok(match output {
            Output::Read {
                id,
                key,
                request,
                manifest,
                ..
            } => Work::Read {
                id,
                key,
                request,
                manifest,
            },
            Output::ReadSet { id, key, set, .. } => Work::ReadSet { id, key, set },
            Output::Apply { id, key, items } => Work::Apply { id, key, items },
            Output::KeepConflict { peer, key, proof } => Work::Keep { peer, key, proof },
            Output::Reorganise {
                key,
                peer,
                reorg,
                answer,
            } => Work::Reorganise {
                peer,
                key,
                reorg,
                answer,
            },
            Output::Contest { key, shown } => Work::Contest { key, shown },
            other => return Err(other),
        })
    }

    /// Returns the feed that it is about.
    pub fn feed(&self) -> FeedKey {
        match self {
            Work::Read { key, .. }
            | Work::ReadSet { key, .. }
            | Work::Apply { key, .. }
            | Work::Keep { key, .. }
            | Work::Reorganise { key, .. }
            | Work::Contest { key, .. } => *key,
        }
    }

    /// Does it.
    pub fn carry_out(self, feed: &Feed) -> Done {
        let key = feed.key();
        let (mut conflict, mut failed) = (None, None);
        let what = match self {
            Work::Read {
                id,
                request,
                manifest,
                ..
            } => What::Read(id, prove(feed, &request, manifest)),
            Work::ReadSet { id, set, .. } => {
                let proof = feed.prove_blocks(&set).map(|proof| (proof, None));
                What::Read(id, proof.map_err(|_| NotAvailable::Missing))
            }
            Work::Apply { id, items, .. } => What::Apply {
                id,
                results: apply(feed, &items, &mut conflict, &mut failed),
            },
            Work::Reorganise {
                peer,
                reorg,
                answer,
                ..
            } => {
                let result = match feed.reorganise(*reorg, *answer) {
                    Ok(Ok(step)) => Ok(step),
                    Ok(Err(error)) => {
                        conflict = conflict_of(&error);
                        Err(failure(&error))
                    }
                    Err(error) => {
                        failed = Some(error);
                        Err(ApplyFailure::Store)
                    }
                };
                let head = HeadState::from(&feed.info());
                What::Reorganise { peer, result, head }
            }
            Work::Keep { peer, proof, .. } => {
                let mut is_bad = false;
                match ConflictProof::decode(&proof).map(|proof| feed.keep_conflict(&proof)) {
                    Ok(Ok(_)) => conflict = kept(feed),
                    Ok(Err(KeepConflictError::Store(error))) => failed = Some(error),
                    Ok(Err(KeepConflictError::MayFork { .. })) => {}
                    Err(_) | Ok(Err(_)) => is_bad = true,
                }
                What::Keep { peer, is_bad }
            }
            Work::Contest { shown, .. } => {
                match feed.contest(&shown) {
                    Ok(true) => conflict = kept(feed),
                    Ok(false) => {}
                    Err(error) => failed = Some(error),
                }
                What::Contest
            }
        };
        Done {
            key,
            what,
            conflict,
            failed,
        }
    }
}

/// What came of [`Work`].
#[derive(Debug)]
pub struct Done {
    /// Which feed it is about.
    pub key: FeedKey,
    /// The store refused it.
    pub failed: Option<StoreError>,
    what: What,
    /// The encoded proof that the feed is stopped by, where this found out.
    conflict: Option<Bytes>,
}

#[derive(Debug)]
enum What {
    Read(ReadId, Result<(Proof, Option<Bytes>), NotAvailable>),
    Apply {
        id: ApplyId,
        results: Vec<Result<Applied, ApplyFailure>>,
    },
    Reorganise {
        peer: PeerId,
        result: Result<ReorgStep, ApplyFailure>,
        head: HeadState,
    },
    Keep {
        peer: PeerId,
        is_bad: bool,
    },
    Contest,
}

impl Done {
    /// Returns what the store made of each item of an apply; nothing for other work.
    pub fn applied(&self) -> &[Result<Applied, ApplyFailure>] {
        match &self.what {
            What::Apply { results, .. } => results,
            _ => &[],
        }
    }

    /// Tells the replicator.
    pub fn tell(self, now: Time, replicator: &mut Replicator) {
        let key = self.key;
        if let Some(proof) = self.conflict {
            replicator.handle_conflict(now, &key, proof);
        }
        match self.what {
            What::Read(id, result) => replicator.handle_read(now, id, result),
            What::Apply { id, results } => replicator.handle_applied(now, id, results),
            What::Reorganise { peer, result, head } => {
                replicator.handle_reorganised(now, &key, peer, result, &head);
            }
            What::Keep { peer, is_bad: true } => replicator.handle_bad_conflict(now, peer, &key),
            What::Keep { .. } | What::Contest => {}
        }
    }
}

/// Returns what a replicator has to know of a feed of a store.
pub fn feed_state(feed: &Feed) -> FeedState {
    let info = feed.info();
    FeedState {
        kind: match feed.kind() {
            Kind::Plain => FeedKind::Plain,
            Kind::Kinlog => FeedKind::Kinlog,
        },
        manifest_known: feed.manifest().is_some(),
        head: HeadState::from(&info),
        have: feed.have(),
        conflict: kept(feed),
    }
}

fn kept(feed: &Feed) -> Option<Bytes> {
    let proof = feed.conflict().ok().flatten();
    proof.map(|proof| proof.encode().into())
}

fn prove(
    feed: &Feed,
    request: &ProofRequest,
    manifest: bool,
) -> Result<(Proof, Option<Bytes>), NotAvailable> {
    let proof = feed.prove(request).map_err(|error| match error {
        ProveError::InvalidRequest { .. } => NotAvailable::InvalidRequest,
        _ => NotAvailable::Missing,
    })?;
    let manifest = manifest.then(|| feed.manifest()).flatten();
    Ok((
        proof,
        manifest.map(|manifest| Bytes::from(manifest.encode())),
    ))
}

fn apply(
    feed: &Feed,
    items: &[Incoming],
    conflict: &mut Option<Bytes>,
    failed: &mut Option<StoreError>,
) -> Vec<Result<Applied, ApplyFailure>> {
    let results = match feed.apply(items) {
        Ok(results) => results,
        Err(error) => {
            *failed = Some(error);
            return vec![Err(ApplyFailure::Store); items.len()];
        }
    };
    let head = HeadState::from(&feed.info());
    let outcome = |result: Result<kinlog_feeds::store::Applied, ApplyError>| match result {
        Ok(applied) => Ok(Applied {
            block: applied.block,
            head: applied.upgraded_to.map(|_| head),
        }),
        Err(error) => {
            if conflict.is_none() {
                *conflict = conflict_of(&error);
            }
            Err(failure(&error))
        }
    };
    results.into_iter().map(outcome).collect()
}

fn conflict_of(error: &ApplyError) -> Option<Bytes> {
    match error {
        ApplyError::Conflict { proof, .. } => Some(proof.encode().into()),
        _ => None,
    }
}

fn failure(error: &ApplyError) -> ApplyFailure {
    match error {
        ApplyError::MissingAnchor { .. }
        | ApplyError::ManifestUnknown { .. }
        | ApplyError::OtherFork { .. } => ApplyFailure::MissingAnchor,
        ApplyError::BadData {
            may_be_conflict: true,
            ..
        } => ApplyFailure::OtherTree,
        ApplyError::Conflict { .. } => ApplyFailure::Conflict,
        ApplyError::TooLarge { .. } => ApplyFailure::TooLarge,
        ApplyError::Stale { .. } => ApplyFailure::Stale,
        ApplyError::Unlinked { .. } => ApplyFailure::Unlinked,
        _ => ApplyFailure::BadData,
    }
}
