//! What people see of a room, once more and as plainly as it can be said: a fold over all blocks at
//! once. The acts come to what `acts/reference.rs` says; no table, no order of arrival, no switch.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_indexer::RoomId;
use kinlog_indexer::authority::{ActPlace, HeldAct, devices_of};
use kinlog_indexer::entry::{ActHash, Body, Deed, Entry, LinkScope, Membership, Ref, Role};
use kinlog_indexer::index::Block;
use kinlog_indexer::seal::{ContentKey, EpochId, SealedBlock, open_entry};

use crate::reference::{Reference, Told};

/// What people see.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    /// Roles of those who are members.
    pub(crate) roles: BTreeMap<AgentId, Role>,
    /// How much is shown of the feeds that count.
    pub(crate) feeds: BTreeMap<FeedKey, Option<u64>>,
    /// Messages in order.
    pub(crate) messages: Vec<Said>,
}

/// A message as people see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Said {
    pub(crate) at: Ref,
    pub(crate) by: AgentId,
    pub(crate) text: String,
    pub(crate) deleted_by: Option<AgentId>,
    pub(crate) reactions: Vec<(Ref, String)>,
}

struct Fact {
    entry: Entry,
    plain: Bytes,
    sealed_by: EpochId,
}

type Facts = BTreeMap<(FeedKey, u64), Fact>;

