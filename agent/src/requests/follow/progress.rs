//! How far a pin is, from the store and from what the node does right now.

use std::collections::HashMap;
use std::sync::Arc;

use kinlog_feeds::FeedKey;
use kinlog_feeds::store::Feed;
use kinlog_swarm::{FeedStatus, Label, NodeStatus};

use crate::api::{FollowProgress, FollowStep, Selection, StepInfo};
use crate::block_ranges::minus;
use crate::core::Core;
use crate::knowledge::{KnownAgent, Line};
use crate::links::FeedPath;
use crate::network::{Network, Troubles};
use crate::peers::{Sought, steps};
use crate::pins::{blocks, covered};
use crate::requests::follow::link_of;
use crate::state::{Pin, PinTarget};

/// What the node does at one moment.
#[derive(Debug, Default)]
pub(in crate::requests) struct Look {
    pub(in crate::requests) node: NodeStatus,
    pub(in crate::requests) troubles: Troubles,
    feeds: HashMap<String, FeedStatus>,
}

impl Look {
    /// Asks the node, if there is one.
    pub(in crate::requests) async fn take(network: Option<&Arc<Network>>) -> Look {
        let Some(network) = network else {
            return Look::default();
        };
        let node = network.node.status().await;
        let feeds = node
            .feeds
            .iter()
            .map(|feed| (feed.key.clone(), feed.clone()))
            .collect();
        Look {
            node,
            troubles: network.troubles(),
            feeds,
        }
    }

    /// Returns what the node knows of a feed.
    pub(in crate::requests) fn feed(&self, key: &FeedKey) -> Option<&FeedStatus> {
        self.feeds.get(&key.to_string())
    }

    /// Returns whether a connected peer showed the feed's head and we have all of it that is wanted.
    pub(in crate::requests) fn is_confirmed(&self, key: &FeedKey, length: u64) -> bool {
        self.feed(key).is_some_and(|feed| {
            feed.peers > 0
                && feed.remote_length > 0
                && feed.remote_length <= length
                && !feed.fork_ahead
        })
    }

    /// Returns whether a connected peer says to have more of a feed than `length`.
    pub(in crate::requests) fn is_behind(&self, key: &FeedKey, length: u64) -> bool {
        self.feed(key)
            .is_some_and(|feed| feed.peers > 0 && feed.remote_length > length)
    }

    fn open_sessions(&self, label: Label, key: &str) -> u64 {
        let open = self.node.sessions.iter();
        open.filter(|one| one.label == label && one.key == key && one.state == "open")
            .count() as u64
    }
}

/// Blocks asked for of one or several feeds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::requests) struct Counts {
    pub(in crate::requests) length: u64,
    pub(in crate::requests) have: u64,
    pub(in crate::requests) want: u64,
    pub(in crate::requests) bytes: u64,
}

impl Counts {
    pub(in crate::requests) fn add(&mut self, other: &Counts) {
        self.length += other.length;
        self.have += other.have;
        self.want += other.want;
        self.bytes += other.bytes;
    }
}

/// Counts what is held of a selection of a feed.
pub(in crate::requests) fn counts(core: &Core, key: &FeedKey, selection: &Selection) -> Counts {
    // One that was just listed may not be in the store yet: what is asked of it is wanted all the same.
    let feed = core.store.feed(key);
    let length = feed.as_ref().map_or(0, |feed| feed.info().length);
    let wanted = blocks(&core.resolve(key, selection), length);
    let plan = core.plan();
    let emptied = plan.emptied.get(key).map_or(&[][..], Vec::as_slice);
    let wanted = minus(&[wanted], emptied);
    let held = |feed: &Feed| {
        let have = feed.have();
        let ranges = wanted.iter().cloned();
        ranges.map(|range| have.count_range(range)).sum()
    };
    Counts {
        length,
        have: feed.as_ref().map_or(0, held),
        want: wanted.iter().map(|range| range.end - range.start).sum(),
        bytes: feed.as_ref().map_or(0, |feed| feed.info().bytes_held),
    }
}

/// Returns the feeds that a pin names, as far as directories are held, with what it asks of each.
pub(super) fn keys(core: &Core, pin: &Pin) -> Vec<(FeedKey, Selection)> {
    match &pin.target {
        PinTarget::Feed(key) => vec![(*key, pin.selection.clone())],
        PinTarget::Path(agent, path) => core.knowledge(|knowledge| {
            let known = knowledge.agents.get(agent);
            let public = known
                .into_iter()
                .flat_map(|known| covered(known, path.as_ref()));
            let private = knowledge.private_lines.iter();
            let private = private.filter(|line| {
                *agent == knowledge.agent
                    && path.as_ref().is_none_or(|path| line.is_covered_by(path))
            });
            let lines = public.chain(private);
            let asked = |line: &Line| Some((line.key, line.selection(&pin.selection)?));
            lines.filter_map(asked).collect()
        }),
    }
}

