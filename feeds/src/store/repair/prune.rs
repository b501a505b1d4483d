//! Making a copied store honest: what cannot be proved from the signed head is given up.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bitfield::Bitfield;
use crate::crypto::FeedKey;
use crate::manifest::Verifier;
use crate::store::error::{CreateError, ReadError, StoreError};
use crate::store::feed::Feed;
use crate::store::repair::copy::Copy;
use crate::store::repair::report::RepairError;
use crate::store::store::Store;
use crate::store::verify::ProblemPlace;
use crate::tree::Node;

/// Gives up what does not hold; returns the length of each feed afterwards, and what is held.
pub(super) fn prune(
    store: &Store,
    copy: &Copy,
) -> Result<BTreeMap<FeedKey, (u64, Bitfield)>, RepairError> {
    let mut held = BTreeMap::new();
    for old in copy.feeds.values() {
        let Some(feed) = store.feed(&old.key) else {
            continue;
        };
        if prune_feed(&feed)? == Kept::Mixed {
            empty(store, &feed)?;
        }
        let now = store.feed(&old.key);
        let now = now.map(|feed| (feed.head().length, feed.have()));
        held.insert(old.key, now.unwrap_or_default());
    }
    Ok(held)
}

/// Whether the nodes that are left of a feed fit together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kept {
    Sound,
    /// They are of two histories, as the record of a truncation is lost.
    Mixed,
}

/// Makes a feed anew without content: what comes from peers would be held against wrong nodes.
fn empty(store: &Store, feed: &Feed) -> Result<(), RepairError> {
    let (key, role, kind, manifest) = (feed.key(), feed.role(), feed.kind(), feed.manifest());
    store.drop_feed(&key)?;
    let added = match manifest {
        Some(manifest) => store.create_with_key(key, &manifest, role, kind),
        None => store.create_unknown(key, role, kind),
    };
    match added {
        Ok(_) => Ok(()),
        Err(CreateError::Store(error)) => Err(error.into()),
        // It was there a moment ago, with the same manifest.
        Err(_) => Ok(()),
    }
}

fn prune_feed(feed: &Feed) -> Result<Kept, RepairError> {
    let head = feed.head();
    if head.length > 0 && !is_signed(feed) {
        return Ok(Kept::Mixed);
    }
    let mut unproved = Vec::new();
    for root in &head.roots {
        Descent {
            feed,
            have: feed.have(),
            unproved: &mut unproved,
        }
        .below(root)?;
    }
    for range in unproved {
        feed.clear(range)?;
    }
    // What is reached is hashed again: a payload that was punched, or a leaf of an earlier record.
    let mut kept = Kept::Sound;
    for problem in feed.verify()?.problems {
        match problem.at {
            ProblemPlace::Block(block) => feed.clear(block..block + 1)?,
            _ => kept = Kept::Mixed,
        }
    }
    Ok(kept)
}

fn is_signed(feed: &Feed) -> bool {
    let (Some(manifest), Some(signed)) = (feed.manifest(), feed.signed_head()) else {
        return false;
    };
    Verifier::new(feed.key(), &manifest).is_ok_and(|verifier| {
        verifier
            .verify_head(&signed.head, &signed.signature)
            .is_ok()
    })
}

/// Goes down from a root as far as children hash to their parents.
struct Descent<'a> {
    feed: &'a Feed,
    have: Bitfield,
    unproved: &'a mut Vec<Range<u64>>,
}

impl Descent<'_> {
    fn below(&mut self, node: &Node) -> Result<(), StoreError> {
        let (left, right) = flat_tree::spans(node.index);
        let blocks = left / 2..right / 2 + 1;
        if !self.have.any_in(blocks.clone()) {
            return Ok(());
        }
        let Some((left, right)) = flat_tree::children(node.index) else {
            return Ok(());
        };
        match (self.node(left)?, self.node(right)?) {
            (Some(left), Some(right)) if Node::parent(&left, &right) == Some(*node) => {
                self.below(&left)?;
                self.below(&right)
            }
            _ => {
                match self.unproved.last_mut() {
                    Some(last) if last.end == blocks.start => last.end = blocks.end,
                    _ => self.unproved.push(blocks),
                }
                Ok(())
            }
        }
    }

    fn node(&self, index: u64) -> Result<Option<Node>, StoreError> {
        match self.feed.node(index) {
            Ok(node) => Ok(node),
            Err(ReadError::Store(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}
