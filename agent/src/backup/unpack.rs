//! Opening a backup, and saying what is in it without touching a home.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kinlog_feeds::text;
use serde::Serialize;

use crate::api::Error;
use crate::backup::parts::{Summary, read_parts};
use crate::backup::sealed_file::{BackupError, BackupKey, Opening};
use crate::failure::io_kind;
use crate::keys::random;
use crate::state::State;
use crate::vault::{EnvelopeError, Passphrase};

/// What is in a backup.
#[derive(Clone, Debug, Serialize)]
pub struct Contents {
    pub file: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    #[serde(flatten)]
    pub summary: Summary,
    /// Rows of each kind.
    #[serde(flatten)]
    pub counts: Counts,
}

/// How much of each kind a backup holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Paths that a restored home continues.
    pub paths: u64,
    /// Feeds of the device.
    pub feeds: u64,
    /// Identity sets, own and others'.
    pub identities: u64,
    pub pins: u64,
    pub rooms: u64,
    /// Secrets that open what rooms said.
    pub epochs: u64,
    pub invites: u64,
}

/// Opens a backup whole, checks every page and every secret, and says what is in it.
///
/// # Errors
/// `Permission` for another passphrase, `Verification` for a file that is altered or no backup.
pub fn verify(file: &Path, passphrase: &Passphrase) -> Result<Contents, Error> {
    let scratch = Scratch::new()?;
    let state = scratch.0.join("state.db");
    let unpacked = unpack(file, passphrase, &state)?;
    let values = State::open_copy(&state, &unpacked.key.secrets())?;
    let counts = counts(&values).map_err(|error| error.in_file(file))?;
    let bytes = fs::metadata(file).map_err(|error| failed(file, &error.into()))?;
    Ok(Contents {
        file: file.to_owned(),
        bytes: bytes.len(),
        summary: unpacked.summary,
        counts,
    })
}

/// A backup whose `state.db` was put on the disk, its secrets sealed with the backup's key.
pub(super) struct Unpacked {
    pub(super) summary: Summary,
    pub(super) key: BackupKey,
}

/// Puts the `state.db` of a backup into the new file `state`.
pub(super) fn unpack(
    file: &Path,
    passphrase: &Passphrase,
    state: &Path,
) -> Result<Unpacked, Error> {
    let done = || {
        let mut key = None;
        let from = BufReader::new(File::open(file)?);
        let opening = Opening::start(from, |header| {
            let opened = header.open(passphrase)?;
            key = Some(opened.clone());
            Ok(opened)
        })?;
        let to = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(state)?;
        let mut to = BufWriter::new(to);
        let summary = read_parts(opening, &mut to)?;
        to.flush()?;
        to.get_ref().sync_all()?;
        let key = key.ok_or(BackupError::NotABackup)?;
        Ok(Unpacked { summary, key })
    };
    done().map_err(|error: BackupError| failed(file, &error))
}

/// Counts what a copy of `state.db` holds, and opens every secret in it.
fn counts(values: &State) -> Result<Counts, Error> {
    values.check_whole()?;
    let own = values.own_feeds()?;
    Ok(Counts {
        paths: own.iter().filter(|feed| feed.path.is_some()).count() as u64,
        feeds: own.len() as u64,
        identities: values.identities()?.len() as u64,
        pins: values.pins()?.len() as u64,
        rooms: values.rooms()?.len() as u64,
        epochs: values.epochs()?.len() as u64,
        invites: values.invites()?.len() as u64,
    })
}

/// Returns what is wrong with a backup as a caller is told.
pub(super) fn failed(file: &Path, error: &BackupError) -> Error {
    let message = format!("backup {}: {error}", file.display());
    match error {
        BackupError::Envelope(EnvelopeError::Closed) => Error::permission(format!(
            "this is not the passphrase of backup {}, or the file is altered",
            file.display()
        )),
        BackupError::Envelope(EnvelopeError::Resources { .. }) => Error::general(message),
        BackupError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Error::not_found(message)
        }
        BackupError::Io(error) => Error::new(io_kind(error), message),
        _ => Error::verification(message),
    }
}

/// A folder (0700) for what is opened on the way, removed at the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Error> {
        let name = format!("kinlog-backup-{}", text::encode(&random::<16>()?));
        let folder = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| {
                Error::new(io_kind(&error), format!("{}: {error}", folder.display()))
            })?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
