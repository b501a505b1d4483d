//! Opening a home: every check before the first write.

use std::path::Path;
use std::sync::Arc;

use kinlog_feeds::crypto::AgentId;
use kinlog_feeds::store::{FileDisk, OpenError, Options, Store};

use crate::api::Error;
use crate::guard::{ForkGuard, Home, StateFolder};
use crate::home::{
    HomeLock, Layout, Protection, format, home_key, lock_home, protection, read_secret, renew,
};
use crate::keys::{DeviceKeys, random};
use crate::state::State;
use crate::vault::{KeyFolder, Passphrase};

/// A home that this process holds.
#[derive(Debug)]
pub(crate) struct OpenHome {
    pub(crate) layout: Layout,
    pub(crate) lock: HomeLock,
    pub(crate) keys: DeviceKeys,
    pub(crate) agent: AgentId,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) store: Store,
    pub(crate) guard: Arc<ForkGuard>,
    /// It is locked, and was opened for this process alone.
    pub(crate) is_locked: bool,
}

/// Opens a home for this process alone; `folder` has the twin of its install record. A locked one is
/// opened by its passphrase, and stays locked for others.
pub(crate) fn open_home(
    home: &Path,
    folder: &Path,
    passphrase: Option<&Passphrase>,
) -> Result<OpenHome, Error> {
    let layout = Layout::new(home);
    layout.check_initialised()?;
    format::check(&layout)?;
    layout.check_modes()?;
    let lock = lock_home(&layout)?;
    let is_locked = protection(home, folder)? == Protection::Locked;
    let key = home_key(&layout, &KeyFolder::new(folder), passphrase)?;
    let state = State::open_with(&layout.state(), &key)?;
    renew::finish(&layout, &state)?;
    let keys = DeviceKeys::new(read_secret(&layout.device_secret(), &key)?);
    let damaged = || {
        let message = format!(
            "{} does not say whose home this is",
            layout.state().display()
        );
        Error::verification(message).hint("it is damaged or was deleted: put a copy of it back")
    };
    let agent = state
        .value("agent")?
        .and_then(|bytes| bytes.try_into().ok());
    let agent = AgentId(agent.ok_or_else(damaged)?);
    let name = state.value("name")?.ok_or_else(damaged)?;
    let name = String::from_utf8_lossy(&name).into_owned();
    let guarded = Home::new(&layout, keys.device());
    let guard = Arc::new(ForkGuard::new(guarded, StateFolder::new(folder)));
    let store = open_store(&layout, Some(&guard))?;
    if store.open_report().tail_dropped.is_some() {
        tracing::warn!(
            "the newest commit was cut off when this home was last used; it was not acknowledged, and \
             peers are asked before anything newer is published"
        );
    }
    let former = state.former_feeds()?;
    guard.begin(&store, former.iter().map(|feed| feed.key).collect());
    Ok(OpenHome {
        layout,
        lock,
        keys,
        agent,
        name,
        state,
        store,
        guard,
        is_locked,
    })
}

/// Opens the feed store of a home, or makes it; `guard` is asked before each signature.
pub(crate) fn open_store(layout: &Layout, guard: Option<&Arc<ForkGuard>>) -> Result<Store, Error> {
    let folder = layout.store();
    let disk = FileDisk::new(&folder)
        .map_err(|error| Error::general(format!("{}: {error}", folder.display())))?;
    let mut options = Options::new(random()?);
    if let Some(guard) = guard {
        options = options.guarded(guard.clone());
    }
    Store::open(Arc::new(disk), options).map_err(|error| match error {
        OpenError::Locked { pid } => Error::permission(format!(
            "store {} is in use by process {pid}",
            folder.display()
        )),
        other => crate::failure::store_open(&folder, other),
    })
}
