//! A disk that notes what is asked of it and what came of it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kinlog_feeds::store::{Disk, DiskFile, DiskLock, LockError};

/// What was asked of a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OperationKind {
    /// A file was opened that was there.
    Open,
    /// A file was opened to be made, for the first time.
    Create,
    /// Bytes were read.
    Read,
    /// Bytes were written inside the file.
    Write,
    /// Bytes were written behind the file's end, or its size was raised.
    Grow,
    /// The file was cut.
    Cut,
    /// The file was made durable.
    Sync,
    /// The folder's names were made durable.
    SyncDir,
    /// A name was changed; the file is the new name.
    Rename,
    /// A name was removed.
    Unlink,
    /// The names were listed.
    List,
    /// A range was given back.
    Punch,
}

impl OperationKind {
    /// Returns whether this changes bytes or names, or makes changes durable.
    pub fn is_change(self) -> bool {
        !matches!(
            self,
            OperationKind::Open | OperationKind::Read | OperationKind::List
        )
    }
}

/// One operation and its outcome.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operation {
    /// What was asked.
    pub kind: OperationKind,
    /// Of which file; empty for the folder.
    pub file: String,
    /// Whether it was refused.
    pub refused: bool,
}

/// Passes operations on to another disk and notes them, the same ones that
/// [`FaultDisk`](super::FaultDisk) counts, in the same order.
#[derive(Clone, Debug)]
pub struct TraceDisk {
    disk: Arc<dyn Disk>,
    trace: Trace,
}

#[derive(Clone, Debug, Default)]
struct Trace(Arc<Mutex<Vec<Operation>>>);

impl Trace {
    fn operations(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<T>(&self, kind: OperationKind, file: &str, outcome: io::Result<T>) -> io::Result<T> {
        self.operations().push(Operation {
            kind,
            file: file.to_owned(),
            refused: outcome.is_err(),
        });
        outcome
    }
}

impl TraceDisk {
    /// Notes what is asked of `disk` from here on.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        TraceDisk {
            disk,
            trace: Trace::default(),
        }
    }

    /// Returns the operations so far.
    pub fn operations(&self) -> Vec<Operation> {
        self.trace.operations().clone()
    }
}

impl Disk for TraceDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        // To ask the disk would be an operation more.
        let seen = self.trace.operations().iter().any(|o| o.file == name);
        let kind = match create && !seen {
            true => OperationKind::Create,
            false => OperationKind::Open,
        };
        let file = self.trace.note(kind, name, self.disk.open(name, create))?;
        Ok(Arc::new(TraceFile {
            file,
            name: name.to_owned(),
            trace: self.trace.clone(),
        }))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let outcome = self.disk.sync_dir();
        self.trace.note(OperationKind::SyncDir, "", outcome)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let outcome = self.disk.rename(from, to);
        self.trace.note(OperationKind::Rename, to, outcome)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let outcome = self.disk.unlink(name);
        self.trace.note(OperationKind::Unlink, name, outcome)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let outcome = self.disk.list();
        self.trace.note(OperationKind::List, "", outcome)
    }

    fn free_space(&self) -> io::Result<u64> {
        self.disk.free_space()
    }

    fn try_lock(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.try_lock()
    }

    fn try_lock_shared(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.try_lock_shared()
    }
}

#[derive(Debug)]
struct TraceFile {
    file: Arc<dyn DiskFile>,
    name: String,
    trace: Trace,
}

impl TraceFile {
    fn note<T>(&self, kind: OperationKind, outcome: io::Result<T>) -> io::Result<T> {
        self.trace.note(kind, &self.name, outcome)
    }
}

impl DiskFile for TraceFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.note(OperationKind::Read, self.file.read_at(offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let kind = match offset + bytes.len() as u64 > self.file.size()? {
            true => OperationKind::Grow,
            false => OperationKind::Write,
        };
        self.note(kind, self.file.write_at(offset, bytes))
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        let kind = match size > self.file.size()? {
            true => OperationKind::Grow,
            false => OperationKind::Cut,
        };
        self.note(kind, self.file.set_len(size))
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.note(OperationKind::Grow, self.file.allocate(offset, bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(OperationKind::Sync, self.file.sync_data())
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.note(OperationKind::Punch, self.file.punch_hole(offset, bytes))
    }
}