pub(crate) fn fold(room: &RoomId, blocks: &[Block], keys: &[ContentKey]) -> Seen {
    let facts: Facts = blocks
        .iter()
        .filter_map(|block| open(block, keys))
        .collect();
    let told = told(room, &facts);
    let reference = Reference::new(&told, devices_of);
    let outcome = reference.outcome(&reference.evaluated());
    let counts = &outcome.counts;
    let (mut seen, mut owners) = (Seen::default(), BTreeMap::new());
    for feed in told
        .iter()
        .filter_map(|one| arrival(&one.act.deed))
        .map(|one| one.entries_feed)
    {
        let Some(brought) = reference.brought(counts, &feed) else {
            continue;
        };
        let agent = arrival(&told[brought].act.deed).unwrap().agent;
        let ends = reference.cutting(&outcome, brought).into_iter();
        let cut = ends.map(|end| accepted(&told[end].act.deed, &feed)).min();
        seen.feeds.insert(feed, cut);
        owners.insert(feed, agent);
    }
    let arrived = told
        .iter()
        .filter_map(|one| arrival(&one.act.deed))
        .map(|one| one.agent);
    let role_of = |agent: AgentId| Some((agent, reference.role(counts, &agent)?.0));
    seen.roles = arrived.filter_map(role_of).collect();
    // Whose an entry is, where it is shown.
    let author = |(feed, index): &(FeedKey, u64)| {
        let cut = seen.feeds.get(feed)?;
        cut.is_none_or(|cut| *index < cut).then(|| owners[feed])
    };
    let depth_of = |place: &(FeedKey, u64)| depth(room, &facts, place);
    let order = |place: &(FeedKey, u64)| {
        let clock = facts[place].entry.clock;
        (depth_of(place), clock.ms, clock.counter, *place)
    };
    let shown: BTreeMap<_, _> = facts
        .iter()
        .filter_map(|(at, fact)| Some((order(at), (author(at)?, at, &fact.entry.body))))
        .collect();
    for (by, at, body) in shown.values() {
        let Body::Message(message) = body else {
            continue;
        };
        let at = Ref {
            feed: at.0,
            index: at.1,
        };
        let mut text = message.text.to_string();
        let (mut deletions, mut reactions, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for (order, (other, place, mark)) in &shown {
            match mark {
                Body::Edit(edit) if edit.target == at && other == by => {
                    text = edit.text.to_string()
                }
                Body::Tombstone(end)
                    if end.target == at
                        && (other == by || seen.roles.get(other) >= Some(&Role::Admin)) =>
                {
                    deletions.push((order.1, **place, *other))
                }
                Body::Reaction(mark) if mark.target == at => {
                    taken.extend(mark.removes().iter().map(|one| (*other, *one)));
                    let place = Ref {
                        feed: place.0,
                        index: place.1,
                    };
                    reactions.push((order.1, place, *other, mark.emoji.to_string()));
                }
                _ => {}
            }
        }
        reactions
            .retain(|(_, one, other, emoji)| !emoji.is_empty() && !taken.contains(&(*other, *one)));
        reactions.sort();
        let deleted = deletions.into_iter().min().map(|(_, _, by)| by);
        let text = if deleted.is_some() {
            String::new()
        } else {
            text
        };
        let reactions = reactions.into_iter().map(|(_, at, _, emoji)| (at, emoji));
        seen.messages.push(Said {
            at,
            by: *by,
            text,
            deleted_by: deleted,
            reactions: reactions.collect(),
        });
    }
    seen
}

fn open(block: &Block, keys: &[ContentKey]) -> Option<((FeedKey, u64), Fact)> {
    let sealed_by = SealedBlock::head(&block.bytes).ok()?.epoch;
    let key = keys.iter().find(|key| key.epoch_id() == sealed_by)?;
    let plain = open_entry(key, &block.feed, block.index, &block.bytes).ok()?;
    let entry = Entry::decode(&plain).ok()?;
    Some((
        (block.feed, block.index),
        Fact {
            entry,
            plain,
            sealed_by,
        },
    ))
}

/// The acts that are held with their pasts, each after those that it names.
fn told(room: &RoomId, facts: &Facts) -> Vec<Told> {
    let mut waiting: Vec<Told> = Vec::new();
    for ((feed, index), fact) in facts {
        let Body::Act(act) = &fact.entry.body else {
            continue;
        };
        let place = ActPlace {
            feed: *feed,
            index: *index,
            dated_ms: fact.entry.clock.ms,
            sealed_by: Some(fact.sealed_by),
        };
        waiting.push(Told {
            hash: ActHash::of(room, feed, *index, &fact.plain),
            feed: *feed,
            index: *index,
            ms: place.dated_ms,
            sealed_by: place.sealed_by,
            verifies: HeldAct::verify(room, place, &fact.plain, act).verifies(),
            act: (**act).clone(),
        });
    }
    let mut told: Vec<Told> = Vec::new();
    loop {
        let is_ready = |one: &Told| {
            let mut parents = one.act.parents.as_slice().iter();
            parents.all(|parent| told.iter().any(|other| other.hash == *parent))
        };
        let Some(at) = waiting.iter().position(is_ready) else {
            return told;
        };
        told.push(waiting.remove(at));
    }
}

/// The stated depth, or one more than what is held of what it goes after.
fn depth(room: &RoomId, facts: &Facts, (feed, index): &(FeedKey, u64)) -> u64 {
    let entry = &facts[&(*feed, *index)].entry;
    let scope = LinkScope::Room(*room);
    let before = index
        .checked_sub(1)
        .and_then(|before| facts.get(&(*feed, before)));
    let linked = entry.links.as_slice().iter().filter_map(|link| {
        let mut all = facts.iter();
        let is_it = |((feed, index), _): &(&(FeedKey, u64), &Fact)| {
            *index == link.index && scope.tag(feed) == link.tag
        };
        all.find(is_it).map(|(_, fact)| fact)
    });
    let below = linked.chain(before).map(|fact| fact.entry.depth + 1).max();
    entry.depth.max(below.unwrap_or(0))
}

fn arrival(deed: &Deed) -> Option<&Membership> {
    match deed {
        Deed::Genesis(genesis) => Some(&genesis.owner),
        Deed::Admit(admit) => Some(&admit.member),
        Deed::DeviceJoin(join) => Some(&join.device),
        _ => None,
    }
}

fn accepted(deed: &Deed, feed: &FeedKey) -> u64 {
    let cuts = match deed {
        Deed::Remove(remove) => &remove.cuts,
        Deed::Leave(leave) => &leave.cuts,
        Deed::DeviceRevoke(revoke) => &revoke.cuts,
        // Whatever carries a set may say that a device was never one.
        _ => return 0,
    };
    let named = cuts.iter().filter(|cut| cut.feed == *feed);
    named.map(|cut| cut.length).min().unwrap_or(0)
}
