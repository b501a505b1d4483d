//! A hash of the whole file, left beside it at a clean stop and checked at the next opening.
//!
//! SQLite notices damage in what holds its tables together, not in what stands in them. Everything
//! here can be read again from the feeds, so a flipped bit costs a rebuild, if only it is noticed.
//! While the index is open, and after a crash, there is no such hash and SQLite's own check has to
//! do.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kinlog_feeds::crypto::Blake2b256;

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Writes the hash when dropped, which has to be after the connection was closed.
#[derive(Debug)]
pub(super) struct SumAtClose {
    /// `None` for an index in memory.
    path: Option<PathBuf>,
}

impl SumAtClose {
    pub(super) fn none() -> Self {
        SumAtClose { path: None }
    }

    pub(super) fn of(path: &Path) -> Self {
        SumAtClose {
            path: Some(path.to_owned()),
        }
    }
}

impl Drop for SumAtClose {
    fn drop(&mut self) {
        let Some(path) = &self.path else { return };
        if std::thread::panicking() || beside(path, "-wal").exists() {
            return;
        }
        // Without a sum the next opening trusts what SQLite says.
        if let Err(error) = sum_of(path).and_then(|sum| write(&beside(path, "-sum"), &sum)) {
            tracing::debug!(%error, "no sum of the index");
        }
    }
}

/// Returns whether the file at `path` is what the last clean stop left, or nothing says so.
///
/// The hash is gone afterwards: from now on the file changes.
pub(super) fn holds(path: &Path) -> io::Result<bool> {
    let sum_path = beside(path, "-sum");
    let expected = match fs::read(&sum_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        read => read?,
    };
    let is_new = fs::metadata(path).map_or(true, |file| file.len() == 0);
    let holds = is_new || sum_of(path)?[..] == expected[..];
    fs::remove_file(&sum_path)?;
    Ok(holds)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sum_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Blake2b256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hash.finish()),
            Ok(read) => hash.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write(path: &Path, sum: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(sum)
}
