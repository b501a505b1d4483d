//! Epochs that this agent's devices seal private paths in: who knows each.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::DeviceKey;
use kinlog_indexer::entry::OwnEpoch;
use kinlog_indexer::seal::{EpochId, EpochSecret};

/// An own epoch whose secret is held.
#[derive(Clone, Debug)]
pub(crate) struct KnownEpoch {
    pub(crate) secret: EpochSecret,
    pub(crate) parents: BTreeSet<EpochId>,
    /// Devices that wrote it down in their private directory: they hold it.
    pub(crate) announced_by: BTreeSet<DeviceKey>,
    /// Devices that somebody wrote a copy for.
    pub(crate) recipients: BTreeSet<DeviceKey>,
}

/// The own epochs that are held.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnEpochs(BTreeMap<EpochId, KnownEpoch>);

impl OwnEpochs {
    /// Takes a secret.
    pub(crate) fn add(&mut self, secret: EpochSecret) {
        let epoch = KnownEpoch {
            secret,
            parents: BTreeSet::new(),
            announced_by: BTreeSet::new(),
            recipients: BTreeSet::new(),
        };
        self.0.insert(epoch.secret.epoch_id(), epoch);
    }

    /// Takes what a device wrote down; of an epoch that is not held it says nothing.
    pub(crate) fn tell(&mut self, device: DeviceKey, told: &OwnEpoch) {
        if let Some(epoch) = self.0.get_mut(&told.id()) {
            epoch.parents.extend(told.parents());
            epoch.announced_by.insert(device);
            let copies = told.copies().iter();
            epoch.recipients.extend(copies.map(|copy| copy.device));
        }
    }

    /// Returns the epochs.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&EpochId, &KnownEpoch)> {
        self.0.iter()
    }

    /// Returns whether an epoch is held.
    pub(crate) fn holds(&self, id: &EpochId) -> bool {
        self.0.contains_key(id)
    }

    /// Returns the secret of an epoch.
    pub(crate) fn secret(&self, id: &EpochId) -> Option<&EpochSecret> {
        self.0.get(id).map(|epoch| &epoch.secret)
    }

    /// Returns the epoch to write in: one that is nobody's parent and that current devices alone know.
    /// Of several the one with the smallest id, the same on every device.
    pub(crate) fn usable(&self, devices: &BTreeMap<DeviceKey, [u8; 32]>) -> Option<&EpochSecret> {
        let heads = self.heads();
        let mut heads = heads.iter().filter_map(|id| self.0.get(id));
        let is_current = |device: &DeviceKey| devices.contains_key(device);
        let found = heads.find(|epoch| {
            !epoch.announced_by.is_empty()
                && epoch.announced_by.iter().all(is_current)
                && epoch.recipients.iter().all(is_current)
        });
        found.map(|epoch| &epoch.secret)
    }

    /// Returns the epochs that none held comes after.
    pub(crate) fn heads(&self) -> Vec<EpochId> {
        let parents: BTreeSet<&EpochId> =
            self.0.values().flat_map(|epoch| &epoch.parents).collect();
        let ids = self.0.keys().filter(|id| !parents.contains(id));
        ids.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use kinlog_indexer::entry::EpochCopy;

    use super::*;

    fn device(number: u8) -> DeviceKey {
        DeviceKey([number; 32])
    }

    fn devices(numbers: &[u8]) -> BTreeMap<DeviceKey, [u8; 32]> {
        let devices = numbers.iter();
        devices
            .map(|number| (device(*number), [*number; 32]))
            .collect()
    }

    fn tell(epochs: &mut OwnEpochs, by: u8, number: u8, parents: &[u8], to: &[u8]) {
        let secret = |number: &u8| EpochSecret::new([*number; 32]);
        let parents = parents.iter().map(|parent| secret(parent).epoch_id());
        let copies = to.iter().map(|to| EpochCopy {
            device: device(*to),
            sealed: [0; 81],
        });
        let told = OwnEpoch::new(
            secret(&number).epoch_id(),
            parents.collect(),
            copies.collect(),
        );
        epochs.tell(device(by), &told.unwrap());
    }

    #[test]
    fn an_epoch_that_a_revoked_device_knows_or_made_is_not_written_in() {
        let mut epochs = OwnEpochs::default();
        epochs.add(EpochSecret::new([1; 32]));
        assert_eq!(
            epochs.usable(&devices(&[1, 2])),
            None,
            "nobody wrote it down"
        );
        tell(&mut epochs, 1, 1, &[], &[1, 2]);
        assert!(epochs.usable(&devices(&[1, 2])).is_some());
        assert!(
            epochs.usable(&devices(&[1, 2, 3])).is_some(),
            "one more gets a copy"
        );
        assert_eq!(epochs.usable(&devices(&[1])), None, "2 knows it");
        // The one that was revoked makes another and says that it is not for itself.
        epochs.add(EpochSecret::new([2; 32]));
        tell(&mut epochs, 2, 2, &[1], &[1]);
        assert_eq!(epochs.usable(&devices(&[1])), None);
        epochs.add(EpochSecret::new([3; 32]));
        tell(&mut epochs, 1, 3, &[1, 2], &[1]);
        let expected = EpochSecret::new([3; 32]);
        assert_eq!(epochs.usable(&devices(&[1])), Some(&expected));
        assert_eq!(epochs.heads(), [expected.epoch_id()]);
    }
}
