//! What is known of a room this device is a member of.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use kinlog_indexer::RoomId;
use kinlog_indexer::seal::{ContentKey, EpochId, EpochSecret};

use crate::knowledge::{Gone, Standing};
use crate::limits::MEET_EPOCHS_MAX;
use crate::rooms::{RoomFeed, stored_keys};
use crate::state::{KeySort, StoredEpoch};

/// A room with its secrets and the feeds of its members.
#[derive(Clone, Debug)]
pub(crate) struct KnownRoom {
    pub(crate) id: RoomId,
    /// As the genesis says; empty until that entry is here.
    pub(crate) name: String,
    /// This device's entries feed in the room.
    pub(crate) entries: FeedKey,
    /// The only other agent that is meant to be in it.
    pub(crate) direct: Option<AgentId>,
    pub(crate) keys: Keyring,
    pub(crate) feeds: BTreeMap<FeedKey, RoomFeed>,
    /// What the acts that count say.
    pub(crate) standing: Standing,
    /// A member says that this agent was removed, though no act that is held says so.
    pub(crate) told_removed: Option<Gone>,
    /// Epochs whose secrets are destroyed.
    pub(crate) too_old: BTreeSet<EpochId>,
}

/// The keys held of a room's epochs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyring {
    secrets: BTreeMap<EpochId, EpochSecret>,
    /// By act id; also those that follow from the secrets.
    act_keys: BTreeMap<EpochId, ContentKey>,
}

impl Keyring {
    /// Takes a key as it is stored.
    pub(crate) fn add(&mut self, stored: &StoredEpoch) {
        let bytes = *stored.secret.expose();
        match stored.sort {
            KeySort::Secret => self.add_secret(EpochSecret::new(bytes)),
            KeySort::ActKey => self.add_act_key(ContentKey::new(bytes)),
        };
    }

    /// Takes a secret; returns whether it is new.
    pub(crate) fn add_secret(&mut self, secret: EpochSecret) -> bool {
        self.add_act_key(secret.act_key());
        self.secrets.insert(secret.epoch_id(), secret).is_none()
    }

    /// Takes an act key; returns whether it is new.
    pub(crate) fn add_act_key(&mut self, key: ContentKey) -> bool {
        self.act_keys.insert(key.epoch_id(), key).is_none()
    }

    /// Gives up a secret; its act key stays.
    pub(crate) fn forget_secret(&mut self, epoch: &EpochId) {
        self.secrets.remove(epoch);
    }

    pub(crate) fn secret(&self, epoch: &EpochId) -> Option<&EpochSecret> {
        self.secrets.get(epoch)
    }

    pub(crate) fn act_key(&self, act_id: &EpochId) -> Option<&ContentKey> {
        self.act_keys.get(act_id)
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&EpochId, &EpochSecret)> {
        self.secrets.iter()
    }

    pub(crate) fn act_keys(&self) -> impl Iterator<Item = (&EpochId, &ContentKey)> {
        self.act_keys.iter()
    }

    /// Returns every key that opens blocks.
    pub(crate) fn opening(&self) -> impl Iterator<Item = ContentKey> {
        let contents = self.secrets.values().map(EpochSecret::content_key);
        contents.chain(self.act_keys.values().cloned())
    }
}

impl KnownRoom {
    /// Returns a room of which nothing but its name and this device's feeds is known.
    pub(crate) fn new(id: RoomId, name: impl Into<String>, entries: FeedKey) -> Self {
        KnownRoom {
            id,
            name: name.into(),
            entries,
            direct: None,
            keys: Keyring::default(),
            feeds: BTreeMap::new(),
            standing: Standing::default(),
            told_removed: None,
            too_old: BTreeSet::new(),
        }
    }

    /// Returns whether epochs count whose secrets are not held: entries may hand them on.
    pub(crate) fn lacks_secrets(&self) -> bool {
        let mut epochs = self.standing.epochs.keys();
        epochs.any(|id| self.keys.secret(id).is_none() && !self.is_destroyed(id))
    }

    /// Returns those of given keys that are not held yet and are of epochs which count, as they were
    /// announced.
    pub(crate) fn new_keys(
        &self,
        secrets: &[EpochSecret],
        act_keys: &[ContentKey],
    ) -> Vec<StoredEpoch> {
        let (secrets, act_keys) = self.unheld(secrets, act_keys);
        self.standing.announced_keys(&self.id, secrets, act_keys)
    }

    /// Returns those of given keys that are not held yet, whether or not an act announces them.
    pub(crate) fn unheld_keys(
        &self,
        secrets: &[EpochSecret],
        act_keys: &[ContentKey],
    ) -> Vec<StoredEpoch> {
        let (secrets, act_keys) = self.unheld(secrets, act_keys);
        stored_keys(&self.id, secrets, act_keys)
    }

    fn unheld<'a>(
        &self,
        secrets: &'a [EpochSecret],
        act_keys: &'a [ContentKey],
    ) -> (Vec<&'a EpochSecret>, Vec<&'a ContentKey>) {
        let is_wanted = |secret: &&EpochSecret| {
            let id = secret.epoch_id();
            self.keys.secret(&id).is_none() && !self.is_destroyed(&id)
        };
        let is_unheld = |key: &&ContentKey| self.keys.act_key(&key.epoch_id()).is_none();
        (
            secrets.iter().filter(is_wanted).collect(),
            act_keys.iter().filter(is_unheld).collect(),
        )
    }

    /// Returns whether an epoch's secret is to be gone: it is too old for the room's history policy.
    pub(crate) fn is_destroyed(&self, epoch: &EpochId) -> bool {
        self.too_old.contains(epoch)
    }

    /// Returns what people call the room: its name, or its code until that is known.
    pub(crate) fn label(&self) -> String {
        if self.name.is_empty() {
            self.id.code()
        } else {
            self.name.clone()
        }
    }

    /// Returns the devices whose sessions get the room's feeds.
    pub(crate) fn devices(&self) -> BTreeSet<DeviceKey> {
        self.standing
            .devices()
            .map(|(_, device, _)| *device)
            .collect()
    }

    /// Returns the keys by which members meet: those of the newest epochs, at most
    /// [`MEET_EPOCHS_MAX`].
    pub(crate) fn meet_keys(&self) -> Vec<[u8; 32]> {
        let is_held = |id: &EpochId| self.keys.secret(id).is_some();
        let newest = self.standing.newest_epochs(MEET_EPOCHS_MAX, is_held);
        let known = newest.iter().filter_map(|id| self.keys.secret(id));
        // Of an epoch that no act announces yet nothing is known but its secret.
        let others = self.keys.secrets().filter(|(id, _)| !newest.contains(id));
        let others = others.map(|(_, secret)| secret);
        known
            .chain(others)
            .take(MEET_EPOCHS_MAX)
            .map(|secret| *secret.meet_key().expose())
            .collect()
    }
}
