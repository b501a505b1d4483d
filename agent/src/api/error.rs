//! The one error every request can end with: a kind for the exit code, a message, a hint.

use serde::{Deserialize, Serialize};

/// What sort of failure it was; each has the exit code that scripts rely on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// Anything that fits nowhere else: a disk that fails, a bug of ours (1).
    General,
    /// The caller wrote something that makes no sense: a damaged link, text that is not UTF-8 (2).
    Usage,
    /// No such home, feed, path, room or pin (3).
    NotFound,
    /// Nobody answered in time, or no signal server for what needs one (4).
    NoPeers,
    /// Data that is altered, or not what it claims to be (5).
    Verification,
    /// Another process holds the home, or files that others may read (6).
    Permission,
    /// A quota or the disk is full (7).
    Quota,
    /// Only a running agent can do this (8).
    NeedsAgent,
    /// Two histories of one feed (9).
    Conflict,
    /// This device is not certain to be the only and newest holder of its secret: it signs nothing (10).
    MustRenew,
}

impl ErrorKind {
    /// Returns the exit code of a command that ends with this kind.
    pub const fn exit_code(self) -> u8 {
        match self {
            ErrorKind::General => 1,
            ErrorKind::Usage => 2,
            ErrorKind::NotFound => 3,
            ErrorKind::NoPeers => 4,
            ErrorKind::Verification => 5,
            ErrorKind::Permission => 6,
            ErrorKind::Quota => 7,
            ErrorKind::NeedsAgent => 8,
            ErrorKind::Conflict => 9,
            ErrorKind::MustRenew => 10,
        }
    }
}

/// A request that could not be done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What sort of failure.
    pub kind: ErrorKind,
    /// Who, where, expected and got; lower case, one sentence.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Error {
    /// Returns an error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// Returns an error of kind [`ErrorKind::General`].
    pub fn general(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::General, message)
    }

    /// Returns an error of kind [`ErrorKind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Usage, message)
    }

    /// Returns an error of kind [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::NotFound, message)
    }

    /// Returns an error of kind [`ErrorKind::NoPeers`].
    pub fn no_peers(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::NoPeers, message)
    }

    /// Returns an error of kind [`ErrorKind::Verification`].
    pub fn verification(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Verification, message)
    }

    /// Returns an error of kind [`ErrorKind::Permission`].
    pub fn permission(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Permission, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts the file concerned in front of the message.
    #[must_use]
    pub fn in_file(mut self, file: &std::path::Path) -> Self {
        self.message = format!("{}: {}", file.display(), self.message);
        self
    }

    /// Returns the exit code of a command that ends with this error.
    pub const fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_exit_code_of_its_own() {
        let kinds = [
            ErrorKind::General,
            ErrorKind::Usage,
            ErrorKind::NotFound,
            ErrorKind::NoPeers,
            ErrorKind::Verification,
            ErrorKind::Permission,
            ErrorKind::Quota,
            ErrorKind::NeedsAgent,
            ErrorKind::Conflict,
            ErrorKind::MustRenew,
        ];
        let codes: Vec<u8> = kinds.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!(codes, (1..=10).collect::<Vec<u8>>());
    }
}
