//! Signed append-only feeds, byte-compatible with JavaScript Hypercore 11.
//!
//! The rooms of this crate, in the order data passes through them:
//!
//! - [`crypto`]: hashes, keys, signatures, the namespaces of everything derived or signed.
//! - [`encoding`]: the compact encoding that every wire message and every signed layout uses.
//! - [`tree`]: the Merkle tree, proofs and their verification, as pure functions and values.
//! - [`manifest`]: who may sign a feed, and the feed key that commits to it.
//! - [`bundle`]: a feed, whole or in part, as one file that is checked offline.
//! - [`conflict`]: the proof that a writer signed two heads that contradict each other.
//! - [`store`] (feature `std`): the one durable store for all feeds of an agent.
//! - [`wire`]: Noise, secret stream, protomux and the Hypercore messages, sans-IO.
//! - [`replicate`]: the replicator, sans-IO: which block is asked of whom, and what is answered.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: time comes in as
//! [`Time`], randomness as seeds, disks through the `Disk` trait of the store.

pub mod bitfield;
pub mod bundle;
pub mod conflict;
pub mod crypto;
pub mod encoding;
pub mod limits;
pub mod manifest;
pub mod replicate;
#[cfg(feature = "std")]
pub mod store;
pub mod text;
mod time;
pub mod tree;
pub mod wire;

pub use bitfield::Bitfield;
pub use crypto::{AgentId, DeviceKey, DiscoveryKey, FeedKey, Hash, KeyPair, PublicKey};
pub use time::Time;
