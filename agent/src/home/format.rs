//! The format a home was written by: another one is left alone.

use std::path::Path;

use kinlog_indexer::FORMAT;

use crate::api::Error;
use crate::guard::replace;
use crate::home::Layout;

/// Writes the format and version of this build into a new home.
pub(crate) fn write(layout: &Layout) -> Result<(), Error> {
    let path = layout.format();
    let text = format!("{FORMAT} {}\n", env!("CARGO_PKG_VERSION"));
    replace(&path, text.as_bytes()).map_err(|error| failed(&path, &error))
}

/// Refuses a home of another format before anything in it is touched.
pub(crate) fn check(layout: &Layout) -> Result<(), Error> {
    let path = layout.format();
    let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
    let (format, version) = text
        .trim()
        .split_once(' ')
        .unwrap_or((text.trim(), "unknown"));
    if format == FORMAT.to_string() {
        return Ok(());
    }
    Err(other("home", format, version))
}

/// Refuses a backup of another format.
pub(crate) fn check_same(format: u16, version: &str) -> Result<(), Error> {
    match format {
        FORMAT => Ok(()),
        _ => Err(other("backup", &format.to_string(), version)),
    }
}

fn other(what: &str, format: &str, version: &str) -> Error {
    Error::general(format!(
        "this {what} uses format {format}, this build {FORMAT}: export what you need with build {version}"
    ))
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::general(format!("{}: {error}", path.display()))
}
