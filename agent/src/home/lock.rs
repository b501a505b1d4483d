//! One process per home: an exclusive lock on a file that names its owner.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::api::Error;
use crate::home::Layout;

/// The held lock of a home; dropping it (or the end of the process, however it ends) frees it.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

/// Takes the lock of a home, or says which process holds it.
pub fn lock_home(layout: &Layout) -> Result<HomeLock, Error> {
    let path = layout.lock();
    let failed = |error: std::io::Error| {
        let message = format!("lock {}: {error}", path.display());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Error::permission(message).hint("a home has to be writable, also to read from it")
            }
            _ => Error::general(message),
        }
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // A lock whose owner has not written its name yet is still a lock.
            let _ = file.read_to_string(&mut owner);
            let owner = match owner.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(Error::permission(format!(
                "home {} is in use by {owner}",
                layout.home().display()
            ))
            .hint("stop that process, or give this command another --home"));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(HomeLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorKind;

    #[test]
    fn a_second_lock_names_the_owner_and_ends_with_it() {
        let folder = crate::test_folder::TestFolder::new();
        let layout = Layout::new(folder.path());
        layout.create().expect("created");
        let first = lock_home(&layout).expect("free");
        let error = lock_home(&layout).expect_err("held");
        assert_eq!(error.kind, ErrorKind::Permission);
        assert!(
            error.message.contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(first);
        lock_home(&layout).expect("free again");
    }
}
