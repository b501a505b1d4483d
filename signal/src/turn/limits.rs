//! Quotas of the relay.

use std::time::Duration;

use crate::limits::Rate;

/// How much one client, and all together, may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TurnLimits {
    /// Allocations in all. Each has a socket and, with its permissions, some 4 KiB: 4 MiB and as many
    /// descriptors. Default 1,024.
    pub allocations: usize,
    /// Allocations of one credential, which names one client in one topic: it asks by UDP and TCP, by
    /// each of its addresses, and again while it restarts. Default 8.
    pub allocations_per_name: usize,
    /// Allocations of one IPv4 address or IPv6 /64: a household. Default 32.
    pub allocations_per_address: usize,
    /// Addresses of peers that one allocation lets in. Default 64.
    pub permissions: usize,
    /// Channels of one allocation. Default 64.
    pub channels: usize,
    /// Bytes that one allocation relays, both ways together: 1 MiB a second, a call or a few files. A
    /// datagram counts for 64 more than are in it: what IP and UDP add on both sides.
    pub allocation_rate: Rate,
    /// Bytes that all allocations relay together: 16 MiB a second.
    pub total_rate: Rate,
    /// Requests of one address. As many as of STUN.
    pub request_rate: Rate,
    /// Longest time between two refreshes. Default one hour.
    pub lifetime: Duration,
    /// After this no refresh helps: the peers have long had the time to find another way. Default
    /// twelve hours.
    pub lifetime_total: Duration,
    /// A TCP connection that has had no allocation for this long is closed. Default 30 s.
    pub stream_idle: Duration,
}

impl Default for TurnLimits {
    fn default() -> Self {
        const MIB: u32 = 1024 * 1024;
        TurnLimits {
            allocations: 1_024,
            allocations_per_name: 8,
            allocations_per_address: 32,
            permissions: 64,
            channels: 64,
            allocation_rate: Rate {
                per_second: MIB,
                burst: 4 * MIB,
            },
            total_rate: Rate {
                per_second: 16 * MIB,
                burst: 32 * MIB,
            },
            request_rate: crate::limits::STUN_RATE,
            lifetime: Duration::from_secs(3_600),
            lifetime_total: Duration::from_secs(12 * 3_600),
            stream_idle: Duration::from_secs(30),
        }
    }
}

/// Lifetime of an allocation whose client asks for none (RFC 8656 section 3.2).
pub(super) const LIFETIME_DEFAULT: Duration = Duration::from_secs(600);

/// A permission lasts this long (section 9).
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// A channel lasts this long (section 12).
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// A nonce is good for this long; a client with an older one is given another.
pub(super) const NONCE_LIFETIME_S: u64 = 3_600;

/// Longest message of a client and longest datagram of a peer, 4 KiB: what ICE and SCTP send fits into
/// 1,500 bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// What a datagram costs beside its bytes, in bytes: IP and UDP on its way in and out (56), and some
/// framing. Empty ones are packets, too.
pub(super) const OVERHEAD_BYTES: usize = 64;

/// How often what is over is looked for.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Ports that are tried for one allocation.
pub(super) const PORT_TRIES_MAX: u16 = 32;

/// TCP connections of clients: as many as there may be allocations, and as many again that are about
/// to ask. Each has buffers of two messages, so 16 MiB; the queues of those with an allocation are 64
/// MiB when nobody reads.
pub(super) const STREAMS_MAX: usize = 2_048;

/// TCP connections of one address, as many as allocations and as many again.
pub(super) const STREAMS_PER_ADDRESS_MAX: usize = 64;

/// Messages that wait for one TCP client; what comes then is dropped, as a full router drops it.
pub(super) const STREAM_QUEUE_MAX: usize = 256;

/// Bytes that wait for one TCP client, 64 KiB: a sixteenth of a second of its share. The system's buffer
/// holds more.
pub(super) const STREAM_QUEUE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CONNECTIONS_MAX, HANDSHAKES_MAX, METRICS_HANDSHAKES_MAX};

    /// Listeners, the bus, standard streams.
    const REST: usize = 64;

    #[test]
    fn the_unit_allows_as_many_files_as_the_limits_do() {
        let unit = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/operations/kinlog-signal.service"
        );
        let unit = std::fs::read_to_string(unit).unwrap();
        let allowed = unit.lines().find_map(|it| it.strip_prefix("LimitNOFILE="));
        let of_clients = CONNECTIONS_MAX + HANDSHAKES_MAX + METRICS_HANDSHAKES_MAX;
        let of_relay = TurnLimits::default().allocations + STREAMS_MAX;
        let needed = of_clients + of_relay + REST;
        assert!(
            allowed.unwrap().parse::<usize>().unwrap() >= needed,
            "{needed}"
        );
    }
}
