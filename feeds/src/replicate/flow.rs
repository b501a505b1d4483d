//! How many bytes may be on their way: the one window over all feeds and peers.

use std::collections::{BTreeMap, VecDeque};

use crate::Time;
use crate::limits::UNAPPLIED_BYTES_MAX;
use crate::replicate::channel::Asked;
use crate::replicate::peer::Peer;
use crate::replicate::{Output, PeerId};

/// Bytes asked for and received, over all feeds.
#[derive(Debug)]
pub(super) struct Flow {
    in_flight_bytes_max: usize,
    in_flight_bytes: usize,
    /// Received and not yet applied.
    unapplied_bytes: usize,
    /// Requests on their way.
    in_flight: usize,
    last_order: u64,
}

impl Flow {
    pub(super) fn new(in_flight_bytes_max: usize) -> Self {
        Flow {
            in_flight_bytes_max,
            in_flight_bytes: 0,
            unapplied_bytes: 0,
            in_flight: 0,
            last_order: 0,
        }
    }

    /// Returns whether another `bytes` may be asked of `peer`, one of `peers` that share the work.
    pub(super) fn allows(&self, peer: &Peer, bytes: usize, peers: usize) -> bool {
        if peer.in_flight >= peer.window || self.unapplied_bytes >= UNAPPLIED_BYTES_MAX {
            return false;
        }
        // One request is always allowed, however large: else nothing would move.
        if self.in_flight == 0 {
            return true;
        }
        let share = self.in_flight_bytes_max / peers.max(1);
        self.in_flight_bytes + bytes <= self.in_flight_bytes_max
            && (peer.in_flight == 0 || peer.in_flight_bytes + bytes <= share)
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.last_order += 1;
        self.last_order
    }

    pub(super) fn asked(&mut self, peer: &mut Peer, bytes: usize) {
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        peer.in_flight += 1;
        peer.in_flight_bytes += bytes;
    }

    /// A request is answered or given up.
    pub(super) fn done(&mut self, peer: Option<&mut Peer>, asked: &Asked) {
        self.in_flight -= 1;
        self.in_flight_bytes -= asked.bytes;
        if let Some(peer) = peer {
            peer.in_flight -= 1;
            peer.in_flight_bytes -= asked.bytes;
        }
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.unapplied_bytes += bytes;
    }

    pub(super) fn applied(&mut self, bytes: usize) {
        self.unapplied_bytes -= bytes;
    }

    /// Returns whether what was received and not yet applied leaves room for more.
    pub(super) fn accepts_data(&self) -> bool {
        self.unapplied_bytes < 2 * UNAPPLIED_BYTES_MAX
    }
}

/// What the planning of a feed works with, beside the feed.
pub(super) struct Context<'a> {
    pub(super) now: Time,
    pub(super) peers: &'a mut BTreeMap<PeerId, Peer>,
    pub(super) flow: &'a mut Flow,
    pub(super) outputs: &'a mut VecDeque<Output>,
}
