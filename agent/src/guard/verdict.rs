//! Whether an installation is certain to be the only and newest one: from values alone.

use kinlog_feeds::crypto::DeviceKey;

use crate::guard::place::Place;
use crate::guard::record::{ForeignHead, Found, Twin, VERSION};

/// What makes an installation uncertain, one sentence each.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Doubt {
    /// Nothing was compared yet.
    #[error("it was not checked yet whether this device may sign")]
    Unchecked,
    /// The agent has this device no more.
    #[error("it was revoked by {by}")]
    Revoked { by: String },
    /// No record, or none that can be read.
    #[error("the home has no install record that can be read ({reason})")]
    Record { reason: String },
    /// A record made for another device secret.
    #[error("the install record was made for another device than the one whose secret is here")]
    OtherDevice,
    /// No twin.
    #[error(
        "nothing is known of this installation in {place}: the home came from elsewhere, or the state folder was lost"
    )]
    TwinMissing { place: String },
    /// A twin that cannot be read.
    #[error("what {place} knows of this installation cannot be read ({reason})")]
    Twin { place: String, reason: String },
    /// Another machine.
    #[error("this is not the machine that the home was last used on")]
    OtherMachine,
    /// Another folder.
    #[error(
        "the store's folder is not the one that was last written: it was copied, restored or moved to another disk"
    )]
    OtherFolder,
    /// An older record than the twin names.
    #[error(
        "the home is older than when it was last used ({actual} signatures reserved, {expected} were): it was restored from a copy"
    )]
    HomeOlder { expected: u64, actual: u64 },
    /// An older twin than the record.
    #[error(
        "the state folder is older than the home ({actual} signatures reserved, {expected} were): it was restored from a copy"
    )]
    TwinOlder { expected: u64, actual: u64 },
    /// As many signatures reserved, by two lives of the installation.
    #[error("home and state folder do not belong together: one of them was restored from a copy")]
    Apart,
    /// The record is what it should be, in another file.
    #[error(
        "the install record is a copy of the one that was written: home and state folder were restored"
    )]
    RecordCopied,
    /// Another store.
    #[error("the store is not the one that was last written")]
    OtherStore,
    /// An older store.
    #[error(
        "the store ends at record {actual}, it had {expected}: it was restored from a copy, or the disk lost what it had acknowledged"
    )]
    StoreOlder { expected: u64, actual: u64 },
    /// A head that this store did not sign.
    #[error(
        "a peer has a head of {length} blocks of our feed {feed} that this device did not sign: another copy of it has written, or this one is older"
    )]
    ForeignHead { feed: String, length: u64 },
}

impl From<&ForeignHead> for Doubt {
    fn from(head: &ForeignHead) -> Self {
        Doubt::ForeignHead {
            feed: head.feed.to_string(),
            length: head.length,
        }
    }
}

/// What an installation is compared with.
#[derive(Debug)]
pub(super) struct Actual<'a> {
    pub(super) device: DeviceKey,
    pub(super) place: &'a Place,
    pub(super) store: &'a str,
    /// Newest durable record of the store.
    pub(super) sequence: u64,
}

/// Compares the record in the home with its twin and with what is here.
///
/// While the twin names a record that is on its way, either is the home's: nothing was signed under
/// the newer one yet, and whatever was signed under the older one is in the store.
pub(super) fn judge(found: &Found, twin: &Twin, actual: &Actual<'_>) -> Result<(), Doubt> {
    let record = &found.record;
    if let Some(head) = &record.tripped {
        return Err(head.into());
    }
    if record.v != VERSION || twin.v != VERSION {
        let (one, other) = (record.v, twin.v);
        let reason = format!("written by a newer build: version {one} and {other}");
        return Err(Doubt::Record { reason });
    }
    if twin.install != record.install {
        return Err(Doubt::Apart);
    }
    if *record.device != actual.device {
        return Err(Doubt::OtherDevice);
    }
    if record.place.machine != actual.place.machine {
        return Err(Doubt::OtherMachine);
    }
    let is_settled = found.hash == twin.record;
    let is_next = twin
        .next
        .as_ref()
        .is_some_and(|next| found.hash == next.record);
    if !is_settled && !is_next {
        let newest = twin
            .next
            .as_ref()
            .map_or(twin.reserved, |next| next.reserved);
        return Err(match record.reserved {
            reserved if reserved < twin.reserved => Doubt::HomeOlder {
                expected: twin.reserved,
                actual: reserved,
            },
            reserved if reserved > newest => Doubt::TwinOlder {
                expected: reserved,
                actual: newest,
            },
            _ => Doubt::Apart,
        });
    }
    if !record.place.is_same_folder(actual.place) {
        return Err(Doubt::OtherFolder);
    }
    if is_settled && !twin.file.is_same(&found.file) {
        return Err(Doubt::RecordCopied);
    }
    if record.store != actual.store {
        return Err(Doubt::OtherStore);
    }
    if actual.sequence < record.sequence {
        return Err(Doubt::StoreOlder {
            expected: record.sequence,
            actual: actual.sequence,
        });
    }
    Ok(())
}
