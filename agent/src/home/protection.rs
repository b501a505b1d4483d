//! Who can open a home, and how that is changed: no passphrase, one, or the operating system's key ring.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::api::{Error, ErrorKind};
use crate::guard::replace;
use crate::home::keys::{
    KeyPlace, at, keeping, kept, key_in_ring, key_place, locked, open, read_home_key,
};
use crate::home::{HomeLock, Layout, lock_home};
use crate::keys::random;
use crate::limits::{LOCK_LOOK_AGAIN_AFTER, LOCK_WAIT};
use crate::vault::{HomeKey, KeyFile, KeyFolder, KeyKeeper, KeyRing, Passphrase, VaultId, wipe};

/// Who can open a home.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protection {
    /// Whoever can read its files.
    None,
    /// Whoever has its passphrase; this user until it is locked.
    Unlocked,
    /// Whoever has its passphrase.
    Locked,
    /// This user, while the operating system's key ring is unlocked.
    KeyRing,
}

/// Returns who can open a home; `state` is the folder that [`init`](crate::home::init) was given.
///
/// # Errors
/// `NotFound` when no agent lives there.
pub fn protection(home: &Path, state: &Path) -> Result<Protection, Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let file = match key_place(&layout)? {
        KeyPlace::Beside => return Ok(Protection::None),
        KeyPlace::KeyRing(_) => return Ok(Protection::KeyRing),
        KeyPlace::Vault(file) => file,
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
    vault(&layout).map(drop)
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
    let file = vault(&layout)?;
    let key = open(&layout, &file, passphrase)?;
    let keeper = KeyFolder::new(state);
    keeper.keep(file.id, &key).map_err(keeping)?;
    Ok(keeper.place_on_disk(file.id))
}

/// Locks a home: forgets its key, and deletes the index, which says in clear what rooms hold. A key in the
/// operating system's key ring stays there, and is as locked as the key ring is.
///
/// Waits a while for a process that is about to leave the home.
///
/// # Errors
/// `Usage` for a home whose files are all it takes; `Permission` when another process stays in it: the key
/// is forgotten all the same, the index remains.
pub fn lock(home: &Path, state: &Path) -> Result<(), Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    match key_place(&layout)? {
        KeyPlace::Beside => return Err(without_passphrase(&layout)),
        KeyPlace::KeyRing(_) => {}
        KeyPlace::Vault(file) => KeyFolder::new(state).forget(file.id).map_err(keeping)?,
    }
    let _lock = wait_for_home(&layout, LOCK_WAIT)?;
    // A process that came in meanwhile had the key before it was forgotten, and has left.
    layout.delete_index()
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
    let place = key_place(&layout)?;
    let key = key_of(&layout, &place, old)?;
    let id = match &place {
        KeyPlace::Vault(file) => file.id,
        KeyPlace::Beside | KeyPlace::KeyRing(_) => VaultId(random()?),
    };
    let file = KeyFile::seal(id, &key, new, &random()?, &random()?)
        .map_err(|error| Error::general(error.to_string()))?;
    let path = layout.vault();
    replace(&path, &file.encode()).map_err(|error| at(&path, &error))?;
    KeyFolder::new(state).keep(id, &key).map_err(keeping)?;
    match place {
        KeyPlace::Vault(_) => Ok(()),
        place => leave(&layout, state, place),
    }
}

