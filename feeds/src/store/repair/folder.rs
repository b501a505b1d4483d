//! Repairing the store of a folder: beside it first, in its place when all of it is durable.
//!
//! The new store is built in `<store>.repairing`. Then the two folders change places in one step
//! (`renameat2` with `RENAME_EXCHANGE`), and the old one, which has the other name now, becomes
//! `<store>.damaged-N`. A crash before the exchange leaves the old store in place and a folder that
//! the next repair makes anew; a crash behind it leaves the new store in place, and the next repair
//! gives the old one its name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags};

use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::file_disk::FileDisk;
use crate::store::options::Options;
use crate::store::repair::report::{RepairError, RepairReport};
use crate::store::repair::{locked, repair_locked};

/// Stands in the folder of a new store until it is whole.
const UNFINISHED: &str = "unfinished";

/// What a repair of a folder left where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RepairedFolder {
    /// What was kept and what was lost.
    pub report: RepairReport,
    /// The old store, as it was.
    pub damaged: PathBuf,
}

/// Repairs the store in `folder`; the old one is kept beside it under another name.
pub fn repair_folder(folder: &Path, options: Options) -> Result<RepairedFolder, RepairError> {
    let beside = named(folder, ".repairing");
    let old = Arc::new(FileDisk::new(folder).map_err(refused("open", folder))?);
    put_away(folder, &beside)?;
    let new = Arc::new(FileDisk::new(&beside).map_err(refused("open", &beside))?);
    let mark = beside.join(UNFINISHED);
    File::create(&mark).map_err(refused("open", &mark))?;
    let _lock = old.try_lock().map_err(locked)?;
    let report = repair_locked(old.clone(), new.clone(), options)?;
    fs::remove_file(&mark).map_err(refused("unlink", &mark))?;
    new.sync_dir().map_err(refused("sync_dir", &beside))?;
    exchange(folder, &beside).map_err(refused("rename", folder))?;
    sync_parent(folder)?;
    let damaged = put_away(folder, &beside)?.unwrap_or(beside);
    Ok(RepairedFolder { report, damaged })
}

/// Gives what stands at `beside` the name it is to have: none if a repair did not finish it, else
/// that of a damaged store, which is returned.
fn put_away(folder: &Path, beside: &Path) -> Result<Option<PathBuf>, RepairError> {
    if !beside.exists() {
        return Ok(None);
    }
    if beside.join(UNFINISHED).exists() || is_empty(beside) {
        fs::remove_dir_all(beside).map_err(refused("unlink", beside))?;
        return Ok(None);
    }
    let free = (1..).map(|number| named(folder, &format!(".damaged-{number}")));
    let damaged = free
        .into_iter()
        .find(|name| !name.exists())
        .expect("some number is free");
    fs::rename(beside, &damaged).map_err(refused("rename", beside))?;
    sync_parent(folder)?;
    Ok(Some(damaged))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Lets two folders change places; in two steps where the file system knows no single one.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let between = named(other, "-old");
            fs::rename(one, &between)?;
            fs::rename(other, one)?;
            fs::rename(between, other)
        }
        done => done.map_err(io::Error::from),
    }
}

fn sync_parent(folder: &Path) -> Result<(), RepairError> {
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(refused("sync_dir", parent))
}

fn named(folder: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = folder.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn refused(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> RepairError {
    let path = path.display().to_string();
    move |error| StoreError::io(operation, path.clone(), error).into()
}
