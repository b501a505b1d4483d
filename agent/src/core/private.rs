//! The private directory: what this agent's devices tell each other and nobody else, and the epochs it
//! is sealed in.
//!
//! An own epoch has the agent's devices as its recipients. A device that has none of its own makes one
//! when its home is opened; it gives a copy of each to every sibling that lacks one. One that a device
//! knows which is the agent's no more is not written in.

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::DeviceKey;
use kinlog_feeds::store::Appended;
use kinlog_indexer::RoomId;
use kinlog_indexer::entry::{Body, EpochCopy, OPEN_BLOCK, OwnEpoch};
use kinlog_indexer::seal::{
    ContentKey, EpochId, EpochSecret, SealedBlock, open_entry, open_sealed_secret, seal_entry,
    seal_to_device,
};

use crate::api::Error;
use crate::core::entries::Place;
use crate::core::{Core, lock};
use crate::failure::chain;
use crate::keys::{PRIVATE_DIRECTORY_ID, random};
use crate::knowledge::OwnEpochs;
use crate::state::OwnFeed;

impl Core {
    /// Returns the room that this agent's devices are.
    pub(crate) fn own_room(&self) -> RoomId {
        RoomId::own(&self.agent)
    }

    /// Makes the private directory of a device that has none yet.
    pub(super) fn begin_private_directory(&self) -> Result<(), Error> {
        let key = self.keys.feed_key(&PRIVATE_DIRECTORY_ID);
        if !self.knowledge(|knowledge| knowledge.own.contains_key(&key)) {
            let feed = OwnFeed {
                is_private: true,
                ..OwnFeed::entries(key, PRIVATE_DIRECTORY_ID)
            };
            self.make_feed(feed)?;
        }
        self.catch_up_feed(&key)?;
        self.tend_own_epochs()
    }

    /// Makes a new own epoch when none is left that only current devices know, and gives every device
    /// the epochs it lacks. To be called whenever a device was added or revoked.
    pub(crate) fn tend_own_epochs(&self) -> Result<(), Error> {
        if self.guard.doubt().is_some() {
            return Ok(());
        }
        let devices = self.knowledge(|knowledge| knowledge.own_devices());
        // A device that was revoked tells its former siblings nothing.
        if !devices.contains_key(&self.keys.device()) {
            return Ok(());
        }
        self.own_epoch()?;
        let epochs = self.knowledge(|knowledge| knowledge.own_epochs.clone());
        let mut bodies = Vec::new();
        for (id, epoch) in epochs.known() {
            let lacking = devices.iter();
            let lacking = lacking.filter(|(device, _)| !epoch.recipients.contains(*device));
            let copies = lacking
                .filter_map(|(device, x25519)| self.epoch_copy(&epoch.secret, device, x25519))
                .collect::<Result<Vec<_>, Error>>()?;
            if !copies.is_empty() {
                let parents = epoch.parents.iter().copied().collect();
                bodies.push(own_epoch(*id, parents, copies)?);
            }
        }
        if !bodies.is_empty() {
            let directory = self.private_directory()?;
            self.write_entries(&directory, Place::PrivateOpen, bodies)?;
        }
        Ok(())
    }

    /// Returns the epoch to seal private entries in; makes it, if need be.
    pub(crate) fn own_epoch(&self) -> Result<EpochSecret, Error> {
        let devices = self.knowledge(|knowledge| knowledge.own_devices());
        let usable = self.knowledge(|knowledge| knowledge.own_epochs.usable(&devices).cloned());
        if let Some(secret) = usable {
            return Ok(secret);
        }
        let secret = EpochSecret::new(random()?);
        let copies = devices
            .iter()
            .filter_map(|(device, x25519)| self.epoch_copy(&secret, device, x25519))
            .collect::<Result<Vec<_>, Error>>()?;
        let parents = self.knowledge(|knowledge| knowledge.own_epochs.heads());
        let body = own_epoch(secret.epoch_id(), parents, copies)?;
        // Kept before anything says that it exists.
        self.state.add_own_epoch(&secret)?;
        self.write_entries(&self.private_directory()?, Place::PrivateOpen, vec![body])?;
        self.learn_own_epochs()?;
        Ok(secret)
    }

    /// Writes to the private directory; durable and indexed on return.
    pub(crate) fn write_private(&self, bodies: Vec<Body>) -> Result<Appended, Error> {
        let epoch = self.own_epoch()?;
        self.write_entries(&self.private_directory()?, Place::Private(&epoch), bodies)
    }

