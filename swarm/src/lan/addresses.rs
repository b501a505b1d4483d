//! Which addresses are dialled because somebody on the network says so, and which are our own.

use std::net::{IpAddr, SocketAddr};

use kinlog_signal::{SignalUrl, is_local};

use crate::limits::MEETING_URLS_MAX;

/// Ports below this one are of services that have nothing to do with us, and no node listens there.
const FIRST_PORT: u16 = 1024;

/// Returns whether a meeting point that was announced at `address` may be dialled: it is of the local
/// network, and loopback only where the announcement came by loopback. So nobody on the network makes
/// this machine talk to the internet, to itself or to well-known services.
pub(super) fn is_dialable(address: SocketAddr, heard_on_loopback: bool) -> bool {
    let ip = address.ip().to_canonical();
    // A link-local address of IPv6 says nothing without its interface, and URLs have no place for that.
    let is_scoped = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    is_local(ip)
        && !is_scoped
        && address.port() >= FIRST_PORT
        && (!ip.is_loopback() || heard_on_loopback)
}

/// Returns the addresses of this machine; none where the system does not tell them.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(|one| one.ip()).collect()
}

/// Returns what others reach a meeting point of this machine by now, at most [`MEETING_URLS_MAX`]: where a
/// router forwards connections to it, and its addresses on local networks, which come and go.
pub(crate) fn own_urls(port: u16, public_url: Option<&SignalUrl>) -> Vec<String> {
    let mut addresses = own_addresses();
    addresses.sort_unstable();
    addresses.dedup();
    let reachable =
        |ip: &IpAddr| !ip.is_loopback() && is_dialable(SocketAddr::new(*ip, port), false);
    let addresses = addresses.into_iter().filter(reachable);
    let local = addresses.map(|ip| format!("ws://{}", SocketAddr::new(ip, port)));
    let public = public_url.map(SignalUrl::to_string);
    public
        .into_iter()
        .chain(local)
        .take(MEETING_URLS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialable(text: &str) -> bool {
        is_dialable(text.parse().unwrap(), false)
    }

    #[test]
    fn only_addresses_of_the_local_network_are_dialled() {
        assert!(dialable("192.168.1.7:40000"));
        assert!(dialable("169.254.3.4:40000"));
        assert!(dialable("[fd00::7]:40000"));
        for text in [
            "8.8.8.8:40000",
            "[2001:db8::1]:40000",
            "0.0.0.0:40000",
            "255.255.255.255:40000",
            "224.0.0.251:40000",
            "[fe80::1]:40000",
            "[::ffff:8.8.8.8]:40000",
        ] {
            assert!(!dialable(text), "{text}");
        }
    }

    #[test]
    fn nobody_else_makes_this_machine_dial_itself_or_a_known_service() {
        assert!(!dialable("127.0.0.1:40000"));
        assert!(!dialable("[::1]:40000"));
        assert!(is_dialable("127.0.0.1:40000".parse().unwrap(), true));
        assert!(!dialable("192.168.1.1:80"));
        assert!(!dialable("192.168.1.1:0"));
    }

    #[test]
    fn own_addresses_are_told_only_where_others_on_the_network_reach_them() {
        let public: SignalUrl = "ws://home.example:40000".parse().unwrap();
        let urls = own_urls(40_000, Some(&public));
        assert!(urls.len() <= MEETING_URLS_MAX);
        assert_eq!(urls[0], public.to_string());
        for url in &urls[1..] {
            let address = url.strip_prefix("ws://").unwrap();
            assert!(dialable(address), "{url}");
        }
    }
}
