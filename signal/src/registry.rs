//! What peers tell the registry over HTTP, and what they sign of it.
//!
//! Signed is `NS("signal-registry") || call (u8) || server || topic || ... || time (u64)`: the server
//! and the topic, so that nobody passes it on to another, and the time, so that it cannot be said
//! again later. The layout is in docs/protocol.md.

use kinlog_feeds::crypto::{SIGNATURE_BYTES, SignatureError, namespace, verify};
use kinlog_feeds::encoding::Writer as _;
use kinlog_feeds::{KeyPair, PublicKey};

use crate::limits::{CAPABILITIES_MAX, CAPABILITY_BYTES_MAX, SIGNAL_ADDRESS_BYTES_MAX};
use crate::{ServerName, SignalUrl, Topic};

/// The byte of each call in what is signed.
const ANNOUNCE: u8 = 1;
const HEARTBEAT: u8 = 2;

/// A peer says that it is there, and at which signal server it is met.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announcement {
    /// The network: a blinded topic.
    pub topic: Topic,
    /// Whose device this is, blinded; the peer itself where it belongs to nobody else.
    pub user: PublicKey,
    /// The device, blinded: its client key in this topic.
    pub peer: PublicKey,
    /// URL of the signal server where it is met.
    pub signal_address: String,
    /// What it offers, in short words.
    pub capabilities: Vec<String>,
    /// Seconds since 1970.
    pub time_s: u64,
}

/// A peer that keeps messages for others says that it is still there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// The network.
    pub topic: Topic,
    /// The coordinator.
    pub peer: PublicKey,
    /// Peers it has sessions with.
    pub active_peers: u32,
    /// Peers it can take; the higher, the better it ranks.
    pub capacity: u32,
    /// Seconds since 1970.
    pub time_s: u64,
}

/// An announcement that is not taken whoever signed it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    /// No URL of a signal server, or a long one.
    #[error("signalAddress is no ws:// or wss:// URL of at most {SIGNAL_ADDRESS_BYTES_MAX} bytes")]
    Address,
    /// Too many, too long, or other characters than `a-z 0-9 -`.
    #[error(
        "capabilities are at most {CAPABILITIES_MAX} words of at most {CAPABILITY_BYTES_MAX} \
         characters a-z, 0-9 and -"
    )]
    Capabilities,
}

impl Announcement {
    /// Checks everything that needs no key.
    pub fn check(&self) -> Result<(), AnnouncementError> {
        let address = &self.signal_address;
        if address.len() > SIGNAL_ADDRESS_BYTES_MAX || address.parse::<SignalUrl>().is_err() {
            return Err(AnnouncementError::Address);
        }
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let word = |word: &String| {
            (1..=CAPABILITY_BYTES_MAX).contains(&word.len()) && word.bytes().all(fits)
        };
        if self.capabilities.len() > CAPABILITIES_MAX || !self.capabilities.iter().all(word) {
            return Err(AnnouncementError::Capabilities);
        }
        Ok(())
    }

    /// Signs it for one server; the peer signs, and the user when that is another key.
    pub fn sign(&self, server: &ServerName, key: &KeyPair) -> [u8; SIGNATURE_BYTES] {
        key.sign(&self.signed_bytes(server))
    }

    /// Verifies what [`sign`](Self::sign) made.
    pub fn verify(
        &self,
        server: &ServerName,
        signer: &PublicKey,
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<(), SignatureError> {
        verify(signer, &self.signed_bytes(server), signature)
    }

    fn signed_bytes(&self, server: &ServerName) -> Vec<u8> {
        let mut bytes = prefix(ANNOUNCE, server, &self.topic);
        bytes.put_raw(&self.user.0);
        bytes.put_raw(&self.peer.0);
        bytes.put_buffer(self.signal_address.as_bytes());
        bytes.put_uint(self.capabilities.len() as u64);
        for capability in &self.capabilities {
            bytes.put_buffer(capability.as_bytes());
        }
        bytes.put_raw(&self.time_s.to_le_bytes());
        bytes
    }
}

impl Heartbeat {
    /// Signs it for one server.
    pub fn sign(&self, server: &ServerName, key: &KeyPair) -> [u8; SIGNATURE_BYTES] {
        key.sign(&self.signed_bytes(server))
    }

    /// Verifies what [`sign`](Self::sign) made.
    pub fn verify(
        &self,
        server: &ServerName,
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<(), SignatureError> {
        verify(&self.peer, &self.signed_bytes(server), signature)
    }

    fn signed_bytes(&self, server: &ServerName) -> Vec<u8> {
        let mut bytes = prefix(HEARTBEAT, server, &self.topic);
        bytes.put_raw(&self.peer.0);
        bytes.put_raw(&self.active_peers.to_le_bytes());
        bytes.put_raw(&self.capacity.to_le_bytes());
        bytes.put_raw(&self.time_s.to_le_bytes());
        bytes
    }
}

fn prefix(call: u8, server: &ServerName, topic: &Topic) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.put_raw(&namespace::SIGNAL_REGISTRY.hash());
    bytes.push(call);
    bytes.put_buffer(server.as_str().as_bytes());
    bytes.put_raw(&topic.0);
    bytes
}
