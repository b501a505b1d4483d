//! Where a signal server is: its URL, and the name under which it was dialled.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Path of the WebSocket when a URL names none.
pub const DEFAULT_PATH: &str = "/v1";

/// A server as its clients dialled it: lower-case `host:port`, the port always given.
///
/// It is part of what a join signs and of what client keys derive from.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerName(String);

impl ServerName {
    /// Returns the name of `host` (an IPv6 address in brackets) and `port`.
    pub fn new(host: &str, port: u16) -> Self {
        ServerName(format!("{}:{port}", host.to_ascii_lowercase()))
    }

    /// Returns the names that an HTTP `Host` header may stand for.
    ///
    /// A header without a port means the default port of a scheme that a server behind a proxy
    /// does not know: then there are two candidates.
    pub fn from_host_header(header: &str) -> Vec<ServerName> {
        match split_port(header) {
            Some((host, Some(port))) => vec![ServerName::new(host, port)],
            Some((host, None)) => vec![ServerName::new(host, 443), ServerName::new(host, 80)],
            None => Vec::new(),
        }
    }

    /// Returns the host, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.0.rsplit_once(':').map_or(&self.0, |(host, _)| host)
    }

    /// Returns `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL of a signal server: `ws://host[:port][/path]` or `wss://...`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SignalUrl {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

impl SignalUrl {
    /// Returns whether TLS is used (`wss`).
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns the host, an IPv6 address in brackets, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, 80 or 443 when the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path of the WebSocket, [`DEFAULT_PATH`] when the URL names none.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the name of the server as dialled by this URL.
    pub fn server_name(&self) -> ServerName {
        ServerName::new(&self.host, self.port)
    }

    /// Returns the address to dial: `scheme://host:port/path`, with the path's default filled in.
    pub fn endpoint(&self) -> String {
        let scheme = if self.secure { "wss" } else { "ws" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

impl fmt::Display for SignalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != if self.secure { 443 } else { 80 } {
            write!(f, ":{}", self.port)?;
        }
        if self.path != DEFAULT_PATH {
            f.write_str(&self.path)?;
        }
        Ok(())
    }
}

/// Text that is no URL of a signal server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Another scheme than `ws` or `wss`.
    #[error("signal server {url:?}: the URL starts with ws:// or wss://")]
    Scheme { url: String },
    /// No host, or characters that no host has.
    #[error("signal server {url:?}: no host name between the scheme and the path")]
    Host { url: String },
    /// A port that is no number from 1 to 65,535.
    #[error("signal server {url:?}: the port is no number from 1 to 65535")]
    Port { url: String },
    /// A query, a fragment or characters that no path has.
    #[error("signal server {url:?}: the path has a query, a fragment or a space")]
    Path { url: String },
}

impl FromStr for SignalUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let url = || text.to_owned();
        let (secure, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("wss") => (true, rest),
            _ => return Err(UrlError::Scheme { url: url() }),
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let path = if path.is_empty() || path == "/" {
            DEFAULT_PATH
        } else {
            path
        };
        let path_fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
        if !path.starts_with('/') || !path.bytes().all(path_fits) {
            return Err(UrlError::Path { url: url() });
        }
        let host_end = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[host_end..].rfind(':') {
            Some(at) => (
                &authority[..host_end + at],
                Some(&authority[host_end + at + 1..]),
            ),
            None => (authority, None),
        };
        let port = match port {
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(UrlError::Port { url: url() }),
            },
            None if secure => 443,
            None => 80,
        };
        if !is_host(host) {
            return Err(UrlError::Host { url: url() });
        }
        Ok(SignalUrl {
            secure,
            host: host.to_ascii_lowercase(),
            port,
            path: path.to_owned(),
        })
    }
}

/// Returns whether an address is of a network of its own: private, link-local or loopback
/// (RFC 1918, RFC 3927, RFC 4193, RFC 4291). Nobody on the internet is reached by it.
pub fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// Splits a `Host` header; `None` when it is none.
fn split_port(header: &str) -> Option<(&str, Option<u16>)> {
    let host_end = header.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match header.get(host_end..)?.rfind(':') {
        Some(at) => {
            let (host, port) = header.split_at(host_end + at);
            (host, Some(port[1..].parse::<u16>().ok()?))
        }
        None => (header, None),
    };
    is_host(host).then_some((host, port))
}

pub(crate) fn is_host(host: &str) -> bool {
    /// What DNS allows a name to have.
    const HOST_BYTES_MAX: usize = 255;
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let fits = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    fits && !host.is_empty() && host.len() <= HOST_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SignalUrl, UrlError> {
        text.parse()
    }

    #[test]
    fn urls_fill_in_port_and_path() {
        let url = parse("WS://Signal.Example").unwrap();
        assert_eq!(url.endpoint(), "ws://signal.example:80/v1");
        assert_eq!(url.server_name().as_str(), "signal.example:80");
        assert_eq!(url.to_string(), "ws://signal.example");
        assert_eq!(parse("wss://a.b/").unwrap().endpoint(), "wss://a.b:443/v1");
        assert_eq!(
            parse("wss://a.b:8443/x/y").unwrap().to_string(),
            "wss://a.b:8443/x/y"
        );
        assert_eq!(
            parse("ws://[::1]:9000").unwrap().server_name().as_str(),
            "[::1]:9000"
        );
    }

    #[test]
    fn damaged_urls_name_what_is_wrong() {
        assert!(matches!(parse("http://a"), Err(UrlError::Scheme { .. })));
        assert!(matches!(parse("a:80"), Err(UrlError::Scheme { .. })));
        assert!(matches!(parse("ws://"), Err(UrlError::Host { .. })));
        assert!(matches!(parse("ws://user@a"), Err(UrlError::Host { .. })));
        assert!(matches!(
            parse("ws://ä.example"),
            Err(UrlError::Host { .. })
        ));
        assert!(matches!(parse("ws://[::g]"), Err(UrlError::Host { .. })));
        assert!(matches!(parse("ws://a:0"), Err(UrlError::Port { .. })));
        assert!(matches!(parse("ws://a:65536"), Err(UrlError::Port { .. })));
        assert!(matches!(parse("ws://a/v1?x=1"), Err(UrlError::Path { .. })));
        assert!(matches!(parse("ws://a#s"), Err(UrlError::Path { .. })));
    }

    #[test]
    fn local_addresses_are_those_of_no_other_network() {
        let local = |text: &str| is_local(text.parse().unwrap());
        for text in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.9.9",
            "127.0.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:192.168.1.1",
        ] {
            assert!(local(text), "{text}");
        }
        for text in [
            "8.8.8.8",
            "172.32.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.251",
            "2001:db8::1",
            "::",
            "::ffff:8.8.8.8",
        ] {
            assert!(!local(text), "{text}");
        }
    }

    #[test]
    fn host_headers_give_the_name_as_dialled() {
        let names = |header| ServerName::from_host_header(header);
        assert_eq!(
            names("Signal.Example:9000"),
            [ServerName::new("signal.example", 9000)]
        );
        assert_eq!(
            names("a"),
            [ServerName::new("a", 443), ServerName::new("a", 80)]
        );
        assert_eq!(names("[::1]:80"), [ServerName::new("[::1]", 80)]);
        assert_eq!(names("a:b"), []);
        assert_eq!(names(""), []);
        assert_eq!(names("a b:80"), []);
    }
}
