//! Passes over the old log: what each feed is called, what is known of it, then every record that
//! holds, copied.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::bitfield::Bitfield;
use crate::crypto::FeedKey;
use crate::limits::FEED_LENGTH_MAX;
use crate::store::body::{Body, Filled, StoredBlock, StoredHead};
use crate::store::disk::Disk;
use crate::store::error::Place;
use crate::store::options::Options;
use crate::store::record::{CHECK_BYTES, FLAG_IGNORABLE, HEADER_BYTES, RECORD_VERSION, kind};
use crate::store::repair::new_log::NewLog;
use crate::store::repair::old_log::{OldLog, Survivor};
use crate::store::repair::report::{Gap, RepairError, RepairReport, RepairedFeed};
use crate::store::state::Role;
use crate::tree::{Head, Node, root_indexes};

/// What the old log says, and what was copied of it.
#[derive(Debug, Default)]
pub(super) struct Copy {
    pub(super) feeds: BTreeMap<u32, OldFeed>,
    dropped: BTreeSet<u32>,
    nameless: BTreeSet<u32>,
    pub(super) gaps: Vec<Gap>,
    records_kept: u64,
    records_left: u64,
}

/// What the records that hold say of a feed.
#[derive(Debug)]
pub(super) struct OldFeed {
    pub(super) key: FeedKey,
    pub(super) role: Role,
    /// The newest record that names it.
    named: Vec<u8>,
    /// The newest head.
    newest: Option<StoredHead>,
    /// Roots of the newest head, where they stand behind it: compaction writes nodes again.
    newest_roots: Vec<Node>,
    /// Length of the newest head all of whose roots are there.
    pub(super) length: u64,
    /// Length of the newest head of all, and where it stands.
    pub(super) length_seen: u64,
    pub(super) head_at: Option<Place>,
    /// The longest such head on any fork: what is copied ends there.
    copied_below: u64,
    /// Blocks that were said to be held.
    pub(super) listed: Bitfield,
    /// Blocks that were given up on purpose.
    pub(super) cleared: Bitfield,
    climb: Climb,
}

/// The roots of the newest head, as far as they are there: a root of a later head is one of them, or
/// stands in the later head's own record.
#[derive(Debug, Default)]
struct Climb {
    roots: HashMap<u64, Node>,
    /// Roots to which a truncation goes back: nodes inside an earlier tree. They are known to be
    /// wanted only once it is read, and then found by reading the log again.
    wanted: HashMap<u64, Option<Node>>,
}

impl Climb {
    /// Goes on to a head; returns whether all its roots are there and make its tree hash.
    fn reach(&mut self, nodes: &[Node], head: &StoredHead) -> bool {
        if head.length > FEED_LENGTH_MAX {
            return false;
        }
        let indexes = root_indexes(head.length);
        let here: HashMap<u64, &Node> = match indexes.len() {
            0 => HashMap::new(),
            _ => nodes.iter().map(|node| (node.index, node)).collect(),
        };
        let found: Vec<Node> = indexes
            .iter()
            .filter_map(|index| {
                let here = here.get(index).copied();
                let inside = || self.wanted.get(index)?.as_ref();
                here.or_else(|| self.roots.get(index))
                    .or_else(inside)
                    .copied()
            })
            .collect();
        self.roots = found.iter().map(|node| (node.index, *node)).collect();
        Head::from_roots(head.fork, found).is_some_and(|reached| {
            reached.length == head.length && reached.tree_hash() == head.tree_hash
        })
    }
}

impl Climb {
    /// Wants the roots of a tree that are not there yet.
    fn want(&mut self, nodes: &[Node], length: u64) {
        if length > FEED_LENGTH_MAX {
            return;
        }
        for index in root_indexes(length) {
            let there = nodes.iter().any(|node| node.index == index)
                || self.roots.contains_key(&index)
                || self.wanted.contains_key(&index);
            if !there {
                self.wanted.insert(index, None);
            }
        }
    }

    fn pass(&mut self, nodes: &[Node]) {
        if self.wanted.is_empty() {
            return;
        }
        for node in nodes {
            if let Some(wanted) = self.wanted.get_mut(&node.index) {
                *wanted = Some(*node);
            }
        }
    }

