//! Threads for the store's work, which blocks.
//!
//! What waits for them is bounded by the replicator: requests taken from one peer, and bytes asked
//! of all peers. A feed's applies always go to the same thread, so they keep their order; an apply
//! that waits for its sync does not hold up reads.

mod contained;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::conflict::ConflictProof;
use kinlog_feeds::limits::READ_BYTES_PER_PEER_MAX;
use kinlog_feeds::replicate::{
    Applied, ApplyFailure, ApplyId, HeadState, Incoming, NotAvailable, PeerId, ReadId, Reorg,
    ReorgStep,
};
use kinlog_feeds::store::{ApplyError, Feed, KeepConflictError, ProveError, StoreError};
use kinlog_feeds::tree::{BlockSet, Proof, ProofRequest};
use tokio::sync::mpsc::UnboundedSender;

use self::contained::contained;
use crate::limits::{APPLY_WORKERS, READ_WORKERS, READS_PER_JOB_MAX, READS_PER_JOB_MIN};

/// One proof to make.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) id: ReadId,
    pub(super) feed: Feed,
    pub(super) request: ProofRequest,
    pub(super) manifest: bool,
}

#[derive(Debug)]
enum Job {
    Reads(u64, Vec<Read>),
    ReadSet {
        job: u64,
        id: ReadId,
        feed: Feed,
        set: BlockSet,
    },
    Apply {
        id: ApplyId,
        feed: Feed,
        items: Arc<Vec<Incoming>>,
    },
    Keep {
        peer: PeerId,
        feed: Feed,
        proof: Bytes,
    },
    Reorganise {
        peer: PeerId,
        feed: Feed,
        reorg: Box<Reorg>,
        answer: Box<Incoming>,
    },
    Contest {
        feed: Feed,
        shown: Box<[Incoming; 2]>,
    },
}

pub(super) type ReadResult = Result<(Proof, Option<Bytes>), NotAvailable>;

/// What the workers made of a job.
#[derive(Debug)]
pub(super) enum Done {
    /// The number of the job, and what it gave.
    Reads(u64, Vec<(ReadId, ReadResult)>),
    Applied {
        id: ApplyId,
        feed: FeedKey,
        results: Vec<Result<Applied, ApplyFailure>>,
        /// The proof of the conflict that stopped the feed.
        conflict: Option<Bytes>,
        failed: Option<StoreError>,
    },
    Kept {
        peer: PeerId,
        feed: FeedKey,
        /// The proof that the feed is stopped by now.
        result: Result<Bytes, NotKept>,
    },
    Reorganised {
        peer: PeerId,
        feed: FeedKey,
        head: HeadState,
        result: Result<ReorgStep, ApplyFailure>,
        conflict: Option<Bytes>,
        failed: Option<StoreError>,
    },
    Contested {
        feed: FeedKey,
        /// The proof that the feed is stopped by, if it is.
        result: Result<Option<Bytes>, StoreError>,
    },
    /// A job ended in a panic, with what it said; the job itself is answered as refused.
    Panicked(String),
}

/// Why a peer's conflict proof was not kept.
#[derive(Debug)]
pub(super) enum NotKept {
    /// It is none, or of another feed: the peer's fault.
    Bad,
    /// What it shows is allowed on this feed.
    Allowed,
    Failed(StoreError),
}

/// The threads; they end when this is dropped and their queues are empty.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<thread::JoinHandle<()>>,
    read: Vec<mpsc::Sender<Job>>,
    apply: Vec<mpsc::Sender<Job>>,
    /// Number of the next job of reads.
    next_read: u64,
    /// Number of the job of reads whose results are due, and those that came before their time.
    due_read: u64,
    early: BTreeMap<u64, Vec<(ReadId, ReadResult)>>,
}

