//! Which remembered meeting points to join: where those who are missing were met before.
//!
//! [`Routes`] is a state machine: it is shown what is remembered and who is connected, and says what to
//! join and how good each route proved. Routes are tried best first; what fails sinks, so that others have
//! their turn, and is rated ever more rarely, so that a peer who is away for a month costs next to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kinlog_feeds::crypto::DeviceKey;
use kinlog_signal::{DEFAULT_PATH, SignalUrl, is_local};
use kinlog_swarm::limits::COORDINATORS_JOINED_MAX;

use crate::limits::{ROUTE_TRIED_FOR, ROUTE_TRIED_FOR_MAX, ROUTES_TRIED_MAX};
use crate::state::PeerRoute;

/// What a look at the routes gives.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Looked {
    /// Routes that proved good or not.
    pub(crate) rated: Vec<(DeviceKey, String, bool)>,
    /// Meeting points to be joined now, the best first, and no others.
    pub(crate) join: Vec<SignalUrl>,
    /// Those of coordinators, beside them, while anybody is missing.
    pub(crate) coordinators: Vec<SignalUrl>,
}

/// How a route is known of which the device itself told.
pub(crate) const TOLD: &str = "told";

/// A route that is joined.
#[derive(Clone, Copy, Debug)]
struct Try {
    since_s: u64,
    failures: u32,
}

/// The routes that are tried.
#[derive(Debug)]
pub(crate) struct Routes {
    local_only: bool,
    tried: BTreeMap<(DeviceKey, String), Try>,
}

impl Routes {
    /// With `local_only` nothing outside of the local network is joined.
    pub(crate) fn new(local_only: bool) -> Self {
        Routes {
            local_only,
            tried: BTreeMap::new(),
        }
    }

    /// Looks at everything that is remembered, the best first, and at the devices that are connected,
    /// with the meeting point at which each was met. `own` are the URLs of the own meeting point, at which
    /// nobody has to be looked for. `coordinators` are devices whose meeting points others remember, too: whoever
    /// is missing may be there, also when the coordinator itself is connected.
    pub(crate) fn look(
        &mut self,
        now_s: u64,
        own: &[String],
        known: &[PeerRoute],
        connected: &BTreeMap<DeviceKey, BTreeSet<String>>,
        coordinators: &[DeviceKey],
    ) -> Looked {
        let mut looked = Looked::default();
        for ((device, url), tried) in &mut self.tried {
            let window = ROUTE_TRIED_FOR * 2u32.saturating_pow(tried.failures.min(16));
            let window = window.min(ROUTE_TRIED_FOR_MAX).as_secs();
            match connected.get(device) {
                Some(met_at) if met_at.contains(url) => {
                    looked.rated.push((*device, url.clone(), true));
                }
                // Found by another way: that says nothing of this one.
                Some(_) => {}
                None if now_s.saturating_sub(tried.since_s) >= window => {
                    looked.rated.push((*device, url.clone(), false));
                    tried.since_s = now_s;
                    tried.failures = tried.failures.saturating_add(1);
                }
                None => {}
            }
        }
        let mut joined = BTreeMap::new();
        for route in known {
            if connected.contains_key(&route.device) || own.contains(&route.url) {
                continue;
            }
            let Some(url) = route_url(&route.url, self.local_only) else {
                continue;
            };
            if !looked.join.contains(&url) {
                if looked.join.len() >= ROUTES_TRIED_MAX {
                    continue;
                }
                looked.join.push(url);
            }
            let name = (route.device, route.url.clone());
            let fresh = Try {
                since_s: now_s,
                failures: 0,
            };
            let tried = self.tried.get(&name).copied().unwrap_or(fresh);
            joined.insert(name, tried);
        }
        self.tried = joined;
        if known
            .iter()
            .any(|route| !connected.contains_key(&route.device))
        {
            looked.coordinators = self.of_coordinators(own, known, coordinators, &looked.join);
        }
        looked
    }

    /// Returns the meeting points of coordinators that are not joined as routes, one of each.
    fn of_coordinators(
        &self,
        own: &[String],
        known: &[PeerRoute],
        coordinators: &[DeviceKey],
        joined: &[SignalUrl],
    ) -> Vec<SignalUrl> {
        let mut urls: Vec<SignalUrl> = Vec::new();
        for device in coordinators {
            // Where it was met itself is a server's as a rule, which is joined anyway.
            let told = known
                .iter()
                .filter(|route| route.device == *device && route.path == TOLD)
                .filter(|route| !own.contains(&route.url))
                .filter_map(|route| route_url(&route.url, self.local_only));
            let mut new = told.filter(|url| !joined.contains(url) && !urls.contains(url));
            if let Some(url) = new.next() {
                urls.push(url);
            }
            if urls.len() >= COORDINATORS_JOINED_MAX {
                break;
            }
        }
        urls
    }
}

/// Returns a URL that may be joined because a peer told of it or was met there.
///
/// Nobody makes this machine talk to itself or to well-known services of its network: an address of the
/// local network has a port from 1024 on, and is not loopback.
pub(crate) fn route_url(text: &str, local_only: bool) -> Option<SignalUrl> {
    /// Ports below this one are of services that have nothing to do with us.
    const FIRST_PORT: u16 = 1024;
    let url: SignalUrl = text.parse().ok()?;
    let address = format!("{}:{}", url.host(), url.port());
    let address = address
        .parse::<SocketAddr>()
        .ok()
        .map(|at| at.ip().to_canonical());
    let may = match address {
        Some(ip) if is_local(ip) => !is_own(ip) && url.port() >= FIRST_PORT,
        // A name is nobody's word that it is on this network.
        Some(ip) => !local_only && !ip.is_unspecified() && !ip.is_multicast(),
        None => !local_only && url.host() != "localhost",
    };
    (may && url.path() == DEFAULT_PATH).then_some(url)
}

