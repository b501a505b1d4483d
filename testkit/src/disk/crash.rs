//! A disk that remembers what was asked of it, and can be cut off after any operation.
//!
//! Only a sync makes anything durable: of a file its content, of the folder its names. What is
//! pending at the cut survives as the policy says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kinlog_feeds::store::{Disk, DiskFile, DiskLock, LockError};

use crate::random::Random;

/// Where a torn write is cut: a sector.
const SECTOR_BYTES: usize = 512;

/// One operation that changes something, or a mark of the test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A name was given to a new file.
    Create { name: String, file: usize },
    /// Bytes were written.
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
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

/// What of the pending operations a power cut leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrashPolicy {
    /// Nothing: a clean power cut.
    DropPending,
    /// All: the process was killed.
    KeepPending,
    /// Those before a random one: an ordered journal.
    Prefix,
    /// A random subset: the drive reorders.
    Subset,
    /// A random subset whose last write is cut at a sector.
    TornWrite,
    /// Writes that grow a file grow it, but their content is zeros.
    SizeWithoutContent,
    /// Content is there, names that were not synced are not.
    NamesLost,
}

impl CrashPolicy {
    /// Every policy.
    pub const ALL: [CrashPolicy; 7] = [
        CrashPolicy::DropPending,
        CrashPolicy::KeepPending,
        CrashPolicy::Prefix,
        CrashPolicy::Subset,
        CrashPolicy::TornWrite,
        CrashPolicy::SizeWithoutContent,
        CrashPolicy::NamesLost,
    ];
}

/// A folder in memory that records every change; clones are the same folder.
#[derive(Clone, Debug, Default)]
pub struct CrashDisk {
    state: Arc<Mutex<State>>,
    locked: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    contents: Contents,
    events: Vec<Event>,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    files: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
}

impl CrashDisk {
    /// Makes an empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a folder in which these files are durable.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new();
        {
            let mut state = disk.state();
            for (name, bytes) in files {
                let file = state.contents.files.len();
                state.apply(Event::Create {
                    name: name.clone(),
                    file,
                });
                state.apply(Event::Write {
                    file,
                    offset: 0,
                    bytes: bytes.clone(),
                });
                state.apply(Event::SyncData { file });
            }
            state.apply(Event::SyncDir);
        }
        disk
    }

    /// Notes where the test is, for [`mark_before`](Self::mark_before).
    pub fn mark(&self, mark: u64) {
        self.state().apply(Event::Mark(mark));
    }

    /// Returns everything that happened.
    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// Returns the last mark among the first `events` events.
    pub fn mark_before(&self, events: usize) -> Option<u64> {
        self.state().events[..events]
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::Mark(mark) => Some(*mark),
                _ => None,
            })
    }

    /// Returns the files that a power cut after the first `events` events leaves.
    pub fn image(
        &self,
        events: usize,
        policy: CrashPolicy,
        seed: u64,
    ) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let events = &state.events[..events];
        let durable = durable(events);
        let mut kept = kept(events, &durable, policy, &mut Random::new(seed));
        let mut contents = Contents::default();
        for (event, keep) in events.iter().zip(&mut kept) {
            if let Event::Create { .. } = event {
                // The file exists; whether its name does is another matter.
                contents.files.push(Vec::new());
            }
            if let Some(event) = keep.take() {
                contents.apply(&event);
            }
        }
        let named = contents.names.iter();
        named
            .map(|(name, file)| (name.clone(), contents.files[*file].clone()))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says of each event whether a later sync made it durable.
fn durable(events: &[Event]) -> Vec<bool> {
    let mut durable = vec![false; events.len()];
    let mut synced_files = BTreeSet::new();
    let mut synced_names = false;
    for (event, durable) in events.iter().zip(&mut durable).rev() {
        match event {
            Event::SyncData { file } => {
                synced_files.insert(*file);
            }
            Event::SyncDir => synced_names = true,
            Event::Write { file, .. } | Event::SetLen { file, .. } | Event::Punch { file, .. } => {
                *durable = synced_files.contains(file)
            }
            Event::Create { .. } | Event::Rename { .. } | Event::Unlink { .. } => {
                *durable = synced_names;
            }
            Event::Mark(_) => {}
        }
    }
    durable
}

