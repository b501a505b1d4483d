//! Which datagrams are answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kinlog_feeds::Time;

use super::message::Request;
use crate::limits::{Rate, STUN_ADDRESSES_MAX, STUN_RATE};
use crate::rules::{AddressKey, Bucket};

/// How often addresses are forgotten that asked for nothing lately.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What became of the datagrams that came.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StunCounts {
    /// Requests that were told their address.
    pub answered: u64,
    /// Requests refused for attributes that they demand and this server does not know.
    pub refused: u64,
    /// Requests of addresses that ask too often, left without an answer.
    pub too_often: u64,
    /// Datagrams that are no binding request, left without an answer.
    pub ignored: u64,
}

/// Answers binding requests.
#[derive(Debug)]
pub struct Responder {
    rate: Rate,
    addresses: BTreeMap<AddressKey, Bucket>,
    swept: Time,
    counts: StunCounts,
}

impl Default for Responder {
    fn default() -> Self {
        Responder::new(STUN_RATE)
    }
}

impl Responder {
    /// Returns one that answers each IPv4 address and IPv6 /64 at `rate`.
    pub fn new(rate: Rate) -> Self {
        Responder {
            rate,
            addresses: BTreeMap::new(),
            swept: Time::ZERO,
            counts: StunCounts::default(),
        }
    }

    /// Takes a datagram and returns the one to answer with, if any.
    ///
    /// An answer has at most 44 bytes more than its datagram, and at most 2.6 times as many.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<Vec<u8>> {
        let Some(request) = Request::decode(datagram) else {
            self.counts.ignored += 1;
            return None;
        };
        if !self.may_ask(now, from) {
            self.counts.too_often += 1;
            return None;
        }
        if request.unknown.is_empty() {
            self.counts.answered += 1;
            Some(request.success(from))
        } else {
            self.counts.refused += 1;
            Some(request.unknown_attributes())
        }
    }

    /// Returns what became of the datagrams so far.
    pub fn counts(&self) -> StunCounts {
        self.counts
    }

    pub(crate) fn may_ask(&mut self, now: Time, from: SocketAddr) -> bool {
        if now.since(self.swept) >= SWEEP_INTERVAL {
            self.swept = now;
            self.addresses.retain(|_, bucket| !bucket.is_full(now));
        }
        let key = AddressKey::from(from.ip());
        if self.addresses.len() >= STUN_ADDRESSES_MAX && !self.addresses.contains_key(&key) {
            return false;
        }
        let bucket = self.addresses.entry(key);
        let bucket = bucket.or_insert_with(|| Bucket::new(self.rate, now));
        bucket.take_one(now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A binding request without attributes.
    const REQUEST: [u8; 20] = [
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_asks_too_often_gets_no_answer_and_others_do() {
        let rate = Rate {
            per_second: 1,
            burst: 2,
        };
        let mut responder = Responder::new(rate);
        let mut ask = |now, from| {
            responder
                .handle_datagram(now, address(from), &REQUEST)
                .is_some()
        };
        assert!(ask(Time::ZERO, "[2001:db8::1]:1") && ask(Time::ZERO, "[2001:db8::2]:2"));
        assert!(!ask(Time::ZERO, "[2001:db8::3]:3"), "one customer");
        assert!(ask(Time::ZERO, "[2001:db8:0:1::1]:1"));
        assert!(ask(Time(1_000_000), "[2001:db8::1]:1"));
        let counts = responder.counts();
        assert_eq!((counts.answered, counts.too_often), (4, 1));
    }

    #[test]
    fn addresses_that_rest_are_forgotten() {
        let mut responder = Responder::default();
        let from = address("192.0.2.1:1");
        assert!(
            responder
                .handle_datagram(Time::ZERO, from, &REQUEST)
                .is_some()
        );
        assert_eq!(responder.addresses.len(), 1);
        let later = Time(5_000_000);
        let from = address("192.0.2.2:1");
        assert!(responder.handle_datagram(later, from, &REQUEST).is_some());
        assert_eq!(responder.addresses.len(), 1);
    }

    #[test]
    fn a_flood_of_forged_senders_fills_no_memory() {
        let mut responder = Responder::default();
        for ip in 0..100_000u32 {
            let from = SocketAddr::from((ip.to_be_bytes(), 1));
            let _ = responder.handle_datagram(Time::ZERO, from, &REQUEST);
        }
        assert_eq!(responder.addresses.len(), STUN_ADDRESSES_MAX);
        let from = address("203.0.113.1:1");
        assert!(
            responder
                .handle_datagram(Time(1_000_000), from, &REQUEST)
                .is_some()
        );
    }

    #[test]
    fn an_answer_is_at_most_44_bytes_longer_and_2_6_times_as_long() {
        for attributes in 0..100u8 {
            let mut request = REQUEST.to_vec();
            request[2..4].copy_from_slice(&(u16::from(attributes) * 4).to_be_bytes());
            for _ in 0..attributes {
                request.extend([0x00, 0x03, 0, 0]);
            }
            let from = address("[2001:db8::1]:1");
            let answer = Responder::default().handle_datagram(Time::ZERO, from, &request);
            let answer = answer.expect("it is a binding request").len();
            assert!(
                answer <= request.len() + 44,
                "{answer} for {}",
                request.len()
            );
            assert!(
                answer * 10 <= request.len() * 26,
                "{answer} for {}",
                request.len()
            );
        }
    }
}
