//! A new device between its request and the answer: a file beside the home that is to be.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kinlog_feeds::crypto::Secret;
use kinlog_feeds::encoding::{Reader, Writer};
use kinlog_indexer::identity::{IdentitySet, VerifiedSet};
use kinlog_indexer::limits::NAME_BYTES_MAX;
use zeroize::Zeroizing;

use crate::api::Error;
use crate::failure::chain;
use crate::guard::{read_small, replace};
use crate::home::{Founding, Initialised, check, found};
use crate::keys::{DeviceKeys, random};
use crate::limits::{LINK_FILE_BYTES_MAX, LINK_PENDING_MAX};
use crate::linking::{LinkAnswer, LinkCode, LinkRequest, Linking};
use crate::vault::{HomeKey, KeyFolder, KeyKeeper, SecretPlace, VaultId, wipe};
use crate::wall_ms;

/// A device that has asked, or is about to, and is nobody's yet.
///
/// Its file beside the home: `vault id 16 | u64 made ms | sealed(secret 32 | buffer name | buffer code)`, mode
/// 0600. The key that seals it is kept like that of an unlocked home: elsewhere, and only as long as the
/// machine runs. So a copy of the folder with the file in it holds no secret.
#[derive(Debug)]
pub struct PendingDevice {
    secret: Secret,
    code: LinkCode,
    name: String,
}

impl PendingDevice {
    /// Makes the keys of a new device that is to live in `home`; what was kept for another one is
    /// forgotten.
    ///
    /// # Errors
    /// `Usage` when the folder is not empty, or for a name that cannot be read.
    pub fn new(home: &Path, state: &Path, code: LinkCode, name: &str) -> Result<Self, Error> {
        check(home, name)?;
        forget(home, state)?;
        Ok(PendingDevice {
            secret: Secret::new(random()?),
            code,
            name: name.to_owned(),
        })
    }

    /// Reads what was kept for the device that is to live in `home`.
    ///
    /// # Errors
    /// `NotFound` when nothing was; `Permission` when it is older than a day, or the machine was off since:
    /// it is deleted then.
    pub fn read(home: &Path, state: &Path) -> Result<Self, Error> {
        PendingDevice::read_at(home, state, wall_ms())
    }

    fn read_at(home: &Path, state: &Path, now_ms: u64) -> Result<Self, Error> {
        let path = path(home)?;
        let Some(file) = PendingFile::read(&path)? else {
            return Err(Error::not_found(format!(
                "no device waits for an answer to live in {}",
                home.display()
            ))
            .hint("`kinlog init --link CODE --request FILE` makes the request first"));
        };
        let kept = u64::try_from(LINK_PENDING_MAX.as_millis()).unwrap_or(u64::MAX);
        let is_over = now_ms.abs_diff(file.made_ms) > kept;
        let key = match is_over {
            true => None,
            false => KeyFolder::new(state).read(file.id).map_err(keeping)?,
        };
        let Some(key) = key else {
            forget(home, state)?;
            let why = match is_over {
                true => "is older than a day",
                false => "was made before the machine started",
            };
            return Err(Error::permission(format!(
                "the request of the device that is to live in {} {why}: it is deleted",
                home.display()
            ))
            .hint("begin again with a new code of `kinlog device link`"));
        };
        let made = file.made_ms.to_le_bytes();
        let opened = key.open(place(&made), &file.sealed);
        let opened = opened.map_err(|_| damaged(&path))?;
        let mut reader = Reader::new(&opened);
        let parts = (|| {
            let secret = Secret::new(reader.fixed()?);
            let name = reader.buffer("name", NAME_BYTES_MAX)?;
            let code = reader.buffer("code", LINK_FILE_BYTES_MAX)?;
            reader.finish()?;
            Ok::<_, kinlog_feeds::encoding::DecodeError>((secret, name, code))
        })();
        let (secret, name, code) = parts.map_err(|_| damaged(&path))?;
        let name = std::str::from_utf8(name).map_err(|_| damaged(&path))?;
        Ok(PendingDevice {
            secret,
            name: name.to_owned(),
            code: LinkCode::decode(code).map_err(|_| damaged(&path))?,
        })
    }

