//! A disk in memory that remembers what was asked of it, so that its power can be cut afterwards.
//!
//! Only a sync makes anything durable: of a file its content, of the folder its names.
//! [`Cuts`](super::Cuts) makes the images that a cut leaves.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kinlog_feeds::store::{Disk, DiskFile, DiskLock, LockError, MemoryDisk};

use crate::disk::content::Contents;

/// One operation that changes something, or a mark of the test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A name was given to a new file.
    Create { name: String, file: usize },
    /// Bytes were written.
    Write {
        file: usize,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    /// The size was set.
    SetLen { file: usize, size: u64 },
    /// A range was given back.
    Punch {
        file: usize,
        offset: u64,
        bytes: u64,
    },
    /// The file's content was made durable.
    SyncData { file: usize },
    /// The folder's names were made durable.
    SyncDir,
    /// A name was changed.
    Rename { from: String, to: String },
    /// A name was removed.
    Unlink { name: String },
    /// The test says where it is.
    Mark(u64),
}

impl Event {
    /// Returns whether this changes bytes or names, or makes changes durable.
    pub fn is_operation(&self) -> bool {
        !matches!(self, Event::Mark(_))
    }

    /// Returns whether this is a sync: it changes nothing but what a power cut leaves.
    pub fn is_sync(&self) -> bool {
        matches!(self, Event::SyncData { .. } | Event::SyncDir)
    }
}

/// A folder in memory that records every change; clones are the same folder.
#[derive(Clone, Debug, Default)]
pub struct CrashDisk {
    state: Arc<Mutex<State>>,
    /// Gives its lock; holds no file.
    lock: MemoryDisk,
}

#[derive(Debug, Default)]
struct State {
    /// What was durable when recording began.
    start: Contents,
    contents: Contents,
    events: Vec<Event>,
}

impl CrashDisk {
    /// Makes an empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a folder in which these files are durable.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Self {
        Self::from_contents(Contents::from_files(files))
    }

    pub(super) fn from_contents(contents: Contents) -> Self {
        let state = State {
            start: contents.clone(),
            contents,
            events: Vec::new(),
        };
        CrashDisk {
            state: Arc::new(Mutex::new(state)),
            lock: MemoryDisk::new(),
        }
    }

    /// Makes another folder with what stands in this one, all of it durable.
    pub fn fork(&self) -> CrashDisk {
        Self::from_contents(self.state().contents.clone())
    }

    /// Notes where the test is; [`Cuts::mark`](super::Cuts::mark) gives it back.
    pub fn mark(&self, mark: u64) {
        self.state().apply(Event::Mark(mark));
    }

    /// Returns everything that happened since the folder was made.
    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// Returns how many operations there were since the folder was made.
    pub fn operations(&self) -> usize {
        let state = self.state();
        state
            .events
            .iter()
            .filter(|event| event.is_operation())
            .count()
    }

    /// Returns whether anything but syncs happened since the folder was made.
    pub fn was_changed(&self) -> bool {
        let state = self.state();
        let mut operations = state.events.iter().filter(|event| event.is_operation());
        operations.any(|event| !event.is_sync())
    }

    /// Returns a copy of every file, by name.
    pub fn to_files(&self) -> BTreeMap<String, Vec<u8>> {
        self.state().contents.to_files()
    }

    pub(super) fn start(&self) -> Contents {
        self.state().start.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Records an event and does it.
    fn apply(&mut self, event: Event) {
        self.contents.apply(&event);
        self.events.push(event);
    }
}

impl Disk for CrashDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let file = match state.contents.names.get(name) {
            Some(file) => *file,
            None if create => {
                let file = state.contents.files.len();
                state.apply(Event::Create {
                    name: name.to_owned(),
                    file,
                });
                file
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(CrashFile {
            state: self.state.clone(),
            file,
        }))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.state().apply(Event::SyncDir);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.contents.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.apply(Event::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        });
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.contents.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.apply(Event::Unlink {
            name: name.to_owned(),
        });
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().contents.names.keys().cloned().collect())
    }

    fn free_space(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn try_lock(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.lock.try_lock()
    }

    fn try_lock_shared(&self) -> Result<Box<dyn DiskLock>, LockError> {
        self.lock.try_lock_shared()
    }
}

#[derive(Debug)]
struct CrashFile {
    state: Arc<Mutex<State>>,
    file: usize,
}

impl CrashFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for CrashFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state().contents.files[self.file].size() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state();
        Ok(state.contents.files[self.file].read(offset as usize, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (file, bytes) = (self.file, bytes.into());
        self.state().apply(Event::Write {
            file,
            offset,
            bytes,
        });
        Ok(())
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        let file = self.file;
        self.state().apply(Event::SetLen { file, size });
        Ok(())
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        let (file, size) = (self.file, offset + bytes);
        let mut state = self.state();
        if state.contents.files[file].size() < size as usize {
            state.apply(Event::SetLen { file, size });
        }
        Ok(true)
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = self.file;
        self.state().apply(Event::SyncData { file });
        Ok(())
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        let file = self.file;
        self.state().apply(Event::Punch {
            file,
            offset,
            bytes,
        });
        Ok(true)
    }
}
