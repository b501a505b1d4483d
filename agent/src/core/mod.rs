//! The agent without its callers and its tasks: home, store, index, knowledge and plan in one value.
//!
//! Everything here blocks; asynchronous callers use worker threads. Locks are taken in the order
//! `sharing`, `settling`, `planning`, `writing`, `learning`, `index`, `checks`, `knowledge`, and none is
//! held while another thread is waited for. Under a lock that is not named here none of these is taken.

mod chain;
mod clearing;
mod continuing;
mod cuts;
mod devices;
mod emptying;
mod entries;
mod giving_back;
mod index_file;
mod indexing;
mod learn;
mod moving;
mod names;
mod own_feeds;
mod private;
mod readers;
mod replan;
mod room_log;
mod standing;
mod steps;
mod trees;

pub(crate) use clearing::{Ranges, noted_again};
pub(crate) use emptying::emptied_blocks;
pub(crate) use entries::Place;
pub(crate) use learn::met_at;
pub(crate) use own_feeds::NewPath;
pub(crate) use room_log::RoomLog;
pub(crate) use steps::Steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::AgentId;
use kinlog_feeds::store::{Feed, Store};
use kinlog_indexer::clock::HybridClock;
use kinlog_indexer::{Index, RoomId};
use tokio::sync::{Semaphore, broadcast, watch};

use crate::api::{DeviceChange, Error};
use crate::core::index_file::LeavesNoIndex;
use crate::core::readers::Readers;
use crate::guard::ForkGuard;
use crate::home::{HomeLock, Layout, OpenHome, open_home};
use crate::host::{AgentHost, HostEvents};
use crate::keys::DeviceKeys;
use crate::knowledge::Knowledge;
use crate::limits::WORK_AT_ONCE_MAX;
use crate::limits::{DEVICE_CHANGES_KEPT_MAX, HOST_EVENTS_QUEUED_MAX};
use crate::network::Network;
use crate::pins::{Plan, Switches};
use crate::presence::Presences;
use crate::rooms::{Checks, Rate};
use crate::state::State;
use crate::vault::Passphrase;

/// One agent with its home open.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) layout: Layout,
    pub(crate) keys: DeviceKeys,
    pub(crate) agent: AgentId,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) store: Store,
    pub(crate) guard: Arc<ForkGuard>,
    pub(crate) host: AgentHost,
    switches: Switches,
    /// Before the index: what only reads is closed first.
    readers: Readers,
    index: Mutex<Index>,
    /// A look into the index found damage.
    index_damaged: AtomicBool,
    /// Feeds the index was told of.
    indexed: Mutex<BTreeSet<FeedKey>>,
    knowledge: Mutex<Knowledge>,
    /// Held from looking into `state.db` to taking what it says into what is known, so that nobody
    /// takes in an older look after a newer one.
    learning: Mutex<()>,
    plan: Mutex<Arc<Plan>>,
    planning: Mutex<()>,
    network: Mutex<Option<Arc<Network>>>,
    clock: Mutex<HybridClock>,
    /// Held from looking at the frontier to the append that links to it.
    writing: Mutex<()>,
    /// Own public feeds whose head the directory does not commit to yet.
    unvouched: Mutex<BTreeSet<FeedKey>>,
    /// The acts of the rooms.
    logs: Mutex<BTreeMap<RoomId, RoomLog>>,
    /// How fast messages are written into rooms.
    pub(crate) rates: Mutex<BTreeMap<RoomId, Rate>>,
    /// A turn for each piece of work on its own thread, of [`WORK_AT_ONCE_MAX`]: an agent that stops waits for
    /// all of them, though the tasks that began them are gone.
    pub(crate) at_work: Arc<Semaphore>,
    /// Held while rooms are shared with the agent's other devices; taken before every other lock.
    pub(crate) sharing: Mutex<()>,
    /// Held while a value of the agent or a pin is written, from looking at what it replaces on; taken
    /// before every other lock but `sharing`.
    pub(crate) settling: Mutex<()>,
    /// The settings or the devices of this agent changed since pins were shared.
    pub(crate) unshared: AtomicBool,
    /// Answers to joins that are being looked into.
    pub(crate) checks: Mutex<Checks>,
    /// Own heads that peers were shown and `state.db` does not say so yet.
    shown: Mutex<BTreeMap<FeedKey, u64>>,
    changes: watch::Sender<u64>,
    /// What became of anybody's devices.
    device_changes: broadcast::Sender<DeviceChange>,
    /// After the index and before the lock: they are closed first, and nobody else is in the home yet.
    _locked: Option<LeavesNoIndex>,
    _lock: HomeLock,
}

impl Core {
    /// Opens a home that is not locked.
    #[cfg(test)]
    pub(crate) fn open(
        home: &Path,
        folder: &Path,
        switches: Switches,
    ) -> Result<(Core, HostEvents), Error> {
        Core::open_with(home, folder, None, switches)
    }

