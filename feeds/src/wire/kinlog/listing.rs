//! Naming a feed to somebody who knows its key, and to nobody else.

use crate::crypto::{FeedKey, blake2b_256_keyed, namespace};
use crate::wire::Role;

/// Name and proof in one: whoever knows the key can compute what the other side shows, and nobody else
/// can tell it from noise. It is of one handshake and one side, so it cannot be shown again.
pub type Capability = [u8; 16];

/// Returns what the side `role` lists the feed `key` by:
/// `H_{handshake hash}(NS("feed-cap") || role || key)[..16]`, role 0 the initiator, 1 the responder.
pub fn capability(role: Role, key: &FeedKey, handshake_hash: &[u8; 64]) -> Capability {
    let role = match role {
        Role::Initiator => 0,
        Role::Responder => 1,
    };
    let parts: [&[u8]; 3] = [&namespace::FEED_CAP.hash(), &[role], key.as_bytes()];
    let hash = blake2b_256_keyed(handshake_hash, &parts);
    let mut capability = Capability::default();
    capability.copy_from_slice(&hash[..16]);
    capability
}
