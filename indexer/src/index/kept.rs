//! Bodies as the table of facts keeps them.
//!
//! A body that carries keys stands there as the block that it came in, sealed as its writer sealed it:
//! the file holds no key, and who asks opens it again with the keys that were handed in.

use bytes::Bytes;

use crate::BODY_FORMAT;
use crate::entry::{Body, Envelope, tag};
use crate::index::opening::{Opened, open};
use crate::index::state::{Place, State};
use crate::index::writer::Keys;

/// Returns whether bodies of this tag carry keys: of epochs, or of files.
fn carries_keys(tag: u64) -> bool {
    matches!(tag, tag::ROOM_KEYS | tag::FILE | tag::EPOCH_KEYS)
}

/// Returns what is kept of an entry's body.
pub(super) fn kept_body<'a>(envelope: &'a Envelope, block: &'a Bytes) -> &'a Bytes {
    match carries_keys(envelope.tag) {
        true => block,
        false => &envelope.body,
    }
}

/// Reads a body that this build reads; `None` where the key that opens it is not here any more.
pub(super) fn read_kept(
    state: &State,
    keys: &Keys,
    (feed, index): Place,
    tag: u64,
    kept: Bytes,
) -> Option<Body> {
    if !carries_keys(tag) {
        return Body::decode(tag, u64::from(BODY_FORMAT), &kept).ok();
    }
    let known = state.feeds.get(&feed)?;
    match open(keys, known.scope.sealed_in(), &feed, index, &kept) {
        Opened::Entry { body, .. } => body.ok(),
        Opened::Waits(_) | Opened::Skipped(_) => None,
    }
}
