//! What can go wrong, one type per operation: the disk's fault, the caller's, the peer's.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::conflict::ConflictProof;
use crate::crypto::FeedKey;
use crate::store::SignRefused;

/// A place in the log, or in the index.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Number of the segment file.
    pub segment: u32,
    /// Byte offset in it.
    pub offset: u32,
}

impl Place {
    /// Stands for the index in place of a segment; offsets in it end at 4 GiB.
    pub const INDEX: u32 = u32::MAX;
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segment == Self::INDEX {
            return write!(f, "index offset {}", self.offset);
        }
        write!(f, "segment {} offset {}", self.segment, self.offset)
    }
}

/// Stored bytes that are not what was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Damage {
    /// The record concerned.
    pub place: Place,
    /// What does not hold.
    pub what: DamageKind,
}

/// In what way stored bytes are damaged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageKind {
    /// The file ends inside the record.
    #[error("the file ends inside the record")]
    Missing,
    /// The head part does not match its check.
    #[error("the head part of the record does not match its check")]
    Head,
    /// The head part matches its check and holds something else than the index says.
    #[error("the record does not hold what the index says")]
    Index,
    /// A block does not match its leaf hash.
    #[error("the block does not match its hash")]
    BlockHash,
    /// A block does not match its CRC32C.
    #[error("the block does not match its checksum")]
    BlockChecksum,
    /// A node is not the parent of its children, or no root where one must be.
    #[error("the tree node does not follow from its children")]
    Node,
    /// The signature of the head does not hold.
    #[error("the signed head does not hold")]
    Signature,
    /// The manifest is not the one the feed key commits to.
    #[error("the manifest is not the one of the feed key")]
    Manifest,
    /// A record that later records say was synced fails.
    #[error("a record that was synced does not hold")]
    SyncedRecord,
    /// A page of the index does not match its check. Opening the store again makes a new index.
    #[error("the page of the index does not match its check; opening again makes a new index")]
    IndexPage,
    /// A segment's header does not match its check.
    #[error("the header of the segment does not hold")]
    SegmentHeader,
    /// A segment between others is missing.
    #[error("the segment is missing")]
    SegmentMissing,
}

