//! Hashes, keys and signatures, and the namespaces that keep their uses apart.

mod derive;
mod hash;
mod keys;
pub mod namespace;

pub use derive::{derive, device_dh_secret, device_seed, feed_seed, root_seed};
pub use hash::{Blake2b256, blake2b_256, blake2b_256_keyed, blake2b_512};
pub use keys::{
    AgentId, DeviceKey, DiscoveryKey, FeedKey, Hash, KeyPair, PublicKey, SIGNATURE_BYTES, Secret,
    SignatureError, verify,
};
