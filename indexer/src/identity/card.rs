//! What a device and its directories say of themselves, so that nobody's key or feed is made another's.

use kinlog_feeds::crypto::{
    AgentId, DeviceKey, FeedKey, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError, namespace,
    verify,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_feeds::manifest::Manifest;

use crate::entry::{ClaimScope, FeedClaim, FeedClaimError};

const NO_FEED: FeedKey = FeedKey([0; 32]);

/// A card that does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The device did not sign it for this agent.
    #[error("the device's acceptance")]
    Acceptance(#[source] SignatureError),
    /// A directory that does not say it is this device's.
    #[error("the feed claim of the {which} directory")]
    Claim {
        which: &'static str,
        source: Box<FeedClaimError>,
    },
    /// One directory alone, or one feed as both: a device has two or none.
    #[error("a device has a public and a private directory, two feeds, or none")]
    Directories,
}

/// A device's public keys and directories, accepted by the device itself for one agent.
///
/// Layout: `device 32 | X25519 32 | public directory 32 | private directory 32 | acceptance 64 | claim of
/// each directory that is not zeros: public key 32 | signature 64`. The acceptance is the device's
/// signature over `NS("device-accept") || agent || device || X25519 || both directories`; each claim is a
/// [`FeedClaim`] of the scope of the agent.
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
    /// Claims of both directories, `None` of one that is zeros.
    claims: [Option<FeedClaim>; 2],
}

impl DeviceCard {
    /// Makes the card of the own device whose key pair this is, for `agent`, with the pairs that sign its
    /// public and its private directory.
    pub fn sign(
        agent: &AgentId,
        device: &KeyPair,
        x25519: [u8; 32],
        directory: &KeyPair,
        private_directory: &KeyPair,
    ) -> Self {
        let mut card = DeviceCard::without_directories(agent, device, x25519);
        let key = |feed: &KeyPair| Manifest::single(feed.public_key()).key();
        card.directory = key(directory);
        card.private_directory = key(private_directory);
        card.acceptance = device.sign(&card.signed_bytes(agent));
        let scope = ClaimScope::Agent(*agent);
        card.claims = [directory, private_directory]
            .map(|feed| Some(FeedClaim::sign(feed, &scope, agent, &card.device)));
        card
    }

    /// Makes the card of a key that only adds devices: it has no directories.
    pub fn without_directories(agent: &AgentId, device: &KeyPair, x25519: [u8; 32]) -> Self {
        let mut card = DeviceCard {
            device: DeviceKey(device.public_key().0),
            x25519,
            directory: NO_FEED,
            private_directory: NO_FEED,
            acceptance: [0; SIGNATURE_BYTES],
            claims: [None; 2],
        };
        card.acceptance = device.sign(&card.signed_bytes(agent));
        card
    }

    /// Verifies that the device accepts to be one of `agent`, and its directories to be the device's.
    ///
    /// # Errors
    /// `Acceptance`, `Claim`, `Directories`.
    pub fn verify(&self, agent: &AgentId) -> Result<(), CardError> {
        let device = PublicKey(self.device.0);
        verify(&device, &self.signed_bytes(agent), &self.acceptance)
            .map_err(CardError::Acceptance)?;
        if !self.has_directories() {
            let none = self.directory == NO_FEED && self.private_directory == NO_FEED;
            return none.then_some(()).ok_or(CardError::Directories);
        }
        let scope = ClaimScope::Agent(*agent);
        let feeds = [&self.directory, &self.private_directory];
        let named = ["public", "private"].into_iter().zip(feeds);
        for ((which, feed), claim) in named.zip(self.claims.iter().flatten()) {
            claim
                .verify(feed, &scope, agent, &self.device)
                .map_err(|source| CardError::Claim {
                    which,
                    source: Box::new(source),
                })?;
        }
        Ok(())
    }

    /// Returns whether it has both directories, each with its claim, as whoever writes must.
    pub fn has_directories(&self) -> bool {
        self.claims.iter().all(Option::is_some) && self.directory != self.private_directory
    }

    /// Encodes the card.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.keys();
        self.write_proof(&mut out);
        out
    }

    /// Decodes a card that fills `bytes`; verifies nothing.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::strict(bytes);
        let card = DeviceCard::read(&mut reader)?;
        reader.finish()?;
        Ok(card)
    }

    /// Reads a card from where `reader` stands; verifies nothing.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        DeviceCard::read_keys(reader)?.read_proof(reader)
    }

    /// Returns the keys, which stand before the proof that they are the device's.
    pub(super) fn keys(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
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
            claims: [None; 2],
        })
    }

    /// Appends the acceptance and the claims.
    pub(super) fn write_proof(&self, out: &mut Vec<u8>) {
        out.put_raw(&self.acceptance);
        for claim in self.claims.iter().flatten() {
            claim.write(out);
        }
    }

    /// Reads the acceptance and the claims of a card whose keys were read.
    pub(super) fn read_proof(mut self, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        self.acceptance = reader.fixed()?;
        let feeds = [self.directory, self.private_directory];
        for (claim, feed) in self.claims.iter_mut().zip(feeds) {
            if feed != NO_FEED {
                *claim = Some(FeedClaim::read(reader)?);
            }
        }
        Ok(self)
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

    const AGENT: AgentId = AgentId([2; 32]);

    fn pair(number: u8) -> KeyPair {
        KeyPair::from_seed(&[number; 32])
    }

    fn card() -> DeviceCard {
        DeviceCard::sign(&AGENT, &pair(1), [3; 32], &pair(4), &pair(5))
    }

    #[test]
    fn a_card_holds_for_its_agent_and_its_keys_only() {
        let bare = DeviceCard::without_directories(&AGENT, &pair(1), [3; 32]);
        for (card, length) in [(card(), 384), (bare, 192)] {
            assert_eq!(card.verify(&AGENT), Ok(()));
            assert!(card.verify(&AgentId([9; 32])).is_err());
            let bytes = card.encode();
            assert_eq!(bytes.len(), length);
            assert_eq!(DeviceCard::decode(&bytes).as_ref(), Ok(&card));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                // A directory of zeros has no claim, so that the length tells too.
                let holds = DeviceCard::decode(&other).is_ok_and(|one| one.verify(&AGENT).is_ok());
                assert!(!holds, "byte {at}");
            }
        }
    }

    #[test]
    fn a_card_that_names_the_directory_of_another_device_does_not_hold() {
        let mut stolen = DeviceCard::sign(&AGENT, &pair(6), [3; 32], &pair(7), &pair(8));
        for claim in [stolen.claims[0], card().claims[0]] {
            stolen.directory = card().directory;
            stolen.acceptance = pair(6).sign(&stolen.signed_bytes(&AGENT));
            stolen.claims[0] = claim;
            let refused = stolen.verify(&AGENT);
            let which = "public";
            assert!(
                matches!(refused, Err(CardError::Claim { which: at, .. }) if at == which),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_device_has_two_directories_or_none() {
        let same = DeviceCard::sign(&AGENT, &pair(1), [3; 32], &pair(4), &pair(4));
        assert_eq!(same.verify(&AGENT), Err(CardError::Directories));
        let mut one = card();
        one.private_directory = NO_FEED;
        one.claims[1] = None;
        one.acceptance = pair(1).sign(&one.signed_bytes(&AGENT));
        assert_eq!(DeviceCard::decode(&one.encode()).as_ref(), Ok(&one));
        assert_eq!(one.verify(&AGENT), Err(CardError::Directories));
    }
}
