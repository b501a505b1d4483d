//! How the key of a home is come by: from the file beside its secrets, from whoever keeps the keys of
//! unlocked homes, from the passphrase, or from the operating system's key ring.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kinlog_feeds::crypto::Secret;
use zeroize::Zeroizing;

use crate::api::Error;
use crate::guard::{read_small, replace};
use crate::home::Layout;
use crate::keys::random;
use crate::vault::{
    EnvelopeError, HomeKey, KeyFile, KeyKeeper, KeyRing, Passphrase, SecretPlace, VaultId,
};

/// Where the key of a home is.
#[derive(Debug)]
pub(super) enum KeyPlace {
    /// Beside its secrets, in clear.
    Beside,
    /// Sealed under a passphrase.
    Vault(KeyFile),
    /// In the operating system's key ring.
    KeyRing(VaultId),
}

/// Returns the key of a home that is open, unlocked, or opened by `passphrase`.
pub(crate) fn home_key(
    layout: &Layout,
    keeper: &dyn KeyKeeper,
    passphrase: Option<&Passphrase>,
) -> Result<HomeKey, Error> {
    let file = match key_place(layout)? {
        KeyPlace::Beside => return read_home_key(&layout.home_key()),
        KeyPlace::KeyRing(id) => return key_in_ring(layout, id),
        KeyPlace::Vault(file) => file,
    };
    if let Some(key) = kept(keeper, file.id)? {
        return Ok(key);
    }
    match passphrase {
        Some(passphrase) => open(layout, &file, passphrase),
        None => Err(locked(layout)),
    }
}

/// Makes the key of a new home, and writes it beside its secrets.
pub(crate) fn make_home_key(layout: &Layout) -> Result<HomeKey, Error> {
    let key = HomeKey::new(Secret::new(random()?));
    let path = layout.home_key();
    replace(&path, key.expose()).map_err(|error| at(&path, &error))?;
    Ok(key)
}

/// Writes a device secret into a new file, sealed.
pub(crate) fn write_secret(path: &Path, secret: &Secret, key: &HomeKey) -> Result<(), Error> {
    let nonce = random()?;
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(&key.seal(SecretPlace::DEVICE_SECRET, &nonce, secret.expose()))?;
        file.sync_all()
    };
    write().map_err(|error| at(path, &error))
}

/// Reads a device secret.
pub(super) fn read_secret(path: &Path, key: &HomeKey) -> Result<Secret, Error> {
    let sealed = fs::read(path).map_err(|error| at(path, &error))?;
    let opened = key.open_secret(SecretPlace::DEVICE_SECRET, &sealed);
    opened.map_err(|error| {
        Error::verification(format!("{}: {error}", path.display()))
            .hint("it is damaged, or of another home: `kinlog device renew` makes a new device")
    })
}

/// Returns where the key of a home is.
///
/// A crash while that changes leaves two places: the one that opens most easily is tried first, and
/// whoever makes a home safer takes that away last.
pub(super) fn key_place(layout: &Layout) -> Result<KeyPlace, Error> {
    if layout.home_key().exists() {
        return Ok(KeyPlace::Beside);
    }
    let path = layout.vault();
    if let Some(bytes) = read_small(&path).map_err(|error| at(&path, &error))? {
        return match KeyFile::decode(&bytes) {
            Ok(file) => Ok(KeyPlace::Vault(file)),
            Err(error) => Err(Error::verification(format!("{}: {error}", path.display()))
                .hint("it is damaged: put a copy of it back, or restore a backup")),
        };
    }
    let path = layout.key_ring();
    match read_small(&path).map_err(|error| at(&path, &error))? {
        Some(bytes) => match bytes.as_slice().try_into() {
            Ok(id) => Ok(KeyPlace::KeyRing(VaultId(id))),
            Err(_) => Err(Error::verification(format!(
                "{} has {} bytes, expected 16",
                path.display(),
                bytes.len()
            ))
            .hint("it is damaged: put a copy of it back, or restore a backup")),
        },
        None => Err(Error::verification(format!(
            "none of {}, {} and {} is there",
            layout.home_key().display(),
            layout.vault().display(),
            path.display()
        ))
        .hint("without the key of the home its secrets are lost: restore a backup")),
    }
}

/// Returns the key that the operating system's key ring has of a home.
pub(super) fn key_in_ring(layout: &Layout, id: VaultId) -> Result<HomeKey, Error> {
    let home = layout.home().display();
    let found = KeyRing.read(id).map_err(|error| {
        Error::permission(format!("key of home {home} in your key ring: {error}"))
            .hint("log in to your desktop, or unlock the key ring, and try again")
    })?;
    found.ok_or_else(|| {
        Error::verification(format!("your key ring has no key of home {home}"))
            .hint("it may be in another user's; else restore a backup")
    })
}

pub(super) fn read_home_key(path: &Path) -> Result<HomeKey, Error> {
    let bytes = fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| at(path, &error))?;
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| {
        let message = format!("{} has {} bytes, expected 32", path.display(), bytes.len());
        Error::verification(message)
    })?;
    Ok(HomeKey::new(Secret::new(key)))
}

pub(super) fn open(
    layout: &Layout,
    file: &KeyFile,
    passphrase: &Passphrase,
) -> Result<HomeKey, Error> {
    file.open(passphrase).map_err(|error| match error {
        EnvelopeError::Closed => Error::permission(format!(
            "this is not the passphrase of home {}",
            layout.home().display()
        )),
        EnvelopeError::Weak { .. } | EnvelopeError::Heavy { .. } => {
            Error::verification(format!("{}: {error}", layout.vault().display()))
                .hint("somebody changed this file: put a copy of it back")
        }
        EnvelopeError::Resources { .. } => Error::general(error.to_string()),
        _ => Error::verification(format!("{}: {error}", layout.vault().display())),
    })
}

pub(super) fn kept(keeper: &dyn KeyKeeper, id: VaultId) -> Result<Option<HomeKey>, Error> {
    keeper.read(id).map_err(keeping)
}

pub(super) fn keeping(error: std::io::Error) -> Error {
    Error::general(format!("key of the unlocked home: {error}"))
}

pub(super) fn at(path: &Path, error: &std::io::Error) -> Error {
    Error::general(format!("{}: {error}", path.display()))
}

pub(super) fn locked(layout: &Layout) -> Error {
    Error::permission(format!("home {} is locked", layout.home().display()))
        .hint("`kinlog unlock` asks for its passphrase")
}
