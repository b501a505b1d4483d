//! Starting the network, and telling it of signal servers that links bring.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kinlog_indexer::FORMAT;
use kinlog_signal::SignalUrl;
use kinlog_swarm::{LanConfig, MeetingPointConfig, Node, NodeConfig, NodeError};

use crate::agent::NetworkConfig;
use crate::api::{Error, ErrorKind};
use crate::core::Core;
use crate::failure::chain;
use crate::links::is_signal_url;
use crate::network::Network;
use crate::requests::blocking;
use crate::state::StateError;
use crate::tasks::{Running, asking, egress, node_events, restoring, routes};

impl Running {
    /// Starts the network with the servers given and those remembered; one that runs already goes
    /// on, with servers that are new to it.
    pub(crate) async fn start_network(&self, config: NetworkConfig) -> Result<(), Error> {
        if let Some(url) = config.signal_urls.iter().find(|url| !is_signal_url(url)) {
            return Err(Error::usage(format!(
                "{url:?} is no signal server: expected ws:// or wss://"
            )));
        }
        let urls = config.signal_urls.clone();
        blocking(&self.core, move |core| {
            for url in &urls {
                core.state.add_signal(url)?;
            }
            Ok(())
        })
        .await?;
        if let Some(url) = &config.public_url
            && let Err(error) = url.parse::<SignalUrl>()
        {
            return Err(Error::usage(error.to_string()));
        }
        let mut running = self.network.lock().await;
        let mut urls = self.signal_urls(&config).await?;
        let before = running.clone();
        let wanted = before.clone().unwrap_or(config);
        if wanted.lan_only {
            urls.clear();
        }
        let wanted = NetworkConfig {
            signal_urls: urls,
            ..wanted
        };
        match (before, self.core.network()) {
            _ if wanted.offline => {}
            (Some(_), Some(network)) => {
                for url in &wanted.signal_urls {
                    network.node.add_signal(url).map_err(node_error)?;
                }
            }
            _ => self.start_node(&wanted).await?,
        }
        *running = Some(wanted);
        Ok(())
    }

    /// Starts the network if it is off: for work that needs no signal server, or knows them.
    pub(crate) async fn ensure_network(&self) -> Result<Arc<Network>, Error> {
        self.start_network(NetworkConfig::default()).await?;
        let is_offline = |config: &NetworkConfig| config.offline;
        if self.network.lock().await.as_ref().is_some_and(is_offline) {
            return Err(Error::no_peers("this agent was started offline")
                .hint("start it without --offline"));
        }
        self.core
            .network()
            .ok_or_else(|| Error::general("the network stopped again"))
    }

    /// As [`ensure_network`](Self::ensure_network), and there is a way to meet others: a signal server,
    /// the local network, a remembered meeting point, or an introduction in this process.
    pub(crate) async fn ensure_signals(&self) -> Result<Arc<Network>, Error> {
        let network = self.ensure_network().await?;
        let has_way = |config: &NetworkConfig| {
            config.lan || config.public_url.is_some() || !config.signal_urls.is_empty()
        };
        if self.network.lock().await.as_ref().is_some_and(has_way)
            || self.introductions.load(Ordering::Relaxed) > 0
            || blocking(&self.core, |core| Ok(!core.state.routes()?.is_empty())).await?
        {
            return Ok(network);
        }
        Err(
            Error::no_peers("no signal server is known to meet others at")
                .hint("name one with --signal URL, or use a link that carries one"),
        )
    }

    async fn signal_urls(&self, config: &NetworkConfig) -> Result<Vec<String>, Error> {
        let mut urls = blocking(&self.core, |core| Ok(core.state.signals()?)).await?;
        // Beyond the limit of what is remembered, what this call names comes all the same.
        urls.extend(
            config
                .signal_urls
                .iter()
                .filter(|url| !urls.contains(url))
                .cloned()
                .collect::<Vec<_>>(),
        );
        Ok(urls)
    }

    async fn start_node(&self, wanted: &NetworkConfig) -> Result<(), Error> {
        let core = &self.core;
        let mut config = NodeConfig::new(core.keys.secret().clone());
        config.signal_urls.clone_from(&wanted.signal_urls);
        config.stun_urls.clone_from(&wanted.stun_urls);
        if wanted.lan_only {
            config.stun_urls.clear();
        }
        config.relay_only = wanted.relay_only;
        config.introduces = !wanted.no_introductions;
        config.relays = !wanted.no_relay;
        config.message_log.clone_from(&wanted.message_log);
        if wanted.lan || wanted.public_url.is_some() {
            let remembered = blocking(core, |core| Ok(core.meeting_port()?)).await?;
            let port = wanted.meeting_port.or(remembered).unwrap_or(0);
            let public_url = wanted.public_url.as_ref().and_then(|url| url.parse().ok());
            let point = MeetingPointConfig::default();
            config.meeting_point = Some(point.port(port).public_url(public_url));
        }
        if wanted.lan {
            config.lan = Some(LanConfig::default());
        }
        config.format = FORMAT;
        config.withhold_own = true;
        let host = Arc::new(core.host.clone());
        let (contacts, stun_urls) = (config.contacts.clone(), config.stun_urls.clone());
        let node = Node::start(config, core.store.clone(), host).map_err(node_error)?;
        if let Some(port) = node.meeting_port() {
            blocking(core, move |core| Ok(core.keep_meeting_port(port)?)).await?;
        }
        let events = node.subscribe();
        let network = Arc::new(Network::new(node, contacts, stun_urls));
        let watching = node_events::watch(core.clone(), Arc::downgrade(&network), events);
        let noting = egress::note_regularly(core.clone(), Arc::downgrade(&network));
        self.tasks().push(tokio::spawn(noting));
        let asking = asking::ask_first(core.clone(), Arc::downgrade(&network));
        self.tasks().push(tokio::spawn(watching));
        self.tasks().push(tokio::spawn(asking));
        let restoring = restoring::continue_restored(core.clone(), Arc::downgrade(&network));
        self.tasks().push(tokio::spawn(restoring));
        let keeping = routes::Keeping {
            local_only: wanted.lan_only,
            listed: !wanted.no_listed_servers && !wanted.lan_only,
        };
        let routes = routes::keep(core.clone(), Arc::downgrade(&network), keeping);
        self.tasks().push(tokio::spawn(routes));
        blocking(core, move |core| core.set_network(Some(network))).await
    }
}

/// Under which `state.db` keeps the port of the own meeting point: those who remember it come again.
const MEETING_PORT: &str = "meeting_port";

impl Core {
    fn meeting_port(&self) -> Result<Option<u16>, StateError> {
        let held = self.state.value(MEETING_PORT)?;
        Ok(held.and_then(|held| Some(u16::from_le_bytes(held.try_into().ok()?))))
    }

    fn keep_meeting_port(&self, port: u16) -> Result<(), StateError> {
        if self.meeting_port()? != Some(port) {
            self.state.set_value(MEETING_PORT, &port.to_le_bytes())?;
        }
        Ok(())
    }
}

/// Returns a node's error as a caller is told.
pub(crate) fn node_error(error: NodeError) -> Error {
    let kind = match &error {
        NodeError::SignalUrl { .. } => ErrorKind::Usage,
        NodeError::Connect { .. } | NodeError::Stopped => ErrorKind::NoPeers,
        NodeError::TooManyPlainSessions { .. } | NodeError::Busy { .. } => ErrorKind::Quota,
        _ => ErrorKind::General,
    };
    Error::new(kind, chain(&error))
}
