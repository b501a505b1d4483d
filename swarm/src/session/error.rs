//! Why a session ends.

use kinlog_feeds::encoding::DecodeError;
use kinlog_feeds::wire::{SendError, WireError};

use super::certificate::CertificateError;
use super::hello::HelloError;
use super::message::PeerMessageError;
use crate::link::LinkError;

/// Why a session ended. Nothing of it is told to the other side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The connection broke the wire's rules, or fell silent.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The open body of the peer channel is not one.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The other side does not know the key the two met by.
    #[error("the other side does not know the key of this topic")]
    WrongCapability,
    /// The other side has no peer channel.
    #[error("the other side does not speak kinlog/peer/1")]
    NotKinlog,
    /// The other side said nothing, or not who it is.
    #[error("no hello within {seconds} s")]
    HelloTimeout {
        /// How long was waited.
        seconds: u64,
    },
    /// The other side is of another format.
    #[error("this peer uses format {theirs}, this build {ours}")]
    OtherFormat {
        /// Our format.
        ours: u16,
        /// The other side's.
        theirs: u16,
    },
    /// The other side's certificate does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The other side showed a certificate twice.
    #[error("a second certificate in one session")]
    SecondCertificate,
    /// A message on the peer channel is not one.
    #[error(transparent)]
    PeerMessage(#[from] PeerMessageError),
    /// A message on the channel of a feed, or its opening, does not decode.
    #[error("feed channel: {0}")]
    FeedMessage(#[from] DecodeError),
    /// The other side named a feed without knowing its key.
    #[error("the other side opened a feed whose key it does not know")]
    FeedCapability,
    /// The other side asks for more feeds than a session may carry.
    #[error("more than {limit} feeds asked for")]
    TooManyWants {
        /// The limit.
        limit: usize,
    },
    /// A message could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The replicator found the other side breaking the protocol.
    #[error("{reason}")]
    Violation {
        /// What it did.
        reason: String,
        /// Whether it is not to be met again for a while.
        ban: bool,
    },
    /// The other side takes nothing.
    #[error("the other side took nothing for {seconds} s")]
    Stalled {
        /// How long was waited.
        seconds: u64,
    },
    /// The other side asks, and reads no answers.
    #[error("more than {limit} bytes of answers are not read")]
    Unread {
        /// The limit.
        limit: usize,
    },
    /// There are enough other sessions.
    #[error("one more than are kept")]
    Surplus,
    /// Another session with the same peer took over.
    #[error("replaced by another session with the same peer")]
    Replaced,
    /// The other side is somebody else than the peer that introduced it said.
    #[error("the other side is not the peer that was introduced")]
    Impostor,
    /// The other side closed the link.
    #[error("the other side closed the link")]
    ClosedByPeer,
    /// This side closed it.
    #[error("closed by this side")]
    Closed,
}
