//! What follows from an epoch secret.

use std::fmt;

use kinlog_feeds::crypto::{Secret, blake2b_256, derive, namespace};
use kinlog_feeds::text;

/// The public name of an epoch; commits to its content key.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EpochId(pub [u8; 16]);

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(&self.0))
    }
}

impl fmt::Debug for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochId({})", &self.to_string()[..8])
    }
}

/// The key that seals an epoch's entries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentKey(Secret);

impl ContentKey {
    /// Returns the public name of the epoch with this key: `H(NS("epoch-id") || key)[..16]`.
    pub fn epoch_id(&self) -> EpochId {
        let hash = blake2b_256(&[&namespace::EPOCH_ID.hash(), self.0.expose()]);
        let (id, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        EpochId(*id)
    }

    /// Takes a key that was given without the secret of its epoch.
    pub const fn new(bytes: [u8; 32]) -> Self {
        ContentKey(Secret::new(bytes))
    }

    /// Returns the bytes; whoever calls this keeps them out of logs and errors.
    pub const fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }
}

/// What the members of a room share for an epoch: 32 random bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EpochSecret(Secret);

impl EpochSecret {
    /// Takes 32 fresh random bytes, or the bytes of an epoch made before.
    pub const fn new(bytes: [u8; 32]) -> Self {
        EpochSecret(Secret::new(bytes))
    }

    /// Returns the bytes; whoever calls this keeps them out of logs and errors.
    pub const fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Returns the key that seals entries: `derive(secret, "content", "")`.
    pub fn content_key(&self) -> ContentKey {
        ContentKey(derive(&self.0, namespace::CONTENT, &[]))
    }

    /// Returns the key that seals acts, which every member gets: `derive(secret, "act", "")`. Its
    /// public name is made as that of the content key.
    pub fn act_key(&self) -> ContentKey {
        ContentKey(derive(&self.0, namespace::ACT, &[]))
    }

    /// Returns the key by which members meet: `derive(secret, "meet", "")`.
    pub fn meet_key(&self) -> Secret {
        derive(&self.0, namespace::MEET, &[])
    }

    /// Returns the public name of the epoch.
    pub fn epoch_id(&self) -> EpochId {
        self.content_key().epoch_id()
    }

    /// Returns what the act that announces the epoch commits to: `H(NS("epoch-commit") || secret)`.
    /// The two ids are too short for that: whoever makes an epoch could look for two secrets with
    /// one id.
    pub fn commitment(&self) -> EpochCommitment {
        let hash = blake2b_256(&[&namespace::EPOCH_COMMIT.hash(), self.0.expose()]);
        EpochCommitment(hash)
    }
}

/// Commits whoever announces an epoch to its one secret.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EpochCommitment(pub [u8; 32]);