    /// Goes back to the start of the log, with what is wanted by now.
    fn again(&self) -> Climb {
        let wanted = self.wanted.keys().map(|index| (*index, None));
        Climb {
            roots: HashMap::new(),
            wanted: wanted.collect(),
        }
    }
}

impl Copy {
    /// Reads the old log once: names, heads, what was held.
    pub(super) fn survey(old: &OldLog) -> Result<Copy, RepairError> {
        let mut copy = Copy::default();
        copy.gaps = old.walk(&mut |record| {
            copy.name(record);
            Ok(())
        })?;
        let dropped = std::mem::take(&mut copy.dropped);
        copy.feeds.retain(|number, _| !dropped.contains(number));
        copy.dropped = dropped;
        copy.note_all(old)?;
        let mut again = false;
        for feed in copy.feeds.values_mut() {
            again |= feed.forget();
        }
        if again {
            copy.note_all(old)?;
        }
        copy.feeds.values_mut().for_each(OldFeed::reach_newest);
        Ok(copy)
    }

    fn note_all(&mut self, old: &OldLog) -> Result<(), RepairError> {
        old.walk(&mut |record| {
            self.note(record);
            Ok(())
        })?;
        Ok(())
    }

    /// Takes in which feed a number stands for. The record that says it may stand behind others of
    /// the feed, as compaction writes it again.
    fn name(&mut self, record: &Survivor<'_>) {
        let number = record.header.feed;
        match decoded(record) {
            Some(Body::Feed { key, role, .. }) => {
                let role = Role::from_code(role).unwrap_or(Role::Followed);
                let named = record.head.to_vec();
                self.feeds.insert(number, OldFeed::new(key, role, named));
            }
            Some(Body::Dropped) => {
                self.dropped.insert(number);
            }
            _ => {}
        }
    }

    fn note(&mut self, record: &Survivor<'_>) {
        let number = record.header.feed;
        let Some(body) = decoded(record) else {
            return;
        };
        if matches!(
            body,
            Body::Feed { .. } | Body::Dropped | Body::Checkpoint { .. } | Body::Emptied { .. }
        ) || self.dropped.contains(&number)
        {
            return;
        }
        let Some(feed) = self.feeds.get_mut(&number) else {
            self.nameless.insert(number);
            return;
        };
        match body {
            Body::Append(filled) | Body::Fill(filled) => {
                for block in &filled.blocks {
                    feed.listed.set(block.index, true);
                    feed.cleared.set(block.index, false);
                }
                if let Some(head) = &filled.head {
                    if is_moved(record) {
                        // It may be an older one than those read already.
                        if head.length > feed.length_seen {
                            feed.see(head, record.place);
                        }
                    } else {
                        if head.length >= feed.length_seen {
                            feed.see(head, record.place);
                        }
                        feed.reach(&filled.nodes, head);
                    }
                }
                feed.climb.pass(&filled.nodes);
            }
            Body::Truncate { length, filled } => {
                feed.listed.clear_range(length..u64::MAX);
                feed.cleared.clear_range(length..u64::MAX);
                feed.climb.want(&filled.nodes, length);
                if let Some(head) = &filled.head {
                    feed.see(head, record.place);
                    feed.reach(&filled.nodes, head);
                }
                feed.climb.pass(&filled.nodes);
            }
            Body::Cleared { ranges } => {
                for (start, length) in ranges {
                    let range = start..start.saturating_add(length);
                    feed.listed.clear_range(range.clone());
                    feed.cleared.set_range(range);
                }
            }
            _ => {}
        }
    }

    /// Reads the old log again and writes what holds of it.
    pub(super) fn write(
        &mut self,
        old: &OldLog,
        into: &Arc<dyn Disk>,
        options: &Options,
    ) -> Result<(), RepairError> {
        let mut log = NewLog::create(into.clone(), options)?;
        for (number, feed) in &mut self.feeds {
            feed.climb = feed.climb.again();
            log.push(kind::FEED, 0, *number, feed.named.clone(), &[])?;
        }
        old.walk(&mut |record| self.copy(record, &mut log))?;
        for (number, feed) in &self.feeds {
            if feed.newest_roots.is_empty() {
                continue;
            }
            let body = Body::Fill(Filled {
                nodes: feed.newest_roots.clone(),
                head: feed.newest.clone(),
                ..Filled::default()
            });
            let mut head = Vec::new();
            body.write_head_part(&mut head, 0);
            log.push(body.kind(), 0, *number, head, &[])?;
        }
        Ok(log.finish()?)
    }

