//! From what people write to what it names.

use kinlog_feeds::FeedKey;
use kinlog_indexer::RoomId;
use kinlog_indexer::entry::PathKind;

use crate::api::Error;
use crate::core::Core;
use crate::knowledge::KnownRoom;
use crate::links::{FeedName, FeedPath, Link};
use crate::state::OwnFeed;

impl Core {
    /// Returns the key of the feed that a path of ours, a key or a link names.
    pub(crate) fn feed_key(&self, name: &str) -> Result<FeedKey, Error> {
        match name.parse::<FeedName>()? {
            FeedName::Key(key) => Ok(key),
            FeedName::Own(path) => self.own_key(&path),
            FeedName::Of(agent, path) if agent == self.agent => self.own_key(&path),
            FeedName::Of(agent, path) => {
                let line = self.knowledge(|knowledge| {
                    knowledge
                        .agents
                        .get(&agent)
                        .and_then(|known| known.line(&path).cloned())
                });
                line.map(|line| line.key).ok_or_else(|| {
                    Error::not_found(format!(
                        "agent {agent} lists no path {path} that is known here"
                    ))
                    .hint("follow the link first")
                })
            }
        }
    }

    /// Returns the feed that a path of this agent goes on in, whichever of its devices writes it.
    fn own_key(&self, path: &FeedPath) -> Result<FeedKey, Error> {
        let known = self.knowledge(|knowledge| {
            let own = knowledge.own_path(path);
            // Of a path that several devices write, this one's part.
            if let Some(own) = own.filter(|own| own.kind == PathKind::Shared) {
                return Some(own.key);
            }
            let line = knowledge.own_line(path).map(|line| line.key);
            line.or(own.map(|own| own.key))
        });
        match known {
            Some(key) => Ok(key),
            None => Ok(self.own_path(path)?.key),
        }
    }

    /// Returns the own feed at a path.
    pub(crate) fn own_path(&self, path: &FeedPath) -> Result<OwnFeed, Error> {
        self.knowledge(|knowledge| knowledge.own_path(path).cloned())
            .ok_or_else(|| {
                Error::not_found(format!("no path {path} here")).hint(format!(
                    "`kinlog feed create {path}` makes it, `kinlog feed list` shows all"
                ))
            })
    }

    /// Returns an own feed that a path or key names: one that can be appended to.
    pub(crate) fn own_feed(&self, name: &str) -> Result<OwnFeed, Error> {
        let key = self.feed_key(name)?;
        self.knowledge(|knowledge| knowledge.own.get(&key).cloned())
            .ok_or_else(|| {
                let elsewhere = self.knowledge(|knowledge| {
                    let public = knowledge
                        .listed(&key)
                        .filter(|(agent, _)| *agent == self.agent);
                    let line = public
                        .map(|(_, line)| line)
                        .or(knowledge.private_line(&key))?;
                    Some((line.path.clone(), knowledge.device_name(&line.device)))
                });
                match elsewhere {
                    Some((path, device)) => Error::permission(format!(
                        "path {path} is written by another device of yours, {device}"
                    ))
                    .hint(format!("`kinlog feed take {path}` goes on with it here")),
                    None => Error::permission(format!(
                        "feed {key} is not ours: only its author appends to it"
                    )),
                }
            })
    }

    /// Returns the room that a name, a code or an id names.
    pub(crate) fn room(&self, name: &str) -> Result<KnownRoom, Error> {
        let id = name.parse::<RoomId>().ok();
        let found: Vec<KnownRoom> = self.knowledge(|knowledge| {
            let rooms = knowledge.rooms.values();
            let is_meant = |room: &&KnownRoom| {
                Some(room.id) == id || room.name == name || room.id.code() == name
            };
            rooms.filter(is_meant).cloned().collect()
        });
        match found.as_slice() {
            [room] => Ok(room.clone()),
            [] => Err(Error::not_found(format!("no room {name:?} here"))
                .hint("`kinlog room list` shows all")),
            several => {
                let codes: Vec<String> = several.iter().map(|room| room.id.code()).collect();
                Err(
                    Error::usage(format!("{} rooms are called {name:?}", several.len()))
                        .hint(format!("name one by its code: {}", codes.join(", "))),
                )
            }
        }
    }

    /// Returns the room whose members meet by a key.
    pub(crate) fn room_met_by(&self, meet_key: &[u8; 32]) -> Option<KnownRoom> {
        self.knowledge(|knowledge| {
            let mut rooms = knowledge.rooms.values();
            rooms
                .find(|room| room.meet_keys().contains(meet_key))
                .cloned()
        })
    }

    /// Returns the link to an own public path, with the signal servers we are on.
    pub(crate) fn path_link(&self, path: &FeedPath) -> Result<String, Error> {
        let signal_urls = self.state.signals()?;
        let path = Some(path.clone());
        Ok(Link::Agent {
            agent: self.agent,
            path,
            signal_urls,
        }
        .to_string())
    }
}
