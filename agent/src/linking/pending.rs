//! A new device between its request and the answer: a file beside the home that is to be.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kinlog_feeds::crypto::Secret;
use kinlog_feeds::encoding::{Reader, Writer};
use kinlog_indexer::identity::IdentitySet;
use kinlog_indexer::limits::NAME_BYTES_MAX;
use zeroize::Zeroizing;

use crate::api::Error;
use crate::failure::chain;
use crate::home::{Founding, Initialised, check, found};
use crate::keys::{DeviceKeys, random};
use crate::limits::LINK_FILE_BYTES_MAX;
use crate::linking::{LinkAnswer, LinkCode, LinkRequest, Linking};

/// A device that has asked, or is about to, and is nobody's yet.
///
/// Its file: `secret 32 | buffer name | buffer code`, mode 0600.
#[derive(Debug)]
pub struct PendingDevice {
    secret: Secret,
    code: LinkCode,
    name: String,
}

impl PendingDevice {
    /// Makes the keys of a new device that is to live in `home`.
    ///
    /// # Errors
    /// `Usage` when the folder is not empty, or for a name that cannot be read.
    pub fn new(home: &Path, code: LinkCode, name: &str) -> Result<Self, Error> {
        check(home, name)?;
        Ok(PendingDevice {
            secret: Secret::new(random()?),
            code,
            name: name.to_owned(),
        })
    }

    /// Reads what was kept for the device that is to live in `home`.
    ///
    /// # Errors
    /// `NotFound` when nothing was.
    pub fn read(home: &Path) -> Result<Self, Error> {
        let path = path(home)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) if bytes.len() <= LINK_FILE_BYTES_MAX => Zeroizing::new(bytes),
            Ok(_) => return Err(damaged(&path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!(
                    "no device waits for an answer to live in {}",
                    home.display()
                ))
                .hint("`kinlog init --link CODE --request FILE` makes the request first"));
            }
            Err(error) => return Err(Error::general(format!("{}: {error}", path.display()))),
        };
        let mut reader = Reader::new(&bytes);
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

    /// Keeps it until the answer comes by file.
    pub fn keep(&self, home: &Path) -> Result<(), Error> {
        let path = path(home)?;
        let mut bytes = Zeroizing::new(self.secret.expose().to_vec());
        bytes.put_buffer(self.name.as_bytes());
        bytes.put_buffer(&self.code.encode());
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            });
        written.map_err(|error| Error::general(format!("{}: {error}", path.display())))
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
        let made = found(
            home,
            state,
            Founding {
                secret: self.secret,
                agent,
                name: answer.name,
                set: verified.kept(),
                signal_urls: self.code.signal_urls,
                sign_in: None,
            },
        )?;
        if let Ok(path) = path(home) {
            // It is a copy of a secret: it goes as soon as the home has it.
            let _ = fs::remove_file(path);
        }
        Ok(made)
    }
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
