//! Rooms: create, invite, join, list.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::api::{AnswerSender, Error, MemberInfo, Reply, RoomInfo};
use crate::core::Core;
use crate::knowledge::KnownRoom;
use crate::limits::{JOIN_WAIT, MESSAGES_READ_MAX};
use crate::links::Link;
use crate::requests::{Ended, blocking};
use crate::tasks::Running;

pub(super) fn create(core: &Core, name: &str) -> Result<Reply, Error> {
    Ok(Reply::Room(room_info(core, &core.create_room(name)?)?))
}

pub(super) fn invite(core: &Core, room: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    Ok(Reply::Invite {
        room: room.label(),
        link: core.invite(&room)?,
    })
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
        };
        to.reply(waiting).await?;
        running.ensure_signals().await?;
    }
    let until = Instant::now() + wait_seconds.map_or(JOIN_WAIT, Duration::from_secs);
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
        if is_late {
            return Err(Error::no_peers("asked to join, no member answered yet")
                .hint("the request stays: `kinlog up` goes on with it, `kinlog status` shows it")
                .into());
        }
        tokio::select! {
            // The agent is closed.
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            () = sleep_until(until) => {}
        }
    }
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

pub(super) fn members(core: &Core, room: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let rows = core.index(|index| {
        let roles = index.member_feeds(&room.id)?;
        Ok((index.room_members(&room.id)?, roles))
    })?;
    let (members, feeds) = rows;
    let members = members
        .into_iter()
        .map(|member| MemberInfo {
            role: feeds
                .iter()
                .find(|feed| feed.agent == member.agent)
                .and_then(|feed| feed.role)
                .map_or("none", |role| role.as_str())
                .to_owned(),
            name: member.display_name.unwrap_or_default(),
            agent: member.agent.to_string(),
        })
        .collect();
    Ok(Reply::Members {
        room: room.label(),
        members,
    })
}

fn room_info(core: &Core, room: &KnownRoom) -> Result<RoomInfo, Error> {
    let (members, messages) = core.index(|index| {
        let members = index.room_members(&room.id)?.len();
        Ok((members, index.messages(&room.id, MESSAGES_READ_MAX)?.len()))
    })?;
    Ok(RoomInfo {
        id: room.id.to_string(),
        code: room.id.code(),
        name: room.name.clone(),
        members: members as u64,
        messages: messages as u64,
    })
}
