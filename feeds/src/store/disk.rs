//! The one seam between the store and the world: files of one folder.
//!
//! Everything the store reads or writes goes through these two small synchronous traits, so that
//! tests can fail any operation and cut the power between any two of them. An implementation
//! promises what POSIX promises and no more: a write is durable after [`DiskFile::sync_data`] of
//! its file, a name after [`Disk::sync_dir`].

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// One folder of files.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens file `name`; creates it empty when `create` is set and it does not exist.
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes created, renamed and removed names durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Renames a file, replacing what stands at `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name; an open file stays readable.
    fn unlink(&self, name: &str) -> io::Result<()>;

    /// Returns the names of all files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Returns the bytes that can still be written.
    fn free_space(&self) -> io::Result<u64>;

    /// Takes the folder for this process; it is free again when the guard is dropped.
    fn try_lock(&self) -> Result<Box<dyn DiskLock>, LockError>;

    /// Keeps others from taking the folder, together with all who only read it; changes nothing.
    fn try_lock_shared(&self) -> Result<Box<dyn DiskLock>, LockError>;
}

/// One open file, shared by all threads; every operation names its place.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Returns the size in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Reads from `offset` until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes all parts behind one another at `offset`, as one write where the system can.
    ///
    /// The default joins them, so that a disk of a test sees one write.
    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        match parts {
            [whole] => self.write_at(offset, whole),
            _ => {
                let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
                self.write_at(offset, &bytes)
            }
        }
    }

    /// Cuts the file to `size` bytes, or grows it by zeros.
    fn set_len(&self, size: u64) -> io::Result<()>;

    /// Makes the file `bytes` longer from its end at `offset`, with the space for them taken and nothing
    /// written: they read as zeros. As durable as a write before [`sync_data`](Self::sync_data).
    ///
    /// Returns whether it did: where the file system cannot, nothing changes.
    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<bool>;

    /// Makes everything written to this file durable, its size included.
    fn sync_data(&self) -> io::Result<()>;

    /// Gives the bytes of a range back to the file system, as far as they are whole pages of it, and
    /// overwrites the rest; all read as zeros afterwards.
    ///
    /// Returns whether the space was given back: where the file system cannot, nothing changes.
    fn punch_hole(&self, offset: u64, bytes: u64) -> io::Result<bool>;
}

/// Holds a folder until dropped.
pub trait DiskLock: fmt::Debug + Send + Sync {}

/// Why a folder could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process, or another store in this one, holds it.
    #[error("the store is in use by process {pid}")]
    Held {
        /// Who holds it; 0 when its owner record cannot be read.
        pid: u32,
    },
    /// The lock file cannot be used.
    #[error("lock file cannot be used")]
    Io(#[from] io::Error),
}

/// Reads exactly `buffer.len()` bytes; a file that ends earlier is `UnexpectedEof`.
pub(super) fn read_exact_at(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    if file.read_at(offset, buffer)? == buffer.len() {
        return Ok(());
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof))
}
