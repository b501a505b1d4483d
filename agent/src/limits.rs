//! Every bound of this crate, with its reason.

/// JSON part of a frame on the local socket, 4 MiB: a status of 10,000 feeds, the lengths of an
/// append of [`APPEND_BLOCKS_MAX`] blocks.
pub const FRAME_JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Payload of a frame on the local socket, 16 MiB: an append of many blocks in one commit.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Blocks in one append request, 65,536; a caller with more sends several.
pub const APPEND_BLOCKS_MAX: usize = 65_536;

/// Answers waiting for a slow caller: 64 blocks of at most 1 MiB.
pub const ANSWERS_QUEUED_MAX: usize = 64;

/// Longest URL of a signal server in a link, 512 bytes.
pub const SIGNAL_URL_BYTES_MAX: usize = 512;

/// Signal servers in one link, and the most an agent connects to: each costs a socket.
pub const SIGNAL_URLS_MAX: usize = 8;
