//! Folders for one measurement, on the disk that builds use: /tmp may be memory.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Scratch> {
        let beside = env::current_exe()?;
        let target = beside.parent().context("this program lies in a folder")?;
        let path = target.join(format!("bench-{:016x}", getrandom::u64()?));
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Scratch(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left in target/, which `cargo clean` empties.
        let _ = fs::remove_dir_all(&self.0);
    }
}
