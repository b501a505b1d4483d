//! What runs beside requests: the network's start, sessions, node events, the directory's heads.

mod asking;
mod egress;
mod emptying;
mod joining;
mod node_events;
mod restoring;
mod routes;
mod sessions;
mod start;
mod vouching;

pub(crate) use egress::note as note_egress;
pub(crate) use start::node_error;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use kinlog_swarm::Node;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::agent::NetworkConfig;
use crate::api::Error;
use crate::core::{Core, Steps};
use crate::host::HostEvents;
use crate::limits::{STOP_WAIT, WORK_AT_ONCE_MAX};
use crate::network::Network;
use crate::pairing::Pairings;
use crate::requests::blocking;
use crate::{presence, seeding};

/// An open agent with its tasks; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) core: Arc<Core>,
    /// The network's settings while it is on; held while it starts.
    network: tokio::sync::Mutex<Option<NetworkConfig>>,
    pub(crate) pairings: Pairings,
    /// Agents of this process that this one is introduced to.
    pub(crate) introductions: AtomicUsize,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Somebody asked this process to leave the home.
    asked_to_stop: watch::Sender<bool>,
}

impl Running {
    /// Starts the tasks that need no network.
    pub(crate) fn start(core: Core, host_events: HostEvents) -> Arc<Running> {
        let core = Arc::new(core);
        let tasks = vec![
            tokio::spawn(sessions::attend(core.clone(), host_events)),
            tokio::spawn(vouching::vouch_regularly(core.clone())),
            tokio::spawn(vouching::keep_shown_regularly(core.clone())),
            tokio::spawn(joining::ask_regularly(core.clone())),
            tokio::spawn(emptying::empty_regularly(core.clone())),
            tokio::spawn(seeding::watch_grants(core.clone())),
            tokio::spawn(presence::say_regularly(core.clone())),
        ];
        let network = tokio::sync::Mutex::default();
        Arc::new(Running {
            core,
            network,
            pairings: Pairings::default(),
            introductions: AtomicUsize::new(0),
            tasks: Mutex::new(tasks),
            asked_to_stop: watch::Sender::new(false),
        })
    }

    /// Tells whoever opened this agent to stop it.
    pub(crate) fn ask_to_stop(&self) {
        self.asked_to_stop.send_replace(true);
    }

    /// Resolves when somebody [asked](Self::ask_to_stop).
    pub(crate) async fn asked_to_stop(&self) {
        let mut asked = self.asked_to_stop.subscribe();
        // The sender is ours: this ends by being asked.
        let _ = asked.wait_for(|asked| *asked).await;
    }

    /// Stops the network and the tasks, commits heads, closes the store.
    pub(crate) async fn stop(&self) -> Result<(), Error> {
        self.stop_network().await?;
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            task.abort();
            // It ended by itself or by the abort: both are an end.
            let _ = task.await;
        }
        let stopped = blocking(&self.core, |core| {
            // Whatever could not be written last: the store is closed, and the home can be opened again.
            let mut steps = Steps::default();
            steps.take("heads that were shown", core.keep_shown());
            steps.take("heads of the directory", core.vouch());
            core.store.close()?;
            steps.take(
                "install record",
                core.guard.seal(core.store.synced_sequence()),
            );
            steps.end()
        })
        .await;
        // What aborted tasks left to its thread holds the home until it ends.
        let at_work = self.core.at_work.acquire_many(WORK_AT_ONCE_MAX);
        if tokio::time::timeout(STOP_WAIT, at_work).await.is_err() {
            tracing::warn!("work goes on though the agent has stopped");
        }
        stopped
    }

    async fn stop_network(&self) -> Result<(), Error> {
        let network = self.core.network();
        blocking(&self.core, |core| core.set_network(None)).await?;
        if let Some(network) = network {
            shutdown(network).await;
        }
        Ok(())
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in self.tasks().drain(..) {
            task.abort();
        }
    }
}

/// Stops a node cleanly, unless a request still looks at it: then it stops when that ends.
async fn shutdown(network: Arc<Network>) {
    let node: Option<Node> = Arc::into_inner(network).map(|network| network.node);
    if let Some(node) = node {
        node.shutdown().await;
    }
}
