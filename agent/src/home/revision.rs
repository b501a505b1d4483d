//! The revision of format 0 a home was written by: another one is left alone.

use std::path::Path;

use kinlog_indexer::FORMAT_0_REVISION;

use crate::api::Error;
use crate::guard::replace;
use crate::home::Layout;

/// Writes the revision and version of this build into a new home.
pub(crate) fn write(layout: &Layout) -> Result<(), Error> {
    let path = layout.revision();
    let text = format!("{FORMAT_0_REVISION} {}\n", env!("CARGO_PKG_VERSION"));
    replace(&path, text.as_bytes()).map_err(|error| failed(&path, &error))
}

/// Refuses a home of another revision before anything in it is touched.
pub(crate) fn check(layout: &Layout) -> Result<(), Error> {
    let path = layout.revision();
    let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
    let (revision, version) = text
        .trim()
        .split_once(' ')
        .unwrap_or((text.trim(), "unknown"));
    if revision == FORMAT_0_REVISION.to_string() {
        return Ok(());
    }
    Err(other("home", revision, version))
}

/// Refuses a backup of another revision.
pub(crate) fn check_same(revision: u16, version: &str) -> Result<(), Error> {
    match revision {
        FORMAT_0_REVISION => Ok(()),
        _ => Err(other("backup", &revision.to_string(), version)),
    }
}

fn other(what: &str, revision: &str, version: &str) -> Error {
    Error::general(format!(
        "this {what} uses preview format {revision}, this build {FORMAT_0_REVISION}: export what you need with build {version}"
    ))
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::general(format!("{}: {error}", path.display()))
}
