//! Over what a connection goes, in words: from the candidate pair that ICE chose.

use std::net::{IpAddr, SocketAddr};

use kinlog_swarm::link::{CandidateKind, IceCandidate, IcePath};
use kinlog_swarm::{SessionStatus, Transport};

use crate::api::{WayInfo, WayKind};

/// Returns the way of a session's link.
pub(crate) fn way(session: &SessionStatus) -> WayInfo {
    let kind = match (session.transport, &session.path) {
        _ if session.via.is_some() => WayKind::Peer,
        (Transport::Memory, _) => WayKind::Process,
        (Transport::Tcp, _) => WayKind::Tcp,
        (_, Some(path)) => kind(path),
        (_, None) => WayKind::Unknown,
    };
    let server = match (&kind, &session.path) {
        (WayKind::Turn, Some(path)) => relay(path).map(|address| address.to_string()),
        _ => None,
    };
    WayInfo {
        kind,
        server,
        via: None,
    }
}

fn kind(path: &IcePath) -> WayKind {
    let ends = [&path.local, &path.remote];
    if ends.iter().any(|end| end.kind == CandidateKind::Relay) {
        return WayKind::Turn;
    }
    let addresses = ends.map(|end| end.address.map(|address| address.ip()));
    if let [Some(near), Some(far)] = addresses
        && (near.is_loopback() && far.is_loopback() || near == far)
    {
        return WayKind::Machine;
    }
    // A peer's address that showed during checks is one of its own network's, too, when it was not
    // told before.
    let is_near = |end: &IceCandidate| match end.kind {
        CandidateKind::Host => true,
        CandidateKind::Prflx => end.address.is_some_and(|address| is_local(address.ip())),
        _ => false,
    };
    match ends.into_iter().all(is_near) {
        true => WayKind::Network,
        false => WayKind::Nat,
    }
}

/// Returns the address of the relay, ours before theirs.
fn relay(path: &IcePath) -> Option<SocketAddr> {
    let ends = [&path.local, &path.remote];
    let relay = ends
        .into_iter()
        .find(|end| end.kind == CandidateKind::Relay)?;
    relay.address
}

/// Returns whether an address belongs to no network but one's own (RFC 1918, RFC 4193, link-local).
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use CandidateKind::{Host, Prflx, Relay, Srflx};

    use super::*;

    fn end(kind: CandidateKind, address: &str) -> IceCandidate {
        IceCandidate {
            kind,
            address: Some(address.parse().expect("an address")),
        }
    }

    #[test]
    fn a_pair_of_candidates_tells_over_what_it_goes() {
        let cases = [
            (
                (Host, "127.0.0.1:1"),
                (Host, "127.0.0.1:2"),
                WayKind::Machine,
            ),
            (
                (Host, "192.168.1.4:1"),
                (Host, "192.168.1.4:2"),
                WayKind::Machine,
            ),
            (
                (Host, "192.168.1.4:1"),
                (Host, "192.168.1.5:2"),
                WayKind::Network,
            ),
            (
                (Host, "192.168.1.4:1"),
                (Prflx, "192.168.1.5:2"),
                WayKind::Network,
            ),
            (
                (Host, "192.168.1.4:1"),
                (Prflx, "203.0.113.5:2"),
                WayKind::Nat,
            ),
            (
                (Srflx, "198.51.100.4:1"),
                (Host, "203.0.113.5:2"),
                WayKind::Nat,
            ),
            (
                (Host, "192.168.1.4:1"),
                (Relay, "203.0.113.9:2"),
                WayKind::Turn,
            ),
        ];
        for (local, remote, expected) in cases {
            let path = IcePath {
                local: end(local.0, local.1),
                remote: end(remote.0, remote.1),
                protocol: "udp".to_owned(),
            };
            assert_eq!(kind(&path), expected, "{path:?}");
        }
    }

    #[test]
    fn of_two_relays_ours_is_named() {
        let path = IcePath {
            local: end(Relay, "198.51.100.4:7"),
            remote: end(Relay, "203.0.113.9:2"),
            protocol: "udp".to_owned(),
        };
        assert_eq!(
            relay(&path),
            Some("198.51.100.4:7".parse().expect("an address"))
        );
    }
}
