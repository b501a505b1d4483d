//! Why something is here, or is not shown: every source of reasons is asked.

use std::collections::BTreeMap;
use std::ops::Range;

use kinlog_feeds::FeedKey;
use kinlog_indexer::entry::Ref;
use kinlog_indexer::identity::Device;
use kinlog_indexer::index::{Fate, Hidden};

use crate::api::{Error, Reply, WhyReason};
use crate::core::Core;
use crate::knowledge::KnownRoom;
use crate::limits::EMPTY_AFTER;
use crate::requests::conflicts;
use crate::state::{ClearedBy, Stage};

/// Blocks of a feed that are named one by one, as fit a line.
const BLOCKS_NAMED_MAX: usize = 8;

/// What somebody asks about.
pub(super) enum Thing {
    /// A feed that is stored.
    Feed(FeedKey),
    /// A message of a room, shown or not.
    Message(Box<KnownRoom>, Ref),
}

/// A source of reasons. Whoever decides something about feeds or messages adds one.
type Source = fn(&Core, &Thing) -> Result<Vec<WhyReason>, Error>;

const SOURCES: &[Source] = &[
    own, planned, of_room, cut, stopped, read, judged, hidden, disputed, deleted, cleared,
];

pub(super) fn why(core: &Core, thing: &str, room: Option<&str>) -> Result<Reply, Error> {
    let meant = match room {
        Some(room) => {
            let room = core.room(room)?;
            let entry = core.message_names(&room)?.entry(thing)?;
            Thing::Message(Box::new(room), entry)
        }
        None => Thing::Feed(core.feed_key(thing)?),
    };
    let mut reasons = Vec::new();
    for source in SOURCES {
        reasons.extend(source(core, &meant)?);
    }
    let is_stored = match &meant {
        Thing::Feed(key) => core.store.feed(key).is_some(),
        Thing::Message(..) => true,
    };
    if !is_stored {
        reasons.push(reason("store", "nothing of it is stored here"));
    } else if reasons.is_empty() {
        reasons.push(reason(
            "store",
            "it was stored before, and nothing asks for it now",
        ));
    }
    Ok(Reply::Why {
        thing: thing.to_owned(),
        reasons,
    })
}

fn reason(from: &str, text: impl Into<String>) -> WhyReason {
    WhyReason {
        from: from.to_owned(),
        text: text.into(),
        by: None,
        at_ms: None,
    }
}

fn own(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let Thing::Feed(key) = thing else {
        return Ok(Vec::new());
    };
    let own = core.knowledge(|knowledge| knowledge.own.get(key).cloned());
    Ok(own
        .map(|own| match own.path {
            Some(path) => reason("own", format!("this device writes it, as {path}")),
            None => reason("own", "this device writes it"),
        })
        .into_iter()
        .collect())
}

fn planned(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let Thing::Feed(key) = thing else {
        return Ok(Vec::new());
    };
    let plan = core.plan();
    let why = plan.why.get(key).into_iter().flatten();
    Ok(why.map(|why| reason("pin", why.to_string())).collect())
}

fn of_room(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let Thing::Feed(key) = thing else {
        return Ok(Vec::new());
    };
    let room = core.knowledge(|knowledge| knowledge.room_of(key).map(KnownRoom::label));
    Ok(room
        .map(|room| reason("room", format!("a member of room {room} writes it")))
        .into_iter()
        .collect())
}

/// What a revoked device wrote is accepted up to a block.
fn cut(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let Thing::Feed(key) = thing else {
        return Ok(Vec::new());
    };
    let length = core.store.feed(key).map_or(0, |feed| feed.head().length);
    let told = core.knowledge(|knowledge| {
        let accepted = knowledge.accepted(key)?;
        let directory = knowledge.agents.values().find(|one| one.accepted(key).is_some());
        let public = knowledge.listed(key);
        let private = knowledge.private_line(key).map(|line| (knowledge.agent, line));
        let (known, device) = match (directory, public.or(private)) {
            (Some(known), _) => {
                let mut revoked = known.identity.revoked.iter().map(|one| &one.device);
                let of = |one: &&Device| one.directory == *key || one.private_directory == *key;
                (known, revoked.find(of)?.key)
            }
            (None, Some((agent, line))) => (knowledge.agents.get(&agent)?, line.device),
            (None, None) => return None,
        };
        let revoked = known.identity.revoked(&device)?;
        let name = &revoked.device.name;
        let by = revoked.revocations.iter();
        let by: Vec<String> = by.map(|one| known.identity.signer_name(&one.by)).collect();
        let by = by.join(", ");
        let text = match directory {
            Some(_) => format!(
                "{name:?}, a device of {}, was revoked by {by}: the first {accepted} of {length} blocks of its directory are accepted",
                known.label()
            ),
            None => format!(
                "its device {name:?} was revoked by {by}: {accepted} of {length} blocks are vouched for; what comes behind is unvouched, and neither fetched nor shown, until another device of {} vouches for it",
                known.label()
            ),
        };
        Some(reason("cut", text))
    });
    Ok(told.into_iter().collect())
}

