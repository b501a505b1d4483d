//! Storing what peers sent: verify each proof, then one durable commit for all that hold.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::conflict::ConflictProof;
use crate::crypto::{Hash, PublicKey};
use crate::limits::MANIFEST_BYTES_MAX;
use crate::manifest::{Manifest, Verifier};
use crate::store::body::{Body, Filled, StoredHead};
use crate::store::error::{ApplyError, StoreError};
use crate::store::feed::Feed;
use crate::store::heads::Heads;
use crate::store::limits::{
    APPLY_PART_BYTES, FILL_BLOCKS_MAX, HASHED_AT_ONCE_BYTES, RECORD_NODES_MAX, RECORD_PAYLOAD_BYTES,
};
use crate::store::log::{Commit, Epoch, Ticket};
use crate::store::mistake::Mistake;
use crate::store::state::{FeedEntry, Kind, KnownManifest, Role};
use crate::tree::{self, Head, Node, NodeSource, Proof, SignedHead, Verified, VerifyError};

pub use crate::replicate::Incoming;

/// What a proof added; all of it is durable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// The block that is held now.
    pub block: Option<u64>,
    /// The length reached by a longer signed head.
    pub upgraded_to: Option<u64>,
}

impl Feed {
    /// Verifies proofs in order and stores what they prove, with one sync for all.
    ///
    /// Each proof may build on those before it. A proof that does not hold concerns no other. On
    /// return everything accepted is durable and visible. Of many bytes the first are written while
    /// the next are verified.
    ///
    /// # Errors
    ///
    /// The outer error is the disk's: then the last of the call are not visible.
    pub fn apply(
        &self,
        items: &[Incoming],
    ) -> Result<Vec<Result<Applied, ApplyError>>, StoreError> {
        let mut writer = self.live_writer()?;
        if let Some(proof) = self.conflict()? {
            let (feed, proof) = (self.key(), Box::new(proof));
            let stopped = ApplyError::Conflict { feed, proof };
            return Ok(vec![Err(stopped); items.len()]);
        }
        // Appends that are still on their way to the disk are part of what proofs build on.
        writer.settle(&self.inner.log)?;
        let mut batch = Batch::new(self, items);
        let mut leaves = Leaves::new(items);
        let results: Result<Vec<_>, StoreError> = items
            .iter()
            .map(|item| batch.add(item, leaves.next()))
            .collect();
        let results = results.and_then(|results| {
            self.tell_guard(&results);
            batch.finish()?;
            Ok(results)
        });
        let Some((head, ticket)) = batch.submitted else {
            return results;
        };
        writer.head = Some(head);
        writer.ticket = ticket.clone();
        // Nothing of the call is left behind, also when it ends early.
        let written = self.inner.log.wait(&ticket);
        let results = results?;
        written?;
        drop(writer);
        self.inner.checkpoint_if_due();
        Ok(results)
    }

    /// Tells whoever owns the store of heads of its own feeds that it did not sign.
    fn tell_guard(&self, results: &[Result<Applied, ApplyError>]) {
        let length = results.iter().filter_map(|result| match result {
            Ok(applied) => applied.upgraded_to,
            Err(ApplyError::Conflict { proof, .. }) => Some(self.foreign_length(proof)),
            Err(_) => None,
        });
        if let Some(length) = length.max() {
            self.tell_guard_of(length);
        }
    }

    /// Tells of a head of `length` blocks of this feed that somebody else signed, if it is our own.
    pub(super) fn tell_guard_of(&self, length: u64) {
        if let Some(guard) = &self.inner.options.sign_guard
            && self.role() == Role::Own
        {
            guard.handle_foreign_head(&self.key(), length);
        }
    }

    /// Records the manifest of a feed that was known by its key only.
    pub(super) fn learn_manifest(&self, known: KnownManifest) -> Result<(), StoreError> {
        let _writer = self.live_writer()?;
        let ticket = self
            .inner
            .log
            .submit(vec![self.commit_manifest(Arc::new(known))])?;
        self.inner.log.wait(&ticket)
    }

