//! Settings of a node.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use kinlog_feeds::crypto::Secret;

use crate::lan::{LanConfig, MeetingPointConfig};
use crate::link::webrtc::{Contacts, ToldAddresses};
use crate::node::PoolConfig;

/// Settings of a node; [`NodeConfig::new`] gives one that works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Secret that the client keys towards signal servers derive from.
    pub device_secret: Secret,
    /// Signal servers, as `ws://host:port/...` or `wss://...`.
    pub signal_urls: Vec<String>,
    /// The own meeting point, which others join without any server. Default: none.
    pub meeting_point: Option<MeetingPointConfig>,
    /// Looking for others on the local network, with an own meeting point. Default: off.
    pub lan: Option<LanConfig>,
    /// STUN servers, as `stun:host:port`.
    pub stun_urls: Vec<String>,
    /// Whether other peers are reached by TURN servers alone, and so learn no address of this machine.
    /// The TURN servers are those that signal servers name; where none does, nobody is reached. There is
    /// no meeting point of its own then, and no look at the local network.
    pub relay_only: bool,
    /// Addresses to gather candidates on; empty: every interface of the machine, and loopback.
    pub bind: Vec<IpAddr>,
    /// Socket buffer asked for on UDP sockets, in bytes; `None`: 4 MiB. The kernel may give less.
    pub udp_socket_buffer_bytes: Option<usize>,
    /// What others are told in the place of an address of this machine: where a router forwards a port
    /// to it. Addresses themselves, unless this is set.
    pub told: Option<ToldAddresses>,
    /// Keeps which addresses of others were tried; the caller takes them out of its own clone.
    pub contacts: Contacts,
    /// Format of entries and statements that this build speaks; 0 states none. Sessions with peers of
    /// another format are refused.
    pub format: u16,
    /// Withholds the feeds that the store writes from all peers, while these are asked for their heads,
    /// until [`Node::publish_own`](crate::Node::publish_own).
    pub withhold_own: bool,
    /// How many times faster the node's time passes than the machine's: 1, unless a test is not to
    /// wait for what takes half a minute.
    pub clock_rate: NonZeroU32,
    /// Tells peers that met by the same key of each other, and takes what they tell. On unless this is
    /// cleared; then nothing is relayed either.
    pub introduces: bool,
    /// Relays between two peers of this node that met by the same key and cannot connect to each other: what it carries
    /// is sealed between the two. On unless this is cleared.
    pub relays: bool,
    /// How many sessions with peers that were met are kept. Default: 5 active, 10 on standby, 50 peers remembered.
    pub pool: PoolConfig,
    /// File to which the size of every received link message is appended, a decimal line each.
    pub message_log: Option<PathBuf>,
}

impl NodeConfig {
    /// Returns the default settings with this secret and no servers.
    pub fn new(device_secret: Secret) -> Self {
        NodeConfig {
            device_secret,
            signal_urls: Vec::new(),
            meeting_point: None,
            lan: None,
            stun_urls: Vec::new(),
            relay_only: false,
            bind: Vec::new(),
            udp_socket_buffer_bytes: None,
            told: None,
            contacts: Contacts::default(),
            format: 0,
            withhold_own: false,
            clock_rate: NonZeroU32::MIN,
            introduces: true,
            relays: true,
            pool: PoolConfig::default(),
            message_log: None,
        }
    }
}
