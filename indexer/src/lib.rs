//! Feeds to facts to views: what entries mean, who may read them, and the index over them.
//!
//! The rooms of this crate, in the order a block passes through them:
//!
//! - [`entry`]: the envelope of every entry and the bodies inside it.
//! - [`seal`]: epochs, sealed blocks, file chunks, secrets sealed to one device.
//! - [`directory`]: a device's paths, whole or from a snapshot, and the snapshots that it writes.
//! - [`clock`]: the hybrid clock that dates entries and the frontier that links them.
//! - [`grant`]: what a seeder is given to keep a room's feeds.
//! - [`identity`]: the signed statements that say which devices an agent has.
//! - [`authority`]: who may do what in a room, from its acts alone.
//! - [`register`]: which write of a value stands, and which contradict each other.
//! - [`index`]: the SQLite index: facts, views, search, rebuild, dump hash.
//!
//! Nothing here touches the network. Only [`index`] touches a disk; randomness and wall time come
//! in as values.

pub mod authority;
pub mod clock;
pub mod directory;
pub mod entry;
mod generated;
pub mod grant;
pub mod identity;
pub mod index;
pub mod limits;
#[cfg(feature = "test-switches")]
pub mod mistake;
#[cfg(not(feature = "test-switches"))]
mod mistake;
pub mod register;
mod room;
pub mod seal;
mod text;

pub use clock::Clock;
pub use entry::{Body, Entry};
pub use index::Index;
pub use room::RoomId;
pub use text::{Text, TextError};

/// The format of bodies and statements, and the rules by which rooms and identities are evaluated.
///
/// It stands in each home, in a hello's features, in each statement and in the body format of every
/// entry. What changes under it, and what does not: `docs/design/0016-format-1.md`.
pub const FORMAT: u16 = 1;

/// The body format that this build writes and reads.
pub const BODY_FORMAT: u16 = FORMAT;
