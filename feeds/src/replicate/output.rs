//! What the replicator asks of its driver, and the answers.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::FeedKey;
use crate::replicate::{GetEnd, GetId, HeadState, Reorg};
use crate::tree::{BlockSet, Proof, ProofRequest};
use crate::wire::hypercore::Message;
use crate::wire::kinlog::{FeedMessage, GroupMessage};

/// A peer, as the driver numbers it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PeerId(pub u64);

/// A read that the driver was asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ReadId(pub u64);

/// An apply that the driver was asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ApplyId(pub u64);

/// Unverified data of a peer, for the store to verify and keep.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incoming {
    /// The proof with its block, if it carries one.
    pub proof: Proof,
    /// The encoded manifest, if it was asked for.
    pub manifest: Option<Bytes>,
}

impl Incoming {
    /// Returns the blocks that it brings.
    pub fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        let one = self.proof.block.iter().map(|block| block.index);
        let set = self.proof.blocks.iter();
        one.chain(set.flat_map(|blocks| blocks.set.blocks()))
    }
}

/// What the store made of one [`Incoming`]: verified and durable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// The block that is now held; of a set all are, and none is named.
    pub block: Option<u64>,
    /// The signed head as it is now, if this brought a new one.
    pub head: Option<HeadState>,
}

/// Why the store did not take one [`Incoming`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApplyFailure {
    /// A node it builds on is not known yet; it is tried again after the next apply.
    MissingAnchor,
    /// A hash does not hold, or the proof has no meaning: the peer's fault.
    BadData,
    /// A signature or a hash does not fit our tree: the peer lies, or the writer has signed another
    /// history. The peer is asked for the proof of either.
    OtherTree,
    /// A valid signature over another history: nobody is banned, the feed stops here. Its proof
    /// goes to [`handle_conflict`](crate::replicate::Replicator::handle_conflict) first.
    Conflict,
    /// The block is larger than the feed's kind allows.
    TooLarge,
    /// Nothing new.
    Stale,
    /// A head of another length that cannot be compared with ours, for want of nodes.
    Unlinked,
    /// The store failed; not the peer's fault.
    Store,
}

/// Why a read gives nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotAvailable {
    /// Not held (any more), or damaged.
    Missing,
    /// The request makes no sense for this feed.
    InvalidRequest,
    /// It was not read, as those before it brought [`READ_BYTES_PER_PEER_MAX`]: it is asked for again.
    ///
    /// [`READ_BYTES_PER_PEER_MAX`]: crate::limits::READ_BYTES_PER_PEER_MAX
    Postponed,
}

/// What a peer did that the protocol forbids.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolViolation {
    /// A hash or signature in its data does not hold.
    #[error("data of feed {key} does not verify (block {block:?})")]
    BadData { key: FeedKey, block: Option<u64> },
    /// Too many blocks above the limit of the feed's kind.
    #[error("block {block} of feed {key} has {actual} bytes, the limit is {limit}")]
    TooLarge {
        key: FeedKey,
        block: u64,
        actual: usize,
        limit: usize,
    },
    /// Too many requests that make no sense.
    #[error("{count} invalid requests")]
    InvalidRequests { count: u32 },
    /// Too much data that was not asked for.
    #[error("{count} messages of data that was not asked for")]
    UnsolicitedData { count: u32 },
    /// More requests waiting than allowed.
    #[error("more than {limit} requests wait for an answer")]
    TooManyRequests { limit: usize },
    /// Data that answers a request with something else.
    #[error("data of feed {key} does not answer request {request}")]
    WrongAnswer { key: FeedKey, request: u64 },
    /// A conflict proof that is none.
    #[error("what was sent as a conflict proof of feed {key} does not verify")]
    BadConflict { key: FeedKey },
    /// Blocks whose proofs end nowhere, again and again.
    #[error("{count} proofs of feed {key} lead to no known node")]
    Unanchored { key: FeedKey, count: u32 },
}

impl ProtocolViolation {
    /// Returns whether the peer lied about content, which no honest peer does by mistake.
    pub fn is_proven_lie(&self) -> bool {
        matches!(
            self,
            ProtocolViolation::BadData { .. }
                | ProtocolViolation::WrongAnswer { .. }
                | ProtocolViolation::BadConflict { .. }
        )
    }
}

