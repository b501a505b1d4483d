//! A restored home goes on where its feeds end in truth, which peers know.

use std::sync::{Arc, Weak};

use tokio::time::{Instant, sleep, sleep_until};

use crate::core::Core;
use crate::limits::{ASK_FIRST, GIVE_UP_AFTER};
use crate::network::Network;
use crate::requests::blocking;

/// Continues the paths of a restored home as the feeds before come in: not before the first peers had time
/// to show how far these came. Ends when none waits, or with the network.
pub(super) async fn continue_restored(core: Arc<Core>, network: Weak<Network>) {
    let former = core.knowledge(|knowledge| {
        let mut former = knowledge.former.values();
        former.any(|feed| feed.awaits_peers())
    });
    let Some(mut met) = network.upgrade().map(|network| network.met()) else {
        return;
    };
    if !former {
        return;
    }
    if met.wait_for(|met| *met).await.is_err() {
        return;
    }
    sleep(ASK_FIRST).await;
    let mut changes = core.changes();
    let give_up = Instant::now() + GIVE_UP_AFTER;
    while network.strong_count() > 0 {
        changes.mark_unchanged();
        let waited = Instant::now() >= give_up;
        match blocking(&core, move |core| core.continue_restored(waited)).await {
            Ok(0) => return,
            Ok(waiting) => tracing::debug!(waiting, "paths of a restored home wait for peers"),
            Err(error) => tracing::warn!(%error, "paths of a restored home do not go on"),
        }
        tokio::select! {
            () = sleep_until(give_up), if !waited => {}
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
