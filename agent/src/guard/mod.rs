//! The fork guard: an installation that is not certain to be the only and newest holder of its device
//! secret never signs with it again.
//!
//! Certain means: the [install record](record::InstallRecord) in the home is the one that its twin in
//! the state folder names, both are where they were written, and the store is not older than both.
//! [`ForkGuard`] is what the store asks before each signature; [`verdict`] decides, from values alone.
//! Why three steps, and what each crash between them leaves: `docs/design/0012-fork-guard.md`.

mod fork_guard;
mod keeper;
mod place;
mod record;
mod verdict;

pub(crate) use fork_guard::{ForkGuard, Home};
pub(crate) use keeper::StateFolder;
pub(crate) use record::{read_small, replace};
