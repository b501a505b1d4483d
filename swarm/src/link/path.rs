//! Over what a link runs, as the transport itself reports it.

use std::net::SocketAddr;

use serde::Serialize;

/// The kind of transport below a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Transport {
    /// A WebRTC data channel.
    Webrtc,
    /// A TCP connection.
    Tcp,
    /// A circuit of a peer that both ends have a session with.
    Relayed,
    /// A pair of queues inside one process.
    Memory,
}

/// How an ICE candidate came to be (RFC 8445 section 5.1.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CandidateKind {
    /// An address of the machine itself.
    Host,
    /// The address a STUN server saw.
    Srflx,
    /// The address a peer saw during checks.
    Prflx,
    /// An address on a TURN server.
    Relay,
}

/// One end of the candidate pair that ICE selected.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct IceCandidate {
    /// How the candidate came to be.
    pub kind: CandidateKind,
    /// Its address, if the stack tells it.
    pub address: Option<SocketAddr>,
}

/// The candidate pair that ICE selected, read from the WebRTC stack.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct IcePath {
    /// Our end.
    pub local: IceCandidate,
    /// The peer's end.
    pub remote: IceCandidate,
    /// `udp` or `tcp`.
    pub protocol: String,
}

/// What a link runs over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkPath {
    /// Kind of transport.
    pub transport: Transport,
    /// The candidate pair ICE selected, on WebRTC links.
    pub ice: Option<IcePath>,
    /// Address of the other side, on TCP links.
    pub remote: Option<SocketAddr>,
}
