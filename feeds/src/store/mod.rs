//! The one durable store for all feeds of an agent: an append-only log of segments.
//!
//! A call that returned has its data on the disk: one write and one sync, shared by all calls that
//! wait for one (group commit). Readers are never blocked by a sync. What is read back is
//! checked before it is returned or served, and damage is an error that names feed and block.
//!
//! Participants: [`Store`] and [`Feed`] are the handles; [`Disk`] is the seam to the world, with
//! [`FileDisk`] and [`MemoryDisk`]. Everything here blocks and is thread-safe; asynchronous callers
//! use worker threads. Layout, commit and recovery: `docs/storage.md`.

mod append;
mod apply;
mod body;
mod cache;
mod checkpoint;
mod clear;
mod compact;
mod conflict;
mod disk;
mod error;
mod export;
mod feed;
mod file_disk;
mod gaps;
mod heads;
mod import;
mod index;
mod keeper;
pub mod limits;
mod log;
mod memory_disk;
mod mistake;
mod neighbours;
mod open;
mod options;
#[cfg(feature = "test-switches")]
pub mod probe;
mod publish;
mod queue;
mod read_only;
mod record;
mod recovery;
mod relaxed;
mod repair;
mod room;
mod scan;
mod segment;
mod serve;
mod sign_guard;
mod state;
#[allow(clippy::module_inception)]
mod store;
mod truncate;
mod turn;
mod verify;

pub use append::Appended;
pub use apply::{Applied, Incoming};
pub use compact::CompactReport;
pub use conflict::KeepConflictError;
pub use disk::{Disk, DiskFile, DiskLock, LockError};
pub use error::{
    AppendError, ApplyError, CreateError, Damage, DamageKind, OpenError, Place, ProveError,
    ReadError, StoreError,
};
pub use feed::{Feed, FeedInfo};
pub use file_disk::FileDisk;
pub use import::{ImportError, ImportProgress, Imported};
pub use memory_disk::MemoryDisk;
#[cfg(feature = "test-switches")]
pub use mistake::Mistake;
pub use open::{OpenReport, TailDropped};
pub use options::Options;
pub use repair::{
    Gap, RepairError, RepairReport, RepairedFeed, RepairedFolder, repair, repair_folder, survey,
};
pub use sign_guard::{SignGuard, SignRefused};
pub use state::{Kind, Role};
pub use store::{Store, StoreStat};
pub use truncate::TruncateError;
pub use verify::{Problem, ProblemPlace, VerifyReport};