    fn commit_manifest(&self, known: Arc<KnownManifest>) -> Commit {
        let body = Body::Feed {
            key: self.key(),
            role: self.role().code(),
            kind: self.kind().code(),
            manifest: Some(Bytes::from(known.manifest.encode())),
        };
        let entry = self.entry.clone();
        let publish = Box::new(move |place| {
            let mut state = entry.write();
            state.manifest = Some(known);
            state.feed_record = place;
        });
        self.inner.commit(&body, self.entry.number, publish)
    }
}

/// The hashes of blocks that came one by one, some at a time: together they take half the time.
struct Leaves<'a> {
    rest: &'a [Incoming],
    hashed: VecDeque<Option<Hash>>,
}

impl<'a> Leaves<'a> {
    fn new(items: &'a [Incoming]) -> Self {
        Leaves {
            rest: items,
            hashed: VecDeque::new(),
        }
    }

    /// Returns the hash of the next proof's block, if it has one.
    fn next(&mut self) -> Option<Hash> {
        if self.hashed.is_empty() {
            self.hash_some();
        }
        self.hashed.pop_front().flatten()
    }

    fn hash_some(&mut self) {
        let (mut values, mut bytes) = (Vec::new(), 0);
        let count = self.rest.iter().take_while(|item| {
            let value = item.proof.block.as_ref().map(|block| block.value.clone());
            let goes_on = bytes < HASHED_AT_ONCE_BYTES;
            bytes += value.as_ref().map_or(0, Bytes::len);
            values.extend(value.filter(|_| goes_on));
            goes_on
        });
        let (some, rest) = self.rest.split_at(count.count());
        self.rest = rest;
        let mut hashes = tree::hash_values(&values).into_iter();
        let hash_of = |item: &Incoming| item.proof.block.as_ref().and_then(|_| hashes.next());
        self.hashed.extend(some.iter().map(hash_of));
    }
}

/// What the proofs of one call have made certain so far.
struct Batch<'a> {
    feed: &'a Feed,
    known: Option<Arc<KnownManifest>>,
    manifest_is_new: bool,
    head: Head,
    /// The head with its signature, `None` when nothing was signed yet.
    newest: Option<Arc<SignedHead>>,
    /// The same, when it is of this call and not in a record yet.
    signed: Option<Arc<SignedHead>>,
    /// What was found to stop the feed.
    conflict: Option<Box<ConflictProof>>,
    nodes: HashMap<u64, Node>,
    blocks: HashSet<u64>,
    /// The record being filled.
    filled: Filled,
    values: Vec<Bytes>,
    value_bytes: usize,
    commits: Vec<Commit>,
    /// What the call builds on may be refused for want of room: then so is the rest of it.
    epoch: Epoch,
    /// The newest submission, with the head behind it.
    submitted: Option<(Head, Ticket)>,
}

/// Where a manifest comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Came {
    /// It was known before the proof.
    Earlier,
    /// It came with the proof.
    Now,
    /// None came: it is the one of Hypercore 10, if the signature holds under it.
    Guessed,
}

/// Nodes proved earlier in the call, before those stored.
struct BatchNodes<'a> {
    new: &'a HashMap<u64, Node>,
    entry: &'a FeedEntry,
    heads: &'a Heads,
}

impl NodeSource for BatchNodes<'_> {
    type Error = StoreError;

    fn node(&self, index: u64) -> Result<Option<Node>, StoreError> {
        match self.new.get(&index) {
            Some(node) => Ok(Some(*node)),
            None => self.entry.node(self.heads, index),
        }
    }
}

/// What somebody holds who holds nothing.
pub(super) struct NoNodes;

impl NodeSource for NoNodes {
    type Error = StoreError;

    fn node(&self, _index: u64) -> Result<Option<Node>, StoreError> {
        Ok(None)
    }
}

