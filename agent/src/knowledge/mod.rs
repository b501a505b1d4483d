//! What the agent decides from, in memory: `state.db` and the public directories as the index has
//! them, read once and kept up to date, so that the network is answered without a disk.

mod agents;
mod grants;
mod own_epochs;
mod rooms;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, PublicKey};
use kinlog_indexer::RoomId;
use kinlog_indexer::entry::Ref;
use kinlog_indexer::seal::EpochId;
use kinlog_swarm::SessionId;

pub(crate) use agents::{KnownAgent, Line};
pub(crate) use grants::{GivenGrant, GrantStanding, ProvenGrant};
pub(crate) use own_epochs::OwnEpochs;
pub(crate) use rooms::{Keyring, KnownRoom};
pub(crate) use standing::{Announced, Gone, Granted, Member, MemberDevice, OpenInvite, Standing};

use crate::block_ranges::union;
use crate::core::Ranges;
use crate::limits::PAIR_TOPICS_MAX;
use crate::linking::{AnsweredLink, OpenLink};
use crate::links::FeedPath;
use crate::pairing::PairKeys;
use crate::rooms::Refusal;
use crate::sign_in::HeldSignIn;
use crate::state::{
    ClearedFeed, Deletion, FormerFeed, GivenClearings, HeldGrant, OpenJoin, OwnFeed, Pin,
    StoredAnswer,
};

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
    /// Private paths of all devices of this agent, by path.
    pub(crate) private_lines: Vec<Line>,
    /// Blocks that were read and deleted.
    pub(crate) deletions: BTreeMap<Ref, Deletion>,
    /// What agents say was cleared of their paths.
    pub(crate) said_cleared: BTreeMap<AgentId, Ranges>,
    /// What was noted of that, and of what givers of seed grants say.
    pub(crate) cleared: BTreeMap<FeedKey, ClearedFeed>,
    /// What givers of seed grants say was cleared.
    pub(crate) given_clearings: GivenClearings,
    pub(crate) own_epochs: OwnEpochs,
    /// Keys by which this device meets each of its siblings.
    pub(crate) pair_keys: BTreeMap<DeviceKey, [u8; 32]>,
    pub(crate) pins: Vec<Pin>,
    /// What this agent calls others, whatever they call themselves.
    pub(crate) petnames: BTreeMap<AgentId, String>,
    pub(crate) rooms: BTreeMap<RoomId, KnownRoom>,
    /// Open invites to our rooms, our own and those of other members.
    pub(crate) invites: BTreeMap<PublicKey, RoomId>,
    /// Joins that wait for a member.
    pub(crate) joins: Vec<OpenJoin>,
    /// Sign-in records that are held or wanted, by the agent that they add devices to.
    pub(crate) sign_ins: BTreeMap<AgentId, HeldSignIn>,
    /// What was answered to them, in the order in which it came; none of it is known to be true.
    pub(crate) answers: Vec<StoredAnswer>,
    /// Feeds of paths that end where their revoked device committed to them last, with that length.
    pub(crate) ended: BTreeMap<FeedKey, (AgentId, u64)>,
    /// Epochs in which this agent said its name since the start, by room.
    pub(crate) named_in: BTreeMap<RoomId, EpochId>,
    /// Why nobody was let in lately.
    pub(crate) refusals: BTreeMap<RoomId, Refusal>,
    /// Seed grants that this agent was given.
    pub(crate) held_grants: Vec<HeldGrant>,
    /// Seed grants that this device gave.
    pub(crate) given_grants: Vec<GivenGrant>,
    /// Grants that the other sides of sessions showed.
    pub(crate) proven: BTreeMap<SessionId, Vec<ProvenGrant>>,
    /// The wall clock at the last look, ms: grants expire.
    pub(crate) now_ms: u64,
    /// This device may not write any more.
    pub(crate) must_renew: bool,
    /// The code that is open for another device.
    pub(crate) link: Option<OpenLink>,
    /// The last code that let a device in.
    pub(crate) link_answered: Option<AnsweredLink>,
    /// Key of the code by which this one asks to be linked, and what it says.
    pub(crate) asks_link: Option<([u8; 32], Bytes)>,
    /// What the other side answered.
    pub(crate) link_answer: Option<Bytes>,
    /// Machines that are met by texts which were carried.
    pub(crate) pairs: PairKeys,
}

impl Knowledge {
    /// Returns what is known of an agent only by its name.
    pub(crate) fn new(agent: AgentId) -> Self {
        Knowledge {
            agent,
            own: BTreeMap::new(),
            former: BTreeMap::new(),
            agents: BTreeMap::new(),
            private_lines: Vec::new(),
            deletions: BTreeMap::new(),
            said_cleared: BTreeMap::new(),
            cleared: BTreeMap::new(),
            given_clearings: BTreeMap::new(),
            own_epochs: OwnEpochs::default(),
            pair_keys: BTreeMap::new(),
            pins: Vec::new(),
            petnames: BTreeMap::new(),
            rooms: BTreeMap::new(),
            invites: BTreeMap::new(),
            joins: Vec::new(),
            sign_ins: BTreeMap::new(),
            answers: Vec::new(),
            ended: BTreeMap::new(),
            named_in: BTreeMap::new(),
            refusals: BTreeMap::new(),
            held_grants: Vec::new(),
            given_grants: Vec::new(),
            proven: BTreeMap::new(),
            now_ms: 0,
            must_renew: false,
            link: None,
            link_answered: None,
            asks_link: None,
            link_answer: None,
            pairs: PairKeys::default(),
        }
    }

