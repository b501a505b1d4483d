//! The set of an agent's statements, as it travels.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, Hash, KeyPair, blake2b_256, namespace};
use kinlog_feeds::encoding::{Reader, Writer, uint_len};

use crate::Text;
use crate::identity::{
    DeviceAdded, DeviceCard, Identity, IdentityError, Names, Powers, Said, Statement, VerifiedSet,
};
use crate::limits::{
    IDENTITY_SET_BYTES_MAX, IDENTITY_STATEMENT_BYTES_MAX, IDENTITY_STATEMENTS_MAX, NAME_BYTES_MAX,
};

/// The statements about one agent, in the order of their hashes.
///
/// Layout: `uint n <= 256 | n x (uint length, statement)`, at most 64 KiB.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IdentitySet {
    statements: BTreeMap<Hash, Statement>,
}

impl IdentitySet {
    /// Returns the set of `statements`, each once: of two signatures of one statement the smaller.
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Result<Self, IdentityError> {
        let mut set = IdentitySet::default();
        for statement in statements {
            set.insert(statement);
        }
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

    /// Returns the set of a new agent: its root adds the first device.
    pub fn begin(
        root: &KeyPair,
        card: DeviceCard,
        powers: Powers,
        name: Text<NAME_BYTES_MAX>,
    ) -> Self {
        let agent = AgentId(root.public_key().0);
        let said = Said::DeviceAdded(DeviceAdded { card, powers, name });
        let mut set = IdentitySet::default();
        set.insert(Statement::sign(agent, root, Names::default(), said));
        set
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
        let mut reader = Reader::strict(bytes);
        let count = reader.uint_max("statement count", IDENTITY_STATEMENTS_MAX)?;
        let mut statements = BTreeMap::new();
        for number in 0..count {
            let statement =
                Statement::decode(reader.buffer("statement", IDENTITY_STATEMENT_BYTES_MAX)?)?;
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

    /// Verifies every signature, acceptance and claim: the costly half, some 30 µs for each.
    ///
    /// # Errors
    /// A set with one signature that does not hold is refused whole: whoever sent it lies.
    pub fn check(self, agent: &AgentId) -> Result<VerifiedSet, IdentityError> {
        let set = self.checked_before(agent)?;
        for (number, statement) in set.set().statements().enumerate() {
            statement
                .verify()
                .map_err(|source| IdentityError::Signature { number, source })?;
            statement.said().verify(agent, number)?;
        }
        Ok(set)
    }

    /// Takes a set that [`check`](Self::check) passed when it came.
    ///
    /// # Errors
    /// `OtherAgent` where a statement is about another than `agent`.
    pub(crate) fn checked_before(self, agent: &AgentId) -> Result<VerifiedSet, IdentityError> {
        let mut statements = self.statements.values();
        match statements.find(|statement| statement.agent() != agent) {
            Some(other) => Err(IdentityError::OtherAgent {
                expected: *agent,
                actual: *other.agent(),
            }),
            None => Ok(VerifiedSet::new(*agent, self)),
        }
    }

    /// Verifies every signature and returns what follows for `agent`.
    ///
    /// # Errors
    /// As [`check`](Self::check); `Empty` when no statement of the set counts.
    pub fn verify(&self, agent: &AgentId) -> Result<Identity, IdentityError> {
        self.clone().check(agent)?.identity()
    }

    /// Returns the statements, in the order of their hashes.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.statements.values()
    }

    /// Returns the statement with this hash.
    pub fn statement(&self, hash: &Hash) -> Option<&Statement> {
        self.statements.get(hash)
    }

    /// Returns the number of statements.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Returns whether there is no statement.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    pub(super) fn of_hashed(statements: BTreeMap<Hash, Statement>) -> Self {
        IdentitySet { statements }
    }

    pub(super) fn by_hash(&self) -> &BTreeMap<Hash, Statement> {
        &self.statements
    }

    pub(super) fn insert(&mut self, statement: Statement) {
        let hash = statement.hash();
        match self.statements.get(&hash) {
            Some(held) if held.signature() <= statement.signature() => {}
            _ => {
                self.statements.insert(hash, statement);
            }
        }
    }
}

/// Returns the bytes that a statement takes in an encoded set.
pub(super) fn encoded_len(statement: &Statement) -> usize {
    let bytes = statement.encode().len();
    uint_len(bytes as u64) + bytes
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::DeviceKey;
    use kinlog_feeds::encoding::DecodeError;
    use proptest::prelude::*;

    use super::*;
    use crate::identity::{DeviceRevoked, RootReplaced};

    fn root() -> KeyPair {
        KeyPair::from_seed(&[1; 32])
    }

    fn agent() -> AgentId {
        AgentId(root().public_key().0)
    }

    fn device(number: u8) -> KeyPair {
        KeyPair::from_seed(&[number + 10; 32])
    }

    fn added(number: u8) -> Statement {
        let card = DeviceCard::sign(
            &agent(),
            &device(number),
            [2; 32],
            &device(number + 50),
            &device(number + 100),
        );
        let name = Text::new(format!("laptop {number}")).unwrap();
        let powers = Powers::ALL;
        let said = Said::DeviceAdded(DeviceAdded { card, powers, name });
        Statement::sign(agent(), &root(), Names::default(), said)
    }

    fn revoked(number: u32) -> Statement {
        let mut device = DeviceKey([0; 32]);
        device.0[..4].copy_from_slice(&number.to_le_bytes());
        let said = Said::DeviceRevoked(DeviceRevoked {
            device,
            public: None,
            private: None,
        });
        Statement::sign(agent(), &root(), Names::default(), said)
    }

    #[test]
    fn a_set_has_one_spelling_and_round_trips() {
        let mut statements: Vec<Statement> = (0..5).map(added).collect();
        statements.push(revoked(7));
        let next = RootReplaced::sign(&agent(), &device(9));
        let names = Names::new([statements[0].hash(), statements[5].hash()]).unwrap();
        let replaced = Statement::sign(agent(), &root(), names, Said::RootReplaced(next));
        statements.push(replaced);
        let set = IdentitySet::new(statements.clone()).unwrap();
        let reversed = IdentitySet::new(statements.into_iter().rev()).unwrap();
        assert_eq!(set.encode(), reversed.encode());
        assert_eq!(IdentitySet::decode(&set.encode()).unwrap(), set);
        let identity = set.verify(&agent()).unwrap();
        assert_eq!(identity.hash, set.hash());
        assert_eq!(identity.root(), device(9).public_key());
    }

    #[test]
    fn a_set_of_another_agent_is_refused() {
        let set = IdentitySet::new([added(1)]).unwrap();
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
        let next = RootReplaced::sign(&agent(), &device(9));
        let replaced =
            Statement::sign(agent(), &root(), Names::default(), Said::RootReplaced(next));
        let set = IdentitySet::new([added(1), revoked(3), replaced]).unwrap();
        let bytes = set.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            let outcome = IdentitySet::decode(&damaged).and_then(|set| set.check(&agent()));
            assert!(outcome.is_err(), "byte {at}");
        }
    }

