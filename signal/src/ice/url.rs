//! URLs of STUN and TURN servers (RFC 7064, RFC 7065).

use std::fmt;
use std::str::FromStr;

use crate::address::is_host;

/// Port of both protocols where a URL names none.
const DEFAULT_PORT: u16 = 3478;

/// By what a TURN server is reached.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum IceTransport {
    /// UDP, unless a URL says otherwise.
    Udp,
    /// TCP, where UDP is blocked.
    Tcp,
}

/// The URL of a STUN server, `stun:host[:port]`, or of a TURN server,
/// `turn:host[:port][?transport=udp|tcp]`.
///
/// `stuns:` and `turns:`, which mean TLS, are not taken: the WebRTC stack cannot use them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct IceUrl {
    turn: bool,
    host: String,
    port: u16,
    transport: IceTransport,
}

impl IceUrl {
    /// Returns the URL of a STUN server; an IPv6 address is in brackets.
    pub fn stun(host: &str, port: u16) -> Self {
        IceUrl {
            turn: false,
            host: host.to_ascii_lowercase(),
            port,
            transport: IceTransport::Udp,
        }
    }

    /// Returns the URLs of a TURN server by UDP and by TCP; an IPv6 address is in brackets.
    pub fn turn(host: &str, port: u16) -> [Self; 2] {
        [IceTransport::Udp, IceTransport::Tcp].map(|transport| IceUrl {
            turn: true,
            host: host.to_ascii_lowercase(),
            port,
            transport,
        })
    }

    /// Returns whether it is a TURN server, not a STUN server.
    pub fn is_turn(&self) -> bool {
        self.turn
    }

    /// Returns the host, an IPv6 address in brackets, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, 3478 when the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns by what the server is reached.
    pub fn transport(&self) -> IceTransport {
        self.transport
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IceUrl { host, port, .. } = self;
        match (self.turn, self.transport) {
            (false, _) => write!(f, "stun:{host}:{port}"),
            (true, IceTransport::Udp) => write!(f, "turn:{host}:{port}?transport=udp"),
            (true, IceTransport::Tcp) => write!(f, "turn:{host}:{port}?transport=tcp"),
        }
    }
}

/// Text that is no URL of a STUN or TURN server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IceUrlError {
    /// Another scheme.
    #[error("{url:?}: the URL starts with stun: or turn: (TLS is not supported)")]
    Scheme { url: String },
    /// No host, or characters that no host has.
    #[error("{url:?}: no host name or address after the scheme")]
    Host { url: String },
    /// A port that is no number from 1 to 65,535.
    #[error("{url:?}: the port is no number from 1 to 65535")]
    Port { url: String },
    /// Something else than a transport behind a TURN server.
    #[error("{url:?}: only ?transport=udp or ?transport=tcp may follow, and only for turn:")]
    Transport { url: String },
}

impl FromStr for IceUrl {
    type Err = IceUrlError;

    fn from_str(text: &str) -> Result<Self, IceUrlError> {
        let url = || text.to_owned();
        let (turn, rest) = match text.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("stun") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("turn") => (true, rest),
            _ => return Err(IceUrlError::Scheme { url: url() }),
        };
        let (authority, transport) = match rest.split_once('?') {
            None => (rest, IceTransport::Udp),
            Some((authority, "transport=udp")) if turn => (authority, IceTransport::Udp),
            Some((authority, "transport=tcp")) if turn => (authority, IceTransport::Tcp),
            Some(_) => return Err(IceUrlError::Transport { url: url() }),
        };
        let host_end = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[host_end..].rfind(':') {
            Some(at) => authority.split_at(host_end + at),
            None => (authority, ""),
        };
        let port = match port.strip_prefix(':').map(str::parse::<u16>) {
            None => DEFAULT_PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err(IceUrlError::Port { url: url() }),
        };
        if !is_host(host) {
            return Err(IceUrlError::Host { url: url() });
        }
        Ok(IceUrl {
            turn,
            host: host.to_ascii_lowercase(),
            port,
            transport,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<IceUrl, IceUrlError> {
        text.parse()
    }

    #[test]
    fn urls_fill_in_port_and_transport() {
        let shown = |text| parse(text).unwrap().to_string();
        assert_eq!(shown("stun:Example.org"), "stun:example.org:3478");
        assert_eq!(shown("stun:[::1]:4848"), "stun:[::1]:4848");
        assert_eq!(shown("turn:a"), "turn:a:3478?transport=udp");
        assert_eq!(
            shown("TURN:192.0.2.1:443?transport=tcp"),
            "turn:192.0.2.1:443?transport=tcp"
        );
        for text in ["stun:example.org:3478", "turn:[::1]:1?transport=tcp"] {
            assert_eq!(shown(text), text, "what is shown is read again");
        }
    }

    #[test]
    fn damaged_urls_name_what_is_wrong() {
        assert!(matches!(parse("turns:a"), Err(IceUrlError::Scheme { .. })));
        assert!(matches!(parse("a"), Err(IceUrlError::Scheme { .. })));
        assert!(matches!(parse("stun:"), Err(IceUrlError::Host { .. })));
        assert!(matches!(parse("stun://a"), Err(IceUrlError::Host { .. })));
        assert!(matches!(parse("stun:::1"), Err(IceUrlError::Host { .. })));
        assert!(matches!(parse("turn:a:0"), Err(IceUrlError::Port { .. })));
        assert!(matches!(parse("turn:a:"), Err(IceUrlError::Port { .. })));
        let transport = "stun:a?transport=udp";
        assert!(matches!(
            parse(transport),
            Err(IceUrlError::Transport { .. })
        ));
        let transport = "turn:a?transport=sctp";
        assert!(matches!(
            parse(transport),
            Err(IceUrlError::Transport { .. })
        ));
    }
}
