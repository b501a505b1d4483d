//! A feed, whole or in part, as one file that anybody can check without a network or a store.
//!
//! A bundle is a header with the signed head, then runs of blocks from left to right, each with
//! just the tree nodes that tie it to what was proved before it, then a check. Every run is
//! verified as it is read, so a reader keeps one run and one path of the tree in memory, whatever
//! the size of the file, and never passes on a block that it has not tied to the author's
//! signature.
//!
//! Participants: [`BundleWriter`] draws blocks and nodes from a [`BundleSource`], [`BundleReader`]
//! gives verified [`Chunk`]s. Bytes: `docs/formats.md`, "Bundle"; why: `docs/design/0013`.

mod chunk;
mod cover;
mod error;
mod header;
mod read;
mod write;

pub use chunk::Chunk;
pub use error::{BundleError, WriteError};
pub use header::BundleHeader;
pub use read::{BundleReader, BundleSummary};
pub use write::{BundleSource, BundleWriter};