    /// Opens a home, brings the index up to date and plans; returns what sessions will bring, too.
    pub(crate) fn open_with(
        home: &Path,
        folder: &Path,
        passphrase: Option<&Passphrase>,
        switches: Switches,
    ) -> Result<(Core, HostEvents), Error> {
        let OpenHome {
            layout,
            lock,
            keys,
            agent,
            name,
            state,
            store,
            guard,
            is_locked,
        } = open_home(home, folder, passphrase)?;
        let knowledge = learn::from_state(&state, &keys, agent)?;
        let own = knowledge.agents.get(&agent).ok_or_else(|| {
            Error::general("state.db holds no identity set of the agent whose home it is")
        })?;
        let (host, received) = AgentHost::new(
            keys.signing().clone(),
            own.identity.hash,
            HOST_EVENTS_QUEUED_MAX,
        );
        let locked = is_locked.then(|| LeavesNoIndex(layout.clone()));
        let (index, needs_rebuild) = index_file::open_index(&layout)?;
        let core = Core {
            keys,
            agent,
            name,
            state,
            store,
            guard,
            host,
            switches,
            readers: Readers::of(layout.index()),
            layout,
            index: Mutex::new(index),
            index_damaged: AtomicBool::new(false),
            indexed: Mutex::default(),
            knowledge: Mutex::new(knowledge),
            learning: Mutex::default(),
            plan: Mutex::default(),
            planning: Mutex::default(),
            network: Mutex::default(),
            clock: Mutex::default(),
            writing: Mutex::default(),
            unvouched: Mutex::default(),
            logs: Mutex::default(),
            rates: Mutex::default(),
            at_work: Arc::new(Semaphore::new(WORK_AT_ONCE_MAX as usize)),
            sharing: Mutex::default(),
            settling: Mutex::default(),
            unshared: AtomicBool::new(true),
            checks: Mutex::default(),
            shown: Mutex::default(),
            changes: watch::Sender::new(0),
            device_changes: broadcast::Sender::new(DEVICE_CHANGES_KEPT_MAX),
            _locked: locked,
            _lock: lock,
        };
        core.restore_stance()?;
        core.heed_revocation();
        core.restore_own_feeds()?;
        core.set_tree_hashes();
        core.tell_what_is_gone()?;
        if needs_rebuild {
            core.rebuild_index()?;
        }
        if let Err(error) = core.catch_up()
            && !core.renew_damaged_index()?
        {
            return Err(error);
        }
        core.heed_all_cuts()?;
        core.heed_cleared(true)?;
        core.look_at_deletions()?;
        core.restore_clock();
        core.restore_unvouched()?;
        if core.guard.doubt().is_none() {
            core.begin_private_directory()?;
            core.continue_paths()?;
            core.restore_lines()?;
        }
        core.replan()?;
        if let Err(error) = core.empty_deleted() {
            tracing::warn!(%error, "deleted blocks are not emptied yet");
        }
        if let Err(error) = core.empty_cleared() {
            tracing::warn!(%error, "cleared blocks are not emptied yet");
        }
        core.share_settings()?;
        Ok((core, received))
    }

    /// Returns a feed of the store.
    pub(crate) fn feed(&self, key: &FeedKey) -> Result<Feed, Error> {
        self.store
            .feed(key)
            .ok_or_else(|| Error::not_found(format!("feed {key} is not in this home")))
    }

    /// Looks at what is known.
    pub(crate) fn knowledge<T>(&self, look: impl FnOnce(&mut Knowledge) -> T) -> T {
        look(&mut lock(&self.knowledge))
    }

    /// Returns who is there and who types.
    pub(crate) fn presences(&self) -> &Presences {
        &self.host.presences
    }

    /// Returns the plan as it is now.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        lock(&self.plan).clone()
    }

    /// Returns the network, when it is on.
    pub(crate) fn network(&self) -> Option<Arc<Network>> {
        lock(&self.network).clone()
    }

    /// Puts the network in place (or takes it away) and tells it the plan.
    pub(crate) fn set_network(&self, network: Option<Arc<Network>>) -> Result<(), Error> {
        *lock(&self.network) = network;
        self.replan()
    }

    /// Tells network, index and watchers that the store holds more or less of a feed than before, by
    /// other ways than replication.
    pub(crate) fn stored(&self, key: &FeedKey) -> Result<(), Error> {
        if let Some(network) = self.network() {
            network.stored(key);
        }
        self.catch_up_feed(key)?;
        self.replan()
    }

    /// Returns a receiver that sees every change of feeds, index and plan from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells everyone who waits that something changed.
    pub(crate) fn changed(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Locks; a panic of another holder left every value here whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
