//! Appending without waiting for the disk: acknowledged before durable, never visible before.
//!
//! What is appended this way may be lost: by a power cut, by the end of the process, by a full disk.
//! What must not happen is that it was shown to somebody before it was lost, because the feed would
//! then be signed twice at one length. So nothing changes but when the call returns: head, blocks
//! and proofs show up when they are durable, as ever. A thread of the log's own writes and syncs what
//! is queued, as much at a time as came while it was busy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use crate::crypto::KeyPair;
use crate::store::append::Appended;
use crate::store::error::{AppendError, StoreError};
use crate::store::feed::Feed;
use crate::store::limits::RELAXED_BYTES_MAX;
use crate::store::log::{Log, Ticket};
use crate::store::store::Store;

impl Feed {
    /// Appends blocks and returns when they are signed and queued, before they are durable.
    ///
    /// **They can be lost**: by a power cut, when the process ends without [`Store::close`] or
    /// [`Store::sync`], or when the disk becomes full. Until they are durable they are not visible:
    /// [`head`](Self::head), [`get`](Self::get) and [`prove`](Self::prove) do not know them, so that
    /// no peer sees a head that a restart could sign differently. That is soon, and at the latest
    /// when [`Store::sync`] returns. While more than [`RELAXED_BYTES_MAX`] wait, the call waits too.
    ///
    /// # Errors
    ///
    /// Those of [`append_batch`](Self::append_batch), and, once, what befell blocks that an earlier
    /// call had returned for: those are lost, and these are not appended.
    pub fn append_batch_relaxed(
        &self,
        signer: &KeyPair,
        blocks: &[Bytes],
    ) -> Result<Appended, AppendError> {
        self.check_sizes(blocks)?;
        let known = self.known_to(signer)?;
        self.inner.syncer.loss()?;
        let mut writer = self.entry.writer();
        let (done, ticket) = self.append_now(&mut writer, &known, signer, &[blocks])?;
        self.inner.syncer.note(&ticket);
        drop(writer);
        let taken = self.inner.log.queued_bytes() <= RELAXED_BYTES_MAX && self.inner.syncer.wake();
        if !taken {
            self.inner.log.wait(&ticket)?;
        }
        self.inner.checkpoint_if_due();
        Ok(done[0])
    }
}

impl Store {
    /// Returns when everything appended before is durable and visible.
    ///
    /// # Errors
    ///
    /// Why blocks appended by [`Feed::append_batch_relaxed`] are lost, unless a call of that said so
    /// before.
    pub fn sync(&self) -> Result<(), StoreError> {
        let log = &self.inner.log;
        let written = log.wait(&log.newest());
        self.inner.syncer.loss()?;
        written
    }
}

/// The thread that writes what nobody waits for; it starts with the first use.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    returned: Mutex<Returned>,
}

/// What relaxed calls have returned for.
#[derive(Debug, Default)]
struct Returned {
    /// The newest of it. What came before shares its fate, unless it was refused already.
    newest: Ticket,
    /// Why some of it is lost, until somebody is told.
    lost: Option<StoreError>,
}

#[derive(Debug)]
struct Shared {
    log: Arc<Log>,
    /// Something was queued since the thread looked last.
    asked: AtomicBool,
    stop: AtomicBool,
}

impl Syncer {
    pub(super) fn new(log: Arc<Log>) -> Self {
        let shared = Shared {
            log,
            asked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        Syncer {
            shared: Arc::new(shared),
            thread: Mutex::default(),
            returned: Mutex::default(),
        }
    }

    /// Lets the thread write what is queued; returns false when there can be none.
    pub(super) fn wake(&self) -> bool {
        if self.shared.asked.swap(true, Ordering::AcqRel) {
            return true;
        }
        let mut thread = self.thread();
        match &*thread {
            Some(running) => running.thread().unpark(),
            None => {
                let shared = self.shared.clone();
                let named = thread::Builder::new().name("kinlog-sync".to_owned());
                *thread = named.spawn(move || shared.run()).ok();
            }
        }
        thread.is_some()
    }

    /// Remembers what a call is about to return for.
    fn note(&self, ticket: &Ticket) {
        let mut returned = self.returned();
        if let Some(error) = returned.newest.refusal() {
            returned.lost.get_or_insert(error);
        }
        returned.newest = ticket.clone();
    }

    /// Tells why something is lost that a call had returned for, once.
    pub(super) fn loss(&self) -> Result<(), StoreError> {
        let mut returned = self.returned();
        if let Some(error) = returned.newest.refusal() {
            returned.lost.get_or_insert(error);
            returned.newest = Ticket::default();
        }
        match returned.lost.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Ends the thread after the write that runs.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread().take()
            && thread.thread().id() != thread::current().id()
        {
            thread.thread().unpark();
            // A thread that panicked has stopped the writer already.
            let _ = thread.join();
        }
    }

    fn returned(&self) -> MutexGuard<'_, Returned> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        while !self.stop.load(Ordering::Acquire) {
            if !self.asked.swap(false, Ordering::AcqRel) {
                thread::park();
                continue;
            }
            // Whom an error concerns finds it by the ticket.
            let _ = self.log.wait(&self.log.newest());
        }
    }
}
