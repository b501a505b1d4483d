//! Settings of the own meeting point and of the local network.

use kinlog_signal::SignalUrl;

/// The own meeting point.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct MeetingPointConfig {
    /// Port to listen on; another one where it is taken, any where it is 0. Default 0.
    pub port: u16,
    /// Where a router forwards connections to the port from outside. With it connections from
    /// anywhere are taken; without, from the local network alone. Default none.
    pub public_url: Option<SignalUrl>,
}

impl MeetingPointConfig {
    /// Sets the port to listen on.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets where it is reached from outside.
    pub fn public_url(mut self, public_url: Option<SignalUrl>) -> Self {
        self.public_url = public_url;
        self
    }
}

/// Announcing and browsing by mDNS; needs an own meeting point.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct LanConfig {
    /// Where to announce and browse. Default: every interface.
    pub interfaces: LanInterfaces,
    /// UDP port of mDNS: 5353, unless a test is not to hear others. Default none, which is 5353.
    pub port: Option<u16>,
}

impl LanConfig {
    /// Sets where to announce and browse.
    pub fn interfaces(mut self, interfaces: LanInterfaces) -> Self {
        self.interfaces = interfaces;
        self
    }

    /// Sets the UDP port of mDNS.
    pub fn port(mut self, port: Option<u16>) -> Self {
        self.port = port;
        self
    }
}

/// The network interfaces of mDNS.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum LanInterfaces {
    /// All that are up, and loopback, for other agents of this machine.
    #[default]
    All,
    /// Loopback alone: tests.
    Loopback,
}
