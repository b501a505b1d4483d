//! Backups: what a home holds that cannot be fetched from anybody, in one sealed file.
//!
//! In it are a consistent copy of `state.db` (identity statements, pins, epoch secrets, which feeds are
//! whose) and a summary. The device secret is not: two devices with one secret fork their feeds. So
//! [`restore`] makes a new device, which continues the paths of the one before; the feeds themselves are
//! fetched from peers. What no peer had seen is not in it, and the backup says how much that was.

mod create;
mod parts;
mod restore;
mod sealed_file;
mod unpack;

pub use create::{Created, create};
pub use parts::{Summary, Unpublished, probe_parts};
pub use restore::{Approval, Restored, restore};
pub use sealed_file::{BackupError, probe_open, probe_seal};
pub use unpack::{Contents, verify};
