//! Where things stand in a home, and who may read them.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kinlog_feeds::crypto::blake2b_256;
use kinlog_feeds::text;

use crate::api::Error;

/// Longest path of a Unix socket that every system takes (104 on some, with the final zero).
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// The paths of one home.
#[derive(Clone, Debug)]
pub struct Layout {
    home: PathBuf,
}

impl Layout {
    /// Names the paths below `home`; touches nothing.
    pub fn new(home: &Path) -> Self {
        Layout {
            home: home.to_owned(),
        }
    }

    /// Returns the home itself.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns the file with the home's key, 32 bytes, mode 0600; there is none under a passphrase.
    pub fn home_key(&self) -> PathBuf {
        self.home.join("home.key")
    }

    /// Returns the file with the home's key under its passphrase.
    pub fn vault(&self) -> PathBuf {
        self.home.join("vault")
    }

    /// Returns the file that says under which id the operating system's key ring has the home's key.
    pub fn key_ring(&self) -> PathBuf {
        self.home.join("keyring")
    }

    /// Returns the file with the device secret, sealed with the home's key, mode 0600.
    pub fn device_secret(&self) -> PathBuf {
        self.home.join("device.secret")
    }

    /// Returns the file with the secret of a new device until it takes the place of the old one.
    pub fn next_secret(&self) -> PathBuf {
        self.home.join("device.secret.new")
    }

    /// Returns the file with the format that the home was written by.
    pub fn format(&self) -> PathBuf {
        self.home.join("format")
    }

    /// Returns the file with the install record, by which a copy of the home is noticed.
    pub fn install(&self) -> PathBuf {
        self.home.join("install")
    }

    /// Returns the folder of the feed store.
    pub fn store(&self) -> PathBuf {
        self.home.join("store")
    }

    /// Returns the database of what cannot be derived.
    pub fn state(&self) -> PathBuf {
        self.home.join("state.db")
    }

    /// Returns the database that is rebuilt from feeds and keys.
    pub fn index(&self) -> PathBuf {
        self.home.join("index.db")
    }

    /// Returns the lock file, which holds the owner's process id.
    pub fn lock(&self) -> PathBuf {
        self.home.join("lock")
    }

    /// Returns whether the home was initialised.
    pub fn is_initialised(&self) -> bool {
        self.device_secret().exists()
    }

    /// Refuses a folder in which no agent lives, with the hint that makes one.
    ///
    /// # Errors
    /// `NotFound` when no agent lives here.
    pub fn check_initialised(&self) -> Result<(), Error> {
        if self.is_initialised() {
            return Ok(());
        }
        let home = self.home().display();
        Err(Error::not_found(format!("no agent lives in {home}")).hint("run `kinlog init`"))
    }

    /// Makes the home and the store's folder, 0700.
    pub fn create(&self) -> Result<(), Error> {
        for folder in [self.home.clone(), self.store()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|error| Error::general(format!("folder {}: {error}", folder.display())))?;
        }
        Ok(())
    }

    /// Refuses key files that others than the owner may read; takes their rights to anything else.
    ///
    /// Whoever could read a key may have done so: making it private again would hide that.
    pub fn check_modes(&self) -> Result<(), Error> {
        let keys = [self.home_key(), self.device_secret(), self.state()];
        for file in keys {
            if let Some(mode) = open_to_others(&file) {
                return Err(Error::permission(format!(
                    "{} has mode {mode:o}: others may read it, expected 600",
                    file.display()
                ))
                .hint(format!("chmod 600 {}", file.display())));
            }
        }
        for (folder, mode) in [(self.home.clone(), 0o700), (self.store(), 0o700)]
            .into_iter()
            .chain(self.private_files().map(|file| (file, 0o600)))
        {
            let Some(found) = open_to_others(&folder) else {
                continue;
            };
            tracing::warn!(path = %folder.display(), "mode {found:o} let others in; it is {mode:o} now");
            fs::set_permissions(&folder, Permissions::from_mode(mode))
                .map_err(|error| Error::permission(format!("{}: {error}", folder.display())))?;
        }
        Ok(())
    }

    /// Returns the files of the index: the database and what stands beside it.
    pub(crate) fn index_files(&self) -> impl Iterator<Item = PathBuf> {
        beside(self.index(), ["", "-wal", "-shm", "-sum"])
    }

    /// Deletes the index, which says in clear what rooms and private paths hold.
    pub(crate) fn delete_index(&self) -> Result<(), Error> {
        for file in self.index_files() {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::general(format!("{}: {error}", file.display())));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn private_files(&self) -> impl Iterator<Item = PathBuf> {
        [self.vault(), self.key_ring(), self.install()]
            .into_iter()
            .chain(beside(self.state(), ["-wal", "-shm"]))
            .chain(self.index_files())
    }
}

fn beside<const N: usize>(
    file: PathBuf,
    suffixes: [&'static str; N],
) -> impl Iterator<Item = PathBuf> {
    suffixes.into_iter().map(move |suffix| {
        let mut file = file.clone().into_os_string();
        file.push(suffix);
        file.into()
    })
}

/// Returns the mode of what others than the owner have a right to.
fn open_to_others(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Makes a file that only its owner reads, unless it is there; SQLite gives its mode to what it puts
/// beside it.
pub(crate) fn private_file(path: &Path) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path).map(drop)
}

/// Returns the path of the local socket: `<home>/api.sock`, or below the runtime folder when that
/// would be too long for a socket.
pub fn socket_path(home: &Path) -> PathBuf {
    let plain = home.join("api.sock");
    if plain.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return plain;
    }
    let full = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
    let name = text::encode(&blake2b_256(&[full.as_os_str().as_bytes()])[..16]);
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    runtime.join("kinlog").join(format!("{name}.sock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_home_has_a_short_socket() {
        let long = PathBuf::from("/home").join("x".repeat(200));
        let socket = socket_path(&long);
        assert!(socket.as_os_str().len() < 100, "{socket:?}");
        assert_ne!(
            socket,
            socket_path(&PathBuf::from("/home").join("y".repeat(200)))
        );
        assert_eq!(socket_path(Path::new("/h")), Path::new("/h/api.sock"));
    }
}
