//! What people see of a room, once more and as plainly as it can be said: a fold over all blocks at
//! once. The acts come to what `acts/reference.rs` says; no table, no order of arrival, no switch.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_indexer::RoomId;
use kinlog_indexer::Text;
use kinlog_indexer::authority::{ActPlace, HeldAct, devices_of};
use kinlog_indexer::entry::{
    ActHash, Body, Deed, Entry, Envelope, LinkScope, Membership, Message, Profile, Ref, Role, tag,
};
use kinlog_indexer::index::Block;
use kinlog_indexer::seal::{ContentKey, EpochId, SealedBlock, open_entry};

use crate::quarrel::head_of;
use crate::reference::{Reference, Set, Told};

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
    let mut facts: Facts = blocks
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
    let deleted = end(&mut facts, &told, counts, &seen.feeds, &owners);
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
        let (mut reactions, mut taken) = (Vec::new(), Vec::new());
        for (order, (other, place, mark)) in &shown {
            match mark {
                Body::Edit(edit) if edit.target == at && other == by => {
                    text = edit.text.to_string()
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
        let deleted = deleted.get(&(at.feed, at.index)).copied();
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

/// Puts what deletions say in the place of what they end, and returns who ended it: the agent whose
/// feed it is, or an act that counts. One that is held is ended only by who says what it is.
fn end(
    facts: &mut Facts,
    told: &[Told],
    counts: &Set,
    feeds: &BTreeMap<FeedKey, Option<u64>>,
    owners: &BTreeMap<FeedKey, AgentId>,
) -> BTreeMap<(FeedKey, u64), AgentId> {
    let mut endings: BTreeMap<(FeedKey, u64), Vec<_>> = BTreeMap::new();
    for ((feed, index), fact) in facts.iter() {
        let (Some(by), Some(cut)) = (owners.get(feed), feeds.get(feed)) else {
            continue;
        };
        let is_act = |number: &usize| (told[*number].feed, told[*number].index) == (*feed, *index);
        let (tombstone, is_own) = match &fact.entry.body {
            Body::Tombstone(end) if cut.is_none_or(|cut| *index < cut) => (end, true),
            Body::Act(act) => match &act.deed {
                Deed::Delete(end) if counts.iter().any(is_act) => (end, false),
                _ => continue,
            },
            _ => continue,
        };
        for one in tombstone.deleted() {
            let at = (one.entry.feed, one.entry.index);
            if owners
                .get(&at.0)
                .is_some_and(|owner| !is_own || owner == by)
            {
                let order = (fact.entry.clock.ms, *feed, *index);
                endings
                    .entry(at)
                    .or_default()
                    .push((order, one.head().clone(), *by));
            }
        }
    }
    let mut ended = BTreeMap::new();
    for (at, mut endings) in endings {
        endings.sort_by_key(|(order, ..)| *order);
        let is_true = facts.get(&at).is_none_or(|held| {
            let head = head_of(&held.plain);
            endings.iter().any(|(_, told, _)| *told == head)
        });
        if !is_true {
            continue;
        }
        let (_, plain, by) = endings.swap_remove(0);
        let envelope = Envelope::decode(&plain).unwrap();
        let body = match envelope.tag {
            tag::MESSAGE => Body::Message(Message::new(Text::default())),
            // Says nothing.
            _ => Body::Profile(Profile::named(Text::default())),
        };
        let entry = Entry {
            links: envelope.links,
            depth: envelope.depth,
            clock: envelope.clock,
            body,
        };
        let sealed_by = EpochId([0; 16]);
        ended.insert(at, by);
        facts.insert(
            at,
            Fact {
                entry,
                plain,
                sealed_by,
            },
        );
    }
    ended
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
