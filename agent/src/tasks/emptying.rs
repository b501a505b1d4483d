//! Deleted and cleared blocks are emptied when their day is over, also when nothing else happens.

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
        let (deleted, cleared) = core.knowledge(|knowledge| {
            let (deletions, cleared) = (&knowledge.deletions, &knowledge.cleared);
            (!deletions.is_empty(), !cleared.is_empty())
        });
        if deleted && let Err(error) = blocking(&core, |core| core.empty_deleted()).await {
            tracing::warn!(%error, "deleted blocks are not emptied");
        }
        if cleared && let Err(error) = blocking(&core, |core| core.empty_cleared()).await {
            tracing::warn!(%error, "cleared blocks are not emptied");
        }
    }
}
