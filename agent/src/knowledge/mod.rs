//! What the agent decides from, in memory: `state.db` and the public directories as the index has
//! them, read once and kept up to date, so that the network is answered without a disk.

mod agents;
mod rooms;

use std::collections::BTreeMap;

use kinlog_feeds::crypto::{AgentId, FeedKey, PublicKey};
use kinlog_indexer::RoomId;

pub(crate) use agents::{KnownAgent, Line};
pub(crate) use rooms::KnownRoom;

use crate::links::FeedPath;
use crate::state::{FormerFeed, OpenJoin, OwnFeed, Pin};

/// Everything policy is decided from.
#[derive(Debug)]
pub(crate) struct Knowledge {
    /// This agent.
    pub(crate) agent: AgentId,
    /// Feeds this device signs.
    pub(crate) own: BTreeMap<FeedKey, OwnFeed>,
    /// Feeds that earlier devices of this home signed.
    pub(crate) former: BTreeMap<FeedKey, FormerFeed>,
    /// Agents whose identity set is held, this one included.
    pub(crate) agents: BTreeMap<AgentId, KnownAgent>,
    pub(crate) pins: Vec<Pin>,
    pub(crate) rooms: BTreeMap<RoomId, KnownRoom>,
    /// Open invites to our rooms, our own and those of other members.
    pub(crate) invites: BTreeMap<PublicKey, RoomId>,
    /// Joins that wait for a member.
    pub(crate) joins: Vec<OpenJoin>,
    /// This device may not write any more.
    pub(crate) must_renew: bool,
}

impl Knowledge {
    /// Returns what is known of an agent only by its name.
    pub(crate) fn new(agent: AgentId) -> Self {
        Knowledge {
            agent,
            own: BTreeMap::new(),
            former: BTreeMap::new(),
            agents: BTreeMap::new(),
            pins: Vec::new(),
            rooms: BTreeMap::new(),
            invites: BTreeMap::new(),
            joins: Vec::new(),
            must_renew: false,
        }
    }

    /// Returns the own feed at a path.
    pub(crate) fn own_path(&self, path: &FeedPath) -> Option<&OwnFeed> {
        self.own
            .values()
            .find(|feed| feed.path.as_ref() == Some(path))
    }

    /// Returns the author of a public feed with its line, when a directory we hold lists it.
    pub(crate) fn listed(&self, key: &FeedKey) -> Option<(AgentId, &Line)> {
        self.agents.iter().find_map(|(agent, known)| {
            known
                .lines
                .iter()
                .find(|line| line.key == *key)
                .map(|line| (*agent, line))
        })
    }

    /// Returns the agent whose public directory a feed is.
    pub(crate) fn directory_of(&self, key: &FeedKey) -> Option<AgentId> {
        let known = self
            .agents
            .iter()
            .find(|(_, known)| known.directories().any(|one| one == *key));
        known.map(|(agent, _)| *agent)
    }

    /// Returns the room a feed belongs to.
    pub(crate) fn room_of(&self, key: &FeedKey) -> Option<&KnownRoom> {
        self.rooms
            .values()
            .find(|room| room.feeds.contains_key(key))
    }
}
