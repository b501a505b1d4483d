//! The set of an agent's statements, and the devices that follow from it.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::crypto::{
    AgentId, DeviceKey, FeedKey, Hash, SignatureError, blake2b_256, namespace,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};

use crate::identity::{DeviceAdded, Powers, Statement};
use crate::limits::{IDENTITY_SET_BYTES_MAX, IDENTITY_STATEMENTS_MAX};

/// Bytes of the largest statement: its fixed part, a full name and the length in front.
const STATEMENT_BYTES_MAX: usize = 1024;

/// An identity set that does not decode or does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Damaged bytes.
    #[error("identity set")]
    Decode(#[from] DecodeError),
    /// Above 64 KiB.
    #[error("identity set of {actual} bytes is above the limit of {limit}")]
    TooLarge { limit: usize, actual: usize },
    /// More than 256 statements.
    #[error("identity set of {actual} statements is above the limit of {limit}")]
    TooMany { limit: usize, actual: usize },
    /// Written by a build with another preview format.
    #[error("identity statement of preview format {actual}, this build has {expected}")]
    OtherRevision { expected: u16, actual: u16 },
    /// A name that is no text.
    #[error("name at byte {at} is not utf-8")]
    NotUtf8 { at: usize },
    /// Statements out of order or twice: a set has one spelling.
    #[error("statement {number} is out of order or twice")]
    NotCanonical { number: usize },
    /// A statement about another agent.
    #[error("statement about {actual} in the set of {expected}")]
    OtherAgent { expected: AgentId, actual: AgentId },
    /// A signature that does not hold.
    #[error("statement {number}")]
    Signature {
        number: usize,
        source: SignatureError,
    },
    /// No device.
    #[error("no device of {agent} in the set")]
    Empty { agent: AgentId },
}

/// The statements about one agent, in the order of their hashes.
///
/// Layout: `uint n <= 256 | n x (uint length, statement)`, at most 64 KiB.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IdentitySet {
    statements: BTreeMap<Hash, Statement>,
}

impl IdentitySet {
    /// Returns the set of `statements`, each once.
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Result<Self, IdentityError> {
        let statements: BTreeMap<Hash, Statement> = statements
            .into_iter()
            .map(|statement| (statement.hash(), statement))
            .collect();
        let set = IdentitySet { statements };
        let count = set.statements.len();
        if count > IDENTITY_STATEMENTS_MAX {
            return Err(IdentityError::TooMany {
                limit: IDENTITY_STATEMENTS_MAX,
                actual: count,
            });
        }
        let actual = set.encode().len();
        if actual > IDENTITY_SET_BYTES_MAX {
            return Err(IdentityError::TooLarge {
                limit: IDENTITY_SET_BYTES_MAX,
                actual,
            });
        }
        Ok(set)
    }

    /// Decodes a set that fills `bytes`; verifies no signature.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        if bytes.len() > IDENTITY_SET_BYTES_MAX {
            let actual = bytes.len();
            return Err(IdentityError::TooLarge {
                limit: IDENTITY_SET_BYTES_MAX,
                actual,
            });
        }
        let mut reader = Reader::new(bytes);
        let count = reader.uint_max("statement count", IDENTITY_STATEMENTS_MAX)?;
        let mut statements = BTreeMap::new();
        for number in 0..count {
            let statement = Statement::decode(reader.buffer("statement", STATEMENT_BYTES_MAX)?)?;
            let hash = statement.hash();
            if statements
                .last_key_value()
                .is_some_and(|(last, _)| *last >= hash)
            {
                return Err(IdentityError::NotCanonical { number });
            }
            statements.insert(hash, statement);
        }
        reader.finish()?;
        Ok(IdentitySet { statements })
    }

    /// Encodes the set; equal sets give equal bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_uint(self.statements.len() as u64);
        for statement in self.statements.values() {
            out.put_buffer(&statement.encode());
        }
        out.into()
    }

    /// Returns the hash that names the set.
    pub fn hash(&self) -> Hash {
        IdentitySet::hash_of(&self.encode())
    }

    /// Returns the hash that names an encoded set.
    pub fn hash_of(encoded: &[u8]) -> Hash {
        Hash(blake2b_256(&[&namespace::IDENTITY_SET.hash(), encoded]))
    }

    /// Verifies every statement and returns what follows for `agent`.
    pub fn verify(&self, agent: &AgentId) -> Result<Identity, IdentityError> {
        let mut devices: BTreeMap<DeviceKey, Device> = BTreeMap::new();
        for (number, statement) in self.statements.values().enumerate() {
            let added = statement.added();
            if added.agent != *agent {
                return Err(IdentityError::OtherAgent {
                    expected: *agent,
                    actual: added.agent,
                });
            }
            statement
                .verify()
                .map_err(|source| IdentityError::Signature { number, source })?;
            // Twice the same device: the statement with the smaller hash, the same everywhere.
            devices.entry(added.device).or_insert_with(|| added.into());
        }
        if devices.is_empty() {
            return Err(IdentityError::Empty { agent: *agent });
        }
        Ok(Identity {
            agent: *agent,
            hash: self.hash(),
            devices: devices.into_values().collect(),
        })
    }

    /// Returns the statements, in the order of their hashes.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.statements.values()
    }
}

