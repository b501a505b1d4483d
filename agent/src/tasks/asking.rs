//! Before the first own block is published, the first peers are asked for the heads of own feeds: what
//! neither home nor state folder can notice, a machine that was set back as a whole, they know.

use std::sync::{Arc, Weak};

use tokio::time::sleep;

use crate::core::Core;
use crate::limits::ASK_FIRST;
use crate::network::Network;
use crate::requests::blocking;

/// Publishes own feeds a while after the first session opened, or after the network is gone never.
pub(super) async fn ask_first(core: Arc<Core>, network: Weak<Network>) {
    let Some(mut met) = network.upgrade().map(|network| network.met()) else {
        return;
    };
    if met.wait_for(|met| *met).await.is_err() {
        return;
    }
    sleep(ASK_FIRST).await;
    let except = blocking(&core, |core| core.unpublished()).await;
    match (except, network.upgrade()) {
        (Ok(except), Some(network)) => network.node.publish_own(except),
        (Err(error), _) => tracing::error!(%error, "own feeds are not published"),
        (_, None) => {}
    }
}
