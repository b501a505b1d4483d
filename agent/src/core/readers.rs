//! Looks at the index beside whoever writes it: asking never waits until a large ingest, a removal
//! or a rebuild is through.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use kinlog_indexer::index::{IndexError, OpenError, Reader};

use crate::limits::INDEX_READERS_MAX;

/// Connections that only read, opened when they are wanted and lent to one thread at a time.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    lent: Mutex<Lent>,
    back: Condvar,
}

#[derive(Debug, Default)]
struct Lent {
    idle: Vec<Reader>,
    count: usize,
    /// The file is being replaced: nobody may hold it open.
    stopped: bool,
}

impl Readers {
    /// Looks at the index at `path`.
    pub(super) fn of(path: PathBuf) -> Readers {
        Readers {
            path,
            lent: Mutex::default(),
            back: Condvar::new(),
        }
    }

    /// Answers from one state of the index. Waits while [`INDEX_READERS_MAX`] others ask.
    ///
    /// `look` must not ask for another reader.
    pub(super) fn look<T>(
        &self,
        look: impl FnOnce(&Reader) -> Result<T, IndexError>,
    ) -> Result<T, LookError> {
        let mut loan = self.lend();
        let reader = match &mut loan.reader {
            Some(reader) => reader,
            none => none.insert(Reader::open(&self.path)?),
        };
        let answer = reader.at_once(look);
        if answer.is_err() {
            loan.reader = None;
        }
        Ok(answer?)
    }

    /// Waits until everybody has given back what they were lent, closes it, and lends nothing until
    /// the answer is dropped.
    pub(super) fn stop(&self) -> Stopped<'_> {
        let mut lent = self.wait_while(|lent| lent.stopped);
        lent.stopped = true;
        drop(lent);
        let mut lent = self.wait_while(|lent| lent.count > 0);
        lent.idle.clear();
        Stopped(self)
    }

    fn lend(&self) -> Loan<'_> {
        let mut lent = self.wait_while(|lent| lent.stopped || lent.count >= INDEX_READERS_MAX);
        lent.count += 1;
        Loan {
            reader: lent.idle.pop(),
            of: self,
        }
    }

    fn wait_while(&self, waits: impl Fn(&Lent) -> bool) -> MutexGuard<'_, Lent> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        self.back
            .wait_while(lent, |lent| waits(lent))
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader until it is given back; `None` while it is not open.
#[derive(Debug)]
struct Loan<'a> {
    reader: Option<Reader>,
    of: &'a Readers,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut lent = self.of.wait_while(|_| false);
        lent.count -= 1;
        lent.idle.extend(self.reader.take());
        drop(lent);
        self.of.back.notify_all();
    }
}

/// Nothing is lent while this lives.
#[derive(Debug)]
pub(super) struct Stopped<'a>(&'a Readers);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.wait_while(|_| false).stopped = false;
        self.0.back.notify_all();
    }
}

/// A look that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] IndexError),
}

impl LookError {
    /// Returns whether making the index anew helps.
    pub(super) fn needs_rebuild(&self) -> bool {
        match self {
            LookError::Open(error) => error.needs_rebuild(),
            LookError::Read(error) => error.needs_rebuild(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use crate::limits::INDEX_READERS_MAX;
    use crate::test_folder::TestFolder;

    /// Far more than a look takes; only a failure waits that long.
    const WAIT_MAX: Duration = Duration::from_secs(60);

    #[test]
    fn looks_do_not_wait_for_whoever_works_on_the_index() {
        let folder = TestFolder::new();
        let core = folder.core("Ada");
        thread::scope(|scope| {
            let ((begins, begun), (ends, ended)) = (channel(), channel::<()>());
            let core = &core;
            scope.spawn(move || {
                core.index(|_| {
                    begins.send(()).unwrap();
                    // Ends when the test is through, also when that fails.
                    let _ = ended.recv();
                    Ok(())
                })
                .unwrap();
            });
            begun.recv().unwrap();
            let (tells, told) = channel();
            for _ in 0..3 * INDEX_READERS_MAX {
                let tells = tells.clone();
                scope.spawn(move || tells.send(core.look(|index| index.rooms())));
            }
            for _ in 0..3 * INDEX_READERS_MAX {
                let rooms = told.recv_timeout(WAIT_MAX);
                assert!(rooms.unwrap().unwrap().is_empty());
            }
            drop(ends);
        });
        assert!(core.readers.lend().of.lent.lock().unwrap().idle.len() < INDEX_READERS_MAX);
    }

    #[test]
    fn a_new_file_is_looked_at_by_those_who_ask_after_it_came() {
        let folder = TestFolder::new();
        let core = folder.core("Ada");
        let before = core.look(|index| index.dump_hash()).unwrap();
        core.rebuild_index_file().unwrap();
        // A reader of the old file would not see what comes now.
        core.index(|index| {
            let scope = kinlog_indexer::index::Scope::Unknown;
            let key = kinlog_feeds::FeedKey([7; 32]);
            index.put_feed(kinlog_indexer::index::FeedContext { key, scope })
        })
        .unwrap();
        assert_ne!(core.look(|index| index.dump_hash()).unwrap(), before);
    }
}
