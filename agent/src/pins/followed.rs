//! What pins ask for: feeds, paths of others with their directories, and paths of own devices.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kinlog_feeds::crypto::FeedKey;
use kinlog_swarm::Label;

use crate::api::Selection;
use crate::knowledge::{Knowledge, KnownAgent, Line};
use crate::limits::PROFILE_BLOCKS;
use crate::links::FeedPath;
use crate::pins::Asked;
use crate::pins::plan::{FeedFacts, Planning, Role, Switches};
use crate::pins::trie::Trie;
use crate::settings::PROFILE;
use crate::state::{Pin, PinTarget};

/// Returns the public lines of an agent that a pinned path covers; without a path all.
pub(crate) fn covered<'a>(
    known: &'a KnownAgent,
    path: Option<&'a FeedPath>,
) -> impl Iterator<Item = &'a Line> {
    let lines = known.lines.iter();
    lines.filter(move |line| path.is_none_or(|path| line.is_covered_by(path)))
}

impl Planning<'_> {
    /// What a pin asks for whatever its agent lists.
    pub(super) fn pin(&mut self, pin: &Pin) {
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
    pub(super) fn subscriptions(&mut self, pins: &[&Pin], switches: Switches) {
        let knowledge = self.knowledge;
        let (mut trie, mut agents) = (Trie::default(), BTreeSet::new());
        for pin in pins {
            match &pin.target {
                PinTarget::Path(agent, path) if *agent != knowledge.agent => {
                    let path = path.as_ref().filter(|_| !switches.without_pin_filter);
                    if path.is_none() {
                        let prefixes = self.readings.entry(*agent).or_default();
                        prefixes.insert(String::new());
                    }
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
                    let live = pin.live && !line.is_unvouched;
                    self.ask(line.key, selection, live, &why);
                }
            }
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
            let live = pin.live && !line.is_unvouched;
            self.ask(line.key, selection, live, &why);
        }
    }

    /// Whoever pins a path reads the public directories of its agent: what of them, see `readings`.
    fn directories(&mut self, known: &KnownAgent, pin: &Pin) {
        let knowledge = self.knowledge;
        let agent = known.identity.agent;
        let PinTarget::Path(_, path) = &pin.target else {
            return;
        };
        let prefix = path.as_ref().map_or("", FeedPath::as_str);
        let prefixes = self.readings.entry(agent).or_default();
        prefixes.insert(prefix.to_owned());
        let private = self.private.clone();
        let directories = known.directories();
        for key in directories.filter(|key| is_public(knowledge, &private, key)) {
            let offered = self.plan.view.agents.entry(agent.0).or_default();
            offered.serves.insert(key);
            offered.wants.insert(key);
            // How long feeds were when is said by every entry.
            if matches!(pin.selection, Selection::Since(_)) {
                let cut = known.accepted(&key);
                let whole = Asked {
                    selection: cut.map_or(Selection::All, |cut| Selection::Range(0..cut)),
                    live: cut.is_none(),
                };
                self.plan.asked.entry(key).or_default().push(whole);
            }
            let why = format!(
                "public directory of {}, of whom a path is pinned ({})",
                known.label(),
                pin.reason
            );
            let said = self.plan.why.entry(key).or_default();
            if !said.contains(&why) {
                said.push(why);
            }
        }
        self.profile(known);
    }

    /// And the newest of what that agent calls itself, where it says so beside its directories.
    fn profile(&mut self, known: &KnownAgent) {
        let knowledge = self.knowledge;
        let agent = known.identity.agent;
        let lines = known.lines.iter().filter(|line| line.is_part_of(PROFILE));
        for line in lines.filter(|line| is_public(knowledge, &self.private, &line.key)) {
            let offered = self.plan.view.agents.entry(agent.0).or_default();
            offered.serves.insert(line.key);
            offered.wants.insert(line.key);
            let newest = Asked {
                selection: Selection::Last(PROFILE_BLOCKS),
                live: true,
            };
            let asked = self.plan.asked.entry(line.key).or_default();
            if !asked.contains(&newest) {
                asked.push(newest);
                let why = format!("what {} calls itself", known.label());
                self.plan.why.entry(line.key).or_default().push(why);
                self.plan.roles.entry(line.key).or_insert(Role::Followed);
            }
        }
    }

    /// Asks for what of directories leads to the paths that are pinned. Returns, of each, these blocks
    /// with the next that its device will append, which belong to no snapshot yet.
    pub(super) fn readings(
        &mut self,
        facts: &impl FeedFacts,
    ) -> BTreeMap<FeedKey, Vec<Range<u64>>> {
        let knowledge = self.knowledge;
        let mut readings = BTreeMap::new();
        for (agent, prefixes) in std::mem::take(&mut self.readings) {
            let Some(known) = knowledge.agents.get(&agent) else {
                continue;
            };
            let wanted = known.wanted(prefixes);
            let private = self.private.clone();
            let directories = known.directories();
            for key in directories.filter(|key| is_public(knowledge, &private, key)) {
                let cut = known.accepted(&key);
                let end = cut.unwrap_or(u64::MAX);
                let length = facts.length(&key).min(end);
                let mut blocks = wanted.blocks(&known.held(&key), length);
                for range in &mut blocks {
                    range.end = range.end.min(end);
                }
                let asked = self.plan.asked.entry(key).or_default();
                let selections = blocks.iter().filter_map(|range| {
                    let range = range.start.min(length)..range.end.min(length);
                    (!range.is_empty()).then_some(Selection::Range(range))
                });
                let mut selections: Vec<Selection> = selections.collect();
                if cut == Some(0) {
                    continue;
                } else if selections.is_empty() {
                    // Which block leads on shows when the head is known.
                    selections.push(Selection::Last(1));
                } else {
                    readings.insert(key, blocks);
                }
                let live = cut.is_none();
                asked.extend(
                    selections
                        .into_iter()
                        .map(|selection| Asked { selection, live }),
                );
            }
        }
        readings
    }
}

/// Returns whether a feed that another agent lists may be served to whoever knows that agent's id.
/// It may list any key: listing that of a room's feed, or of a feed of ours, does not publish it.
fn is_public(knowledge: &Knowledge, private: &BTreeSet<FeedKey>, key: &FeedKey) -> bool {
    !private.contains(key) && !knowledge.own.contains_key(key) && knowledge.room_of(key).is_none()
}
