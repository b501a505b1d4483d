//! Notes whom this machine talks to, while the network is on.

use std::sync::{Arc, Weak};

use tokio::time::sleep;

use crate::core::Core;
use crate::limits::EGRESS_LOOK_EVERY;
use crate::network::Network;
use crate::requests::blocking;
use crate::wall_ms;

/// Looks regularly until the network is gone.
pub(super) async fn note_regularly(core: Arc<Core>, network: Weak<Network>) {
    loop {
        sleep(EGRESS_LOOK_EVERY).await;
        let Some(network) = network.upgrade() else {
            return;
        };
        if let Err(error) = note(&core, network).await {
            tracing::warn!(%error, "whom this machine talked to is not noted");
        }
    }
}

/// Notes what happened up to now.
pub(crate) async fn note(core: &Arc<Core>, network: Arc<Network>) -> Result<(), crate::api::Error> {
    let node = network.node.status().await;
    let told = network.node.ice_servers().await;
    let noted = blocking(core, move |core| {
        core.note_egress(&network, &node, &told, wall_ms())
    });
    noted.await
}
