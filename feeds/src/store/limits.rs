//! Named limits of the store, each with its reason and its worst case.

use std::time::Duration;

/// Bytes of log in one segment, 128 MiB: large enough that a new file is rare, small enough that
/// compaction moves little. The last record may stand across this mark.
pub const SEGMENT_BYTES: u64 = 128 * 1024 * 1024;

/// Largest size of a segment, 256 MiB: a record's offset fits 28 bits of the index.
pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Segments of a store: their numbers fit 20 bits of the index (256 TiB at full size).
pub const SEGMENTS_MAX: u32 = (1 << 20) - 1;

/// Largest step by which a segment grows by zeros, 4 MiB: what a store keeps unused at most.
pub const GROW_BYTES: u64 = 4 * 1024 * 1024;

/// First step by which a segment grows, 256 KiB, doubling with the log: an empty home stays small.
pub const GROW_BYTES_MIN: u64 = 256 * 1024;

/// Part of the largest step from which on what is written at once counts as large, an eighth: half a
/// megabyte, whose zeros would take longer to write than a flush takes.
pub const LARGE_PART: u64 = 8;

/// Zeros written at a time, 1 MiB: with less the syncs of the pieces cost more than they save, with
/// more a record that needs the room waits longer than for a few batches.
pub const GROW_PIECE_BYTES: u64 = 1024 * 1024;

/// Bytes of log after which what changed of the index is written out, 64 MiB: what opening after a
/// crash scans. Places of as much log are kept in memory, at most about as many bytes again.
pub const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;

/// Blocks and nodes that came piece by piece after which what changed of the index is written out,
/// 128 Ki: some 44,000 small blocks, whose places take 3 MiB of memory. What was appended needs one
/// place a batch. With 32 Ki the syncs of the checkpoints are felt, with 512 Ki the memory.
pub const CHECKPOINT_PLACES: u64 = 128 * 1024;

/// Checkpoints' worth of log, or of places, at which a caller waits for the one being written: places
/// of at most 256 MiB of log, and 512 Ki of those that came piece by piece, are in memory however
/// slowly the index is written.
pub const CHECKPOINTS_BEHIND_MAX: u64 = 4;

/// Time from a change to its checkpoint when less than [`CHECKPOINT_BYTES`] follow.
pub const CHECKPOINT_AFTER: Duration = Duration::from_secs(30);

/// Bytes of pages and tables of the index kept in memory, 32 MiB for all feeds: the pages of some
/// 60 million appended blocks, or of a million that came one by one.
pub const INDEX_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Shards of that cache: a page has at most about 50 KiB, far below a shard's share.
pub const INDEX_CACHE_SHARDS: usize = 16;

/// Bytes of the index pointed to no more below which it is not written anew, 1 MiB; above, it is as
/// soon as they are more than half.
pub const INDEX_GARBAGE_BYTES: u64 = 1024 * 1024;

/// Largest blob of the index, 64 MiB: the chunks and segments that a root lists for 100 million
/// feeds, or the tables of a feed of 2^39 blocks.
pub const INDEX_BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest row of a feed in the index, 64 KiB: manifest and signature of 16 KiB each, 64 roots.
pub const INDEX_ROW_BYTES_MAX: usize = 64 * 1024;

/// Segment files open at once, 32: with index, lock and folder a store stays below 64 files.
pub const SEGMENT_FILES_MAX: usize = 32;

/// Bytes of verified head parts kept in memory, 32 MiB: the proofs of 200,000 neighbouring blocks.
pub const HEAD_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of head parts of fills kept in memory since they were written, 4 MiB: the next proofs build on
/// the newest, and on the few older ones that hold a root, which stay as they are used.
pub const FRESH_HEADS_BYTES: usize = 4 * 1024 * 1024;

/// Blocks in one record, 8,192: with their parents at most 16,384 nodes, so that a node's number
/// in its record fits 15 bits of the index. A larger batch becomes several records.
pub const RECORD_BLOCKS_MAX: usize = 8 * 1024;

