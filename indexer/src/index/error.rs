//! What can go wrong with an index; never the fault of a peer.

use std::path::{Path, PathBuf};

use kinlog_feeds::crypto::FeedKey;

use crate::index::SourceError;

/// An index that does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Damaged: delete the file and rebuild it, nothing is lost.
    #[error("index {} is damaged ({reason}): delete and rebuild it", .path.display())]
    Damaged { path: PathBuf, reason: String },
    /// Made by another build: delete the file and rebuild it.
    #[error(
        "index {} has schema {actual}, this build has {expected}: delete and rebuild it",
        .path.display()
    )]
    OtherSchema {
        path: PathBuf,
        expected: u32,
        actual: u32,
    },
    /// It could not be read.
    #[error("index {}", .path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// SQLite could not open or read it.
    #[error("index {}", .path.display())]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
}

impl OpenError {
    /// Tells damage from everything else.
    pub(super) fn of(path: &Path, source: rusqlite::Error) -> Self {
        if is_damage(&source) {
            OpenError::Damaged {
                path: path.into(),
                reason: source.to_string(),
            }
        } else {
            OpenError::Sqlite {
                path: path.into(),
                source,
            }
        }
    }

    /// Returns whether deleting the file and rebuilding the index helps.
    pub fn needs_rebuild(&self) -> bool {
        matches!(
            self,
            OpenError::Damaged { .. } | OpenError::OtherSchema { .. }
        )
    }
}

/// A call that failed; what it had begun was rolled back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Damaged: delete the file and rebuild it, nothing is lost.
    #[error("index is damaged ({reason}): delete and rebuild it")]
    Damaged { reason: String },
    /// SQLite could not do it.
    #[error("index")]
    Sqlite(#[source] rusqlite::Error),
    /// A block of a feed that [`put_feed`](crate::Index::put_feed) was not told of.
    #[error("block {index} of feed {feed}: the index does not know the feed")]
    UnknownFeed { feed: FeedKey, index: u64 },
    /// The feed belongs to another scope, which goes before this one.
    #[error("feed {feed} belongs to another author, directory or room, which goes before this one")]
    OtherScope { feed: FeedKey },
    /// Feeds or blocks could not be read during a rebuild.
    #[error("reading feeds for a rebuild")]
    Source(#[source] SourceError),
}

impl IndexError {
    /// Returns whether deleting the file and rebuilding the index helps.
    pub fn needs_rebuild(&self) -> bool {
        matches!(self, IndexError::Damaged { .. })
    }
}

impl From<rusqlite::Error> for IndexError {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) {
            IndexError::Damaged {
                reason: error.to_string(),
            }
        } else {
            IndexError::Sqlite(error)
        }
    }
}

/// Tells damage of the file from everything else that SQLite reports.
///
/// A value of an impossible type or range in one of our columns is damage too: nothing of ours
/// writes it.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::{Error, ErrorCode};
    match error {
        Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation
        ),
        Error::InvalidColumnType(..)
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..) => true,
        _ => false,
    }
}
