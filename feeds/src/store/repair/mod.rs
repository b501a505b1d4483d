//! Repair: everything of a damaged store that still holds, copied into a fresh one.
//!
//! Opening a store refuses damage in what was durable, and rightly so: nobody may read a feed and
//! not be told that a piece of it is gone. Repair reads the old log record by record, past what is
//! damaged to the next record that holds, and writes a new log of feeds, nodes, heads and of the
//! blocks whose hashes hold. Then it opens the result and gives up what cannot be proved from a
//! signed head any more. The old store is only read.
//!
//! What a repair cannot know is whether a newest head of ours stood in what is gone: the end of a
//! log can be lost without a trace. Own feeds are therefore *unconfirmed* afterwards
//! ([`RepairedFeed::is_unconfirmed`]): their owner must not sign them with the same key before it
//! has asked others, as it may have signed that length already. An agent's fork guard sees to it,
//! because a repaired store has another id and another folder than the one it stands before.

mod copy;
mod folder;
mod new_log;
mod old_log;
mod prune;
mod report;

use std::sync::Arc;

pub use folder::{RepairedFolder, repair_folder};
pub use report::{Gap, RepairError, RepairReport, RepairedFeed};

use crate::store::disk::{Disk, LockError};
use crate::store::error::{OpenError, StoreError};
use crate::store::options::Options;
use crate::store::repair::copy::Copy;
use crate::store::repair::old_log::OldLog;
use crate::store::store::Store;

/// Copies what holds of the store on `from` into a new one on `into`, which is empty.
///
/// Takes the lock of the old store; writes nothing there. On return the new store is durable and
/// closed.
///
/// # Errors
///
/// [`RepairError::NoStore`] when not one header of a segment holds: without the id in it no record
/// can be checked.
pub fn repair(
    from: Arc<dyn Disk>,
    into: Arc<dyn Disk>,
    options: Options,
) -> Result<RepairReport, RepairError> {
    let _lock = from.try_lock().map_err(locked)?;
    repair_locked(from, into, options)
}

fn repair_locked(
    from: Arc<dyn Disk>,
    into: Arc<dyn Disk>,
    options: Options,
) -> Result<RepairReport, RepairError> {
    let old = OldLog::find(from)?;
    let mut copy = Copy::survey(&old)?;
    copy.write(&old, &into, &options)?;
    let store = Store::open(into, options)?;
    let pruned = prune::prune(&store, &copy);
    let closed = store.close();
    let feeds = pruned?;
    closed?;
    Ok(copy.into_report(feeds))
}

/// Reads the whole log of a store that may be damaged and reports what is missing or does not hold;
/// writes nothing.
///
/// Blocks are not read: [`Feed::verify`](crate::store::Feed::verify) does that of a store that
/// opens.
pub fn survey(disk: Arc<dyn Disk>) -> Result<Vec<Gap>, RepairError> {
    let _lock = disk.try_lock_shared().map_err(locked)?;
    let old = OldLog::find(disk)?;
    old.walk(&mut |_| Ok(()))
}

fn locked(error: LockError) -> OpenError {
    match error {
        LockError::Held { pid } => OpenError::Locked { pid },
        LockError::Io(error) => StoreError::io("try_lock", "lock", error).into(),
    }
}
