//! Blocks opened and decoded: everything about one that needs no table, done beside the thread
//! that writes.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use bytes::Bytes;
use kinlog_feeds::crypto::FeedKey;

use crate::RoomId;
use crate::entry::{Body, BodyError, EntryError, Envelope, OPEN_BLOCK};
use crate::index::Block;
use crate::index::room_acts::ActBytes;
use crate::index::writer::Keys;
use crate::limits::{OPENED_AHEAD_MAX, OPENED_APART_MIN, OPENED_AT_ONCE};
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
    },
    /// Sealed in an epoch whose key is not held.
    Waits(EpochId),
    /// Nothing that is indexed, and why.
    Skipped(&'static str),
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
            }
        }
        Err(EntryError::Newer { .. }) => Opened::Skipped("newer"),
        Err(_) => Opened::Skipped("malformed"),
    }
}

/// Gives `work` each of `blocks`, opened, in order; many of them are opened in a thread beside it.
/// `rooms` says of each feed of a room which it is.
pub(super) fn open_all<E>(
    blocks: &[Block],
    keys: &Keys,
    rooms: &HashMap<FeedKey, RoomId>,
    mut work: impl FnMut(&Block, Opened) -> Result<(), E>,
) -> Result<(), E> {
    let opened = |block: &Block| {
        let room = rooms.get(&block.feed).copied();
        open(keys, room, &block.feed, block.index, &block.bytes)
    };
    if blocks.len() < OPENED_APART_MIN {
        return blocks
            .iter()
            .try_for_each(|block| work(block, opened(block)));
    }
    thread::scope(|scope| {
        let (to, from) = sync_channel(OPENED_AHEAD_MAX);
        scope.spawn(move || {
            for chunk in blocks.chunks(OPENED_AT_ONCE) {
                let opened: Vec<Opened> = chunk.iter().map(opened).collect();
                // The writer failed and waits for no more.
                if to.send(opened).is_err() {
                    return;
                }
            }
        });
        take_all(blocks, &from, work)
    })
}

fn take_all<E>(
    blocks: &[Block],
    from: &Receiver<Vec<Opened>>,
    mut work: impl FnMut(&Block, Opened) -> Result<(), E>,
) -> Result<(), E> {
    for chunk in blocks.chunks(OPENED_AT_ONCE) {
        let opened = from
            .recv()
            .expect("the thread sends every chunk unless this end is gone");
        for (block, opened) in chunk.iter().zip(opened) {
            work(block, opened)?;
        }
    }
    Ok(())
}
