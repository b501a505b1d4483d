//! Where the agent of this command lives.

use std::env;
use std::path::{Path, PathBuf};

use crate::arguments::Global;
use crate::error::Failure;

/// Returns the absolute home: `--home`, `KINLOG_HOME`, `$XDG_DATA_HOME/kinlog`, or
/// `~/.local/share/kinlog`, whichever is given first.
pub(crate) fn home(global: &Global) -> Result<PathBuf, Failure> {
    let chosen = match &global.home {
        Some(home) => home.clone(),
        None => user_folder("XDG_DATA_HOME", ".local/share")
            .ok_or_else(|| {
                Failure::usage(
                    "no home: neither --home, KINLOG_HOME, XDG_DATA_HOME nor HOME is set",
                )
            })?
            .join("kinlog"),
    };
    absolute(&chosen)
}

/// Returns the absolute folder that tells homes from their copies: `--state`, `KINLOG_STATE`,
/// `$XDG_STATE_HOME/kinlog`, or `~/.local/state/kinlog`, whichever is given first.
pub(crate) fn state(global: &Global) -> Result<PathBuf, Failure> {
    let chosen = match &global.state {
        Some(state) => state.clone(),
        None => user_folder("XDG_STATE_HOME", ".local/state")
            .ok_or_else(|| {
                Failure::usage(
                    "no state folder: neither --state, KINLOG_STATE, XDG_STATE_HOME nor HOME is set",
                )
            })?
            .join("kinlog"),
    };
    absolute(&chosen)
}

/// Returns `path` as an agent in another folder understands it.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::io(path.display(), &error))
}

/// Returns the folder that an XDG variable names, or its default below the user's own.
fn user_folder(variable: &str, default: &str) -> Option<PathBuf> {
    let given = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // A relative XDG folder is invalid and ignored (XDG base directory specification).
    given(variable)
        .filter(|folder| folder.is_absolute())
        .or_else(|| given("HOME").map(|home| home.join(default)))
}
