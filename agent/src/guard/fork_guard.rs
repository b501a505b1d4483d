//! The guard itself: certain or not, and signatures reserved ahead of use.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use kinlog_feeds::crypto::{DeviceKey, FeedKey};
use kinlog_feeds::store::{SignGuard, SignRefused, Store};
use kinlog_feeds::text;

use crate::api::{Error, ErrorKind};
use crate::guard::keeper::TwinKeeper;
use crate::guard::place::{Marks, Place};
use crate::guard::record::{ForeignHead, Found, InstallRecord, Next, Twin, VERSION, hash, replace};
use crate::guard::verdict::{Actual, Doubt, judge};
use crate::home::Layout;
use crate::keys::random;
use crate::limits::{RESERVED_FOR, SIGNATURES_RESERVED};

/// What to do about any doubt.
const HINT: &str = "reading, following and seeding go on; `kinlog device renew` makes this a new \
                    device that continues the paths";

/// The home that a guard stands before.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// The file with the install record.
    pub(crate) record: PathBuf,
    /// The store's folder.
    pub(crate) store: PathBuf,
    /// The device whose secret is here.
    pub(crate) device: DeviceKey,
}

impl Home {
    pub(crate) fn new(layout: &Layout, device: DeviceKey) -> Self {
        Home {
            record: layout.install(),
            store: layout.store(),
            device,
        }
    }
}

/// Allows a signature while this installation is certain to be the only and newest one.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    home: Home,
    keeper: Box<dyn TwinKeeper>,
    started: Instant,
    /// Signatures left of those reserved.
    left: AtomicI64,
    /// Milliseconds after `started` at which those left are left no more.
    until_ms: AtomicU64,
    standing: Mutex<Standing>,
    /// Feeds that earlier devices of this home wrote: their heads may come from others.
    former: OnceLock<BTreeSet<FeedKey>>,
}

#[derive(Debug)]
struct Standing {
    doubt: Option<Doubt>,
    /// Id of the store, once it is open.
    store: String,
    /// Newest durable record of the store when it was opened or asked last.
    sequence: u64,
    /// Something was signed since the last reservation.
    used: bool,
}

impl ForkGuard {
    /// Returns a guard that refuses everything until [`begin`](Self::begin).
    pub(crate) fn new(home: Home, keeper: impl TwinKeeper + 'static) -> Self {
        ForkGuard {
            home,
            keeper: Box::new(keeper),
            started: Instant::now(),
            left: AtomicI64::new(0),
            until_ms: AtomicU64::new(0),
            standing: Mutex::new(Standing {
                doubt: Some(Doubt::Unchecked),
                store: String::new(),
                sequence: 0,
                used: false,
            }),
            former: OnceLock::new(),
        }
    }

    /// Makes the record and the twin of a new installation, of which nothing may exist yet.
    ///
    /// The store of the home is closed, with `sequence` its newest record.
    pub(crate) fn install(&self, store: [u8; 16], sequence: u64) -> Result<(), Error> {
        let refused = |error: io::Error| {
            let record = self.home.record.display();
            not_reserved(&record.to_string(), &error)
        };
        let record = InstallRecord {
            v: VERSION,
            install: text::encode(&random::<16>()?),
            device: self.home.device.into(),
            reserved: SIGNATURES_RESERVED,
            mark: text::encode(&random::<16>()?),
            place: Place::of(&self.home.store).map_err(refused)?,
            store: text::encode(&store),
            sequence,
            tripped: None,
        };
        let bytes = record.encode();
        replace(&self.home.record, &bytes).map_err(refused)?;
        let file = Marks::of(&self.home.record).map_err(refused)?;
        let twin = Twin {
            v: VERSION,
            install: record.install.clone(),
            reserved: record.reserved,
            record: hash(&bytes),
            file,
            next: None,
        };
        let place = self.keeper.place(&record.install);
        self.keeper
            .write(&twin)
            .map_err(|error| not_reserved(&place, &error))
    }

    /// Checks whether this installation may sign, now that its store is open.
    pub(crate) fn begin(&self, store: &Store, former: BTreeSet<FeedKey>) {
        // A guard begins once; a second time the feeds are the same.
        let _ = self.former.set(former);
        let mut standing = self.standing();
        standing.store = text::encode(&store.id());
        standing.sequence = store.synced_sequence();
        standing.doubt = self.look(&standing).err();
        if let Some(doubt) = &standing.doubt {
            tracing::warn!(%doubt, "this device signs nothing");
        }
    }

