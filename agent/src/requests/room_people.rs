//! Who is in a room: members, roles, removal, leaving, invites.

use std::collections::BTreeSet;
use std::path::Path;

use kinlog_feeds::PublicKey;
use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_indexer::entry::Role;
use kinlog_swarm::Label;

use crate::api::{
    Error, InviteInfo, MemberDeviceInfo, MemberInfo, ReaderInfo, Reply, RoomChange, RoomExported,
    RoomLeft,
};
use crate::core::Core;
use crate::knowledge::KnownRoom;
use crate::links::Link;
use crate::requests::rooms::agent_named;
use crate::rooms::{InviteTerms, has_expired};
use crate::wall_ms;

pub(super) fn members(core: &Core, room: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let rows = core.look(|index| index.room_members(&room.id))?;
    let connected = connected(core, &room);
    let present = core.present(&room);
    let mut members: Vec<MemberInfo> = rows
        .into_iter()
        .map(|row| {
            let standing = &room.standing;
            let gone = standing.gone.get(&row.agent);
            let role = match (standing.role(&row.agent), gone) {
                (Some(role), _) => role.as_str(),
                (None, Some(gone)) if gone.by == row.agent => "left",
                (None, _) => "removed",
            };
            let member = standing.members.get(&row.agent);
            let devices = member.into_iter().flat_map(|member| &member.devices);
            let devices = devices.map(|(key, device)| MemberDeviceInfo {
                key: (*key).into(),
                entries: device.entries.into(),
                blobs: device.blobs.into(),
                connected: connected.contains(key),
            });
            let removed = gone.filter(|gone| gone.by != row.agent);
            MemberInfo {
                agent: row.agent.to_string(),
                name: core
                    .called(&row.agent, row.display_name.as_deref())
                    .unwrap_or_default(),
                role: role.to_owned(),
                joined_at_ms: row.joined_at,
                last_seen_at_ms: row.last_seen_at,
                devices: devices.collect(),
                presence: present.doing.get(&row.agent).map(|doing| (*doing).into()),
                removed_by: removed.map(|gone| core.agent_label(&gone.by)),
                reason: removed.map(|gone| gone.reason.clone()),
            }
        })
        .collect();
    members.sort_by_key(|member| ["removed", "left"].contains(&member.role.as_str()));
    Ok(Reply::Members {
        room: room.label(),
        members,
        readers: readers(core, &room)?,
    })
}

/// Returns who sees something of a room, and what: promise 6, for this room.
fn readers(core: &Core, room: &KnownRoom) -> Result<Vec<ReaderInfo>, Error> {
    let standing = &room.standing;
    let mut readers = vec![ReaderInfo {
        who: "members".to_owned(),
        name: format!(
            "{} on {} devices",
            standing.members.len(),
            standing.devices().count()
        ),
        sees: "everything that the history policy gives them, and who is in the room".to_owned(),
    }];
    let now = wall_ms();
    let live = standing.grants.values();
    for granted in live.filter(|granted| granted.grant.expires_at_ms > now) {
        readers.push(ReaderInfo {
            who: "seeder".to_owned(),
            name: core.agent_label(&granted.grant.seeder),
            sees: "which feeds belong together, sizes of blocks, times and addresses; no name, no \
                   text, no key"
                .to_owned(),
        });
    }
    let open = standing.invites.values();
    let open = open
        .filter(|invite| !has_expired(invite.expires_at_ms))
        .count();
    if open > 0 {
        readers.push(ReaderInfo {
            who: "link holders".to_owned(),
            name: match open {
                1 => "1 open invite".to_owned(),
                count => format!("{count} open invites"),
            },
            sees: "nothing until a member lets them in; then what members see".to_owned(),
        });
    }
    for url in core.state.signals()? {
        readers.push(ReaderInfo {
            who: "signal server".to_owned(),
            name: url,
            sees: "addresses, blinded topics and times; no data passes through it".to_owned(),
        });
    }
    Ok(readers)
}

pub(super) fn invite(
    core: &Core,
    room: &str,
    role: Option<&str>,
    expires_in: Option<u64>,
    uses: Option<u32>,
) -> Result<Reply, Error> {
    if uses == Some(0) || expires_in == Some(0) {
        return Err(Error::usage("an invite that lets nobody in is none"));
    }
    let room = core.room(room)?;
    let terms = InviteTerms {
        role: role.map_or(Ok(Role::Member), role_called)?,
        expires_at_ms: expires_in
            .map(|seconds| wall_ms().saturating_add(seconds.saturating_mul(1000))),
        uses,
    };
    Ok(Reply::Invite {
        room: room.label(),
        link: core.invite(&room, &terms)?,
    })
}

pub(super) fn invites(core: &Core, room: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let invites = room
        .standing
        .invites
        .iter()
        .map(|(key, invite)| InviteInfo {
            key: key.to_string(),
            role: invite.role.as_str().to_owned(),
            expires_at_ms: invite.expires_at_ms,
            uses: invite.uses,
            used: invite.used,
            by: core.agent_label(&invite.by),
            open: !has_expired(invite.expires_at_ms)
                && invite.uses.is_none_or(|uses| invite.used < uses),
        });
    Ok(Reply::Invites {
        room: room.label(),
        invites: invites.collect(),
    })
}

