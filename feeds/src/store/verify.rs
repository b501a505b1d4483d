//! Checking everything stored of a feed against its signed head.

use crate::crypto::FeedKey;
use crate::manifest::Verifier;
use crate::store::body::Body;
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::feed::Feed;
use crate::store::heads::Heads;
use crate::store::index::PAGE_BLOCKS;
use crate::store::limits::{CHECKSUM_FROM_BYTES, VERIFY_PROBLEMS_MAX};
use crate::tree::{Node, SignedHead};

/// What checking a feed found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VerifyReport {
    /// Blocks hashed again.
    pub blocks_checked: u64,
    /// Tree nodes checked against their children.
    pub nodes_checked: u64,
    /// What does not hold, the first [`VERIFY_PROBLEMS_MAX`] of it.
    pub problems: Vec<Problem>,
    /// How much does not hold in all.
    pub problem_count: u64,
}

/// Something stored that does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The feed.
    pub feed: FeedKey,
    /// What of it.
    pub at: ProblemPlace,
    /// In what way, and where on the disk.
    pub damage: Damage,
}

/// What of a feed does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProblemPlace {
    /// A block.
    Block(u64),
    /// A tree node, by its flat-tree index.
    Node(u64),
    /// The signed head of this length.
    Head(u64),
    /// The manifest.
    Manifest,
    /// The proof of the conflict that stopped the feed.
    Conflict,
}

impl Problem {
    /// Returns the first block concerned; manifest and conflict concern all, from 0.
    pub fn block(&self) -> u64 {
        match self.at {
            ProblemPlace::Block(block) => block,
            ProblemPlace::Node(index) => flat_tree::left_span(index) / 2,
            ProblemPlace::Head(length) => length.saturating_sub(1),
            ProblemPlace::Manifest | ProblemPlace::Conflict => 0,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let feed = self.feed;
        match self.at {
            ProblemPlace::Block(block) => write!(f, "feed {feed}: block {block}: {}", self.damage),
            ProblemPlace::Node(index) => {
                write!(
                    f,
                    "feed {feed}: block {}: node {index}: {}",
                    self.block(),
                    self.damage
                )
            }
            ProblemPlace::Head(length) => {
                let block = self.block();
                write!(
                    f,
                    "feed {feed}: block {block}: head of length {length}: {}",
                    self.damage
                )
            }
            ProblemPlace::Manifest => write!(f, "feed {feed}: manifest: {}", self.damage),
            ProblemPlace::Conflict => write!(f, "feed {feed}: conflict proof: {}", self.damage),
        }
    }
}

impl Feed {
    /// Reads and checks everything stored of the feed: manifest, signed head, conflict proof, nodes,
    /// blocks.
    ///
    /// # Errors
    ///
    /// Damage is part of the report; an error means that the disk could not be read.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        if !self.inner.heads.verifies() {
            return Ok(report);
        }
        // A cache of its own: what was read and checked before must be read again.
        let heads = self.inner.fresh_heads();
        let known = self.entry.ensure_known();
        let state = self.entry.read();
        let (feed_record, head_record) = (state.feed_record, state.head_record);
        let signed = state.signed.clone();
        let have = state.have.clone();
        drop(state);
        let mut check = Check {
            feed: self,
            heads: &heads,
            report: &mut report,
        };
        let verifier = check.manifest(feed_record)?;
        if let (Some(signed), Some(record)) = (&signed, head_record) {
            check.head(signed, record, verifier.as_ref())?;
        }
        let conflict = self.conflict_from(&heads);
        check.sorted(ProblemPlace::Conflict, conflict)?;
        check.sorted(ProblemPlace::Block(0), known)?;
        let pages = check.sorted(ProblemPlace::Block(0), self.entry.pages())?;
        for page in pages.unwrap_or_default() {
            let at = ProblemPlace::Block(page * PAGE_BLOCKS);
            let nodes = check.sorted(at, self.entry.nodes_of(page))?;
            for index in nodes.unwrap_or_default() {
                check.node(index)?;
            }
        }
        for block in have.runs(0..u64::MAX).flatten() {
            check.block(block)?;
        }
        Ok(report)
    }
}

struct Check<'a> {
    feed: &'a Feed,
    heads: &'a Heads,
    report: &'a mut VerifyReport,
}

