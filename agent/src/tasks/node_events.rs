//! What the node tells: blocks to index, heads that moved, steps that found nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use kinlog_feeds::FeedKey;
use kinlog_swarm::NodeEvent;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::api::Error;
use crate::core::Core;
use crate::limits::VIOLATIONS_KEPT_MAX;
use crate::network::Network;
use crate::requests::blocking;

/// Works on a node's events until the node is gone.
pub(super) async fn watch(
    core: Arc<Core>,
    network: Weak<Network>,
    mut events: broadcast::Receiver<NodeEvent>,
) {
    loop {
        let mut news = News::default();
        match events.recv().await {
            Ok(event) => news.add(event, &network),
            Err(RecvError::Lagged(_)) => news.is_incomplete = true,
            Err(RecvError::Closed) => return,
        }
        // Whatever came meanwhile is worked on together.
        while let Ok(event) = events.try_recv() {
            news.add(event, &network);
        }
        let heard = blocking(&core, move |core| match core.hear(&news) {
            Err(_) if core.renew_damaged_index()? => Ok(()),
            heard => heard,
        });
        if let Err(error) = heard.await {
            tracing::warn!(%error, "what the node told is not worked on");
        }
    }
}

/// Events put together.
#[derive(Debug, Default)]
struct News {
    /// Feeds with new blocks.
    stored: BTreeSet<FeedKey>,
    /// Feeds with a longer head.
    upgraded: BTreeSet<FeedKey>,
    /// Events were lost: anything may have changed.
    is_incomplete: bool,
}

impl News {
    fn add(&mut self, event: NodeEvent, network: &Weak<Network>) {
        match event {
            NodeEvent::BlocksStored { key, .. } => {
                self.stored.insert(key);
            }
            NodeEvent::FeedUpgraded { key, .. } => {
                self.upgraded.insert(key);
            }
            NodeEvent::StepFailed { step } => {
                if let Some(network) = network.upgrade() {
                    network.note_step(step);
                }
            }
            NodeEvent::FeedConflict { key } => {
                tracing::warn!(%key, "two histories of a feed");
                if let Some(network) = network.upgrade() {
                    network.note(|troubles| {
                        troubles.conflicts.insert(key);
                    });
                }
            }
            NodeEvent::StoreFailed { reason } => {
                tracing::error!(reason, "the store takes nothing more");
                if let Some(network) = network.upgrade() {
                    network.note(|troubles| troubles.store = Some(reason));
                }
            }
            NodeEvent::PeerViolation { session, reason } => {
                tracing::warn!(%session, reason, "a peer broke the protocol");
                if let Some(network) = network.upgrade() {
                    network.note(|troubles| {
                        troubles.violations.insert(session, reason);
                        if troubles.violations.len() > VIOLATIONS_KEPT_MAX {
                            troubles.violations.pop_first();
                        }
                    });
                }
            }
            _ => {}
        }
    }
}

impl Core {
    fn hear(&self, news: &News) -> Result<(), Error> {
        if news.is_incomplete {
            self.catch_up()?;
            return self.replan();
        }
        let mut decides = false;
        for key in &news.stored {
            if self.is_indexed_feed(key) {
                self.catch_up_feed(key)?;
                decides = true;
            }
        }
        // A range counted from the end moves with the head.
        let plan = self.plan();
        decides |= news.upgraded.iter().any(|key| {
            plan.asked.get(key).is_some_and(|asked| asked.len() > 1) || self.is_indexed_feed(key)
        });
        if decides {
            return self.replan();
        }
        self.changed();
        Ok(())
    }
}