pub(super) fn revoke_invite(core: &Core, room: &str, key: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let key: PublicKey = match key.parse() {
        Ok(key) => key,
        Err(_) => match key.parse::<Link>() {
            Ok(Link::Join(invite)) => invite.public_key(),
            _ => {
                return Err(Error::usage(format!("{key:?} is no key of an invite"))
                    .hint(format!("`kinlog room invites {}` shows them", room.label())));
            }
        },
    };
    core.revoke_invite(&room, &key)?;
    changed(
        core,
        &room,
        format!("nobody joins by invite {key} any more"),
    )
}

pub(super) fn role(core: &Core, room: &str, who: &str, role: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let role = role_called(role)?;
    let agent = member_called(core, &room, who)?;
    core.change_role(&room, &agent, role)?;
    let message = format!("{} is {} now", core.agent_label(&agent), role.as_str());
    changed(core, &room, message)
}

pub(super) fn remove(core: &Core, room: &str, who: &str, reason: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let agent = member_called(core, &room, who)?;
    let label = core.agent_label(&agent);
    let revoked = core.remove_member(&room, &agent, reason)?;
    core.tell_removed(&room, &agent, reason);
    let mut message = format!("{label} is removed, and reads nothing that is written from now on");
    if revoked > 0 {
        message.push_str("; the open invites are revoked, make new ones for who is still to come");
    }
    changed(core, &room, message)
}

pub(super) fn leave(core: &Core, room: &str, purge: bool) -> Result<Reply, Error> {
    let joins = core.knowledge(|knowledge| knowledge.joins.clone());
    let rooms = joins.iter().map(|join| join.invite.room);
    let mut asked = rooms.filter(|id| id.to_string() == room || id.code() == room);
    if let Some(id) = asked.next() {
        core.give_up_join(&id)?;
        return Ok(Reply::RoomLeft(RoomLeft {
            room: id.code(),
            told: 0,
            purged: true,
            feeds: 0,
            blocks: 0,
            bytes: 0,
        }));
    }
    let room = core.room(room)?;
    if room.standing.gone.contains_key(&core.agent) {
        if !purge {
            return Err(
                Error::usage(format!("room {} is left already", room.label()))
                    .hint("--purge gives its space back"),
            );
        }
    } else {
        core.leave_room(&room)?;
    }
    let told = connected(core, &room).len() as u64;
    let purged = match purge {
        true => core.purge_room(&room)?,
        false => Default::default(),
    };
    Ok(Reply::RoomLeft(RoomLeft {
        room: room.label(),
        told,
        purged: purge,
        feeds: purged.feeds,
        blocks: purged.blocks,
        bytes: purged.bytes,
    }))
}

pub(super) fn export(core: &Core, room: &str, folder: &Path) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let exported = core.export_room(&room, folder)?;
    Ok(Reply::RoomExported(RoomExported {
        room: room.label(),
        folder: folder.to_owned(),
        messages: exported.messages,
        files: exported.files,
        files_left_out: exported.files_left_out,
        bytes: exported.bytes,
    }))
}

/// Returns the member that an id, a link, a name or the start of an id names.
fn member_called(core: &Core, room: &KnownRoom, who: &str) -> Result<AgentId, Error> {
    if let Some(agent) = agent_named(core, who)? {
        return Ok(agent);
    }
    let rows = core.look(|index| index.room_members(&room.id))?;
    let is_meant = |row: &&kinlog_indexer::index::MemberRow| {
        let is_called = row.display_name.as_deref() == Some(who);
        let is_start = who.len() >= 8 && row.agent.to_string().starts_with(who);
        room.standing.members.contains_key(&row.agent) && (is_called || is_start)
    };
    let found: Vec<AgentId> = rows.iter().filter(is_meant).map(|row| row.agent).collect();
    match found.as_slice() {
        [agent] => Ok(*agent),
        [] => Err(
            Error::not_found(format!("{who:?} is no member of room {}", room.label()))
                .hint(format!("`kinlog room members {}` shows all", room.label())),
        ),
        several => {
            let ids: Vec<String> = several
                .iter()
                .map(|id| id.to_string()[..8].to_owned())
                .collect();
            Err(
                Error::usage(format!("{} members are called {who:?}", several.len()))
                    .hint(format!("name one by its id: {}", ids.join(", "))),
            )
        }
    }
}

fn role_called(role: &str) -> Result<Role, Error> {
    let found = Role::ALL.into_iter().find(|one| one.as_str() == role);
    found.ok_or_else(|| {
        Error::usage(format!("{role:?} is no role"))
            .hint("roles are guest, member, admin and owner")
    })
}

pub(super) fn changed(core: &Core, room: &KnownRoom, message: String) -> Result<Reply, Error> {
    Ok(Reply::RoomChanged(RoomChange {
        room: room.label(),
        message,
        told: connected(core, room).len() as u64,
    }))
}

/// Returns the devices of other members with whom a session of the room is open.
pub(super) fn connected(core: &Core, room: &KnownRoom) -> BTreeSet<DeviceKey> {
    let Some(network) = core.network() else {
        return BTreeSet::new();
    };
    let devices = room.devices();
    let sessions = room.meet_keys();
    let sessions = sessions
        .iter()
        .flat_map(|key| network.sessions_about(Label::Room, key));
    let shown = sessions.filter_map(|session| Some(session.remote_certificate?.device));
    shown.filter(|device| devices.contains(device)).collect()
}
