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

/// Returns a device's X25519 secret, to which others seal what only this device may read.
pub fn device_dh_secret(device_secret: &Secret) -> Secret {
    derive(device_secret, namespace::DEVICE_DH, &[])
}

/// Returns the seed of an agent's root key pair from the 64-byte seed of its BIP39 phrase (with an
/// empty passphrase).
pub fn root_seed(bip39_seed: &[u8; 64]) -> Secret {
    Secret::new(blake2b_256_keyed(bip39_seed, &[&namespace::ROOT.hash()]))
}

/// Returns the seed of the feed with the random id `feed_id`.
pub fn feed_seed(device_secret: &Secret, feed_id: &[u8; 16]) -> Secret {
    derive(device_secret, namespace::FEED, feed_id)
}
