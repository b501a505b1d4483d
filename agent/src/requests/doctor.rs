//! What the agent knows of its own network and process, and whom it contacted.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::{DoctorInfo, Error, Reply};
use crate::requests::blocking;
use crate::requests::follow::Look;
use crate::tasks::{Running, note_egress};

pub(super) async fn doctor(running: &Arc<Running>) -> Result<Reply, Error> {
    let network = running.core.network();
    let look = Look::take(network.as_ref()).await;
    let told = match &network {
        Some(network) => network.node.ice_servers().await,
        None => Vec::new(),
    };
    let is_on = network.is_some();
    let mut stun_urls = network.map_or(Vec::new(), |network| network.stun_urls.clone());
    let mut turn_urls = Vec::new();
    for servers in &told {
        stun_urls.extend(servers.stun.iter().map(ToString::to_string));
        turn_urls.extend(servers.turn.iter().map(ToString::to_string));
    }
    let stun_urls = once_each(stun_urls);
    let turn_urls = once_each(turn_urls);
    blocking(&running.core, move |core| {
        let lan = look.node.lan;
        let sessions = look.node.sessions.iter();
        let stat = core.store.stat()?;
        Ok(Reply::Doctor(Box::new(DoctorInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            network: is_on,
            signal_urls: core.state.signals()?,
            stun_urls,
            turn_urls,
            lan: lan.is_some(),
            lan_port: lan.as_ref().and_then(|lan| lan.port),
            lan_neighbours: lan.as_ref().map_or(0, |lan| lan.neighbours as u64),
            lan_machines: lan.as_ref().map_or(0, |lan| lan.machines as u64),
            lan_trouble: lan.and_then(|lan| lan.trouble),
            sessions: sessions.filter(|one| one.state == "open").count() as u64,
            store_bytes: stat.log_bytes + stat.index_bytes,
        })))
    })
    .await
}

/// Returns every host that was contacted, those of right now too.
pub(super) async fn egress(running: &Arc<Running>) -> Result<Reply, Error> {
    if let Some(network) = running.core.network() {
        note_egress(&running.core, network).await?;
    }
    blocking(&running.core, |core| {
        let hosts = core.egress()?;
        Ok(Reply::Egress { hosts })
    })
    .await
}

/// Returns URLs in their order, each once.
fn once_each(urls: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let urls = urls.into_iter();
    urls.filter(|url| seen.insert(url.clone())).collect()
}
