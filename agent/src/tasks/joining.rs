//! Joins that wait are asked for again as long as sessions stay open: whoever could not answer, or
//! answered falsely, is not the last who is asked. What rooms keep for
//! some days only is destroyed after them.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::core::{Core, Steps};
use crate::limits::ASK_TO_JOIN_EVERY;
use crate::requests::blocking;

/// Looks into the answers that are there, and asks, until the agent stops.
pub(super) async fn ask_regularly(core: Arc<Core>) {
    let mut ticks = interval_at(Instant::now() + ASK_TO_JOIN_EVERY, ASK_TO_JOIN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let kept = blocking(&core, |core| {
            let mut steps = Steps::default();
            steps.take("revoked devices", core.drop_revoked_devices());
            steps.take("rooms of siblings", core.share_rooms());
            steps.take("settings", core.share_settings());
            steps.take("asking siblings", core.ask_siblings_again());
            steps.take("old epochs", core.forget_old_epochs());
            core.ask_for_keys();
            steps.end()
        });
        if let Err(error) = kept.await {
            tracing::warn!(%error, "rooms are not kept up");
        }
        if core.knowledge(|knowledge| !knowledge.joins.is_empty()) {
            let asked = blocking(&core, |core| {
                let mut steps = Steps::default();
                steps.take("answers", core.check_joins());
                steps.take("asking", core.ask_again());
                steps.end()
            });
            if let Err(error) = asked.await {
                tracing::warn!(%error, "joins that wait are not asked for");
            }
        }
    }
}