/// Returns what was tried to find whoever holds what a pin names.
pub(super) fn tried(core: &Core, look: &Look, pin: &Pin) -> Vec<StepInfo> {
    let (topic, whom) = match &pin.target {
        PinTarget::Path(agent, _) => ((Label::Agent, agent.0), core.agent_label(agent)),
        PinTarget::Feed(key) => (
            (Label::Feed, key.0),
            format!("feed {}", &key.to_string()[..8]),
        ),
    };
    let topics = vec![topic];
    steps(&look.node, &look.troubles, &Sought { topics, whom })
}

/// Returns how far a pin is.
pub(super) fn progress(core: &Core, look: &Look, pin: &Pin) -> FollowProgress {
    let keys = keys(core, pin);
    let mut sum = Counts::default();
    for (key, selection) in &keys {
        sum.add(&counts(core, key, selection));
    }
    let (label, topic) = match &pin.target {
        PinTarget::Path(agent, _) => (Label::Agent, agent.to_string()),
        PinTarget::Feed(key) => (Label::Feed, key.to_string()),
    };
    let peers = look.open_sessions(label, &topic);
    let (step, message) = step(core, look, pin, &keys, &sum, peers);
    FollowProgress {
        link: link_of(&pin.target).to_string(),
        step,
        message,
        nobody: false,
        key: match keys.as_slice() {
            [(key, _)] => Some((*key).into()),
            _ => None,
        },
        path: match &pin.target {
            PinTarget::Path(_, Some(path)) => Some(path.to_string()),
            _ => None,
        },
        length: sum.length,
        have: sum.have,
        want: sum.want,
        bytes: sum.bytes,
        peers,
        complete: step == FollowStep::Complete,
        steps: Vec::new(),
    }
}

fn step(
    core: &Core,
    look: &Look,
    pin: &Pin,
    keys: &[(FeedKey, Selection)],
    sum: &Counts,
    peers: u64,
) -> (FollowStep, String) {
    let holds_all = !keys.is_empty() && sum.have == sum.want && sum.want > 0;
    let is_confirmed =
        |key: &FeedKey| look.is_confirmed(key, counts(core, key, &Selection::All).length);
    let is_all = |(key, selection): &(FeedKey, Selection)| {
        matches!(selection, Selection::Range(_)) || is_confirmed(key)
    };
    let is_resolved = |(key, selection): &(FeedKey, Selection)| core.is_resolved(key, selection);
    if holds_all && keys.iter().all(is_all) && keys.iter().all(is_resolved) {
        return (
            FollowStep::Complete,
            format!("all {} blocks asked for are stored", sum.want),
        );
    }
    if peers == 0 {
        return no_peers(look, pin);
    }
    if let PinTarget::Path(agent, path) = &pin.target {
        let id = &agent.to_string()[..8];
        let known = core.knowledge(|knowledge| knowledge.agents.get(agent).cloned());
        let Some(known) = known else {
            let message = format!("{peers} peers know agent {id}; none sent its identity yet");
            return (FollowStep::Identity, message);
        };
        if keys.is_empty() {
            let name = known.label();
            let message = match (path, is_unlisted(core, look, &known, path.as_ref())) {
                (Some(path), true) => format!("{name} lists no path {path}"),
                (None, true) => format!("{name} lists no path at all"),
                (_, false) => format!("reading the public directory of {name}"),
            };
            return (FollowStep::Directory, message);
        }
    }
    if sum.length == 0 {
        return (
            FollowStep::Head,
            "no peer showed the feed's signed head yet".to_owned(),
        );
    }
    let message = if keys.len() == 1 && sum.want > sum.length {
        format!(
            "{} of {} blocks are stored; the feed ends at {} so far",
            sum.have, sum.want, sum.length
        )
    } else if sum.have < sum.want {
        format!("{} of {} blocks are stored", sum.have, sum.want)
    } else {
        format!(
            "{} blocks are stored; no connected peer confirmed the newest head yet",
            sum.have
        )
    };
    (FollowStep::Blocks, message)
}

