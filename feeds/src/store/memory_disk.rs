//! A disk in memory, for tests and for agents that keep nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::store::disk::{Disk, DiskFile, DiskLock, LockError};

/// A folder in memory; clones are the same folder.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    folder: Arc<Folder>,
}

#[derive(Debug, Default)]
struct Folder {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    /// How many read, or [`WRITER`].
    holders: Arc<AtomicU32>,
}

/// Marks a folder that one holds to write.
const WRITER: u32 = u32::MAX;

impl MemoryDisk {
    /// Makes an empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a folder of these files.
    pub fn from_files(files: BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new();
        for (name, bytes) in files {
            disk.files().insert(
                name,
                Arc::new(MemoryFile {
                    bytes: RwLock::new(bytes),
                }),
            );
        }
        disk
    }

    /// Returns a copy of every file, by name.
    pub fn to_files(&self) -> BTreeMap<String, Vec<u8>> {
        self.files()
            .iter()
            .map(|(name, file)| (name.clone(), file.read().clone()))
            .collect()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<MemoryFile>>> {
        self.folder
            .files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files();
        if let Some(file) = files.get(name) {
            return Ok(file.clone());
        }
        if !create {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = Arc::new(MemoryFile::default());
        files.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.files()
            .remove(name)
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn free_space(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn try_lock(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.hold(|holders| (holders == 0).then_some(WRITER))
    }

    fn try_lock_shared(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.hold(|holders| (holders < WRITER - 1).then_some(holders + 1))
    }
}

impl MemoryDisk {
    fn hold(&self, taken: fn(u32) -> Option<u32>) -> Result<Box<dyn DiskLock>, LockError> {
        let holders = &self.folder.holders;
        match holders.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken) {
            Ok(_) => Ok(Box::new(MemoryLock {
                holders: holders.clone(),
            })),
            Err(_) => Err(LockError::Held {
                pid: std::process::id(),
            }),
        }
    }
}

#[derive(Debug)]
struct MemoryLock {
    holders: Arc<AtomicU32>,
}

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let freed = |holders| match holders {
            WRITER => Some(0),
            readers => Some(readers - 1),
        };
        // The closure gives a value for every number of holders.
        let _ = self
            .holders
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, freed);
    }
}

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: RwLock<Vec<u8>>,
}

impl MemoryFile {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl DiskFile for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.read().len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.read();
        let rest = bytes.get(index(offset)?..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, new: &[u8]) -> io::Result<()> {
        let start = index(offset)?;
        let end = start
            .checked_add(new.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let mut bytes = self.write();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(new);
        Ok(())
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        let size = index(size)?;
        self.write().resize(size, 0);
        Ok(())
    }

    fn allocate(&self, offset: u64, count: u64) -> io::Result<bool> {
        let end = offset.checked_add(count);
        let end = index(end.ok_or(io::ErrorKind::FileTooLarge)?)?;
        let mut bytes = self.write();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        Ok(true)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, offset: u64, count: u64) -> io::Result<bool> {
        let start = index(offset)?;
        let mut bytes = self.write();
        let end = start.saturating_add(index(count)?).min(bytes.len());
        if let Some(hole) = bytes.get_mut(start..end) {
            hole.fill(0);
        }
        Ok(true)
    }
}
