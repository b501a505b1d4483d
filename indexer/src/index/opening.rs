//! Blocks opened and decoded: everything about one that needs no table, done beside the thread
//! that writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use bytes::Bytes;
use kinlog_feeds::crypto::FeedKey;

use crate::RoomId;
use crate::entry::{Body, BodyError, EntryError, Envelope, LinkScope, OPEN_BLOCK};
use crate::index::key_map::KeyMap;
use crate::index::links::HeldHashes;
use crate::index::room_acts::ActBytes;
use crate::index::state::Tags;
use crate::index::writer::Keys;
use crate::index::{Block, Scope, TreeHashes};
use crate::limits::{OPENED_APART_MIN, OPENED_AT_ONCE};
use crate::seal::{EpochId, SEALED_BLOCK, SealedBlock, open_with_id};

/// What a block turned out to be.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every block is an entry")]
pub(super) enum Opened {
    /// An entry with a readable envelope.
    Entry {
        envelope: Envelope,
        body: Result<Body, BodyError>,
        /// What names it, if it is an act.
        act: Option<ActBytes>,
        /// What its links have to state.
        held: HeldHashes,
    },
    /// Sealed in an epoch whose key is not held.
    Waits(EpochId),
    /// Nothing that is indexed, and why.
    Skipped(&'static str),
}

/// Where a feed belongs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Belonging {
    /// Whose epochs seal it.
    room: Option<RoomId>,
    links: Option<LinkScope>,
}

impl Belonging {
    pub(super) fn of(scope: &Scope) -> Self {
        Belonging {
            room: scope.sealed_in(),
            links: scope.link_scope(),
        }
    }
}

/// What it takes to open blocks: nothing that the writer changes meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    pub(super) keys: &'a Keys,
    pub(super) tags: &'a Tags,
    pub(super) trees: Option<&'a dyn TreeHashes>,
}

impl Opening<'_> {
    /// Opens a block, and looks what its links have to state.
    pub(super) fn open(
        &self,
        belonging: &Belonging,
        feed: &FeedKey,
        index: u64,
        block: &Bytes,
    ) -> Opened {
        let mut opened = open(self.keys, belonging.room, feed, index, block);
        if let (Opened::Entry { envelope, held, .. }, Some(scope), Some(trees)) =
            (&mut opened, belonging.links, self.trees)
        {
            *held = HeldHashes::ask(trees, self.tags, scope, envelope.links.as_slice());
        }
        opened
    }
}

/// Opens a block of a feed that belongs to `room`, or to none.
pub(super) fn open(
    keys: &Keys,
    room: Option<RoomId>,
    feed: &FeedKey,
    index: u64,
    block: &Bytes,
) -> Opened {
    match block.first() {
        Some(&OPEN_BLOCK) => decode(&block.slice(1..), None),
        Some(&SEALED_BLOCK) => {
            let Ok(SealedBlock { epoch }) = SealedBlock::head(block) else {
                return Opened::Skipped("not_entries");
            };
            let Some(key) = room.and_then(|room| keys.get(&(room, epoch))) else {
                return Opened::Waits(epoch);
            };
            match open_with_id(key, epoch, feed, index, block) {
                Ok(entry) => decode(&entry, Some(epoch)),
                Err(_) => Opened::Skipped("unopened"),
            }
        }
        _ => Opened::Skipped("not_entries"),
    }
}

fn decode(entry: &Bytes, sealed_by: Option<EpochId>) -> Opened {
    match Envelope::decode(entry) {
        Ok(envelope) => {
            let body = Body::decode(envelope.tag, envelope.format, &envelope.body);
            let act = matches!(body, Ok(Body::Act(_))).then(|| ActBytes {
                entry: entry.clone(),
                sealed_by,
            });
            Opened::Entry {
                envelope,
                body,
                act,
                held: HeldHashes::default(),
            }
        }
        Err(EntryError::Newer { .. }) => Opened::Skipped("newer"),
        Err(_) => Opened::Skipped("malformed"),
    }
}

/// Gives `work` each of `blocks`, opened, in order; a thread beside it opens many of them, and where
/// that is behind, this one does. `feeds` says of each feed where it belongs.
pub(super) fn open_all<E>(
    blocks: &[Block],
    opening: Opening<'_>,
    feeds: &KeyMap<FeedKey, Belonging>,
    mut work: impl FnMut(&Block, Opened) -> Result<(), E>,
) -> Result<(), E> {
    let opened = |block: &Block| {
        let belonging = feeds.get(&block.feed).copied().unwrap_or_default();
        opening.open(&belonging, &block.feed, block.index, &block.bytes)
    };
    if blocks.len() < OPENED_APART_MIN {
        return blocks
            .iter()
            .try_for_each(|block| work(block, opened(block)));
    }
    let parts: Vec<Part<'_>> = blocks.chunks(OPENED_AT_ONCE).map(Part::new).collect();
    thread::scope(|scope| {
        let (to, from) = channel();
        let parts = &parts;
        scope.spawn(move || {
            for part in parts.iter().filter(|part| part.take()) {
                let opened: Vec<Opened> = part.blocks.iter().map(opened).collect();
                // The writer failed and waits for no more.
                if to.send(opened).is_err() {
                    return;
                }
            }
        });
        for part in parts {
            let mut beside = if part.take() {
                None
            } else {
                let next = from.recv();
                let next = next.expect("what that thread took it sends, in order");
                Some(next.into_iter())
            };
            for block in part.blocks {
                let next = beside.as_mut().and_then(Iterator::next);
                work(block, next.unwrap_or_else(|| opened(block)))?;
            }
        }
        Ok(())
    })
}

/// Blocks that one of two threads opens.
struct Part<'a> {
    blocks: &'a [Block],
    is_taken: AtomicBool,
}

impl<'a> Part<'a> {
    fn new(blocks: &'a [Block]) -> Self {
        Part {
            blocks,
            is_taken: AtomicBool::new(false),
        }
    }

    /// Returns whether nobody took it before.
    fn take(&self) -> bool {
        !self.is_taken.swap(true, Ordering::Relaxed)
    }
}
