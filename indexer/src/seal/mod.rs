//! Keeping entries, files and secrets from those who only store them.
//!
//! An [`EpochSecret`] is what the members of a room share; its content key seals entries
//! ([`seal_entry`], [`open_entry`]), its meet key lets members find one another. Files have keys of
//! their own ([`seal_chunk`], [`open_chunk`]). A secret goes to one device by [`seal_to_device`].
//! All of it is pure: nonces and ephemeral seeds come in as values and must be fresh random bytes.

mod block;
mod chunk;
mod device;
mod epoch;

pub(crate) use block::open_with_id;
pub use block::{SEALED_BLOCK, SealError, SealedBlock, open_entry, seal_entry};
pub use chunk::{ChunkError, open_chunk, seal_chunk};
pub use device::{
    SEALED_SECRET_BYTES, SealedSecretError, device_dh_public, open_sealed_secret, pair_meet_key,
    seal_to_device,
};
pub use epoch::{ContentKey, EpochCommitment, EpochId, EpochSecret};
