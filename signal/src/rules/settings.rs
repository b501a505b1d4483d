//! What an operator may change of the rules.

use std::time::Duration;

use crate::limits::{
    ADDRESS_RATE, CONNECTION_RATE, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, MEMBERSHIPS_MAX,
    PEERS_PER_TOPIC_MAX, Rate, STALE_AFTER, TOPIC_JOIN_RATE, TOPICS_PER_CONNECTION_MAX,
    UNJOINED_MAX,
};

/// Limits and rates; the defaults suit a public server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RuleSettings {
    /// Connections in all. Default [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// Connections of one IPv4 address or IPv6 /64. Default [`CONNECTIONS_PER_ADDRESS_MAX`]; raise
    /// it behind a proxy that hides addresses.
    pub connections_per_address_max: usize,
    /// Connections that have not joined anything. Default [`UNJOINED_MAX`].
    pub unjoined_max: usize,
    /// Topics of one connection. Default [`TOPICS_PER_CONNECTION_MAX`].
    pub topics_per_connection_max: usize,
    /// Peers of one topic. Default [`PEERS_PER_TOPIC_MAX`].
    pub peers_per_topic_max: usize,
    /// Memberships in all. Default [`MEMBERSHIPS_MAX`].
    pub memberships_max: usize,
    /// Frames of one connection. Default [`CONNECTION_RATE`].
    pub connection_rate: Rate,
    /// Frames of one address. Default [`ADDRESS_RATE`].
    pub address_rate: Rate,
    /// Joins of one topic. Default [`TOPIC_JOIN_RATE`].
    pub topic_join_rate: Rate,
    /// Silence after which a connection is given up. Default [`STALE_AFTER`]; clients ping every
    /// 20 s.
    pub stale_after: Duration,
    /// Whether clients that ask are told ICE servers: then [`Output::TellIceServers`] is carried out.
    /// Default: no; a server sets it that has any.
    ///
    /// [`Output::TellIceServers`]: crate::rules::Output::TellIceServers
    pub tells_ice_servers: bool,
}

impl Default for RuleSettings {
    fn default() -> Self {
        RuleSettings {
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            unjoined_max: UNJOINED_MAX,
            topics_per_connection_max: TOPICS_PER_CONNECTION_MAX,
            peers_per_topic_max: PEERS_PER_TOPIC_MAX,
            memberships_max: MEMBERSHIPS_MAX,
            connection_rate: CONNECTION_RATE,
            address_rate: ADDRESS_RATE,
            topic_join_rate: TOPIC_JOIN_RATE,
            stale_after: STALE_AFTER,
            tells_ice_servers: false,
        }
    }
}
