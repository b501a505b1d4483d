//! Derivation of one key from another, by label and context.

use crate::crypto::namespace::{self, Namespace};
use crate::crypto::{Secret, blake2b_256_keyed};

/// Returns `H_secret(NS(label) || context)`.
pub fn derive(secret: &Secret, label: Namespace, context: &[u8]) -> Secret {
    Secret::new(blake2b_256_keyed(
        secret.expose(),
        &[&label.hash(), context],
    ))
}

/// Returns the seed of a device's signing key.
pub fn device_seed(device_secret: &Secret) -> Secret {
    derive(device_secret, namespace::DEVICE_SIGN, &[])
}

/// Returns the seed of the feed with the random id `feed_id`.
pub fn feed_seed(device_secret: &Secret, feed_id: &[u8; 16]) -> Secret {
    derive(device_secret, namespace::FEED, feed_id)
}
