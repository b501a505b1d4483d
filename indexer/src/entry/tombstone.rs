//! The end of what was said: entries that are deleted, each with everything of it but its body.
//!
//! Whoever holds a deletion needs nothing of the deleted block any more: where the entry stood, what it
//! linked to and when it was dated stand in the deletion. So those who had the block and those who
//! never saw it have the same tables.

use bytes::Bytes;

use crate::Text;
use crate::entry::body::text;
use crate::entry::marks::required;
use crate::entry::{BodyError, Envelope, Ref, tag};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{DELETED_HEAD_BYTES_MAX, DELETED_MAX, REASON_BYTES_MAX};

/// An entry that is deleted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deleted {
    /// Where it stood.
    pub entry: Ref,
    head: Bytes,
}

/// The end of messages and edits: in a room, by the agent whose they are.
///
/// An admin or owner ends those of others by an act with the same content
/// ([`Deed::Delete`](crate::entry::Deed::Delete)).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tombstone {
    deleted: Vec<Deleted>,
    /// Why, for people; may be empty.
    pub reason: Text<REASON_BYTES_MAX>,
}

impl Deleted {
    /// Takes the place of an entry and its bytes up to its body; of a message, a file or an edit, at
    /// most [`DELETED_HEAD_BYTES_MAX`].
    pub fn new(entry: Ref, head: Bytes) -> Result<Self, BodyError> {
        let actual = head.len() as u64;
        let fault = BodyError::Value {
            field: "head",
            actual,
        };
        if head.len() > DELETED_HEAD_BYTES_MAX {
            return Err(fault);
        }
        match Envelope::decode(&head) {
            Ok(envelope) if envelope.body.is_empty() && may_be_deleted(envelope.tag) => {
                Ok(Deleted { entry, head })
            }
            _ => Err(fault),
        }
    }

    /// Returns the entry's bytes up to its body.
    pub fn head(&self) -> &Bytes {
        &self.head
    }
}

impl Tombstone {
    /// Takes at least one and at most [`DELETED_MAX`] entries, in any order; each is named once.
    pub fn new(
        mut deleted: Vec<Deleted>,
        reason: Text<REASON_BYTES_MAX>,
    ) -> Result<Self, BodyError> {
        deleted.sort_unstable_by_key(|one| one.entry);
        deleted.dedup_by_key(|one| one.entry);
        if deleted.is_empty() || deleted.len() > DELETED_MAX {
            return Err(BodyError::Value {
                field: "deleted",
                actual: deleted.len() as u64,
            });
        }
        Ok(Tombstone { deleted, reason })
    }

    /// Returns what is deleted, by place.
    pub fn deleted(&self) -> &[Deleted] {
        &self.deleted
    }
}

/// Returns whether entries of this tag may be deleted: what people said, and nothing that others
/// stand on.
fn may_be_deleted(tag: u64) -> bool {
    matches!(tag, tag::MESSAGE | tag::FILE | tag::EDIT)
}

impl TryFrom<wire::Tombstone> for Tombstone {
    type Error = BodyError;

    fn try_from(body: wire::Tombstone) -> Result<Self, BodyError> {
        let deleted = body.deleted.into_iter().take(DELETED_MAX + 1);
        let deleted = deleted.map(|one| Deleted::new(required("entry", one.entry)?, one.head));
        let deleted: Vec<Deleted> = deleted.collect::<Result<_, BodyError>>()?;
        if !deleted.windows(2).all(|pair| pair[0].entry < pair[1].entry) {
            return Err(BodyError::Order { field: "deleted" });
        }
        Tombstone::new(deleted, text("reason", body.reason)?)
    }
}

impl From<&Tombstone> for wire::Tombstone {
    fn from(body: &Tombstone) -> Self {
        let deleted = |one: &Deleted| wire::Deleted {
            entry: Some((&one.entry).into()),
            head: one.head.clone(),
        };
        wire::Tombstone {
            reason: body.reason.to_string(),
            deleted: body.deleted.iter().map(deleted).collect(),
        }
    }
}
