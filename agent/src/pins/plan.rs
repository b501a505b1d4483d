//! Which topics to join, which blocks of which feeds to fetch, what each session may have, and why.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::FeedKey;
use kinlog_feeds::replicate::{Interest, Want};
use kinlog_swarm::Label;

use crate::api::Selection;
use crate::host::View;
use crate::knowledge::{Knowledge, KnownAgent, Line};
use crate::limits::{JOIN_BLOCKS_MAX, MEET_EPOCHS_MAX};
use crate::links::FeedPath;
use crate::pins::Asked;
use crate::pins::interest::merge;
use crate::pins::trie::Trie;
use crate::state::{Pin, PinTarget};

/// What follows from everything known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Topics to be in.
    pub(crate) topics: BTreeSet<(Label, [u8; 32])>,
    /// Feeds of others to have in the store, and what to fetch of each.
    pub(crate) interests: BTreeMap<FeedKey, Interest>,
    /// Single asks behind each interest.
    pub(crate) asked: BTreeMap<FeedKey, Vec<Asked>>,
    /// Why each feed is stored, one sentence each.
    pub(crate) why: BTreeMap<FeedKey, Vec<String>>,
    /// What each feed of others is to this agent.
    pub(crate) roles: BTreeMap<FeedKey, Role>,
    /// Feeds whose documents are read for links, and how many times these are followed.
    pub(crate) deep: BTreeMap<FeedKey, Deep>,
    /// Feeds of which a number of bytes is kept: what is older goes.
    pub(crate) bounded: BTreeSet<FeedKey>,
    /// Feeds that are kept by a seed grant.
    pub(crate) granted: BTreeSet<FeedKey>,
    /// What each session may have, and what is wanted through it.
    pub(crate) view: View,
}

/// What a feed of others is to this agent; of several the first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Role {
    /// Another device of this agent writes or wrote it.
    Device,
    /// Somebody said that it is to be kept.
    Pinned,
    /// It is read here.
    Followed,
    /// It is kept for others.
    Seeded,
}

impl Role {
    /// Returns the word that people use.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Role::Device => "device",
            Role::Pinned => "pinned",
            Role::Followed => "followed",
            Role::Seeded => "seeded",
        }
    }

    /// Returns what a pin makes of the feeds that it covers.
    pub(crate) fn of(pin: &Pin) -> Self {
        match pin.reason.as_str() {
            "follow" => Role::Followed,
            "seed" => Role::Seeded,
            _ => Role::Pinned,
        }
    }
}

/// How the links of a feed's documents are followed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Deep {
    /// How many times.
    pub(crate) depth: u8,
    /// The pin that says so.
    pub(crate) pin: Pin,
}

/// What is known of feeds beside what the plan is made from.
pub(crate) trait FeedFacts {
    /// Returns the blocks known of a feed.
    fn length(&self, feed: &FeedKey) -> u64;

    /// Returns what a selection by time or size is in blocks; any other as it is.
    fn resolve(&self, feed: &FeedKey, selection: &Selection) -> Selection;
}

impl<F: Fn(&FeedKey) -> u64> FeedFacts for F {
    fn length(&self, feed: &FeedKey) -> u64 {
        self(feed)
    }

    fn resolve(&self, _feed: &FeedKey, selection: &Selection) -> Selection {
        selection.clone()
    }
}

/// Switches that tests turn, to show that they would notice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Switches {
    /// Wants every listed feed of a pinned agent, pinned or not.
    pub(crate) without_pin_filter: bool,
}

