//! One peer over all its feeds: its request window, and the requests it waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::crypto::FeedKey;
use crate::limits::{REQUESTS_PER_PLAIN_PEER_MAX, URGENT_BYTES_MAX};
use crate::replicate::pace::Pace;
use crate::replicate::shown::Shown;
use crate::wire::hypercore::Request;
use crate::wire::kinlog::SetRequest;

/// A request of the peer that waits.
#[derive(Debug)]
pub(super) enum Queued {
    Request(Request),
    Set(SetRequest),
}

impl Queued {
    /// Returns whether somebody may be waiting for the answer: heads always, blocks by what the peer
    /// says.
    pub(super) fn is_urgent(&self) -> bool {
        match self {
            Queued::Request(request) => request.priority > 0 || request.proof.block.is_none(),
            Queued::Set(request) => request.is_urgent,
        }
    }

    /// Returns how many blocks are asked for.
    pub(super) fn blocks(&self) -> usize {
        match self {
            Queued::Request(request) => usize::from(request.proof.block.is_some()),
            Queued::Set(request) => request.set.count(),
        }
    }

    /// Returns the runs of a set that are kept.
    pub(super) fn runs(&self) -> usize {
        match self {
            Queued::Request(_) => 0,
            Queued::Set(request) => request.set.runs().count(),
        }
    }

    /// Returns whether this is the request with that id; sets have ids of their own.
    pub(super) fn is_request(&self, id: u64) -> bool {
        matches!(self, Queued::Request(request) if request.id == id)
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
    /// Requests of the peer that wait to be read.
    pub(super) requests: VecDeque<(FeedKey, Queued)>,
    /// Feeds about which both sides may speak by `kinlog/feed/1`.
    pub(super) by_number: BTreeSet<FeedKey>,
    /// Highest id of a set that it was asked for.
    pub(super) last_set: u64,
    pub(super) reading: usize,
    pub(super) reading_bytes: usize,
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
            requests: VecDeque::new(),
            by_number: BTreeSet::new(),
            last_set: 0,
            reading: 0,
            reading_bytes: 0,
            last_request: 0,
            invalid_requests: 0,
            unsolicited: 0,
            oversize_blocks: 0,
        }
    }

    /// Returns whether it said that it is Kinlog.
    pub(super) fn is_kinlog(&self) -> bool {
        self.window > REQUESTS_PER_PLAIN_PEER_MAX
    }
}
