//! The keys of this device, all derived from its one secret.

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::{
    AgentId, DeviceKey, KeyPair, Secret, derive, device_seed, feed_seed, namespace,
};
use kinlog_feeds::manifest::Manifest;
use kinlog_indexer::identity::DeviceCard;
use kinlog_indexer::seal::device_dh_public;

use crate::api::Error;

/// The id every device's public directory derives from.
pub(crate) const DIRECTORY_ID: [u8; 16] = [0; 16];

/// The id every device's private directory derives from.
pub(crate) const PRIVATE_DIRECTORY_ID: [u8; 16] = 1u128.to_le_bytes();

/// A device's secret and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct DeviceKeys {
    secret: Secret,
    signing: KeyPair,
    dh: Secret,
}

impl DeviceKeys {
    pub(crate) fn new(secret: Secret) -> Self {
        let signing = KeyPair::from_seed(device_seed(&secret).expose());
        let dh = derive(&secret, namespace::DEVICE_DH, &[]);
        DeviceKeys {
            secret,
            signing,
            dh,
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns the pair that signs for the device.
    pub(crate) fn signing(&self) -> &KeyPair {
        &self.signing
    }

    pub(crate) fn device(&self) -> DeviceKey {
        DeviceKey(self.signing.public_key().0)
    }

    /// Returns the X25519 secret.
    pub(crate) fn dh(&self) -> &Secret {
        &self.dh
    }

    /// Returns the device's public keys and directories, each with its own word that it is `agent`'s.
    pub(crate) fn card(&self, agent: &AgentId) -> DeviceCard {
        DeviceCard::sign(
            agent,
            &self.signing,
            device_dh_public(&self.dh),
            &self.feed(&DIRECTORY_ID),
            &self.feed(&PRIVATE_DIRECTORY_ID),
        )
    }

    /// Returns the pair that signs the feed with this id.
    pub(crate) fn feed(&self, id: &[u8; 16]) -> KeyPair {
        KeyPair::from_seed(feed_seed(&self.secret, id).expose())
    }

    /// Returns the manifest of the feed with this id.
    pub(crate) fn manifest(&self, id: &[u8; 16]) -> Manifest {
        Manifest::single(self.feed(id).public_key())
    }

    pub(crate) fn feed_key(&self, id: &[u8; 16]) -> FeedKey {
        self.manifest(id).key()
    }
}

/// Returns `N` fresh random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::general(format!("no random numbers: {error}")))?;
    Ok(bytes)
}
