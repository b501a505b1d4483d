//! Messages: send, answer, react, edit, delete, read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kinlog_indexer::entry::{Body, Deed, Edit, Message, Reaction, Ref, Tombstone};
use kinlog_indexer::index::MessageRow;

use crate::api::{AnswerSender, DeletedInfo, Error, MessageInfo, ReactionInfo, Reply, ReplyInfo};
use crate::core::Core;
use crate::failure::chain;
use crate::knowledge::KnownRoom;
use crate::limits::{MESSAGES_READ_MAX, REPLY_CHARACTERS_MAX};
use crate::requests::presence::PresenceWatch;
use crate::requests::{Ended, blocking};
use crate::rooms::act;

pub(super) fn send(
    core: &Core,
    room: &str,
    text: &str,
    reply_to: Option<&str>,
) -> Result<Reply, Error> {
    if text.is_empty() {
        return Err(Error::usage("an empty message is not sent"));
    }
    let room = core.room(room)?;
    let reply = reply_to.map(|name| core.message(&room, name)).transpose()?;
    let message = Message {
        text: bounded(&format!("message to room {}", room.label()), text)?,
        reply: reply.map(|row| row.entry()),
        mentions: core.named_in(&room, text)?,
    };
    said(core, &room, Body::Message(message))
}

pub(super) fn react(
    core: &Core,
    room: &str,
    message: &str,
    emoji: &str,
    remove: bool,
) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let row = core.message(&room, message)?;
    let own = core.look(|index| index.reactions(&row))?.into_iter();
    let mut own = own.filter(|one| one.agent == core.agent && one.emoji == emoji);
    let has = own.next();
    let reaction = match (has, remove) {
        (Some(_), false) => {
            return Err(
                Error::usage(format!("{emoji} by you is on {message} already"))
                    .hint("`kinlog react --remove` takes it back"),
            );
        }
        (None, true) => {
            return Err(Error::not_found(format!(
                "no {emoji} by you is on {message}"
            )));
        }
        (None, false) if emoji.is_empty() => {
            return Err(Error::usage("a reaction of nothing is not sent"));
        }
        (None, false) => Reaction::new(row.entry(), bounded("reaction", emoji)?, Vec::new()),
        (Some(one), true) => {
            let entries: Vec<Ref> = std::iter::once(one)
                .chain(own)
                .map(|one| one.entry)
                .take(kinlog_indexer::limits::REACTION_REMOVES_MAX)
                .collect();
            Reaction::new(row.entry(), Default::default(), entries)
        }
    };
    let reaction = reaction.map_err(|error| Error::usage(chain(&error)))?;
    said(core, &room, Body::Reaction(reaction))
}

pub(super) fn edit(core: &Core, room: &str, message: &str, text: &str) -> Result<Reply, Error> {
    if text.is_empty() {
        return Err(Error::usage("a message is not edited to nothing")
            .hint("`kinlog delete ROOM MESSAGE` deletes it"));
    }
    let room = core.room(room)?;
    let row = core.message(&room, message)?;
    if row.agent != core.agent {
        return Err(Error::permission(format!(
            "{message} is by {}: only its author edits it",
            name_of(core, &row)
        )));
    }
    if row.deleted.is_some() {
        return Err(Error::usage(format!("{message} was deleted")));
    }
    let edit = Edit {
        target: row.entry(),
        text: bounded(&format!("message to room {}", room.label()), text)?,
        mentions: core.named_in(&room, text)?,
    };
    said(core, &room, Body::Edit(edit))
}

/// Deletes a message with its edits: one's own as its author, another's by an act of the room.
pub(super) fn delete(core: &Core, room: &str, message: &str, reason: &str) -> Result<Reply, Error> {
    let room = core.room(room)?;
    let row = core.message(&room, message)?;
    let is_own = row.agent == core.agent;
    if !is_own && !may_delete(core, &room)? {
        return Err(Error::permission(format!(
            "{message} is by {}: only its author, an admin or an owner deletes it",
            name_of(core, &row)
        )));
    }
    let found = core.index(|index| index.to_delete(&row.entry()))?;
    let deleted = found
        .into_iter()
        .filter(|(agent, _)| !is_own || *agent == core.agent)
        .map(|(_, deleted)| deleted)
        .collect();
    let tombstone = Tombstone::new(deleted, bounded("reason", reason)?).map_err(|_| {
        Error::usage(format!("{message} was deleted")).hint("nothing of it is left here")
    })?;
    let body = match is_own {
        true => Body::Tombstone(tombstone),
        false => act(Deed::Delete(tombstone)),
    };
    said(core, &room, body)
}

/// What a reader of a room asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The newest so many messages alone.
    pub(super) last: Option<u64>,
    pub(super) watch: bool,
    pub(super) mentions: bool,
    /// Who is there and who types, while watching.
    pub(super) presence: bool,
}

