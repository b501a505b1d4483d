//! What is remembered per address: connections and a token bucket.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use kinlog_feeds::Time;

use crate::limits::{IDLE_ADDRESSES_MAX, Rate, SWEEP_INTERVAL};
use crate::rules::bucket::Bucket;

/// An IPv4 address, or the /64 that one IPv6 customer has.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum AddressKey {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => AddressKey::V4(v4.to_bits()),
            IpAddr::V6(v6) => AddressKey::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

#[derive(Debug)]
struct Address {
    connections: usize,
    bucket: Bucket,
}

/// All addresses with connections, or with a bucket that is not full again.
#[derive(Debug)]
pub(super) struct Addresses {
    rate: Rate,
    connections_max: usize,
    known: BTreeMap<AddressKey, Address>,
    connected: usize,
}

impl Addresses {
    pub(super) fn new(rate: Rate, connections_max: usize) -> Self {
        Addresses {
            rate,
            connections_max,
            known: BTreeMap::new(),
            connected: 0,
        }
    }

    /// Counts a connection in; `false` when the address, or the memory for addresses, is full.
    pub(super) fn admit(&mut self, now: Time, key: AddressKey) -> bool {
        let idle = self.known.len().saturating_sub(self.connected);
        if !self.known.contains_key(&key) && idle >= IDLE_ADDRESSES_MAX {
            return false;
        }
        let fresh = Address {
            connections: 0,
            bucket: Bucket::new(self.rate, now),
        };
        let address = self.known.entry(key).or_insert(fresh);
        if address.connections >= self.connections_max {
            return false;
        }
        address.connections += 1;
        if address.connections == 1 {
            self.connected += 1;
        }
        true
    }

    /// Counts a connection out.
    pub(super) fn release(&mut self, key: AddressKey) {
        if let Some(address) = self.known.get_mut(&key) {
            address.connections = address.connections.saturating_sub(1);
            if address.connections == 0 {
                self.connected = self.connected.saturating_sub(1);
            }
        }
    }

    /// Charges an address and returns how long its debt lasts.
    pub(super) fn charge(&mut self, now: Time, key: AddressKey, cost: u32) -> Duration {
        self.known
            .get_mut(&key)
            .map_or(Duration::ZERO, |known| known.bucket.charge(now, cost))
    }

    /// Charges an address that may have no connection, unless it is in debt or there is no memory
    /// for one more; then returns how long to wait.
    pub(super) fn spend(&mut self, now: Time, key: AddressKey, cost: u32) -> Result<(), Duration> {
        let idle = self.known.len().saturating_sub(self.connected);
        if !self.known.contains_key(&key) && idle >= IDLE_ADDRESSES_MAX {
            return Err(SWEEP_INTERVAL);
        }
        let fresh = Address {
            connections: 0,
            bucket: Bucket::new(self.rate, now),
        };
        let bucket = &mut self.known.entry(key).or_insert(fresh).bucket;
        let debt = bucket.charge(now, 0);
        if !debt.is_zero() {
            return Err(debt);
        }
        bucket.charge(now, cost);
        Ok(())
    }

    /// Forgets addresses without connections whose bucket is full again.
    pub(super) fn sweep(&mut self, now: Time) {
        self.known
            .retain(|_, known| known.connections > 0 || !known.bucket.is_full(now));
    }

    /// Returns how many addresses are remembered.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_of_ipv6_is_one_address() {
        let key = |text: &str| AddressKey::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.2"), key("192.0.2.1"));
        assert_ne!(key("::"), key("255.255.255.255"));
    }

    #[test]
    fn a_debt_survives_reconnecting_and_is_forgotten_when_paid() {
        let rate = Rate {
            per_second: 1,
            burst: 2,
        };
        let mut addresses = Addresses::new(rate, 1);
        let key = AddressKey::V4(1);
        assert!(addresses.admit(Time::ZERO, key));
        assert!(
            !addresses.admit(Time::ZERO, key),
            "one connection is the limit"
        );
        addresses.charge(Time::ZERO, key, 4);
        addresses.release(key);
        addresses.sweep(Time(1_000_000));
        assert!(addresses.admit(Time(1_000_000), key));
        assert_eq!(
            addresses.charge(Time(1_000_000), key, 0),
            Duration::from_secs(1)
        );
        addresses.release(key);
        addresses.sweep(Time(4_000_000));
        assert_eq!(addresses.len(), 0);
    }
}
