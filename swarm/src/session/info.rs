//! What is known of a session, as the node tells its host.

use std::fmt;

use kinlog_feeds::wire::Role;
pub use kinlog_signal::Label;
use serde::Serialize;

use crate::link::{IcePath, Transport};
use crate::session::Certificate;

/// Serialises a label as its name.
pub(crate) fn label_name<S: serde::Serializer>(
    label: &Label,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(label.name())
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

impl SessionRole {
    /// Returns the role's byte in what is hashed and signed.
    pub const fn byte(self) -> u8 {
        match self {
            SessionRole::Initiator => 0,
            SessionRole::Responder => 1,
        }
    }

    /// Returns the other side's role.
    pub const fn other(self) -> SessionRole {
        match self {
            SessionRole::Initiator => SessionRole::Responder,
            SessionRole::Responder => SessionRole::Initiator,
        }
    }
}

impl From<SessionRole> for Role {
    fn from(role: SessionRole) -> Role {
        match role {
            SessionRole::Initiator => Role::Initiator,
            SessionRole::Responder => Role::Responder,
        }
    }
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

impl SessionInfo {
    /// Returns what the peers met by.
    pub(crate) fn meeting(&self) -> (Label, [u8; 32]) {
        (self.label, self.key)
    }
}
