//! Which topics to join, which blocks of which feeds to fetch, what each session may have, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_feeds::replicate::{Interest, Want};
use kinlog_swarm::Label;

use crate::api::Selection;
use crate::block_ranges::union;
use crate::core::{Ranges, emptied_blocks};
use crate::host::View;
use crate::knowledge::Knowledge;
use crate::pins::Asked;
use crate::pins::interest::{merge, with_blocks, without};
use crate::state::{ClearedBy, Pin};

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
    /// Feeds of which so many bytes are kept: what is older goes.
    pub(crate) bounded: BTreeMap<FeedKey, u64>,
    /// Feeds that are kept by a seed grant.
    pub(crate) granted: BTreeSet<FeedKey>,
    /// Those of them that nothing else asks for.
    pub(crate) granted_alone: BTreeSet<FeedKey>,
    /// Blocks that are asked for no more, whatever asks for their feeds: deleted and emptied, or cleared.
    pub(crate) emptied: Ranges,
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
    /// How many milliseconds the clock that deletions go by is ahead of the machine's.
    pub(crate) clock_ahead_ms: Option<&'static AtomicU64>,
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
        readings: BTreeMap::new(),
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
    let readings = planning.readings(facts);
    let mut plan = planning.plan;
    let mut emptied = emptied_blocks(&knowledge.deletions, false);
    for (key, cleared) in &knowledge.cleared {
        if cleared.by == ClearedBy::Giver && !plan.granted_alone.contains(key) {
            continue;
        }
        let all = emptied.entry(*key).or_default();
        all.extend(cleared.ranges());
        *all = union(std::mem::take(all));
    }
    for (key, asked) in &mut plan.asked {
        for one in asked.iter_mut() {
            if let Selection::Newest(bytes) = one.selection {
                plan.bounded.insert(*key, bytes);
            }
            one.selection = facts.resolve(key, &one.selection);
        }
        if asked.len() > 1 {
            plan.bounded.remove(key);
        }
        let mut interest = merge(asked, facts.length(key));
        if let Some(ahead) = readings.get(key) {
            interest = with_blocks(interest, ahead);
        }
        if let Some(emptied) = emptied.get(key) {
            interest = without(interest, facts.length(key), emptied);
        }
        plan.interests.insert(*key, interest);
    }
    // Of what this device writes only heads are asked for: a newer one than ours says that it is not
    // the only writer, or not the newest. Then what it lacks is fetched like anybody else's.
    let own = match knowledge.must_renew {
        true => Want::All,
        false => Want::None,
    };
    // What was deleted here and is not deleted any more is fetched, too.
    let mut undone = emptied_blocks(&knowledge.deletions, true);
    for key in knowledge.own.keys() {
        let (mut want, live) = (own.clone(), true);
        if let (Want::None, Some(blocks)) = (&want, undone.remove(key)) {
            want = Want::Ranges(blocks);
        }
        let mut interest = Interest { want, live };
        if let Some(emptied) = emptied.get(key) {
            interest = without(interest, facts.length(key), emptied);
        }
        plan.interests.insert(*key, interest);
    }
    plan.emptied = emptied;
    plan
}

pub(super) struct Planning<'a> {
    pub(super) knowledge: &'a Knowledge,
    /// Feeds that are sealed for this agent's devices.
    pub(super) private: BTreeSet<FeedKey>,
    /// Prefixes that are read in the directories of each agent.
    pub(super) readings: BTreeMap<AgentId, BTreeSet<String>>,
    pub(super) plan: Plan,
}

impl Planning<'_> {
    /// Notes what a feed is by a pin, and how far its links are followed.
    pub(super) fn note(&mut self, key: FeedKey, pin: &Pin) {
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

    /// Asks for all of a directory that is accepted.
    pub(super) fn ask_whole(&mut self, key: FeedKey, why: &str) {
        match self.knowledge.accepted(&key) {
            None => self.ask(key, Selection::All, true, why),
            Some(0) => {}
            Some(cut) => self.ask(key, Selection::Range(0..cut), false, why),
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
}

#[cfg(test)]
mod tests;
