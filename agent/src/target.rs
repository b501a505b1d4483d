//! Where a command goes: to the running agent of a home, or to the home opened by the command itself.

use std::path::Path;

use bytes::Bytes;

use crate::agent::{Agent, NetworkConfig, OpenOptions};
use crate::api::{Answers, Connection, Error, Request};

/// The agent that answers a command.
#[derive(Debug)]
pub enum Target {
    /// `kinlog up` of that home.
    Running(Connection),
    /// This process holds the home.
    Opened(Agent),
}

impl Target {
    /// Finds the running agent of `home`, else opens the home in this process (without network).
    ///
    /// # Errors
    /// `NotFound` for an empty home, `Permission` when a process holds it that does not answer.
    pub async fn connect_or_open(home: &Path, options: OpenOptions) -> Result<Target, Error> {
        if let Some(connection) = Connection::find(home).await? {
            return Ok(Target::Running(connection));
        }
        Ok(Target::Opened(Agent::open(home, options).await?))
    }

    /// Starts the network if this process holds the home and it is not started; a running agent has
    /// its own.
    pub async fn start_network(&self, config: NetworkConfig) -> Result<(), Error> {
        match self {
            Target::Running(_) => Ok(()),
            Target::Opened(agent) => agent.start_network(config).await,
        }
    }

    /// Asks; dropping the answers ends the work.
    pub fn request(&self, request: Request, payload: Bytes) -> Answers {
        match self {
            Target::Running(connection) => connection.request(request, payload),
            Target::Opened(agent) => agent.request(request, payload),
        }
    }

    /// Stops cleanly what this process opened; a running agent goes on.
    pub async fn close(self) -> Result<(), Error> {
        match self {
            Target::Running(_) => Ok(()),
            Target::Opened(agent) => agent.shutdown().await,
        }
    }
}
