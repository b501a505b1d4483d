//! The registry: who announced himself in a topic over HTTP, and which coordinators rank first.
//!
//! Everything is in memory and ends by itself. The ranking is the election: whoever computes it
//! from the same heartbeats comes to the same.

use std::cmp::Reverse;
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use crate::Topic;
use crate::limits::{
    ANNOUNCED_FOR, ANNOUNCED_PER_ADDRESS_MAX, COORDINATOR_FOR, COORDINATORS_MAX,
    HEARTBEATS_PER_ADDRESS_MAX, HEARTBEATS_PER_TOPIC_MAX, PEERS_PER_TOPIC_MAX,
};
use crate::registry::{Announcement, Heartbeat};
use crate::rules::addresses::AddressKey;
use crate::rules::entries::{Bounds, Entries};

/// Why a call was not done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The address is over its rate.
    #[error("too many calls from this address, try again in {} ms", wait.as_millis())]
    RateLimited { wait: Duration },
    /// The signature is of another key, server, network or time.
    #[error("the signature does not hold for this server, network and peer")]
    BadSignature,
    /// The time is too far from the server's.
    #[error("time {given} is more than {window} s from the server's {now}")]
    TimeOff { given: u64, now: u64, window: u64 },
    /// Not later than what is known of this peer: said before.
    #[error("not later than what this peer said before")]
    NotNewer,
    /// Only peers that announced themselves, or are connected, coordinate.
    #[error("this peer is not known in the network: announce it first")]
    NotAnnounced,
    /// As many peers, or of them coordinators, as may be.
    #[error("the network has as many peers of this kind as it may")]
    TopicFull,
    /// As many announcements, or heartbeats, from this address as may be.
    #[error("too many peers are announced from this address")]
    AddressFull,
    /// As many announcements on this server as may be.
    #[error("the server is full")]
    ServerFull,
    /// Something in the announcement that no signature makes good.
    #[error(transparent)]
    Announcement(#[from] crate::registry::AnnouncementError),
}

impl CallError {
    /// Returns its name in metrics and in answers.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            CallError::RateLimited { .. } => "rate-limited",
            CallError::BadSignature => "bad-signature",
            CallError::TimeOff { .. } => "time-off",
            CallError::NotNewer => "not-newer",
            CallError::NotAnnounced => "not-announced",
            CallError::TopicFull => "network-full",
            CallError::AddressFull => "address-full",
            CallError::ServerFull => "server-full",
            CallError::Announcement(_) => "bad-request",
        }
    }
}

/// A peer of a network as the registry shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerEntry {
    /// Whose device it is, blinded.
    pub user: PublicKey,
    /// The device, blinded.
    pub peer: PublicKey,
    /// Where it is met; `None` for one that is connected here.
    pub signal_address: Option<String>,
    /// What it said it offers.
    pub capabilities: Vec<String>,
    /// How long ago it was heard of.
    pub seen_ago: Duration,
    /// Whether it is among the coordinators that rank first.
    pub is_coordinator: bool,
}

#[derive(Debug)]
struct Announced {
    user: PublicKey,
    signal_address: String,
    capabilities: Vec<String>,
}

#[derive(Debug)]
struct Coordinator {
    capacity: u32,
    /// Start of an unbroken row of heartbeats: its uptime, as this server saw it.
    since: Time,
}

/// Announcements and heartbeats of all networks.
#[derive(Debug)]
pub(super) struct Registry {
    announced: Entries<Announced>,
    coordinators: Entries<Coordinator>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            announced: Entries::new(Bounds {
                per_topic_max: PEERS_PER_TOPIC_MAX,
                per_address_max: ANNOUNCED_PER_ADDRESS_MAX,
                holds: ANNOUNCED_FOR,
            }),
            coordinators: Entries::new(Bounds {
                per_topic_max: HEARTBEATS_PER_TOPIC_MAX,
                per_address_max: HEARTBEATS_PER_ADDRESS_MAX,
                holds: COORDINATOR_FOR,
            }),
        }
    }
}

impl Registry {
    /// Takes an announcement whose signatures hold.
    pub(super) fn announce(
        &mut self,
        now: Time,
        from: AddressKey,
        said: Announcement,
    ) -> Result<(), CallError> {
        let place = (said.topic, said.peer);
        let announced = Announced {
            user: said.user,
            signal_address: said.signal_address,
            capabilities: said.capabilities,
        };
        self.announced.put(now, from, place, said.time_s, announced)
    }

    /// Takes a heartbeat whose signature holds, of a peer that is known.
    pub(super) fn heartbeat(
        &mut self,
        now: Time,
        from: AddressKey,
        said: &Heartbeat,
    ) -> Result<(), CallError> {
        let place = (said.topic, said.peer);
        let unbroken = self.coordinators.get(now, &place);
        let coordinator = Coordinator {
            capacity: said.capacity,
            since: unbroken.map_or(now, |known| known.said.since),
        };
        self.coordinators
            .put(now, from, place, said.time_s, coordinator)
    }

    /// Returns whether a peer announced itself not too long ago.
    pub(super) fn knows(&self, now: Time, topic: &Topic, peer: &PublicKey) -> bool {
        self.announced.get(now, &(*topic, *peer)).is_some()
    }

