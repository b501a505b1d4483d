//! How many bytes may be on their way: the one window over all feeds and peers.

use std::collections::{BTreeMap, VecDeque};

use crate::Time;
use crate::limits::{
    BLOCKS_IN_SETS_MAX, UNAPPLIED_BYTES_MAX, UNPROVEN_PART, URGENT_BYTES_MAX, URGENT_REQUESTS_MAX,
};
use crate::replicate::channel::Asked;
use crate::replicate::pace::Departure;
use crate::replicate::peer::Peer;
use crate::replicate::{Load, Output, PeerId};

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
    random: u64,
}

/// What the windows of the peers of a feed come to that have something to give.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Of those that have brought something.
    measured: usize,
    /// Of those that so far have only promised to.
    unproven: usize,
}

impl Windows {
    pub(super) fn add(&mut self, peer: &Peer) {
        match peer.pace.is_measured() {
            true => self.measured += peer.pace.window(),
            false => self.unproven += peer.pace.window(),
        }
    }
}

impl Flow {
    pub(super) fn new(in_flight_bytes_max: usize, seed: u64) -> Self {
        Flow {
            in_flight_bytes_max,
            in_flight_bytes: 0,
            unapplied_bytes: 0,
            in_flight: 0,
            last_order: 0,
            random: seed,
        }
    }

    /// Returns whether another `bytes` may be asked of `peer`, whose part of the window is `share`.
    /// What is urgent finds some room where transfers fill the windows.
    pub(super) fn allows(&self, peer: &Peer, bytes: usize, share: usize, urgent: bool) -> bool {
        let (more_requests, more_bytes) = match urgent {
            true if peer.is_kinlog() => (URGENT_REQUESTS_MAX, URGENT_BYTES_MAX),
            true => (0, URGENT_BYTES_MAX),
            false => (0, 0),
        };
        if peer.in_flight - peer.in_sets >= peer.window + more_requests
            || peer.in_sets >= BLOCKS_IN_SETS_MAX
            || self.unapplied_bytes >= UNAPPLIED_BYTES_MAX + more_bytes
        {
            return false;
        }
        // One request is always allowed, however large: else nothing would move.
        if self.in_flight == 0 {
            return true;
        }
        self.in_flight_bytes + bytes <= self.in_flight_bytes_max + more_bytes
            && (peer.in_flight == 0
                || peer.in_flight_bytes + bytes <= share.saturating_add(more_bytes))
    }

    /// Returns a number drawn by lot (splitmix64).
    pub(super) fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns what a peer may be asked for beside others with these windows: its own while all fit, else
    /// its part of what there is.
    pub(super) fn share(&self, peer: &Peer, windows: &Windows) -> usize {
        let window = peer.pace.window();
        let for_unproven = windows
            .unproven
            .min(self.in_flight_bytes_max / UNPROVEN_PART);
        let (room, windows) = match peer.pace.is_measured() {
            true => (self.in_flight_bytes_max - for_unproven, windows.measured),
            false => (for_unproven, windows.unproven),
        };
        if windows <= room {
            return window;
        }
        let share = window as u128 * room as u128 / windows as u128;
        usize::try_from(share).unwrap_or(window)
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.last_order += 1;
        self.last_order
    }

    /// A request leaves; what is returned goes with it.
    pub(super) fn asked(&mut self, now: Time, peer: &mut Peer, bytes: usize) -> Departure {
        let departure = peer.pace.departs(now, peer.in_flight == 0);
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        peer.in_flight += 1;
        peer.in_flight_bytes += bytes;
        departure
    }

    /// A request is answered or given up.
    pub(super) fn done(&mut self, peer: Option<&mut Peer>, asked: &Asked) {
        self.in_flight -= 1;
        self.in_flight_bytes -= asked.bytes;
        if let Some(peer) = peer {
            peer.in_flight -= 1;
            peer.in_sets -= usize::from(asked.in_set);
            peer.in_flight_bytes -= asked.bytes;
        }
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.unapplied_bytes += bytes;
    }

    pub(super) fn applied(&mut self, bytes: usize) {
        self.unapplied_bytes -= bytes;
    }

    pub(super) fn load(&self) -> Load {
        Load {
            in_flight: self.in_flight,
            in_flight_bytes: self.in_flight_bytes,
            unapplied_bytes: self.unapplied_bytes,
            ..Load::default()
        }
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
