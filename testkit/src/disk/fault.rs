//! A disk that refuses an operation.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kinlog_feeds::store::{Disk, DiskFile, DiskLock, LockError};

/// How an operation is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// EIO; nothing happened.
    Io,
    /// EINTR; nothing happened, and the disk below the store does not try again.
    Interrupted,
    /// ENOSPC; nothing happened.
    NoSpace,
    /// ENOSPC after half of a write; for other operations like [`Fault::NoSpace`].
    ShortWrite,
}

/// Passes operations on to another disk, until the one that it is told to refuse.
///
/// Reads, writes, syncs and names all count as operations; taking the lock and asking for the size
/// do not.
#[derive(Clone, Debug)]
pub struct FaultDisk {
    disk: Arc<dyn Disk>,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    done: AtomicU64,
    fault: Mutex<Option<(u64, Fault, bool)>>,
    full: Mutex<Option<Fault>>,
    fired: AtomicBool,
    paused: AtomicBool,
}

impl Plan {
    /// Counts an operation; returns how it is refused, if so.
    fn count(&self) -> Option<Fault> {
        if self.paused.load(Ordering::SeqCst) {
            return None;
        }
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, fault, persistent) = fault?;
        let refused = number == at || persistent && number > at;
        if refused {
            self.fired.store(true, Ordering::SeqCst);
        }
        refused.then_some(fault)
    }

    fn full(&self) -> MutexGuard<'_, Option<Fault>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> io::Result<()> {
        match self.count() {
            None => Ok(()),
            Some(fault) => Err(error(fault)),
        }
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Io => io::Error::from_raw_os_error(5),
        Fault::Interrupted => io::ErrorKind::Interrupted.into(),
        Fault::NoSpace | Fault::ShortWrite => io::Error::from(io::ErrorKind::StorageFull),
    }
}

impl FaultDisk {
    /// Refuses nothing until told to.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        FaultDisk {
            disk,
            plan: Arc::default(),
        }
    }

    /// Refuses operation number `at` (from 0, of all so far), once or from then on.
    pub fn refuse(&self, at: u64, fault: Fault, persistent: bool) {
        *self
            .plan
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((at, fault, persistent));
    }

    /// Refuses whatever makes a file longer or makes a new one, as a full disk does, until
    /// [`heal`](Self::heal).
    pub fn refuse_growth(&self, fault: Fault) {
        *self.plan.full() = Some(fault);
    }

    /// Refuses nothing any more.
    pub fn heal(&self) {
        *self.plan.full() = None;
        *self
            .plan
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Refuses and counts nothing while `look` runs: a test looks at what is there.
    pub fn paused<T>(&self, look: impl FnOnce() -> T) -> T {
        self.plan.paused.store(true, Ordering::SeqCst);
        let seen = look();
        self.plan.paused.store(false, Ordering::SeqCst);
        seen
    }

    /// Returns how many operations were counted.
    pub fn operations(&self) -> u64 {
        self.plan.done.load(Ordering::SeqCst)
    }

    /// Returns whether an operation was refused.
    pub fn fired(&self) -> bool {
        self.plan.fired.load(Ordering::SeqCst)
    }
}

impl Disk for FaultDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.plan.check()?;
        let file = match (self.disk.open(name, false), *self.plan.full()) {
            (Err(missing), Some(fault)) if create && missing.kind() == io::ErrorKind::NotFound => {
                return Err(error(fault));
            }
            (Err(_), _) => self.disk.open(name, create)?,
            (found, _) => found?,
        };
        Ok(Arc::new(FaultFile {
            file,
            plan: self.plan.clone(),
        }))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.plan.check()?;
        self.disk.sync_dir()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.check()?;
        self.disk.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.plan.check()?;
        self.disk.unlink(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.plan.check()?;
        self.disk.list()
    }

    fn free_space(&self) -> io::Result<u64> {
        match *self.plan.full() {
            Some(_) => Ok(0),
            None => self.disk.free_space(),
        }
    }

    fn try_lock(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.try_lock()
    }

    fn try_lock_shared(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.try_lock_shared()
    }
}

#[derive(Debug)]
struct FaultFile {
    file: Arc<dyn DiskFile>,
    plan: Arc<Plan>,
}

impl DiskFile for FaultFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.plan.check()?;
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let grows = offset + bytes.len() as u64 > self.file.size()?;
        let full = self.plan.full().filter(|_| grows);
        match self.plan.count().or(full) {
            None => self.file.write_at(offset, bytes),
            Some(Fault::ShortWrite) => {
                self.file.write_at(offset, &bytes[..bytes.len() / 2])?;
                Err(error(Fault::ShortWrite))
            }
            Some(fault) => Err(error(fault)),
        }
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        self.plan.check()?;
        if let Some(fault) = self
            .plan
            .full()
            .filter(|_| self.file.size().is_ok_and(|now| size > now))
        {
            return Err(error(fault));
        }
        self.file.set_len(size)
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.plan.check()?;
        match *self.plan.full() {
            // As much as there was room for.
            Some(Fault::ShortWrite) => {
                self.file.allocate(offset, bytes / 2)?;
                Err(error(Fault::ShortWrite))
            }
            Some(fault) => Err(error(fault)),
            None => self.file.allocate(offset, bytes),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plan.check()?;
        self.file.sync_data()
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.plan.check()?;
        self.file.punch_hole(offset, bytes)
    }
}
