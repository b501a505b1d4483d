//! Named limits of links, sessions and the node, each with its reason and its worst case.

use std::time::Duration;

/// Identity set a peer may send, 64 KiB: what an identity of 256 statements takes.
pub const IDENTITY_SET_BYTES_MAX: usize = 64 * 1024;

/// Join request or response, 80 KiB: an identity set with keys and signatures round it.
pub const JOIN_BYTES_MAX: usize = IDENTITY_SET_BYTES_MAX + 16 * 1024;

/// Events a slow subscriber may lag behind before it loses the oldest.
pub const EVENTS_QUEUED_MAX: usize = 4096;

/// Peer messages of ours that wait for the node at once; each is at most [`JOIN_BYTES_MAX`].
pub const PEER_MESSAGES_QUEUED_MAX: usize = 64;

/// Longest wait of a clean shutdown for the sessions to say goodbye.
pub const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(2);

/// Largest message of a WebRTC or memory link, 64 KiB: the size every stack takes, and the
/// fastest one measured.
pub const LINK_MESSAGE_BYTES_MAX: usize = 65_536;

/// Messages one direction of a memory link holds: 1 MiB, as a data channel's send buffer.
pub const MEMORY_LINK_MESSAGES_MAX: usize = 16;

/// Bytes taken from a TCP socket at once.
pub const TCP_READ_BYTES_MAX: usize = 256 * 1024;

/// Bytes given to a TCP socket at once.
pub const TCP_WRITE_BYTES_MAX: usize = 256 * 1024;

/// Bytes a data channel may hold that the peer has not acknowledged, 1 MiB: SCTP's receive
/// window, more only waits longer.
pub const WEBRTC_SEND_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// Socket buffer asked for on UDP sockets, 4 MiB; the kernel may give less (`net.core.rmem_max`).
pub const UDP_SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Largest offer or answer, 12 KiB: a data channel's description with 32 candidates.
pub const DESCRIPTION_BYTES_MAX: usize = 12 * 1024;

/// Largest candidate, 512 B.
pub const CANDIDATE_BYTES_MAX: usize = 512;

/// Local candidates and state changes of one negotiation that wait for the node.
pub const NEGOTIATION_EVENTS_MAX: usize = 64;

/// How long an offer or answer waits for local candidates before it leaves without the rest;
/// host candidates take a few milliseconds, later ones follow by themselves.
pub const GATHERING_WAIT: Duration = Duration::from_millis(150);

/// Interval of ICE checks while connecting; the stack's own 200 ms cost a third of the opening.
pub const ICE_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// ICE checks of one pair before it is given up: 20 ms x 150 is 3 s.
pub const ICE_CHECKS_MAX: u16 = 150;

/// Silence after which ICE calls a link disconnected.
pub const ICE_DISCONNECTED_AFTER: Duration = Duration::from_secs(5);

/// Silence after which ICE calls a disconnected link failed, and the session ends.
pub const ICE_FAILED_AFTER: Duration = Duration::from_secs(10);

/// Interval of ICE keep-alives.
pub const ICE_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// Tags in one want or unwant message: 10 KiB.
pub const TAGS_PER_MESSAGE_MAX: usize = 1024;

/// Feeds one side of a session may ask for: as many as it may have channels.
pub const WANTED_TAGS_MAX: usize = 8192;

/// How long a new link may take to a verified hello.
pub const HELLO_WAIT_MAX: Duration = Duration::from_secs(10);
