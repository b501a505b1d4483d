//! The directory commits to the heads of feeds that are being written, at least once a minute.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::core::Core;
use crate::limits::{KEEP_SHOWN_EVERY, VOUCH_EVERY};
use crate::requests::blocking;

/// Writes down, again and again, which own heads peers were shown.
pub(super) async fn keep_shown_regularly(core: Arc<Core>) {
    let mut ticks = interval_at(Instant::now() + KEEP_SHOWN_EVERY, KEEP_SHOWN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = blocking(&core, |core| core.keep_shown()).await {
            tracing::warn!(%error, "heads that peers were shown are not written down");
        }
    }
}

/// Commits the heads that moved, again and again; a stop does it once more.
pub(super) async fn vouch_regularly(core: Arc<Core>) {
    let mut ticks = interval_at(Instant::now() + VOUCH_EVERY, VOUCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = blocking(&core, |core| core.vouch()).await {
            tracing::warn!(%error, "heads are not committed");
        }
    }
}