    /// Returns the own feed at a path.
    pub(crate) fn own_path(&self, path: &FeedPath) -> Option<&OwnFeed> {
        self.own
            .values()
            .find(|feed| feed.path.as_ref() == Some(path))
    }

    /// Returns this agent's devices with their X25519 keys.
    pub(crate) fn own_devices(&self) -> BTreeMap<DeviceKey, [u8; 32]> {
        let known = self.agents.get(&self.agent).into_iter();
        let devices = known.flat_map(|known| &known.identity.devices);
        let writers = devices.filter(|device| device.writes());
        writers.map(|device| (device.key, device.x25519)).collect()
    }

    /// Returns the private directories of this agent's devices, each with its device.
    pub(crate) fn private_directories(&self) -> Vec<(DeviceKey, FeedKey)> {
        let known = self.agents.get(&self.agent).into_iter();
        let devices = known.flat_map(KnownAgent::writers);
        let devices = devices.filter(|device| device.private_directory != FeedKey([0; 32]));
        devices
            .map(|device| (device.key, device.private_directory))
            .collect()
    }

    /// Returns the keys by which this agent's devices meet: of each pair, and with more siblings than
    /// [`PAIR_TOPICS_MAX`] of their epochs too.
    pub(crate) fn own_meet_keys(&self) -> BTreeSet<[u8; 32]> {
        let pairs = self.pair_keys.values().take(PAIR_TOPICS_MAX);
        let mut keys: BTreeSet<[u8; 32]> = pairs.copied().collect();
        if self.pair_keys.len() > PAIR_TOPICS_MAX {
            let epochs = self.own_epochs.known();
            keys.extend(epochs.map(|(_, epoch)| *epoch.secret.meet_key().expose()));
        }
        keys
    }

    /// Returns what a device of this agent is called.
    pub(crate) fn device_name(&self, device: &DeviceKey) -> String {
        let known = self.agents.get(&self.agent);
        let mut writers = known.into_iter().flat_map(KnownAgent::writers);
        let found = writers.find(|one| one.key == *device);
        found.map_or_else(
            || device.to_string()[..8].to_owned(),
            |one| one.name.clone(),
        )
    }

    /// Returns whether a feed is sealed for this agent's devices alone.
    pub(crate) fn is_private(&self, key: &FeedKey) -> bool {
        self.own.get(key).is_some_and(|own| own.is_private)
            || self.former.get(key).is_some_and(|former| former.is_private)
            || self.private_line(key).is_some()
            || self.private_directories().iter().any(|(_, one)| one == key)
    }

    /// Returns every feed that is sealed for this agent's devices.
    pub(crate) fn private_keys(&self) -> BTreeSet<FeedKey> {
        let own = self.own.values().filter(|own| own.is_private);
        let former = self.former.values().filter(|former| former.is_private);
        let mut keys: BTreeSet<FeedKey> = own.map(|own| own.key).collect();
        keys.extend(former.map(|former| former.key));
        keys.extend(self.private_lines.iter().map(|line| line.key));
        keys.extend(self.private_directories().into_iter().map(|(_, key)| key));
        keys
    }

    /// Returns the line in which a path of this agent goes on, public or private.
    pub(crate) fn own_line(&self, path: &FeedPath) -> Option<&Line> {
        let known = self.agents.get(&self.agent);
        let public = known.and_then(|known| known.line(path));
        let mut private = self.private_lines.iter();
        public.or_else(|| private.rfind(|line| line.is_called(path)))
    }

    /// Returns the line of a private feed.
    pub(crate) fn private_line(&self, key: &FeedKey) -> Option<&Line> {
        self.private_lines.iter().find(|line| line.key == *key)
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

    /// Takes the open invites of all rooms together.
    pub(crate) fn open_invites(&mut self) {
        let rooms = self.rooms.iter();
        self.invites = rooms
            .flat_map(|(id, room)| room.standing.invites.keys().map(|key| (*key, *id)))
            .collect();
    }

    /// Returns whether a feed is one that an answer to a join names.
    pub(crate) fn is_named(&self, key: &FeedKey) -> bool {
        let answers = self.answers.iter();
        let mut answered = answers.flat_map(|answer| &answer.feeds);
        answered.any(|feed| feed.key == *key)
    }

    /// Takes in which paths of an agent end for want of a device that vouches for more.
    pub(crate) fn note_ended(&mut self, agent: &AgentId) {
        self.ended.retain(|_, (of, _)| of != agent);
        let known = self.agents.get(agent).into_iter();
        let public = known.flat_map(|known| &known.lines);
        let private = self.private_lines.iter().filter(|_| *agent == self.agent);
        for line in public.chain(private).filter(|line| line.is_unvouched) {
            let cut = line.cut.unwrap_or(0);
            self.ended.insert(line.key, (*agent, cut));
        }
    }

    /// Returns how many blocks of a feed are accepted as its agent's: of a directory, or of a path, whose
    /// device was revoked; `None` for all, also those to come.
    pub(crate) fn accepted(&self, key: &FeedKey) -> Option<u64> {
        let mut directories = self.agents.values();
        let directory = directories.find_map(|known| known.accepted(key));
        directory.or_else(|| self.ended.get(key).map(|(_, cut)| *cut))
    }

    /// Returns the blocks of a feed that were cleared, ascending and apart.
    pub(crate) fn cleared_of(&self, key: &FeedKey) -> Vec<Range<u64>> {
        let cleared = self.cleared.get(key);
        union(cleared.map_or_else(Vec::new, ClearedFeed::ranges))
    }

    /// Returns the room a feed belongs to.
    pub(crate) fn room_of(&self, key: &FeedKey) -> Option<&KnownRoom> {
        self.rooms
            .values()
            .find(|room| room.feeds.contains_key(key))
    }
}
