//! Grants expire by the wall clock, also when nothing else happens, and are renewed when rooms change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::core::Core;
use crate::limits::EXPIRY_LOOK_MAX;
use crate::requests::blocking;
use crate::wall::wall_ms;

/// Decides anew whenever a grant expires, and renews given ones whenever something changed.
pub(crate) async fn watch_grants(core: Arc<Core>) {
    let mut changes = core.changes();
    loop {
        let wait = core.next_expiry(wall_ms());
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                if core.knowledge(|knowledge| knowledge.given_grants.is_empty()) {
                    continue;
                }
                if let Err(error) = blocking(&core, |core| core.renew_grants()).await {
                    tracing::warn!(%error, "seed grants are not renewed");
                }
            }
            () = sleep(wait.unwrap_or(EXPIRY_LOOK_MAX)) => {
                if wait.is_some() && let Err(error) = blocking(&core, |core| core.replan()).await {
                    tracing::warn!(%error, "a grant expired and the plan stays as it was");
                }
            }
        }
    }
}

impl Core {
    /// Returns how long it is until the next grant expires, at most [`EXPIRY_LOOK_MAX`].
    fn next_expiry(&self, now_ms: u64) -> Option<Duration> {
        let next = self.knowledge(|knowledge| {
            let held = knowledge.held_grants.iter();
            let held = held.filter(|held| held.is_live(knowledge.now_ms));
            let shown = knowledge.proven.values().flatten();
            let shown = shown.filter(|shown| !shown.grant.is_expired(knowledge.now_ms));
            let ends = held.map(|held| held.grant.terms().expires_at_ms);
            ends.chain(shown.map(|shown| shown.grant.terms().expires_at_ms))
                .min()
        })?;
        // A millisecond later it is over.
        let wait = Duration::from_millis(next.saturating_add(1).saturating_sub(now_ms));
        Some(wait.min(EXPIRY_LOOK_MAX))
    }
}