impl Workers {
    pub(super) fn start(done: &UnboundedSender<Done>) -> Self {
        let mut threads = Vec::new();
        let mut lane = |name: &str| {
            let (jobs, queue) = mpsc::channel::<Job>();
            let done = done.clone();
            let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
                for job in queue {
                    let mut made = contained(job, carry_out).into_iter();
                    if made.any(|one| done.send(one).is_err()) {
                        return;
                    }
                }
            });
            match started {
                Ok(thread) => threads.push(thread),
                Err(error) => tracing::error!(%error, "no thread for store work"),
            }
            jobs
        };
        let read = (0..READ_WORKERS).map(|_| lane("kinlog-read")).collect();
        let apply = (0..APPLY_WORKERS).map(|_| lane("kinlog-apply")).collect();
        Workers {
            threads,
            read,
            apply,
            next_read: 0,
            due_read: 0,
            early: BTreeMap::new(),
        }
    }

    /// Ends the threads once their queues are empty, and waits for it.
    pub(super) fn finish(self) {
        let Workers {
            threads,
            read,
            apply,
            ..
        } = self;
        drop((read, apply));
        for thread in threads {
            // One that panicked has ended too.
            let _ = thread.join();
        }
    }

    /// Spreads reads over the threads.
    pub(super) fn read(&mut self, mut reads: Vec<Read>) {
        let share = reads.len().div_ceil(self.read.len().max(1));
        let share = share.clamp(READS_PER_JOB_MIN, READS_PER_JOB_MAX);
        while !reads.is_empty() {
            let rest = reads.split_off(share.min(reads.len()));
            self.send_read(Job::Reads(self.next_read, reads));
            reads = rest;
        }
    }

    /// Returns whether no job of reads is out.
    pub(super) fn reads_are_done(&self) -> bool {
        self.due_read == self.next_read
    }

    /// Reads on the thread of the caller.
    pub(super) fn read_here(&mut self, read: Read) -> impl IntoIterator<Item = Done> + use<> {
        let job = Job::Reads(self.next_read, Vec::from([read]));
        self.next_read += 1;
        contained(job, carry_out)
    }

    /// Reads one set of blocks.
    pub(super) fn read_set(&mut self, id: ReadId, feed: Feed, set: BlockSet) {
        let job = self.next_read;
        self.send_read(Job::ReadSet { job, id, feed, set });
    }

    fn send_read(&mut self, job: Job) {
        let lane = self.next_read % self.read.len().max(1) as u64;
        let lane = usize::try_from(lane).unwrap_or_default();
        if let Some(lane) = self.read.get(lane) {
            let _ = lane.send(job);
        }
        self.next_read += 1;
    }

    /// Takes what a job of reads gave and returns what is due now, in the order of [`read`](Self::read).
    pub(super) fn in_order(
        &mut self,
        job: u64,
        reads: Vec<(ReadId, ReadResult)>,
    ) -> Vec<(ReadId, ReadResult)> {
        self.early.insert(job, reads);
        let mut due = Vec::new();
        while let Some(reads) = self.early.remove(&self.due_read) {
            self.due_read += 1;
            match due.is_empty() {
                true => due = reads,
                false => due.extend(reads),
            }
        }
        due
    }

    pub(super) fn apply(&self, id: ApplyId, feed: Feed, items: Arc<Vec<Incoming>>) {
        let key = feed.key();
        self.write(key, Job::Apply { id, feed, items });
    }

    pub(super) fn keep(&self, peer: PeerId, feed: Feed, proof: Bytes) {
        let key = feed.key();
        self.write(key, Job::Keep { peer, feed, proof });
    }

    pub(super) fn reorganise(
        &self,
        peer: PeerId,
        feed: Feed,
        reorg: Box<Reorg>,
        answer: Box<Incoming>,
    ) {
        let key = feed.key();
        let job = Job::Reorganise {
            peer,
            feed,
            reorg,
            answer,
        };
        self.write(key, job);
    }

    pub(super) fn contest(&self, feed: Feed, shown: Box<[Incoming; 2]>) {
        let key = feed.key();
        self.write(key, Job::Contest { feed, shown });
    }

    fn write(&self, key: FeedKey, job: Job) {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let lanes = self.apply.len() as u64;
        let lane = usize::try_from(hasher.finish() % lanes).unwrap_or_default();
        if let Some(lane) = self.apply.get(lane) {
            let _ = lane.send(job);
        }
    }
}

fn carry_out(job: Job) -> Done {
    match job {
        Job::Reads(job, reads) => Done::Reads(job, prove_all(&reads)),
        Job::ReadSet { job, id, feed, set } => {
            let proof = feed.prove_blocks(&set);
            let result = proof.map_err(|error| not_available(&feed, error));
            Done::Reads(job, Vec::from([(id, result.map(|proof| (proof, None)))]))
        }
        Job::Apply { id, feed, items } => apply(id, &feed, &items),
        Job::Keep { peer, feed, proof } => Done::Kept {
            peer,
            feed: feed.key(),
            result: keep(&feed, &proof),
        },
        Job::Reorganise {
            peer,
            feed,
            reorg,
            answer,
        } => reorganise(peer, &feed, *reorg, *answer),
        Job::Contest { feed, shown } => Done::Contested {
            feed: feed.key(),
            result: feed
                .contest(&shown)
                .and_then(|_| feed.conflict())
                .map(|proof| proof.map(|proof| proof.encode().into())),
        },
    }
}

