//! Named limits of feeds and their wire, each with its reason and its worst case.

/// Largest block of a Kinlog feed, 1 MiB: one block fits one frame, and a reader that holds a
/// full request window of such blocks stays inside the process budget.
pub const KINLOG_BLOCK_BYTES_MAX: usize = 1024 * 1024;

/// Largest block of a plain Hypercore feed, 8 MiB: what JavaScript peers write in practice stays
/// far below, and at most [`PLAIN_SESSIONS_MAX`] such sessions exist.
pub const PLAIN_BLOCK_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Largest frame a plain Hypercore session may carry: what its 3-byte length can say.
pub const PLAIN_FRAME_BYTES_MAX: usize = (1 << 24) - 1;

/// Sessions that may receive [`PLAIN_FRAME_BYTES_MAX`]: 4 x 16 MiB, a quarter of the process budget.
pub const PLAIN_SESSIONS_MAX: usize = 4;

/// Frame a Kinlog peer accepts unless it announced more, 256 KiB.
pub const FRAME_BYTES_DEFAULT: usize = 256 * 1024;

/// Largest frame a Kinlog peer may announce: one block of 1 MiB with its proof.
pub const FRAME_BYTES_MAX: usize = KINLOG_BLOCK_BYTES_MAX + 64 * 1024;

/// Bytes of block data requested from all peers together and not yet received, 4 MiB: enough for
/// 47 MB/s at 80 ms, and what a kill may cost in repeated transfer.
pub const IN_FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Nodes in one list of a proof: a path in a tree of 2^53 blocks has at most 53 siblings, and an
/// upgrade lists at most as many again.
pub const PROOF_NODES_MAX: usize = 128;

/// Largest encoded manifest, 16 KiB: 128 signers and the user data JavaScript peers write.
pub const MANIFEST_BYTES_MAX: usize = 16 * 1024;

/// Signers in one manifest.
pub const MANIFEST_SIGNERS_MAX: usize = 128;

/// Largest signature field (a multisig envelope), 16 KiB.
pub const SIGNATURE_BYTES_MAX: usize = 16 * 1024;

/// Largest block index or length the compact encoding carries, 2^53 - 1.
pub const UINT_MAX: u64 = (1 << 53) - 1;
