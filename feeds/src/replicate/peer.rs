//! One peer over all its feeds: its request window, and the requests it waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::Time;
use crate::crypto::FeedKey;
use crate::limits::{
    PROMPT_BYTES_MAX, REPLICATE_TICK, REQUESTS_PER_PLAIN_PEER_MAX, URGENT_BYTES_MAX,
};
use crate::replicate::pace::Pace;
use crate::replicate::shown::Shown;
use crate::wire::hypercore::{NoDataReason, Request, Want};
use crate::wire::kinlog::SetRequest;

/// What the peer waits for.
#[derive(Debug)]
pub(super) enum Queued {
    /// A proof, with or without a block.
    Request(Request),
    /// The proof of a set.
    Set(SetRequest),
    /// That a request brings nothing, and why.
    Refusal { id: u64, reason: NoDataReason },
    /// That a set brings nothing.
    NoSet { id: u64, fork: u64 },
    /// What is held of a region.
    Want(Want),
}

impl Queued {
    /// Returns whether somebody may be waiting for the answer: heads always, blocks by what the peer
    /// says.
    pub(super) fn is_urgent(&self) -> bool {
        match self {
            Queued::Request(request) => request.priority > 0 || request.proof.block.is_none(),
            Queued::Set(request) => request.is_urgent,
            Queued::Refusal { .. } | Queued::NoSet { .. } => true,
            Queued::Want(_) => false,
        }
    }

    /// Returns whether it goes before transfers.
    pub(super) fn is_before_bulk(&self) -> bool {
        self.is_urgent() || matches!(self, Queued::Want(_))
    }

    /// Returns how many blocks are asked for.
    pub(super) fn blocks(&self) -> usize {
        match self {
            Queued::Request(request) => usize::from(request.proof.block.is_some()),
            Queued::Set(request) => request.set.count(),
            Queued::Refusal { .. } | Queued::NoSet { .. } | Queued::Want(_) => 0,
        }
    }

    /// Returns the runs of a set that are kept.
    pub(super) fn runs(&self) -> usize {
        match self {
            Queued::Set(request) => request.set.runs().count(),
            _ => 0,
        }
    }

    /// Returns whether this is the request with that id; sets have ids of their own.
    pub(super) fn is_request(&self, id: u64) -> bool {
        match self {
            Queued::Request(request) => request.id == id,
            Queued::Refusal { id: refused, .. } => *refused == id,
            Queued::Set(_) | Queued::NoSet { .. } | Queued::Want(_) => false,
        }
    }
}

/// A peer's state that is not of one feed.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) feeds: BTreeSet<FeedKey>,
    /// Feeds that it is not shown all of.
    pub(super) limits: BTreeMap<FeedKey, Shown>,
    /// Requests that may be on their way to the peer: more once it told that it is Kinlog.
    pub(super) window: usize,
    pub(super) in_flight: usize,
    /// Those of them that are blocks of sets.
    pub(super) in_sets: usize,
    pub(super) in_flight_bytes: usize,
    /// How soon and how much it answers.
    pub(super) pace: Pace,
    /// Whether its connection takes more.
    pub(super) writable: bool,
    /// Bytes of urgent answers that it still gets while its connection takes no more.
    pub(super) urgent_bytes_left: usize,
    /// Bytes of answers without a read that it still gets before `prompt_until`.
    prompt_bytes_left: usize,
    prompt_until: Time,
    /// Requests of the peer that wait to be answered.
    pub(super) requests: VecDeque<(FeedKey, Queued)>,
    /// Feeds about which both sides may speak by `kinlog/feed/1`.
    pub(super) by_number: BTreeSet<FeedKey>,
    /// Whether it takes heads of several feeds at once.
    pub(super) takes_groups: bool,
    /// Feeds of which it is to be told at the next drain.
    pub(super) greetings: BTreeSet<FeedKey>,
    /// Highest id of a set that it was asked for.
    pub(super) last_set: u64,
    pub(super) reading: usize,
    pub(super) reading_bytes: usize,
    /// What an answer may come to, going by the largest of late.
    pub(super) answer_bytes: usize,
    /// Highest id that a request of a channel that is closed now had.
    pub(super) last_request: u64,
    pub(super) invalid_requests: u32,
    pub(super) unsolicited: u32,
    pub(super) oversize_blocks: u32,
}

impl Peer {
    pub(super) fn new() -> Self {
        Peer {
            feeds: BTreeSet::new(),
            limits: BTreeMap::new(),
            window: REQUESTS_PER_PLAIN_PEER_MAX,
            in_flight: 0,
            in_sets: 0,
            in_flight_bytes: 0,
            pace: Pace::default(),
            writable: true,
            urgent_bytes_left: URGENT_BYTES_MAX,
            prompt_bytes_left: 0,
            prompt_until: Time::ZERO,
            requests: VecDeque::new(),
            by_number: BTreeSet::new(),
            takes_groups: false,
            greetings: BTreeSet::new(),
            last_set: 0,
            reading: 0,
            reading_bytes: 0,
            answer_bytes: 0,
            last_request: 0,
            invalid_requests: 0,
            unsolicited: 0,
            oversize_blocks: 0,
        }
    }

    /// An answer was read: blocks of one feed may differ much, and who asks chooses among them.
    pub(super) fn learn_answer_bytes(&mut self, bytes: usize) {
        let usual = self.answer_bytes - self.answer_bytes.div_ceil(16);
        self.answer_bytes = bytes.max(usual);
    }

    /// Takes `bytes` of what a peer that reads nothing may make wait; `false` if it has to wait itself.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        if self.writable {
            return true;
        }
        let left = self.urgent_bytes_left.checked_sub(bytes);
        self.urgent_bytes_left = left.unwrap_or(self.urgent_bytes_left);
        left.is_some()
    }

    /// The same of an answer that no read slows down.
    pub(super) fn takes_promptly(&mut self, now: Time, bytes: usize) -> bool {
        if now >= self.prompt_until {
            self.prompt_bytes_left = PROMPT_BYTES_MAX;
            self.prompt_until = now + REPLICATE_TICK;
        }
        if bytes > self.prompt_bytes_left || !self.takes(bytes) {
            return false;
        }
        self.prompt_bytes_left -= bytes;
        true
    }

    /// Returns whether it said that it is Kinlog.
    pub(super) fn is_kinlog(&self) -> bool {
        self.window > REQUESTS_PER_PLAIN_PEER_MAX
    }
}