/// Decides everything anew; `linked` are pins that follow from links in documents.
pub(crate) fn plan(
    knowledge: &Knowledge,
    linked: &[Pin],
    switches: Switches,
    facts: &impl FeedFacts,
) -> Plan {
    let mut planning = Planning {
        knowledge,
        private: knowledge.private_keys(),
        plan: Plan::default(),
    };
    planning.own_feeds();
    planning.former_feeds();
    planning.siblings();
    let pins: Vec<&Pin> = knowledge.pins.iter().chain(linked).collect();
    for pin in &pins {
        planning.pin(pin);
    }
    planning.subscriptions(&pins, switches);
    planning.rooms();
    planning.answers();
    planning.seeding();
    planning.seeders();
    planning.invites();
    planning.codes();
    planning.sign_ins();
    let mut plan = planning.plan;
    for (key, asked) in &mut plan.asked {
        for one in asked.iter_mut() {
            if matches!(one.selection, Selection::Newest(_)) {
                plan.bounded.insert(*key);
            }
            one.selection = facts.resolve(key, &one.selection);
        }
        if asked.len() > 1 {
            plan.bounded.remove(key);
        }
        plan.interests.insert(*key, merge(asked, facts.length(key)));
    }
    // Of what this device writes only heads are asked for: a newer one than ours says that it is not
    // the only writer, or not the newest. Then what it lacks is fetched like anybody else's.
    let own = match knowledge.must_renew {
        true => Want::All,
        false => Want::None,
    };
    for key in knowledge.own.keys() {
        let (want, live) = (own.clone(), true);
        plan.interests.insert(*key, Interest { want, live });
    }
    plan
}

/// Returns the public lines of an agent that a pinned path covers; without a path all.
pub(crate) fn covered<'a>(
    known: &'a KnownAgent,
    path: Option<&'a FeedPath>,
) -> impl Iterator<Item = &'a Line> {
    let lines = known.lines.iter();
    lines.filter(move |line| path.is_none_or(|path| line.is_covered_by(path)))
}

/// Returns whether a feed that another agent lists may be served to whoever knows that agent's id.
/// It may list any key: listing that of a room's feed, or of a feed of ours, does not publish it.
fn is_public(knowledge: &Knowledge, private: &BTreeSet<FeedKey>, key: &FeedKey) -> bool {
    !private.contains(key) && !knowledge.own.contains_key(key) && knowledge.room_of(key).is_none()
}

pub(super) struct Planning<'a> {
    pub(super) knowledge: &'a Knowledge,
    /// Feeds that are sealed for this agent's devices.
    private: BTreeSet<FeedKey>,
    pub(super) plan: Plan,
}

