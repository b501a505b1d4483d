//! Signal servers that people who are followed list in their profiles: which of them are joined, too.
//!
//! A profile is public, and whoever writes one may name anything: only `ws` and `wss` are taken, few for each
//! person and few in all, and nobody who is on the internet is made to knock at doors of its own network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kinlog_signal::{SignalUrl, is_local};

use crate::limits::LISTED_SERVERS_MAX;

/// Names that lead to the machine or its network, whatever is asked (RFC 6761, RFC 6762, RFC 8375).
const LOCAL_NAMES: [&str; 5] = ["localhost", "local", "internal", "lan", "home.arpa"];

/// Returns the servers to join beside `own`, those that most people list first, each with who lists it.
pub(crate) fn to_join(
    own: &[String],
    listed: impl IntoIterator<Item = (String, Vec<String>)>,
) -> Vec<(SignalUrl, Vec<String>)> {
    let own: Vec<SignalUrl> = own.iter().filter_map(|url| url.parse().ok()).collect();
    let is_private = own.iter().any(is_of_a_local_network);
    let mut by_url: BTreeMap<String, (SignalUrl, Vec<String>)> = BTreeMap::new();
    for (who, urls) in listed {
        for url in urls {
            let Ok(url) = url.parse::<SignalUrl>() else {
                continue;
            };
            if own.contains(&url) || (is_of_a_local_network(&url) && !is_private) {
                continue;
            }
            let (_, by) = by_url.entry(url.to_string()).or_insert((url, Vec::new()));
            if !by.contains(&who) {
                by.push(who.clone());
            }
        }
    }
    let mut servers: Vec<_> = by_url.into_values().collect();
    servers.sort_by_key(|(_, by)| std::cmp::Reverse(by.len()));
    servers.truncate(LISTED_SERVERS_MAX);
    servers
}

/// Returns whether a server is of a local network, or of this machine, as its URL says. What a name leads to shows
/// only when it is looked up: such a server gets a WebSocket's greeting, and nothing else.
fn is_of_a_local_network(url: &SignalUrl) -> bool {
    let host = url.host().trim_matches(['[', ']']).trim_end_matches('.');
    match host.parse::<IpAddr>() {
        Ok(ip) => is_local(ip) || ip.is_unspecified() || ip.is_multicast(),
        Err(_) => {
            let is_below = |name: &&str| {
                let above = host.strip_suffix(*name);
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            };
            !host.contains('.') || LOCAL_NAMES.iter().any(is_below)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(own: &[&str], listed: &[(&str, &[&str])]) -> Vec<String> {
        let own: Vec<String> = own.iter().map(|url| (*url).to_owned()).collect();
        let listed = listed.iter().map(|(who, urls)| {
            let urls = urls.iter().map(|url| (*url).to_owned()).collect();
            ((*who).to_owned(), urls)
        });
        let servers = to_join(&own, listed).into_iter();
        servers
            .map(|(url, by)| format!("{} {}", url.host(), by.join(" ")))
            .collect()
    }

    #[test]
    fn a_server_that_somebody_lists_is_joined_unless_it_is_already() {
        let own = ["wss://mine.example"];
        let listed: [(&str, &[&str]); 2] = [
            ("ada", &["wss://hers.example", "wss://mine.example/"]),
            ("ben", &["wss://hers.example"]),
        ];
        assert_eq!(joined(&own, &listed), ["hers.example ada ben"]);
    }

    #[test]
    fn of_many_those_that_most_people_list_are_joined() {
        let urls: Vec<String> = (0..50).map(|n| format!("wss://s{n}.example")).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let listed: [(&str, &[&str]); 3] = [
            ("evil", &urls),
            ("ada", &["wss://z.example"]),
            ("ben", &["wss://z.example"]),
        ];
        let joined = joined(&[], &listed);
        assert_eq!(joined.len(), LISTED_SERVERS_MAX);
        assert_eq!(joined[0], "z.example ada ben");
    }

    #[test]
    fn nobody_on_the_internet_is_sent_to_doors_of_its_own_network() {
        let private = [
            "ws://127.0.0.1:4848",
            "ws://192.168.1.1",
            "ws://[::1]:4848",
            "ws://[fd00::1]:4848",
            "ws://169.254.169.254",
            "ws://0.0.0.0:4848",
            "ws://[::ffff:10.0.0.1]:4848",
            "ws://localhost:4848",
            "ws://router.lan",
            "ws://printer.local",
            "ws://nas:4848",
        ];
        for url in private {
            let listed: [(&str, &[&str]); 1] = [("evil", &[url])];
            assert_eq!(joined(&["wss://mine.example"], &listed), [""; 0], "{url}");
            assert_eq!(joined(&["ws://192.168.1.9"], &listed).len(), 1, "{url}");
        }
        for url in [
            "http://x.example",
            "x.example",
            "",
            "wss://",
            "stun:x.example",
        ] {
            let listed: [(&str, &[&str]); 1] = [("evil", &[url])];
            assert_eq!(joined(&["ws://192.168.1.9"], &listed), [""; 0], "{url}");
        }
    }
}
