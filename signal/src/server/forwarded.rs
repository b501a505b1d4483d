//! Whose request it is when a proxy stands before the server.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

/// Returns the address that limits are counted for, or `None` when the proxy's word is no address.
///
/// Without a `header` to trust that is who connected. With one it is the last address in its last
/// line, which is the one that the proxy itself wrote; a request without the header did not come
/// through the proxy (its own health check, say) and counts for who connected.
pub(super) fn client_address(
    socket: SocketAddr,
    headers: &HeaderMap,
    header: Option<&HeaderName>,
) -> Option<IpAddr> {
    let Some(line) = header.and_then(|header| headers.get_all(header).iter().next_back()) else {
        return Some(socket.ip());
    };
    let last = line.to_str().ok()?.rsplit(',').next()?.trim();
    let bare = last
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(last).parse::<IpAddr>().ok();
    address.or_else(|| {
        last.parse::<SocketAddr>()
            .ok()
            .map(|with_port| with_port.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(lines: &[&'static str], trusted: bool) -> Option<String> {
        let name = HeaderName::from_static("x-forwarded-for");
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), line.parse().unwrap());
        }
        let socket = "192.0.2.1:99".parse().unwrap();
        client_address(socket, &headers, trusted.then_some(&name)).map(|ip| ip.to_string())
    }

    #[test]
    fn nobody_names_himself_unless_a_proxy_is_trusted() {
        assert_eq!(seen(&["203.0.113.9"], false).unwrap(), "192.0.2.1");
        assert_eq!(seen(&["203.0.113.9"], true).unwrap(), "203.0.113.9");
        assert_eq!(seen(&[], true).unwrap(), "192.0.2.1");
    }

    #[test]
    fn what_the_client_wrote_before_the_proxy_does_not_count() {
        let spoofed = ["10.0.0.1, 203.0.113.9", "198.51.100.1, 203.0.113.10"];
        assert_eq!(seen(&spoofed, true).unwrap(), "203.0.113.10");
    }

    #[test]
    fn ports_and_brackets_are_taken_and_nonsense_is_not() {
        assert_eq!(seen(&["[2001:db8::1]:4000"], true).unwrap(), "2001:db8::1");
        assert_eq!(seen(&["[2001:db8::1]"], true).unwrap(), "2001:db8::1");
        assert_eq!(seen(&["203.0.113.9:80"], true).unwrap(), "203.0.113.9");
        assert_eq!(seen(&["unknown"], true), None);
        assert_eq!(seen(&["203.0.113.9,"], true), None);
    }
}
