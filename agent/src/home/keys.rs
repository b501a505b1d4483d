//! How the key of a home is come by: from the file beside its secrets, from whoever keeps the keys of
//! unlocked homes, or from the passphrase.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kinlog_feeds::crypto::Secret;
use zeroize::Zeroizing;

use crate::api::{Error, ErrorKind};
use crate::guard::replace;
use crate::home::{HomeLock, Layout, lock_home};
use crate::keys::random;
use crate::limits::{LOCK_LOOK_AGAIN_AFTER, LOCK_WAIT};
use crate::vault::{
    EnvelopeError, HomeKey, KeyFile, KeyFolder, KeyKeeper, Passphrase, SecretPlace, VaultId, wipe,
};

/// Who can open a home.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protection {
    /// Whoever can read its files.
    None,
    /// Whoever has its passphrase; this user until it is locked.
    Unlocked,
    /// Whoever has its passphrase.
    Locked,
}

/// Returns who can open a home; `state` is the folder that [`init`](crate::home::init) was given.
///
/// # Errors
/// `NotFound` when no agent lives there.
pub fn protection(home: &Path, state: &Path) -> Result<Protection, Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let Some(file) = read_vault(&layout)? else {
        return Ok(Protection::None);
    };
    match kept(&KeyFolder::new(state), file.id)? {
        Some(_) => Ok(Protection::Unlocked),
        None => Ok(Protection::Locked),
    }
}

/// Refuses a home that has no passphrase, before anybody is asked for it.
///
/// # Errors
/// `NotFound` when no agent lives there, `Usage` without a passphrase.
pub fn check_passphrase(home: &Path) -> Result<(), Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    match read_vault(&layout)? {
        Some(_) => Ok(()),
        None => Err(without_passphrase(&layout)),
    }
}

/// Refuses a locked home, unless its passphrase is at hand.
///
/// # Errors
/// `NotFound` when no agent lives there, `Permission` for a locked one.
pub fn check_unlocked(home: &Path, state: &Path, has_passphrase: bool) -> Result<(), Error> {
    match protection(home, state)? {
        Protection::Locked if !has_passphrase => Err(locked(&Layout::new(home))),
        _ => Ok(()),
    }
}

/// Returns the key of a home that is open, unlocked, or opened by `passphrase`.
pub(crate) fn home_key(
    layout: &Layout,
    keeper: &dyn KeyKeeper,
    passphrase: Option<&Passphrase>,
) -> Result<HomeKey, Error> {
    let Some(file) = read_vault(layout)? else {
        return read_home_key(&layout.home_key());
    };
    if let Some(key) = kept(keeper, file.id)? {
        return Ok(key);
    }
    match passphrase {
        Some(passphrase) => open(layout, &file, passphrase),
        None => Err(
            Error::permission(format!("home {} is locked", layout.home().display()))
                .hint("`kinlog unlock` asks for its passphrase"),
        ),
    }
}

/// Unlocks a home: keeps its key until [`lock`] or the end of the machine's run.
///
/// Returns where the key is kept if that is on a disk and not in memory.
///
/// # Errors
/// `Permission` for a wrong passphrase, `Usage` for a home that has none.
pub fn unlock(
    home: &Path,
    state: &Path,
    passphrase: &Passphrase,
) -> Result<Option<PathBuf>, Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let file = read_vault(&layout)?.ok_or_else(|| without_passphrase(&layout))?;
    let key = open(&layout, &file, passphrase)?;
    let keeper = KeyFolder::new(state);
    keeper.keep(file.id, &key).map_err(keeping)?;
    Ok(keeper.place_on_disk(file.id))
}

