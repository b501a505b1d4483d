//! The revision of format 0 a home was written by: another one is left alone.

use std::path::Path;

use kinlog_indexer::FORMAT_0_REVISION;

use crate::api::Error;
use crate::home::Layout;

/// Writes the revision and version of this build into a new home.
pub(super) fn write(layout: &Layout) -> Result<(), Error> {
    let path = layout.revision();
    std::fs::write(
        &path,
        format!("{FORMAT_0_REVISION} {}\n", env!("CARGO_PKG_VERSION")),
    )
    .map_err(|error| failed(&path, &error))
}

/// Refuses a home of another revision before anything in it is touched.
pub(super) fn check(layout: &Layout) -> Result<(), Error> {
    let path = layout.revision();
    let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
    let (revision, version) = text
        .trim()
        .split_once(' ')
        .unwrap_or((text.trim(), "unknown"));
    if revision == FORMAT_0_REVISION.to_string() {
        return Ok(());
    }
    Err(Error::general(format!(
        "this home uses preview format {revision}, this build {FORMAT_0_REVISION}: export what you need with build {version}"
    )))
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::general(format!("{}: {error}", path.display()))
}
