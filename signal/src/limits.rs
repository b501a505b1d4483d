//! Named limits of the topic protocol, each with its reason and its worst case.

use std::time::Duration;

/// Version of the protocol that `Hello` announces.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest body of an offer, answer or candidate, 16 KiB: a WebRTC offer with a data channel and
/// twenty candidates is 3 KiB.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Largest WebSocket message either side accepts, 64 KiB (OWASP's advice; a body and its
/// addresses need 17 KiB, a full list of peers 3 KiB).
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Parts in which a client may send one message: 64 KiB in parts of 1 KiB. Clients of ours send one.
pub const PARTS_MAX: usize = 64;

/// Topics one connection may be in: more than any one person's rooms and feeds at once.
pub const TOPICS_PER_CONNECTION_MAX: usize = 256;

/// Peers in one topic; 512 announcements of 70 B are 36 KB for one arrival.
pub const PEERS_PER_TOPIC_MAX: usize = 512;

/// Peers that the answer to a join lists; a client dials a handful of them.
pub const PEERS_LISTED_MAX: usize = 64;

/// Memberships on one server, about 250 B each: 250 MB when every one is taken.
pub const MEMBERSHIPS_MAX: usize = 1_000_000;

/// Sockets on one server. With requests that are not complete, allocations and TCP clients of the
/// relay they are some 20,600 descriptors; the unit in `docs/operations` allows 24,000.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Sockets from one IPv4 address or IPv6 /64: a large household behind one address.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;

/// Addresses whose token bucket is remembered although nothing is connected from them, 64 B each.
pub const IDLE_ADDRESSES_MAX: usize = 65_536;

/// Sockets that have not joined anything yet; a further one closes the oldest of them.
pub const UNJOINED_MAX: usize = 1_024;

/// Time in which a new socket has to join its first topic.
pub const JOIN_WITHIN: Duration = Duration::from_secs(30);

/// Sockets whose HTTP request is not complete yet; 8 KiB each, so 8 MiB.
pub const HANDSHAKES_MAX: usize = 1_024;

/// Of these sockets so many may be of one address, or a quarter of the connections that it may have
/// where those were raised: a household whose server is back. Others are not kept out by it.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 64;

/// The same of the metrics port, whatever clients do.
pub const METRICS_HANDSHAKES_MAX: usize = 16;

/// Time for the HTTP request head and the upgrade (RUSTSEC-2023-0065: minutes of CPU otherwise).
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Largest HTTP request head, 8 KiB, the smallest that hyper allows.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// HTTP headers in one request.
pub const HEADERS_MAX: usize = 64;

/// Messages waiting for one client before it is closed. Two agents that share all their 256
/// topics and part give each other 256 messages at once; twice that is a client that stopped
/// reading.
pub const OUTBOX_MESSAGES_MAX: usize = 512;

/// Bytes waiting for one client before it is closed, 256 KiB.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Bytes read from a socket at once, 4 KiB: an offer and its head. The buffer is there only while
/// something is in it.
pub const READ_BYTES: usize = 4 * 1024;

/// Messages that one write hands to a socket: as many as 16 KiB of announcements are.
pub const WRITE_FRAMES_MAX: usize = 16;

/// Sockets that whoever sends to many writes to himself, before he leaves the rest to their own
/// tasks: a write takes some 10 us, and nobody else's message should wait longer than for a few.
pub const DIRECT_WRITES_MAX: usize = 4;

/// Time one write to a client's socket may take.
pub const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// A client with nothing to say sends a ping this often.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A side that heard nothing for this long (three pings) gives the connection up.
pub const STALE_AFTER: Duration = Duration::from_secs(60);

/// How often the server looks for stale connections.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Frames that do not decode, or signatures that do not hold, before a connection is closed.
pub const OFFENCES_MAX: u32 = 8;

/// Bytes of a frame that cost one token beside the one that each frame costs.
pub const BYTES_PER_TOKEN: usize = 4 * 1024;

/// Peers told of an arrival or a departure that cost one token.
pub const PEERS_PER_TOKEN: usize = 32;

/// Tokens of a signature that does not hold: checking it cost as much as some twenty frames.
pub const BAD_SIGNATURE_TOKENS: u32 = 16;

/// Tokens of a call of the registry: it costs about as much as eight frames.
pub const CALL_TOKENS: u32 = 8;

/// Largest body of a call of the registry, 4 KiB: an announcement with everything has 1.5 KiB.
pub const CALL_BODY_BYTES_MAX: usize = 4 * 1024;

/// Seconds by which the clocks of a caller and the server may differ. It bounds how long a call
/// could be said again; meanwhile the entry remembers the last one's time.
pub const CALL_TIME_WINDOW_S: u64 = 120;

/// Announcements on one server, about 600 B each: 40 MB when every one is taken. As many heartbeats, of
/// 150 B: 10 MB.
pub const ANNOUNCED_MAX: usize = 65_536;

/// Announcements from one address, as many as connections.
pub const ANNOUNCED_PER_ADDRESS_MAX: usize = 256;

/// An announcement holds this long; a peer repeats it half as often.
pub const ANNOUNCED_FOR: Duration = Duration::from_secs(10 * 60);

/// A coordinator that says nothing for this long is none: it says so every 5 minutes, and may miss
/// one.
pub const COORDINATOR_FOR: Duration = Duration::from_secs(11 * 60);

/// Coordinators of one network: two may fail at once.
pub const COORDINATORS_MAX: usize = 3;

/// Peers of one network that offer to coordinate it: three do, the others are spare. A ranking reads all.
pub const HEARTBEATS_PER_TOPIC_MAX: usize = 64;

/// Heartbeats from one address, as many as announcements.
pub const HEARTBEATS_PER_ADDRESS_MAX: usize = 256;