    /// Keeps it until the answer comes by file, for a day.
    pub fn keep(&self, home: &Path, state: &Path) -> Result<(), Error> {
        let path = path(home)?;
        forget(home, state)?;
        let (id, key) = (VaultId(random()?), HomeKey::new(Secret::new(random()?)));
        let mut plain = Zeroizing::new(Vec::with_capacity(LINK_FILE_BYTES_MAX));
        plain.put_raw(self.secret.expose());
        plain.put_buffer(self.name.as_bytes());
        plain.put_buffer(&Zeroizing::new(self.code.encode()));
        let made = wall_ms().to_le_bytes();
        let mut bytes = id.0.to_vec();
        bytes.put_raw(&made);
        bytes.put_raw(&key.seal(place(&made), &random()?, &plain));
        KeyFolder::new(state).keep(id, &key).map_err(keeping)?;
        replace(&path, &bytes)
            .map_err(|error| Error::general(format!("{}: {error}", path.display())))
    }

    /// Returns the request, and the words that the other device has to show too.
    pub fn request(&self) -> (Bytes, String) {
        let card = DeviceKeys::new(self.secret.clone()).card(&self.code.agent);
        let (code, name) = (&self.code, self.name.clone());
        let words = Linking { code, card: &card }.words();
        (LinkRequest { card, name }.encode(code), words)
    }

    /// Returns the code that it asks by.
    pub fn code(&self) -> &LinkCode {
        &self.code
    }

    /// Makes the home, now that the agent has this device.
    ///
    /// # Errors
    /// `Verification` for an answer that is not that of the device which showed the code, or that does
    /// not make this device the agent's.
    pub fn finish(self, home: &Path, state: &Path, answer: &[u8]) -> Result<Initialised, Error> {
        let agent = self.code.agent;
        let signal_urls = self.code.signal_urls.clone();
        let approved = self.approved(answer)?;
        let made = found(
            home,
            state,
            Founding {
                secret: approved.secret,
                agent,
                name: approved.name,
                set: approved.set,
                signal_urls,
                sign_in: None,
            },
        )?;
        // It is a copy of a secret: it goes as soon as the home has it.
        if let Err(error) = forget(home, state) {
            tracing::warn!(%error, "what was kept of the request is not deleted");
        }
        Ok(made)
    }

    /// Returns what the other device made of this one.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub(crate) fn approved(self, answer: &[u8]) -> Result<Approved, Error> {
        let refused = |reason: String| {
            Error::verification(format!("the answer to the link request: {reason}"))
                .hint("make a new code with `kinlog device link`, and begin again")
        };
        let answer =
            LinkAnswer::verify(answer, &self.code).map_err(|error| refused(chain(&error)))?;
        let agent = self.code.agent;
        let verified = IdentitySet::decode(&answer.set).and_then(|set| set.check(&agent));
        let verified = verified.map_err(|error| refused(chain(&error)))?;
        let identity = verified
            .identity()
            .map_err(|error| refused(chain(&error)))?;
        let device = DeviceKeys::new(self.secret.clone()).device();
        if identity.device(&device).is_none() {
            return Err(refused("it does not name this device".to_owned()));
        }
        Ok(Approved {
            secret: self.secret,
            name: answer.name,
            set: verified.kept(),
        })
    }
}

/// A device that its agent has now.
pub(crate) struct Approved {
    pub(crate) secret: Secret,
    /// What the agent calls itself.
    pub(crate) name: String,
    pub(crate) set: VerifiedSet,
}

/// The file of a pending device, its secret sealed.
struct PendingFile {
    id: VaultId,
    made_ms: u64,
    sealed: Vec<u8>,
}

impl PendingFile {
    fn read(path: &Path) -> Result<Option<Self>, Error> {
        let bytes = read_small(path)
            .map_err(|error| Error::general(format!("{}: {error}", path.display())))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let decode = || {
            let mut reader = Reader::new(&bytes);
            let (id, made_ms) = (VaultId(reader.fixed()?), reader.u64()?);
            let sealed = reader.rest().to_vec();
            Ok::<_, kinlog_feeds::encoding::DecodeError>(PendingFile {
                id,
                made_ms,
                sealed,
            })
        };
        decode().map(Some).map_err(|_| damaged(path))
    }
}

/// Deletes what was kept of a device that was to live in `home`, and the key that opens it.
pub(crate) fn forget(home: &Path, state: &Path) -> Result<(), Error> {
    let path = path(home)?;
    // One that does not decode has no key that could be found.
    if let Ok(Some(file)) = PendingFile::read(&path) {
        KeyFolder::new(state).forget(file.id).map_err(keeping)?;
    }
    wipe(&path).map_err(|error| Error::general(format!("{}: {error}", path.display())))
}

fn keeping(error: std::io::Error) -> Error {
    Error::general(format!("key of the pending device: {error}"))
}

fn place(made: &[u8; 8]) -> SecretPlace<'_> {
    SecretPlace::new("", "linking", made)
}