/// A device of an agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// Signing key.
    pub key: DeviceKey,
    /// X25519 public key.
    pub x25519: [u8; 32],
    /// Public directory.
    pub directory: FeedKey,
    /// Name.
    pub name: String,
    /// What it may do.
    pub powers: Powers,
}

impl From<&DeviceAdded> for Device {
    fn from(added: &DeviceAdded) -> Self {
        Device {
            key: added.device,
            x25519: added.x25519,
            directory: added.directory,
            name: added.name.to_string(),
            powers: added.powers,
        }
    }
}

/// What a verified set says about its agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The agent.
    pub agent: AgentId,
    /// Hash of the set.
    pub hash: Hash,
    /// Devices, in the order of their keys; at least one.
    pub devices: Vec<Device>,
}

impl Identity {
    /// Returns the device with this key.
    pub fn device(&self, key: &DeviceKey) -> Option<&Device> {
        self.devices.iter().find(|device| device.key == *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Text;
    use kinlog_feeds::crypto::KeyPair;
    use proptest::prelude::*;

    fn root() -> KeyPair {
        KeyPair::from_seed(&[1; 32])
    }

    fn agent() -> AgentId {
        AgentId(root().public_key().0)
    }

    fn added(number: u8) -> DeviceAdded {
        DeviceAdded {
            agent: agent(),
            device: DeviceKey([number; 32]),
            x25519: [2; 32],
            directory: FeedKey([3; 32]),
            name: Text::new(format!("laptop {number}")).unwrap(),
            powers: Powers::ALL,
        }
    }

    #[test]
    fn a_set_has_one_spelling_and_round_trips() {
        let statements: Vec<Statement> = (0..5)
            .map(|number| Statement::device_added(&root(), added(number)))
            .collect();
        let set = IdentitySet::new(statements.clone()).unwrap();
        let reversed = IdentitySet::new(statements.into_iter().rev()).unwrap();
        assert_eq!(set.encode(), reversed.encode());
        assert_eq!(IdentitySet::decode(&set.encode()).unwrap(), set);
        let identity = set.verify(&agent()).unwrap();
        assert_eq!(identity.devices.len(), 5);
        assert_eq!(
            identity.device(&DeviceKey([4; 32])).unwrap().name,
            "laptop 4"
        );
    }

    #[test]
    fn a_statement_signed_by_another_root_is_refused() {
        let stranger = KeyPair::from_seed(&[9; 32]);
        let set = IdentitySet::new([Statement::device_added(&stranger, added(1))]).unwrap();
        assert!(matches!(
            set.verify(&agent()),
            Err(IdentityError::Signature { number: 0, .. })
        ));
    }

    #[test]
    fn a_set_of_another_agent_is_refused() {
        let set = IdentitySet::new([Statement::device_added(&root(), added(1))]).unwrap();
        let other = AgentId([8; 32]);
        assert!(matches!(
            set.verify(&other),
            Err(IdentityError::OtherAgent { .. })
        ));
        assert!(matches!(
            IdentitySet::default().verify(&other),
            Err(IdentityError::Empty { agent }) if agent == other
        ));
    }

    #[test]
    fn every_changed_byte_of_a_set_is_noticed() {
        let set = IdentitySet::new([Statement::device_added(&root(), added(1))]).unwrap();
        let bytes = set.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            let outcome = IdentitySet::decode(&damaged).and_then(|set| set.verify(&agent()));
            assert!(outcome.is_err(), "byte {at}");
        }
    }

    #[test]
    fn more_than_256_statements_are_refused() {
        let root = root();
        let statements = (0..257u32).map(|number| {
            let mut added = added(0);
            added.device.0[..4].copy_from_slice(&number.to_le_bytes());
            added.name = Text::default();
            Statement::device_added(&root, added)
        });
        assert_eq!(
            IdentitySet::new(statements),
            Err(IdentityError::TooMany {
                limit: 256,
                actual: 257
            })
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = IdentitySet::decode(&bytes);
            let _ = Statement::decode(&bytes);
        }
    }
}