    fn copy(&mut self, record: &Survivor<'_>, log: &mut NewLog) -> Result<(), RepairError> {
        let header = record.header;
        let number = header.feed;
        let whole = |log: &mut NewLog| {
            log.push(header.kind, header.flags, number, record.head.to_vec(), &[])
        };
        let body = match decoded(record) {
            Some(Body::Checkpoint { .. } | Body::Emptied { .. } | Body::Feed { .. }) => {
                return Ok(());
            }
            None => {
                // What a later build wrote and this one may skip; it may name places of the old log.
                self.records_left += u64::from(header.flags & FLAG_IGNORABLE == 0);
                return Ok(());
            }
            Some(body) => body,
        };
        let Some(feed) = self.feeds.get_mut(&number) else {
            return Ok(());
        };
        match body {
            Body::Append(filled) | Body::Fill(filled) => feed.copy_filled(record, filled, log)?,
            Body::Truncate { filled, .. } => {
                let head = filled.head.as_ref();
                let reached = head.is_some_and(|head| feed.climb.reach(&filled.nodes, head));
                feed.climb.pass(&filled.nodes);
                if !reached || !filled.blocks.is_empty() {
                    self.records_left += 1;
                    return Ok(());
                }
                whole(log)?;
            }
            Body::Cleared { .. } | Body::Conflict { .. } => whole(log)?,
            _ => {
                self.records_left += 1;
                return Ok(());
            }
        }
        self.records_kept += 1;
        Ok(())
    }

    /// Tells what became of it all; `feeds` says what is held now.
    pub(super) fn into_report(self, held: BTreeMap<FeedKey, (u64, Bitfield)>) -> RepairReport {
        let gaps = self.gaps;
        let feeds = self.feeds.into_values();
        let feeds = feeds.map(|feed| feed.into_report(&held, &gaps)).collect();
        RepairReport {
            feeds,
            records_kept: self.records_kept,
            records_left: self.records_left,
            feeds_without_name: self.nameless.len() as u64,
            gaps,
        }
    }
}

impl OldFeed {
    fn new(key: FeedKey, role: Role, named: Vec<u8>) -> OldFeed {
        OldFeed {
            key,
            role,
            named,
            newest: None,
            newest_roots: Vec::new(),
            length: 0,
            length_seen: 0,
            copied_below: 0,
            head_at: None,
            listed: Bitfield::new(),
            cleared: Bitfield::new(),
            climb: Climb::default(),
        }
    }

    /// Goes back to the start of the log; returns whether reading it again can tell more.
    fn forget(&mut self) -> bool {
        let mut climb = self.climb.again();
        if self.length != self.length_seen {
            climb.want(&[], self.length_seen);
        }
        let more = !climb.wanted.is_empty();
        let named = std::mem::take(&mut self.named);
        if more {
            *self = OldFeed {
                climb,
                ..OldFeed::new(self.key, self.role, named)
            };
        } else {
            self.named = named;
        }
        more
    }

    /// Takes the newest head if its roots stand anywhere in the log.
    fn reach_newest(&mut self) {
        let Some(newest) = self.newest.clone() else {
            return;
        };
        if self.length == newest.length || newest.length > FEED_LENGTH_MAX {
            return;
        }
        let found = root_indexes(newest.length)
            .iter()
            .filter_map(|index| self.climb.wanted.get(index).copied().flatten())
            .collect();
        let reached = Head::from_roots(newest.fork, found);
        if let Some(reached) = reached
            .filter(|head| head.length == newest.length && head.tree_hash() == newest.tree_hash)
        {
            self.length = newest.length;
            self.copied_below = self.copied_below.max(newest.length);
            self.newest_roots = reached.roots;
        }
    }