/// Gives the key of a home to the operating system's key ring: whoever has logged in opens the home, and its
/// files alone open nothing. Who loses the key ring loses the home, as with a forgotten passphrase.
///
/// # Errors
/// `Usage` when it is there already, or without the passphrase the home has; `Permission` when that is
/// another one, when no key ring answers or while another process holds the home: nothing has changed then.
pub fn keep_in_key_ring(home: &Path, state: &Path, old: Option<&Passphrase>) -> Result<(), Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let _lock = lock_home(&layout)?;
    let place = key_place(&layout)?;
    if let KeyPlace::KeyRing(_) = place {
        let message = format!(
            "the key of home {} is in your key ring already",
            home.display()
        );
        return Err(Error::usage(message));
    }
    let key = key_of(&layout, &place, old)?;
    let id = VaultId(random()?);
    KeyRing.keep(id, &key).map_err(|error| {
        Error::permission(format!("your key ring does not take the key: {error}"))
            .hint("log in to your desktop; `kinlog passphrase set` needs no key ring")
    })?;
    // What cannot be read again is not relied on.
    if key_in_ring(&layout, id)? != key {
        return Err(Error::verification("your key ring gave another key back"));
    }
    let path = layout.key_ring();
    replace(&path, &id.0).map_err(|error| at(&path, &error))?;
    leave(&layout, state, place)
}

/// Takes passphrase or key ring from a home: from then on its files are all it takes to open it.
///
/// # Errors
/// As [`set_passphrase`]; `Usage` for a home without one.
pub fn remove_passphrase(home: &Path, state: &Path, old: Option<&Passphrase>) -> Result<(), Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    let _lock = lock_home(&layout)?;
    let place = key_place(&layout)?;
    if let KeyPlace::Beside = place {
        return Err(without_passphrase(&layout));
    }
    let key = key_of(&layout, &place, old)?;
    let path = layout.home_key();
    replace(&path, key.expose()).map_err(|error| at(&path, &error))?;
    leave(&layout, state, place)
}

/// Returns the key from where it is; `old` opens a passphrase.
fn key_of(layout: &Layout, place: &KeyPlace, old: Option<&Passphrase>) -> Result<HomeKey, Error> {
    match (place, old) {
        (KeyPlace::Beside, _) => read_home_key(&layout.home_key()),
        (KeyPlace::KeyRing(id), _) => key_in_ring(layout, *id),
        (KeyPlace::Vault(file), Some(old)) => open(layout, file, old),
        (KeyPlace::Vault(_), None) => {
            let home = layout.home().display();
            Err(
                Error::usage(format!("home {home} has a passphrase already"))
                    .hint("`kinlog passphrase change` asks for the one it has"),
            )
        }
    }
}

/// Takes the key away from where it was, when it is elsewhere.
fn leave(layout: &Layout, state: &Path, place: KeyPlace) -> Result<(), Error> {
    let (path, removed) = match place {
        KeyPlace::Beside => (layout.home_key(), wipe(&layout.home_key())),
        KeyPlace::Vault(file) => {
            KeyFolder::new(state).forget(file.id).map_err(keeping)?;
            (layout.vault(), fs::remove_file(layout.vault()))
        }
        KeyPlace::KeyRing(id) => {
            if let Err(error) = KeyRing.forget(id) {
                tracing::warn!(%error, "the key of the home stays in the key ring too");
            }
            (layout.key_ring(), fs::remove_file(layout.key_ring()))
        }
    };
    removed.map_err(|error| at(&path, &error))
}

fn vault(layout: &Layout) -> Result<KeyFile, Error> {
    match key_place(layout)? {
        KeyPlace::Vault(file) => Ok(file),
        KeyPlace::Beside => Err(without_passphrase(layout)),
        KeyPlace::KeyRing(_) => {
            let home = layout.home().display();
            Err(Error::usage(format!(
                "home {home} has no passphrase: its key is in your key ring"
            ))
            .hint("`kinlog passphrase set` puts it under one"))
        }
    }
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

fn without_passphrase(layout: &Layout) -> Error {
    Error::usage(format!(
        "home {} has no passphrase",
        layout.home().display()
    ))
    .hint("`kinlog passphrase set` puts it under one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorKind;
    use crate::home::open_home;
    use crate::test_folder::TestFolder;

    struct Test {
        folder: TestFolder,
        home: PathBuf,
    }

    impl Test {
        fn init() -> Test {
            let folder = TestFolder::new();
            let home = folder.home("ann");
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

        assert!(remove_passphrase(home, &state, Some(&one)).is_err());
        remove_passphrase(home, &state, Some(&two)).unwrap();
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
