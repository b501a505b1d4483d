//! Which topics to join, which blocks of which feeds to fetch, what each session may have, and why.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::FeedKey;
use kinlog_feeds::replicate::Interest;
use kinlog_swarm::Label;

use crate::api::Selection;
use crate::host::View;
use crate::knowledge::{Knowledge, KnownAgent, Line};
use crate::links::FeedPath;
use crate::pins::Asked;
use crate::pins::interest::merge;
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
    /// What each session may have, and what is wanted through it.
    pub(crate) view: View,
}

/// Switches that tests turn, to show that they would notice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Switches {
    /// Wants every listed feed of a pinned agent, pinned or not.
    pub(crate) without_pin_filter: bool,
}

/// Decides everything anew; `length` gives the blocks known of a feed.
pub(crate) fn plan(
    knowledge: &Knowledge,
    switches: Switches,
    length: impl Fn(&FeedKey) -> u64,
) -> Plan {
    let mut planning = Planning {
        knowledge,
        plan: Plan::default(),
    };
    planning.own_feeds();
    for pin in &knowledge.pins {
        planning.pin(pin, switches);
    }
    planning.rooms();
    planning.invites();
    let mut plan = planning.plan;
    for (key, asked) in &plan.asked {
        plan.interests.insert(*key, merge(asked, length(key)));
    }
    plan
}

/// Returns the public lines of an agent that a pinned path covers; without a path all.
pub(crate) fn covered<'a>(
    known: &'a KnownAgent,
    path: Option<&'a FeedPath>,
) -> impl Iterator<Item = &'a Line> {
    let lines = known.lines.iter();
    lines.filter(move |line| path.is_none_or(|path| path.covers(&line.path)))
}

struct Planning<'a> {
    knowledge: &'a Knowledge,
    plan: Plan,
}

impl Planning<'_> {
    fn own_feeds(&mut self) {
        let agent = self.knowledge.agent;
        self.plan.topics.insert((Label::Agent, agent.0));
        let offered = self.plan.view.agents.entry(agent.0).or_default();
        if let Some(known) = self.knowledge.agents.get(&agent) {
            offered.identity = Some((known.identity.hash, known.set.clone()));
        }
        for feed in self.knowledge.own.values() {
            let why = if let Some(path) = &feed.path {
                offered.serves.insert(feed.key);
                format!("own path {path}")
            } else if feed.is_plain {
                self.plan.topics.insert((Label::Feed, feed.key.0));
                self.plan.view.feeds.entry(feed.key.0).or_default().serves = true;
                "own plain feed".to_owned()
            } else if self.knowledge.directory_of(&feed.key) == Some(agent) {
                offered.serves.insert(feed.key);
                "own public directory".to_owned()
            } else {
                continue;
            };
            self.plan.why.entry(feed.key).or_default().push(why);
        }
    }

    fn pin(&mut self, pin: &Pin, switches: Switches) {
        match &pin.target {
            PinTarget::Feed(key) => {
                self.plan.topics.insert((Label::Feed, key.0));
                let offered = self.plan.view.feeds.entry(key.0).or_default();
                (offered.serves, offered.wants) = (true, true);
                self.ask(
                    *key,
                    pin,
                    &format!("feed pinned ({}): {}", pin.reason, pin.selection),
                );
            }
            PinTarget::Path(agent, _) if *agent == self.knowledge.agent => {}
            PinTarget::Path(agent, path) => {
                self.plan.topics.insert((Label::Agent, agent.0));
                let offered = self.plan.view.agents.entry(agent.0).or_default();
                offered.is_followed = true;
                let Some(known) = self.knowledge.agents.get(agent) else {
                    return;
                };
                offered.identity = Some((known.identity.hash, known.set.clone()));
                self.directories(known, pin);
                let lines: Vec<&Line> = match switches.without_pin_filter {
                    true => known.lines.iter().collect(),
                    false => covered(known, path.as_ref()).collect(),
                };
                for line in lines {
                    let offered = self.plan.view.agents.entry(agent.0).or_default();
                    offered.serves.insert(line.key);
                    offered.wants.insert(line.key);
                    let name = known.label();
                    let why = format!(
                        "path {} of {name} pinned ({}): {}",
                        line.path, pin.reason, pin.selection
                    );
                    self.ask(line.key, pin, &why);
                }
            }
        }
    }

    /// Whoever pins a path keeps all public directories of its agent whole.
    fn directories(&mut self, known: &KnownAgent, pin: &Pin) {
        let agent = known.identity.agent;
        for key in known.directories() {
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

    fn ask(&mut self, key: FeedKey, pin: &Pin, why: &str) {
        if self.knowledge.own.contains_key(&key) {
            return;
        }
        let asked = Asked {
            selection: pin.selection.clone(),
            live: pin.live,
        };
        self.plan.asked.entry(key).or_default().push(asked);
        self.plan.why.entry(key).or_default().push(why.to_owned());
    }

    fn rooms(&mut self) {
        for room in self.knowledge.rooms.values() {
            let devices = room.devices();
            for meet_key in room.meet_keys() {
                self.plan.topics.insert((Label::Room, meet_key));
                let offered = self.plan.view.rooms.entry(meet_key).or_default();
                offered.devices.extend(&devices);
                offered.serves.extend(room.feeds.keys());
                let of_others = room
                    .feeds
                    .keys()
                    .filter(|key| !self.knowledge.own.contains_key(*key));
                offered.wants.extend(of_others);
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
}
