//! A file with the size of every message that links received, for measuring what crossed them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// Appends sizes; clones write to the same file, over the lives of several processes.
#[derive(Clone, Debug)]
pub(crate) struct MessageLog {
    file: Arc<File>,
}

impl MessageLog {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(MessageLog {
            file: Arc::new(file),
        })
    }

    /// Appends one size as a decimal line, in one write that a kill cannot tear.
    pub(crate) fn record(&self, bytes: usize) {
        if let Err(error) = (&*self.file).write_all(format!("{bytes}\n").as_bytes()) {
            tracing::warn!(%error, "message log not written");
        }
    }
}
