//! What a device says of itself, so that nobody's key is made another's.

use kinlog_feeds::crypto::{
    AgentId, DeviceKey, FeedKey, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError, namespace,
    verify,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};

/// Bytes of an encoded card.
pub(super) const CARD_BYTES: usize = 4 * 32 + SIGNATURE_BYTES;

/// A device's public keys and directories, accepted by the device itself for one agent.
///
/// Layout: `device 32 | X25519 32 | public directory 32 | private directory 32 | acceptance 64`. The
/// acceptance is the device's signature over `NS("device-accept") || agent || device || X25519 ||
/// both directories`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceCard {
    /// The device's signing key.
    pub device: DeviceKey,
    /// The device's X25519 public key, to which secrets are sealed.
    pub x25519: [u8; 32],
    /// The device's public directory; zeros when it has none.
    pub directory: FeedKey,
    /// The device's private directory; zeros when it has none.
    pub private_directory: FeedKey,
    acceptance: [u8; SIGNATURE_BYTES],
}

impl DeviceCard {
    /// Makes the card of the own device whose key pair this is, for `agent`.
    pub fn sign(
        agent: &AgentId,
        device: &KeyPair,
        x25519: [u8; 32],
        directory: FeedKey,
        private_directory: FeedKey,
    ) -> Self {
        let mut card = DeviceCard {
            device: DeviceKey(device.public_key().0),
            x25519,
            directory,
            private_directory,
            acceptance: [0; SIGNATURE_BYTES],
        };
        card.acceptance = device.sign(&card.signed_bytes(agent));
        card
    }

    /// Makes the card of a key that only adds devices: it has no directories.
    pub fn without_directories(agent: &AgentId, device: &KeyPair, x25519: [u8; 32]) -> Self {
        let none = FeedKey([0; 32]);
        DeviceCard::sign(agent, device, x25519, none, none)
    }

    /// Verifies that the device accepts to be one of `agent`.
    pub fn verify(&self, agent: &AgentId) -> Result<(), SignatureError> {
        let device = PublicKey(self.device.0);
        verify(&device, &self.signed_bytes(agent), &self.acceptance)
    }

    /// Encodes the card.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.keys();
        out.put_raw(&self.acceptance);
        out
    }

    /// Decodes a card that fills `bytes`; verifies nothing.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let card = DeviceCard::read_keys(&mut reader)?.accepted(reader.fixed()?);
        reader.finish()?;
        Ok(card)
    }

    /// Returns the keys, which stand before the acceptance.
    pub(super) fn keys(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CARD_BYTES);
        out.put_raw(self.device.as_bytes());
        out.put_raw(&self.x25519);
        out.put_raw(self.directory.as_bytes());
        out.put_raw(self.private_directory.as_bytes());
        out
    }

    pub(super) fn read_keys(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(DeviceCard {
            device: DeviceKey(reader.fixed()?),
            x25519: reader.fixed()?,
            directory: FeedKey(reader.fixed()?),
            private_directory: FeedKey(reader.fixed()?),
            acceptance: [0; SIGNATURE_BYTES],
        })
    }

    pub(super) fn accepted(mut self, acceptance: [u8; SIGNATURE_BYTES]) -> Self {
        self.acceptance = acceptance;
        self
    }

    pub(super) fn acceptance(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.acceptance
    }

    /// Returns whether two cards are of one device with the same keys and directories.
    pub(super) fn same_keys(&self, other: &DeviceCard) -> bool {
        self.keys() == other.keys()
    }

    fn signed_bytes(&self, agent: &AgentId) -> Vec<u8> {
        let mut out = namespace::DEVICE_ACCEPT.hash().to_vec();
        out.put_raw(agent.as_bytes());
        out.put_raw(&self.keys());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_holds_for_its_agent_and_its_keys_only() {
        let device = KeyPair::from_seed(&[1; 32]);
        let agent = AgentId([2; 32]);
        let card = DeviceCard::sign(&agent, &device, [3; 32], FeedKey([4; 32]), FeedKey([5; 32]));
        assert_eq!(card.verify(&agent), Ok(()));
        assert!(card.verify(&AgentId([9; 32])).is_err());
        let bytes = card.encode();
        assert_eq!(DeviceCard::decode(&bytes).as_ref(), Ok(&card));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            let other = DeviceCard::decode(&other).unwrap();
            assert!(other.verify(&agent).is_err(), "byte {at}");
        }
    }
}