impl<'a> Batch<'a> {
    fn new(feed: &'a Feed, items: &[Incoming]) -> Self {
        let blocks = items.iter().map(|item| item.blocks().count()).sum();
        // Read before the head: see `submit_in`.
        let epoch = feed.inner.log.epoch();
        let state = feed.entry.read();
        Batch {
            feed,
            known: state.manifest.clone(),
            manifest_is_new: false,
            head: state.head().cloned().unwrap_or_default(),
            newest: state.signed.clone(),
            signed: None,
            conflict: None,
            // A parent each, and a few.
            nodes: HashMap::with_capacity(2 * blocks + items.len()),
            blocks: HashSet::with_capacity(blocks),
            filled: Filled::default(),
            values: Vec::new(),
            value_bytes: 0,
            commits: Vec::new(),
            epoch,
            submitted: None,
        }
    }

    fn add(
        &mut self,
        item: &Incoming,
        leaf: Option<Hash>,
    ) -> Result<Result<Applied, ApplyError>, StoreError> {
        if let Some(proof) = &self.conflict {
            let (feed, proof) = (self.feed.key(), proof.clone());
            return Ok(Err(ApplyError::Conflict { feed, proof }));
        }
        if let Err(error) = self.check_block_size(&item.proof) {
            return Ok(Err(error));
        }
        let (known, came) = match self.manifest(item) {
            Ok(known) => known,
            Err(error) => return Ok(Err(error)),
        };
        let verified = match self.verify(&known, &item.proof, leaf) {
            Ok(verified) => verified,
            Err(VerifyError::Source(error)) => return Err(error),
            Err(_) if !self.feed.inner.heads.verifies() => believed(&item.proof),
            Err(_) if came == Came::Guessed => {
                let feed = self.feed.key();
                return Ok(Err(ApplyError::ManifestUnknown { feed }));
            }
            Err(VerifyError::Conflict(conflict)) => {
                return Ok(Err(self.stop(&known, &item.proof, &conflict)?));
            }
            Err(error) => return Ok(Err(self.apply_error(&item.proof, error))),
        };
        // A manifest is worth keeping once a signature under it was seen.
        if came != Came::Earlier && verified.upgrade.is_some() {
            self.known = Some(known);
            self.manifest_is_new = true;
        }
        self.keep(&item.proof, verified).map(Ok)
    }

    fn check_block_size(&self, proof: &Proof) -> Result<(), ApplyError> {
        let limit = self.feed.kind().block_bytes_max();
        match values(proof).find(|(_, value)| value.len() > limit) {
            Some((block, value)) => Err(ApplyError::TooLarge {
                feed: self.feed.key(),
                block,
                size: value.len(),
                limit,
            }),
            None => Ok(()),
        }
    }

    /// Returns the manifest to verify with, and where it came from.
    fn manifest(&self, item: &Incoming) -> Result<(Arc<KnownManifest>, Came), ApplyError> {
        let feed = self.feed.key();
        let bad = |reason: String| {
            let block = item.proof.block.as_ref().map(|block| block.index);
            ApplyError::BadData {
                feed,
                block,
                reason,
                may_be_conflict: false,
            }
        };
        if let Some(known) = &self.known {
            return Ok((known.clone(), Came::Earlier));
        }
        let Some(encoded) = &item.manifest else {
            // Peers of Hypercore 10 send none: there the key is the signer's own.
            let manifest = Manifest::compat(PublicKey(feed.0));
            let verifier = Verifier::compat(feed);
            return Ok((
                Arc::new(KnownManifest { manifest, verifier }),
                Came::Guessed,
            ));
        };
        if encoded.len() > MANIFEST_BYTES_MAX {
            return Err(bad(format!("a manifest of {} bytes", encoded.len())));
        }
        let manifest = Manifest::decode(encoded).map_err(|error| bad(error.to_string()))?;
        let verifier = Verifier::new(feed, &manifest).map_err(|error| bad(error.to_string()))?;
        Ok((Arc::new(KnownManifest { manifest, verifier }), Came::Now))
    }