/// What a follower of a feed may want to know.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FeedEvent {
    /// The signed head is longer.
    Upgraded {
        /// New length, in blocks.
        length: u64,
    },
    /// A plain feed was cut by its writer: blocks from here on are gone, the head is of another fork.
    Truncated {
        /// Blocks that stayed.
        length: u64,
    },
    /// Blocks are verified and durable.
    BlocksStored {
        /// A run of them.
        range: Range<u64>,
    },
    /// Everything wanted is held, for the head that is known.
    Complete,
    /// Another history with a valid signature was seen; the feed stops here.
    Conflict,
    /// What peers say to hold of the blocks that are watched is something else now, see
    /// [`holders`](crate::replicate::Replicator::holders).
    HoldersChanged,
    /// What was wanted until a time is wanted no more.
    InterestEnded,
    /// The store failed; nothing more is asked for until the feed is added again.
    StoreFailed,
    /// No connected peer holds what is wanted.
    NobodyHas {
        /// Blocks that are wanted and missing.
        blocks: u64,
        /// The first of them.
        first: Option<u64>,
    },
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Send a message on the feed's channel with the peer.
    Send {
        /// To whom.
        peer: PeerId,
        /// On which feed's channel.
        key: FeedKey,
        /// What.
        message: Message,
        /// Whether somebody may be waiting for it: it goes ahead of bulk data that waits.
        urgent: bool,
    },
    /// Send a message about the feed by `kinlog/feed/1`; only to peers that were told of by
    /// [`handle_kinlog_open`](crate::replicate::Replicator::handle_kinlog_open).
    SendKinlog {
        /// To whom.
        peer: PeerId,
        /// About which feed.
        key: FeedKey,
        /// What.
        message: FeedMessage,
        /// As in [`Output::Send`].
        urgent: bool,
    },
    /// Say something about several feeds by `kinlog/feed/1`; only to peers that were told of by
    /// [`handle_groups_open`](crate::replicate::Replicator::handle_groups_open).
    SendGroup {
        /// To whom.
        peer: PeerId,
        /// About which feeds, in the order of their keys.
        feeds: Vec<FeedKey>,
        /// What.
        message: GroupMessage,
    },
    /// Read the proof of the first blocks of a set, as many as fit, and call
    /// [`handle_read`](crate::replicate::Replicator::handle_read).
    ReadSet {
        /// Names the read.
        id: ReadId,
        /// For whom.
        peer: PeerId,
        /// Of which feed.
        key: FeedKey,
        /// Which blocks.
        set: BlockSet,
    },
    /// Read a proof (with block and manifest, as asked) and call
    /// [`handle_read`](crate::replicate::Replicator::handle_read).
    Read {
        /// Names the read.
        id: ReadId,
        /// For whom.
        peer: PeerId,
        /// Of which feed.
        key: FeedKey,
        /// What.
        request: ProofRequest,
        /// The encoded manifest too.
        manifest: bool,
        /// Nobody asked: the block was appended just now, and whoever follows waits for it.
        is_push: bool,
    },
    /// Verify and keep all items in one durable commit and call
    /// [`handle_applied`](crate::replicate::Replicator::handle_applied).
    Apply {
        /// Names the apply.
        id: ApplyId,
        /// Which feed.
        key: FeedKey,
        /// Whatever arrived since the last drain, in the order it was asked for.
        items: Arc<Vec<Incoming>>,
    },
    /// Check what a peer sent as a conflict proof of the feed, keep it durably if it holds, and
    /// call [`handle_conflict`](crate::replicate::Replicator::handle_conflict) or
    /// [`handle_bad_conflict`](crate::replicate::Replicator::handle_bad_conflict).
    KeepConflict {
        /// Who sent it.
        peer: PeerId,
        /// Of which feed.
        key: FeedKey,
        /// Unverified bytes.
        proof: Bytes,
    },
    /// Compare two whole histories that peers showed, as ours cannot be compared with either; if
    /// they contradict each other, keep the proof durably and call
    /// [`handle_conflict`](crate::replicate::Replicator::handle_conflict).
    Contest {
        /// Of which feed.
        key: FeedKey,
        /// What each of them showed.
        shown: Box<[Incoming; 2]>,
    },
    /// Move a reorg on with a peer's answer, keep what it comes to durably, and call
    /// [`handle_reorganised`](crate::replicate::Replicator::handle_reorganised).
    Reorganise {
        /// Of which feed.
        key: FeedKey,
        /// Who is followed.
        peer: PeerId,
        /// How far the search is.
        reorg: Box<Reorg>,
        /// Unverified.
        answer: Box<Incoming>,
    },
    /// Close the feed's channel with a JavaScript peer, as neither side asks for anything; it may open it
    /// again at any time, and so may we.
    CloseIdle {
        /// With whom.
        peer: PeerId,
        /// Of which feed.
        key: FeedKey,
    },
    /// A block that was waited for is there, or will not come.
    Got {
        /// Names what was asked for.
        id: GetId,
        /// Which feed.
        key: FeedKey,
        /// Which block.
        block: u64,
        /// How it ended.
        end: GetEnd,
    },
    /// A peer broke the protocol: close its connection.
    Violation {
        /// Who.
        peer: PeerId,
        /// How.
        reason: ProtocolViolation,
        /// Whether it is not to be met again for a while.
        ban: bool,
    },
    /// Something a follower of the feed may want to know.
    Event {
        /// Which feed.
        key: FeedKey,
        /// What.
        event: FeedEvent,
    },
}
