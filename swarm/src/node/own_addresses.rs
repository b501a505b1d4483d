//! Under which addresses this machine reaches others, and when that changes: another network, a new lease,
//! a cable in the place of radio.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Any port does: nothing is sent.
const PORT: u16 = 9;

/// The addresses as they were when looked at last.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses {
    known: Option<Sources>,
}

/// The addresses that packets to far away leave from, one of each family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Sources {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

impl OwnAddresses {
    /// Returns whether others are reached from another address than when it was asked last. A machine
    /// that is cut off has none, and its connections live on if it comes back with the old ones.
    pub(super) fn have_changed(&mut self) -> bool {
        self.compare(Sources::look())
    }

    fn compare(&mut self, now: Sources) -> bool {
        if now.v4.is_none() && now.v6.is_none() {
            return false;
        }
        let before = self.known.replace(now);
        before.is_some_and(|before| before != now)
    }
}

impl Sources {
    /// Asks the kernel's routes, with addresses that are nobody's (RFC 5737, RFC 3849).
    fn look() -> Self {
        Sources {
            v4: source_towards(Ipv4Addr::new(192, 0, 2, 1).into()),
            v6: source_towards(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
        }
    }
}

fn source_towards(far: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match far {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(far, PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Returns whether an address is one of this machine.
pub(super) fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(v4: Option<[u8; 4]>) -> Sources {
        let v4 = v4.map(|octets| IpAddr::V4(octets.into()));
        Sources { v4, v6: None }
    }

    #[test]
    fn another_address_is_a_change_and_none_at_all_is_not() {
        let mut own = OwnAddresses::default();
        assert!(!own.compare(sources(Some([10, 0, 0, 1]))), "the first look");
        assert!(!own.compare(sources(Some([10, 0, 0, 1]))));
        assert!(!own.compare(sources(None)), "cut off");
        assert!(!own.compare(sources(Some([10, 0, 0, 1]))), "back as before");
        assert!(own.compare(sources(Some([10, 0, 0, 2]))));
        assert!(!own.compare(sources(None)));
        assert!(own.compare(sources(Some([10, 0, 0, 1]))), "back elsewhere");
    }

    #[test]
    fn loopback_is_our_own_and_nobodys_address_is_not() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 1).into()));
    }
}