/// Blocks in one record of what peers sent, 2,048: a new block leads to nodes of some twenty older
/// records, whose head parts are read and kept whole, 250 KiB of memory each.
pub const FILL_BLOCKS_MAX: usize = 2 * 1024;

/// Nodes in one record: what 15 bits count.
pub const RECORD_NODES_MAX: usize = (1 << 15) - 1;

/// Payload bytes after which a record takes no further block, 8 MiB: one plain block always fits,
/// and a reader of a whole record needs at most twice this.
pub const RECORD_PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// Largest head part, 4 MiB: 32,767 nodes of 48 bytes, 8,192 blocks of 18 and a signature.
pub const HEAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest payload part, 32 MiB: what [`RECORD_PAYLOAD_BYTES`] and one plain block can give, with
/// room for a later format.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Feeds of one store: a feed number is 32 bits, and the rest is kept for markers.
pub const FEEDS_MAX: u32 = u32::MAX - 16;

/// Size from which a block carries a CRC32C of its own, 4 KiB: below it the leaf hash is as cheap.
pub const CHECKSUM_FROM_BYTES: usize = 4 * 1024;

/// Bytes of small blocks read at once where they stand side by side, and of the hashes they are checked
/// by, 64 KiB each: an answer to a set.
pub const NEIGHBOURS_BYTES: usize = 64 * 1024;

/// Mean size from which the blocks of a record go to the disk from where they are, 2 KiB: a copy of
/// smaller ones costs less than naming each to the kernel.
pub const GATHERED_FROM_BYTES: usize = 2 * 1024;

/// Bytes of relaxed appends that wait to be written, 16 MiB: as much again may be on its way to the
/// disk, so that a process holds, and a power cut takes, at most twice this and one batch.
pub const RELAXED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of blocks in an apply after which they are written while the next are verified, 1 MiB:
/// hashing as much takes as long as a sync.
pub const APPLY_PART_BYTES: usize = 1024 * 1024;

/// Bytes of blocks that came one by one and are hashed together, 512 KiB: eight of 64 KiB, twice what the
/// hasher takes at a time, and few enough that the first are written soon.
pub const HASHED_AT_ONCE_BYTES: usize = 512 * 1024;

/// Ranges in one cleared record.
pub const CLEARED_RANGES_MAX: usize = 4 * 1024;

/// Bytes of records that compaction submits before it waits for them, 8 MiB: what it may hold in
/// memory beside one record of a segment.
pub const MOVED_BYTES: u64 = 8 * 1024 * 1024;

/// Dead share of a sealed segment from which it is compacted in the background, one in 2: what is
/// written again is at most what is given back.
pub const COMPACT_DEAD_ONE_IN: u64 = 2;

/// Dead share of a segment from which it is compacted when asked for, one in 8.
pub const COMPACT_ASKED_DEAD_ONE_IN: u64 = 8;

/// Gaps that compaction left between segments, 128 Ki: between two of them a segment exists, so that
/// more are possible above 16 TiB only. Their record has at most 2 MiB.
pub const GAPS_MAX: usize = 128 * 1024;

/// Problems that one check of a feed lists, 10,000: what a person can look at; the rest is counted.
pub const VERIFY_PROBLEMS_MAX: usize = 10_000;

/// Bytes of layouts kept in memory, 8 MiB: where 2 million blocks of varied size stand.
pub const LAYOUT_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Shards of the cache of layouts: two readers rarely meet, and one record's layout (at most
/// 32 KiB) is far below a shard's share.
pub const LAYOUT_CACHE_SHARDS: usize = 16;

/// Blocks of a bundle stored with one commit, 4,096: small ones share a sync.
pub const IMPORT_BLOCKS: usize = 4 * 1024;

/// Bytes of a bundle stored with one commit, 4 MiB: what an import holds in memory beside one run.
pub const IMPORT_BYTES: usize = 4 * 1024 * 1024;

/// How often a bundle is compared anew with a feed that grew meanwhile.
pub const IMPORT_TRIES: usize = 3;

/// Bytes of a repaired log that one write gathers, 4 MiB.
pub const REPAIR_WRITE_BYTES: usize = 4 * 1024 * 1024;
