//! Errors of the rooms below, as what a caller is told: the kind, and every cause in one line.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use kinlog_feeds::store::{AppendError, CreateError, OpenError, ReadError, StoreError};
use kinlog_indexer::index::{IndexError, OpenError as IndexOpenError};

use crate::api::{Error, ErrorKind};

/// Returns an error's message with those of its causes.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

pub(crate) fn store_open(folder: &Path, error: OpenError) -> Error {
    let kind = match &error {
        OpenError::Store(error) => store_kind(error),
        _ => ErrorKind::General,
    };
    let message = format!("store {}: {}", folder.display(), chain(&error));
    match kind {
        ErrorKind::Verification => Error::new(kind, message).hint(
            "`kinlog store check` names what is damaged, `kinlog store repair` keeps all that holds",
        ),
        _ => of_store(kind, message),
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        of_store(store_kind(&error), chain(&error))
    }
}

impl From<CreateError> for Error {
    fn from(error: CreateError) -> Self {
        let kind = match &error {
            CreateError::Store(error) => store_kind(error),
            CreateError::TooManyFeeds { .. } => ErrorKind::Quota,
            _ => ErrorKind::Verification,
        };
        of_store(kind, chain(&error))
    }
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        let kind = match &error {
            AppendError::Store(error) => store_kind(error),
            AppendError::TooLarge { .. } => ErrorKind::Usage,
            AppendError::NotWritable { .. } => ErrorKind::Permission,
            AppendError::Refused { refused, .. } => return refused.into(),
            AppendError::Conflict { .. } => {
                return Error::new(ErrorKind::Conflict, chain(&error))
                    .hint("`kinlog feed conflicts` shows both histories");
            }
            _ => ErrorKind::General,
        };
        of_store(kind, chain(&error))
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Damaged { .. } => ErrorKind::Verification,
            ReadError::Store(error) => store_kind(error),
            _ => ErrorKind::General,
        };
        of_store(kind, chain(&error))
    }
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        Error::general(chain(&error))
    }
}

impl From<IndexOpenError> for Error {
    fn from(error: IndexOpenError) -> Self {
        Error::general(chain(&error))
    }
}

impl From<crate::links::LinkError> for Error {
    fn from(error: crate::links::LinkError) -> Self {
        Error::usage(chain(&error))
    }
}

impl From<crate::links::PathError> for Error {
    fn from(error: crate::links::PathError) -> Self {
        Error::usage(chain(&error))
    }
}

fn store_kind(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::Damaged(_) => ErrorKind::Verification,
        StoreError::DiskFull { .. } => ErrorKind::Quota,
        StoreError::Io { source, .. } | StoreError::WriterStopped { first: source } => {
            io_kind(source)
        }
        _ => ErrorKind::General,
    }
}

/// Returns the kind of what a disk refused.
pub(crate) fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Quota,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::Permission
        }
        _ => ErrorKind::General,
    }
}

/// Returns an error of the store with what a person can do about its kind.
fn of_store(kind: ErrorKind, message: String) -> Error {
    let error = Error::new(kind, message);
    match kind {
        ErrorKind::Quota => error.hint("free space on the disk, then run the command again"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such_though_an_earlier_write_met_it() {
        let first = Arc::new(io::Error::from(io::ErrorKind::StorageFull));
        let error = Error::from(AppendError::Store(StoreError::WriterStopped { first }));
        assert_eq!((error.kind, error.exit_code()), (ErrorKind::Quota, 7));
        assert!(error.hint.is_some());
    }
}
