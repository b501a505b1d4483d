//! Who keeps the key of an unlocked home: outside the home, and for as long as the machine runs.
//!
//! The one here asks nothing of the machine: a file (0600) in `$XDG_RUNTIME_DIR`, which lives in memory, or
//! in the state folder where there is none. The operating system's [key ring](super::KeyRing) is another.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kinlog_feeds::crypto::Secret;
use zeroize::Zeroizing;

use crate::guard::{read_small, replace};
use crate::vault::{HomeKey, VaultId};

/// Keeps the keys of unlocked homes.
pub(crate) trait KeyKeeper: fmt::Debug + Send + Sync {
    /// Returns the key of a home, `None` while it is locked.
    fn read(&self, id: VaultId) -> io::Result<Option<HomeKey>>;

    /// Keeps the key of a home until it is locked.
    fn keep(&self, id: VaultId, key: &HomeKey) -> io::Result<()>;

    /// Forgets the key of a home; one that is not kept is forgotten already.
    fn forget(&self, id: VaultId) -> io::Result<()>;

    /// Returns where the key of a home is kept, for people, when it is on a disk.
    fn place_on_disk(&self, id: VaultId) -> Option<PathBuf>;
}

/// A folder (0700) with a file (0600) for each unlocked home: `key 32 | id of the system's start`.
#[derive(Clone, Debug)]
pub(crate) struct KeyFolder {
    folder: PathBuf,
    is_in_memory: bool,
}

impl KeyFolder {
    /// Chooses the user's runtime folder, or the state folder where the user has none.
    pub(crate) fn new(state: &Path) -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        match runtime.filter(|folder| folder.is_absolute() && folder.is_dir()) {
            Some(runtime) => KeyFolder {
                folder: runtime.join("kinlog"),
                is_in_memory: true,
            },
            None => KeyFolder {
                folder: state.join("keys"),
                is_in_memory: false,
            },
        }
    }

    fn file(&self, id: VaultId) -> PathBuf {
        self.folder.join(id.file_name())
    }
}

impl KeyKeeper for KeyFolder {
    fn read(&self, id: VaultId) -> io::Result<Option<HomeKey>> {
        let Some(bytes) = read_small(&self.file(id))?.map(Zeroizing::new) else {
            return Ok(None);
        };
        match bytes.split_first_chunk() {
            Some((key, start)) if start == this_start().as_bytes() => {
                Ok(Some(HomeKey::new(Secret::new(*key))))
            }
            // The machine was off meanwhile: what was unlocked then is not unlocked now.
            _ => self.forget(id).map(|()| None),
        }
    }

    fn keep(&self, id: VaultId, key: &HomeKey) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let bytes = Zeroizing::new([key.expose().as_slice(), this_start().as_bytes()].concat());
        replace(&self.file(id), &bytes)
    }

    fn forget(&self, id: VaultId) -> io::Result<()> {
        wipe(&self.file(id))
    }

    fn place_on_disk(&self, id: VaultId) -> Option<PathBuf> {
        (!self.is_in_memory).then(|| self.file(id))
    }
}

/// Overwrites a file with a secret and removes it. A disk that writes elsewhere may keep the old bytes.
pub(crate) fn wipe(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    io::copy(&mut io::Read::take(io::repeat(0), length), &mut file)?;
    file.flush()?;
    file.sync_all()?;
    fs::remove_file(path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Returns what tells this start of the system from others; the same for all where it is not known.
fn this_start() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::test_folder::TestFolder;

    const ID: VaultId = VaultId([1; 16]);

    fn folder(test: &TestFolder) -> KeyFolder {
        KeyFolder {
            folder: test.path().join("keys"),
            is_in_memory: false,
        }
    }

    #[test]
    fn a_key_is_kept_until_it_is_forgotten() {
        let test = TestFolder::new();
        let keeper = folder(&test);
        let key = HomeKey::new(Secret::new([2; 32]));
        assert_eq!(keeper.read(ID).unwrap(), None);
        keeper.keep(ID, &key).unwrap();
        assert_eq!(keeper.read(ID).unwrap(), Some(key));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(
            (mode(&keeper.folder), mode(&keeper.file(ID))),
            (0o700, 0o600)
        );
        keeper.forget(ID).unwrap();
        keeper.forget(ID).unwrap();
        assert_eq!(keeper.read(ID).unwrap(), None);
        assert_eq!(fs::read_dir(&keeper.folder).unwrap().count(), 0);
    }

    #[test]
    fn a_key_of_an_earlier_start_is_forgotten() {
        let test = TestFolder::new();
        let keeper = folder(&test);
        keeper
            .keep(ID, &HomeKey::new(Secret::new([2; 32])))
            .unwrap();
        let mut bytes = fs::read(keeper.file(ID)).unwrap();
        bytes.push(b'x');
        fs::write(keeper.file(ID), bytes).unwrap();
        assert_eq!(keeper.read(ID).unwrap(), None);
        assert!(!keeper.file(ID).exists());
    }
}