fn stopped(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let Thing::Feed(key) = thing else {
        return Ok(Vec::new());
    };
    let conflict = core
        .store
        .feed(key)
        .and_then(|feed| conflicts::summary(&feed));
    Ok(conflict
        .map(|what| reason("conflict", format!("it stops where it is: {what}")))
        .into_iter()
        .collect())
}

fn read(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let Thing::Message(room, entry) = thing else {
        return Ok(Vec::new());
    };
    let text = match core.index(|index| index.fate(entry))? {
        Fate::NotRead => "not shown: this block is not here".to_owned(),
        Fate::Waits(epoch) => {
            format!("not shown: it is sealed in epoch {epoch:?}, whose key is not here")
        }
        Fate::Skipped(reason) => match reason.as_str() {
            "unopened" => "not shown: the key of its epoch does not open it".to_owned(),
            "newer" => "not shown: a newer build wrote it".to_owned(),
            _ => "not shown: it is no entry, or a damaged one".to_owned(),
        },
        Fate::NotAMembers(_) => format!(
            "not shown: nobody who counts admitted the writer to room {}",
            room.label()
        ),
        Fate::Entry { is_read: false, .. } => {
            "not shown: this build does not read what it says".to_owned()
        }
        Fate::Entry { .. } => match core.index(|index| index.message(entry))? {
            None if core
                .look(|index| index.why_hidden(&entry.feed, entry.index))?
                .is_some() =>
            {
                "not shown: it is hidden".to_owned()
            }
            None => "not shown: it is an entry of another kind than a message".to_owned(),
            Some(_) => format!("shown: a member of room {} wrote it", room.label()),
        },
    };
    Ok(vec![reason("index", text)])
}

/// What the room's acts make of an entry that is one of them.
fn judged(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let Thing::Message(_, entry) = thing else {
        return Ok(Vec::new());
    };
    let why = core.look(|index| index.why_act(&entry.feed, entry.index))?;
    let text = why.map(|why| match why.as_str() {
        "counts" => "an act of the room, and it counts".to_owned(),
        why if why.starts_with("not authorised") => format!(
            "an act of the room, {why}; what its author had seen decides, for ever: done again by somebody who may, it counts"
        ),
        why if why.starts_with("waits") => {
            format!("an act of the room that {why}; whether it counts is known when they are here")
        }
        why => format!("an act of the room, {why}"),
    });
    Ok(text
        .map(|text| reason("authority", text))
        .into_iter()
        .collect())
}

/// Why the room hides an entry, or the end of a feed.
fn hidden(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let (feed, index, what) = match thing {
        Thing::Message(_, entry) => (&entry.feed, entry.index, "hidden"),
        // A block that is behind every cut.
        Thing::Feed(key) => (key, u64::MAX, "its end is hidden"),
    };
    let found = core.look(|rows| rows.why_hidden(feed, index))?;
    let told = found.map(|why| match why {
        Hidden::Void(void) => reason(
            "authority",
            format!("{what}: what let the feed in is void: {void}"),
        ),
        Hidden::NoMember => reason("authority", format!("{what}: its author is no member")),
        Hidden::Ended { how, by, accepted } => {
            let who = core.agent_label(&by);
            let ended = match how.as_str() {
                "left" => "its author left".to_owned(),
                "revoked" => format!("its device was revoked by {who}"),
                how => format!("its author was {how} by {who}"),
            };
            WhyReason {
                by: Some(by.to_string()),
                ..reason(
                    "authority",
                    format!(
                        "{what}: {ended}; the first {accepted} blocks of the feed are accepted"
                    ),
                )
            }
        }
    });
    Ok(told.into_iter().collect())
}

/// Whether a cut names another history of the feed than the one held here.
fn disputed(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let (room, feed) = match thing {
        Thing::Message(room, entry) => (Some(room.id), entry.feed),
        Thing::Feed(key) => {
            let room = core.knowledge(|knowledge| knowledge.room_of(key).map(|room| room.id));
            (room, *key)
        }
    };
    let Some(room) = room else {
        return Ok(Vec::new());
    };
    let rows = core.look(|index| index.disputed(&room))?;
    let reasons = rows.into_iter().filter(|row| row.feed == feed).map(|row| {
        let text = format!(
            "two histories: from block {} on, what is held here is not what the room accepted of this feed; what it accepted is the feed",
            row.index
        );
        reason("dispute", text)
    });
    Ok(reasons.collect())
}

