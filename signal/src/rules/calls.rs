//! Calls of the registry: what each costs, what it must prove, what it shows.

use std::net::IpAddr;

use kinlog_feeds::crypto::SIGNATURE_BYTES;
use kinlog_feeds::{PublicKey, Time};

use crate::limits::{BAD_SIGNATURE_TOKENS, CALL_TIME_WINDOW_S, CALL_TOKENS, PEERS_LISTED_MAX};
use crate::registry::{Announcement, Heartbeat};
use crate::rules::addresses::AddressKey;
use crate::rules::core::Rules;
use crate::rules::registry::{CallError, PeerEntry};
use crate::{ServerName, Topic};

/// A signature with the key that made it.
pub type Signed = (PublicKey, [u8; SIGNATURE_BYTES]);

/// Who is in a network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActivePeers {
    /// Some of the peers, the coordinators first.
    pub peers: Vec<PeerEntry>,
    /// How many there are.
    pub total: usize,
    /// The coordinators, the best first.
    pub coordinators: Vec<PublicKey>,
}

impl Rules {
    /// Takes an announcement; `signatures` are the peer's and, when that is another key, the user's.
    ///
    /// `unix_s` is the server's clock in seconds since 1970; `names` are the names by which the
    /// caller may have dialled.
    pub fn handle_announce(
        &mut self,
        now: Time,
        unix_s: u64,
        from: IpAddr,
        names: &[ServerName],
        said: Announcement,
        signatures: &[Signed],
    ) -> Result<(), CallError> {
        let from = AddressKey::from(from);
        let done = self.pay(now, from).and_then(|()| {
            said.check()?;
            timely(said.time_s, unix_s)?;
            let signed = |signer: &PublicKey| {
                let own = signatures.iter().filter(|(key, _)| key == signer);
                let holds = |name, signature| said.verify(name, signer, signature).is_ok();
                own.clone()
                    .any(|(_, signature)| names.iter().any(|name| holds(name, signature)))
            };
            if !signed(&said.peer) || !signed(&said.user) {
                self.addresses.charge(now, from, BAD_SIGNATURE_TOKENS);
                return Err(CallError::BadSignature);
            }
            self.registry.announce(now, from, said)
        });
        self.count_call("announce", done)
    }

    /// Takes a coordinator's heartbeat and returns the ranking of its network.
    pub fn handle_heartbeat(
        &mut self,
        now: Time,
        unix_s: u64,
        from: IpAddr,
        names: &[ServerName],
        said: &Heartbeat,
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<Vec<PublicKey>, CallError> {
        let from = AddressKey::from(from);
        let done = self.pay(now, from).and_then(|()| {
            timely(said.time_s, unix_s)?;
            if !names
                .iter()
                .any(|name| said.verify(name, signature).is_ok())
            {
                self.addresses.charge(now, from, BAD_SIGNATURE_TOKENS);
                return Err(CallError::BadSignature);
            }
            let connected = self.topics.member(&said.topic, &said.peer).is_some();
            if !connected && !self.registry.knows(now, &said.topic, &said.peer) {
                return Err(CallError::NotAnnounced);
            }
            self.registry.heartbeat(now, from, said)?;
            Ok(self.registry.ranking(now, &said.topic))
        });
        self.count_call("heartbeat", done)
    }

    /// Returns who is in a network: who announced himself, and who is connected here.
    pub fn active_peers(
        &mut self,
        now: Time,
        from: IpAddr,
        topic: &Topic,
    ) -> Result<ActivePeers, CallError> {
        let done = self.pay(now, AddressKey::from(from)).map(|()| {
            let mut peers = self.everybody(now, topic);
            let coordinators = self.registry.ranking(now, topic);
            let total = peers.len();
            peers.sort_by_key(|entry| (!entry.is_coordinator, entry.seen_ago, entry.peer));
            peers.truncate(PEERS_LISTED_MAX);
            ActivePeers {
                peers,
                total,
                coordinators,
            }
        });
        self.count_call("active-peers", done)
    }

    /// Returns the devices of one user in a network, and the network's coordinators.
    pub fn devices_of(
        &mut self,
        now: Time,
        from: IpAddr,
        topic: &Topic,
        user: &PublicKey,
    ) -> Result<ActivePeers, CallError> {
        let done = self.pay(now, AddressKey::from(from)).map(|()| {
            let mut peers = self.everybody(now, topic);
            peers.retain(|entry| entry.user == *user);
            let total = peers.len();
            peers.truncate(PEERS_LISTED_MAX);
            ActivePeers {
                peers,
                total,
                coordinators: self.registry.ranking(now, topic),
            }
        });
        self.count_call("peer", done)
    }

    /// Connected peers, and those who announced themselves; who did both is there now.
    fn everybody(&self, now: Time, topic: &Topic) -> Vec<PeerEntry> {
        let mut peers = self.registry.peers(now, topic);
        for entry in &mut peers {
            if self.topics.member(topic, &entry.peer).is_some() {
                entry.seen_ago = std::time::Duration::ZERO;
            }
        }
        for peer in self.topics.members(topic) {
            if !self.registry.knows(now, topic, &peer) {
                peers.push(PeerEntry {
                    user: peer,
                    peer,
                    signal_address: None,
                    capabilities: Vec::new(),
                    seen_ago: std::time::Duration::ZERO,
                    is_coordinator: false,
                });
            }
        }
        let coordinators = self.registry.ranking(now, topic);
        for entry in &mut peers {
            entry.is_coordinator = coordinators.contains(&entry.peer);
        }
        peers
    }

    fn pay(&mut self, now: Time, from: AddressKey) -> Result<(), CallError> {
        self.addresses
            .spend(now, from, CALL_TOKENS)
            .map_err(|wait| CallError::RateLimited { wait })
    }

    fn count_call<T>(
        &mut self,
        call: &'static str,
        done: Result<T, CallError>,
    ) -> Result<T, CallError> {
        self.counters.registry_calls.add(call, 1);
        if let Err(error) = &done {
            self.counters.registry_refusals.add(error.name(), 1);
        }
        done
    }
}

/// What was signed long ago, or for later, is not taken: within the window an entry remembers the
/// time of the last, and entries outlive the window.
fn timely(given: u64, now: u64) -> Result<(), CallError> {
    if given.abs_diff(now) > CALL_TIME_WINDOW_S {
        let window = CALL_TIME_WINDOW_S;
        return Err(CallError::TimeOff { given, now, window });
    }
    Ok(())
}