/// Makes proofs until they have brought what one peer may be read at once; large blocks in a feed of
/// small ones bring more than anybody expects.
fn prove_all(reads: &[Read]) -> Vec<(ReadId, ReadResult)> {
    let mut bytes = 0;
    let one = |read: &Read| {
        if bytes >= READ_BYTES_PER_PEER_MAX {
            return (read.id, Err(NotAvailable::Postponed));
        }
        let result = prove(read);
        let block = result
            .as_ref()
            .ok()
            .and_then(|(proof, _)| proof.block.as_ref());
        bytes += block.map_or(0, |block| block.value.len());
        (read.id, result)
    };
    reads.iter().map(one).collect()
}

fn prove(read: &Read) -> ReadResult {
    let proof = read.feed.prove(&read.request);
    let proof = proof.map_err(|error| not_available(&read.feed, error))?;
    let manifest = if read.manifest {
        read.feed.manifest()
    } else {
        None
    };
    Ok((
        proof,
        manifest.map(|manifest| Bytes::from(manifest.encode())),
    ))
}

fn not_available(feed: &Feed, error: ProveError) -> NotAvailable {
    match error {
        ProveError::InvalidRequest { .. } => NotAvailable::InvalidRequest,
        ProveError::Read(error) => {
            tracing::warn!(feed = %feed.key(), %error, "block not served");
            NotAvailable::Missing
        }
        _ => NotAvailable::Missing,
    }
}

fn apply(id: ApplyId, feed: &Feed, items: &[Incoming]) -> Done {
    let count = items.len();
    let key = feed.key();
    match feed.apply(items) {
        Ok(results) => {
            let head = HeadState::from(&feed.info());
            let conflict = results.iter().find_map(|result| match result {
                Err(ApplyError::Conflict { proof, .. }) => Some(proof.encode().into()),
                _ => None,
            });
            let outcome = |result| outcome(key, &head, result);
            let results = results.into_iter().map(outcome).collect();
            Done::Applied {
                id,
                feed: key,
                results,
                conflict,
                failed: None,
            }
        }
        Err(error) => {
            let results = vec![Err(ApplyFailure::Store); count];
            Done::Applied {
                id,
                feed: key,
                results,
                conflict: None,
                failed: Some(error),
            }
        }
    }
}

fn reorganise(peer: PeerId, feed: &Feed, reorg: Reorg, answer: Incoming) -> Done {
    let key = feed.key();
    let (mut conflict, mut failed) = (None, None);
    let result = match feed.reorganise(reorg, answer) {
        Ok(Ok(step)) => Ok(step),
        Ok(Err(error)) => {
            if let ApplyError::Conflict { proof, .. } = &error {
                conflict = Some(proof.encode().into());
            }
            tracing::warn!(feed = %key, %error, "not followed onto its fork");
            Err(failure(&error))
        }
        Err(error) => {
            failed = Some(error);
            Err(ApplyFailure::Store)
        }
    };
    Done::Reorganised {
        peer,
        feed: key,
        head: HeadState::from(&feed.info()),
        result,
        conflict,
        failed,
    }
}

fn keep(feed: &Feed, proof: &[u8]) -> Result<Bytes, NotKept> {
    let key = feed.key();
    let proof = ConflictProof::decode(proof).map_err(|error| {
        tracing::warn!(feed = %key, %error, "no conflict proof");
        NotKept::Bad
    })?;
    match feed.keep_conflict(&proof) {
        Ok(true) => Ok(proof.encode().into()),
        // The one that is kept may be another.
        Ok(false) => match feed.conflict() {
            Ok(kept) => Ok(kept.unwrap_or(proof).encode().into()),
            Err(error) => Err(NotKept::Failed(error)),
        },
        Err(KeepConflictError::Store(error)) => Err(NotKept::Failed(error)),
        Err(KeepConflictError::MayFork { .. }) => Err(NotKept::Allowed),
        Err(_) => Err(NotKept::Bad),
    }
}

fn outcome(
    feed: FeedKey,
    head: &HeadState,
    result: Result<kinlog_feeds::store::Applied, ApplyError>,
) -> Result<Applied, ApplyFailure> {
    match result {
        Ok(applied) => Ok(Applied {
            block: applied.block,
            head: applied.upgraded_to.map(|_| *head),
        }),
        Err(error) => {
            let failure = failure(&error);
            if failure != ApplyFailure::MissingAnchor && failure != ApplyFailure::Stale {
                tracing::warn!(%feed, %error, "data not stored");
            }
            Err(failure)
        }
    }
}

fn failure(error: &ApplyError) -> ApplyFailure {
    match error {
        // Before the first head arrived neither the fork nor the writer is known.
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
