//! From what people write to what it names.

use kinlog_feeds::FeedKey;
use kinlog_indexer::RoomId;

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
            FeedName::Own(path) => Ok(self.own_path(&path)?.key),
            FeedName::Of(agent, path) => {
                let line = self.knowledge(|knowledge| {
                    knowledge
                        .agents
                        .get(&agent)
                        .and_then(|known| known.line(&path).cloned())
                });
                let line = line.or_else(|| self.redirected(&agent, &path));
                line.map(|line| line.key).ok_or_else(|| {
                    Error::not_found(format!(
                        "agent {agent} lists no path {path} that is known here"
                    ))
                    .hint("follow the link first")
                })
            }
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
                Error::permission(format!(
                    "feed {key} is not ours: only its author appends to it"
                ))
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

    fn redirected(
        &self,
        agent: &kinlog_feeds::AgentId,
        path: &FeedPath,
    ) -> Option<crate::knowledge::Line> {
        let label = self
            .index(|index| index.redirect(agent, path.as_str()))
            .ok()
            .flatten()?;
        let path = label.parse().ok()?;
        self.knowledge(|knowledge| knowledge.agents.get(agent)?.line(&path).cloned())
    }
}