fn deleted(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let entry = match thing {
        Thing::Message(_, entry) => entry,
        Thing::Feed(key) => return Ok(emptied_of(core, key)),
    };
    let emptied = emptied(core, entry);
    let Fate::Entry { deletions, .. } = core.index(|index| index.fate(entry))? else {
        return Ok(emptied.into_iter().collect());
    };
    let counts = core.index(|index| index.message(entry))?;
    let counting = counts.and_then(|message| message.deleted);
    let reasons = deletions.into_iter().map(|(agent, at_ms, why)| {
        let counts = counting == Some((agent, at_ms));
        let text = match (counts, why.is_empty()) {
            (true, true) => "deleted".to_owned(),
            (true, false) => format!("deleted: {why}"),
            (false, _) => "another deletion, which adds nothing or whose author may not".to_owned(),
        };
        WhyReason {
            by: Some(agent.to_string()),
            at_ms: Some(at_ms),
            ..reason("tombstone", text)
        }
    });
    Ok(reasons.chain(emptied).collect())
}

/// What of a feed was deleted and is not here.
fn emptied_of(core: &Core, key: &FeedKey) -> Vec<WhyReason> {
    let (feed, index) = (*key, 0);
    let (mut gone, mut undone) = (Vec::new(), Vec::new());
    core.knowledge(|knowledge| {
        let all = knowledge.deletions.range(Ref { feed, index }..);
        for (block, deletion) in all.take_while(|(block, _)| block.feed == *key) {
            match deletion.stage {
                Stage::Undone => undone.push(block.index),
                _ if deletion.is_gone() => gone.push(block.index),
                _ => {}
            }
        }
    });
    let held = core.store.feed(key);
    undone.retain(|index| !held.as_ref().is_some_and(|feed| feed.has(*index)));
    let told = [
        (
            gone,
            "deleted and emptied here: not served, and not fetched again",
        ),
        (
            undone,
            "deleted here before that was undone; being fetched from whoever has it",
        ),
    ];
    let told = told.into_iter().filter(|(blocks, _)| !blocks.is_empty());
    let told = told.map(|(blocks, what)| {
        let some: Vec<String> = blocks
            .iter()
            .take(BLOCKS_NAMED_MAX)
            .map(u64::to_string)
            .collect();
        let more = match blocks.len() - some.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        reason("store", format!("block {}{more}: {what}", some.join(", ")))
    });
    told.collect()
}

/// What of a feed whoever may say so cleared, and what has become of it here.
fn cleared(core: &Core, thing: &Thing) -> Result<Vec<WhyReason>, Error> {
    let Thing::Feed(key) = thing else {
        return Ok(Vec::new());
    };
    let Some(known) = core.knowledge(|knowledge| knowledge.cleared.get(key).cloned()) else {
        return Ok(Vec::new());
    };
    let who = match known.by {
        ClearedBy::Agent => "its agent",
        ClearedBy::Giver => "the member who gave the seed grant",
    };
    let mut told: BTreeMap<(bool, u64), Vec<Range<u64>>> = BTreeMap::new();
    for one in known.blocks {
        let at = (one.is_emptied, one.seen_ms);
        told.entry(at).or_default().push(one.range);
    }
    let told = told.into_iter().map(|((is_emptied, seen_ms), ranges)| {
        let some = ranges.iter().take(BLOCKS_NAMED_MAX);
        let some: Vec<String> = some
            .map(|range| format!("{}..{}", range.start, range.end))
            .collect();
        let more = match ranges.len() - some.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (what, at_ms) = match is_emptied {
            true => ("emptied here, not served, and not fetched again", seen_ms),
            false if known.by == ClearedBy::Giver => ("not fetched, and being emptied", seen_ms),
            false => (
                "not fetched, and emptied here a day after that was heard",
                seen_ms.saturating_add(day_ms()),
            ),
        };
        let text = format!("blocks {}{more}: cleared by {who}; {what}", some.join(", "));
        WhyReason {
            at_ms: Some(at_ms),
            ..reason("cleared", text)
        }
    });
    Ok(told.collect())
}

fn day_ms() -> u64 {
    u64::try_from(EMPTY_AFTER.as_millis()).unwrap_or(u64::MAX)
}

/// What has become here of a block that was deleted.
fn emptied(core: &Core, entry: &Ref) -> Option<WhyReason> {
    let known = core.knowledge(|knowledge| knowledge.deletions.get(entry).cloned())?;
    let is_here = core
        .store
        .feed(&entry.feed)
        .is_some_and(|feed| feed.has(entry.index));
    let text = match (known.stage, is_here) {
        (Stage::Hidden, _) => "its block is emptied here a day after the deletion was seen",
        (Stage::Emptying, _) => {
            "its block was emptied here, the index file is still to be overwritten"
        }
        (Stage::Emptied, _) => {
            "its block was emptied here: it is not served, and not fetched again"
        }
        (Stage::Undone, false) => {
            "deleted here before that was undone; being fetched from whoever has it"
        }
        (Stage::Undone, true) => return None,
    };
    let at_ms = match known.stage {
        Stage::Hidden => known.seen_ms.saturating_add(day_ms()),
        _ => known.seen_ms,
    };
    Some(WhyReason {
        at_ms: Some(at_ms),
        ..reason("store", text)
    })
}