    fn see(&mut self, head: &StoredHead, place: Place) {
        self.newest = Some(head.clone());
        self.length_seen = head.length;
        self.head_at = Some(place);
    }

    fn reach(&mut self, nodes: &[Node], head: &StoredHead) {
        if self.climb.reach(nodes, head) {
            self.length = head.length;
            self.copied_below = self.copied_below.max(head.length);
        }
    }

    fn copy_filled(
        &mut self,
        record: &Survivor<'_>,
        filled: Filled,
        log: &mut NewLog,
    ) -> Result<(), RepairError> {
        let head = filled.head.clone();
        let is_moved = is_moved(record);
        let head = head.filter(|head| !is_moved && self.climb.reach(&filled.nodes, head));
        self.climb.pass(&filled.nodes);
        let leaves: HashMap<u64, &Node> = filled
            .nodes
            .iter()
            .filter(|node| node.index % 2 == 0)
            .map(|node| (node.index, node))
            .collect();
        let mut kept = Filled {
            head,
            ..Filled::default()
        };
        let mut payload = Vec::new();
        for block in &filled.blocks {
            if block.index >= self.copied_below {
                continue;
            }
            let leaf = leaves.get(&(2 * block.index)).copied();
            let value = record.block(block)?;
            if let Some(value) = value.filter(|value| holds(block, value, leaf)) {
                kept.push_block(block.index, &value);
                payload.extend_from_slice(&value);
            }
        }
        let header = record.header;
        let is_whole = kept.blocks == filled.blocks && kept.head == filled.head;
        if is_whole && !is_moved {
            let head = record.head.to_vec();
            log.push(header.kind, header.flags, header.feed, head, &payload)?;
            return Ok(());
        }
        let length = self.copied_below;
        kept.nodes = filled.nodes;
        kept.nodes
            .retain(|node| flat_tree::right_span(node.index) < 2 * length);
        if kept == Filled::default() {
            return Ok(());
        }
        let body = Body::Fill(kept);
        let mut head = Vec::new();
        body.write_head_part(&mut head, 0);
        log.push(body.kind(), 0, header.feed, head, &payload)?;
        Ok(())
    }

    fn into_report(self, held: &BTreeMap<FeedKey, (u64, Bitfield)>, gaps: &[Gap]) -> RepairedFeed {
        let none = (0, Bitfield::new());
        let (length, held) = held.get(&self.key).unwrap_or(&none);
        let mut expected = self.listed;
        if self.role == Role::Own {
            expected.set_range(0..self.length_seen);
            for cleared in self.cleared.runs(0..self.length_seen) {
                expected.clear_range(cleared);
            }
        }
        let lost: Vec<Range<u64>> = expected.without(held, 0..self.length_seen);
        let newest_may_be_gone = gaps
            .iter()
            .any(|gap| self.head_at.is_none_or(|head| gap.place > head));
        RepairedFeed {
            key: self.key,
            role: self.role,
            length: *length,
            length_seen: self.length_seen,
            blocks_held: held.count(),
            lost,
            is_unconfirmed: self.role == Role::Own
                || *length < self.length_seen
                || newest_may_be_gone,
        }
    }
}

/// Returns whether compaction wrote the record: what it holds is older than where it stands.
fn is_moved(record: &Survivor<'_>) -> bool {
    matches!(record.header.kind, kind::MOVED_APPEND | kind::MOVED_FILL)
}

fn holds(block: &StoredBlock, value: &Bytes, leaf: Option<&Node>) -> bool {
    match (leaf, block.crc) {
        (Some(leaf), _) => Node::leaf(block.index, value) == *leaf,
        (None, Some(crc)) => crc32c::crc32c(value) == crc,
        // Its leaf stands in an earlier record: the opened store looks again.
        (None, None) => true,
    }
}

/// Decodes the body of a record of this format; `None` for what this build does not know.
fn decoded(record: &Survivor<'_>) -> Option<Body> {
    let header = record.header;
    let body = record
        .head
        .get(HEADER_BYTES..record.head.len().checked_sub(CHECK_BYTES)?)?;
    match header.version {
        RECORD_VERSION => Body::decode(header.kind, body, header.payload_bytes)
            .ok()
            .flatten(),
        _ => None,
    }
}
