//! The file behind the index: made, and made anew when it is lost or damaged. Nothing is lost with it.

use std::path::Path;
use std::sync::atomic::Ordering;

use kinlog_indexer::Index;
use kinlog_indexer::index::{IndexError, Reader};

use crate::api::Error;
use crate::core::readers::LookError;
use crate::core::{Core, lock};
use crate::home::{Layout, private_file};

/// Opens the index; a damaged or foreign one is deleted. Returns whether it is to be rebuilt.
pub(super) fn open_index(layout: &Layout) -> Result<(Index, bool), Error> {
    let path = layout.index();
    let existed = path.exists();
    private(&path)?;
    match Index::open(&path) {
        Ok(index) => Ok((index, !existed)),
        Err(error) if error.needs_rebuild() => {
            tracing::warn!(%error, "index is made anew");
            Ok((new_index(layout)?, true))
        }
        Err(error) => Err(error.into()),
    }
}

fn new_index(layout: &Layout) -> Result<Index, Error> {
    for file in layout.index_files() {
        // One that is not there need not be removed; any other trouble shows at opening.
        let _ = std::fs::remove_file(file);
    }
    let path = layout.index();
    private(&path)?;
    Ok(Index::open(&path)?)
}

/// Deletes the index of a home that stays locked when whoever opened it for itself leaves.
#[derive(Debug)]
pub(super) struct LeavesNoIndex(pub(super) Layout);

impl Drop for LeavesNoIndex {
    fn drop(&mut self) {
        if let Err(error) = self.0.delete_index() {
            tracing::warn!(%error, "the index of a locked home stays");
        }
    }
}

fn private(path: &Path) -> Result<(), Error> {
    private_file(path).map_err(|error| Error::general(format!("{}: {error}", path.display())))
}

impl Core {
    /// Asks what is written in the index, without waiting for whoever writes it, from one state of
    /// it; notes when it turns out to be damaged. `look` must not ask again.
    pub(crate) fn look<T>(
        &self,
        look: impl FnOnce(&Reader) -> Result<T, IndexError>,
    ) -> Result<T, Error> {
        self.readers.look(look).map_err(|error| {
            if error.needs_rebuild() {
                self.index_damaged.store(true, Ordering::Relaxed);
            }
            match error {
                LookError::Open(error) => error.into(),
                LookError::Read(error) => error.into(),
            }
        })
    }

    /// Works on the index, and notes when it turns out to be damaged.
    pub(crate) fn index<T>(
        &self,
        look: impl FnOnce(&mut Index) -> Result<T, IndexError>,
    ) -> Result<T, Error> {
        look(&mut lock(&self.index)).map_err(|error| {
            if error.needs_rebuild() {
                self.index_damaged.store(true, Ordering::Relaxed);
            }
            error.into()
        })
    }

    /// Makes the file of the index anew.
    pub(crate) fn rebuild_index_file(&self) -> Result<(), Error> {
        self.index_damaged.store(true, Ordering::Relaxed);
        self.renew_damaged_index().map(|_| ())
    }

    /// Makes the index anew if it was found to be damaged; returns whether it was.
    pub(crate) fn renew_damaged_index(&self) -> Result<bool, Error> {
        if !self.index_damaged.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        tracing::warn!("index is damaged and made anew");
        {
            let _stopped = self.readers.stop();
            let mut index = lock(&self.index);
            // The damaged file is closed before it is deleted.
            *index = Index::open_in_memory()?;
            *index = new_index(&self.layout)?;
        }
        self.set_tree_hashes();
        self.rebuild_index()?;
        self.catch_up()?;
        self.replan()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::Switches;
    use crate::test_folder::TestFolder;

    #[test]
    fn an_index_that_an_earlier_build_left_is_made_anew_at_the_start() {
        let folder = TestFolder::new();
        let home = folder.home("Ada");
        let hash = || {
            let (core, _events) = Core::open(&home, &folder.state(), Switches::default()).unwrap();
            core.index(|index| index.dump_hash()).unwrap()
        };
        let before = hash();
        for file in Layout::new(&home).index_files() {
            let _ = std::fs::remove_file(file);
        }
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../indexer/tests/fixtures");
        let sql = std::fs::read_to_string(fixtures.join("index.sql")).unwrap();
        rusqlite::Connection::open(Layout::new(&home).index())
            .and_then(|earlier| {
                earlier.execute_batch(&sql)?;
                earlier.pragma_update(None, "user_version", 2)
            })
            .unwrap();
        assert_eq!(hash(), before);
    }
}
