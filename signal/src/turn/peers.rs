//! Which addresses may be peers: those of the public internet, and no other; not the relay's own
//! machine either, but for relayed addresses.
//!
//! A relay that sends to any address is a way into the network that it stands in. Ranges are those
//! of IANA's special-purpose registries (RFC 6890). An IPv6 address that stands for an IPv4 one
//! (mapped, 6to4, NAT64) is judged by that.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::message::{PEER_FAMILY, PEER_FORBIDDEN, Refusal};

/// What one relay sends to.
#[derive(Debug)]
pub(super) struct Reach {
    /// Where relayed addresses are, and their ports.
    pub(super) relays_at: IpAddr,
    pub(super) ports: RangeInclusive<u16>,
    /// Addresses of this machine.
    pub(super) own: BTreeSet<IpAddr>,
    /// For tests: loopback addresses may be peers, on any port that the others may be.
    pub(super) allows_loopback: bool,
}

impl Reach {
    /// Refuses a peer that is of another family than relayed addresses, not of the public internet,
    /// or this machine by another address than theirs.
    pub(super) fn check(&self, peer: IpAddr) -> Result<(), Refusal> {
        if peer.is_ipv4() != self.relays_at.is_ipv4() {
            return Err(PEER_FAMILY);
        }
        if self.allows_loopback && peer.is_loopback() {
            return Ok(());
        }
        let is_own = peer != self.relays_at && self.own.contains(&peer.to_canonical());
        match is_public(peer) && !is_own {
            true => Ok(()),
            false => Err(PEER_FORBIDDEN),
        }
    }

    /// Returns whether a peer that was let in may be sent to: of the relay's own machine other
    /// clients' relayed addresses are all there is.
    pub(super) fn has(&self, peer: SocketAddr) -> bool {
        peer.ip() != self.relays_at || self.ports.contains(&peer.port())
    }
}

/// Returns whether an address is one of the public internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !matches!(
        (a, b, c),
        // This network, private, loopback.
        (0 | 10 | 127, ..)
            // Behind a carrier's NAT (RFC 6598).
            | (100, 64..=127, _)
            // Link-local, where clouds keep the credentials of machines.
            | (169, 254, _)
            | (172, 16..=31, _)
            // Protocol assignments, documentation, the anycast of 6to4, private.
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            // Benchmarks, documentation.
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            // Multicast, reserved, broadcast.
            | (224..=255, ..)
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // Mapped (RFC 4291). The rest of ::/16 is unspecified, loopback, compatible, translated.
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => embedded(g, h),
        // NAT64 (RFC 6052); the prefix for local use (RFC 8215) is beside it.
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => embedded(g, h),
        // 6to4 (RFC 3056).
        (0x2002, _) => embedded(b, c),
        // Protocol assignments, Teredo, benchmarks, ORCHID (2001::/23), documentation.
        (0x2001, 0..=0x1ff | 0x0db8) => false,
        (0x3fff, 0..=0x0fff) => false,
        // Of all others global unicast is 2000::/3: not unique local, link-local, multicast.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &[(&str, &str)] = &[
        ("this network", "0.0.0.0 0.255.255.255 ::"),
        (
            "private",
            "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255",
        ),
        ("loopback", "127.0.0.0 127.0.0.1 127.255.255.255 ::1"),
        ("carrier", "100.64.0.0 100.127.255.255"),
        (
            "link-local",
            "169.254.0.0 169.254.169.254 169.254.255.255 fe80:: fe80::1 febf:ffff::1",
        ),
        ("site-local", "fec0::1 feff::1"),
        (
            "protocol assignments",
            "192.0.0.0 192.0.0.255 2001:: 2001:1ff:ffff::1",
        ),
        (
            "documentation",
            "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1 3fff:fff::1",
        ),
        ("6to4 anycast", "192.88.99.1"),
        ("benchmarks", "198.18.0.0 198.19.255.255 2001:2::1"),
        ("multicast", "224.0.0.1 239.255.255.255 ff02::1 ff0e::1"),
        ("reserved and broadcast", "240.0.0.1 255.255.255.255"),
        ("unique local", "fc00::1 fd00::1 fdff:ffff::1"),
        ("Teredo", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        ("discard", "100::1"),
        ("segment routing", "5f00::1"),
        ("compatible", "::7f00:1 ::808:808"),
        ("translated", "::ffff:0:808:808"),
        (
            "mapped",
            "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0",
        ),
        (
            "mapped",
            "::ffff:100.64.0.1 ::ffff:192.0.2.1 ::ffff:224.0.0.1",
        ),
        (
            "NAT64",
            "64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b::a9fe:a9fe 64:ff9b::e000:1",
        ),
        (
            "NAT64 for local use",
            "64:ff9b:1::808:808 64:ff9b:0:1::808:808",
        ),
        (
            "6to4",
            "2002:7f00:1:: 2002:a00:1::1 2002:c0a8:1::1 2002:a9fe:a9fe:: 2002:6440:1::",
        ),
    ];

    const ALLOWED: &str = "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 \
        128.0.0.1 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.1 192.0.3.0 \
        192.88.98.255 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.1 198.51.101.0 \
        203.0.112.255 203.0.114.0 223.255.255.255 2001:200::1 2001:4860:4860::8888 2001:db7::1 \
        2001:db9::1 2003::1 2a00:1450::1 3ffe::1 3fff:1000::1 ::ffff:8.8.8.8 64:ff9b::808:808 \
        2002:808:808::1";

    #[test]
    fn peers_are_addresses_of_the_public_internet() {
        let (mut refused, mut allowed) = (0, 0);
        for (kind, addresses) in REFUSED {
            for address in addresses.split(' ') {
                assert!(!is_public(address.parse().unwrap()), "{kind}: {address}");
                refused += 1;
            }
        }
        for address in ALLOWED.split_whitespace() {
            assert!(is_public(address.parse().unwrap()), "{address}");
            allowed += 1;
        }
        assert_eq!((refused, allowed), (70, 34));
    }
}