/// Returns the events that survive, in the form in which they do.
fn kept(
    events: &[Event],
    durable: &[bool],
    policy: CrashPolicy,
    random: &mut Random,
) -> Vec<Option<Event>> {
    let pending = durable.iter().filter(|durable| !**durable).count();
    let prefix = random.below(pending as u64 + 1) as usize;
    let mut seen = 0;
    let mut kept: Vec<Option<Event>> = events
        .iter()
        .zip(durable)
        .map(|(event, durable)| {
            if *durable {
                return Some(event.clone());
            }
            seen += 1;
            let name = matches!(
                event,
                Event::Create { .. } | Event::Rename { .. } | Event::Unlink { .. }
            );
            match (policy, event) {
                (CrashPolicy::DropPending, _) => None,
                (CrashPolicy::KeepPending, _) => Some(event.clone()),
                (CrashPolicy::Prefix, _) => (seen <= prefix).then(|| event.clone()),
                (CrashPolicy::Subset | CrashPolicy::TornWrite, _) => {
                    (random.below(2) == 0).then(|| event.clone())
                }
                (
                    CrashPolicy::SizeWithoutContent,
                    Event::Write {
                        file,
                        offset,
                        bytes,
                    },
                ) => {
                    let bytes = vec![0; bytes.len()];
                    Some(Event::Write {
                        file: *file,
                        offset: *offset,
                        bytes,
                    })
                }
                (CrashPolicy::SizeWithoutContent, _) => Some(event.clone()),
                (CrashPolicy::NamesLost, _) => (!name).then(|| event.clone()),
            }
        })
        .collect();
    if policy == CrashPolicy::TornWrite {
        let last = kept
            .iter_mut()
            .zip(durable)
            .rev()
            .find_map(|(kept, durable)| match kept {
                Some(Event::Write { bytes, .. }) if !durable => Some(bytes),
                _ => None,
            });
        if let Some(bytes) = last {
            let sectors = bytes.len() / SECTOR_BYTES;
            bytes.truncate(random.below(sectors as u64 + 1) as usize * SECTOR_BYTES);
        }
    }
    kept
}

impl State {
    /// Records an event and does it.
    fn apply(&mut self, event: Event) {
        if let Event::Create { .. } = event {
            self.contents.files.push(Vec::new());
        }
        self.contents.apply(&event);
        self.events.push(event);
    }
}

impl Contents {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { name, file } => {
                self.names.insert(name.clone(), *file);
            }
            Event::Write {
                file,
                offset,
                bytes,
            } => {
                let (content, start) = (&mut self.files[*file], *offset as usize);
                if content.len() < start + bytes.len() {
                    content.resize(start + bytes.len(), 0);
                }
                content[start..start + bytes.len()].copy_from_slice(bytes);
            }
            Event::SetLen { file, size } => self.files[*file].resize(*size as usize, 0),
            Event::Punch {
                file,
                offset,
                bytes,
            } => {
                let content = &mut self.files[*file];
                let end = ((offset + bytes) as usize).min(content.len());
                if let Some(hole) = content.get_mut(*offset as usize..end) {
                    hole.fill(0);
                }
            }
            Event::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Event::Unlink { name } => {
                self.names.remove(name);
            }
            Event::SyncData { .. } | Event::SyncDir | Event::Mark(_) => {}
        }
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
        self.state().apply(Event::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        });
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.state().apply(Event::Unlink {
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
        if self.locked.swap(true, Ordering::SeqCst) {
            return Err(LockError::Held {
                pid: std::process::id(),
            });
        }
        Ok(Box::new(CrashLock(self.locked.clone())))
    }
}

#[derive(Debug)]
struct CrashLock(Arc<AtomicBool>);

impl DiskLock for CrashLock {}

impl Drop for CrashLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
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
        Ok(self.state().contents.files[self.file].len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state();
        let rest = state.contents.files[self.file]
            .get(offset as usize..)
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.file;
        self.state().apply(Event::Write {
            file,
            offset,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        self.state().apply(Event::SetLen {
            file: self.file,
            size,
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().apply(Event::SyncData { file: self.file });
        Ok(())
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        self.state().apply(Event::Punch {
            file: self.file,
            offset,
            bytes,
        });
        Ok(true)
    }
}
