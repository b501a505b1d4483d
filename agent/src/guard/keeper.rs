//! Who keeps the twin of an install record: outside the home, so that a copy of one lacks the other.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::guard::record::{Twin, read_small, replace};

/// Keeps one twin for each installation.
pub(crate) trait TwinKeeper: fmt::Debug + Send + Sync {
    /// Returns the twin of an installation, `None` when there is none.
    fn read(&self, install: &str) -> io::Result<Option<Twin>>;

    /// Puts a twin in place of the one before; durable on return.
    fn write(&self, twin: &Twin) -> io::Result<()>;

    /// Returns where the twin of an installation is kept, for people.
    fn place(&self, install: &str) -> String;
}

/// A folder (0700) with a file (0600) for each installation.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    folder: PathBuf,
}

impl StateFolder {
    pub(crate) fn new(folder: &Path) -> Self {
        StateFolder {
            folder: folder.to_owned(),
        }
    }

    fn file(&self, install: &str) -> PathBuf {
        // Whatever a damaged record says, it names a file of this folder.
        let name: String = install
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        self.folder.join(format!("{name}.install"))
    }
}

impl TwinKeeper for StateFolder {
    fn read(&self, install: &str) -> io::Result<Option<Twin>> {
        let bytes = read_small(&self.file(install))?;
        bytes.map(|bytes| Twin::decode(&bytes)).transpose()
    }

    fn write(&self, twin: &Twin) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        replace(&self.file(&twin.install), &twin.encode())
    }

    fn place(&self, install: &str) -> String {
        self.file(install).display().to_string()
    }
}