    /// Refuses when this installation may not sign.
    ///
    /// # Errors
    /// `MustRenew` with the reason and what to do.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.doubt()
            .as_ref()
            .map_or(Ok(()), |doubt| Err(must_renew(doubt)))
    }

    /// Refuses everything from now on: the agent's identity set says that this device is none of its.
    pub(crate) fn revoke(&self, by: String) {
        let mut standing = self.standing();
        self.until_ms.store(0, Ordering::Release);
        standing.doubt = Some(Doubt::Revoked { by });
    }

    /// Returns what makes this installation uncertain, if anything.
    pub(crate) fn doubt(&self) -> Option<Doubt> {
        self.standing().doubt.clone()
    }

    /// Uses up one signature that is no longer head of a feed: a statement of the device.
    pub(crate) fn sign(&self, store: &Store) -> Result<(), Error> {
        self.allow(&|| store.synced_sequence())
            .map_err(|refused| Error::from(&refused))
    }

    /// Writes down where the closed store ends: any older copy of it is noticed from now on.
    pub(crate) fn seal(&self, sequence: u64) -> Result<(), Error> {
        let mut standing = self.standing();
        if standing.doubt.is_some() || !standing.used {
            return Ok(());
        }
        standing.sequence = sequence;
        self.left.store(0, Ordering::Relaxed);
        self.reserve(&mut standing, 0)
            .map_err(|refused| Error::from(&refused))
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // What a panic left is looked at anew before it is used.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn take_reserved(&self) -> bool {
        self.now_ms() < self.until_ms.load(Ordering::Acquire)
            && self.left.fetch_sub(1, Ordering::AcqRel) > 0
    }

    fn allow(&self, synced: &dyn Fn() -> u64) -> Result<(), SignRefused> {
        if self.take_reserved() {
            return Ok(());
        }
        let mut standing = self.standing();
        if let Some(doubt) = &standing.doubt {
            let reason = doubt.to_string();
            return Err(SignRefused::NotCertain { reason });
        }
        // Another thread may have reserved meanwhile.
        if self.take_reserved() {
            return Ok(());
        }
        standing.sequence = standing.sequence.max(synced());
        self.reserve(&mut standing, SIGNATURES_RESERVED)?;
        standing.used = true;
        let lasts_ms = u64::try_from(RESERVED_FOR.as_millis()).unwrap_or(u64::MAX);
        self.left
            .store(SIGNATURES_RESERVED.cast_signed() - 1, Ordering::Release);
        self.until_ms
            .store(self.now_ms() + lasts_ms, Ordering::Release);
        Ok(())
    }

    /// Reads record and twin anew and judges them.
    fn look(&self, standing: &Standing) -> Result<Found, Doubt> {
        let unread = |error: io::Error| Doubt::Record {
            reason: error.to_string(),
        };
        let found = Found::read(&self.home.record).map_err(unread)?;
        let found = found.ok_or_else(|| Doubt::Record {
            reason: format!("{} is missing", self.home.record.display()),
        })?;
        if let Some(head) = &found.record.tripped {
            return Err(head.into());
        }
        let place = self.keeper.place(&found.record.install);
        let twin = match self.keeper.read(&found.record.install) {
            Ok(Some(twin)) => twin,
            Ok(None) => return Err(Doubt::TwinMissing { place }),
            Err(error) => {
                let reason = error.to_string();
                return Err(Doubt::Twin { place, reason });
            }
        };
        let actual = Actual {
            device: self.home.device,
            place: &Place::of(&self.home.store).map_err(unread)?,
            store: &standing.store,
            sequence: standing.sequence,
        };
        judge(&found, &twin, &actual)?;
        Ok(found)
    }

    /// Reserves `more` signatures in three durable steps; on return they may be made.
    fn reserve(&self, standing: &mut Standing, more: u64) -> Result<(), SignRefused> {
        let found = self.look(standing).map_err(|doubt| {
            let reason = doubt.to_string();
            tracing::warn!(reason, "this device signs nothing more");
            standing.doubt = Some(doubt);
            SignRefused::NotCertain { reason }
        })?;
        let home = self.home.record.display().to_string();
        let refused = |place: &str, source: io::Error| SignRefused::NotReserved {
            place: place.to_owned(),
            source: Arc::new(source),
        };
        let mark = random::<16>().map_err(|error| refused(&home, io::Error::other(error)))?;
        let step = Reservation {
            keeper: &*self.keeper,
            path: &self.home.record,
            next: InstallRecord {
                reserved: found.record.reserved.saturating_add(more.max(1)),
                mark: text::encode(&mark),
                place: Place::of(&self.home.store).map_err(|error| refused(&home, error))?,
                sequence: standing.sequence,
                ..found.record.clone()
            },
            found,
        };
        let kept = self.keeper.place(&step.next.install);
        step.announce().map_err(|error| refused(&kept, error))?;
        step.write().map_err(|error| refused(&home, error))?;
        step.settle().map_err(|error| refused(&kept, error))
    }

    /// Never again: a head of ours exists that this store did not sign.
    fn trip(&self, feed: &FeedKey, length: u64) {
        let mut standing = self.standing();
        self.until_ms.store(0, Ordering::Release);
        let head = ForeignHead {
            feed: (*feed).into(),
            length,
        };
        let doubt = Doubt::from(&head);
        tracing::error!(%doubt, "this device signs nothing more");
        if let Ok(Some(found)) = Found::read(&self.home.record)
            && found.record.tripped.is_none()
        {
            let record = InstallRecord {
                tripped: Some(head),
                ..found.record
            };
            // Without it this process still refuses, and the next one is told by the same peer.
            if let Err(error) = replace(&self.home.record, &record.encode()) {
                tracing::error!(%error, "what a peer showed is not written down");
            }
        }
        standing.doubt = Some(doubt);
    }
}

