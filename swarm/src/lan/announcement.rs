//! mDNS: the own meeting point is announced, others are browsed for (RFC 6762, RFC 6763).
//!
//! Service type `_kinlog._tcp.local.`. Instance and host name are the process's random name, the TXT
//! record is empty, and what others put in theirs is not read.

use std::net::SocketAddr;

use mdns_sd::{
    DaemonEvent, IfKind, Metrics, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent,
    ServiceInfo,
};

use super::addresses::is_dialable;
use super::neighbourhood::Instance;
use super::{LanConfig, LanInterfaces};
use crate::limits::{GOODBYE_WAIT_MAX, MDNS_RECORDS_MAX};

/// What kind of service a meeting point is.
pub(super) const SERVICE: &str = "_kinlog._tcp.local.";

/// A running daemon; dropping it says goodbye and ends its thread.
pub(super) struct Announcement {
    daemon: ServiceDaemon,
    service: String,
    pub(super) seen: Receiver<ServiceEvent>,
    pub(super) told: Receiver<DaemonEvent>,
}

impl Announcement {
    /// Announces `port` under `own`, and browses.
    pub(super) fn start(config: &LanConfig, own: Instance, port: u16) -> mdns_sd::Result<Self> {
        let daemon = match config.port {
            Some(port) => ServiceDaemon::new_with_port(port)?,
            None => ServiceDaemon::new()?,
        };
        let told = daemon.monitor()?;
        if config.interfaces == LanInterfaces::Loopback {
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(IfKind::LoopbackV4)?;
        }
        let service = service(own, port)?;
        let name = service.get_fullname().to_owned();
        let seen = daemon.browse(SERVICE)?;
        daemon.register(service)?;
        Ok(Announcement {
            daemon,
            service: name,
            seen,
            told,
        })
    }

    /// Asks how much is remembered; see [`is_flooded`].
    pub(super) fn metrics(&self) -> Option<Receiver<Metrics>> {
        self.daemon.get_metrics().ok()
    }

    /// Says goodbye, and waits until that has left; whoever hears it forgets this node within a second.
    pub(super) async fn say_goodbye(self) {
        let Ok(left) = self.daemon.unregister(&self.service) else {
            // The daemon ended, and said it then.
            return;
        };
        // Whatever it answers, it sent what it could.
        let _ = tokio::time::timeout(GOODBYE_WAIT_MAX, left.recv_async()).await;
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // The goodbye leaves before the daemon ends; one that ended already has said it.
        let _ = self.daemon.unregister(&self.service);
        let _ = self.daemon.shutdown();
    }
}

/// Everything that is announced.
fn service(own: Instance, port: u16) -> mdns_sd::Result<ServiceInfo> {
    let name = own.to_string();
    let host = format!("{name}.local.");
    let txt: &[(&str, &str)] = &[];
    Ok(ServiceInfo::new(SERVICE, &name, &host, "", port, txt)?.enable_addr_auto())
}

/// Returns the instance of a full name, if it is one of ours.
pub(super) fn instance_of(full_name: &str) -> Option<Instance> {
    let name = full_name.strip_suffix(SERVICE)?.strip_suffix('.')?;
    name.parse().ok()
}

/// Returns who announces a service and where it may be dialled, IPv4 first.
pub(super) fn dialable(service: &ResolvedService) -> Option<(Instance, Vec<SocketAddr>)> {
    let instance = instance_of(&service.fullname)?;
    let addresses = service.addresses.iter();
    let addresses = addresses.map(|ip| {
        (
            SocketAddr::new(ip.to_ip_addr(), service.port),
            is_by_loopback(ip),
        )
    });
    let (dialable, others): (Vec<_>, Vec<_>) =
        addresses.partition(|(address, by_loopback)| is_dialable(*address, *by_loopback));
    let mut addresses: Vec<_> = dialable.into_iter().map(|(address, _)| address).collect();
    if addresses.is_empty() && !others.is_empty() {
        // Most often a machine without IPv4 and without a prefix for IPv6: an address of its link alone is of no
        // use in a URL, which has no place for the interface (RFC 6874 was withdrawn).
        tracing::debug!(%instance, count = others.len(), "no address of a neighbour can be dialled");
    }
    addresses.sort_unstable();
    Some((instance, addresses))
}

