//! What is known of a session, as the node tells its host.

use std::fmt;

use kinlog_feeds::{DeviceKey, Hash};
use serde::Serialize;

use crate::link::{IcePath, Transport};

/// What two peers met by: it names the kind of key their topic comes from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Label {
    /// An agent id.
    Agent = 1,
    /// A feed key.
    Feed = 2,
    /// The meet key of a room's epoch.
    Room = 3,
    /// The public key of an invite.
    Invite = 4,
    /// The key of a spoken code.
    Code = 5,
    /// The key of a network.
    Net = 6,
}

/// A session's number, unique while the node lives.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who began the Noise handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionRole {
    /// This side began.
    Initiator,
    /// The other side began.
    Responder,
}

/// What a verified session certificate says of the other side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The device that signed this session's handshake.
    pub device: DeviceKey,
    /// Hash of the identity set the device names; zeros when it has none.
    pub identity_hash: Hash,
}

/// A session as its host sees it.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Number of the session.
    pub id: SessionId,
    /// What the peers met by.
    pub label: Label,
    /// The key of the topic they met by, or the feed key of a plain session.
    pub key: [u8; 32],
    /// Our role in the handshake.
    pub role: SessionRole,
    /// The other side's certificate, once it came and verified.
    pub remote_certificate: Option<Certificate>,
    /// Kind of link.
    pub transport: Transport,
    /// The candidate pair ICE selected, on WebRTC links.
    pub path: Option<IcePath>,
    /// The other side speaks Hypercore only.
    pub plain: bool,
}