pub(super) async fn read(
    core: &Arc<Core>,
    room: &str,
    asked: &Asked,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let room = core.room(room)?;
    let last = asked.last.map_or(MESSAGES_READ_MAX, |last| {
        usize::try_from(last).unwrap_or(usize::MAX)
    });
    let mut changes = core.changes();
    changes.borrow_and_update();
    let infos = messages(core, &room, asked.mentions).await?;
    let older = infos.len().saturating_sub(last);
    let mut seen: HashMap<_, MessageInfo> = HashMap::new();
    for (number, info) in infos.into_iter().enumerate() {
        seen.insert((info.key, info.index), info.clone());
        if number >= older {
            to.reply(Reply::Message(info)).await?;
        }
    }
    if !asked.watch {
        return Ok(());
    }
    let mut present = asked.presence.then(|| PresenceWatch::new(core, room.id));
    loop {
        let moved = async {
            match &mut present {
                Some(present) => present.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The agent is closed: there is nothing more to tell.
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            () = moved => {
                if let Some(present) = &mut present {
                    present.tell(core, to).await?;
                }
                continue;
            }
        }
        // Everything new is shown, wherever in the timeline it stands, and what changed.
        for info in messages(core, &room, asked.mentions).await? {
            let before = seen.insert((info.key, info.index), info.clone());
            if before.as_ref() != Some(&info) {
                let changed = before.is_some();
                to.reply(Reply::Message(MessageInfo { changed, ..info }))
                    .await?;
            }
        }
        // Who is no member any more is not there any more.
        if let Some(present) = &mut present {
            present.tell(core, to).await?;
        }
    }
}

async fn messages(
    core: &Arc<Core>,
    room: &KnownRoom,
    mentions: bool,
) -> Result<Vec<MessageInfo>, Error> {
    let room = room.clone();
    blocking(core, move |core| {
        let names = core.message_names(&room)?;
        core.look(|index| {
            let rows = if mentions {
                index.mentions(&room.id, &core.agent, MESSAGES_READ_MAX)?
            } else {
                index.messages(&room.id, MESSAGES_READ_MAX)?
            };
            let mut infos = Vec::with_capacity(rows.len());
            for row in rows {
                let mut reactions: BTreeMap<String, Vec<String>> = BTreeMap::new();
                let given = match row.has_reactions {
                    true => index.reactions(&row)?,
                    false => Vec::new(),
                };
                for one in given {
                    let name = core.called(&one.agent, one.display_name.as_deref());
                    let name = name.unwrap_or_else(|| one.agent.to_string());
                    let names = reactions.entry(one.emoji).or_default();
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                let reply_to = match &row.reply {
                    Some(reply) => {
                        let answered = index.message(reply)?.filter(|one| one.room == row.room);
                        let named = answered.as_ref().map(|one| name_of(core, one));
                        let text = answered.map(|one| one.text).unwrap_or_default();
                        Some(ReplyInfo {
                            id: names.name(reply),
                            author_name: named.unwrap_or_default(),
                            text: text.chars().take(REPLY_CHARACTERS_MAX).collect(),
                        })
                    }
                    None => None,
                };
                infos.push(MessageInfo {
                    id: names.name(&row.entry()),
                    room: room.label(),
                    author: row.agent.to_string(),
                    author_name: core
                        .called(&row.agent, row.display_name.as_deref())
                        .unwrap_or_default(),
                    text: row.text,
                    sent_at_ms: row.clock.ms,
                    clock_marked: row.clock_marked,
                    key: row.feed.into(),
                    index: row.index,
                    reply_to,
                    edited_at_ms: row.edited_at,
                    deleted: row.deleted.map(|(by, at_ms)| DeletedInfo {
                        by: by.to_string(),
                        at_ms,
                    }),
                    reactions: reactions
                        .into_iter()
                        .map(|(emoji, names)| ReactionInfo { emoji, names })
                        .collect(),
                    changed: false,
                });
            }
            Ok(infos)
        })
    })
    .await
}

fn said(core: &Core, room: &KnownRoom, body: Body) -> Result<Reply, Error> {
    let (own, appended) = core.say(room, body)?;
    core.typed(room);
    let entry = Ref {
        feed: own.key,
        // An epoch may stand before it: what was said is the last of what was written.
        index: appended.length.saturating_sub(1),
    };
    Ok(Reply::Sent {
        id: core.message_names(room)?.name(&entry),
        room: room.label(),
        key: own.key.into(),
        index: entry.index,
    })
}

/// Returns whether this device may delete what others said.
fn may_delete(core: &Core, room: &KnownRoom) -> Result<bool, Error> {
    use kinlog_indexer::entry::Role;

    let feeds = core.look(|index| index.member_feeds(&room.id))?;
    let mut own = feeds.iter().filter(|feed| feed.feed == room.entries);
    Ok(own.any(|feed| feed.role >= Some(Role::Admin)))
}

fn name_of(core: &Core, row: &MessageRow) -> String {
    core.called(&row.agent, row.display_name.as_deref())
        .unwrap_or_else(|| row.agent.to_string())
}

fn bounded<const MAX: usize>(what: &str, text: &str) -> Result<kinlog_indexer::Text<MAX>, Error> {
    text.try_into().map_err(|error| {
        Error::usage(format!("{what}: {error}")).hint("shorten it, or send it in parts")
    })
}
