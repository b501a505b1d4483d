//! Who may be met, and how each is reached now.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinlog_feeds::crypto::AgentId;
use tokio::time::{Instant, sleep_until};

use crate::api::{AnswerSender, Error, PeerInfo, Reply};
use crate::core::Core;
use crate::limits::{PEERS_LOOK_EVERY, PROGRESS_EVERY};
use crate::peers::{known, merge, reports};
use crate::requests::follow::Look;
use crate::requests::rooms::agent_called;
use crate::requests::{Ended, blocking};
use crate::tasks::Running;

/// Whom a caller asks about.
#[derive(Clone, Debug)]
enum Of {
    Everybody,
    Room(String),
    Agent(AgentId),
}

/// Answers with everybody, or with those of a room, or with one; with `watch` then with each change.
pub(super) async fn peers(
    running: &Arc<Running>,
    of: Option<String>,
    watch: bool,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let core = &running.core;
    let of = blocking(core, move |core| meant(core, of.as_deref())).await?;
    let mut changes = core.changes();
    changes.borrow_and_update();
    let peers = look(core, &of).await?;
    let mut told: BTreeMap<String, PeerInfo> = by_name(&peers);
    let network = core.network().is_some();
    to.reply(Reply::Peers { network, peers }).await?;
    if !watch {
        return Ok(());
    }
    loop {
        let soon = Instant::now() + PROGRESS_EVERY;
        let later = Instant::now() + PEERS_LOOK_EVERY;
        tokio::select! {
            // The agent is closed: there is nothing more to tell.
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            // What the node sees in topics moves unheard.
            () = sleep_until(later) => {}
        }
        // A burst of changes is told once.
        sleep_until(soon).await;
        let now = by_name(&look(core, &of).await?);
        for (id, peer) in &now {
            let before = told.get(id);
            if before.is_none_or(|before| differs(before, peer)) {
                let (before, peer) = (before.map(|before| before.state), peer.clone());
                to.reply(Reply::PeerChanged { before, peer }).await?;
            }
        }
        for (_, gone) in told.iter().filter(|(id, _)| !now.contains_key(*id)) {
            let before = Some(gone.state);
            let peer = PeerInfo {
                state: crate::api::PeerState::Offline,
                color: crate::api::PeerState::Offline.color().to_owned(),
                way: None,
                ..gone.clone()
            };
            to.reply(Reply::PeerChanged { before, peer }).await?;
        }
        told = now;
    }
}

fn meant(core: &Core, of: Option<&str>) -> Result<Of, Error> {
    let Some(name) = of else {
        return Ok(Of::Everybody);
    };
    if let Ok(room) = core.room(name) {
        return Ok(Of::Room(room.label()));
    }
    let agent = agent_called(core, name)
        .map_err(|error| error.hint("a room or an agent: `kinlog peers` lists everybody"))?;
    Ok(Of::Agent(agent))
}

async fn look(core: &Arc<Core>, of: &Of) -> Result<Vec<PeerInfo>, Error> {
    let look = Look::take(core.network().as_ref()).await;
    let of = of.clone();
    blocking(core, move |core| {
        let mut peers = merge(known(core), reports(core, &look.node)?);
        peers.retain(|peer| match &of {
            Of::Everybody => true,
            Of::Room(room) => peer.rooms.contains(room),
            Of::Agent(agent) => peer.agent.as_ref().is_some_and(|one| **one == *agent),
        });
        Ok(peers)
    })
    .await
}

/// Returns them by what tells them apart.
fn by_name(peers: &[PeerInfo]) -> BTreeMap<String, PeerInfo> {
    let key = |(place, peer): (usize, &PeerInfo)| {
        let key = match (&peer.agent, &peer.device) {
            (Some(agent), _) => agent.to_string(),
            (None, Some(device)) => device.to_string(),
            (None, None) => format!("{} {place}", peer.name),
        };
        (key, peer.clone())
    };
    peers.iter().enumerate().map(key).collect()
}

/// Returns whether something changed that is worth a line: figures move all the time.
fn differs(before: &PeerInfo, now: &PeerInfo) -> bool {
    (before.state, &before.way, &before.note, &before.name)
        != (now.state, &now.way, &now.note, &now.name)
}
