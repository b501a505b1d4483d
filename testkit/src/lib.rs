//! Development only: what several crates need to test themselves.
#![allow(clippy::panic, clippy::missing_panics_doc)] // A test helper fails by panicking.

pub mod chromium;
pub mod coturn;
pub mod disk;
pub mod far;
pub mod namespaces;
pub mod needles;
pub mod npm;
pub mod process;
pub mod random;
pub mod soak;
pub mod wal;
pub mod work;