/// How often what is over is forgotten; also, but at most every [`SWEEP_INTERVAL`], before somebody is
/// told that all places are taken.
pub const REGISTRY_SWEEP_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Longest URL in an announcement.
pub const SIGNAL_ADDRESS_BYTES_MAX: usize = 256;

/// Words in an announcement.
pub const CAPABILITIES_MAX: usize = 8;

/// Longest of them.
pub const CAPABILITY_BYTES_MAX: usize = 32;

/// An instance of several says at least this often that it is there.
pub const BUS_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// An instance that is silent for this long (four times that) is gone, and its clients with it: with
/// the sweep well below 90 s.
pub const BUS_GONE_AFTER: Duration = Duration::from_secs(45);

/// An instance asks the others for everything, and tells it, at most this often.
pub const BUS_ASK_INTERVAL: Duration = Duration::from_secs(1);

/// By how much the clocks of instances may differ; what is older is not believed.
pub const BUS_TIME_WINDOW: Duration = Duration::from_secs(60);

/// Instances of one server, each start counted for some minutes.
pub const BUS_INSTANCES_MAX: usize = 256;

/// Memberships in one frame between instances, 37 KiB.
pub const BUS_CHANGES_MAX: usize = 512;

/// Bytes that wait to be published, 96 MiB: all of a million memberships are 73 MB.
pub const BUS_QUEUE_BYTES_MAX: usize = 96 * 1024 * 1024;

/// Memberships with other instances that one instance remembers, about 250 B each: 500 MB when
/// every one is taken.
pub const REMOTE_MEMBERSHIPS_MAX: usize = 2_000_000;

/// Messages a client keeps for a server that is slow to read; each is at most 17 KiB.
pub const CLIENT_OUTBOX_MESSAGES_MAX: usize = 512;

/// Bytes a client keeps for a server that is slow to read, 1 MiB.
pub const CLIENT_OUTBOX_BYTES_MAX: usize = 1024 * 1024;

/// Events that wait for the program around a client; then the client stops reading its socket.
pub const CLIENT_EVENTS_MAX: usize = 1_024;

/// Time for name look-up, connection, TLS and upgrade together.
pub const DIAL_WITHIN: Duration = Duration::from_secs(10);

/// Upper bound of the first wait before dialling again; each further one doubles it.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// Upper bound of any wait before dialling again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A connection that lived this long starts the back-off from its first step again.
pub const BACKOFF_FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// Wait before joining again a topic or server that was full.
pub const FULL_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Time around a topic's roll in which both periods are joined.
pub const NEIGHBOUR_PERIOD_SECONDS: u64 = 30 * 60;

/// Seconds of one topic period.
pub const PERIOD_SECONDS: u64 = 86_400;

/// A rate with a reserve: `burst` tokens at once, `per_second` in the long run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Tokens gained per second.
    pub per_second: u32,
    /// Tokens held at most.
    pub burst: u32,
}

/// Frames of one connection: all 256 topics joined at once with as many offers, then 64 a second.
pub const CONNECTION_RATE: Rate = Rate {
    per_second: 64,
    burst: 1_024,
};

/// Frames of one address: eight busy connections, or a household coming back after a restart.
pub const ADDRESS_RATE: Rate = Rate {
    per_second: 512,
    burst: 8_192,
};

/// Joins of one topic: a full topic is back in half a minute after a restart, and nobody can make
/// its members hear more arrivals than this.
pub const TOPIC_JOIN_RATE: Rate = Rate {
    per_second: 16,
    burst: 64,
};

/// Longest datagram that is taken for a STUN request, 548 bytes: what fits an IPv4 packet that every
/// router passes (RFC 8489 section 6.1). A client asks with 20 to 60.
pub const STUN_REQUEST_BYTES_MAX: usize = 548;

/// STUN requests of one address: twenty peers that a household begins to connect at once, each from
/// four sockets with two repetitions, then 32 a second.
pub const STUN_RATE: Rate = Rate {
    per_second: 32,
    burst: 256,
};

/// Addresses that asked by STUN within the last seconds, 64 B each: 4 MiB. When there are more, which
/// only forged senders achieve, further ones get no answer until some are forgotten.
pub const STUN_ADDRESSES_MAX: usize = 65_536;

/// After a UDP socket that failed, before it is read again; the relay's accept likewise.
pub const STUN_ERROR_PAUSE: Duration = Duration::from_millis(10);

/// STUN URLs, and TURN URLs, that a client is told.
pub const ICE_URLS_MAX: usize = 8;

/// Username or credential for TURN, 512 bytes: RFC 8489 allows 508 for the former.
pub const ICE_TEXT_BYTES_MAX: usize = 512;

/// Tokens of telling the ICE servers: two keyed hashes and an answer of some 300 B.
pub const ICE_SERVERS_TOKENS: u32 = 4;

/// Seconds for which credentials for TURN are good at most: they cannot be taken back, and who uses a
/// relay longer is given new ones.
pub const TURN_CREDENTIAL_LIFETIME_S: u32 = 3_600;

/// Secrets shared with TURN servers: the one to sign with, and the one before.
pub const TURN_SECRETS_MAX: usize = 2;

/// Least bytes of such a secret: whoever has one credential may guess at it offline.
pub const TURN_SECRET_BYTES_MIN: usize = 16;

/// Most bytes of such a secret, as many as coturn reads of one.
pub const TURN_SECRET_BYTES_MAX: usize = 256;

/// A client asks for new credentials when half of their lifetime is left, but not more often.
pub const ICE_RENEWAL_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Wait before a client asks again for credentials that did not come.
pub const ICE_RENEWAL_RETRY_AFTER: Duration = Duration::from_secs(60);
