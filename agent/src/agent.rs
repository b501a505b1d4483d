//! The running agent: opens a home, answers requests, starts and stops the network.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;

use crate::api::{Answers, DeviceChange, Error, Request};
use crate::core::Core;
use crate::home::socket_path;
use crate::pins::Switches;
use crate::tasks::Running;
use crate::vault::Passphrase;
use crate::{requests, socket};

/// How a home is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Folder with the twins of install records, outside every home: what it knows of a home tells
    /// that home from its copies.
    pub state: PathBuf,
    /// Test switch: fetches every public feed of an agent of whom a path is pinned, so that a test
    /// of the pin filter can show that it would notice.
    pub without_pin_filter: bool,
    /// Test switch: how many milliseconds the clock that deletions go by is ahead of the machine's.
    pub clock_ahead_ms: Option<&'static AtomicU64>,
    /// Opens a locked home for this process alone.
    pub passphrase: Option<Passphrase>,
}

impl OpenOptions {
    /// Returns the defaults, with `state` the folder that [`init`](crate::home::init) was given.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        OpenOptions {
            state: state.into(),
            without_pin_filter: false,
            clock_ahead_ms: None,
            passphrase: None,
        }
    }

    /// Opens a locked home with its passphrase, for this process alone.
    #[must_use]
    pub fn passphrase(mut self, passphrase: Passphrase) -> Self {
        self.passphrase = Some(passphrase);
        self
    }

    /// Turns the test switch [`without_pin_filter`](Self::without_pin_filter) on.
    #[must_use]
    pub fn without_pin_filter(mut self) -> Self {
        self.without_pin_filter = true;
        self
    }
}

/// How the network is started.
///
/// By default nobody is met but at signal servers: whoever opens an agent for people says
/// [`lan`](Self::lan).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NetworkConfig {
    /// Signal servers beside those remembered from links.
    pub signal_urls: Vec<String>,
    /// Looks for others on the local network, and is a meeting point there itself.
    pub lan: bool,
    /// Asks nobody outside of the local network: no signal server, no STUN server, and of the remembered
    /// meeting points those with an address of a local network.
    pub lan_only: bool,
    /// Meets nobody: requests that need others fail.
    pub offline: bool,
    /// Where a router forwards connections to the own meeting point: `ws://host:port`. Who was met is
    /// told of it, and connections from outside of the local network are taken.
    pub public_url: Option<String>,
    /// Port of the own meeting point; by default one that stays the same while it is free.
    pub meeting_port: Option<u16>,
    /// STUN servers, `stun:host:port`.
    pub stun_urls: Vec<String>,
    /// Whether other peers are reached by TURN servers alone, and so learn no address of this machine.
    pub relay_only: bool,
    /// Joins no signal server for the reason that somebody who is followed lists it.
    pub no_listed_servers: bool,
    /// Tells connected peers nothing of each other, and takes nothing that they tell of others.
    pub no_introductions: bool,
    /// Relays nothing between peers that cannot connect to each other.
    pub no_relay: bool,
    /// Appends the size of every message received over a link to this file, one a line.
    pub message_log: Option<PathBuf>,
}

/// One agent in its home; cheap to clone.
#[derive(Clone, Debug)]
pub struct Agent {
    running: Arc<Running>,
}

impl Agent {
    /// Opens a home for this process alone, without network.
    ///
    /// # Errors
    /// `NotFound` for an empty home, `Permission` naming the process that holds it or a secret that
    /// others may read, or for a locked home, `General` for a home of another format.
    pub async fn open(home: &Path, options: OpenOptions) -> Result<Agent, Error> {
        let home = home.to_owned();
        let switches = Switches {
            without_pin_filter: options.without_pin_filter,
            clock_ahead_ms: options.clock_ahead_ms,
        };
        let open =
            move || Core::open_with(&home, &options.state, options.passphrase.as_ref(), switches);
        let opened = tokio::task::spawn_blocking(open).await;
        let (core, events) =
            opened.map_err(|error| Error::general(format!("worker: {error}")))??;
        Ok(Agent {
            running: Running::start(core, events),
        })
    }

    /// Starts the network. When it runs already, servers that are new to it are added.
    ///
    /// # Errors
    /// `Usage` for a URL that is no signal server's.
    pub async fn start_network(&self, config: NetworkConfig) -> Result<(), Error> {
        self.running.start_network(config).await
    }

    /// Returns what becomes of anybody's devices from now on.
    pub fn device_changes(&self) -> tokio::sync::broadcast::Receiver<DeviceChange> {
        self.running.core.device_changes()
    }

    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Does one request; dropping the answers ends it.
    pub fn request(&self, request: Request, payload: Bytes) -> Answers {
        let (sender, answers) = Answers::channel();
        tokio::spawn(requests::answer(
            sender,
            request,
            payload,
            self.running.clone(),
        ));
        answers
    }

    /// Serves the local socket of the home until `shutdown` resolves.
    ///
    /// # Errors
    /// `General` when the socket cannot be bound.
    pub async fn serve_socket(
        &self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let path = socket_path(self.running.core.layout.home());
        socket::serve(self.running.clone(), path, shutdown).await
    }

    /// Resolves when a caller asked for the home ([`Request::Stop`]): whoever opened the agent is to
    /// [shut it down](Self::shutdown).
    pub async fn asked_to_stop(&self) {
        self.running.asked_to_stop().await;
    }

    /// Stops cleanly: ends sessions, commits the heads of own feeds to the directory, closes the
    /// store.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.running.stop().await
    }
}
