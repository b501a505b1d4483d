//! Two agents of one process that meet over links in memory, without a signal server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kinlog_swarm::link::memory;
use kinlog_swarm::{Label, NodeError, SessionId, SessionRole};
use tokio::task::JoinHandle;

use crate::Agent;
use crate::agent::NetworkConfig;
use crate::api::Error;
use crate::tasks::{Running, node_error};

type Topic = (Label, [u8; 32]);

/// Keeps two agents introduced to each other; dropping it ends that, and the links made by it.
#[derive(Debug)]
pub struct Introduction {
    task: JoinHandle<()>,
    between: [Arc<Running>; 2],
}

/// Lets two agents of this process meet in every topic that both are in, now or later, over links in
/// memory: what a signal server and WebRTC do between processes.
///
/// # Errors
/// What starting the network of either gives.
pub async fn introduce(one: &Agent, other: &Agent) -> Result<Introduction, Error> {
    let between = [one.running().clone(), other.running().clone()];
    for running in &between {
        running.introductions.fetch_add(1, Ordering::Relaxed);
        // Who meets whom is for the caller to say.
        let config = NetworkConfig {
            no_introductions: true,
            ..NetworkConfig::default()
        };
        running.start_network(config).await?;
    }
    let task = tokio::spawn(keep_meeting(between.clone()));
    Ok(Introduction { task, between })
}

impl Drop for Introduction {
    fn drop(&mut self) {
        self.task.abort();
        for running in &self.between {
            running.introductions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The links between two agents; those that still stand are closed with it.
struct Links<'a> {
    between: &'a [Arc<Running>; 2],
    sessions: BTreeMap<Topic, [SessionId; 2]>,
}

async fn keep_meeting(between: [Arc<Running>; 2]) {
    let [one, other] = &between;
    let (mut one_changed, mut other_changed) = (one.core.changes(), other.core.changes());
    let mut links = Links {
        between: &between,
        sessions: BTreeMap::new(),
    };
    loop {
        links.forget_ended();
        let (mine, theirs) = (one.core.plan(), other.core.plan());
        for topic in mine.topics.intersection(&theirs.topics) {
            if links.sessions.contains_key(topic) {
                continue;
            }
            if let Err(error) = links.meet(topic).await {
                tracing::warn!(error = %node_error(error), "two agents of this process do not meet");
            }
        }
        // An agent that is gone ends its side of the watch.
        let more = tokio::select! {
            more = one_changed.changed() => more,
            more = other_changed.changed() => more,
        };
        if more.is_err() {
            return;
        }
    }
}

impl Links<'_> {
    async fn meet(&mut self, topic: &Topic) -> Result<(), NodeError> {
        let (near, far) = memory::pair();
        let ends = [
            (near, SessionRole::Initiator),
            (far, SessionRole::Responder),
        ];
        let (label, key) = *topic;
        let mut sessions = Vec::with_capacity(2);
        for (running, (link, role)) in self.between.iter().zip(ends) {
            let Some(network) = running.core.network() else {
                return Err(NodeError::Stopped);
            };
            let attached = network.node.attach(Arc::new(link), label, key, role);
            sessions.push(attached.await?);
        }
        if let [one, other] = sessions[..] {
            self.sessions.insert(*topic, [one, other]);
        }
        Ok(())
    }

    /// Forgets links whose session ended on either side: a new one is made.
    fn forget_ended(&mut self) {
        let between = self.between;
        self.sessions.retain(|_, sessions| {
            let mut sides = between.iter().zip(&*sessions);
            sides.all(|(running, session)| {
                let network = running.core.network();
                network.is_some_and(|network| !network.has_ended(session))
            })
        });
    }
}

impl Drop for Links<'_> {
    fn drop(&mut self) {
        for sessions in self.sessions.values() {
            for (running, session) in self.between.iter().zip(sessions) {
                if let Some(network) = running.core.network() {
                    network.node.close(*session);
                }
            }
        }
    }
}
