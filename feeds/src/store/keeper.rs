//! The thread that makes a store's checkpoints, when enough was written or some time after a change,
//! and gives the space of dead segments back.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, Weak};
use std::thread;

use crate::store::checkpoint::ChangedFeeds;
use crate::store::limits::CHECKPOINT_AFTER;
use crate::store::store::Inner;

/// Starts the keeper of a store; it ends with the store.
///
/// It holds the store only while it makes a checkpoint, so that the last handle still frees the
/// disk.
pub(super) fn start(inner: &Arc<Inner>) -> Option<thread::JoinHandle<()>> {
    let store = Arc::downgrade(inner);
    let changed = inner.changed.clone();
    // Without a thread, whoever writes makes the checkpoints.
    thread::Builder::new()
        .name("kinlog-store".to_owned())
        .spawn(move || keep(&store, &changed))
        .ok()
}

fn keep(store: &Weak<Inner>, changed: &ChangedFeeds) {
    let mut kept = BTreeSet::new();
    while wait(changed) {
        let Some(inner) = store.upgrade() else { return };
        inner.checkpoint();
        inner.compact_if_due(&mut kept);
    }
}

/// Waits until a checkpoint should be made; returns whether the store still lives.
fn wait(changed: &ChangedFeeds) -> bool {
    let changes = changed.changes();
    let mut changes = changed
        .wake
        .wait_while(changes, |changes| {
            changes.feeds.is_empty() && !changes.due && !changes.ended
        })
        .unwrap_or_else(PoisonError::into_inner);
    if !changes.due && !changes.ended {
        (changes, _) = changed
            .wake
            .wait_timeout_while(changes, CHECKPOINT_AFTER, |changes| {
                !changes.due && !changes.ended
            })
            .unwrap_or_else(PoisonError::into_inner);
    }
    changes.due = false;
    !changes.ended
}