/// Locks a home: forgets its key, and deletes the index, which says in clear what rooms hold.
///
/// Waits a while for a process that is about to leave the home.
///
/// # Errors
/// `Usage` for a home without passphrase; `Permission` when another process stays in it: the key is
/// forgotten all the same, the index remains.
pub fn lock(home: &Path, state: &Path) -> Result<(), Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let file = read_vault(&layout)?.ok_or_else(|| without_passphrase(&layout))?;
    KeyFolder::new(state).forget(file.id).map_err(keeping)?;
    let _lock = wait_for_home(&layout, LOCK_WAIT)?;
    // A process that came in meanwhile had the key before it was forgotten, and has left.
    for file in layout.index_files() {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::general(format!("{}: {error}", file.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Puts a home under a passphrase, or under another one; it stays unlocked.
///
/// `old` is the passphrase it has. Nothing that is sealed changes: whoever has an old copy of the file
/// `vault` and the old passphrase has the key.
///
/// # Errors
/// `Usage` when it has a passphrase and none is given; `Permission` when that is another one, or while
/// another process holds the home.
pub fn set_passphrase(
    home: &Path,
    state: &Path,
    old: Option<&Passphrase>,
    new: &Passphrase,
) -> Result<(), Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let _lock = lock_home(&layout)?;
    let (id, key) = match (read_vault(&layout)?, old) {
        (Some(file), Some(old)) => (file.id, open(&layout, &file, old)?),
        (Some(_), None) => {
            return Err(
                Error::usage(format!("home {} has a passphrase already", home.display()))
                    .hint("`kinlog passphrase change` asks for the one it has"),
            );
        }
        (None, _) => (VaultId(random()?), read_home_key(&layout.home_key())?),
    };
    let file = KeyFile::seal(id, &key, new, &random()?, &random()?)
        .map_err(|error| Error::general(error.to_string()))?;
    let path = layout.vault();
    replace(&path, &file.encode()).map_err(|error| at(&path, &error))?;
    KeyFolder::new(state).keep(id, &key).map_err(keeping)?;
    let path = layout.home_key();
    wipe(&path).map_err(|error| at(&path, &error))
}

/// Takes the passphrase from a home: from then on its files are all it takes to open it.
///
/// # Errors
/// As [`set_passphrase`]; `Usage` for a home without one.
pub fn remove_passphrase(home: &Path, state: &Path, old: &Passphrase) -> Result<(), Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let _lock = lock_home(&layout)?;
    let file = read_vault(&layout)?.ok_or_else(|| without_passphrase(&layout))?;
    let key = open(&layout, &file, old)?;
    let path = layout.home_key();
    replace(&path, key.expose()).map_err(|error| at(&path, &error))?;
    let path = layout.vault();
    fs::remove_file(&path).map_err(|error| at(&path, &error))?;
    KeyFolder::new(state).forget(file.id).map_err(keeping)
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

/// Returns the sealed key of a home, `None` when its key is in the clear.
///
/// A crash while a passphrase is set or removed leaves both: the home is open then.
fn read_vault(layout: &Layout) -> Result<Option<KeyFile>, Error> {
    let path = layout.vault();
    if layout.home_key().exists() {
        return Ok(None);
    }
    match fs::read(&path) {
        Ok(bytes) => match KeyFile::decode(&bytes) {
            Ok(file) => Ok(Some(file)),
            Err(error) => Err(Error::verification(format!("{}: {error}", path.display()))
                .hint("it is damaged: put a copy of it back, or restore a backup")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::verification(format!(
                "neither {} nor {} is there",
                layout.home_key().display(),
                path.display()
            ))
            .hint("without the key of the home its secrets are lost: restore a backup"))
        }
        Err(error) => Err(at(&path, &error)),
    }
}

fn read_home_key(path: &Path) -> Result<HomeKey, Error> {
    let bytes = fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| at(path, &error))?;
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| {
        let message = format!("{} has {} bytes, expected 32", path.display(), bytes.len());
        Error::verification(message)
    })?;
    Ok(HomeKey::new(Secret::new(key)))
}