impl SignGuard for ForkGuard {
    fn before_signature(
        &self,
        feed: &FeedKey,
        synced: &dyn Fn() -> u64,
    ) -> Result<(), SignRefused> {
        if self.is_former(feed) {
            let reason = format!("feed {feed} was written by an earlier device of this home");
            return Err(SignRefused::NotCertain { reason });
        }
        self.allow(synced)
    }

    fn handle_foreign_head(&self, feed: &FeedKey, length: u64) {
        if !self.is_former(feed) {
            self.trip(feed, length);
        }
    }
}

impl ForkGuard {
    fn is_former(&self, feed: &FeedKey) -> bool {
        self.former
            .get()
            .is_some_and(|former| former.contains(feed))
    }
}

/// The three steps between a record and the next one. Before the first and after the last, record
/// and twin are equal; a crash in between leaves a twin that names both.
struct Reservation<'a> {
    keeper: &'a dyn TwinKeeper,
    path: &'a Path,
    found: Found,
    next: InstallRecord,
}

impl Reservation<'_> {
    /// The twin names the next record beside the one that stands.
    fn announce(&self) -> io::Result<()> {
        self.keeper.write(&Twin {
            v: VERSION,
            install: self.next.install.clone(),
            reserved: self.found.record.reserved,
            record: self.found.hash.clone(),
            file: self.found.file,
            next: Some(Next {
                reserved: self.next.reserved,
                record: hash(&self.next.encode()),
            }),
        })
    }

    /// The next record takes its place in the home.
    fn write(&self) -> io::Result<()> {
        replace(self.path, &self.next.encode())
    }

    /// The twin names the next record alone, and its file.
    fn settle(&self) -> io::Result<()> {
        self.keeper.write(&Twin {
            v: VERSION,
            install: self.next.install.clone(),
            reserved: self.next.reserved,
            record: hash(&self.next.encode()),
            file: Marks::of(self.path)?,
            next: None,
        })
    }
}

fn must_renew(doubt: &Doubt) -> Error {
    if let Doubt::Revoked { .. } = doubt {
        let message = format!("this device may not write any more: {doubt}");
        return Error::permission(message).hint(
            "if that was a mistake, `kinlog device renew` asks for the 24 words and makes this a new device",
        );
    }
    must_renew_because(&doubt.to_string())
}

fn must_renew_because(reason: &str) -> Error {
    let message = format!("this device may not write any more: {reason}");
    Error::new(ErrorKind::MustRenew, message).hint(HINT)
}

fn not_reserved(place: &str, error: &io::Error) -> Error {
    let message = format!("signatures could not be reserved in {place}: {error}");
    Error::new(crate::failure::io_kind(error), message)
        .hint("the state folder and the home have to be writable: --state DIR names another")
}

impl From<&SignRefused> for Error {
    fn from(refused: &SignRefused) -> Self {
        match refused {
            SignRefused::NotReserved { place, source } => not_reserved(place, source),
            other => must_renew_because(&other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
