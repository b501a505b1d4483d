//! A folder whose files are written and never synced, as npm hypercore writes them.

use std::io::{self, IoSlice};
use std::sync::Arc;

use anyhow::Result;
use kinlog_feeds::store::{Disk, DiskFile, DiskLock, FileDisk, LockError, Options, Store};

use crate::append::random;
use crate::scratch::Scratch;

/// Opens a new store that acknowledges what a power cut would take.
pub(super) fn open(scratch: &Scratch) -> Result<Store> {
    let disk = Unsynced(FileDisk::new(scratch.path())?);
    Ok(Store::open(Arc::new(disk), Options::new(random()?))?)
}

#[derive(Debug)]
struct Unsynced(FileDisk);

impl Disk for Unsynced {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(UnsyncedFile(self.0.open(name, create)?)))
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.0.unlink(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn free_space(&self) -> io::Result<u64> {
        self.0.free_space()
    }

    fn try_lock(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.0.try_lock()
    }

    fn try_lock_shared(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.0.try_lock_shared()
    }
}

#[derive(Debug)]
struct UnsyncedFile(Arc<dyn DiskFile>);

impl DiskFile for UnsyncedFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.0.write_vectored_at(offset, parts)
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.0.allocate(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.0.punch_hole(offset, bytes)
    }
}
