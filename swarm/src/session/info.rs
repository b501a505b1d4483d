//! What is known of a session, as the node tells its host.

use std::fmt;

use kinlog_feeds::wire::Role;
use serde::Serialize;

use crate::link::{IcePath, Transport};
use crate::session::Certificate;

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

impl Label {
    /// Returns the label's byte in hashes and in the session hello.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Returns whether the key of such a topic is known to its members only, so that members show
    /// each other certificates.
    pub const fn is_private(self) -> bool {
        matches!(self, Label::Room | Label::Invite | Label::Code)
    }
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

impl From<Label> for kinlog_signal::Label {
    fn from(label: Label) -> Self {
        match label {
            Label::Agent => kinlog_signal::Label::Agent,
            Label::Feed => kinlog_signal::Label::Feed,
            Label::Room => kinlog_signal::Label::Room,
            Label::Invite => kinlog_signal::Label::Invite,
            Label::Code => kinlog_signal::Label::Code,
            Label::Net => kinlog_signal::Label::Net,
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
