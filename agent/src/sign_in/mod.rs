//! Signing in on a new device with a password: a key that adds devices, sealed under the password and a
//! sign-in code.
//!
//! The key is a device of the agent with the power to add devices and nothing else. Its secret stands in a
//! [`Capsule`], sealed under argon2id of the password combined with the 128 bits of a [`SignInCode`] that was
//! shown once. The sealed bytes travel in a [`SignInRecord`], signed by a device of the agent: newer ones replace
//! older ones. The agent's devices hold it, and seeders that were asked to; it is in no feed, and goes to nobody
//! but peers that prove the code. Bytes: `docs/formats.md`; who can do what: `docs/identity.md`.

mod capsule;
mod code;
mod hold_link;
mod keep;
mod newcomer;
mod offer;
mod record;
mod search;

pub use capsule::{Capsule, CapsuleError};
pub use code::{CodeError, SignInCode};
pub use hold_link::{HoldLink, HoldLinkError, agent_named};
pub use newcomer::{SignIn, SignInStep, SignedIn, sign_in};
pub use offer::{OfferError, SignInOffer};
pub use record::{SignInRecord, SignInRecordError};

pub(crate) use keep::{HeldSignIn, is_sign_in_key};
