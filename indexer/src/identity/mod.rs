//! Which devices an agent has: a set of signed statements, and what follows from it.
//!
//! The state is a pure function of the set: no order, no head, so nothing to fork and nothing to
//! catch up with. A set travels whole, as [`IdentitySet::encode`] writes it, and is named by its
//! hash. Signatures are verified once ([`IdentitySet::check`]); what holds is evaluated from the
//! statements that have them ([`VerifiedSet::identity`]). The rules and the bytes, with their
//! reasons: `docs/design/0015-identity-and-authority.md`.

mod acts;
mod bits;
mod card;
mod decide;
mod error;
mod graph;
mod safety;
mod said;
mod set;
mod standing;
mod statement;
mod together;
mod verdict;
mod verified;

pub use card::{CardError, DeviceCard};
pub use error::IdentityError;
pub use safety::SafetyNumber;
pub use said::{Cut, DeviceAdded, DeviceRevoked, OtherSaid, Powers, RootReplaced, Said};
pub use set::IdentitySet;
pub use standing::{Device, Identity, Revocation, Revoked};
pub use statement::{Names, Statement};
pub use verdict::{Refusal, Verdict};
pub use verified::VerifiedSet;

#[cfg(test)]
mod tests;
