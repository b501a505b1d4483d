//! Which devices an agent has: a set of signed statements, and what follows from it.
//!
//! The state is a pure function of the set: no order, no head, so nothing to fork and nothing to
//! catch up with. A set travels whole, as [`IdentitySet::encode`] writes it, and is named by its
//! hash. Statements carry format 0 and its revision until they are declared final.

mod set;
mod statement;

pub use set::{Device, Identity, IdentityError, IdentitySet};
pub use statement::{DeviceAdded, Powers, Statement};
