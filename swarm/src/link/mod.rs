//! Message-oriented transports behind one small trait.
//!
//! A link carries a byte stream cut into messages; their boundaries mean nothing. What SDP and ICE
//! are stays inside [`webrtc`]: the layers above see [`Link`] and [`LinkPath`] only.

mod counters;
pub mod memory;
mod path;
pub(crate) mod relayed;
pub mod tcp;
pub mod webrtc;

use std::fmt::Debug;
use std::io;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

pub(crate) use counters::Counters;
pub use counters::LinkStats;
pub use path::{CandidateKind, IceCandidate, IcePath, LinkPath, Transport};

/// A reliable, ordered, two-way stream of messages to one peer.
///
/// `send` and `recv` may run at the same time, one caller each.
#[async_trait]
pub trait Link: Debug + Send + Sync + 'static {
    /// Sends one message of at most [`max_message`](Self::max_message) bytes; waits while the
    /// link's send buffer is full.
    async fn send(&self, message: BytesMut) -> Result<(), LinkError>;

    /// Returns the next message, or `None` once the other side has closed the link.
    async fn recv(&self) -> Result<Option<Bytes>, LinkError>;

    /// Returns the largest message [`send`](Self::send) takes, in bytes.
    fn max_message(&self) -> usize;

    /// Returns what went through so far.
    fn stats(&self) -> LinkStats;

    /// Returns what the link runs over, as the transport itself reports it now.
    async fn path(&self) -> LinkPath;

    /// Returns the SHA-256 fingerprints of both DTLS certificates, `None` on links without DTLS.
    fn fingerprints(&self) -> Option<Fingerprints> {
        None
    }

    /// Closes the link; what was sent before and not yet delivered may be lost.
    async fn close(&self);
}

/// SHA-256 of the DTLS certificates of both ends, as the descriptions named them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fingerprints {
    /// Of this side's certificate.
    pub local: [u8; 32],
    /// Of the other side's certificate.
    pub remote: [u8; 32],
}

/// Why a link carries nothing any more, or never did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
    /// A message is larger than the link takes.
    #[error("message of {bytes} bytes, this link takes {max}")]
    TooLarge {
        /// Size of the message.
        bytes: usize,
        /// Largest size.
        max: usize,
    },
    /// The socket failed.
    #[error("link: {0}")]
    Io(#[from] io::Error),
    /// The WebRTC stack failed.
    #[error("webrtc: {reason}")]
    Webrtc {
        /// What the stack says.
        reason: String,
    },
    /// A description or candidate of the other side is not one.
    #[error("{what} of the other side is unusable: {reason}")]
    BadDescription {
        /// Offer, answer or candidate.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The address at which the link began is not this machine's any more.
    #[error("this machine's address has changed")]
    AddressGone,
    /// Only relays may be used, and no signal server named one.
    #[error("only relays may be used, and no signal server named a TURN server")]
    NoRelay,
    /// No candidate pair worked in time.
    #[error("no connection within {seconds} s")]
    Timeout {
        /// How long was waited.
        seconds: u64,
    },
}