    fn verify(
        &self,
        known: &KnownManifest,
        proof: &Proof,
        leaf: Option<Hash>,
    ) -> Result<Verified, VerifyError<StoreError>> {
        let (entry, heads) = (&*self.feed.entry, &self.feed.inner.heads);
        let source = BatchNodes {
            new: &self.nodes,
            entry,
            heads,
        };
        let is_whole = proof
            .upgrade
            .as_ref()
            .is_some_and(|upgrade| upgrade.start == 0);
        if is_whole && self.feed.inner.options.makes(Mistake::StaleHeadBelieved) {
            return tree::verify(&Head::default(), &NoNodes, &known.verifier, proof);
        }
        if self.feed.kind() == Kind::Plain || proof.fork == 0 {
            return tree::verify_hashed(&self.head, &source, &known.verifier, proof, leaf);
        }
        // A Kinlog feed has fork 0 for ever: a signed head on another one is a conflict, whatever
        // its tree. It is looked at as by somebody who holds nothing.
        let nothing = Head {
            fork: proof.fork,
            ..Head::default()
        };
        match tree::verify(&nothing, &NoNodes, &known.verifier, proof) {
            Ok(Verified {
                upgrade: Some(theirs),
                ..
            }) => {
                let (ours, other) = (self.head.tree_hash(), theirs.tree_hash);
                let at = theirs.head.length;
                let conflict = tree::Conflict {
                    theirs,
                    at,
                    ours,
                    other,
                    nodes: Vec::new(),
                };
                Err(VerifyError::Conflict(Box::new(conflict)))
            }
            Err(bad @ VerifyError::BadData { .. }) => Err(bad),
            _ => Err(VerifyError::NotForThisFork {
                expected: 0,
                actual: proof.fork,
            }),
        }
    }

    /// Makes the proof of a conflict, which is kept behind everything that came before it.
    fn stop(
        &mut self,
        known: &KnownManifest,
        proof: &Proof,
        conflict: &tree::Conflict,
    ) -> Result<ApplyError, StoreError> {
        let feed = self.feed.key();
        let source = BatchNodes {
            new: &self.nodes,
            entry: &self.feed.entry,
            heads: &self.feed.inner.heads,
        };
        let ours = self.newest.as_deref();
        let made = ConflictProof::between(feed, &known.manifest, ours, &source, conflict)?;
        let Some(made) = made.map(Box::new) else {
            // An honest peer names sizes as they are, and we hold the way to each node we hold.
            return Ok(ApplyError::BadData {
                feed,
                block: proof.block.as_ref().map(|block| block.index),
                reason: "a second history with sizes that no tree has".to_owned(),
                may_be_conflict: false,
            });
        };
        self.conflict = Some(made.clone());
        Ok(ApplyError::Conflict { feed, proof: made })
    }

    /// Takes what is new into the record being filled.
    fn keep(&mut self, proof: &Proof, verified: Verified) -> Result<Applied, StoreError> {
        let new_nodes = verified.nodes.len() + 64;
        let is_verified =
            |block: &u64| verified.block == Some(*block) || !verified.blocks.is_empty();
        let blocks: Vec<(u64, &Bytes)> = values(proof)
            .filter(|(block, _)| is_verified(block))
            .collect();
        let value_bytes: usize = blocks.iter().map(|(_, value)| value.len()).sum();
        if self.filled.nodes.len() + new_nodes > RECORD_NODES_MAX
            || self.filled.blocks.len() + blocks.len() > FILL_BLOCKS_MAX
            || self.value_bytes + value_bytes > RECORD_PAYLOAD_BYTES
        {
            self.finish_record();
        }
        for node in &verified.nodes {
            self.keep_node(node)?;
        }
        let mut applied = Applied {
            block: verified.block,
            upgraded_to: None,
        };
        if let Some(upgrade) = verified.upgrade {
            for root in &upgrade.head.roots {
                self.keep_node(root)?;
            }
            applied.upgraded_to = Some(upgrade.head.length);
            self.filled.head = Some(StoredHead {
                fork: upgrade.head.fork,
                length: upgrade.head.length,
                tree_hash: upgrade.tree_hash,
                signature: upgrade.signature.clone(),
            });
            self.head = upgrade.head.clone();
            let upgrade = Arc::new(upgrade);
            self.newest = Some(upgrade.clone());
            self.signed = Some(upgrade);
        }
        for (block, value) in blocks {
            if !self.feed.has(block) && self.blocks.insert(block) {
                self.filled.push_block(block, value);
                self.value_bytes += value.len();
                self.values.push(value.clone());
            }
        }
        // The guard of an own feed is told of foreign heads before they are written.
        if self.value_bytes >= APPLY_PART_BYTES && self.feed.role() != Role::Own {
            self.finish_record();
            self.submit()?;
            // Without that thread all of it is written in the end.
            self.feed.inner.syncer.wake();
        }
        Ok(applied)
    }

