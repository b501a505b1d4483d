//! Two passes over the old log: what is known of each feed, then every record that holds, copied.

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
use crate::store::record::{CHECK_BYTES, FLAG_IGNORABLE, HEADER_BYTES, RECORD_VERSION};
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
    /// What the first reading found to be wanted of each feed, for the second.
    wanted: BTreeMap<u32, Climb>,
    wants_more: bool,
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
    /// Wants the roots of a shorter tree that are not there; returns whether some are new.
    fn want(&mut self, nodes: &[Node], length: u64) -> bool {
        if length > FEED_LENGTH_MAX {
            return false;
        }
        let mut is_new = false;
        for index in root_indexes(length) {
            let there = nodes.iter().any(|node| node.index == index)
                || self.roots.contains_key(&index)
                || self.wanted.contains_key(&index);
            if !there {
                self.wanted.insert(index, None);
                is_new = true;
            }
        }
        is_new
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
            copy.note(record);
            Ok(())
        })?;
        if copy.wants_more {
            let feeds = std::mem::take(&mut copy.feeds).into_iter();
            copy = Copy {
                wanted: feeds
                    .map(|(number, feed)| (number, feed.climb.again()))
                    .collect(),
                ..Copy::default()
            };
            copy.gaps = old.walk(&mut |record| {
                copy.note(record);
                Ok(())
            })?;
        }
        let dropped = std::mem::take(&mut copy.dropped);
        copy.feeds.retain(|number, _| !dropped.contains(number));
        copy.nameless.retain(|number| !dropped.contains(number));
        copy.dropped = dropped;
        Ok(copy)
    }

    fn note(&mut self, record: &Survivor<'_>) {
        let number = record.header.feed;
        let Some(body) = decoded(record) else {
            return;
        };
        if let Body::Feed { key, role, .. } = &body {
            let role = Role::from_code(*role).unwrap_or(Role::Followed);
            let wanted = &mut self.wanted;
            let feed = self.feeds.entry(number).or_insert_with(|| OldFeed {
                key: *key,
                role,
                length: 0,
                length_seen: 0,
                copied_below: 0,
                head_at: None,
                listed: Bitfield::new(),
                cleared: Bitfield::new(),
                climb: wanted.remove(&number).unwrap_or_default(),
            });
            feed.role = role;
            self.nameless.remove(&number);
            return;
        }
        if matches!(body, Body::Checkpoint { .. }) {
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
                    if head.length >= feed.length_seen {
                        feed.see(head, record.place);
                    }
                    feed.reach(&filled.nodes, head);
                }
                feed.climb.pass(&filled.nodes);
            }
            Body::Truncate { length, filled } => {
                feed.listed.clear_range(length..u64::MAX);
                feed.cleared.clear_range(length..u64::MAX);
                self.wants_more |= feed.climb.want(&filled.nodes, length);
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
            Body::Dropped => {
                self.dropped.insert(number);
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
        for feed in self.feeds.values_mut() {
            feed.climb = feed.climb.again();
        }
        let mut log = NewLog::create(into.clone(), options)?;
        old.walk(&mut |record| self.copy(record, &mut log))?;
        Ok(log.finish()?)
    }

    fn copy(&mut self, record: &Survivor<'_>, log: &mut NewLog) -> Result<(), RepairError> {
        let header = record.header;
        let number = header.feed;
        let whole = |log: &mut NewLog| {
            log.push(header.kind, header.flags, number, record.head.to_vec(), &[])
        };
        let body = match decoded(record) {
            Some(Body::Checkpoint { .. }) => return Ok(()),
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
            Body::Feed { .. } | Body::Cleared { .. } | Body::Conflict { .. } => whole(log)?,
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
    fn see(&mut self, head: &StoredHead, place: Place) {
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
        let head = head.filter(|head| self.climb.reach(&filled.nodes, head));
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
        if is_whole {
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
