//! What an agent wants of its node, as a state that the node's task brings about.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{Interest, Pushes};
use kinlog_signal::SignalUrl;
use tokio::sync::Notify;

use super::PoolConfig;
use super::introductions::MeetingKey;
use crate::session::SessionId;

/// Wishes of the agent; topics, servers and routes stay, the rest is taken by the task once.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) topics: BTreeSet<MeetingKey>,
    /// Signal servers beside those of the configuration.
    pub(super) signals: Vec<SignalUrl>,
    /// Remembered meeting points, the best first.
    pub(super) routes: Vec<SignalUrl>,
    /// Meeting points of coordinators, the best first.
    pub(super) coordinators: Vec<SignalUrl>,
    /// Other limits of the pool than those of the configuration.
    pub(super) pool: Option<PoolConfig>,
    pub(super) interests: BTreeMap<FeedKey, Interest>,
    pub(super) pushes: BTreeMap<FeedKey, Pushes>,
    pub(super) watches: BTreeMap<FeedKey, Option<Range<u64>>>,
    pub(super) appended: BTreeSet<FeedKey>,
    pub(super) stored: BTreeSet<FeedKey>,
    pub(super) closed: BTreeSet<SessionId>,
    pub(super) refresh: bool,
    /// Own feeds are published, but these.
    pub(super) publish_own: Option<BTreeSet<FeedKey>>,
    pub(super) stop: bool,
}

/// Shared between the handle and the task.
#[derive(Debug, Default)]
pub(super) struct Desired {
    wishes: Mutex<Wishes>,
    changed: Notify,
}

impl Desired {
    pub(super) fn change(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    pub(super) fn stop(&self) {
        self.change(|it| it.stop = true);
    }

    /// Waits until something changed since the last [`take`](Self::take).
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns the topics wanted now, and what else was wished since the last call.
    pub(super) fn take(&self) -> Wishes {
        let mut wishes = self.lock();
        Wishes {
            topics: wishes.topics.clone(),
            signals: wishes.signals.clone(),
            routes: wishes.routes.clone(),
            coordinators: wishes.coordinators.clone(),
            pool: wishes.pool,
            interests: std::mem::take(&mut wishes.interests),
            pushes: std::mem::take(&mut wishes.pushes),
            watches: std::mem::take(&mut wishes.watches),
            appended: std::mem::take(&mut wishes.appended),
            stored: std::mem::take(&mut wishes.stored),
            closed: std::mem::take(&mut wishes.closed),
            refresh: std::mem::take(&mut wishes.refresh),
            publish_own: std::mem::take(&mut wishes.publish_own),
            stop: wishes.stop,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