    fn keep_node(&mut self, node: &Node) -> Result<(), StoreError> {
        let stored = self.feed.entry.find_node(node.index)?.is_some();
        if !stored && self.nodes.insert(node.index, *node).is_none() {
            self.filled.nodes.push(*node);
        }
        Ok(())
    }

    fn finish_record(&mut self) {
        let filled = std::mem::take(&mut self.filled);
        let values = std::mem::take(&mut self.values);
        self.value_bytes = 0;
        if filled == Filled::default() {
            return;
        }
        let signed = self.signed.take();
        self.commits
            .push(self.feed.commit_filled(Body::Fill(filled), &values, signed));
    }

    /// Submits all that is left.
    fn finish(&mut self) -> Result<(), StoreError> {
        self.finish_record();
        if let Some(proof) = &self.conflict {
            self.commits.push(self.feed.commit_conflict(proof));
        }
        self.submit()
    }

    fn submit(&mut self) -> Result<(), StoreError> {
        let mut commits = std::mem::take(&mut self.commits);
        if let Some(known) = self.known.clone().filter(|_| self.manifest_is_new) {
            commits.insert(0, self.feed.commit_manifest(known));
            self.manifest_is_new = false;
        }
        if !commits.is_empty() {
            let ticket = self.feed.inner.log.submit_in(&self.epoch, commits)?;
            self.submitted = Some((self.head.clone(), ticket));
        }
        Ok(())
    }

    fn apply_error(&self, proof: &Proof, error: VerifyError<StoreError>) -> ApplyError {
        let feed = self.feed.key();
        let block = proof.block.as_ref().map(|block| block.index);
        match error {
            VerifyError::MissingAnchor { .. } => ApplyError::MissingAnchor { feed },
            VerifyError::BadData { block, ref fault } => {
                let may_be_conflict = error.may_be_conflict();
                ApplyError::BadData {
                    feed,
                    block,
                    reason: fault.to_string(),
                    may_be_conflict,
                }
            }
            VerifyError::Stale { .. } => ApplyError::Stale { feed },
            VerifyError::Unlinked { .. } => ApplyError::Unlinked { feed },
            VerifyError::NotForThisFork { expected, actual } => ApplyError::OtherFork {
                feed,
                expected,
                actual,
            },
            other => {
                let reason = other.to_string();
                ApplyError::BadData {
                    feed,
                    block,
                    reason,
                    may_be_conflict: false,
                }
            }
        }
    }
}

/// Returns the blocks that a proof brings.
fn values(proof: &Proof) -> impl Iterator<Item = (u64, &Bytes)> {
    let one = proof.block.iter().map(|block| (block.index, &block.value));
    let many = proof
        .blocks
        .iter()
        .flat_map(|blocks| blocks.set.blocks().zip(&blocks.values));
    one.chain(many)
}

/// What a proof claims, for the test switch that verifies nothing.
fn believed(proof: &Proof) -> Verified {
    let Some(block) = &proof.block else {
        return Verified::default();
    };
    let mut nodes = vec![Node::leaf(block.index, &block.value)];
    nodes.extend(&block.nodes);
    Verified {
        nodes,
        block: Some(block.index),
        ..Verified::default()
    }
}
