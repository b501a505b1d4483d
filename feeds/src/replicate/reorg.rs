//! Following a peer onto a higher fork of a plain feed: how far its tree and ours are the same.

use std::ops::Range;

use crate::replicate::Incoming;

/// The search for the longest common beginning of our tree and that of a peer on a higher fork.
///
/// The store moves it on with each answer ([`ReorgStep`]); it is sent back and forth as a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reorg {
    fork: u64,
    /// Length that the peer has there.
    length: u64,
    /// Length from which the peer was asked for the way to its head.
    start: u64,
    /// The trees are the same up to here.
    common: u64,
    /// They differ at this length.
    differs: u64,
    /// An answer whose signature held, and where it starts.
    best: Option<Box<(u64, Incoming)>>,
}

/// What the store makes of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReorgStep {
    /// Ask the peer again.
    Ask(Box<Reorg>),
    /// The feed has the peer's head, durably; blocks up to here stayed.
    Done {
        /// Length of the common beginning.
        common: u64,
    },
}

impl Reorg {
    /// Begins with the way from nothing to the peer's head.
    pub fn new(fork: u64, length: u64) -> Reorg {
        Reorg {
            fork,
            length,
            start: 0,
            common: 0,
            differs: length,
            best: None,
        }
    }

    /// Returns the peer's fork.
    pub fn fork(&self) -> u64 {
        self.fork
    }

    /// Returns the length that the peer has there.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns from which length the way to the peer's head is asked for.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns up to where the trees are known to be the same.
    pub fn common(&self) -> u64 {
        self.common
    }

    /// Asks from `start`.
    pub fn ask(mut self, start: u64) -> Reorg {
        self.start = start;
        self
    }

    /// The answer held, for a head of `length`: the trees are the same up to where it starts.
    pub fn agrees(&mut self, length: u64, answer: Incoming) {
        self.length = length;
        self.common = self.common.max(self.start);
        self.best = Some(Box::new((self.start, answer)));
    }

    /// The trees are the same up to the start of `shared`, and differ at its end.
    pub fn lies_in(&mut self, shared: Range<u64>) {
        self.common = self.common.max(shared.start);
        self.differs = self.differs.min(shared.end);
    }

    /// Returns whether the trees may differ where the peer was asked.
    pub fn may_differ(&self) -> bool {
        self.start > self.common
    }

    /// The trees differ at `length`, or cannot be compared there.
    pub fn differs(&mut self, length: u64) {
        self.differs = self.differs.min(length);
    }

    /// Returns the next length to compare at, `None` when the common beginning is known.
    pub fn next(&self) -> Option<u64> {
        let between = self.differs.saturating_sub(self.common);
        (between > 1).then(|| self.common + between / 2)
    }

    /// Returns the answer that starts at the end of the common beginning, if there was one.
    pub fn best(&self) -> Option<&Incoming> {
        let best = self.best.as_deref();
        best.filter(|(start, _)| *start == self.common)
            .map(|(_, answer)| answer)
    }
}