/// Returns whether an address was announced by the loopback interface, and by no other.
fn is_by_loopback(address: &ScopedIp) -> bool {
    match address {
        ScopedIp::V4(v4) => {
            let mut interfaces = v4.interface_ids().iter();
            interfaces.len() > 0 && interfaces.all(|one| is_loopback(&one.name))
        }
        ScopedIp::V6(v6) => is_loopback(&v6.scope_id().name),
        _ => false,
    }
}

/// Returns whether an interface of this name is loopback.
pub(super) fn is_loopback(interface: &str) -> bool {
    matches!(interface, "lo" | "lo0")
}

/// Returns whether more records are remembered than a network of honest nodes brings.
pub(super) fn is_flooded(metrics: &Metrics) -> bool {
    let cached = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("cached-"));
    cached.map(|(_, count)| *count).sum::<i64>() > MDNS_RECORDS_MAX
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn what_is_announced_is_a_random_name_a_port_and_nothing_else() {
        let own = Instance([0xab; 8]);
        let service = service(own, 40_000).unwrap();
        assert_eq!(
            service.get_fullname(),
            "abababababababab._kinlog._tcp.local."
        );
        assert_eq!(service.get_hostname(), "abababababababab.local.");
        assert_eq!(service.get_port(), 40_000);
        assert!(service.get_properties().is_empty());
        assert!(service.get_subtype().is_none());
    }

    #[test]
    fn names_that_are_none_of_ours_are_nobody() {
        let own = "abababababababab._kinlog._tcp.local.";
        assert_eq!(instance_of(own), Some(Instance([0xab; 8])));
        for name in [
            "",
            "_kinlog._tcp.local.",
            "._kinlog._tcp.local.",
            "abababababababab._other._tcp.local.",
            "abababababababab (2)._kinlog._tcp.local.",
            "\u{1b}[2J._kinlog._tcp.local.",
            "abababababababab.abababababababab._kinlog._tcp.local.",
        ] {
            assert_eq!(instance_of(name), None, "{name:?}");
        }
    }

    #[test]
    fn rubbish_in_a_record_is_not_read() {
        let resolve = |ip: [u8; 4], port, txt: &[(&str, &str)]| {
            let name = "abababababababab";
            let ip = IpAddr::V4(Ipv4Addr::from(ip));
            let info = ServiceInfo::new(SERVICE, name, "host.local.", ip, port, txt).unwrap();
            dialable(&info.as_resolved_service())
        };
        let instance = Instance([0xab; 8]);
        let rubbish = [
            ("path", "\u{0}\u{1b}]0;x"),
            ("url", "ws://8.8.8.8/"),
            ("", ""),
        ];
        let address = SocketAddr::from(([192, 168, 1, 5], 40_000));
        let seen = resolve([192, 168, 1, 5], 40_000, &rubbish);
        assert_eq!(seen, Some((instance, vec![address])));
        // Somewhere else than on this network, or a well-known service: nothing to dial.
        assert_eq!(resolve([8, 8, 8, 8], 40_000, &[]), Some((instance, vec![])));
        assert_eq!(resolve([192, 168, 1, 1], 80, &[]), Some((instance, vec![])));
        assert_eq!(
            resolve([127, 0, 0, 1], 40_000, &[]),
            Some((instance, vec![]))
        );
    }

    #[test]
    fn a_cache_beyond_what_honest_nodes_fill_is_a_flood() {
        let cached = |count| {
            Metrics::from([
                ("cached-ptr".to_owned(), count),
                ("browse".to_owned(), 1 << 40),
            ])
        };
        assert!(!is_flooded(&cached(MDNS_RECORDS_MAX)));
        assert!(is_flooded(&cached(MDNS_RECORDS_MAX + 1)));
    }
}
