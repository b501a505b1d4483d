//! Who is there and who types: said in sessions with members of a room, held in memory, forgotten by itself.
//!
//! It is no part of any feed, index or `state.db`, and goes to devices of members alone, in sessions that are
//! sealed from end to end: whoever relays these, and a seeder, learns nothing of it. Who speaks is who the
//! session's certificate names. [`heard`] holds what others say, [`own`] what this device says; both are
//! given the time.

mod heard;
mod own;
mod saying;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kinlog_feeds::crypto::DeviceKey;
use kinlog_indexer::RoomId;
use kinlog_swarm::{Doing, Presence, SessionId};
use tokio::sync::watch;

use crate::api::Stance;
use crate::core::Core;
use crate::limits::{PRESENCE_AGAIN_AFTER, PRESENCE_LOOK_EVERY};
use crate::requests::blocking;
use heard::Heard;
use own::Own;

/// What is said and heard of presence in this process; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Presences {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    heard: Mutex<Heard>,
    own: Mutex<Own>,
    /// Messages that were not taken: too many, too long, of nobody in the room.
    refused: AtomicU64,
    changes: watch::Sender<u64>,
}

impl Presences {
    /// Returns what says that this device is there, and has heard nothing.
    pub(crate) fn new() -> Self {
        Presences {
            shared: Arc::new(Shared {
                started: Instant::now(),
                heard: Mutex::default(),
                own: Mutex::new(Own::new(Stance::Online)),
                refused: AtomicU64::default(),
                changes: watch::Sender::default(),
            }),
        }
    }

    /// Takes what the other side of a session says, `device` being in the room as far as one can tell; returns what
    /// is answered. The first word in a session is: whoever says it may not have known before that this device is in
    /// the room, and not taken what was said then.
    pub(crate) fn hear(
        &self,
        session: SessionId,
        device: DeviceKey,
        presence: &Presence,
    ) -> Option<Presence> {
        let now_ms = self.now_ms();
        let taken = lock(&self.shared.heard).hear(now_ms, session, device, presence);
        let taken = match taken {
            Ok(taken) => taken,
            Err(refusal) => {
                self.refuse();
                tracing::debug!(%session, %refusal, "presence is not taken");
                return None;
            }
        };
        if taken.is_change {
            self.changed();
        }
        let room = RoomId(presence.room);
        let mut own = self.own();
        if !taken.is_first || own.stance() == Stance::Off {
            return None;
        }
        own.told(&[(room, session)]);
        Some(saying::presence(&room, own::doing(own.stance())))
    }

    /// Counts what somebody says who is not in the room.
    pub(crate) fn refuse(&self) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many messages were not taken.
    #[cfg(test)]
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Forgets what was said in a session that has ended.
    pub(crate) fn session_closed(&self, session: SessionId) {
        self.own().session_closed(session);
        if lock(&self.shared.heard).session_closed(session) {
            self.changed();
        }
    }

    /// Returns what the devices in a room do now, and when something of that ends by itself.
    fn in_room(&self, room: &RoomId) -> (BTreeMap<DeviceKey, Doing>, Option<Instant>) {
        let (doing, next_ms) = lock(&self.shared.heard).in_room(self.now_ms(), room);
        let at = next_ms.map(|ms| self.shared.started + Duration::from_millis(ms));
        (doing, at)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        lock(&self.shared.own)
    }

    /// Returns a receiver that sees every change of who is there and types; none is one of feeds or index.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn changed(&self) {
        let count = &self.shared.changes;
        count.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Returns the milliseconds since the start of the process.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Says that this device is there: to who is new, and before what was said ends to everybody again.
pub(crate) async fn say_regularly(core: Arc<Core>) {
    let mut changes = core.changes();
    let mut again = tokio::time::interval(PRESENCE_AGAIN_AFTER);
    again.tick().await;
    loop {
        let to_all = tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
            _ = again.tick() => true,
        };
        let said = blocking(&core, move |core| {
            core.say_stance(to_all);
            Ok(())
        });
        if let Err(error) = said.await {
            tracing::warn!(%error, "presence is not said");
        }
        // A burst of changes is looked at once.
        tokio::time::sleep(PRESENCE_LOOK_EVERY).await;
    }
}

/// Locks; a panic of another holder left every value here whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
