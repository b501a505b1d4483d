//! What happened since the start, for whoever watches the server.

use std::collections::BTreeMap;

/// Counts by a name out of a short list; no name comes from a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ByName(BTreeMap<&'static str, u64>);

impl ByName {
    pub(crate) fn new(names: &[&'static str]) -> Self {
        ByName(names.iter().map(|name| (*name, 0)).collect())
    }

    pub(crate) fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    /// Returns the counts in the order of their names, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }

    /// Returns one count.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// Counters of one server; each only grows.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that were taken.
    pub connects: u64,
    /// Connections that were not taken, by reason.
    pub connects_refused: ByName,
    /// Connections that ended, by reason.
    pub closes: ByName,
    /// Frames of clients, by kind.
    pub frames: ByName,
    /// Bytes of those frames.
    pub received_bytes: u64,
    /// Frames to clients.
    pub sent_frames: u64,
    /// Bytes of those frames.
    pub sent_bytes: u64,
    /// Offers, answers and candidates that were passed on.
    pub relayed: ByName,
    /// Bytes of their bodies.
    pub relayed_bytes: u64,
    /// Refusals, by code.
    pub refusals: ByName,
    /// Times that a sender over its rate was not read from for a while.
    pub pauses: u64,
    /// Calls of the registry, by call.
    pub registry_calls: ByName,
    /// Calls that were refused, by reason.
    pub registry_refusals: ByName,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            connects: 0,
            connects_refused: ByName::new(&[
                "address_full",
                "no_server_name",
                "server_full",
                "server_stops",
            ]),
            closes: ByName::new(&[
                "disconnected",
                "does_not_read",
                "frame_too_long",
                "nothing_joined",
                "offences",
                "stale",
            ]),
            frames: ByName::new(&[
                "answer",
                "candidate",
                "join",
                "keep_alive",
                "leave",
                "malformed",
                "offer",
                "ping",
            ]),
            received_bytes: 0,
            sent_frames: 0,
            sent_bytes: 0,
            relayed: ByName::new(&["answer", "candidate", "offer"]),
            relayed_bytes: 0,
            refusals: ByName::new(&[
                "bad_signature",
                "malformed",
                "no_such_peer",
                "not_joined",
                "rate_limited",
                "replaced",
                "server_full",
                "too_many_topics",
                "topic_full",
            ]),
            pauses: 0,
            registry_calls: ByName::new(&["active-peers", "announce", "heartbeat", "peer"]),
            registry_refusals: ByName::new(&[
                "address-full",
                "bad-request",
                "bad-signature",
                "network-full",
                "not-announced",
                "not-newer",
                "rate-limited",
                "server-full",
                "time-off",
            ]),
        }
    }
}
