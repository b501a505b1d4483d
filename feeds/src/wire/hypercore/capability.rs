//! The proof that a peer knows a feed's key, without telling it.

use subtle::ConstantTimeEq;

use crate::crypto::namespace::hypercore_namespace;
use crate::crypto::{FeedKey, blake2b_256_keyed};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::wire::Role;

const SEEKS: u64 = 1;

/// Returns the capability that the side `role` shows for the feed `key`:
/// `H_{handshake hash}(ns(REPLICATE_INITIATOR | REPLICATE_RESPONDER) || key)`.
pub fn capability(role: Role, key: &FeedKey, handshake_hash: &[u8; 64]) -> [u8; 32] {
    let namespace = match role {
        Role::Initiator => hypercore_namespace::replicate_initiator(),
        Role::Responder => hypercore_namespace::replicate_responder(),
    };
    blake2b_256_keyed(handshake_hash, &[&namespace, &key.0])
}

/// What follows the channel id when a `hypercore/alpha` channel is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Handshake {
    /// Whether the side answers seeks.
    pub seeks: bool,
    /// [`capability`] of the side that opens.
    pub capability: [u8; 32],
}

impl Handshake {
    /// Returns the handshake that the side `role` sends for the feed `key`.
    pub fn new(role: Role, key: &FeedKey, handshake_hash: &[u8; 64]) -> Self {
        Handshake {
            seeks: true,
            capability: capability(role, key, handshake_hash),
        }
    }

    /// Returns whether this came from a side `role` that knows `key`; compares in constant time.
    pub fn proves(&self, role: Role, key: &FeedKey, handshake_hash: &[u8; 64]) -> bool {
        self.capability
            .ct_eq(&capability(role, key, handshake_hash))
            .into()
    }

    /// Encodes the handshake.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(33);
        out.put_uint(if self.seeks { SEEKS } else { 0 });
        out.put_raw(&self.capability);
        out
    }

    /// Decodes a handshake; later fields are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.uint()?;
        Ok(Handshake {
            seeks: flags & SEEKS != 0,
            capability: reader.fixed()?,
        })
    }
}