    /// Takes in what the private directories say of own epochs: copies for this device are opened.
    pub(super) fn learn_own_epochs(&self) -> Result<(), Error> {
        let told = self.index(|index| index.own_epochs(&self.agent))?;
        let mut secrets = self.state.own_epochs()?;
        let mut epochs = OwnEpochs::default();
        for (_, epoch) in &told {
            if secrets.iter().any(|known| known.epoch_id() == epoch.id()) {
                continue;
            }
            if let Some(secret) = self.open_copy(epoch) {
                self.state.add_own_epoch(&secret)?;
                secrets.push(secret);
            }
        }
        for secret in secrets {
            epochs.add(secret);
        }
        for (device, epoch) in &told {
            epochs.tell(*device, epoch);
        }
        let fresh = self.knowledge(|knowledge| {
            let known = std::mem::replace(&mut knowledge.own_epochs, epochs);
            let now = knowledge.own_epochs.known();
            let fresh = now.filter(|(id, _)| !known.holds(id));
            fresh
                .map(|(_, epoch)| epoch.secret.content_key())
                .collect::<Vec<_>>()
        });
        for key in fresh {
            self.put_own_key(key)?;
        }
        Ok(())
    }

    /// Opens a block of a private path, as its writer gave it.
    pub(crate) fn open_private(
        &self,
        feed: &FeedKey,
        index: u64,
        block: &Bytes,
    ) -> Result<Bytes, Error> {
        // What is open is the announcement of an epoch.
        if block.first() == Some(&OPEN_BLOCK) {
            return Ok(block.clone());
        }
        let refused = |error: &dyn std::error::Error| {
            Error::verification(format!("block {index} of feed {feed}: {}", chain(error)))
        };
        let SealedBlock { epoch } = SealedBlock::head(block).map_err(|error| refused(&error))?;
        let secret = self.knowledge(|knowledge| knowledge.own_epochs.secret(&epoch).cloned());
        let Some(secret) = secret else {
            return Err(Error::permission(format!(
                "block {index} of feed {feed} is sealed in epoch {epoch}, which no device gave this one yet"
            ))
            .hint("it comes when another device of this agent is online: `kinlog up`"));
        };
        open_entry(&secret.content_key(), feed, index, block).map_err(|error| refused(&error))
    }

    /// Returns whether a feed is private: sealed for this agent's devices.
    pub(crate) fn is_private(&self, key: &FeedKey) -> bool {
        self.knowledge(|knowledge| knowledge.is_private(key))
    }

    pub(super) fn private_directory(&self) -> Result<OwnFeed, Error> {
        let key = self.keys.feed_key(&PRIVATE_DIRECTORY_ID);
        self.knowledge(|knowledge| knowledge.own.get(&key).cloned())
            .ok_or_else(|| Error::general("state.db does not know the private directory"))
    }

    /// Appends raw blocks to a private feed, each sealed for its place.
    pub(super) fn append_private(
        &self,
        own: &OwnFeed,
        blocks: &[Bytes],
    ) -> Result<Appended, Error> {
        let key = self.own_epoch()?.content_key();
        let feed = self.feed(&own.key)?;
        // Nobody else appends between looking at the length and sealing for it.
        let _turn = lock(&self.writing);
        let first = feed.head().length;
        let sealed = (first..)
            .zip(blocks)
            .map(|(index, block)| {
                seal_entry(&key, &own.key, index, &random()?, block).map_err(|error| {
                    Error::usage(format!("block {index} of a private path: {error}")).hint(
                        "`kinlog feed import --block-size 65536` cuts a file into blocks that fit",
                    )
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(feed.append_batch(&self.keys.feed(&own.id), &sealed)?)
    }

    fn put_own_key(&self, key: ContentKey) -> Result<(), Error> {
        let room = self.own_room();
        let report = self.index(|index| index.put_epoch_key(room, key))?;
        self.take_in(&report)
    }

    fn open_copy(&self, epoch: &OwnEpoch) -> Option<EpochSecret> {
        let this = self.keys.device();
        let mut copies = epoch.copies().iter().filter(|copy| copy.device == this);
        copies.find_map(|copy| {
            let secret = open_sealed_secret(self.keys.dh(), &self.own_room(), &copy.sealed);
            secret.ok().filter(|secret| secret.epoch_id() == epoch.id())
        })
    }

    /// Seals an epoch to a device; `None` for a device whose key takes nothing.
    fn epoch_copy(
        &self,
        secret: &EpochSecret,
        device: &DeviceKey,
        x25519: &[u8; 32],
    ) -> Option<Result<EpochCopy, Error>> {
        let ephemeral = match random() {
            Ok(ephemeral) => ephemeral,
            Err(error) => return Some(Err(error)),
        };
        let device = *device;
        match seal_to_device(ephemeral, x25519, &self.own_room(), secret) {
            Ok(sealed) => Some(Ok(EpochCopy { device, sealed })),
            Err(error) => {
                tracing::warn!(%device, %error, "device gets no copy of an epoch");
                None
            }
        }
    }
}

fn own_epoch(id: EpochId, parents: Vec<EpochId>, copies: Vec<EpochCopy>) -> Result<Body, Error> {
    OwnEpoch::new(id, parents, copies)
        .map(Body::OwnEpoch)
        .map_err(|error| Error::general(format!("own epoch: {error}")))
}
