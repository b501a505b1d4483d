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
            let owner = match pid_of(&owner) {
                None => "another process".to_owned(),
                Some(pid) => format!("process {pid}"),
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
    let boot = boot_id().unwrap_or_default();
    write!(file, "pid {}\nboot {boot}\n", std::process::id()).map_err(failed)?;
    Ok(HomeLock { _file: file })
}

/// Returns the pid in an owner record of this start of the system; one of an earlier start says
/// nothing of who holds the lock now.
fn pid_of(owner: &str) -> Option<u32> {
    let mut lines = owner.lines();
    let pid = lines.next()?.strip_prefix("pid ")?.parse().ok()?;
    let boot = lines.next()?.strip_prefix("boot ")?;
    (boot == boot_id().unwrap_or_default()).then_some(pid)
}

fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
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

    #[test]
    fn a_held_lock_is_refused_at_once() {
        let folder = crate::test_folder::TestFolder::new();
        let layout = Layout::new(folder.path());
        layout.create().expect("created");
        let _first = lock_home(&layout).expect("free");
        // The median of several: the machine may be busy with something else once.
        let mut times: Vec<_> = (0..9)
            .map(|_| {
                let start = std::time::Instant::now();
                lock_home(&layout).expect_err("held");
                start.elapsed()
            })
            .collect();
        times.sort();
        assert!(times[4].as_millis() < 50, "{times:?}");
    }

    #[test]
    fn what_an_owner_left_before_a_restart_holds_nobody_up_and_names_nobody() {
        let folder = crate::test_folder::TestFolder::new();
        let layout = Layout::new(folder.path());
        layout.create().expect("created");
        for stale in ["pid 1\nboot an-earlier-one\n", "1\n", "", "pid x\nboot y\n"] {
            std::fs::write(layout.lock(), stale).expect("written");
            let held = lock_home(&layout).expect("nobody holds it");
            std::fs::write(layout.lock(), stale).expect("written");
            let error = lock_home(&layout).expect_err("held");
            assert!(error.message.ends_with("by another process"), "{error}");
            drop(held);
        }
    }
}
