//! The own meeting point: the topic protocol, served on a port of this node's own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use kinlog_signal::rules::RuleSettings;
use kinlog_signal::{Settings, SignalUrl};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::MeetingPointConfig;
use crate::limits::{
    POINT_CONNECTIONS_MAX, POINT_CONNECTIONS_PER_ADDRESS_MAX, POINT_MEMBERSHIPS_MAX,
    POINT_PEERS_PER_TOPIC_MAX,
};

/// A running meeting point; dropping it says goodbye to everybody and stops it.
#[derive(Debug)]
pub(crate) struct MeetingPoint {
    port: u16,
    _stop: oneshot::Sender<()>,
}

impl MeetingPoint {
    /// Listens on the port that is asked for, or on another one where that is taken.
    pub(crate) fn start(config: &MeetingPointConfig) -> io::Result<Self> {
        let listener = match listen(config.port) {
            Err(error) if config.port != 0 => {
                tracing::info!(port = config.port, %error, "own meeting point takes another port");
                listen(0)
            }
            listening => listening,
        }?;
        let port = listener.local_addr()?.port();
        let mut rules = RuleSettings::default();
        rules.connections_max = POINT_CONNECTIONS_MAX;
        rules.connections_per_address_max = POINT_CONNECTIONS_PER_ADDRESS_MAX;
        rules.unjoined_max = POINT_CONNECTIONS_PER_ADDRESS_MAX;
        rules.memberships_max = POINT_MEMBERSHIPS_MAX;
        rules.peers_per_topic_max = POINT_PEERS_PER_TOPIC_MAX;
        let settings = Settings::default()
            .rules(rules)
            .only_topics(true)
            .only_local(config.public_url.is_none());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let stopped = async {
                // Its sender is never used: this ends with the node.
                let _ = stopped.await;
            };
            if let Err(error) = kinlog_signal::serve(listener, settings, stopped).await {
                tracing::warn!(%error, "own meeting point ended");
            }
        });
        Ok(MeetingPoint { port, _stop: stop })
    }

    /// Returns the port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns where this node itself reaches it.
    pub(crate) fn own_url(&self) -> Option<SignalUrl> {
        format!("ws://127.0.0.1:{}", self.port).parse().ok()
    }
}

/// Listens for IPv6 and IPv4, or for IPv4 where there is no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let bind = |address: SocketAddr| {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let both = bind((Ipv6Addr::UNSPECIFIED, port).into());
    both.or_else(|_| bind((Ipv4Addr::UNSPECIFIED, port).into()))
}
