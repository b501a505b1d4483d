//! Errors of the rooms below, as what a caller is told: the kind, and every cause in one line.

use std::error::Error as StdError;
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
    Error::new(
        kind,
        format!("store {}: {}", folder.display(), chain(&error)),
    )
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error::new(store_kind(&error), chain(&error))
    }
}

impl From<CreateError> for Error {
    fn from(error: CreateError) -> Self {
        let kind = match &error {
            CreateError::Store(error) => store_kind(error),
            CreateError::TooManyFeeds { .. } => ErrorKind::Quota,
            _ => ErrorKind::Verification,
        };
        Error::new(kind, chain(&error))
    }
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        let kind = match &error {
            AppendError::Store(error) => store_kind(error),
            AppendError::TooLarge { .. } => ErrorKind::Usage,
            AppendError::NotWritable { .. } => ErrorKind::Permission,
            _ => ErrorKind::General,
        };
        Error::new(kind, chain(&error))
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Damaged { .. } => ErrorKind::Verification,
            ReadError::Store(error) => store_kind(error),
            _ => ErrorKind::General,
        };
        Error::new(kind, chain(&error))
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
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            ErrorKind::Quota
        }
        _ => ErrorKind::General,
    }
}
