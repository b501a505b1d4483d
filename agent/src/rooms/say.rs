//! Something said in a room, and the short names by which people say which.

use kinlog_feeds::crypto::AgentId;
use kinlog_feeds::store::Appended;
use kinlog_indexer::entry::{Body, Mentions, Ref};
use kinlog_indexer::index::MessageRow;

use crate::api::Error;
use crate::core::Core;
use crate::knowledge::KnownRoom;
use crate::state::OwnFeed;

/// Characters of a feed's key in the name of a message, at least.
const KEY_CHARACTERS_MIN: usize = 4;

/// Characters of an agent's id that name it after an `@`, at least.
const AGENT_CHARACTERS_MIN: usize = 8;

/// Names of a room's messages: the start of the feed's key, a slash, the index.
#[derive(Debug)]
pub(crate) struct MessageNames {
    keys: Vec<(String, kinlog_feeds::FeedKey)>,
}

impl MessageNames {
    /// Returns the shortest name that no other feed of the room begins with.
    pub(crate) fn name(&self, entry: &Ref) -> String {
        let key = entry.feed.to_string();
        let others = self.keys.iter().filter(|(_, feed)| *feed != entry.feed);
        let shared = others.map(|(other, _)| {
            let pairs = key.bytes().zip(other.bytes());
            pairs.take_while(|(one, other)| one == other).count()
        });
        let length = shared.max().unwrap_or(0) + 1;
        let length = length.max(KEY_CHARACTERS_MIN).min(key.len());
        format!("{}/{}", &key[..length], entry.index)
    }

    /// Returns the entry that a name, or a whole key with an index, names.
    pub(crate) fn entry(&self, name: &str) -> Result<Ref, Error> {
        let unreadable = || {
            Error::usage(format!("{name:?} names no message"))
                .hint("`kinlog read ROOM` shows each message's name, such as ybnd/12")
        };
        let (start, index) = name.rsplit_once('/').ok_or_else(unreadable)?;
        let index = index.parse().map_err(|_| unreadable())?;
        if start.is_empty() {
            return Err(unreadable());
        }
        let mut meant = self.keys.iter().filter(|(key, _)| key.starts_with(start));
        match (meant.next(), meant.next()) {
            (Some((_, feed)), None) => Ok(Ref { feed: *feed, index }),
            (None, _) => Err(Error::not_found(format!(
                "no feed of this room begins with {start:?}"
            ))),
            (Some(_), Some(_)) => Err(Error::usage(format!(
                "several feeds of this room begin with {start:?}"
            ))
            .hint("write more characters of the feed's key")),
        }
    }
}

impl Core {
    /// Writes something into a room; durable and indexed on return.
    pub(crate) fn say(&self, room: &KnownRoom, body: Body) -> Result<(OwnFeed, Appended), Error> {
        self.in_time(room)?;
        self.write_in_room(room, vec![body])
    }

    /// Returns how the messages of a room are named.
    pub(crate) fn message_names(&self, room: &KnownRoom) -> Result<MessageNames, Error> {
        let feeds = self.look(|index| index.member_feeds(&room.id))?;
        let keys = feeds
            .into_iter()
            .map(|row| (row.feed.to_string(), row.feed));
        Ok(MessageNames {
            keys: keys.collect(),
        })
    }

    /// Returns a message of a room by its name.
    pub(crate) fn message(&self, room: &KnownRoom, name: &str) -> Result<MessageRow, Error> {
        let entry = self.message_names(room)?.entry(name)?;
        let found = self.look(|index| index.message(&entry))?;
        found.ok_or_else(|| {
            Error::not_found(format!("no message {name} in room {} here", room.label()))
                .hint("`kinlog read ROOM` shows each message's name")
        })
    }

    /// Returns the members whom a text names: `@name`, where one member alone is called so, or `@`
    /// and the start of an agent id.
    pub(crate) fn named_in(&self, room: &KnownRoom, text: &str) -> Result<Mentions, Error> {
        let named: Vec<String> = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix('@'))
            .map(|word| {
                let end = |character: char| !character.is_alphanumeric();
                word.trim_end_matches(end).to_lowercase()
            })
            .filter(|word| !word.is_empty())
            .collect();
        if named.is_empty() {
            return Ok(Mentions::default());
        }
        let members = self.look(|index| index.room_members(&room.id))?;
        let agents = named.iter().filter_map(|word| {
            let mut meant = members.iter().filter(|member| {
                let said = member.display_name.as_deref();
                let name = self.called(&member.agent, said).unwrap_or_default();
                name.to_lowercase() == *word
                    || (word.len() >= AGENT_CHARACTERS_MIN
                        && member.agent.to_string().starts_with(word.as_str()))
            });
            match (meant.next(), meant.next()) {
                (Some(member), None) => Some(member.agent),
                _ => None,
            }
        });
        let agents: Vec<AgentId> = agents.collect();
        let count = agents.len();
        Mentions::new(agents)
            .ok_or_else(|| Error::usage(format!("{count} agents are more than a message names")))
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::FeedKey;

    use super::*;

    fn names(keys: &[[u8; 2]]) -> MessageNames {
        let key = |start: &[u8; 2]| {
            let mut key = [7; 32];
            key[..2].copy_from_slice(start);
            (FeedKey(key).to_string(), FeedKey(key))
        };
        MessageNames {
            keys: keys.iter().map(key).collect(),
        }
    }

    #[test]
    fn names_are_short_lead_back_and_tell_feeds_apart() {
        let names = names(&[[1, 1], [1, 1 ^ 0x10], [9, 9]]);
        for (_, feed) in &names.keys {
            let entry = Ref {
                feed: *feed,
                index: 12,
            };
            let name = names.name(&entry);
            assert!(name.len() <= 8, "{name}");
            assert_eq!(names.entry(&name).unwrap(), entry);
        }
        let all_share = "y";
        assert!(names.entry(&format!("{all_share}/1")).is_err());
        for nothing in [
            "", "/", "/3", "yyyy", "yyyy/", "yyyy/x", "yyyy/-1", "zzzz/1",
        ] {
            assert!(names.entry(nothing).is_err(), "{nothing}");
        }
    }
}
