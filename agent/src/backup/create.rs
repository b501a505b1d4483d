//! Making a backup, of a home that may be in use.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kinlog_feeds::crypto::Secret;
use kinlog_indexer::FORMAT;

use crate::api::Error;
use crate::backup::parts::{Part, Summary, Unpublished};
use crate::backup::sealed_file::{BackupKey, Header, Sealing};
use crate::backup::unpack::{Contents, failed, verify};
use crate::home::{Layout, format, home_key, private_file, sync_folder};
use crate::keys::random;
use crate::state::State;
use crate::vault::{KeyFolder, Passphrase};
use crate::wall_ms;

/// A backup that was made, and read again.
pub type Created = Contents;

/// Makes a backup of a home under a passphrase of its own, and reads it again.
///
/// The home may be in use: what is committed when this begins is in it. `home_passphrase` opens a locked
/// one. `unpublished` is what [`Reply::Unpublished`](crate::api::Reply::Unpublished) says.
///
/// # Errors
/// `Usage` when `file` exists; `Permission` for a locked home.
pub fn create(
    home: &Path,
    state: &Path,
    home_passphrase: Option<&Passphrase>,
    file: &Path,
    passphrase: &Passphrase,
    unpublished: Unpublished,
) -> Result<Created, Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    format::check(&layout)?;
    layout.check_modes()?;
    if file.exists() {
        return Err(
            Error::usage(format!("{} exists: it is not overwritten", file.display()))
                .hint("name a file that does not exist yet"),
        );
    }
    let home_key = home_key(&layout, &KeyFolder::new(state), home_passphrase)?;
    let key = BackupKey(Secret::new(random()?));
    let copy = Copy::new(&layout)?;
    State::copy_to(&layout.state(), &copy.0)?;
    let values = State::open_copy(&copy.0, &home_key)?.seal_anew(&key.secrets())?;
    let summary = summary(&values, unpublished)?;
    drop(values);

    let header = Header::seal(&key, passphrase, &random()?, &random()?)
        .map_err(|error| Error::general(error.to_string()))?;
    write(file, &header, &key, &summary, &copy.0).map_err(|error| failed(file, &error.into()))?;
    drop(copy);
    verify(file, passphrase)
}

fn summary(values: &State, unpublished: Unpublished) -> Result<Summary, Error> {
    let damaged = || Error::verification("state.db does not say whose home this is");
    let fixed = |name: &str| -> Result<[u8; 32], Error> {
        let value = values.value(name)?.and_then(|value| value.try_into().ok());
        value.ok_or_else(damaged)
    };
    let name = values.value("name")?.ok_or_else(damaged)?;
    Ok(Summary {
        agent: kinlog_feeds::crypto::AgentId(fixed("agent")?).into(),
        device: kinlog_feeds::crypto::DeviceKey(fixed("device")?).into(),
        name: String::from_utf8_lossy(&name).into_owned(),
        made_ms: wall_ms(),
        kinlog: env!("CARGO_PKG_VERSION").to_owned(),
        format: FORMAT,
        unpublished,
    })
}

/// Writes the file beside its place, and moves it there when all of it is on the disk.
fn write(
    file: &Path,
    header: &Header,
    key: &BackupKey,
    summary: &Summary,
    state: &Path,
) -> std::io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    let written = (|| {
        let mut sealing = Sealing::start(BufWriter::new(open), header, key)?;
        summary.write(&mut sealing)?;
        let state = File::open(state)?;
        let bytes = state.metadata()?.len();
        sealing.write_all(&Part::state(bytes).encode())?;
        let copied = std::io::copy(&mut BufReader::new(state), &mut sealing)?;
        if copied != bytes {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        sealing.write_all(&Part::End.encode())?;
        sealing.finish()?.into_inner()?.sync_all()?;
        fs::rename(&beside, file)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    sync_folder(folder.unwrap_or(Path::new(".")))
}

/// The copy of `state.db` in the home, for as long as the backup is made.
struct Copy(PathBuf);

impl Copy {
    fn new(layout: &Layout) -> Result<Copy, Error> {
        let path = layout.home().join("state.copy");
        let copy = Copy(path);
        // What a killed process left is as good as nothing.
        let _ = fs::remove_file(&copy.0);
        private_file(&copy.0)
            .map_err(|error| Error::general(format!("{}: {error}", copy.0.display())))?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
