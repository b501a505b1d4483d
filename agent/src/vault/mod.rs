//! Secrets at rest: what a passphrase seals.
//!
//! The passphrase is stretched with argon2id; its parameters stand in clear beside what they protect, and
//! weaker ones than this build writes are refused, so that nobody who can change a file can lower them.

mod passphrase;

pub use passphrase::{
    ENVELOPE_OVERHEAD_BYTES, EnvelopeError, KdfParameters, Passphrase, PassphraseError, Salt,
    open_with_passphrase, seal_with_passphrase, stretch,
};
