//! What waits to be written, and who waits for it.
//!
//! Submissions are counted. A ticket is the count behind one of them and the epoch it was made in:
//! when the disk has no room, the epoch ends, and all of it that is not durable is refused, because
//! later submissions may build on earlier ones.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::store::error::{Place, StoreError};
use crate::store::turn::Turn;

/// Makes a durable record visible; gets its place.
pub(super) type Publish = Box<dyn FnOnce(Place) + Send>;

/// A record on its way to the disk.
pub(super) struct Commit {
    pub(super) kind: u8,
    pub(super) feed: u32,
    /// Head part, then the payload part unless that stands in `blocks`.
    pub(super) bytes: Vec<u8>,
    pub(super) head_bytes: u32,
    /// The payload part where it is not worth a copy.
    pub(super) blocks: Vec<Bytes>,
    pub(super) publish: Publish,
}

impl Commit {
    /// Returns the bytes of head and payload part.
    pub(super) fn record_bytes(&self) -> u64 {
        let blocks: usize = self.blocks.iter().map(Bytes::len).sum();
        (self.bytes.len() + blocks) as u64
    }
}

/// Stands for everything submitted up to it; the default for what opening found.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticket {
    number: u64,
    epoch: Epoch,
}

/// The time between two refusals for want of room; clones are the same. The default never ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Epoch(Option<Arc<OnceLock<Refusal>>>);

impl Epoch {
    pub(super) fn new() -> Self {
        Epoch(Some(Arc::default()))
    }

    /// Returns how it ended, once it has.
    pub(super) fn end(&self) -> Option<&Refusal> {
        self.0.as_deref()?.get()
    }
}

/// How an epoch ended.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Submissions up to this one are durable, those of the epoch behind it were never written.
    pub(super) durable: u64,
    pub(super) error: StoreError,
}

impl Ticket {
    /// Returns why what it stands for was refused, if it was for want of room.
    pub(super) fn refusal(&self) -> Option<StoreError> {
        let end = self.epoch.end().filter(|end| end.durable < self.number)?;
        Some(end.error.clone())
    }

    /// Returns whether what it stands for was refused for want of room.
    pub(super) fn is_refused(&self) -> bool {
        self.epoch
            .end()
            .is_some_and(|end| end.durable < self.number)
    }
}

/// What a waiting thread is told.
#[derive(Debug)]
pub(super) enum Word {
    Done(Result<(), StoreError>),
    Lead,
}

/// Submissions and those who wait for them.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: Vec<Commit>,
    pub(super) waiting_bytes: u64,
    pub(super) submitted: u64,
    pub(super) durable: u64,
    pub(super) epoch: Epoch,
    /// Those who follow, with the submission they wait for.
    pub(super) followers: Vec<(Ticket, Arc<Turn<Word>>)>,
    pub(super) leading: bool,
    pub(super) closing: bool,
    pub(super) stopped: Option<StoreError>,
}

impl Queue {
    /// Returns what became of a submission, if that is certain.
    pub(super) fn outcome(&self, ticket: &Ticket) -> Option<Result<(), StoreError>> {
        match (ticket.epoch.end(), &self.stopped) {
            (Some(end), _) if end.durable < ticket.number => Some(Err(end.error.clone())),
            (Some(_), _) => Some(Ok(())),
            (None, _) if ticket.number <= self.durable => Some(Ok(())),
            (None, Some(stopped)) => Some(Err(stopped.clone())),
            (None, None) => None,
        }
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket {
            number: self.submitted,
            epoch: self.epoch.clone(),
        }
    }

    /// Ends the epoch: what was submitted and is not durable will never be written.
    pub(super) fn refuse(&mut self, error: StoreError) {
        let durable = self.durable;
        let ended = std::mem::replace(&mut self.epoch, Epoch::new());
        if let Some(end) = &ended.0 {
            let _ = end.set(Refusal { durable, error });
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.durable = self.submitted;
    }

    /// Takes out the followers whose outcome is certain.
    pub(super) fn resolve(&mut self) -> Vec<(Arc<Turn<Word>>, Word)> {
        let mut told = Vec::new();
        let mut waiting = Vec::new();
        for (ticket, turn) in std::mem::take(&mut self.followers) {
            match self.outcome(&ticket) {
                Some(outcome) => told.push((turn, Word::Done(outcome))),
                None => waiting.push((ticket, turn)),
            }
        }
        self.followers = waiting;
        told
    }
}

/// Tells each of them its word.
pub(super) fn tell(told: Vec<(Arc<Turn<Word>>, Word)>) {
    for (turn, word) in told {
        turn.tell(word);
    }
}
