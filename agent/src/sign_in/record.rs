//! The record in which a sealed capsule travels, and what is asked of one before it is held.

use kinlog_feeds::crypto::{
    AgentId, DeviceKey, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError, namespace, verify,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_indexer::identity::{Identity, Powers};

use crate::sign_in::Capsule;

const VERSION: u8 = 1;

/// A sealed capsule with what its holders have to know, signed by a device of the agent.
///
/// Layout: `u8 version=1 | agent 32 | u64 counter | meet key 32 | capsule key 32 | signer 32 | sealed capsule 359
/// | signature 64`; the signature by the signer over `NS("sign-in-record")` and everything before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignInRecord {
    /// The agent that it adds devices to.
    pub agent: AgentId,
    /// The record with the greatest counter replaces all others of its agent.
    pub counter: u64,
    /// Key of the topic in which those meet who know the code.
    pub meet_key: [u8; 32],
    /// The key in the capsule.
    pub key: DeviceKey,
    /// The device that signed the record.
    pub signer: DeviceKey,
    /// The capsule.
    pub sealed: [u8; Capsule::SEALED_BYTES],
    signature: [u8; SIGNATURE_BYTES],
}

/// Why a record is not held.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignInRecordError {
    /// Bytes that are none.
    #[error("sign-in record: {0}")]
    Decode(#[from] DecodeError),
    /// Of a later build.
    #[error("sign-in record of version {actual}, this build reads {VERSION}")]
    Version { actual: u8 },
    /// About somebody else.
    #[error("sign-in record of {actual}, expected one of {expected}")]
    OtherAgent { expected: AgentId, actual: AgentId },
    /// For another code.
    #[error("sign-in record for another code than it was asked for by")]
    OtherCode,
    /// Not signed by whom it names.
    #[error("sign-in record: {0}")]
    Signature(#[from] SignatureError),
    /// Signed by a stranger, by a device that was revoked, or by one that may not add devices.
    #[error(
        "{signer} signed the sign-in record and may not: it is no device of the agent that adds devices"
    )]
    Signer { signer: DeviceKey },
    /// The key in it was revoked, was never added, or is more than a key that adds devices.
    #[error("the sign-in record's key {key} is none that adds devices to its agent")]
    Key { key: DeviceKey },
    /// An old one.
    #[error("sign-in record number {actual}, a newer one is held: number {held}")]
    Older { held: u64, actual: u64 },
}

impl SignInRecord {
    /// Bytes of every record.
    pub const BYTES: usize = 1 + 32 + 8 + 3 * 32 + Capsule::SEALED_BYTES + SIGNATURE_BYTES;

    /// Makes a record signed by the device whose key pair this is.
    pub fn sign(
        agent: AgentId,
        counter: u64,
        meet_key: [u8; 32],
        key: DeviceKey,
        sealed: [u8; Capsule::SEALED_BYTES],
        device: &KeyPair,
    ) -> Self {
        let mut record = SignInRecord {
            agent,
            counter,
            meet_key,
            key,
            signer: DeviceKey(device.public_key().0),
            sealed,
            signature: [0; SIGNATURE_BYTES],
        };
        record.signature = device.sign(&record.signed_bytes());
        record
    }

