//! A disk that only reads from the one below it.
//!
//! Opening cuts off what a crash left and may make a new index. Neither reaches the disk here: what
//! opening cuts or syncs stays as it is, because nothing is ever read or written behind the log's
//! end, and a file that it makes is kept in memory.

use std::io;
use std::sync::Arc;

use crate::store::disk::{Disk, DiskFile, DiskLock, LockError};
use crate::store::memory_disk::MemoryDisk;

/// Reads from one disk; what is made new stays in memory.
#[derive(Debug)]
pub(super) struct ReadOnlyDisk {
    disk: Arc<dyn Disk>,
    made: MemoryDisk,
}

impl ReadOnlyDisk {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        ReadOnlyDisk {
            disk,
            made: MemoryDisk::new(),
        }
    }
}

impl Disk for ReadOnlyDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        match self.made.open(name, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => return made,
        }
        if create {
            // What is there by that name was cut off while it was made, and is made anew.
            return self.made.open(name, true);
        }
        let file = self.disk.open(name, false)?;
        Ok(Arc::new(ReadOnlyFile { file }))
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.made.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.made.unlink(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.disk.list()?;
        names.extend(self.made.list()?);
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn free_space(&self) -> io::Result<u64> {
        self.disk.free_space()
    }

    fn try_lock(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.try_lock_shared()
    }

    fn try_lock_shared(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.try_lock_shared()
    }
}

#[derive(Debug)]
struct ReadOnlyFile {
    file: Arc<dyn DiskFile>,
}

impl DiskFile for ReadOnlyFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _size: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _offset: u64, _bytes: u64) -> io::Result<bool> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, _offset: u64, _bytes: u64) -> io::Result<bool> {
        Ok(false)
    }
}
