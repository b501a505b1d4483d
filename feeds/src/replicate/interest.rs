//! What a process holds of a feed, and what it wants.

use std::ops::Range;

use bytes::Bytes;

use crate::bitfield::Bitfield;
use crate::crypto::Hash;

/// Which rules a feed follows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FeedKind {
    /// Listed in a directory or a room: fork 0 for ever, blocks up to 1 MiB.
    Kinlog,
    /// Any Hypercore feed: blocks up to 8 MiB.
    Plain,
}

/// What the store holds of a feed when the replicator learns of it.
#[derive(Debug)]
pub struct FeedState {
    /// Rules.
    pub kind: FeedKind,
    /// Whether the manifest is known; if not it is asked for with the first upgrade.
    pub manifest_known: bool,
    /// The signed head.
    pub head: HeadState,
    /// Blocks held, verified and durable.
    pub have: Bitfield,
    /// The encoded proof of the conflict that stopped the feed.
    pub conflict: Option<Bytes>,
}

/// A signed head, as the replicator knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadState {
    /// Fork.
    pub fork: u64,
    /// Length in blocks.
    pub length: u64,
    /// Bytes of all blocks up to there, for the size of requests.
    pub byte_length: u64,
    /// Hash of the tree.
    pub tree_hash: Hash,
}

/// Which blocks of a feed are wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Want {
    /// None: blocks are served, none are asked for (the head is followed if `live`).
    #[default]
    None,
    /// Every block.
    All,
    /// One run of blocks.
    Range(Range<u64>),
    /// The last blocks before the head, newest first; with `live` those that follow, of which a reader that
    /// falls behind leaves out all but so many.
    Last(u64),
    /// Several runs of blocks.
    Ranges(Vec<Range<u64>>),
}

/// What is wanted of a feed, and whether it goes on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interest {
    /// Which blocks.
    pub want: Want,
    /// Whether later upgrades are followed; otherwise the first head that a peer shows is enough.
    pub live: bool,
}

/// Whether peers may send blocks of a feed before they are asked for. They may where all that is
/// appended is wanted, [`Want::All`] or [`Want::Last`] with `live`; whoever may not and does is counted,
/// and cut in the end.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Pushes {
    /// Every block is asked for.
    #[default]
    Refused,
    /// Whoever appends may send the blocks at once, which saves one or two round trips.
    Taken,
    /// The same, and nothing is asked for.
    Only,
}
