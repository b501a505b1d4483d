//! Which STUN and TURN servers one connection uses.

use std::sync::Arc;

use kinlog_signal::ice::{IceServers, IceTransport, IceUrl};
use webrtc::peer_connection::RTCIceServer;

use super::WebrtcSettings;
use super::runtime::ConnectionRuntime;
use super::turn_tcp::TcpRelay;
use crate::limits::{STUN_SERVERS_MAX, TURN_SERVERS_MAX};
use crate::link::LinkError;

/// Servers as the stack takes them, and what stands between it and those that it cannot reach itself.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) for_stack: Vec<RTCIceServer>,
    pub(super) over_tcp: Vec<TcpRelay>,
}

impl Servers {
    /// Chooses servers from settings, configured ones first.
    ///
    /// # Errors
    ///
    /// Returns [`LinkError::NoRelay`] where only relays may be used and none is known.
    pub(super) async fn choose(
        settings: &WebrtcSettings,
        runtime: &Arc<ConnectionRuntime>,
    ) -> Result<Self, LinkError> {
        let mut servers = Servers::default();
        if !settings.relay_only {
            let urls = stun_urls(settings);
            if !urls.is_empty() {
                servers.for_stack.push(RTCIceServer {
                    urls,
                    ..RTCIceServer::default()
                });
            }
        }
        let turn = settings.servers.iter().flat_map(|told| {
            let urls = told.turn.iter();
            urls.map(move |url| (told, url))
        });
        let turn: Vec<(&IceServers, &IceUrl)> = turn.take(TURN_SERVERS_MAX).collect();
        for (told, url) in turn {
            let url = match url.transport() {
                IceTransport::Udp => url.to_string(),
                IceTransport::Tcp => {
                    match TcpRelay::start(url.clone(), Arc::clone(runtime)).await {
                        Ok(relay) => {
                            let url = relay.url();
                            servers.over_tcp.push(relay);
                            url
                        }
                        Err(error) => {
                            tracing::debug!(%error, "no way to a TURN server by TCP");
                            continue;
                        }
                    }
                }
            };
            servers.for_stack.push(server(told, url));
        }
        if settings.relay_only && servers.for_stack.is_empty() {
            return Err(LinkError::NoRelay);
        }
        Ok(servers)
    }
}

/// Configured STUN servers and told ones, none twice.
fn stun_urls(settings: &WebrtcSettings) -> Vec<String> {
    let configured = settings.stun_urls.iter().filter_map(|url| {
        // The stack gives all of them up for one that it does not understand.
        let parsed = url.parse::<IceUrl>();
        parsed
            .inspect_err(|error| tracing::warn!(%error, "STUN server left out"))
            .ok()
    });
    let told = settings
        .servers
        .iter()
        .flat_map(|told| told.stun.iter().cloned());
    let mut urls: Vec<String> = Vec::new();
    for url in configured.chain(told).filter(|url| !url.is_turn()) {
        let url = url.to_string();
        if urls.len() < STUN_SERVERS_MAX && !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls
}

fn server(told: &IceServers, url: String) -> RTCIceServer {
    RTCIceServer {
        urls: vec![url],
        username: told.username.clone(),
        credential: told.credential.reveal().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(stun: &[&str]) -> IceServers {
        IceServers {
            stun: stun.iter().map(|url| url.parse().unwrap()).collect(),
            ..IceServers::default()
        }
    }

    #[test]
    fn stun_servers_are_used_once_and_unreadable_ones_never() {
        let settings = WebrtcSettings {
            stun_urls: vec!["stun:a:1".to_owned(), "stun:?".to_owned()],
            servers: vec![told(&["stun:b", "stun:A:1"]), told(&["stun:b:3478"])],
            ..WebrtcSettings::default()
        };
        assert_eq!(stun_urls(&settings), ["stun:a:1", "stun:b:3478"]);
    }

    #[tokio::test]
    async fn relay_only_without_a_relay_is_refused_at_once() {
        let settings = WebrtcSettings {
            relay_only: true,
            servers: vec![told(&["stun:b"])],
            ..WebrtcSettings::default()
        };
        let runtime = Arc::new(ConnectionRuntime::new(None));
        let refused = Servers::choose(&settings, &runtime).await;
        assert!(matches!(refused, Err(LinkError::NoRelay)), "{refused:?}");
    }
}
