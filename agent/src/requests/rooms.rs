//! Rooms: create, invite, join, list.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kinlog_feeds::AgentId;
use kinlog_indexer::entry::History;
use kinlog_swarm::Label;
use tokio::time::{Instant, sleep_until};

use crate::api::{AnswerSender, Error, Reply, RoomInfo};
use crate::core::Core;
use crate::knowledge::KnownRoom;
use crate::limits::{JOIN_WAIT, MESSAGES_READ_MAX, NOBODY_AFTER};
use crate::links::Link;
use crate::peers::{Sought, climb};
use crate::requests::{Ended, blocking};
use crate::rooms::{Refusal, RoomTerms};
use crate::tasks::Running;

pub(super) fn create(core: &Core, name: &str, history: Option<&str>) -> Result<Reply, Error> {
    let terms = RoomTerms {
        name,
        history: history.map_or(Ok(History::Full), history_called)?,
        direct: None,
    };
    Ok(Reply::Room(room_info(core, &core.create_room(&terms)?)?))
}

fn history_called(text: &str) -> Result<History, Error> {
    let days = |text: &str| {
        let days: u32 = text.strip_suffix('d')?.parse().ok()?;
        (days > 0).then_some(History::Days(days))
    };
    match text {
        "full" => Ok(History::Full),
        "from-join" => Ok(History::FromJoin),
        other => days(other).ok_or_else(|| {
            Error::usage(format!("{other:?} is no history policy"))
                .hint("one of: full, from-join, or days as 30d")
        }),
    }
}

/// Writes to one agent, in the room of the two.
pub(super) fn direct(core: &Core, agent: &str, text: &str) -> Result<Reply, Error> {
    if text.is_empty() {
        return Err(Error::usage("an empty message is not sent"));
    }
    let agent = agent_called(core, agent)?;
    let sent = core.send_direct(&agent, text)?;
    Ok(Reply::DirectSent {
        room: sent.room.id.to_string(),
        key: sent.own.key.into(),
        index: sent.appended.start,
        link: sent.link,
    })
}

/// Returns the agent that a link, an id or a petname names, whoever else has that name.
pub(super) fn agent_named(core: &Core, who: &str) -> Result<Option<AgentId>, Error> {
    if let Ok(Link::Agent { agent, .. }) = who.parse() {
        return Ok(Some(agent));
    }
    if let Ok(agent) = who.parse() {
        return Ok(Some(agent));
    }
    core.petnamed(who)
}

/// Returns those who are called so in a room.
pub(super) fn members_called(core: &Core, name: &str) -> Result<BTreeSet<AgentId>, Error> {
    let rooms = core.knowledge(|knowledge| knowledge.rooms.keys().copied().collect::<Vec<_>>());
    let mut found = BTreeSet::new();
    for room in rooms {
        let rows = core.look(|index| index.room_members(&room))?;
        let named = rows.iter();
        let named = named.filter(|row| row.display_name.as_deref() == Some(name));
        found.extend(named.map(|row| row.agent));
    }
    Ok(found)
}

/// Returns the agent that an id or a link names, or a name that one member of our rooms has.
pub(super) fn agent_called(core: &Core, who: &str) -> Result<AgentId, Error> {
    if let Some(agent) = agent_named(core, who)? {
        return Ok(agent);
    }
    let mut found = members_called(core, who)?;
    found.remove(&core.agent);
    match found.iter().collect::<Vec<_>>().as_slice() {
        [agent] => Ok(**agent),
        [] => Err(Error::not_found(format!("nobody is called {who:?} here"))
            .hint("name an agent by id or link: `kinlog id` shows them its own")),
        several => Err(
            Error::usage(format!("{} agents are called {who:?}", several.len()))
                .hint("name one by its id: `kinlog room members ROOM` shows them"),
        ),
    }
}

