//! Every failure becomes a kind, a hint and an exit code here, and nowhere else.

use std::fmt;
use std::io;

use kinlog_agent::api;
use serde::Serialize;

/// Exit code of a command that ctrl-c ended before it was done.
const INTERRUPTED: u8 = 130;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the agent, or a check of ours in its words, says.
    Agent(api::Error),
    /// Ctrl-c.
    Interrupted,
    /// Whoever read our output went away; nobody is left to be told.
    OutputClosed,
}

impl Failure {
    pub(crate) fn new(kind: api::ErrorKind, message: impl Into<String>) -> Self {
        Failure::Agent(api::Error::new(kind, message))
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::new(api::ErrorKind::Usage, message)
    }

    pub(crate) fn general(message: impl Into<String>) -> Self {
        Failure::new(api::ErrorKind::General, message)
    }

    /// A failure of the operating system at `place`.
    pub(crate) fn io(place: impl fmt::Display, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => api::ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => api::ErrorKind::Permission,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => api::ErrorKind::Quota,
            _ => api::ErrorKind::General,
        };
        Failure::new(kind, format!("{place}: {error}"))
    }

    /// Adds what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        match self {
            Failure::Agent(error) => Failure::Agent(error.hint(hint)),
            other => other,
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Agent(error) => error.exit_code(),
            Failure::Interrupted => INTERRUPTED,
            Failure::OutputClosed => 0,
        }
    }

    /// Returns what `--json` prints, or `None` when nobody reads it.
    pub(crate) fn report(&self) -> Option<Report> {
        match self {
            Failure::Agent(error) => Some(Report {
                error: error.message.clone(),
                kind: serde_json::to_value(error.kind).unwrap_or_default(),
                exit: error.exit_code(),
                hint: error.hint.clone(),
            }),
            Failure::Interrupted => Some(Report {
                error: "interrupted".to_owned(),
                kind: "interrupted".into(),
                exit: INTERRUPTED,
                hint: None,
            }),
            Failure::OutputClosed => None,
        }
    }
}

/// A failure as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) error: String,
    kind: serde_json::Value,
    exit: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl From<api::Error> for Failure {
    fn from(error: api::Error) -> Self {
        Failure::Agent(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_an_exit_code_of_its_own() {
        let error = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Failure::io("/data", &error).exit_code(), 7);
    }

    #[test]
    fn interruption_exits_as_a_shell_expects() {
        assert_eq!(Failure::Interrupted.exit_code(), 130);
    }
}