fn path(home: &Path) -> Result<PathBuf, Error> {
    let name = home.file_name();
    let name = name.ok_or_else(|| Error::usage(format!("{} names no folder", home.display())))?;
    let mut file = name.to_owned();
    file.push(".linking");
    Ok(home.with_file_name(file))
}

fn damaged(path: &Path) -> Error {
    Error::verification(format!("{} is damaged", path.display()))
        .hint("delete it, and make a new request with `kinlog init --link CODE --request FILE`")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kinlog_feeds::crypto::{AgentId, DeviceKey};

    use super::*;
    use crate::test_folder::TestFolder;

    fn code() -> LinkCode {
        LinkCode {
            agent: AgentId([1; 32]),
            device: DeviceKey([2; 32]),
            secret: Secret::new([3; 32]),
            signal_urls: Vec::new(),
        }
    }

    #[test]
    fn what_waits_for_an_answer_holds_no_secret_in_clear_and_is_for_its_user_alone() {
        let folder = TestFolder::new();
        let (home, state) = (folder.path().join("home"), folder.state());
        let pending = PendingDevice::new(&home, &state, code(), "phone").unwrap();
        pending.keep(&home, &state).unwrap();
        let file = path(&home).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let bytes = std::fs::read(&file).unwrap();
        for secret in [pending.secret.expose(), code().secret.expose()] {
            assert!(!bytes.windows(32).any(|part| part == secret));
        }
        let read = PendingDevice::read(&home, &state).unwrap();
        assert_eq!(read.secret, pending.secret);
        assert_eq!((read.name, read.code), ("phone".to_owned(), code()));
    }

    #[test]
    fn a_copy_of_the_file_without_its_key_opens_nothing() {
        let folder = TestFolder::new();
        let (home, state) = (folder.path().join("home"), folder.state());
        let pending = PendingDevice::new(&home, &state, code(), "phone").unwrap();
        pending.keep(&home, &state).unwrap();
        let bytes = std::fs::read(path(&home).unwrap()).unwrap();
        let id = PendingFile::read(&path(&home).unwrap())
            .unwrap()
            .unwrap()
            .id;
        KeyFolder::new(&state).forget(id).unwrap();
        let error = PendingDevice::read(&home, &state).unwrap_err();
        assert!(error.message.contains("before the machine started"));
        assert!(!path(&home).unwrap().exists(), "it is deleted");
        // Another date does not open it either.
        std::fs::write(path(&home).unwrap(), &bytes).unwrap();
        let key = HomeKey::new(Secret::new([9; 32]));
        KeyFolder::new(&state).keep(id, &key).unwrap();
        let error = PendingDevice::read(&home, &state).unwrap_err();
        assert!(error.message.contains("damaged"), "{}", error.message);
    }

    #[test]
    fn what_is_older_than_a_day_is_deleted_with_its_key() {
        let folder = TestFolder::new();
        let (home, state) = (folder.path().join("home"), folder.state());
        let pending = PendingDevice::new(&home, &state, code(), "phone").unwrap();
        pending.keep(&home, &state).unwrap();
        let file = PendingFile::read(&path(&home).unwrap()).unwrap().unwrap();
        let day = u64::try_from(LINK_PENDING_MAX.as_millis()).unwrap();
        PendingDevice::read_at(&home, &state, file.made_ms + day).unwrap();
        let late = PendingDevice::read_at(&home, &state, file.made_ms + day + 1);
        assert!(late.unwrap_err().message.contains("older than a day"));
        assert!(!path(&home).unwrap().exists());
        let kept = KeyFolder::new(&state).read(file.id).unwrap();
        assert_eq!(kept, None);
        assert_eq!(
            PendingDevice::read(&home, &state).unwrap_err().kind,
            crate::api::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_new_request_takes_the_place_of_the_one_before() {
        let folder = TestFolder::new();
        let (home, state) = (folder.path().join("home"), folder.state());
        let first = PendingDevice::new(&home, &state, code(), "phone").unwrap();
        first.keep(&home, &state).unwrap();
        let id = PendingFile::read(&path(&home).unwrap())
            .unwrap()
            .unwrap()
            .id;
        let second = PendingDevice::new(&home, &state, code(), "phone").unwrap();
        assert!(!path(&home).unwrap().exists());
        assert_eq!(KeyFolder::new(&state).read(id).unwrap(), None);
        second.keep(&home, &state).unwrap();
        let read = PendingDevice::read(&home, &state).unwrap();
        assert_eq!(read.secret, second.secret);
        assert_ne!(read.secret, first.secret);
    }
}
