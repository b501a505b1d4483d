//! The real disk: a folder (0700) of files (0600), a lock held by `flock`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use crate::store::disk::{Disk, DiskFile, DiskLock, LockError};

/// The file whose `flock` says that a process uses the folder.
const LOCK_FILE: &str = "lock";

/// Parts that Linux and others take in one gathered write (IOV_MAX).
const PARTS_AT_ONCE: usize = 1024;

/// Bytes read of an owner record: a pid, a boot id and a random id fit three times over.
const OWNER_BYTES_MAX: u64 = 256;

/// A folder of the file system.
#[derive(Debug)]
pub struct FileDisk {
    folder: PathBuf,
}

impl FileDisk {
    /// Uses `folder`, which is created (0700) with its missing parents.
    pub fn new(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        if let Some(parent) = folder
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            File::open(parent)?.sync_all()?;
        }
        Ok(FileDisk { folder })
    }

    /// Uses `folder`, which is there, and creates nothing.
    pub fn existing(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        match fs::metadata(&folder)?.is_dir() {
            true => Ok(FileDisk { folder }),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Disk for FileDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .open(self.folder.join(name));
        let file = match file {
            // An archive on a medium that cannot be written can still be read.
            Err(error) if !create && is_read_only(&error) => File::open(self.folder.join(name))?,
            opened => opened?,
        };
        Ok(Arc::new(RealFile { file }))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if let (Ok(name), true) = (
                entry.file_name().into_string(),
                entry.file_type()?.is_file(),
            ) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn free_space(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn try_lock(&self) -> Result<Box<dyn DiskLock>, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.folder.join(LOCK_FILE))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(owner_record().as_bytes())?;
                Ok(Box::new(HeldLock { _file: Some(file) }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(owner_of(&mut file)),
            Err(other) => Err(LockError::Io(other.into())),
        }
    }

    fn try_lock_shared(&self) -> Result<Box<dyn DiskLock>, LockError> {
        let mut file = match File::open(self.folder.join(LOCK_FILE)) {
            Ok(file) => file,
            // Nobody ever took the folder: a copy, or an archive.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Box::new(HeldLock { _file: None }));
            }
            Err(error) => return Err(error.into()),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Box::new(HeldLock { _file: Some(file) })),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(owner_of(&mut file)),
            Err(other) => Err(LockError::Io(other.into())),
        }
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

/// Returns who wrote the owner record of a lock that another holds.
fn owner_of(file: &mut File) -> LockError {
    let mut text = String::new();
    // An owner record that cannot be read costs the pid in the message, no more.
    let _ = Read::by_ref(file)
        .take(OWNER_BYTES_MAX)
        .read_to_string(&mut text);
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("pid "));
    LockError::Held {
        pid: pid.and_then(|pid| pid.parse().ok()).unwrap_or(0),
    }
}

/// Says who holds the lock: pid, boot and a random id tell a stale copy from a live owner.
fn owner_record() -> String {
    let line = |name: &str| {
        let path = Path::new("/proc/sys/kernel/random").join(name);
        fs::read_to_string(path).unwrap_or_else(|_| "unknown\n".to_owned())
    };
    format!(
        "pid {}\nboot {}owner {}",
        std::process::id(),
        line("boot_id"),
        line("uuid")
    )
}

#[derive(Debug)]
struct HeldLock {
    /// Closing it releases the `flock`.
    _file: Option<File>,
}

impl DiskLock for HeldLock {}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_vectored_at(&self, mut offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        for parts in parts.chunks(PARTS_AT_ONCE) {
            let bytes: usize = parts.iter().map(|part| part.len()).sum();
            let mut written = match rustix::io::pwritev(&self.file, parts, offset) {
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => 0,
                Err(error) => return Err(error.into()),
            };
            if written < bytes {
                // Interrupted, or the disk became full: part by part says which.
                let mut at = offset;
                for part in parts {
                    let rest = part.get(written.min(part.len())..).unwrap_or_default();
                    let done = part.len() - rest.len();
                    self.write_at(at + done as u64, rest)?;
                    written -= done;
                    at += part.len() as u64;
                }
            }
            offset += bytes as u64;
        }
        Ok(())
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        use rustix::io::Errno;
        let flags = rustix::fs::FallocateFlags::empty();
        loop {
            return match rustix::fs::fallocate(&self.file, flags, offset, bytes) {
                Ok(()) => Ok(true),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
                Err(other) => Err(other.into()),
            };
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, _offset: u64, _bytes: u64) -> io::Result<bool> {
        Ok(false)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn punch_hole(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        use rustix::fs::FallocateFlags;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, bytes) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn punch_hole(&self, _offset: u64, _bytes: u64) -> io::Result<bool> {
        Ok(false)
    }
}
