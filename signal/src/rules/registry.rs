//! The registry: who announced himself in a topic over HTTP, and which coordinators rank first.
//!
//! Everything is in memory and ends by itself. The ranking is the election: whoever computes it
//! from the same heartbeats comes to the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use kinlog_feeds::{PublicKey, Time};

use crate::Topic;
use crate::limits::{
    ANNOUNCED_FOR, ANNOUNCED_MAX, ANNOUNCED_PER_ADDRESS_MAX, COORDINATOR_FOR, COORDINATORS_MAX,
    PEERS_PER_TOPIC_MAX, REGISTRY_SWEEP_INTERVAL,
};
use crate::registry::{Announcement, Heartbeat};
use crate::rules::addresses::AddressKey;

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
    /// As many peers as may be.
    #[error("the network has as many peers as it may")]
    TopicFull,
    /// As many announcements from this address as may be.
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
    time_s: u64,
    seen: Time,
    from: AddressKey,
}

#[derive(Debug)]
struct Coordinator {
    capacity: u32,
    time_s: u64,
    /// Start of an unbroken row of heartbeats: its uptime, as this server saw it.
    since: Time,
    heard: Time,
}

/// Announcements and heartbeats of all networks.
#[derive(Debug, Default)]
pub(super) struct Registry {
    announced: BTreeMap<(Topic, PublicKey), Announced>,
    coordinators: BTreeMap<(Topic, PublicKey), Coordinator>,
    by_address: BTreeMap<AddressKey, usize>,
    swept: Time,
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
        let known = self.announced.get(&place);
        if known.is_some_and(|known| said.time_s <= known.time_s) {
            return Err(CallError::NotNewer);
        }
        // A renewal takes no place that it does not have; refused, it leaves the old one as it is.
        let (is_new, is_of_another) =
            (known.is_none(), known.map(|known| known.from) != Some(from));
        if is_new && self.announced.len() >= ANNOUNCED_MAX {
            return Err(CallError::ServerFull);
        }
        if is_new && range(&self.announced, &said.topic).count() >= PEERS_PER_TOPIC_MAX {
            return Err(CallError::TopicFull);
        }
        let own = self.by_address.get(&from).copied().unwrap_or_default();
        if is_of_another && own >= ANNOUNCED_PER_ADDRESS_MAX {
            return Err(CallError::AddressFull);
        }
        self.remove(&place);
        *self.by_address.entry(from).or_default() += 1;
        let announced = Announced {
            user: said.user,
            signal_address: said.signal_address,
            capabilities: said.capabilities,
            time_s: said.time_s,
            seen: now,
            from,
        };
        self.announced.insert(place, announced);
        Ok(())
    }

    /// Takes a heartbeat whose signature holds, of a peer that is known.
    pub(super) fn heartbeat(&mut self, now: Time, said: &Heartbeat) -> Result<(), CallError> {
        let place = (said.topic, said.peer);
        let known = self.coordinators.get(&place);
        if known.is_some_and(|known| said.time_s <= known.time_s) {
            return Err(CallError::NotNewer);
        }
        if known.is_none() && self.coordinators.len() >= ANNOUNCED_MAX {
            return Err(CallError::ServerFull);
        }
        let unbroken = known.filter(|known| now < known.heard + COORDINATOR_FOR);
        let since = unbroken.map_or(now, |known| known.since);
        let coordinator = Coordinator {
            capacity: said.capacity,
            time_s: said.time_s,
            since,
            heard: now,
        };
        self.coordinators.insert(place, coordinator);
        Ok(())
    }

    /// Returns whether a peer announced itself not too long ago.
    pub(super) fn knows(&self, now: Time, topic: &Topic, peer: &PublicKey) -> bool {
        let known = self.announced.get(&(*topic, *peer));
        known.is_some_and(|known| now < known.seen + ANNOUNCED_FOR)
    }

    /// Returns the coordinators of a network, the best first: by capacity, uptime, key.
    pub(super) fn ranking(&self, now: Time, topic: &Topic) -> Vec<PublicKey> {
        let mut ranked = range(&self.coordinators, topic)
            .filter(|(_, coordinator)| now < coordinator.heard + COORDINATOR_FOR)
            .map(|(peer, known)| (Reverse(known.capacity), known.since, peer))
            .collect::<Vec<_>>();
        ranked.sort_unstable();
        let ranked = ranked.into_iter().map(|(_, _, peer)| peer);
        ranked.take(COORDINATORS_MAX).collect()
    }

    /// Returns who announced himself in a network.
    pub(super) fn peers(&self, now: Time, topic: &Topic) -> Vec<PeerEntry> {
        range(&self.announced, topic)
            .filter(|(_, announced)| now < announced.seen + ANNOUNCED_FOR)
            .map(|(peer, announced)| PeerEntry {
                user: announced.user,
                peer,
                signal_address: Some(announced.signal_address.clone()),
                capabilities: announced.capabilities.clone(),
                seen_ago: now.since(announced.seen),
                is_coordinator: false,
            })
            .collect()
    }

    /// Forgets what is over, once in a while.
    pub(super) fn sweep(&mut self, now: Time) {
        if now < self.swept + REGISTRY_SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        let over = self.announced.iter();
        let over = over.filter(|(_, announced)| announced.seen + ANNOUNCED_FOR <= now);
        for place in over.map(|(place, _)| *place).collect::<Vec<_>>() {
            self.remove(&place);
        }
        self.coordinators
            .retain(|_, coordinator| now < coordinator.heard + COORDINATOR_FOR);
    }

    /// Returns how many announcements and heartbeats are held.
    pub(super) fn len(&self) -> usize {
        self.announced.len() + self.coordinators.len()
    }

    fn remove(&mut self, place: &(Topic, PublicKey)) {
        let Some(removed) = self.announced.remove(place) else {
            return;
        };
        if let Some(count) = self.by_address.get_mut(&removed.from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&removed.from);
            }
        }
    }
}

/// Returns what is held of one topic.
fn range<'a, T>(
    held: &'a BTreeMap<(Topic, PublicKey), T>,
    topic: &Topic,
) -> impl Iterator<Item = (PublicKey, &'a T)> {
    let (first, last) = (PublicKey([0; 32]), PublicKey([0xff; 32]));
    held.range((*topic, first)..=(*topic, last))
        .map(|((_, peer), value)| (*peer, value))
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
}
