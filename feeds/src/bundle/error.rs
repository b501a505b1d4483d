//! What can be wrong with a bundle, and what can go wrong in making one.

use std::io;
use std::sync::Arc;

use crate::crypto::FeedKey;
use crate::encoding::DecodeError;
use crate::manifest::VerifierError;

/// Why a bundle is not accepted. What was read before the error was verified.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file cannot be read.
    #[error("the bundle cannot be read")]
    Io(#[source] Arc<io::Error>),
    /// The file starts with other bytes.
    #[error("this is no bundle: it does not start with KLBN")]
    NotABundle,
    /// The format is a later one.
    #[error("the bundle has format {actual}, this build reads format 1")]
    Version {
        /// Its format.
        actual: u8,
    },
    /// The file ends in its header.
    #[error("the bundle ends inside its header")]
    HeaderCut,
    /// The header does not decode, or not the one way it is written.
    #[error("the header of the bundle does not decode: {reason}")]
    Header {
        /// What of it.
        reason: HeaderFault,
    },
    /// The manifest is not the one that the feed key commits to.
    #[error("the manifest in the bundle is not that of feed {feed}")]
    Manifest {
        /// The feed that the header names.
        feed: FeedKey,
        /// What differs.
        #[source]
        source: VerifierError,
    },
    /// The signature of the head does not hold.
    #[error("feed {feed}: the signature over its head of length {length} does not hold")]
    Signature {
        /// The feed.
        feed: FeedKey,
        /// The length signed, as the header says.
        length: u64,
    },
    /// The file ends before the block.
    #[error("feed {feed}: the bundle ends before block {block} is whole")]
    Cut {
        /// The feed.
        feed: FeedKey,
        /// The first block that is not there.
        block: u64,
    },
    /// The file ends after its blocks and before its check.
    #[error("feed {feed}: the bundle ends before its check")]
    CheckCut {
        /// The feed.
        feed: FeedKey,
    },
    /// The description of a run of blocks does not decode, or not the one way it is written.
    #[error("feed {feed}: the run from block {block} on does not decode: {fault}")]
    Run {
        /// The feed.
        feed: FeedKey,
        /// First block of the run.
        block: u64,
        /// What of it.
        fault: DecodeError,
    },
    /// A block is not the one that was bundled.
    #[error("feed {feed}: block {block} is not what was bundled")]
    Block {
        /// The feed.
        feed: FeedKey,
        /// The block.
        block: u64,
    },
    /// Blocks and nodes of a run do not lead to the signed head.
    #[error(
        "feed {feed}: block {block}, or one of the {count} from there on, does not lead to the signed head"
    )]
    Unproved {
        /// The feed.
        feed: FeedKey,
        /// First block of the run.
        block: u64,
        /// Blocks in the run.
        count: u64,
    },
    /// All blocks hold, and the check over what describes them does not.
    #[error("feed {feed}: the check at the end of the bundle does not hold")]
    Check {
        /// The feed.
        feed: FeedKey,
    },
    /// There is more in the file than the bundle.
    #[error("feed {feed}: bytes follow the end of the bundle")]
    Trailing {
        /// The feed.
        feed: FeedKey,
    },
}

/// What of a header is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// It is longer than any that is written.
    #[error("{actual} bytes are above the limit of {limit}")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
        /// What it says.
        actual: usize,
    },
    /// A value does not decode.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// Another encoding of the same values.
    #[error("it is not in its shortest form")]
    NotCanonical,
    /// Sizes of roots that no feed has, or no block at all.
    #[error("the head is none")]
    Head,
    /// A range that is empty or passes the head.
    #[error("the range from block {start} on is empty or ends behind the head")]
    Range {
        /// First block of the range.
        start: u64,
    },
}

/// Why a bundle is not made. `E` is what the source of blocks and nodes may fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError<E> {
    /// The file cannot be written.
    #[error("the bundle cannot be written")]
    Io(#[source] io::Error),
    /// Blocks could not be read.
    #[error("blocks for the bundle could not be read")]
    Source(#[source] E),
    /// A range that is empty, behind another that it touches, or passes the head.
    #[error("blocks {start}..{end} are no range of a feed of length {length}, or out of order")]
    Range {
        /// First block.
        start: u64,
        /// Behind the last block.
        end: u64,
        /// Length of the head.
        length: u64,
    },
    /// More ranges than a bundle lists.
    #[error("{actual} ranges are more than the {limit} that a bundle lists")]
    TooManyRanges {
        /// The limit.
        limit: usize,
        /// How many there are.
        actual: usize,
    },
    /// The block is not held.
    #[error("block {block} is not held")]
    BlockMissing {
        /// The block.
        block: u64,
    },
    /// A block above what any feed may have.
    #[error("block {block} has {size} bytes, the limit is {limit}")]
    BlockTooLarge {
        /// The block.
        block: u64,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A tree node that the proof needs is not held.
    #[error("tree node {node} is not held")]
    NodeMissing {
        /// Its flat-tree index.
        node: u64,
    },
    /// What the source gave does not lead to the signed head: it is damaged.
    #[error("block {block}, or one of the {count} from there on, does not lead to the signed head")]
    Unproved {
        /// First block of the run.
        block: u64,
        /// Blocks in the run.
        count: u64,
    },
}