    /// Returns the coordinators of a network, the best first: by capacity, uptime, key.
    pub(super) fn ranking(&self, now: Time, topic: &Topic) -> Vec<PublicKey> {
        let known = self.coordinators.of(now, topic);
        let mut ranked = known
            .map(|(peer, known)| (Reverse(known.said.capacity), known.said.since, peer))
            .collect::<Vec<_>>();
        ranked.sort_unstable();
        let ranked = ranked.into_iter().map(|(_, _, peer)| peer);
        ranked.take(COORDINATORS_MAX).collect()
    }

    /// Returns who announced himself in a network.
    pub(super) fn peers(&self, now: Time, topic: &Topic) -> Vec<PeerEntry> {
        let announced = self.announced.of(now, topic);
        announced
            .map(|(peer, known)| PeerEntry {
                user: known.said.user,
                peer,
                signal_address: Some(known.said.signal_address.clone()),
                capabilities: known.said.capabilities.clone(),
                seen_ago: now.since(known.heard),
                is_coordinator: false,
            })
            .collect()
    }

    /// Forgets what is over, once in a while.
    pub(super) fn sweep(&mut self, now: Time) {
        self.announced.sweep(now);
        self.coordinators.sweep(now);
    }

    /// Returns how many announcements and heartbeats are held.
    pub(super) fn len(&self) -> usize {
        self.announced.len() + self.coordinators.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(topic: u8, peer: usize, time_s: u64) -> Announcement {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&peer.to_le_bytes());
        Announcement {
            topic: Topic([topic; 32]),
            user: PublicKey(key),
            peer: PublicKey(key),
            signal_address: "wss://signal.example".to_owned(),
            capabilities: Vec::new(),
            time_s,
        }
    }

    /// A peer that moved was forgotten when its renewal came to a full address: the old announcement
    /// was taken out before there was known to be a place for the new one.
    #[test]
    fn a_refused_renewal_leaves_the_announcement_as_it_was() {
        let mut registry = Registry::default();
        let (home, full) = (AddressKey::V4(1), AddressKey::V4(2));
        registry.announce(Time::ZERO, home, said(1, 0, 10)).unwrap();
        for peer in 1..=ANNOUNCED_PER_ADDRESS_MAX {
            registry
                .announce(Time::ZERO, full, said(2, peer, 10))
                .unwrap();
        }
        let moved = registry.announce(Time::ZERO, full, said(1, 0, 11));
        assert_eq!(moved, Err(CallError::AddressFull));
        let peers = registry.peers(Time::ZERO, &Topic([1; 32]));
        assert_eq!(peers.len(), 1, "still known");
        let again = registry.announce(Time::ZERO, home, said(1, 0, 12));
        assert_eq!(again, Ok(()), "and renewed from where it has a place");
    }

    #[test]
    fn a_full_network_and_a_full_address_still_renew() {
        let mut registry = Registry::default();
        for peer in 0..PEERS_PER_TOPIC_MAX {
            let from = AddressKey::V6(u64::try_from(peer / ANNOUNCED_PER_ADDRESS_MAX).unwrap());
            registry
                .announce(Time::ZERO, from, said(1, peer, 10))
                .unwrap();
        }
        let (first, other) = (AddressKey::V6(0), AddressKey::V4(1));
        let mut announce = |from, said| registry.announce(Time::ZERO, from, said);
        assert_eq!(announce(first, said(1, 0, 11)), Ok(()));
        assert_eq!(announce(other, said(1, 0, 12)), Ok(()), "from elsewhere");
        assert_eq!(announce(other, said(1, 999, 10)), Err(CallError::TopicFull));
        assert_eq!(
            announce(first, said(2, 0, 10)),
            Ok(()),
            "one place is free again"
        );
        assert_eq!(announce(first, said(2, 1, 10)), Err(CallError::AddressFull));
        assert_eq!(announce(first, said(2, 0, 10)), Err(CallError::NotNewer));
    }

    /// Heartbeats had a bound in all, and none for a network or an address.
    #[test]
    fn heartbeats_are_bounded_for_each_network_and_address() {
        let mut registry = Registry::default();
        let mut beat = |from, topic, peer: usize, time_s| {
            let said = said(topic, peer, time_s);
            let said = Heartbeat {
                topic: said.topic,
                peer: said.peer,
                active_peers: 0,
                capacity: 1,
                time_s,
            };
            registry.heartbeat(Time::ZERO, AddressKey::V4(from), &said)
        };
        for topic in 1..=4 {
            for peer in 0..HEARTBEATS_PER_TOPIC_MAX {
                assert_eq!(beat(1, topic, peer, 10), Ok(()));
            }
            assert_eq!(beat(2, topic, 99, 10), Err(CallError::TopicFull));
        }
        assert_eq!(beat(1, 5, 0, 10), Err(CallError::AddressFull));
        assert_eq!(beat(2, 5, 0, 10), Ok(()), "another address");
        assert_eq!(beat(1, 1, 0, 11), Ok(()), "known ones go on");
        assert_eq!(beat(2, 1, 1, 11), Ok(()), "also from elsewhere");
    }
}
