//! Pairing two machines by texts that are carried by hand.

use std::sync::Arc;

use kinlog_swarm::NodeStatus;

use crate::api::{AnswerSender, PairedInfo, Reply};
use crate::core::Core;
use crate::limits::PAIR_OPEN;
use crate::pairing::{PairText, Paired};
use crate::peers::way_named;
use crate::requests::{Ended, blocking};
use crate::tasks::Running;

pub(super) async fn offer(running: &Arc<Running>, to: &AnswerSender) -> Result<(), Ended> {
    let network = running.ensure_network().await?;
    let text = running.pairings.offer(&network).await?;
    Ok(to.reply(shown(&text)).await?)
}

pub(super) async fn answer(
    running: &Arc<Running>,
    offer: &str,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let network = running.ensure_network().await?;
    let (text, answering) = running.pairings.answer(&network, offer).await?;
    to.reply(shown(&text)).await?;
    let paired = answering.meet(&running.core, &network).await?;
    tell(running, paired, to).await
}

pub(super) async fn finish(
    running: &Arc<Running>,
    answer: &str,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let network = running.ensure_network().await?;
    let paired = running.pairings.finish(&running.core, &network, answer);
    tell(running, paired.await?, to).await
}

fn shown(text: &PairText) -> Reply {
    let until_s = text.made_s.saturating_add(PAIR_OPEN.as_secs());
    Reply::PairText {
        what: text.kind.name().to_owned(),
        text: text.to_string(),
        until_ms: until_s.saturating_mul(1000),
    }
}

async fn tell(running: &Arc<Running>, paired: Paired, to: &AnswerSender) -> Result<(), Ended> {
    let node = match running.core.network() {
        Some(network) => network.node.status().await,
        None => NodeStatus::default(),
    };
    let info = blocking(&running.core, move |core| Ok(info(core, &paired, &node))).await?;
    Ok(to.reply(Reply::Paired(info)).await?)
}

fn info(core: &Core, paired: &Paired, node: &NodeStatus) -> PairedInfo {
    let is_own = paired.agent == core.agent;
    let mut sessions = node.sessions.iter();
    let session = sessions.find(|session| session.id == paired.session.0);
    let plan = core.plan();
    let (rooms, name) = core.knowledge(|knowledge| {
        let rooms = knowledge.rooms.values();
        let common = rooms.filter(|room| room.devices().contains(&paired.device));
        let rooms = common.map(|room| room.label()).collect();
        (rooms, is_own.then(|| knowledge.device_name(&paired.device)))
    });
    let followed = plan.view.agents.get(&paired.agent.0);
    PairedInfo {
        agent: paired.agent.into(),
        device: paired.device.into(),
        name: name.unwrap_or_else(|| core.agent_label(&paired.agent)),
        own: is_own,
        followed: !is_own && followed.is_some_and(|one| one.is_followed),
        rooms,
        way: session.map(|session| way_named(core, node, session)),
    }
}