/// Returns whether every public directory of an agent is held and read up to what peers have, and
/// lists nothing that `path` covers.
pub(super) fn is_unlisted(
    core: &Core,
    look: &Look,
    known: &KnownAgent,
    path: Option<&FeedPath>,
) -> bool {
    // What a device of ours lists may stand in its private directory.
    let agent = known.identity.agent;
    let is_own = agent == core.agent;
    let private = core.knowledge(|knowledge| knowledge.private_directories());
    let private = private.into_iter().filter(|_| is_own).map(|(_, key)| key);
    let is_here = |key: &FeedKey| core.knowledge(|knowledge| knowledge.own.contains_key(key));
    let directories = known.directories().chain(private);
    let directories: Vec<FeedKey> = directories.filter(|key| !is_here(key)).collect();
    // Of a device of ours that is not known yet nobody can say what it lists.
    let is_whole = !directories.is_empty()
        && directories.into_iter().all(|key| {
            let length = counts(core, &key, &Selection::All).length;
            let is_read = match is_own {
                // A sibling gives its keys once it knows this device: until then some lines stay shut.
                true => core
                    .index(|index| {
                        let read = index.checkpoint(&key)?;
                        Ok(read >= length.min(accepted(core, &key))
                            && !index.waits_for_keys(&key)?)
                    })
                    .unwrap_or(false),
                false => core.has_read(&agent, &key, path, length).unwrap_or(false),
            };
            // Nothing follows on a directory whose device was revoked.
            let is_cut = core.knowledge(|knowledge| knowledge.accepted(&key).is_some());
            is_read && (is_cut || look.is_confirmed(&key, length))
        });
    // The index is asked, not what is known: that is told a moment after a block is read.
    is_whole
        && core
            .index(|index| index.directory(&known.identity.agent))
            .is_ok_and(|rows| {
                let mut listed = rows.iter().filter_map(|row| row.label.parse().ok());
                !listed.any(|listed: FeedPath| path.is_none_or(|path| path.covers(&listed)))
            })
        && !(is_own
            && core
                .index(|index| index.private_directory(&agent))
                .is_ok_and(|(rows, _)| {
                    let mut listed = rows.iter().filter_map(|row| row.label.parse().ok());
                    listed.any(|listed: FeedPath| path.is_none_or(|path| path.covers(&listed)))
                }))
}

/// Returns how many blocks of a feed are accepted.
fn accepted(core: &Core, key: &FeedKey) -> u64 {
    let accepted = core.knowledge(|knowledge| knowledge.accepted(key));
    accepted.unwrap_or(u64::MAX)
}

fn no_peers(look: &Look, pin: &Pin) -> (FollowStep, String) {
    if !look.node.signal.iter().any(|signal| signal.connected) {
        let tried = look.node.signal.iter().map(|signal| match &signal.reason {
            Some(reason) if reason.contains(&signal.url) => reason.clone(),
            Some(reason) => format!("{}: {reason}", signal.url),
            None => format!("connecting to {}", signal.url),
        });
        let tried = tried.collect::<Vec<_>>().join("; ");
        return (
            FollowStep::Signal,
            format!("no signal server is reached ({tried})"),
        );
    }
    let (label, key, whom) = match &pin.target {
        PinTarget::Path(agent, _) => (Label::Agent, agent.0, format!("agent {agent}")),
        PinTarget::Feed(key) => (Label::Feed, key.0, format!("feed {key}")),
    };
    let text = match &pin.target {
        PinTarget::Path(agent, _) => agent.to_string(),
        PinTarget::Feed(key) => key.to_string(),
    };
    let topics = look.node.topics.iter();
    let seen: usize = topics
        .filter(|one| one.label == label && one.key == text)
        .map(|one| one.peers_seen)
        .sum();
    let message = match (seen, look.troubles.topics.get(&(label, key))) {
        (0, _) => format!("nobody found yet who holds anything of {whom}"),
        (1, None) => format!("connecting to a peer of {whom}"),
        (seen, None) => format!("connecting to {seen} peers of {whom}"),
        (seen, Some(reason)) => {
            format!("{seen} peers of {whom} are online, none connects: {reason}")
        }
    };
    (FollowStep::Peers, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    /// Between the moment when a directory lists it and the moment when it is asked for.
    #[test]
    fn a_range_of_a_feed_that_is_not_in_the_store_yet_is_wanted_whole() {
        let folder = TestFolder::new();
        let core = folder.core("Ada");
        let listed = FeedKey([7; 32]);
        assert!(core.store.feed(&listed).is_none());
        let wants = |selection: Selection| {
            let counts = counts(&core, &listed, &selection);
            assert_eq!((counts.length, counts.have, counts.bytes), (0, 0, 0));
            counts.want
        };
        assert_eq!(wants(Selection::Range(1..5)), 4);
        assert_eq!(wants(Selection::All), 0, "nobody knows how many there are");
    }
}