/// The disk's fault: nothing of the operation was published.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk refused an operation.
    #[error("{operation} of {file} in the store")]
    Io {
        /// The operation, in the words of the disk trait.
        operation: &'static str,
        /// The file, or the folder.
        file: String,
        /// What the disk said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The disk has no room for what was to be written: nothing of it was, nothing is lost, and the
    /// next write succeeds once there is room.
    #[error("the disk is full: the store needs {needed} bytes more, {free} are free")]
    DiskFull {
        /// Bytes by which the log was to grow.
        needed: u64,
        /// Bytes that the disk could still take; 0 when it does not say.
        free: u64,
    },
    /// An earlier write or sync was refused: nothing is written until the store is opened again.
    #[error("the store takes no writes since an earlier one was refused")]
    WriterStopped {
        /// What was refused first.
        #[source]
        first: Arc<io::Error>,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The store was opened to be read.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// The feed was taken out of the store; the handle is of no use any more.
    #[error("feed {feed} was taken out of the store")]
    FeedDropped {
        /// The feed.
        feed: FeedKey,
    },
    /// Stored bytes are damaged.
    #[error("the store is damaged")]
    Damaged(#[from] Damage),
}

impl StoreError {
    pub(super) fn io(operation: &'static str, file: impl Into<String>, error: io::Error) -> Self {
        StoreError::Io {
            operation,
            file: file.into(),
            source: Arc::new(error),
        }
    }

    /// Returns what a refused growth is: a full disk, which leaves the writer usable, or a fault.
    pub(super) fn refused(
        operation: &'static str,
        file: impl Into<String>,
        error: io::Error,
        sizes: impl FnOnce() -> (u64, u64),
    ) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let (needed, free) = sizes();
                StoreError::DiskFull { needed, free }
            }
            _ => StoreError::io(operation, file, error),
        }
    }
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process uses it.
    #[error("the store is in use by process {pid}")]
    Locked {
        /// Who uses it; 0 when unknown.
        pid: u32,
    },
    /// A record of a newer format.
    #[error("{place}: record of kind {kind}, version {version} is newer than this build")]
    UnknownRecord {
        /// Where it stands.
        place: Place,
        /// Its kind.
        kind: u8,
        /// Its version.
        version: u8,
    },
    /// The disk's fault, or damage.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a feed is not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The store holds as many feeds as it can number.
    #[error("the store holds {limit} feeds, no more can be added")]
    TooManyFeeds {
        /// The limit.
        limit: u32,
    },
    /// The manifest names no signature scheme that this build verifies.
    #[error("manifest of feed {feed} cannot be used: {reason}")]
    Manifest {
        /// The feed.
        feed: FeedKey,
        /// Why.
        reason: String,
    },
    /// The disk's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why blocks were not appended; none of the batch was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The key is not a signer of the feed.
    #[error("feed {feed}: the key given does not sign this feed")]
    NotWritable {
        /// The feed.
        feed: FeedKey,
    },
    /// A block above the limit of the feed's kind.
    #[error("feed {feed}: block {block} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The feed.
        feed: FeedKey,
        /// Index the block would have had.
        block: u64,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Its writer contradicted itself: nothing is added to the feed any more.
    #[error("feed {feed} is stopped by a conflict: {proof}")]
    Conflict {
        /// The feed.
        feed: FeedKey,
        /// Both heads, for anybody to check.
        proof: Box<ConflictProof>,
    },
    /// The feed would grow beyond what its format can count.
    #[error("feed {feed}: length or size beyond 2^53")]
    TooLong {
        /// The feed.
        feed: FeedKey,
    },
    /// The store's [`SignGuard`](crate::store::SignGuard) refused the signature.
    #[error("feed {feed} is not signed")]
    Refused {
        /// The feed.
        feed: FeedKey,
        /// Why.
        #[source]
        refused: SignRefused,
    },
    /// The disk's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a block cannot be read. A block that is not held is no error but `None`.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stored block, or what vouches for it, is damaged.
    #[error("feed {feed}: block {block} is damaged")]
    Damaged {
        /// The feed.
        feed: FeedKey,
        /// The block.
        block: u64,
        /// What is damaged, and where.
        #[source]
        damage: Damage,
    },
    /// The disk's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a request is not answered with a proof.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The block asked for is not held.
    #[error("feed {feed}: block {block} is not held")]
    BlockNotHeld {
        /// The feed.
        feed: FeedKey,
        /// The block.
        block: u64,
    },
    /// A node that the proof needs is not held, or nothing was signed yet.
    #[error("feed {feed}: {reason}")]
    NotAvailable {
        /// The feed.
        feed: FeedKey,
        /// What is missing.
        reason: String,
    },
    /// The request contradicts itself or the feed.
    #[error("feed {feed}: {reason}")]
    InvalidRequest {
        /// The feed.
        feed: FeedKey,
        /// What is wrong with it.
        reason: String,
    },
    /// Damage, or the disk's fault.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a proof was not stored; the others of its call are not concerned.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It hangs on a node that is not known yet: keep it and try again when more has arrived.
    #[error("feed {feed}: the proof hangs on a node that is not known yet")]
    MissingAnchor {
        /// The feed.
        feed: FeedKey,
    },
    /// A hash or signature does not hold, or the manifest is another feed's: the peer's fault.
    #[error("feed {feed}: bad data{}: {reason}", .block.map(|block| format!(" for block {block}")).unwrap_or_default())]
    BadData {
        /// The feed.
        feed: FeedKey,
        /// The block that came with it.
        block: Option<u64>,
        /// What does not hold.
        reason: String,
        /// A signature or hash does not fit *our* tree, which is also what a head or block of
        /// another history looks like: an upgrade asked for from 0 to our length tells.
        may_be_conflict: bool,
    },
    /// The writer contradicted itself, now or earlier: its fault, nobody else's. The feed stops
    /// where it is; what is held stays.
    #[error("feed {feed} is stopped by a conflict: {proof}")]
    Conflict {
        /// The feed.
        feed: FeedKey,
        /// Both heads, for anybody to check; durable.
        proof: Box<ConflictProof>,
    },
    /// A block above the limit of the feed's kind.
    #[error("feed {feed}: block {block} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The feed.
        feed: FeedKey,
        /// The block.
        block: u64,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A head of another length that cannot be compared with ours, for want of nodes.
    #[error("feed {feed}: a head that cannot be compared with ours")]
    Unlinked {
        /// The feed.
        feed: FeedKey,
    },
    /// Nothing new: the head is not longer than ours.
    #[error("feed {feed}: nothing newer than what is held")]
    Stale {
        /// The feed.
        feed: FeedKey,
    },
    /// The proof is for another fork of a plain feed.
    #[error("feed {feed}: the proof is for fork {actual}, ours is {expected}")]
    OtherFork {
        /// The feed.
        feed: FeedKey,
        /// Our fork.
        expected: u64,
        /// The proof's.
        actual: u64,
    },
    /// No manifest is known yet, and none came with the proof.
    #[error("feed {feed}: the manifest is not known yet")]
    ManifestUnknown {
        /// The feed.
        feed: FeedKey,
    },
}
