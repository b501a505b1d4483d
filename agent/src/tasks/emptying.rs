//! Deleted blocks are emptied when their day is over, also when nothing else happens.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::core::Core;
use crate::limits::EMPTY_LOOK_EVERY;
use crate::requests::blocking;

/// Empties what is due, again and again, and whenever something changed.
pub(super) async fn empty_regularly(core: Arc<Core>) {
    let mut changes = core.changes();
    let mut ticks = interval_at(Instant::now() + EMPTY_LOOK_EVERY, EMPTY_LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            _ = ticks.tick() => {}
        }
        if core.knowledge(|knowledge| knowledge.deletions.is_empty()) {
            continue;
        }
        if let Err(error) = blocking(&core, |core| core.empty_deleted()).await {
            tracing::warn!(%error, "deleted blocks are not emptied");
        }
    }
}