pub(super) async fn join(
    running: &Arc<Running>,
    link: &str,
    wait_seconds: Option<u64>,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let Link::Join(invite) = link
        .parse()
        .map_err(|error: crate::links::LinkError| Error::from(error))?
    else {
        return Err(Error::usage("the link is no invitation to a room")
            .hint("`kinlog follow LINK` follows what it names")
            .into());
    };
    let core = &running.core;
    let id = invite.room;
    let mut changes = core.changes();
    // A device that took the place of a member is none itself.
    let is_member = core.knowledge(|knowledge| {
        let room = knowledge.rooms.get(&id);
        room.is_some_and(|room| knowledge.own.contains_key(&room.entries))
    });
    if !is_member {
        blocking(core, move |core| core.ask_to_join(&invite)).await?;
        let waiting = Reply::Waiting {
            room: id.to_string(),
            message: "asked to join, waiting for a member".into(),
            steps: Vec::new(),
        };
        to.reply(waiting).await?;
        running.ensure_signals().await?;
    }
    let until = Instant::now() + wait_seconds.map_or(JOIN_WAIT, Duration::from_secs);
    let mut tell_at = Some((Instant::now() + NOBODY_AFTER).min(until));
    loop {
        changes.borrow_and_update();
        let room = core.knowledge(|knowledge| knowledge.rooms.get(&id).cloned());
        // The name comes with the genesis; without it the room is joined all the same.
        let is_late = Instant::now() >= until;
        let is_in = |room: &KnownRoom| {
            core.knowledge(|knowledge| knowledge.own.contains_key(&room.entries))
        };
        if let Some(room) = room.filter(|room| is_in(room) && (is_late || !room.name.is_empty())) {
            let info = blocking(core, move |core| room_info(core, &room)).await?;
            return Ok(to.reply(Reply::Room(info)).await?);
        }
        if tell_at.is_some_and(|at| Instant::now() >= at) {
            tell_at = None;
            if let Some(waiting) = still_waiting(core, &id).await {
                to.reply(waiting).await?;
            }
        }
        if is_late {
            return Err(not_joined(core, &id).into());
        }
        tokio::select! {
            // The agent is closed.
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            () = sleep_until(tell_at.unwrap_or(until)) => {}
        }
    }
}

/// Says what was tried for a join that waits for a first answer; `None` once there is one.
async fn still_waiting(core: &Arc<Core>, room: &kinlog_indexer::RoomId) -> Option<Reply> {
    let (answers, key) = core.knowledge(|knowledge| {
        let mut answers = knowledge.answers.iter();
        let is_answered = answers.any(|answer| answer.room == *room);
        let mut joins = knowledge.joins.iter();
        let join = joins.find(|join| join.invite.room == *room);
        (is_answered, join.map(|join| join.invite.public_key().0))
    });
    let sought = Sought {
        topics: vec![(Label::Invite, key.filter(|_| !answers)?)],
        whom: "a member who answers".to_owned(),
    };
    let steps = climb(core.network().as_ref(), &sought).await;
    Some(Reply::Waiting {
        room: room.to_string(),
        message: "no member answered yet; it goes on trying".to_owned(),
        steps,
    })
}

/// Says how far a join is that did not end in time.
fn not_joined(core: &Core, room: &kinlog_indexer::RoomId) -> Error {
    let (answers, refusal) = core.knowledge(|knowledge| {
        let answers = knowledge.answers.iter();
        let answers = answers.filter(|answer| answer.room == *room).count();
        (answers, knowledge.refusals.get(room).copied())
    });
    let message = match (answers, refusal) {
        (0, None) => "asked to join, no member answered yet".to_owned(),
        (_, Some(Refusal::Newer)) => format!("not joined: {}", Refusal::Newer.as_str()),
        (0, Some(why)) => format!("asked to join, and not let in: {}", why.as_str()),
        _ => "joining, verifying: what was answered does not prove the room yet".to_owned(),
    };
    Error::no_peers(message)
        .hint("the request stays: `kinlog up` goes on with it, `kinlog status` shows it")
}

pub(super) fn list(core: &Core) -> Result<Reply, Error> {
    Ok(Reply::Rooms {
        rooms: rooms(core)?,
    })
}

/// Returns every room of this agent, by name.
pub(super) fn rooms(core: &Core) -> Result<Vec<RoomInfo>, Error> {
    let known: Vec<KnownRoom> =
        core.knowledge(|knowledge| knowledge.rooms.values().cloned().collect());
    let mut rooms = known
        .iter()
        .map(|room| room_info(core, room))
        .collect::<Result<Vec<_>, Error>>()?;
    rooms.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    Ok(rooms)
}

fn room_info(core: &Core, room: &KnownRoom) -> Result<RoomInfo, Error> {
    let (members, messages) = core.look(|index| {
        let members = index.room_members(&room.id)?.len();
        Ok((members, index.messages(&room.id, MESSAGES_READ_MAX)?.len()))
    })?;
    Ok(RoomInfo {
        id: room.id.to_string(),
        code: room.id.code(),
        name: room.name.clone(),
        members: members as u64,
        messages: messages as u64,
        left: left(core, room),
        acts_left: core.acts_left(room),
        with: room.direct.map(|agent| core.agent_label(&agent)),
    })
}

/// Says how this agent went out of a room: as its acts say, or as a member told where none of them came.
fn left(core: &Core, room: &KnownRoom) -> Option<String> {
    let gone = room.standing.gone.get(&core.agent);
    let is_in = room.standing.members.contains_key(&core.agent);
    let told = room.told_removed.as_ref().filter(|_| is_in);
    let gone = gone.or(told)?;
    Some(core.gone_error(room, gone).message)
}