    /// Decodes a record that fills `bytes`; verifies nothing.
    ///
    /// # Errors
    /// `Decode`, `Version`.
    pub fn decode(bytes: &[u8]) -> Result<Self, SignInRecordError> {
        let mut reader = Reader::strict(bytes);
        match reader.u8()? {
            VERSION => {}
            actual => return Err(SignInRecordError::Version { actual }),
        }
        let record = SignInRecord {
            agent: AgentId(reader.fixed()?),
            counter: reader.u64()?,
            meet_key: reader.fixed()?,
            key: DeviceKey(reader.fixed()?),
            signer: DeviceKey(reader.fixed()?),
            sealed: reader.fixed()?,
            signature: reader.fixed()?,
        };
        reader.finish()?;
        Ok(record)
    }

    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SignInRecord::BYTES);
        self.write_unsigned(&mut out);
        out.put_raw(&self.signature);
        out
    }

    /// Checks that a device of the agent made it, for a key that adds devices to it now.
    ///
    /// # Errors
    /// `OtherAgent`, `Signature`, `Signer`, `Key`.
    pub fn verify(&self, identity: &Identity) -> Result<(), SignInRecordError> {
        self.stands(identity)?;
        let signer = PublicKey(self.signer.0);
        verify(&signer, &self.signed_bytes(), &self.signature)?;
        Ok(())
    }

    /// As [`verify`](Self::verify), of a record whose signature was looked at before.
    ///
    /// # Errors
    /// `OtherAgent`, `Signer`, `Key`.
    pub fn stands(&self, identity: &Identity) -> Result<(), SignInRecordError> {
        if self.agent != identity.agent {
            return Err(SignInRecordError::OtherAgent {
                expected: identity.agent,
                actual: self.agent,
            });
        }
        let device = identity.device(&self.signer);
        if !device.is_some_and(|device| device.writes() && device.powers.contains(Powers::ADD)) {
            let signer = self.signer;
            return Err(SignInRecordError::Signer { signer });
        }
        let added = identity.device(&self.key);
        if !added.is_some_and(|device| device.powers == Powers::ADD && !device.writes()) {
            let key = self.key;
            return Err(SignInRecordError::Key { key });
        }
        Ok(())
    }

    /// Checks that it may take the place of the one that is held: equal numbers, made by two devices at
    /// once, are decided by the signature, the same way everywhere.
    ///
    /// # Errors
    /// `Older`.
    pub fn replaces(&self, held: &SignInRecord) -> Result<(), SignInRecordError> {
        let order = |record: &SignInRecord| (record.counter, record.signature);
        if order(self) > order(held) {
            return Ok(());
        }
        Err(SignInRecordError::Older {
            held: held.counter,
            actual: self.counter,
        })
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + SignInRecord::BYTES);
        out.put_raw(&namespace::SIGN_IN_RECORD.hash());
        self.write_unsigned(&mut out);
        out
    }

    fn write_unsigned(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.put_raw(self.agent.as_bytes());
        out.put_raw(&self.counter.to_le_bytes());
        out.put_raw(&self.meet_key);
        out.put_raw(self.key.as_bytes());
        out.put_raw(self.signer.as_bytes());
        out.put_raw(&self.sealed);
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{Secret, blake2b_256};
    use kinlog_feeds::text::encode_hex;
    use kinlog_indexer::identity::{
        DeviceAdded, DeviceCard, DeviceRevoked, IdentitySet, Said, Statement, VerifiedSet,
    };
    use proptest::prelude::*;

    use super::*;

    fn pair(number: u8) -> KeyPair {
        KeyPair::from_seed(&[number; 32])
    }

    fn agent() -> AgentId {
        AgentId(pair(1).public_key().0)
    }

    fn key_of(pair: &KeyPair) -> DeviceKey {
        DeviceKey(pair.public_key().0)
    }

    fn capsule() -> Capsule {
        Capsule::new(Secret::new([5; 32]), "Ada".try_into().unwrap())
    }

    fn record(counter: u64, signer: &KeyPair) -> SignInRecord {
        let sealed = [6; Capsule::SEALED_BYTES];
        SignInRecord::sign(
            agent(),
            counter,
            [7; 32],
            capsule().device(),
            sealed,
            signer,
        )
    }

    fn with(set: &VerifiedSet, signer: &KeyPair, said: Said) -> VerifiedSet {
        let names = set.names(&signer.public_key(), &[]);
        set.with(Statement::sign(agent(), signer, names, said))
            .unwrap()
    }

    fn added(card: DeviceCard, powers: Powers) -> Said {
        let name = "one".try_into().unwrap();
        Said::DeviceAdded(DeviceAdded { card, powers, name })
    }

    fn card(number: u8) -> DeviceCard {
        let [public, private] = [50, 100].map(|more| pair(number + more));
        DeviceCard::sign(&agent(), &pair(number), [0; 32], &public, &private)
    }

    fn revoked(device: DeviceKey) -> Said {
        let (public, private) = (None, None);
        Said::DeviceRevoked(DeviceRevoked {
            device,
            public,
            private,
        })
    }

    /// The agent with device 2, which has all powers, device 3, which only writes, and the capsule's key.
    fn set() -> VerifiedSet {
        let begun = IdentitySet::begin(&pair(1), card(2), Powers::ALL, "one".try_into().unwrap());
        let begun = begun.check(&agent()).unwrap();
        let two = with(&begun, &pair(2), added(card(3), Powers::WRITE));
        with(&two, &pair(2), added(capsule().card(&agent()), Powers::ADD))
    }

    #[test]
    fn a_record_of_a_device_of_the_agent_holds() {
        let identity = set().identity().unwrap();
        assert_eq!(record(1, &pair(2)).verify(&identity), Ok(()));
    }

    #[test]
    fn a_record_of_a_stranger_for_our_agent_is_refused() {
        let identity = set().identity().unwrap();
        let capsule = capsule();
        for signer in [&pair(9), &pair(3), capsule.key_pair()] {
            let refused = record(1, signer).verify(&identity);
            let signer = key_of(signer);
            assert_eq!(refused, Err(SignInRecordError::Signer { signer }));
        }
        let mut stolen = record(1, &pair(9));
        stolen.signer = key_of(&pair(2));
        let refused = stolen.verify(&identity);
        assert!(
            matches!(refused, Err(SignInRecordError::Signature(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn a_record_is_of_one_agent() {
        let root = pair(8);
        let other = AgentId(root.public_key().0);
        let card = DeviceCard::sign(&other, &pair(2), [0; 32], &pair(7), &pair(8));
        let set = IdentitySet::begin(&root, card, Powers::ALL, "one".try_into().unwrap());
        let refused = record(1, &pair(2)).verify(&set.verify(&other).unwrap());
        assert!(
            matches!(refused, Err(SignInRecordError::OtherAgent { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_record_whose_key_or_signer_was_revoked_is_refused() {
        let key = capsule().device();
        let without_key = with(&set(), &pair(2), revoked(key)).identity().unwrap();
        let refused = record(1, &pair(2)).verify(&without_key);
        assert_eq!(refused, Err(SignInRecordError::Key { key }));
        let signer = key_of(&pair(2));
        let without_signer = with(&set(), &pair(1), revoked(signer)).identity().unwrap();
        let refused = record(1, &pair(2)).verify(&without_signer);
        assert_eq!(refused, Err(SignInRecordError::Signer { signer }));
    }

    #[test]
    fn the_newest_record_replaces_the_others_and_never_the_other_way_round() {
        let (old, new) = (record(1, &pair(2)), record(2, &pair(2)));
        assert_eq!(new.replaces(&old), Ok(()));
        let older = SignInRecordError::Older { held: 2, actual: 1 };
        assert_eq!(old.replaces(&new), Err(older));
        assert!(new.replaces(&new).is_err());
        // Two devices at once: one of them, whoever looks.
        let other = record(2, &pair(3));
        assert_ne!(other.replaces(&new).is_ok(), new.replaces(&other).is_ok());
    }

    #[test]
    fn the_bytes_of_a_record_are_final() {
        let bytes = record(0x0102_0304_0506_0708, &pair(2)).encode();
        assert_eq!(bytes.len(), 560);
        assert_eq!(SignInRecord::BYTES, 560);
        assert_eq!(bytes[0], 1);
        assert_eq!(encode_hex(&bytes[33..41]), "0807060504030201");
        let hash = "3d96980118d75cb6b6d170d1463e3903112180fcfef1598f8b8bdbe3a7755e41";
        assert_eq!(encode_hex(&blake2b_256(&[&bytes])), hash);
    }

    #[test]
    fn every_changed_byte_of_a_record_is_noticed() {
        let identity = set().identity().unwrap();
        let bytes = record(1, &pair(2)).encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let outcome = SignInRecord::decode(&changed).and_then(|one| one.verify(&identity));
            assert!(outcome.is_err(), "byte {at}");
        }
        assert!(SignInRecord::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(SignInRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn records_round_trip(counter: u64, meet_key: [u8; 32], key: [u8; 32], fill: u8) {
            let sealed = [fill; Capsule::SEALED_BYTES];
            let record =
                SignInRecord::sign(agent(), counter, meet_key, DeviceKey(key), sealed, &pair(2));
            prop_assert_eq!(SignInRecord::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = SignInRecord::decode(&bytes);
        }
    }
}