/// Returns whether an address means another machine on each machine: loopback, or link-local, which says
/// nothing without its interface.
fn is_own(ip: IpAddr) -> bool {
    ip.is_loopback() || matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::AgentId;

    use super::*;

    fn route(device: u8, url: &str) -> PeerRoute {
        PeerRoute {
            agent: AgentId([1; 32]),
            device: DeviceKey([device; 32]),
            url: url.to_owned(),
            seen_s: 0,
            success_rate: 0.5,
            path: "told".to_owned(),
        }
    }

    fn urls(looked: &Looked) -> Vec<String> {
        looked.join.iter().map(ToString::to_string).collect()
    }

    fn at(number: u8) -> String {
        format!("ws://192.168.1.{number}:40000")
    }

    #[test]
    fn eight_routes_of_who_is_missing_are_joined_best_first() {
        let mut routes = Routes::new(false);
        let known: Vec<_> = (1..=20).map(|number| route(number, &at(number))).collect();
        let connected = [(DeviceKey([1; 32]), BTreeSet::new())].into();
        let looked = routes.look(0, &[at(3)], &known, &connected, &[]);
        let expected: Vec<_> = [2, 4, 5, 6, 7, 8, 9, 10].map(at).into();
        assert_eq!(urls(&looked), expected);
        assert_eq!(looked.rated, []);
        let all = (1..=20).map(|number| (DeviceKey([number; 32]), BTreeSet::new()));
        assert_eq!(routes.look(1, &[], &known, &all.collect(), &[]).join, []);
    }

    #[test]
    fn route_at_which_somebody_is_met_is_good_and_one_where_nobody_comes_fails_ever_more_rarely() {
        let mut routes = Routes::new(false);
        let known = [route(1, &at(1)), route(2, &at(2))];
        routes.look(0, &[], &known, &BTreeMap::new(), &[]);
        let met = [(DeviceKey([1; 32]), [at(1)].into())].into();
        let looked = routes.look(5, &[], &known, &met, &[]);
        assert_eq!(looked.rated, [(DeviceKey([1; 32]), at(1), true)]);
        assert_eq!(urls(&looked), [at(2)]);
        // It is no longer tried, and so no longer rated.
        assert_eq!(routes.look(6, &[], &known, &met, &[]).rated, []);
        let mut failed_at = Vec::new();
        for now in 7..3 * 60 * 60 {
            if !routes.look(now, &[], &known, &met, &[]).rated.is_empty() {
                failed_at.push(now);
            }
        }
        assert_eq!(failed_at[..3], [20, 60, 140]);
        assert!(failed_at.len() < 20, "{failed_at:?}");
    }

    /// R151: where a coordinator is met, others who remember it are met, while anybody is missing.
    #[test]
    fn meeting_points_of_coordinators_are_joined_while_anybody_is_missing() {
        let mut routes = Routes::new(false);
        let known: Vec<_> = (1..=20).map(|number| route(number, &at(number))).collect();
        let coordinators = [20, 1, 2, 19].map(|number| DeviceKey([number; 32]));
        // Of the first one nobody knows where it is met, and the second is connected.
        let connected = [(DeviceKey([1; 32]), BTreeSet::new())].into();
        let looked = routes.look(0, &[at(20)], &known, &connected, &coordinators);
        let urls: Vec<_> = looked
            .coordinators
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(looked.join.iter().any(|url| url.to_string() == at(2)));
        assert_eq!(urls, [at(1), at(19)], "not where it is looked for anyway");
        let all = (1..=20).map(|number| (DeviceKey([number; 32]), BTreeSet::new()));
        let looked = routes.look(1, &[], &known, &all.collect(), &coordinators);
        assert_eq!(looked.coordinators, []);
    }

    #[test]
    fn who_was_found_by_another_way_says_nothing_of_a_route() {
        let mut routes = Routes::new(false);
        let known = [route(1, &at(1))];
        routes.look(0, &[], &known, &BTreeMap::new(), &[]);
        let met = [(DeviceKey([1; 32]), [at(7)].into())].into();
        assert_eq!(routes.look(100, &[], &known, &met, &[]), Looked::default());
    }

    #[test]
    fn peers_make_nobody_dial_its_own_machine_or_known_services() {
        for url in [
            "ws://192.168.1.5:40000",
            "ws://[fd00::5]:40000",
            "wss://signal.example",
            "ws://203.0.113.5:8080",
        ] {
            assert!(route_url(url, false).is_some(), "{url}");
        }
        for url in [
            "ws://127.0.0.1:40000",
            "ws://[::1]:40000",
            "ws://localhost:40000",
            "ws://[::ffff:127.0.0.1]:40000",
            "ws://192.168.1.1:80",
            "ws://[fe80::1]:40000",
            "ws://0.0.0.0:40000",
            "ws://224.0.0.251:40000",
            "ws://192.168.1.5:40000/admin",
            "http://192.168.1.5:40000",
            "",
        ] {
            assert!(route_url(url, false).is_none(), "{url}");
        }
        assert!(route_url("ws://192.168.1.5:40000", true).is_some());
        assert!(route_url("wss://signal.example", true).is_none());
        assert!(route_url("ws://203.0.113.5:8080", true).is_none());
    }
}
