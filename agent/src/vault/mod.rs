//! Secrets at rest: the key of a home, what it seals, what seals it, and where it is while unlocked.
//!
//! Every home has a random [`HomeKey`]; the device secret and the secrets in `state.db` stand on the disk
//! under it, never in clear. Without a passphrase it lies beside them (0600): the home is as safe as its
//! folder. With one it is sealed under the passphrase ([`seal_with_passphrase`]), and an unlocked home keeps
//! it in the user's runtime folder until it is locked or the machine stops. Or it is not on the disk at
//! all, and the key ring of the operating system gives it to whoever has logged in.
//!
//! The passphrase is stretched with argon2id; its parameters stand in clear beside what they protect, and
//! weaker ones than this build writes are refused, so that nobody who can change a file can lower them.

mod home_key;
mod keeper;
mod key_file;
mod key_ring;
mod passphrase;

pub use home_key::{HomeKey, NotOpened, SecretPlace};
pub use passphrase::{
    ENVELOPE_OVERHEAD_BYTES, EnvelopeError, KdfParameters, Passphrase, PassphraseError, Salt,
    envelope_parameters, open_with_both, open_with_passphrase, seal_with_both,
    seal_with_passphrase, stretch,
};

pub(crate) use keeper::{KeyFolder, KeyKeeper, wipe};
pub(crate) use key_file::{KeyFile, VaultId};
pub(crate) use key_ring::KeyRing;
