//! What went through a link.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What went through a link so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinkStats {
    /// Bytes received.
    pub bytes_in: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Messages sent.
    pub messages_out: u64,
}

impl std::ops::Add for LinkStats {
    type Output = LinkStats;

    fn add(self, other: LinkStats) -> LinkStats {
        LinkStats {
            bytes_in: self.bytes_in + other.bytes_in,
            messages_in: self.messages_in + other.messages_in,
            bytes_out: self.bytes_out + other.bytes_out,
            messages_out: self.messages_out + other.messages_out,
        }
    }
}

/// Counts what goes through a link.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    bytes_in: AtomicU64,
    messages_in: AtomicU64,
    bytes_out: AtomicU64,
    messages_out: AtomicU64,
}

impl Counters {
    pub(crate) fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
        self.messages_in.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
        self.messages_out.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> LinkStats {
        LinkStats {
            bytes_in: self.bytes_in.load(Relaxed),
            messages_in: self.messages_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            messages_out: self.messages_out.load(Relaxed),
        }
    }
}
