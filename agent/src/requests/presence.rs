//! Who is there and who types in a room, and saying so.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinlog_feeds::crypto::AgentId;
use kinlog_indexer::RoomId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::api::{AnswerSender, Error, PresenceInfo, PresenceState, Reply, Stance};
use crate::core::Core;
use crate::requests::{Ended, blocking};

pub(super) fn typing(core: &Core, room: &str, stop: bool) -> Result<Reply, Error> {
    let room = core.room(room)?;
    if core.network().is_none() {
        return Err(Error::new(
            crate::api::ErrorKind::NeedsAgent,
            "nobody can hear it: the network is off",
        )
        .hint("start the agent with `kinlog up`"));
    }
    Ok(Reply::TypingTold {
        told: core.say_typing(&room, stop)?,
        room: room.label(),
    })
}

pub(super) fn stance(core: &Core, set: Option<Stance>) -> Result<Reply, Error> {
    if let Some(stance) = set {
        core.take_stance(stance)?;
    }
    let stance = core.stance();
    Ok(Reply::Stance { stance })
}

/// What the other members of a room do, as it was told last.
#[derive(Debug)]
pub(super) struct PresenceWatch {
    room: RoomId,
    changes: watch::Receiver<u64>,
    /// With the name.
    told: BTreeMap<AgentId, (String, PresenceState)>,
    /// When something ends by itself; at first what is so is told.
    look_at: Option<Instant>,
}

impl PresenceWatch {
    pub(super) fn new(core: &Core, room: RoomId) -> Self {
        PresenceWatch {
            room,
            changes: core.presences().changes(),
            told: BTreeMap::new(),
            look_at: Some(Instant::now()),
        }
    }

    /// Resolves when somebody may do something else than was told. Nothing is lost when it is dropped.
    pub(super) async fn changed(&mut self) {
        let look_at = self.look_at;
        let ends = async {
            match look_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The agent holds the sender, and whoever waits holds the agent.
            changed = self.changes.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = ends => {}
        }
    }

    /// Answers with what changed.
    pub(super) async fn tell(&mut self, core: &Arc<Core>, to: &AnswerSender) -> Result<(), Ended> {
        self.changes.borrow_and_update();
        let id = self.room;
        let (room, now, look_at) = blocking(core, move |core| {
            let Some(room) = core.room_with(&id) else {
                return Ok((String::new(), BTreeMap::new(), None));
            };
            let names = core.look(|index| index.room_members(&id))?;
            let names: BTreeMap<AgentId, String> = names
                .into_iter()
                .filter_map(|row| {
                    let name = core.called(&row.agent, row.display_name.as_deref());
                    Some((row.agent, name?))
                })
                .collect();
            let present = core.present(&room);
            let others = present.doing.into_iter();
            let others = others.filter(|(agent, _)| *agent != core.agent);
            let others = others.map(|(agent, doing)| {
                let name = names.get(&agent).cloned().unwrap_or_default();
                (agent, (name, PresenceState::from(doing)))
            });
            let others: BTreeMap<_, _> = others.collect();
            Ok((room.label(), others, present.changes_at))
        })
        .await?;
        self.look_at = look_at.map(Instant::from_std);
        let gone = self
            .told
            .iter()
            .filter(|(agent, _)| !now.contains_key(*agent));
        let silent: Vec<_> = gone
            .map(|(agent, (name, _))| (*agent, (name.clone(), PresenceState::Silent)))
            .collect();
        for (agent, (name, state)) in now.into_iter().chain(silent) {
            let before = self.told.get(&agent).map(|(_, state)| *state);
            if before == Some(state) {
                continue;
            }
            match state {
                PresenceState::Silent => self.told.remove(&agent),
                _ => self.told.insert(agent, (name.clone(), state)),
            };
            let info = PresenceInfo {
                room: room.clone(),
                agent: agent.to_string(),
                name,
                state,
            };
            to.reply(Reply::Presence(info)).await?;
        }
        Ok(())
    }
}