impl Planning<'_> {
    fn own_feeds(&mut self) {
        let agent = self.knowledge.agent;
        self.plan.topics.insert((Label::Agent, agent.0));
        let offered = self.plan.view.agents.entry(agent.0).or_default();
        if let Some(known) = self.knowledge.agents.get(&agent) {
            offered.identity = Some((known.identity.hash, known.set.clone()));
            // What other devices of this agent say of it is learned from whoever holds it.
            offered.is_followed = true;
            for key in known.directories() {
                if !self.knowledge.own.contains_key(&key)
                    && !self.knowledge.former.contains_key(&key)
                {
                    offered.serves.insert(key);
                    offered.wants.insert(key);
                    let whole = Asked {
                        selection: Selection::All,
                        live: true,
                    };
                    self.plan.asked.entry(key).or_default().push(whole);
                    let why = "public directory of another device of this agent".to_owned();
                    self.plan.why.entry(key).or_default().push(why);
                }
            }
        }
        for feed in self.knowledge.own.values() {
            // One that this device wrote before another went on with its path.
            let listed = self.knowledge.listed(&feed.key);
            let listed = listed.map(|(_, line)| line.path.clone());
            let why = if feed.is_private {
                // Served to siblings alone: see there.
                match &feed.path {
                    Some(path) => format!("own private path {path}"),
                    None => "own private directory".to_owned(),
                }
            } else if let Some(path) = feed.path.as_ref().or(listed.as_ref()) {
                offered.serves.insert(feed.key);
                offered.wants.insert(feed.key);
                format!("own path {path}")
            } else if feed.is_plain {
                self.plan.topics.insert((Label::Feed, feed.key.0));
                let offered = self.plan.view.feeds.entry(feed.key.0).or_default();
                (offered.serves, offered.wants) = (true, true);
                "own plain feed".to_owned()
            } else if self.knowledge.directory_of(&feed.key) == Some(agent) {
                offered.serves.insert(feed.key);
                offered.wants.insert(feed.key);
                "own public directory".to_owned()
            } else {
                continue;
            };
            self.plan.why.entry(feed.key).or_default().push(why);
        }
    }

    /// What earlier devices of this home wrote is kept whole and served on, as far as others have it:
    /// what they were never shown stays here.
    fn former_feeds(&mut self) {
        let agent = self.knowledge.agent;
        for feed in self.knowledge.former.values() {
            let is_directory = self.knowledge.directory_of(&feed.key) == Some(agent);
            let is_private = self.private.contains(&feed.key);
            let what = match &feed.path {
                None if is_private => {
                    "private directory of an earlier device of this home".to_owned()
                }
                Some(path) => format!("path {path} of an earlier device of this home"),
                None if is_directory => "directory of an earlier device of this home".to_owned(),
                None => continue,
            };
            if feed.has_unpublished() {
                let why = format!("{what}; its newest blocks were never published and stay here");
                self.plan.why.entry(feed.key).or_default().push(why);
                continue;
            }
            if !is_private {
                let offered = self.plan.view.agents.entry(agent.0).or_default();
                offered.serves.insert(feed.key);
                offered.wants.insert(feed.key);
            }
            self.plan.roles.insert(feed.key, Role::Device);
            self.ask(feed.key, Selection::All, true, &what);
        }
    }

    /// The agent's devices meet by the keys that only they know, and keep each other's directories whole,
    /// the private ones too. What is private is served there and nowhere else.
    fn siblings(&mut self) {
        let knowledge = self.knowledge;
        let agent = knowledge.agent;
        let devices = knowledge.own_devices();
        let own = knowledge.own.values().filter(|feed| feed.is_private);
        let former = knowledge.former.values();
        let former = former.filter(|feed| feed.is_private && !feed.has_unpublished());
        let mut private: BTreeSet<FeedKey> = own.map(|feed| feed.key).collect();
        private.extend(former.map(|feed| feed.key));
        for (device, key) in knowledge.private_directories() {
            private.insert(key);
            if !knowledge.former.contains_key(&key) {
                let name = knowledge.device_name(&device);
                self.ask(
                    key,
                    Selection::All,
                    true,
                    &format!("private directory of own {name}"),
                );
            }
        }
        private.extend(knowledge.private_lines.iter().map(|line| line.key));
        if let Some(known) = knowledge.agents.get(&agent) {
            let offered = self.plan.view.agents.entry(agent.0).or_default();
            // A sibling may know of more devices.
            offered.is_followed = true;
            for writer in known.writers() {
                let key = writer.directory;
                if knowledge.own.contains_key(&key) || knowledge.former.contains_key(&key) {
                    continue;
                }
                let offered = self.plan.view.agents.entry(agent.0).or_default();
                offered.serves.insert(key);
                offered.wants.insert(key);
                let why = format!(
                    "public directory of own {}",
                    knowledge.device_name(&writer.key)
                );
                self.ask(key, Selection::All, true, &why);
            }
        }
        if devices.len() < 2 {
            return;
        }
        for meet_key in knowledge.own_meet_keys() {
            self.plan.topics.insert((Label::Room, meet_key));
            let offered = self.plan.view.rooms.entry(meet_key).or_default();
            offered.devices.extend(devices.keys());
            offered.serves.extend(&private);
            offered.wants.extend(&private);
        }
    }

    /// What a pin asks for whatever its agent lists.
    fn pin(&mut self, pin: &Pin) {
        match &pin.target {
            PinTarget::Feed(key) => {
                self.plan.topics.insert((Label::Feed, key.0));
                let offered = self.plan.view.feeds.entry(key.0).or_default();
                (offered.serves, offered.wants) = (true, true);
                self.note(*key, pin);
                self.ask(
                    *key,
                    pin.selection.clone(),
                    pin.live,
                    &format!("feed pinned ({}): {}", pin.reason, pin.selection),
                );
            }
            PinTarget::Path(agent, path) if *agent == self.knowledge.agent => {
                self.own_path(pin, path.as_ref());
            }
            PinTarget::Path(agent, _) => {
                self.plan.topics.insert((Label::Agent, agent.0));
                let offered = self.plan.view.agents.entry(agent.0).or_default();
                offered.is_followed = true;
                if let Some(known) = self.knowledge.agents.get(agent) {
                    offered.identity = Some((known.identity.hash, known.set.clone()));
                    self.directories(known, pin);
                }
            }
        }
    }

    /// Asks for the feeds of each listed path what the pins that cover it say: one walk a path.
    fn subscriptions(&mut self, pins: &[&Pin], switches: Switches) {
        let knowledge = self.knowledge;
        let (mut trie, mut agents) = (Trie::default(), BTreeSet::new());
        for pin in pins {
            match &pin.target {
                PinTarget::Path(agent, path) if *agent != knowledge.agent => {
                    let path = path.as_ref().filter(|_| !switches.without_pin_filter);
                    trie.insert(agent, path, *pin);
                    agents.insert(*agent);
                }
                _ => {}
            }
        }
        for agent in &agents {
            let Some(known) = knowledge.agents.get(agent) else {
                continue;
            };
            for line in &known.lines {
                let mut covering = trie.covering(agent, &line.path);
                for former in &line.former {
                    let led = trie.covering(agent, former);
                    covering.extend(led.into_iter().filter(|pin| {
                        // One that covers the label of now is found already.
                        !matches!(&pin.target, PinTarget::Path(_, Some(path)) if path.covers(&line.path))
                    }));
                }
                if covering.is_empty() || !is_public(knowledge, &self.private, &line.key) {
                    continue;
                }
                let offered = self.plan.view.agents.entry(agent.0).or_default();
                offered.serves.insert(line.key);
                offered.wants.insert(line.key);
                for pin in covering {
                    let Some(selection) = line.selection(&pin.selection) else {
                        continue;
                    };
                    let name = known.label();
                    let why = format!(
                        "path {} of {name} pinned ({}): {selection}",
                        line.path, pin.reason
                    );
                    self.note(line.key, pin);
                    self.ask(line.key, selection, pin.live, &why);
                }
            }
        }
    }

    /// Notes what a feed is by a pin, and how far its links are followed.
    fn note(&mut self, key: FeedKey, pin: &Pin) {
        let role = Role::of(pin);
        let known = self.plan.roles.entry(key).or_insert(role);
        *known = (*known).min(role);
        let deeper = self
            .plan
            .deep
            .get(&key)
            .is_none_or(|deep| deep.depth < pin.depth);
        if pin.depth > 0 && deeper {
            let (depth, pin) = (pin.depth, pin.clone());
            self.plan.deep.insert(key, Deep { depth, pin });
        }
    }

    /// A path of this agent that another of its devices writes.
    fn own_path(&mut self, pin: &Pin, path: Option<&FeedPath>) {
        let knowledge = self.knowledge;
        let agent = knowledge.agent;
        let public = knowledge.agents.get(&agent).into_iter();
        let public = public.flat_map(|known| known.lines.iter().map(|line| (line, false)));
        let private = knowledge.private_lines.iter().map(|line| (line, true));
        for (line, is_private) in public.chain(private) {
            let is_here =
                knowledge.own.contains_key(&line.key) || knowledge.former.contains_key(&line.key);
            if is_here || !path.is_none_or(|path| line.is_covered_by(path)) {
                continue;
            }
            if !is_private {
                let offered = self.plan.view.agents.entry(agent.0).or_default();
                offered.serves.insert(line.key);
                offered.wants.insert(line.key);
            }
            let Some(selection) = line.selection(&pin.selection) else {
                continue;
            };
            let why = format!(
                "path {} of own {} pinned ({}): {selection}",
                line.path,
                knowledge.device_name(&line.device),
                pin.reason
            );
            self.plan.roles.insert(line.key, Role::Device);
            self.ask(line.key, selection, pin.live, &why);
        }
    }

    /// Whoever pins a path keeps all public directories of its agent whole.
    fn directories(&mut self, known: &KnownAgent, pin: &Pin) {
        let knowledge = self.knowledge;
        let agent = known.identity.agent;
        let private = self.private.clone();
        let directories = known.directories();
        for key in directories.filter(|key| is_public(knowledge, &private, key)) {
            let offered = self.plan.view.agents.entry(agent.0).or_default();
            offered.serves.insert(key);
            offered.wants.insert(key);
            let whole = Asked {
                selection: Selection::All,
                live: true,
            };
            let asked = self.plan.asked.entry(key).or_default();
            if !asked.contains(&whole) {
                asked.push(whole);
                let why = format!(
                    "public directory of {}, of whom a path is pinned ({})",
                    known.label(),
                    pin.reason
                );
                self.plan.why.entry(key).or_default().push(why);
            }
        }
    }

    pub(super) fn ask(&mut self, key: FeedKey, selection: Selection, live: bool, why: &str) {
        if self.knowledge.own.contains_key(&key) {
            return;
        }
        let asked = Asked { selection, live };
        self.plan.asked.entry(key).or_default().push(asked);
        self.plan.why.entry(key).or_default().push(why.to_owned());
    }

    fn rooms(&mut self) {
        for room in self.knowledge.rooms.values() {
            let mut devices = room.devices();
            if room.standing.history.is_none() {
                // Nothing of it is here yet: whom a sibling named, and siblings, are believed to be in it.
                devices.extend(self.knowledge.own_devices().into_keys());
                devices.extend(room.feeds.values().map(|feed| feed.device));
            }
            for meet_key in room.meet_keys() {
                self.plan.topics.insert((Label::Room, meet_key));
                let offered = self.plan.view.rooms.entry(meet_key).or_default();
                offered.devices.extend(&devices);
                offered.serves.extend(room.feeds.keys());
                offered.wants.extend(room.feeds.keys());
            }
            for feed in room.feeds.values() {
                let is_own = self.knowledge.own.contains_key(&feed.key);
                let what = if feed.is_entries { "entries" } else { "files" };
                let whose = if is_own { "own" } else { "a member's" };
                let why = format!("{whose} {what} in room {}", room.label());
                self.plan.why.entry(feed.key).or_default().push(why);
                if !is_own {
                    let asked = self.plan.asked.entry(feed.key).or_default();
                    // Files are fetched one by one; their feed is only known and followed.
                    if feed.is_entries {
                        asked.push(Asked {
                            selection: Selection::All,
                            live: true,
                        });
                    }
                }
            }
        }
    }

    /// Holders of a sign-in record meet in the topic of its code, and give it to who comes there.
    fn sign_ins(&mut self) {
        let knowledge = self.knowledge;
        let own = knowledge.agents.get(&knowledge.agent);
        let devices = own.into_iter().flat_map(|known| &known.identity.devices);
        let others =
            devices.filter(|one| one.writes() && !knowledge.own.contains_key(&one.directory));
        self.plan.view.siblings = others.map(|one| one.key).collect();
        for (agent, held) in &knowledge.sign_ins {
            let identity = knowledge.agents.get(agent).map(|known| &known.identity);
            // What its agent took back is given to nobody.
            let standing = held
                .record
                .as_ref()
                .filter(|record| identity.is_some_and(|identity| record.stands(identity).is_ok()));
            let record = standing.map(|record| (record.counter, record.encode().into()));
            if *agent == knowledge.agent {
                self.plan.view.own_sign_in.clone_from(&record);
            }
            self.plan.topics.insert((Label::Code, held.meet_key));
            self.plan.view.sign_ins.insert(held.meet_key, record);
        }
    }

    /// What an answer to a join names is fetched as far as it takes to see whether it is true.
    fn answers(&mut self) {
        for answer in &self.knowledge.answers {
            let devices: BTreeSet<_> = answer.feeds.iter().map(|feed| feed.device).collect();
            let secrets = answer.keys.secrets.iter().take(MEET_EPOCHS_MAX);
            for meet_key in secrets.map(|secret| *secret.meet_key().expose()) {
                self.plan.topics.insert((Label::Room, meet_key));
                let offered = self.plan.view.rooms.entry(meet_key).or_default();
                offered.devices.extend(&devices);
                offered.devices.insert(answer.device);
                let entries = answer.feeds.iter().filter(|feed| feed.is_entries);
                offered.wants.extend(entries.map(|feed| feed.key));
            }
            for feed in answer.feeds.iter().filter(|feed| feed.is_entries) {
                let why = "named in an answer to a join that is being looked into";
                let first = Selection::Range(0..JOIN_BLOCKS_MAX);
                self.ask(feed.key, first, true, why);
            }
        }
    }

    fn invites(&mut self) {
        for key in self.knowledge.invites.keys() {
            self.plan.topics.insert((Label::Invite, key.0));
            self.plan.view.invites.insert(key.0);
        }
        for join in &self.knowledge.joins {
            self.plan
                .topics
                .insert((Label::Invite, join.invite.public_key().0));
        }
    }

    /// The topics of codes: one that is shown, and one that is asked by.
    fn codes(&mut self) {
        if let Some(link) = &self.knowledge.link {
            let key = link.code.public_key().0;
            self.plan.topics.insert((Label::Code, key));
            self.plan.view.codes.insert(key);
        }
        if let Some((key, _)) = &self.knowledge.asks_link {
            self.plan.topics.insert((Label::Code, *key));
        }
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{AgentId, DeviceKey, KeyPair, Secret};
    use kinlog_indexer::RoomId;
    use kinlog_indexer::entry::{PathKind, Role};
    use kinlog_indexer::identity::{DeviceCard, IdentitySet, Powers};
    use kinlog_indexer::seal::EpochSecret;

    use super::*;
    use crate::knowledge::KnownRoom;
    use crate::knowledge::{Member, MemberDevice};
    use crate::links::Invite;
    use crate::rooms::RoomFeed;
    use crate::state::{OpenJoin, OwnFeed};

    const OWN: u8 = 1;
    const OTHER: u8 = 2;

    /// An agent whose directory is feed `100 + number`, with feeds `10 * number + n` at the paths.
    fn known(number: u8, paths: &[&str]) -> KnownAgent {
        let root = KeyPair::from_seed(&[number; 32]);
        let agent = AgentId(root.public_key().0);
        let pair = KeyPair::from_seed(&[number + 100; 32]);
        let device = DeviceKey(pair.public_key().0);
        let directory = key(100 + number);
        let card = DeviceCard::sign(&agent, &pair, [number; 32], directory, FeedKey([0; 32]));
        let set = IdentitySet::begin(
            &root,
            card,
            Powers::ALL,
            "laptop".try_into().expect("short"),
        );
        let mut known = KnownAgent::verify(&agent, set.encode()).expect("holds");
        known.lines = (10 * number..)
            .zip(paths)
            .map(|(feed, path)| Line {
                path: path.parse().expect("valid"),
                former: Vec::new(),
                key: key(feed),
                device,
                is_entries: false,
                kind: PathKind::Log,
                start: 0,
                cut: None,
            })
            .collect();
        known
    }

    fn key(number: u8) -> FeedKey {
        FeedKey([number; 32])
    }

    fn own_feed(number: u8, path: Option<&str>, is_plain: bool) -> (FeedKey, OwnFeed) {
        let feed = OwnFeed {
            key: key(number),
            id: [number; 16],
            path: path.map(|path| path.parse().expect("valid")),
            is_entries: false,
            is_plain,
            ..OwnFeed::entries(key(number), [number; 16])
        };
        (feed.key, feed)
    }

    fn knowledge() -> Knowledge {
        let own = known(OWN, &["/mine"]);
        let other = known(OTHER, &["/paths/a", "/paths/b", "/notes"]);
        let mut knowledge = Knowledge::new(own.identity.agent);
        knowledge.own = [
            own_feed(10, Some("/mine"), false),
            own_feed(100 + OWN, None, false),
            own_feed(90, None, true),
        ]
        .into();
        for agent in [own, other] {
            knowledge.agents.insert(agent.identity.agent, agent);
        }
        knowledge
    }

    fn other(knowledge: &Knowledge) -> AgentId {
        let agents = knowledge.agents.keys().copied();
        agents
            .into_iter()
            .find(|agent| *agent != knowledge.agent)
            .expect("two agents")
    }

    fn pin(target: PinTarget, selection: Selection) -> Pin {
        let (tier, reason) = ("gift".to_owned(), "follow".to_owned());
        Pin {
            target,
            selection,
            live: true,
            tier,
            reason,
            depth: 0,
        }
    }

    fn of(knowledge: &Knowledge) -> Plan {
        plan(knowledge, &[], Switches::default(), &|_: &FeedKey| 50)
    }

    #[test]
    fn an_agent_that_pins_nothing_serves_its_own_and_asks_for_heads_of_it_only() {
        let knowledge = knowledge();
        let plan = of(&knowledge);
        let expected = [(Label::Agent, knowledge.agent.0), (Label::Feed, [90; 32])];
        assert_eq!(plan.topics, expected.into());
        let heads = Interest {
            want: Want::None,
            live: true,
        };
        let own = [10, 90, 100 + OWN].map(|number| (key(number), heads.clone()));
        assert_eq!(plan.interests, own.into());
        let offered = &plan.view.agents[&knowledge.agent.0];
        assert_eq!(offered.serves, [key(10), key(100 + OWN)].into());
        assert_eq!(offered.wants, offered.serves);
        assert!(
            offered.is_followed,
            "a device of ours may know of more devices"
        );
        assert!(plan.view.feeds[&[90; 32]].serves);
    }

    #[test]
    fn a_device_that_may_not_write_fetches_what_others_have_of_its_feeds() {
        let mut knowledge = knowledge();
        knowledge.must_renew = true;
        let plan = of(&knowledge);
        assert!(plan.interests.values().all(|one| one.want == Want::All));
        assert_eq!(plan.interests.len(), 3);
    }

    #[test]
    fn a_pinned_path_brings_its_feed_the_directory_and_nothing_else() {
        let mut knowledge = knowledge();
        let agent = other(&knowledge);
        let path = Some("/paths/a".parse().expect("valid"));
        knowledge.pins = vec![pin(PinTarget::Path(agent, path), Selection::Last(7))];
        let plan = of(&knowledge);
        assert!(plan.topics.contains(&(Label::Agent, agent.0)));
        assert!(
            !plan.topics.contains(&(Label::Feed, [20; 32])),
            "no topic of the feed itself"
        );
        let wants: Vec<_> = plan
            .interests
            .iter()
            .filter(|(key, _)| !knowledge.own.contains_key(*key))
            .map(|(key, interest)| (*key, interest.want.clone()))
            .collect();
        assert_eq!(
            wants,
            [(key(20), Want::Last(7)), (key(100 + OTHER), Want::All)]
        );
        let offered = &plan.view.agents[&agent.0];
        assert_eq!(offered.serves, [key(20), key(100 + OTHER)].into());
        assert_eq!(offered.serves, offered.wants);
        assert!(offered.is_followed && offered.identity.is_some());
        assert!(plan.why[&key(20)][0].contains("/paths/a"));
    }

    /// A room of ours with the feeds 60 (entries) and 61 (files) of another member.
    fn room(epoch: &EpochSecret) -> KnownRoom {
        let feed = |number: u8, is_entries| RoomFeed {
            key: key(number),
            agent: AgentId([number; 32]),
            device: DeviceKey([number; 32]),
            is_entries,
        };
        let mut room = KnownRoom {
            feeds: [feed(60, true), feed(61, false)]
                .map(|feed| (feed.key, feed))
                .into(),
            ..KnownRoom::new(RoomId([5; 32]), "family", key(10))
        };
        room.keys.add_secret(epoch.clone());
        room.standing.history = Some(kinlog_indexer::entry::History::Full);
        for number in [60, 61] {
            let device = MemberDevice {
                entries: key(60),
                blobs: key(61),
                x25519: [0; 32],
            };
            let member = Member {
                role: Role::Member,
                devices: [(DeviceKey([number; 32]), device)].into(),
            };
            room.standing.members.insert(AgentId([number; 32]), member);
        }
        room
    }

    #[test]
    fn listing_a_feed_of_a_room_or_of_ours_does_not_publish_it() {
        let mut knowledge = knowledge();
        let room = room(&EpochSecret::new([9; 32]));
        knowledge.rooms.insert(room.id, room);
        knowledge.own.extend([own_feed(70, None, false)]);
        let agent = other(&knowledge);
        let listed = knowledge.agents.get_mut(&agent).expect("known");
        for (line, stolen) in listed.lines.iter_mut().zip([60, 61, 70]) {
            line.key = key(stolen);
        }
        knowledge.pins = vec![pin(PinTarget::Path(agent, None), Selection::All)];
        let plan = of(&knowledge);
        let offered = &plan.view.agents[&agent.0];
        assert_eq!(offered.serves, [key(100 + OTHER)].into());
        assert_eq!(offered.serves, offered.wants);

        let room = knowledge.rooms.values_mut().next().expect("one");
        let feed = RoomFeed {
            key: key(100 + OTHER),
            ..room.feeds[&key(60)].clone()
        };
        room.feeds.insert(feed.key, feed);
        assert!(of(&knowledge).view.agents[&agent.0].serves.is_empty());
    }

    #[test]
    fn a_prefix_covers_what_lies_below_and_the_switch_everything() {
        let mut knowledge = knowledge();
        let agent = other(&knowledge);
        let path = Some("/paths".parse().expect("valid"));
        knowledge.pins = vec![pin(PinTarget::Path(agent, path), Selection::All)];
        let feeds = |plan: Plan| plan.asked.into_keys().collect::<Vec<_>>();
        assert_eq!(feeds(of(&knowledge)), [key(20), key(21), key(100 + OTHER)]);
        let switches = Switches {
            without_pin_filter: true,
        };
        let all = plan(&knowledge, &[], switches, &|_: &FeedKey| 50);
        assert_eq!(feeds(all), [key(20), key(21), key(22), key(100 + OTHER)]);
    }

    #[test]
    fn an_agent_of_whom_nothing_is_held_is_met_for_its_identity() {
        let mut knowledge = knowledge();
        let stranger = AgentId([77; 32]);
        knowledge.pins = vec![pin(PinTarget::Path(stranger, None), Selection::All)];
        let plan = of(&knowledge);
        assert!(plan.topics.contains(&(Label::Agent, stranger.0)));
        let offered = &plan.view.agents[&stranger.0];
        assert!(offered.is_followed && offered.identity.is_none() && offered.serves.is_empty());
    }

    #[test]
    fn a_feed_link_joins_the_topic_of_the_feed() {
        let mut knowledge = knowledge();
        knowledge.pins = vec![pin(PinTarget::Feed(key(55)), Selection::Range(0..9))];
        let plan = of(&knowledge);
        assert!(plan.topics.contains(&(Label::Feed, [55; 32])));
        assert_eq!(plan.interests[&key(55)].want, Want::Range(0..9));
        assert!(plan.view.feeds[&[55; 32]].serves && plan.view.feeds[&[55; 32]].wants);
    }

    #[test]
    fn a_room_is_met_by_its_meet_key_and_its_entries_are_fetched_whole() {
        let mut knowledge = knowledge();
        let epoch = EpochSecret::new([9; 32]);
        let room = room(&epoch);
        knowledge.rooms.insert(room.id, room);
        let invite = Invite {
            room: RoomId([6; 32]),
            seed: Secret::new([7; 32]),
            signal_urls: vec![],
        };
        let waiting = invite.public_key();
        knowledge.joins.push(OpenJoin {
            invite,
            entries_id: [1; 16],
            blobs_id: [2; 16],
        });
        knowledge
            .invites
            .insert(kinlog_feeds::PublicKey([8; 32]), RoomId([5; 32]));
        let plan = of(&knowledge);
        let meet_key = *epoch.meet_key().expose();
        for topic in [
            (Label::Room, meet_key),
            (Label::Invite, [8; 32]),
            (Label::Invite, waiting.0),
        ] {
            assert!(plan.topics.contains(&topic));
        }
        assert_eq!(plan.interests[&key(60)].want, Want::All);
        assert_eq!(plan.interests[&key(61)].want, Want::None);
        let offered = &plan.view.rooms[&meet_key];
        assert_eq!(
            offered.devices,
            [DeviceKey([60; 32]), DeviceKey([61; 32])].into()
        );
        assert_eq!(offered.wants, [key(60), key(61)].into());
        assert!(plan.view.invites.contains(&[8; 32]) && !plan.view.invites.contains(&waiting.0));
    }
}
