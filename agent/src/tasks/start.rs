//! Starting the network, and starting it again when a link brings a new signal server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kinlog_indexer::FORMAT;
use kinlog_swarm::{Node, NodeConfig, NodeError};

use crate::agent::NetworkConfig;
use crate::api::{Error, ErrorKind};
use crate::failure::chain;
use crate::links::is_signal_url;
use crate::network::Network;
use crate::requests::blocking;
use crate::tasks::{Running, asking, node_events, restoring};

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
        let mut running = self.network.lock().await;
        let before = running.clone();
        let wanted = NetworkConfig {
            signal_urls: self.signal_urls(&config).await?,
            ..before.clone().unwrap_or(config)
        };
        if before.as_ref() == Some(&wanted) {
            return Ok(());
        }
        if before.is_some() {
            tracing::info!("network starts again with a new signal server");
            self.stop_network().await?;
        }
        self.start_node(&wanted).await?;
        *running = Some(wanted);
        Ok(())
    }

    /// Starts the network if it is off: for work that needs no signal server, or knows them.
    pub(crate) async fn ensure_network(&self) -> Result<Arc<Network>, Error> {
        self.start_network(NetworkConfig::default()).await?;
        self.core
            .network()
            .ok_or_else(|| Error::general("the network stopped again"))
    }

    /// As [`ensure_network`](Self::ensure_network), and there is a way to meet others: a signal server,
    /// or an introduction in this process.
    pub(crate) async fn ensure_signals(&self) -> Result<Arc<Network>, Error> {
        let network = self.ensure_network().await?;
        let known = self
            .network
            .lock()
            .await
            .as_ref()
            .map_or(0, |config| config.signal_urls.len());
        if known == 0 && self.introductions.load(Ordering::Relaxed) == 0 {
            return Err(
                Error::no_peers("no signal server is known to meet others at")
                    .hint("name one with --signal URL, or use a link that carries one"),
            );
        }
        Ok(network)
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
        config.message_log.clone_from(&wanted.message_log);
        config.format = FORMAT;
        config.withhold_own = true;
        let host = Arc::new(core.host.clone());
        let node = Node::start(config, core.store.clone(), host).map_err(node_error)?;
        let events = node.subscribe();
        let network = Arc::new(Network::new(node));
        let watching = node_events::watch(core.clone(), Arc::downgrade(&network), events);
        let asking = asking::ask_first(core.clone(), Arc::downgrade(&network));
        self.tasks().push(tokio::spawn(watching));
        self.tasks().push(tokio::spawn(asking));
        let restoring = restoring::continue_restored(core.clone(), Arc::downgrade(&network));
        self.tasks().push(tokio::spawn(restoring));
        blocking(core, move |core| core.set_network(Some(network))).await
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
