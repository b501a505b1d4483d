//! What the store knows of a feed, in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::bitfield::Bitfield;
use crate::crypto::{DiscoveryKey, FeedKey};
use crate::limits::{KINLOG_BLOCK_BYTES_MAX, PLAIN_BLOCK_BYTES_MAX};
use crate::manifest::{Manifest, Verifier};
use crate::store::append::Appends;
use crate::store::body::{Filled, StoredHead};
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::heads::Heads;
use crate::store::index::completed_by;
use crate::store::index::places::Places;
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
    state: RwLock<FeedState>,
    writer: Mutex<FeedWriter>,
    /// Appends that wait for one that is being made.
    pub(super) appends: Mutex<Appends>,
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
    pub(super) fn new(
        number: u32,
        key: FeedKey,
        role: Role,
        kind: Kind,
        manifest: Option<KnownManifest>,
        feed_record: Place,
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
        };
        FeedEntry {
            number,
            key,
            discovery_key: key.discovery_key(),
            kind,
            state: RwLock::new(state),
            writer: Mutex::default(),
            appends: Mutex::default(),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, FeedState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, FeedState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
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
        let Some(place) = self.find_node(index)? else {
            return Ok(None);
        };
        let record = place.record();
        let head = heads.get(record)?;
        match head.node(place.ordinal()) {
            Some(node) if node.index == index && head.header.feed == self.number => Ok(Some(node)),
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

impl FeedState {
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
