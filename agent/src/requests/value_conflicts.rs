//! Values that several devices wrote without knowing of each other: both sides, and an end to it.

use kinlog_feeds::crypto::AgentId;
use kinlog_indexer::entry::{Body, PinSetting};
use kinlog_indexer::index::RegisterRow;
use kinlog_indexer::register::ValueName;

use crate::api::{ConflictSide, Error, Reply, ValueConflictInfo};
use crate::core::Core;

pub(super) fn list(core: &Core, is_everybodys: bool) -> Result<Reply, Error> {
    let agent = (!is_everybodys).then_some(core.agent);
    let rows = core.index(|index| index.conflicting(agent.as_ref()))?;
    let conflicts = rows.iter().map(|row| info(core, row)).collect();
    let stopped = core
        .store
        .feeds()
        .iter()
        .filter(|feed| feed.is_stopped())
        .count();
    Ok(Reply::ValueConflicts {
        conflicts,
        stopped_feeds: stopped as u64,
    })
}

pub(super) fn show(core: &Core, id: &str) -> Result<Reply, Error> {
    let row = find(core, id)?;
    Ok(Reply::ValueConflicts {
        conflicts: vec![info(core, &row)],
        stopped_feeds: 0,
    })
}

/// Writes one side again, in place of all: the one with this number, or the one that is shown.
pub(super) fn resolve(core: &Core, id: &str, side: Option<u64>) -> Result<Reply, Error> {
    let row = find(core, id)?;
    if row.register.agent != core.agent || row.register.room.is_some() {
        let whose = core.agent_label(&row.register.agent);
        return Err(Error::permission(format!(
            "only {whose} can resolve what is said there"
        )));
    }
    let count = row.heads.len() as u64;
    let number = side.unwrap_or(count);
    let chosen = number
        .checked_sub(1)
        .and_then(|at| row.heads.get(at as usize));
    let Some(chosen) = chosen else {
        return Err(
            Error::usage(format!("{id} has sides 1 to {count}, not {number}"))
                .hint(format!("`kinlog conflicts show {id:?}` shows them")),
        );
    };
    core.write_value(chosen.body.clone())?;
    core.share_settings()?;
    let heads = core.index(|index| index.register(&row.register))?;
    let register = row.register;
    Ok(Reply::ValueConflicts {
        conflicts: vec![info(core, &RegisterRow { register, heads })],
        stopped_feeds: 0,
    })
}

fn find(core: &Core, id: &str) -> Result<RegisterRow, Error> {
    let rows = core.index(|index| index.conflicting(None))?;
    let mut meant = rows.into_iter().filter(|row| name(core, row) == id);
    meant.next().ok_or_else(|| {
        Error::not_found(format!("no value {id:?} is in conflict"))
            .hint("`kinlog conflicts list` shows those that are")
    })
}

/// Returns what names a conflict: its sort and name, and whose it is where that is another agent's or in
/// a room.
fn name(core: &Core, row: &RegisterRow) -> String {
    let register = &row.register;
    let mut id = match register.value.name() {
        name if name.is_empty() => register.value.sort().to_owned(),
        name => format!("{} {name}", register.value.sort()),
    };
    if register.agent != core.agent {
        id = format!("{id} of {}", register.agent);
    }
    if let Some(room) = register.room {
        id = format!("{id} in {}", room.code());
    }
    id
}

fn info(core: &Core, row: &RegisterRow) -> ValueConflictInfo {
    let register = &row.register;
    let count = row.heads.len() as u64;
    let sides = (1..).zip(&row.heads).map(|(number, head)| ConflictSide {
        number,
        value: value(&head.body),
        device: head.device.map(Into::into),
        device_name: device_name(core, &register.agent, head.device.as_ref()),
        written_at_ms: head.clock.ms,
        shown: number == count,
        feed: head.at.feed.into(),
        index: head.at.index,
    });
    let room = register.room.map(|room| {
        let label = core.knowledge(|knowledge| knowledge.rooms.get(&room).map(|room| room.label()));
        label.unwrap_or_else(|| room.code())
    });
    ValueConflictInfo {
        id: name(core, row),
        agent: register.agent.into(),
        agent_name: core.agent_label(&register.agent),
        room,
        what: match &register.value {
            ValueName::Profile => "what it calls itself".to_owned(),
            ValueName::Contact(agent) => format!("what {} is called", core.agent_label(agent)),
            ValueName::Vouch(agent) => format!("whether {} is trusted", core.agent_label(agent)),
            ValueName::Preference(name) => format!("preference {name}"),
            ValueName::Setting(name) => name.clone(),
        },
        own: register.agent == core.agent && register.room.is_none(),
        sides: sides.collect(),
    }
}

fn device_name(
    core: &Core,
    agent: &AgentId,
    device: Option<&kinlog_feeds::crypto::DeviceKey>,
) -> String {
    let Some(device) = device else {
        return String::new();
    };
    if *agent == core.agent {
        return core.knowledge(|knowledge| knowledge.device_name(device));
    }
    device.to_string()[..8].to_owned()
}

/// Returns what a side says, for people; `None` when it takes the value away.
fn value(body: &Body) -> Option<String> {
    match body {
        Body::Profile(profile) if profile.about.is_empty() => Some(profile.name.to_string()),
        Body::Profile(profile) => Some(format!("{} - {}", profile.name, profile.about)),
        Body::Contact(contact) => contact.petname.as_ref().map(ToString::to_string),
        Body::Preference(preference) => preference.value.as_ref().map(ToString::to_string),
        Body::Vouch(vouch) => {
            let said = if vouch.trusted {
                "trusted"
            } else {
                "not trusted"
            };
            Some(match vouch.reason.is_empty() {
                true => said.to_owned(),
                false => format!("{said}: {}", vouch.reason),
            })
        }
        Body::Setting(setting) => setting
            .value()
            .map(|value| match PinSetting::decode(value) {
                Ok(pin) => {
                    let live = if pin.live { ", live" } else { "" };
                    format!("{}: {}{live}", pin.tier, pin.reason)
                }
                Err(_) => format!("{} bytes", value.len()),
            }),
        _ => None,
    }
}