impl Check<'_> {
    fn problem(&mut self, at: ProblemPlace, damage: Damage) {
        self.report.problem_count += 1;
        if self.report.problems.len() < VERIFY_PROBLEMS_MAX {
            self.report.problems.push(Problem {
                feed: self.feed.key(),
                at,
                damage,
            });
        }
    }

    /// Sorts damage into the report from what stops the check.
    fn sorted<T>(
        &mut self,
        at: ProblemPlace,
        result: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Damaged(damage)) => {
                self.problem(at, damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn manifest(&mut self, place: Place) -> Result<Option<Verifier>, StoreError> {
        let Some(known) = self.feed.manifest() else {
            return Ok(None);
        };
        let read = self.heads.get(place);
        let Some(head) = self.sorted(ProblemPlace::Manifest, read)? else {
            return Ok(None);
        };
        let verifier = match &head.body {
            Body::Feed {
                key,
                manifest: Some(manifest),
                ..
            } if *key == self.feed.key() && **manifest == *known.encode() => {
                Verifier::new(*key, &known).ok()
            }
            _ => None,
        };
        if verifier.is_none() {
            self.problem(
                ProblemPlace::Manifest,
                Damage {
                    place,
                    what: DamageKind::Manifest,
                },
            );
        }
        Ok(verifier)
    }

    fn head(
        &mut self,
        signed: &SignedHead,
        place: Place,
        verifier: Option<&Verifier>,
    ) -> Result<(), StoreError> {
        let at = ProblemPlace::Head(signed.head.length);
        let read = self.heads.get(place);
        let Some(head) = self.sorted(at, read)? else {
            return Ok(());
        };
        let stored = head.filled().and_then(|filled| filled.head.as_ref());
        let same = stored.is_some_and(|stored| {
            stored.length == signed.head.length
                && stored.fork == signed.head.fork
                && stored.tree_hash == signed.head.tree_hash()
                && stored.signature == signed.signature
        });
        let holds = verifier.is_none_or(|verifier| {
            verifier
                .verify_head(&signed.head, &signed.signature)
                .is_ok()
        });
        if !same || !holds {
            self.problem(
                at,
                Damage {
                    place,
                    what: DamageKind::Signature,
                },
            );
        }
        for root in &signed.head.roots {
            let at = ProblemPlace::Node(root.index);
            let read = self.feed.entry.node(self.heads, root.index);
            if let Some(stored) = self.sorted(at, read)?
                && stored != Some(*root)
            {
                self.problem(
                    at,
                    Damage {
                        place,
                        what: DamageKind::Node,
                    },
                );
            }
        }
        Ok(())
    }

    fn node(&mut self, index: u64) -> Result<(), StoreError> {
        self.report.nodes_checked += 1;
        let at = ProblemPlace::Node(index);
        let read = self.feed.entry.node(self.heads, index);
        let Some(Some(node)) = self.sorted(at, read)? else {
            return Ok(());
        };
        let (Some(left), Some(right)) =
            (flat_tree::left_child(index), flat_tree::right_child(index))
        else {
            return Ok(());
        };
        // Damage in a child is reported with the child.
        let child = |index| match self.feed.entry.node(self.heads, index) {
            Err(StoreError::Damaged(_)) => Ok(None),
            other => other,
        };
        if let (Some(left), Some(right)) = (child(left)?, child(right)?)
            && Node::parent(&left, &right) != Some(node)
        {
            let place = self.place_of(index);
            self.problem(
                at,
                Damage {
                    place,
                    what: DamageKind::Node,
                },
            );
        }
        Ok(())
    }

    fn block(&mut self, block: u64) -> Result<(), StoreError> {
        self.report.blocks_checked += 1;
        let at = ProblemPlace::Block(block);
        let read = self.feed.get_from(self.heads, block);
        let Some(Some((value, extent))) = self.sorted(at, read)? else {
            return Ok(());
        };
        let read = self.feed.entry.node(self.heads, 2 * block);
        let Some(leaf) = self.sorted(at, read)? else {
            return Ok(());
        };
        if leaf != Some(Node::leaf(block, &value)) {
            let what = DamageKind::BlockHash;
            self.problem(
                at,
                Damage {
                    place: extent.record,
                    what,
                },
            );
        } else if value.len() < CHECKSUM_FROM_BYTES {
            // The record must hold as a whole: its check covers more than this leaf.
            let read = self.heads.get(extent.record);
            self.sorted(at, read)?;
        }
        Ok(())
    }

    fn place_of(&self, index: u64) -> Place {
        let node = self.feed.entry.find_node(index).ok().flatten();
        node.map_or(
            Place {
                segment: 0,
                offset: 0,
            },
            |node| node.record(),
        )
    }
}