    #[test]
    fn an_integer_that_is_longer_than_it_need_be_is_refused() {
        let statement = added(1).encode();
        // The count of named statements, 0, in three bytes.
        let at = 2 + 1 + 32 + 32;
        let long = [&statement[..at], &[0xfd, 0, 0], &statement[at + 1..]].concat();
        assert!(matches!(
            Statement::decode(&long),
            Err(IdentityError::Decode(DecodeError::NotMinimal {
                value: 0,
                ..
            }))
        ));
        let set = IdentitySet::new([added(1)]).unwrap().encode();
        let long = [&[0xfd, 1, 0], &set[1..]].concat();
        assert!(matches!(
            IdentitySet::decode(&long),
            Err(IdentityError::Decode(DecodeError::NotMinimal {
                at: 0,
                value: 1
            }))
        ));
    }

    #[test]
    fn more_than_256_statements_are_refused() {
        assert!(IdentitySet::new((0..256).map(revoked)).is_ok());
        assert_eq!(
            IdentitySet::new((0..257).map(revoked)),
            Err(IdentityError::TooMany {
                limit: 256,
                actual: 257
            })
        );
    }

    #[test]
    fn more_than_64_kib_are_refused() {
        let named = (0..200u8).map(|number| {
            let Said::DeviceAdded(mut said) = added(0).said().clone() else {
                unreachable!("it adds a device");
            };
            said.name = Text::new(format!("{number:0>256}")).unwrap();
            let said = Said::DeviceAdded(said);
            Statement::sign(agent(), &root(), Names::default(), said)
        });
        assert!(matches!(
            IdentitySet::new(named),
            Err(IdentityError::TooLarge { limit: 65_536, .. })
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = IdentitySet::decode(&bytes);
            let _ = Statement::decode(&bytes);
        }

        #[test]
        fn a_statement_has_one_spelling(
            kind in 1u8..=255,
            at in 0usize..600,
            more in proptest::collection::vec(any::<u8>(), 0..10),
        ) {
            let bytes = [added(1), revoked(3)].map(|one| one.encode());
            for mut bytes in bytes {
                bytes[2] = kind;
                let at = at.min(bytes.len());
                let end = (at + more.len().min(3)).min(bytes.len());
                bytes.splice(at..end, more.iter().copied());
                if let Ok(statement) = Statement::decode(&bytes) {
                    prop_assert_eq!(statement.encode(), bytes);
                }
            }
        }
    }
}