fn open(layout: &Layout, file: &KeyFile, passphrase: &Passphrase) -> Result<HomeKey, Error> {
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

fn kept(keeper: &dyn KeyKeeper, id: VaultId) -> Result<Option<HomeKey>, Error> {
    keeper.read(id).map_err(keeping)
}

fn wait_for_home(layout: &Layout, wait: Duration) -> Result<HomeLock, Error> {
    let start = Instant::now();
    loop {
        match lock_home(layout) {
            Err(error) if error.kind == ErrorKind::Permission && start.elapsed() < wait => {
                std::thread::sleep(LOCK_LOOK_AGAIN_AFTER);
            }
            done => return done,
        }
    }
}

fn locked(layout: &Layout) -> Error {
    Error::permission(format!("home {} is locked", layout.home().display()))
        .hint("`kinlog unlock` asks for its passphrase")
}

fn without_passphrase(layout: &Layout) -> Error {
    Error::usage(format!(
        "home {} has no passphrase",
        layout.home().display()
    ))
    .hint("`kinlog passphrase set` puts it under one")
}

fn keeping(error: std::io::Error) -> Error {
    Error::general(format!("key of the unlocked home: {error}"))
}

fn at(path: &Path, error: &std::io::Error) -> Error {
    Error::general(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorKind;
    use crate::home::{Phrase, init, open_home};
    use crate::test_folder::TestFolder;

    struct Test {
        folder: TestFolder,
        home: PathBuf,
    }

    impl Test {
        fn init() -> Test {
            let folder = TestFolder::new();
            let home = folder.path().join("home");
            init(&home, &folder.state(), "ann", &Phrase::generate().unwrap()).unwrap();
            Test { folder, home }
        }

        fn protection(&self) -> Protection {
            protection(&self.home, &self.folder.state()).unwrap()
        }

        fn opens(&self, passphrase: Option<&Passphrase>) -> Result<(), Error> {
            open_home(&self.home, &self.folder.state(), passphrase).map(drop)
        }
    }

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::choose(text).unwrap()
    }

    #[test]
    fn a_passphrase_is_set_changed_and_removed_and_the_home_opens_with_the_one_it_has() {
        let test = Test::init();
        let (home, state) = (test.home.as_path(), test.folder.state());
        let layout = Layout::new(home);
        assert_eq!(test.protection(), Protection::None);
        let (one, two) = (passphrase("one two three"), passphrase("four five six"));

        set_passphrase(home, &state, None, &one).unwrap();
        assert_eq!(test.protection(), Protection::Unlocked);
        assert!(!layout.home_key().exists() && layout.vault().exists());
        test.opens(None).unwrap();
        assert!(layout.state().exists());
        fs::write(layout.index(), b"what rooms hold").unwrap();

        lock(home, &state).unwrap();
        assert_eq!(test.protection(), Protection::Locked);
        assert_eq!(layout.index_files().filter(|file| file.exists()).count(), 0);
        let refused = test.opens(None).unwrap_err();
        assert_eq!(
            (refused.kind, refused.exit_code()),
            (ErrorKind::Permission, 6)
        );
        assert!(refused.hint.unwrap().contains("kinlog unlock"));
        test.opens(Some(&one)).unwrap();
        assert_eq!(test.protection(), Protection::Locked);

        let refused = set_passphrase(home, &state, None, &two).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Usage);
        set_passphrase(home, &state, Some(&one), &two).unwrap();
        lock(home, &state).unwrap();
        assert_eq!(
            unlock(home, &state, &one).unwrap_err().kind,
            ErrorKind::Permission
        );
        unlock(home, &state, &two).unwrap();
        assert_eq!(test.protection(), Protection::Unlocked);

        assert!(remove_passphrase(home, &state, &one).is_err());
        remove_passphrase(home, &state, &two).unwrap();
        assert_eq!(test.protection(), Protection::None);
        test.opens(None).unwrap();
        assert_eq!(lock(home, &state).unwrap_err().kind, ErrorKind::Usage);
    }

    #[test]
    fn lowered_parameters_a_lost_key_and_another_homes_key_are_told_apart() {
        let test = Test::init();
        let (home, state) = (test.home.as_path(), test.folder.state());
        let layout = Layout::new(home);
        let key = fs::read(layout.home_key()).unwrap();

        fs::write(layout.home_key(), [9; 32]).unwrap();
        assert_eq!(test.opens(None).unwrap_err().kind, ErrorKind::Verification);
        fs::write(layout.home_key(), [9; 31]).unwrap();
        let refused = test.opens(None).unwrap_err();
        assert!(
            refused.message.contains("31 bytes, expected 32"),
            "{refused}"
        );
        fs::remove_file(layout.home_key()).unwrap();
        let refused = test.opens(None).unwrap_err();
        assert!(refused.hint.unwrap().contains("restore a backup"));
        replace(&layout.home_key(), &key).unwrap();

        let one = passphrase("one two three");
        set_passphrase(home, &state, None, &one).unwrap();
        lock(home, &state).unwrap();
        let mut vault = fs::read(layout.vault()).unwrap();
        vault[21] = 1;
        fs::write(layout.vault(), &vault).unwrap();
        let refused = unlock(home, &state, &one).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Verification);
        assert!(refused.message.contains("weaker"), "{refused}");
    }

    #[test]
    fn a_crash_between_the_two_files_leaves_a_home_that_opens() {
        let test = Test::init();
        let (home, state) = (test.home.as_path(), test.folder.state());
        let layout = Layout::new(home);
        let key = fs::read(layout.home_key()).unwrap();
        let one = passphrase("one two three");
        set_passphrase(home, &state, None, &one).unwrap();
        replace(&layout.home_key(), &key).unwrap();
        assert_eq!(test.protection(), Protection::None);
        test.opens(None).unwrap();
        set_passphrase(home, &state, None, &one).unwrap();
        assert_eq!(test.protection(), Protection::Unlocked);
        test.opens(None).unwrap();
    }
}
