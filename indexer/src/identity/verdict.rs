//! What became of each statement, and why.

use kinlog_feeds::crypto::Hash;

/// What a statement comes to in its set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It holds.
    Counts,
    /// A statement that it depends on is not held, or is of a kind that this build does not know.
    Waits,
    /// Of a kind that this build does not know and need not: whoever signed it may say what it likes.
    SaysNothing,
    /// Whoever signed it may not say it.
    NotAuthorised(Refusal),
    /// The revocation with this hash took it back.
    Voided(Hash),
}

/// Why a statement is not authorised; decided by its own past, so for ever.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its signer is neither the root nor a device, in the statement's past.
    Stranger,
    /// Its signer was revoked, or replaced, in the statement's past.
    Revoked,
    /// Its signer has not the power for it, or gives more than it has.
    Powers,
    /// The device was revoked in the statement's past: it does not come back.
    CameBack,
    /// The device is there already, with other keys or powers.
    OtherKeys,
    /// The new root was a root before.
    FormerRoot,
}

impl Refusal {
    /// Returns the reason as a person reads it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refusal::Stranger => "signed by a key that is no device of the agent",
            Refusal::Revoked => "signed by a key that was revoked",
            Refusal::Powers => "signed by a device without the power for it",
            Refusal::CameBack => "adds a device that was revoked before",
            Refusal::OtherKeys => "adds a device again with other keys or powers",
            Refusal::FormerRoot => "goes back to a root that was replaced",
        }
    }
}
