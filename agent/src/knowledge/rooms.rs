//! What is known of a room this device is a member of.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::{DeviceKey, FeedKey};
use kinlog_indexer::RoomId;
use kinlog_indexer::seal::{EpochId, EpochSecret};

use crate::state::RoomFeed;

/// A room with its secrets and the feeds of its members.
#[derive(Clone, Debug)]
pub(crate) struct KnownRoom {
    pub(crate) id: RoomId,
    /// As the genesis says; empty until that entry is here.
    pub(crate) name: String,
    /// This device's entries feed in the room.
    pub(crate) entries: FeedKey,
    /// Epochs, by id; one until keys are changed.
    pub(crate) epochs: BTreeMap<EpochId, EpochSecret>,
    pub(crate) feeds: BTreeMap<FeedKey, RoomFeed>,
}

impl KnownRoom {
    /// Returns what people call the room: its name, or its code until that is known.
    pub(crate) fn label(&self) -> String {
        if self.name.is_empty() {
            self.id.code()
        } else {
            self.name.clone()
        }
    }

    /// Returns the epoch new entries are sealed in.
    pub(crate) fn epoch(&self) -> Option<&EpochSecret> {
        self.epochs.values().next()
    }

    /// Returns the devices whose sessions get the room's feeds.
    pub(crate) fn devices(&self) -> BTreeSet<DeviceKey> {
        self.feeds.values().map(|feed| feed.device).collect()
    }

    /// Returns the keys by which members meet.
    pub(crate) fn meet_keys(&self) -> impl Iterator<Item = [u8; 32]> {
        self.epochs.values().map(|epoch| *epoch.meet_key().expose())
    }
}
