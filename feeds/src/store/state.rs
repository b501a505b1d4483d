//! What the store knows of a feed, in memory.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use bytes::Bytes;

use crate::bitfield::Bitfield;
use crate::crypto::{DiscoveryKey, FeedKey};
use crate::limits::{KINLOG_BLOCK_BYTES_MAX, PLAIN_BLOCK_BYTES_MAX};
use crate::manifest::{Manifest, Verifier};
use crate::store::append::Appends;
use crate::store::body::{Filled, StoredHead};
use crate::store::checkpoint::ChangedFeeds;
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::heads::Heads;
use crate::store::index::NodeRef;
use crate::store::index::base::Base;
use crate::store::index::completed_by;
use crate::store::index::directory::{FeedRow, row_runs};
use crate::store::index::file::IndexFile;
use crate::store::index::places::Places;
use crate::store::index::snapshot::FeedSnapshot;
use crate::store::log::{Log, Ticket};
use crate::tree::{Head, Node, NodeSource, SignedHead, root_indexes};

/// Why a feed is in the store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// This agent writes it.
    Own,
    /// This agent reads it.
    Followed,
    /// It is kept for others.
    Seeded,
}

impl Role {
    pub(super) fn code(self) -> u8 {
        match self {
            Role::Own => 1,
            Role::Followed => 2,
            Role::Seeded => 3,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Role> {
        [Role::Own, Role::Followed, Role::Seeded]
            .into_iter()
            .find(|role| role.code() == code)
    }
}

/// What rules a feed follows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// Listed in a directory or a room: fork 0 for ever, blocks up to 1 MiB.
    Kinlog,
    /// Any Hypercore: blocks up to 8 MiB.
    Plain,
}

impl Kind {
    pub(super) fn code(self) -> u8 {
        match self {
            Kind::Kinlog => 1,
            Kind::Plain => 2,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Kind> {
        [Kind::Kinlog, Kind::Plain]
            .into_iter()
            .find(|kind| kind.code() == code)
    }

    /// Returns the largest block in bytes.
    pub fn block_bytes_max(self) -> usize {
        match self {
            Kind::Kinlog => KINLOG_BLOCK_BYTES_MAX,
            Kind::Plain => PLAIN_BLOCK_BYTES_MAX,
        }
    }
}

/// A feed of the store.
#[derive(Debug)]
pub(super) struct FeedEntry {
    pub(super) number: u32,
    pub(super) key: FeedKey,
    pub(super) discovery_key: DiscoveryKey,
    pub(super) kind: Kind,
    /// Made from `stored` when first asked for.
    state: OnceLock<Box<RwLock<FeedState>>>,
    /// The feed's row of the index, until its state is made.
    stored: Mutex<Option<StoredRow>>,
    changed: Arc<ChangedFeeds>,
    /// The feed is among those changed since the last checkpoint.
    is_changed: AtomicBool,
    /// Its tables could not be read when they were needed first.
    is_unknown: AtomicBool,
    writer: Mutex<FeedWriter>,
    /// Appends that wait for one that is being made.
    pub(super) appends: Mutex<Appends>,
}

/// A row of the index, which decoded when the index was loaded, and the file it points into.
#[derive(Clone, Debug)]
pub(super) struct StoredRow {
    pub(super) row: Bytes,
    pub(super) file: Arc<IndexFile>,
}

/// What is durable, and therefore visible.
#[derive(Debug)]
pub(super) struct FeedState {
    pub(super) role: Role,
    pub(super) manifest: Option<Arc<KnownManifest>>,
    /// The newest record that names key, role and manifest.
    pub(super) feed_record: Place,
    pub(super) signed: Option<Arc<SignedHead>>,
    /// The record that carries the signed head.
    pub(super) head_record: Option<Place>,
    /// The record of the conflict that stopped the feed.
    pub(super) conflict: Option<Place>,
    pub(super) places: Places,
    pub(super) have: Bitfield,
    pub(super) blocks_held: u64,
    pub(super) bytes_held: u64,
    /// Why the feed's tables could not be read, and its row: none of what it held is known to be.
    unknown: Option<(StoreError, StoredRow)>,
}

/// A manifest that the feed key commits to.
#[derive(Debug)]
pub(super) struct KnownManifest {
    pub(super) manifest: Manifest,
    pub(super) verifier: Verifier,
}

/// What was submitted and may not be durable yet.
#[derive(Debug, Default)]
pub(super) struct FeedWriter {
    /// Head after everything submitted; `None` until the first write since opening.
    pub(super) head: Option<Head>,
    /// The newest submission.
    pub(super) ticket: Ticket,
    /// The feed was taken out of the store: a record of it would have no owner.
    pub(super) dropped: bool,
}

impl FeedWriter {
    /// Returns once it is certain what became of everything submitted, and forgets what was
    /// refused for want of room.
    pub(super) fn settle(&mut self, log: &Log) -> Result<(), StoreError> {
        let outcome = log.wait(&self.ticket);
        if self.ticket.is_refused() {
            self.forget_refused();
            return Ok(());
        }
        outcome
    }

    /// Goes back to the head that is visible if what was submitted since was refused.
    pub(super) fn forget_refused(&mut self) {
        if self.ticket.is_refused() {
            self.head = None;
            self.ticket = Ticket::default();
        }
    }
}

impl FeedEntry {
    /// Makes the entry of a feed that is new to the store.
    pub(super) fn new(
        number: u32,
        key: FeedKey,
        role: Role,
        kind: Kind,
        manifest: Option<KnownManifest>,
        feed_record: Place,
        changed: Arc<ChangedFeeds>,
    ) -> Self {
        let state = FeedState {
            role,
            manifest: manifest.map(Arc::new),
            feed_record,
            signed: None,
            head_record: None,
            conflict: None,
            places: Places::default(),
            have: Bitfield::new(),
            blocks_held: 0,
            bytes_held: 0,
            unknown: None,
        };
        let entry = Self::without_state(number, key, kind, None, changed);
        let state = OnceLock::from(Box::new(RwLock::new(state)));
        let entry = FeedEntry { state, ..entry };
        entry.mark_changed();
        entry
    }

    /// Makes the entry of a feed that the index lists.
    pub(super) fn stored(row: &FeedRow, stored: StoredRow, changed: Arc<ChangedFeeds>) -> Self {
        Self::without_state(row.number, row.key, row.kind, Some(stored), changed)
    }

    fn without_state(
        number: u32,
        key: FeedKey,
        kind: Kind,
        stored: Option<StoredRow>,
        changed: Arc<ChangedFeeds>,
    ) -> Self {
        FeedEntry {
            number,
            key,
            discovery_key: key.discovery_key(),
            kind,
            state: OnceLock::new(),
            stored: Mutex::new(stored),
            changed,
            is_changed: AtomicBool::new(false),
            is_unknown: AtomicBool::new(false),
            writer: Mutex::default(),
            appends: Mutex::default(),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, FeedState> {
        self.state().read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the state to be changed; the next checkpoint writes it.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, FeedState> {
        let state = self.state().write();
        // Under the lock: what a checkpoint takes is what was changed before it took it.
        self.mark_changed();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> &RwLock<FeedState> {
        self.state.get_or_init(|| {
            let stored = self.stored_row().take();
            let stored = stored.expect("a feed has its state or its row of the index");
            let state = FeedState::from_row(stored);
            self.is_unknown
                .store(state.unknown.is_some(), Ordering::Release);
            Box::new(RwLock::new(state))
        })
    }

    /// Reads the feed's tables where that was refused before.
    ///
    /// # Errors
    ///
    /// Why that is still so: what the feed held before this opening is not known.
    pub(super) fn ensure_known(&self) -> Result<(), StoreError> {
        let state = self.state();
        if !self.is_unknown.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = state.write().unwrap_or_else(PoisonError::into_inner);
        let Some((_, stored)) = &state.unknown else {
            return Ok(());
        };
        let (base, mut have) = read_tables(stored)?;
        // What came since. Nothing was cleared: clearing needs what is read here.
        let runs: Vec<_> = state.have.runs(0..u64::MAX).collect();
        runs.into_iter().for_each(|run| have.set_range(run));
        state.places.moved(base);
        state.blocks_held = have.count();
        state.have = have;
        state.unknown = None;
        self.is_unknown.store(false, Ordering::Release);
        Ok(())
    }

    fn stored_row(&self) -> MutexGuard<'_, Option<StoredRow>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts places that are kept in memory until they are written out.
    pub(super) fn add_places(&self, count: usize) {
        self.changed.add_places(count);
    }

    fn mark_changed(&self) {
        if !self.is_changed.swap(true, Ordering::AcqRel) {
            self.changed.add(self.number);
        }
    }

    /// Returns blocks and bytes held.
    pub(super) fn held(&self) -> (u64, u64) {
        if self.state.get().is_none()
            && let Some(stored) = &*self.stored_row()
        {
            return FeedRow::held(&stored.row);
        }
        let state = self.read();
        (state.blocks_held, state.bytes_held)
    }

    /// Returns the tables of the index.
    pub(super) fn base(&self) -> Option<Arc<Base>> {
        self.read().places.base()
    }

    /// Puts what changed aside for a checkpoint; from here on changes are for the next.
    pub(super) fn freeze(self: &Arc<Self>) -> FeedSnapshot {
        let mut state = self.state().write().unwrap_or_else(PoisonError::into_inner);
        self.is_changed.store(false, Ordering::Release);
        let layer = state.places.freeze();
        FeedSnapshot {
            entry: self.clone(),
            row: state.to_row(self),
            layer,
            have: state.have.clone(),
            is_unknown: state.unknown.is_some(),
        }
    }

    /// Takes what a checkpoint could not write into the next.
    pub(super) fn not_written(&self) {
        self.mark_changed();
    }

    /// Reads through what a checkpoint wrote.
    pub(super) fn written(&self, base: Option<Arc<Base>>) {
        let mut state = self.state().write().unwrap_or_else(PoisonError::into_inner);
        state.places.written(base);
    }

    /// Reads through the copy of the index that `stored` is in.
    pub(super) fn moved(&self, stored: StoredRow) -> Result<(), StoreError> {
        {
            let mut row = self.stored_row();
            if row.is_some() {
                *row = Some(stored);
                return Ok(());
            }
        }
        let (base, _) = read_tables(&stored)?;
        let mut state = self.state().write().unwrap_or_else(PoisonError::into_inner);
        match &mut state.unknown {
            Some((_, row)) => *row = stored,
            None => state.places.moved(base),
        }
        Ok(())
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, FeedWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the head that is visible.
    pub(super) fn head(&self) -> Head {
        self.read().head().cloned().unwrap_or_default()
    }

    /// Returns the stored node at `index` from a checked head part.
    pub(super) fn node(&self, heads: &Heads, index: u64) -> Result<Option<Node>, StoreError> {
        let mut found = self.find_node(index)?;
        while let Some(place) = found {
            let error = match self.node_at(heads, index, place) {
                Ok(node) => return Ok(Some(node)),
                Err(error) => error,
            };
            // Moved by compaction meanwhile?
            found = self.find_node(index)?;
            if found == Some(place) {
                return Err(error);
            }
        }
        Ok(None)
    }

    fn node_at(&self, heads: &Heads, index: u64, place: NodeRef) -> Result<Node, StoreError> {
        let record = place.record();
        let head = heads.get(record)?;
        match head.node(place.ordinal()) {
            Some(node) if node.index == index && head.header.feed == self.number => Ok(node),
            _ => Err(Damage {
                place: record,
                what: DamageKind::Index,
            }
            .into()),
        }
    }

    /// Rebuilds the signed head that a record carries behind the first `kept` blocks of what came
    /// before: its roots are in the record, in the head
    /// before, or among the nodes stored earlier.
    pub(super) fn signed_head(
        &self,
        heads: &Heads,
        record: Place,
        filled: &Filled,
        stored: &StoredHead,
        kept: u64,
    ) -> Result<SignedHead, StoreError> {
        let damaged = |what| {
            StoreError::from(Damage {
                place: record,
                what,
            })
        };
        if stored.length > crate::limits::FEED_LENGTH_MAX {
            return Err(damaged(DamageKind::Index));
        }
        let before = self.head();
        let mut roots = Vec::new();
        for index in root_indexes(stored.length) {
            let here = filled
                .nodes
                .iter()
                .rev()
                .find(|node| node.index == index)
                .copied();
            let stays = completed_by(index) < kept;
            let known = here.or_else(|| before.root(index).filter(|_| stays).copied());
            let root = match known {
                Some(root) => Some(root),
                None if stays => self.node(heads, index)?,
                None => None,
            };
            roots.push(root.ok_or_else(|| damaged(DamageKind::Node))?);
        }
        let head = Head::from_roots(stored.fork, roots).ok_or_else(|| damaged(DamageKind::Node))?;
        if head.tree_hash() != stored.tree_hash {
            return Err(damaged(DamageKind::Node));
        }
        let signature = stored.signature.clone();
        Ok(SignedHead {
            head,
            tree_hash: stored.tree_hash,
            signature,
        })
    }
}

impl StoredRow {
    fn decoded(&self) -> FeedRow {
        FeedRow::decode(&self.row).expect("the row decoded when the index was loaded")
    }
}

impl FeedState {
    /// Makes the state of a feed from its row, and from its tables where the row does not say all.
    fn from_row(stored: StoredRow) -> FeedState {
        let row = stored.decoded();
        let known = row.manifest.as_ref().and_then(|encoded| {
            let manifest = Manifest::decode(encoded).ok()?;
            let verifier = Verifier::new(row.key, &manifest).ok()?;
            Some(Arc::new(KnownManifest { manifest, verifier }))
        });
        let (places, have, unknown) = match read_tables(&stored) {
            Ok((base, have)) => (Places::on(base), have, None),
            Err(error) => (Places::default(), Bitfield::new(), Some((error, stored))),
        };
        let (head_record, signed) = row.head.unzip();
        FeedState {
            role: row.role,
            manifest: known,
            feed_record: row.feed_record,
            signed: signed.map(Arc::new),
            head_record,
            conflict: row.conflict,
            places,
            have,
            blocks_held: row.blocks_held,
            bytes_held: row.bytes_held,
            unknown,
        }
    }

    /// Counts blocks as held no more.
    pub(super) fn forget_held(&mut self, blocks: Range<u64>) {
        // Of an endless range only what was held changes.
        let last = self.have.runs(blocks.clone()).last();
        let end = last.map_or(blocks.start, |run| run.end);
        let blocks = blocks.start..end;
        self.blocks_held -= self.have.count_range(blocks.clone());
        self.places.delta.have_changes(&blocks);
        self.have.clear_range(blocks);
    }

    fn to_row(&self, entry: &FeedEntry) -> FeedRow {
        let manifest = self.manifest.as_ref();
        let head = self.head_record.zip(self.signed.as_deref().cloned());
        FeedRow {
            number: entry.number,
            key: entry.key,
            role: self.role,
            kind: entry.kind,
            blocks_held: self.blocks_held,
            bytes_held: self.bytes_held,
            feed_record: self.feed_record,
            manifest: manifest.map(|known| known.manifest.encode().into()),
            head,
            conflict: self.conflict,
            have: row_runs(&self.have),
            spine: None,
        }
    }

    /// Takes a head that came with `record`, if one did.
    pub(super) fn set_head(&mut self, signed: Option<Arc<SignedHead>>, record: Place) {
        if let Some(signed) = signed {
            self.signed = Some(signed);
            self.head_record = Some(record);
        }
    }

    pub(super) fn head(&self) -> Option<&Head> {
        self.signed.as_ref().map(|signed| &signed.head)
    }
}

/// Reads the tables that a row points to, and which blocks are held.
fn read_tables(stored: &StoredRow) -> Result<(Option<Arc<Base>>, Bitfield), StoreError> {
    let row = stored.decoded();
    let base = row.spine.map(|at| Base::load(stored.file.clone(), at));
    let base = base.transpose()?;
    let have = match (&row.have, &base) {
        (Some(runs), _) => runs.iter().cloned().collect(),
        (None, Some(base)) => base.have()?,
        (None, None) => Bitfield::new(),
    };
    Ok((base.map(Arc::new), have))
}

/// The stored nodes of a feed, as the tree's functions look them up.
pub(super) struct StoredNodes<'a> {
    pub(super) entry: &'a FeedEntry,
    pub(super) heads: &'a Heads,
}

impl NodeSource for StoredNodes<'_> {
    type Error = StoreError;

    fn node(&self, index: u64) -> Result<Option<Node>, StoreError> {
        self.entry.node(self.heads, index)
    }
}
