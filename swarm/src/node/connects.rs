//! How long it takes to connect to somebody, and why it does not work: counted, sans-IO (R187).
//!
//! A *search* is about one peer as one introducer shows it. It begins when the peer is shown, or dials, and ends
//! with a session. It is counted once, when its first try has ended, whichever way: the share of those that led
//! to a session within two seconds is what R187 is about. A peer that is connected already is not searched for.

use std::collections::BTreeMap;
use std::time::Duration;

use kinlog_feeds::Time;
use serde::Serialize;

use crate::histogram::{Histogram, HistogramStatus};
use crate::link::LinkError;

/// Upper bounds of the buckets; R187 asks for 2 s, an attempt ends after 10.
const BOUNDS: [Duration; 11] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(1_500),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// Why an attempt to connect led to no session.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConnectFailure {
    /// No candidate pair worked in time, or the other side never answered.
    Timeout,
    /// What the other side said of itself is unusable.
    BadDescription,
    /// Only relays may be used, and there is none.
    NoRelay,
    /// The stack or a socket failed.
    Link,
    /// A link opened, and the other side did not prove itself.
    Handshake,
    /// Whoever introduced does not relay.
    Circuit,
}

impl ConnectFailure {
    /// All of them, as metrics list them.
    pub const ALL: [ConnectFailure; 6] = [
        ConnectFailure::Timeout,
        ConnectFailure::BadDescription,
        ConnectFailure::NoRelay,
        ConnectFailure::Link,
        ConnectFailure::Handshake,
        ConnectFailure::Circuit,
    ];

    /// Returns its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            ConnectFailure::Timeout => "timeout",
            ConnectFailure::BadDescription => "bad_description",
            ConnectFailure::NoRelay => "no_relay",
            ConnectFailure::Link => "link",
            ConnectFailure::Handshake => "handshake",
            ConnectFailure::Circuit => "circuit",
        }
    }
}

impl From<&LinkError> for ConnectFailure {
    fn from(error: &LinkError) -> Self {
        match error {
            LinkError::Timeout { .. } => ConnectFailure::Timeout,
            LinkError::BadDescription { .. } => ConnectFailure::BadDescription,
            LinkError::NoRelay => ConnectFailure::NoRelay,
            _ => ConnectFailure::Link,
        }
    }
}

/// One peer that is being connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Search {
    pub(super) since: Time,
    is_counted: bool,
}

/// What came of all searches since the start.
#[derive(Debug)]
pub(crate) struct Connects {
    took: Histogram,
    searches: u64,
    failures: BTreeMap<ConnectFailure, u64>,
}

/// What came of connecting since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConnectStatus {
    /// Peers that were tried to connect to, each counted when its first try had ended.
    pub searches: u64,
    /// How long it took with those that a session opened with.
    pub took: HistogramStatus,
    /// Attempts that led to no session, by reason; one peer may cause many.
    pub failures: BTreeMap<ConnectFailure, u64>,
}

impl Default for Connects {
    fn default() -> Self {
        Connects {
            took: Histogram::new(&BOUNDS),
            searches: 0,
            failures: BTreeMap::new(),
        }
    }
}

impl Search {
    pub(super) fn begin(since: Time) -> Self {
        Search {
            since,
            is_counted: false,
        }
    }
}

impl Connects {
    /// A search has led to a session.
    pub(super) fn handle_connected(&mut self, now: Time, search: Search) {
        self.searches += u64::from(!search.is_counted);
        self.took.observe(now.since(search.since));
    }

    /// An attempt has led to none; it is part of this search, unless the peer is connected by another way.
    pub(super) fn handle_failed(&mut self, reason: ConnectFailure, search: Option<&mut Search>) {
        *self.failures.entry(reason).or_default() += 1;
        if let Some(search) = search
            && !std::mem::replace(&mut search.is_counted, true)
        {
            self.searches += 1;
        }
    }

    pub(crate) fn status(&self) -> ConnectStatus {
        ConnectStatus {
            searches: self.searches,
            took: self.took.status(),
            failures: self.failures.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time(millis * 1000)
    }

    #[test]
    fn a_search_counts_once_however_often_it_fails_before_it_succeeds() {
        let mut connects = Connects::default();
        connects.handle_connected(at(1_500), Search::begin(at(0)));
        let mut search = Search::begin(at(0));
        connects.handle_failed(ConnectFailure::Timeout, Some(&mut search));
        connects.handle_failed(ConnectFailure::Circuit, Some(&mut search));
        connects.handle_connected(at(12_000), search);
        connects.handle_failed(ConnectFailure::Timeout, Some(&mut Search::begin(at(0))));
        connects.handle_failed(ConnectFailure::Timeout, None);
        let status = connects.status();
        assert_eq!(status.searches, 3);
        let within = |millis| status.took.buckets.iter().find(|one| one.0 == millis);
        assert_eq!(within(2_000), Some(&(2_000, 1)), "R187: one of three");
        assert_eq!(status.took.count, 2);
        assert_eq!(status.failures[&ConnectFailure::Timeout], 3);
    }
}
